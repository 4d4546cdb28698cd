"""Requests and answers that overlap, and ends in the middle: who sees what, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from rtgateway.testing import (
    RawClient,
    RecordedConnection,
    RecordingUpstream,
    RunningGateway,
    eventually,
    soon,
    start_gateway,
)
from tests.e2e.chunks import as_one_chunk
from tests.e2e.raw_requests.row import ask

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
_POST = b"POST /x HTTP/1.1"
_TE = b"Transfer-Encoding: chunked"
_END = b"\r\n\r\n"


class Stage:
    """A gateway and an instance that is led by hand."""

    async def set_up(self) -> None:
        self.instance = await RecordingUpstream.listening(lambda connection, request: None)
        self.gateway: RunningGateway = await start_gateway(
            {"services": {"main": self.instance.url}, "routes": [{"path": "/", "service": "main"}]}
        )
        self.client = await RawClient.connect(self.gateway.port)

    async def take_down(self) -> None:
        await self.gateway.stop()
        await self.instance.stop()

    async def head_of(self, number: int = 0) -> RecordedConnection:
        """The connection of this number, when a whole head has come on it."""
        connection = await self.instance.connection(number)
        await eventually(lambda: _END in connection.received)
        return connection

    async def works(self) -> None:
        """The next request is answered as if nothing had been."""
        self.instance.answering = lambda connection, request: _OK
        client = await RawClient.connect(self.gateway.port)
        client.send(ask())
        assert (await client.answer()).body == b"ok"
        await self.gateway.idle()


@pytest_twisted.async_yield_fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.set_up()
    yield stage
    await stage.take_down()


@pytest_twisted.ensureDeferred
async def test_a_client_waits_to_be_told_to_go_on(stage: Stage) -> None:
    """Expect reaches the instance before the body, and its 100 the client (RFC 9110, 10.1.1)."""
    stage.client.send(ask(_POST, b"Expect: 100-continue", b"Content-Length: 5"))
    connection = await stage.head_of()
    assert connection.received.endswith(_END)
    assert b"\r\nExpect: 100-continue\r\n" in connection.received
    connection.send(_GO_ON)
    assert (await stage.client.answer()).status == 100
    stage.client.send(b"hello")
    request = await stage.instance.request()
    assert request.endswith(b"\r\nContent-Length: 5\r\n\r\nhello")
    connection.send(_OK)
    answer = await stage.client.answer()
    assert (answer.status, answer.header(b"connection")) == (200, None)
    await stage.works()
    assert len(stage.instance.connections) == 1


@pytest.mark.parametrize("length", [b"Content-Length: 5", _TE])
@pytest_twisted.ensureDeferred
async def test_a_client_is_not_told_to_go_on(stage: Stage, length: bytes) -> None:
    """A final answer instead of 100: both connections end, whether the body comes or not."""
    stage.client.send(ask(_POST, b"Expect: 100-continue", length))
    connection = await stage.head_of()
    connection.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    answer = await stage.client.answer()
    assert (answer.status, answer.header(b"connection")) == (401, b"close")
    assert await stage.client.closed() == b""
    await eventually(lambda: connection.lost is not None)
    assert connection.requests == []
    await stage.works()


@pytest_twisted.ensureDeferred
async def test_an_answer_while_the_body_is_still_coming(stage: Stage) -> None:
    """It is passed on at once; what is still coming is read by nobody (RFC 9112, 9.5)."""
    stage.client.send(ask(_POST, b"Content-Length: 1000000", body=b"x" * 1000))
    connection = await stage.head_of()
    connection.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\nno!")
    answer = await stage.client.answer()
    assert (answer.status, answer.body) == (413, b"no!")
    assert answer.header(b"connection") == b"close"
    stage.client.send(b"x" * 1000 + ask(b"GET /smuggled HTTP/1.1"))
    await stage.client.closed()
    await eventually(lambda: connection.lost is not None)
    await stage.works()
    assert b"smuggled" not in stage.instance.received


@pytest_twisted.ensureDeferred
async def test_a_streamed_answer_while_the_body_is_still_coming(stage: Stage) -> None:
    """Both bodies are on their way at the same time, and both arrive."""
    stage.client.send(ask(_POST, _TE, body=b"5\r\nhello\r\n"))
    connection = await stage.head_of()
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    await eventually(lambda: stage.client.received.endswith(b"2\r\nhi\r\n"))
    stage.client.send(b"1\r\n!\r\n0\r\n\r\n")
    request = as_one_chunk(await stage.instance.request())
    assert request.endswith(b"\r\n6\r\nhello!\r\n0\r\n\r\n")
    connection.send(b"0\r\n\r\n")
    assert (await stage.client.answer()).body == b"hi"
    await stage.works()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"Content-Length: 10", b""),
        (b"Content-Length: 10", b"hello"),
        (_TE, b""),
        (_TE, b"5\r\nhel"),
        (_TE, b"5\r\nhello\r\n"),
        (_TE, b"5\r\nhello\r\n0\r\n"),
        (_TE, b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_request_that_breaks_off(
    stage: Stage, fields: bytes, body: bytes, reset: bool
) -> None:
    """Its body is never completed for it: the instance sees its connection reset (9112, 8)."""
    stage.client.send(ask(_POST, fields, body=body))
    connection = await stage.head_of()
    stage.client.abort() if reset else stage.client.close()
    await eventually(lambda: connection.lost is not None)
    assert connection.requests == []
    assert not connection.received.endswith(b"\r\n0\r\n\r\n")
    await stage.works()


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"5\r\nhello!", b"5 \r\nhello\r\n", b"0\r\nX : 1\r\n\r\n", b"5\nhello\r\n"],
)
@pytest_twisted.ensureDeferred
async def test_a_chunk_that_is_none_when_the_head_is_out(stage: Stage, chunks: bytes) -> None:
    """400 and closed for the client; the instance sees an unfinished request and a reset."""
    stage.client.send(ask(_POST, _TE, body=b"2\r\nhi\r\n"))
    connection = await stage.head_of()
    stage.client.send(chunks + ask(b"GET /smuggled HTTP/1.1"))
    answer = await stage.client.answer()
    assert (answer.status, answer.header(b"connection")) == (400, b"close")
    await stage.client.closed()
    await eventually(lambda: connection.lost is not None)
    assert connection.requests == []
    await stage.works()
    assert b"smuggled" not in stage.instance.received


@pytest_twisted.ensureDeferred
async def test_a_bad_chunk_when_the_answer_is_on_its_way(stage: Stage) -> None:
    """Then only an end without an end is left."""
    stage.client.send(ask(_POST, _TE, body=b"2\r\nhi\r\n"))
    connection = await stage.head_of()
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    await eventually(lambda: stage.client.received.endswith(b"2\r\nok\r\n"))
    stage.client.send(b"zz\r\n")
    assert (await stage.client.closed()).endswith(b"2\r\nok\r\n")
    await eventually(lambda: connection.lost is not None)
    await stage.works()


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_wait_their_turn(stage: Stage) -> None:
    """The second reaches no instance before the first is answered (RFC 9112, 9.3.2)."""
    stage.client.send(b"".join(ask(b"POST /%d HTTP/1.1" % number) for number in range(3)))
    connection = await stage.head_of()
    for number in range(3):
        await stage.instance.request(number)
        await soon()
        assert len(stage.instance.requests) == number + 1
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert (await stage.client.answer()).body == b"%d" % number
    assert len(stage.instance.connections) == 1


@pytest_twisted.ensureDeferred
async def test_what_is_pipelined_without_end_is_not_read(stage: Stage) -> None:
    """Requests behind one that is being served wait in the kernel, not here."""
    stage.client.send(ask(b"GET /1 HTTP/1.1") + ask(b"GET /2 HTTP/1.1") * 300_000)
    await stage.head_of()
    for _ in range(20):
        await soon()
    (channel,) = stage.gateway.service.site.channels
    assert len(channel._pending) <= 512 * 1024
    stage.client.abort()


@pytest_twisted.ensureDeferred
async def test_a_pipelining_client_that_leaves(stage: Stage) -> None:
    """The request being served is given up, and those behind it are never begun."""
    stage.client.send(ask(b"GET /1 HTTP/1.1") + ask(b"GET /2 HTTP/1.1"))
    connection = await stage.head_of()
    stage.client.close()
    await eventually(lambda: connection.lost is not None)
    assert len(stage.instance.requests) == 1
    await stage.works()


@pytest_twisted.ensureDeferred
async def test_a_client_that_asks_and_does_not_read(stage: Stage) -> None:
    """No more is fetched for it than fits on its way, until it reads; then it gets everything."""
    body = b"x" * 30_000
    stage.instance.answering = lambda connection, request: (
        b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + body
    )
    stage.client.send(ask(b"GET /0 HTTP/1.1"))
    assert (await stage.client.answer()).body == body
    (channel,) = stage.gateway.service.site.channels
    stage.client.pause()
    for number in range(1, 600):
        stage.client.send(ask(b"GET /%d HTTP/1.1" % number))
        # Each is sent when the one before is answered, as far as the gateway goes.
        await eventually(lambda: channel.blocked or channel.exchange is None)
        await soon()
        await soon()
    assert channel.blocked
    assert channel.transport.unsent < 200_000
    stage.client.resume()
    for _ in range(1, 600):
        assert (await stage.client.answer()).body == body
    asked = [request.partition(b" HTTP")[0] for request in stage.instance.requests]
    assert asked == [b"GET /%d" % number for number in range(600)]


@pytest_twisted.ensureDeferred
async def test_a_trailing_line_end_is_no_request(stage: Stage) -> None:
    """A client that ends its body with a line end of its own just goes on (RFC 9112, 2.2)."""
    stage.instance.answering = lambda connection, request: _OK
    stage.client.send(ask(_POST, b"Content-Length: 2", body=b"hi") + b"\r\n")
    assert (await stage.client.answer()).status == 200
    stage.client.send(ask())
    assert (await stage.client.answer()).status == 200
    assert stage.client.received == b""
