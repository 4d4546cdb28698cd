"""The raw client and the raw instance, directly connected: what the other tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from rtgateway.testing import WebSocketClient, WebSocketUpstream, eventually
from rtgateway.testing.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocketConnection,
    agree,
    echo,
    encode,
)

__all__: list[str] = []


@pytest_twisted.async_yield_fixture
async def upstream() -> AsyncIterator[WebSocketUpstream]:
    upstream = await WebSocketUpstream.listening()
    yield upstream
    await upstream.stop()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
@pytest_twisted.ensureDeferred
async def test_frames_of_any_size(upstream: WebSocketUpstream, size: int) -> None:
    """They arrive as they were sent, masked in one direction."""
    client = await WebSocketClient.open(upstream.port, "/x")
    instance = await upstream.socket()
    payload = bytes(range(256)) * (size // 256 + 1)
    raw = client.binary(payload[:size])
    frame = await instance.frame()
    assert (frame.opcode, frame.fin, frame.rsv, frame.masked) == (BINARY, True, 0, True)
    assert frame.payload == payload[:size]
    assert bytes(instance.wire) == frame.raw == raw
    raw = instance.send_frame(TEXT, payload[:size], fin=False, rsv=4)
    frame = await client.frame()
    assert frame == (TEXT, payload[:size], False, 4, False, raw)


@pytest_twisted.ensureDeferred
async def test_bytes_behind_the_handshake(upstream: WebSocketUpstream) -> None:
    """What comes in the same write as the request, or as the answer, is a frame too."""
    early = encode(TEXT, b"early", mask=b"abcd")
    upstream.answering = lambda _, request: agree(request, "X-A: b") + encode(TEXT, b"at once")
    client = await WebSocketClient.connect(upstream.port)
    client.upgrade("/x", behind=early)
    assert (await client.opened()).header(b"x-a") == b"b"
    assert (await client.frame()).payload == b"at once"
    assert (await (await upstream.socket()).frame()).raw == early
    assert upstream.requests[0].startswith(b"GET /x HTTP/1.1\r\n")


@pytest_twisted.ensureDeferred
async def test_a_refused_handshake(upstream: WebSocketUpstream) -> None:
    """It stays HTTP on both sides."""
    upstream.answering = lambda *_: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    client = await WebSocketClient.connect(upstream.port)
    client.upgrade("/x")
    answer = await client.answer()
    assert (answer.status, answer.body) == (403, b"no")
    client.upgrade("/y")
    with pytest.raises(AssertionError, match="403"):
        await client.opened()
    assert len(upstream.requests) == 2
    assert upstream.sockets == []
    client.abort()


@pytest_twisted.ensureDeferred
async def test_an_agreement_that_is_none(upstream: WebSocketUpstream) -> None:
    """The key is compared."""
    upstream.answering = lambda _, request: agree(request).replace(b"Accept: ", b"Accept: x")
    client = await WebSocketClient.connect(upstream.port)
    client.upgrade("/x")
    with pytest.raises(AssertionError):
        await client.opened()
    client.abort()


@pytest_twisted.ensureDeferred
async def test_echo(upstream: WebSocketUpstream) -> None:
    """An instance that answers by itself; messages are put together, byte by byte if need be."""
    upstream.talk = echo
    client = await WebSocketClient.open(upstream.port, "/x")
    mask = b"\x01\x02\x03\x04"
    await client.drip(
        encode(TEXT, b"one ", fin=False, mask=mask)
        + encode(PING, b"?", mask=mask)
        + encode(CONTINUATION, b"two", mask=mask)
    )
    assert await client.message() == (TEXT, b"one two")
    assert [frame.opcode for frame in client.frames] == [TEXT, PONG, CONTINUATION]
    client.closing(4001, "bye")
    assert await client.close_frame() == (4001, "bye")
    await client.closed()


@pytest_twisted.ensureDeferred
async def test_the_end(upstream: WebSocketUpstream) -> None:
    """Close frames with and without a code, half a close, a reset; who waits is told."""
    client = await WebSocketClient.open(upstream.port, "/x")
    instance = await upstream.socket()
    client.closing()
    assert await instance.close_frame() == (1005, "")
    assert instance.frames[0].opcode == CLOSE
    client.half_close()
    await eventually(lambda: instance.lost)
    with pytest.raises(AssertionError, match="the connection is lost"):
        await client.frame()
    assert isinstance(instance, WebSocketConnection)
    assert "lost 1 frames [(8, b'')]" in repr(instance)


@pytest_twisted.ensureDeferred
async def test_pausing(upstream: WebSocketUpstream) -> None:
    """Who does not read gets what was sent when it reads again."""
    client = await WebSocketClient.open(upstream.port, "/x")
    instance = await upstream.socket()
    client.pause()
    instance.binary(bytes(8_000_000))
    await eventually(lambda: instance.transport.dataBuffer or instance.transport._tempDataLen)
    assert client.frames == []
    client.resume()
    assert len((await client.frame()).payload) == 8_000_000
