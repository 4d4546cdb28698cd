"""Frames through the gateway: they arrive as they were sent, whatever they are."""

from __future__ import annotations

import os
import zlib

import pytest
import pytest_twisted

from rtgateway.testing import eventually, soon
from rtgateway.testing.websocket import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocketEnd,
    agree,
    encode,
)
from tests.e2e.sockets.bridged import Bridged, bridge, connect, open_socket, start, upstream_of
from tests.e2e.world import World

__all__: list[str] = []

DEFLATE = "permessage-deflate"
MASK = b"\x11\x22\x33\x44"

both_ways = pytest.mark.parametrize("way", ["up", "down"])


def ends(bridged: Bridged, way: str) -> tuple[WebSocketEnd, WebSocketEnd]:
    """Who sends, and who receives."""
    client, instance = bridged.client, bridged.instance
    return (client, instance) if way == "up" else (instance, client)


def mask_of(sender: WebSocketEnd) -> bytes:
    return MASK if sender.masks else b""


async def everything(receiver: WebSocketEnd, raw: bytes) -> None:
    """Wait until all of it has come, and see that nothing else has."""
    await eventually(lambda: len(receiver.wire) >= len(raw))
    assert bytes(receiver.wire) == raw


@both_ways
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1_000_003])
@pytest_twisted.ensureDeferred
async def test_a_message(world: World, way: str, opcode: int, size: int) -> None:
    """Text stays text, binary stays binary; not one byte differs, the mask included."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    payload = b"0123456789abcdef" * (size // 16 + 1)
    raw = sender.send_frame(opcode, payload[:size])
    assert (await receiver.frame()).opcode == opcode
    await everything(receiver, raw)


@both_ways
@pytest_twisted.ensureDeferred
async def test_payload_is_nobodys_business(world: World, way: str) -> None:
    """Text that is not UTF-8 is for the other end to refuse (RFC 6455, 8.1)."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    raw = sender.send_frame(TEXT, b"\xff\xfe\x80")
    await everything(receiver, raw)
    await bridged.still_open()


@both_ways
@pytest_twisted.ensureDeferred
async def test_fragments_stay_fragments(world: World, way: str) -> None:
    """Empty ones too, and control frames between them."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    raw = b"".join(
        (
            sender.send_frame(TEXT, b"one ", fin=False),
            sender.send_frame(CONTINUATION, b"", fin=False),
            sender.send_frame(PING, b"between"),
            sender.send_frame(CONTINUATION, b"two ", fin=False),
            sender.send_frame(PONG, b"unasked"),
            sender.send_frame(CONTINUATION, b""),
            sender.send_frame(BINARY, b"", fin=False),
            sender.send_frame(CONTINUATION, bytes(70_000)),
        )
    )
    assert await receiver.message() == (TEXT, b"one two ")
    assert await receiver.message() == (BINARY, bytes(70_000))
    await everything(receiver, raw)


@both_ways
@pytest_twisted.ensureDeferred
async def test_one_byte_at_a_time(world: World, way: str) -> None:
    """However the bytes are cut on the way."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    mask = mask_of(sender)
    raw = b"".join(
        (
            encode(TEXT, b"short", mask=mask),
            encode(PING, b"p", mask=mask),
            encode(BINARY, os.urandom(130), fin=False, mask=mask),
            encode(PONG, b"", mask=mask),
            encode(CONTINUATION, b"", mask=mask),
            encode(TEXT, b"", mask=mask),
        )
    )
    await sender.drip(raw)
    await everything(receiver, raw)
    await bridged.still_open()


@both_ways
@pytest_twisted.ensureDeferred
async def test_many_frames_in_one_write(world: World, way: str) -> None:
    """A thousand small ones, and still in order."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    mask = mask_of(sender)
    raw = b"".join(encode(TEXT, b"%d" % number, mask=mask) for number in range(1000))
    sender.transport.write(raw)
    await everything(receiver, raw)
    assert [int(frame.payload) for frame in receiver.frames] == list(range(1000))


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_message_passes_while_it_comes(world: World, way: str) -> None:
    """Its end is not waited for: the beginning of a frame of 1 TiB arrives at once."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    mask = mask_of(sender)
    head = bytes((0x82, 0x7F | (0x80 if mask else 0))) + (1 << 40).to_bytes(8, "big") + mask
    sender.transport.write(head + b"begin")
    await everything(receiver, head + b"begin")
    sender.transport.write(b"more")
    await everything(receiver, head + b"beginmore")
    assert receiver.frames == []


@both_ways
@pytest_twisted.ensureDeferred
async def test_compressed_messages(world: World, way: str) -> None:
    """Negotiated between client and instance, so that nothing is compressed anew (RFC 7692)."""
    offer = f"{DEFLATE}; client_max_window_bits; server_no_context_takeover"
    agreed = f"{DEFLATE}; server_no_context_takeover; client_max_window_bits=12"
    bridged = await bridge(
        world,
        f"Sec-WebSocket-Extensions: {offer}",
        answer=lambda _, request: agree(request, extensions=agreed),
    )
    assert bridged.client.handshake is not None
    assert bridged.client.handshake.all(b"sec-websocket-extensions") == [agreed.encode()]
    assert f"Sec-WebSocket-Extensions: {offer}\r\n".encode() in bridged.upstream.requests[0]
    sender, receiver = ends(bridged, way)
    compressor = zlib.compressobj(wbits=-12)
    squeezed = compressor.compress(b"squeeze " * 500) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    raw = (
        sender.send_frame(TEXT, squeezed, rsv=4)
        + sender.send_frame(BINARY, b"as it is")
        + sender.send_frame(TEXT, squeezed[:7], fin=False, rsv=4)
        + sender.send_frame(PING, b"plain")
        + sender.send_frame(CONTINUATION, squeezed[7:])
    )
    await everything(receiver, raw)
    assert [frame.rsv for frame in receiver.frames] == [4, 0, 4, 0, 0]


@pytest.mark.parametrize(
    ("offer", "passed"),
    [
        (None, b""),
        ("x-webkit-deflate-frame", b""),
        ("x-other; a=b, permessage-deflate; server_max_window_bits=10", b"permessage-deflate"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_without_compression(world: World, offer: str | None, passed: bytes) -> None:
    """Only what the relay knows is offered to the instance, and nothing is invented."""
    lines = [f"Sec-WebSocket-Extensions: {offer}"] if offer else []
    bridged = await bridge(world, *lines)
    request = bridged.upstream.requests[0].lower()
    assert (b"sec-websocket-extensions" in request) == bool(passed)
    assert passed in request
    assert b"x-other" not in request
    assert bridged.client.handshake is not None
    assert bridged.client.handshake.header(b"sec-websocket-extensions") is None
    await bridged.still_open()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["chat, superchat"], "superchat"),
        (["chat", "superchat"], "chat"),
        (["chat, superchat"], None),
        ([], None),
    ],
    ids=["one of two", "two lines", "none of two", "none"],
)
@pytest_twisted.ensureDeferred
async def test_subprotocols(world: World, offered: list[str], chosen: str | None) -> None:
    """Offers go up, the instance's choice comes down."""
    bridged = await bridge(
        world,
        *(f"Sec-WebSocket-Protocol: {each}" for each in offered),
        answer=lambda _, request: agree(request, protocol=chosen),
    )
    request = bridged.upstream.requests[0]
    if offered:
        assert b"\r\nSec-WebSocket-Protocol: chat, superchat\r\n" in request
    else:
        assert b"Sec-WebSocket-Protocol" not in request
    assert bridged.client.handshake is not None
    got = bridged.client.handshake.all(b"sec-websocket-protocol")
    assert got == ([chosen.encode()] if chosen else [])
    await bridged.still_open()


@both_ways
@pytest_twisted.ensureDeferred
async def test_pings_and_pongs_pass_through(world: World, way: str) -> None:
    """The other end answers them, not the gateway."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    raw = sender.ping(b"are you there?") + sender.send_frame(PONG, b"unasked") + sender.ping()
    await everything(receiver, raw)
    await soon(0.05)
    assert sender.frames == [], "nobody answered for the other"
    answer = receiver.send_frame(PONG, b"are you there?") + receiver.send_frame(PONG)
    await everything(sender, answer)


@pytest_twisted.ensureDeferred
async def test_frames_together_with_the_handshake(world: World) -> None:
    """What the client sends behind its request, and the instance behind its 101, is not lost."""
    early = encode(TEXT, b"early", mask=MASK) + encode(BINARY, bytes(3000), mask=MASK)[:1500]
    at_once = encode(TEXT, b"at once") + encode(BINARY, bytes(3000))[:1500]
    upstream = await upstream_of(world, lambda _, request: agree(request) + at_once)
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main", behind=early)
    await client.opened()
    await everything(client, at_once)
    await everything(await upstream.socket(), early)


@pytest_twisted.ensureDeferred
async def test_frames_before_the_answer(world: World) -> None:
    """A client that does not wait for its 101 loses nothing, and nothing overtakes the 101."""
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    request = await upstream.request()
    raw = b"".join(client.text(f"impatient {number}") for number in range(100))
    await soon(0.05)
    (connection,) = upstream.connections
    assert connection.received == request
    assert client.received == b""
    connection.send(agree(request))
    await client.opened()
    await everything(await upstream.socket(), raw)


@pytest_twisted.ensureDeferred
async def test_many_bytes_before_the_answer(world: World) -> None:
    """The gateway holds a bounded part of them; the rest waits with the client."""
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    request = await upstream.request()
    raw = client.binary(bytes(12_000_000))
    await eventually(lambda: client.transport.dataBuffer or client.transport._tempDataLen)
    await soon(0.1)
    (channel,) = gateway.service.site.channels
    assert len(channel._pending) < 1_000_000
    upstream.connections[0].send(agree(request))
    instance = await upstream.socket()
    await everything(instance, raw)
    client.text("behind it")
    await eventually(lambda: instance.frames[-1].payload == b"behind it")


@pytest_twisted.ensureDeferred
async def test_an_answer_in_pieces(world: World) -> None:
    """The 101 of the instance byte by byte, with a frame behind it."""
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    head = agree(await upstream.request(), "X-Room: 7") + encode(TEXT, b"hi")
    for at in range(len(head)):
        upstream.connections[0].transport.write(head[at : at + 1])
        await soon()
    answer = await client.opened()
    assert answer.header(b"x-room") == b"7"
    assert (await client.frame()).payload == b"hi"


@pytest_twisted.ensureDeferred
async def test_both_ways_at_once(world: World) -> None:
    """Several MiB each way, in frames of many sizes."""
    bridged = await bridge(world)
    raw: dict[WebSocketEnd, bytes] = {bridged.instance: b"", bridged.client: b""}
    pairs: list[tuple[WebSocketEnd, WebSocketEnd]]
    pairs = [(bridged.client, bridged.instance), (bridged.instance, bridged.client)]
    for size in (10, 1_000_000, 126, 70_000, 0, 2_000_000, 5):
        for sender, receiver in pairs:
            raw[receiver] += sender.binary(bytes(size))
    for receiver, expected in raw.items():
        await everything(receiver, expected)
    await bridged.still_open()


@pytest_twisted.ensureDeferred
async def test_sockets_do_not_mix(world: World) -> None:
    """Each client has an instance's connection of its own."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream)
    clients = [await open_socket(world, gateway) for _ in range(10)]
    await eventually(lambda: len(upstream.sockets) == 10)
    for number, client in enumerate(clients):
        client.text(f"from {number}")
    for number in range(10):
        instance = upstream.sockets[number]
        assert (await instance.frame()).payload == b"from %d" % number
        instance.text(f"to {number}")
        assert (await clients[number].frame()).payload == b"to %d" % number
