"""Every phase has its time limit, and none of them limits the whole."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionDone, ConnectionLost

from rtgateway.testing import RawClient, RecordedConnection, eventually, soon
from tests.e2e.world import World, event_stream, get, only_instance, with_length

__all__: list[str] = []

LATE = 1.0
"""Seconds by which a limit may strike late: the sweep's period, its tick, and a busy machine."""

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def cut(client: RawClient, after: float) -> bytes:
    """Wait for the connection to end, not before ``after`` seconds; what came and was not read."""
    began = monotonic()
    received = await client.closed()
    took = monotonic() - began
    assert after <= took + 0.05, f"cut off after {took:.2f} s already"
    assert took <= after + LATE, f"cut off after {took:.2f} s only"
    return received


# -- the client -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_head_that_never_ends(world: World) -> None:
    """However steadily the bytes drip: 408, and the connection is closed (slow-loris)."""
    gateway = await world.gateway(await world.upstream(), timeouts={"head": "400ms"})
    client = await world.client(gateway)
    began = monotonic()
    for byte in get("/api/main/", "X-Slow: " + "y" * 4000):
        client.send(bytes([byte]))
        await soon(0.02)
        if client.received:
            break
    assert 0.35 < monotonic() - began < 0.4 + LATE
    answer = await client.answer()
    assert answer.status == 408
    assert answer.header(b"connection") == b"close"
    assert await client.closed() == b""
    (line,) = await world.logged(gateway)
    assert (line["status"], line["error"]) == (408, "timeout")


@pytest_twisted.ensureDeferred
async def test_a_second_head_that_never_ends(world: World) -> None:
    """The limit counts from the first byte of a head, not from the end of the last answer."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, timeouts={"head": "400ms"})
    client = await world.client(gateway, get())
    await client.answer()
    await soon(0.6)
    client.send(b"GET /api/main/ HTTP/1.1\r\n")
    began = monotonic()
    assert (await client.answer()).status == 408
    assert 0.35 < monotonic() - began < 0.4 + LATE


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_connection_that_says_nothing(world: World, sent: bytes) -> None:
    """Who opens a connection and says nothing is not answered, just closed."""
    gateway = await world.gateway(await world.upstream(), timeouts={"head": "300ms"})
    client = await world.client(gateway, sent)
    if not sent:
        assert await cut(client, 0.3) == b""
        assert client.lost is not None
        assert client.lost.check(ConnectionDone)
    else:
        await client.closed()
    # After a last answer the gateway waits for the client to close its side, too.
    await eventually(lambda: not gateway.service.site.channels)


@pytest_twisted.ensureDeferred
async def test_keep_alive_idle(world: World) -> None:
    """Between two requests a connection is closed silently."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, timeouts={"keep_alive": "300ms"})
    client = await world.client(gateway, get())
    await client.answer()
    assert await cut(client, 0.3) == b""
    assert client.lost is not None
    assert client.lost.check(ConnectionDone)
    (line,) = await world.logged(gateway)
    assert line["status"] == 200


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
@pytest_twisted.ensureDeferred
async def test_a_body_that_stops(world: World, framing: str) -> None:
    """Silence inside a request body: 408 and closed; the instance sees half a request."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, timeouts={"body_idle": "400ms"})
    head = f"POST /api/main/ HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"
    client = await world.client(gateway, head.encode() + b"5\r\nhello\r\n")
    assert (await client.answer()).status == 408
    await client.closed()
    connection = await upstream.connection()
    await eventually(lambda: connection.lost)
    assert connection.requests == []
    assert connection.lost is not None
    assert connection.lost.check(ConnectionLost)
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_a_body_that_drips(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never silent, but far below the lowest rate: 408."""
    monkeypatch.setattr("rtgateway.web.upload._RATE_WINDOW", 0.5)
    gateway = await world.gateway(
        await world.upstream(), timeouts={"body_idle": "10s", "body_rate": 256}
    )
    client = await world.client(
        gateway, b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
    )
    began = monotonic()
    while not client.received:
        client.send(b"x")
        await soon(0.05)
    assert 0.45 < monotonic() - began < 0.5 + LATE
    assert (await client.answer()).status == 408
    await client.closed()


@pytest_twisted.ensureDeferred
async def test_a_body_fast_enough(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow, but at the lowest rate: nothing happens to it."""
    monkeypatch.setattr("rtgateway.web.upload._RATE_WINDOW", 0.4)
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, timeouts={"body_idle": "300ms", "body_rate": 256})
    client = await world.client(
        gateway, b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: 2400\r\n\r\n"
    )
    for _ in range(24):
        client.send(bytes(100))
        await soon(0.05)
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_slow_instance_is_not_the_clients_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the instance takes nothing of a body, the client's rate is not judged."""
    monkeypatch.setattr("rtgateway.web.upload._RATE_WINDOW", 0.3)
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, timeouts={"body_idle": "300ms"}, limits={"body": 0})
    size = 24 << 20
    client = await world.client(
        gateway, b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size
    )
    connection = await upstream.connection()
    connection.transport.pauseProducing()
    client.send(bytes(size))
    (channel,) = gateway.service.site.channels
    await eventually(lambda: channel._reading_paused)
    await soon(0.9)
    assert client.received == b""
    connection.transport.resumeProducing()
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_nothing(world: World) -> None:
    """Its connection is reset after ``write_stall``, and the instance is let go."""
    upstream = await world.upstream(with_length(bytes(32 << 20)))
    gateway = await world.gateway(upstream, timeouts={"write_stall": "500ms"})
    client = await world.client(gateway, get())
    client.pause()
    await eventually(lambda: any(each.blocked for each in gateway.service.site.channels))
    began = monotonic()
    await eventually(lambda: not gateway.service.site.channels)
    assert 0.45 < monotonic() - began < 0.5 + LATE
    await eventually(lambda: upstream.connections[0].lost)
    client.resume()
    received = await client.closed()
    assert len(received) < 32 << 20
    (line,) = await world.logged(gateway)
    assert line["status"] == 499
    await world.at_rest(gateway)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_little_at_a_time(world: World, version: str) -> None:
    """Slow is not stalled: it gets everything, also when its connection is closed after that."""
    size = 12 << 20
    upstream = await world.upstream(with_length(bytes(size)))
    gateway = await world.gateway(upstream, timeouts={"write_stall": "500ms"})
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.connect(("127.0.0.1", gateway.port))
        slow.setblocking(False)
        slow.sendall(get("/api/main/", "Connection: close", version=version))
        taken = 0
        began = monotonic()
        while True:
            # For two seconds and more it takes much less than there is, then the rest.
            await soon(0.05 if monotonic() - began < 2.4 else 0.001)
            try:
                data = slow.recv(65536)
            except BlockingIOError:
                continue
            if not data:
                break
            taken += len(data)
    assert taken > size
    (line,) = await world.logged(gateway)
    assert (line["status"], line["bytes_out"]) == (200, size)


# -- the instance -----------------------------------------------------------------------------


@pytest.fixture
def unanswering() -> Iterator[str]:
    """The URL of somebody who never finishes a TCP handshake: the backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for each in waiting:
            each.close()


@pytest_twisted.ensureDeferred
async def test_connecting(world: World, unanswering: str) -> None:
    """No connection in time: 504, and the attempt is given up."""
    gateway = await world.gateway(unanswering, timeouts={"connect": "300ms"})
    client = await world.client(gateway, get())
    began = monotonic()
    answer = await client.answer()
    assert 0.25 < monotonic() - began < 0.3 + LATE
    assert answer.status == 504
    assert b'"error":"upstream_timeout"' in answer.body
    assert only_instance(gateway).pool.open == 0
    client.send(get("/healthz"))
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_the_first_byte(world: World) -> None:
    """No answer in time: 504, the instance sees its connection closed, the client keeps its own."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, timeouts={"first_byte": "300ms"})
    client = await world.client(gateway, get())
    began = monotonic()
    answer = await client.answer()
    assert 0.25 < monotonic() - began < 0.3 + LATE
    assert answer.status == 504
    await eventually(lambda: upstream.connections[0].lost)
    upstream.answering = lambda connection, request: with_length(b"ok")
    client.send(get())
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_half_a_head(world: World) -> None:
    """A head that has begun is not an answer: 504 all the same."""
    upstream = await world.upstream(b"HTTP/1.1 200 OK\r\nX-Half:")
    gateway = await world.gateway(upstream, timeouts={"first_byte": "300ms"})
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 504
    await eventually(lambda: upstream.connections[0].lost)


@pytest_twisted.ensureDeferred
async def test_interim_answers_win_no_time(world: World) -> None:
    """1xx answers do not put the real one off for ever."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, timeouts={"first_byte": "500ms"})
    client = await world.client(gateway, get())
    await upstream.request()
    upstream.connections[0].send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert (await client.answer()).status == 103
    assert (await client.answer()).status == 504


@pytest_twisted.ensureDeferred
async def test_the_first_byte_counts_from_the_end_of_the_request(world: World) -> None:
    """An upload that takes longer than ``first_byte`` is no slow answer."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, timeouts={"first_byte": "300ms"})
    client = await world.client(
        gateway, b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: 30\r\n\r\n"
    )
    for _ in range(30):
        client.send(b"x")
        await soon(0.03)
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_the_first_byte_counts_from_having_a_connection(world: World) -> None:
    """Who waited in the queue for longer than ``first_byte`` still gets its time."""
    upstream = await world.upstream()
    service = {"instances": [upstream.url], "pool": {"connections": 1, "queue_timeout": "5s"}}
    gateway = await world.gateway(
        service,
        routes=[
            {"path": "/slow", "service": "main", "timeouts": {"first_byte": "5s"}},
            {"path": "/quick", "service": "main", "timeouts": {"first_byte": "800ms"}},
        ],
    )
    slow = await world.client(gateway, get("/slow"))
    await upstream.request()
    quick = await world.client(gateway, get("/quick"))
    await soon(1.0)
    upstream.connections[0].send(with_length(b"slow"))
    assert (await slow.answer()).status == 200
    await upstream.request(1)
    await soon(0.3)
    upstream.connections[0].send(with_length(b"quick"))
    assert (await quick.answer()).body == b"quick"


@pytest_twisted.ensureDeferred
async def test_a_body_the_instance_does_not_take(world: World) -> None:
    """An instance that takes nothing of a body is too slow: 504."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, timeouts={"first_byte": "500ms"}, limits={"body": 0})
    client = await world.client(
        gateway,
        b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (32 << 20),
    )
    connection = await upstream.connection()
    connection.transport.pauseProducing()
    client.send(bytes(32 << 20))
    answer = await client.answer()
    assert (answer.status, answer.header(b"connection")) == (504, b"close")
    connection.transport.resumeProducing()
    await eventually(lambda: connection.lost)
    await world.at_rest(gateway)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", "1.1"),
        (CHUNKED + b"5\r\nhello\r\n", "1.1"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "1.1"),
        (CHUNKED + b"5\r\nhello\r\n", "1.0"),
    ],
    ids=["length", "chunked", "until close", "chunked to HTTP 1.0"],
)
@pytest_twisted.ensureDeferred
async def test_silence_inside_an_answer(world: World, answer: bytes, version: str) -> None:
    """It is cut off, and the client can see that it is not whole."""
    upstream = await world.upstream(answer)
    gateway = await world.gateway(upstream, timeouts={"between_bytes": "300ms"})
    client = await world.client(gateway, get(version=version))
    await eventually(lambda: b"hello" in client.received)
    received = await cut(client, 0.3)
    if version == "1.0":
        assert client.lost is not None
        assert client.lost.check(ConnectionLost), "a clean end would make it whole"
    elif b"Content-Length" in received:
        assert received.endswith(b"\r\n\r\nhello")
    else:
        assert received.endswith(b"\r\n5\r\nhello\r\n")
    (line,) = await world.logged(gateway)
    assert (line["status"], line["error"]) == (200, "upstream_timeout")
    await eventually(lambda: upstream.connections[0].lost)
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_to_an_instance(world: World) -> None:
    """It is closed after ``pool.idle_timeout``."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway({"instances": [upstream.url], "pool": {"idle_timeout": "300ms"}})
    client = await world.client(gateway, get())
    await client.answer()
    began = monotonic()
    await eventually(lambda: upstream.connections[0].lost)
    assert 0.25 < monotonic() - began < 0.3 + LATE
    assert only_instance(gateway).pool.open == 0


class Item:
    """Something with a deadline; when that passes, others get more time."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.others: list[Item] = []
        self.struck = 0

    def expired(self, now: float) -> None:
        self.struck += 1
        for item in (self, *self.others):
            item.deadline = now + 60


@pytest_twisted.ensureDeferred
async def test_a_deadline_that_is_moved_in_time_does_not_strike(world: World) -> None:
    """Of two that are over together, dealing with the first may give the second more time."""
    wheel = (await world.gateway(await world.upstream())).service.wheel
    now = monotonic()
    one, two = Item(now + 0.05), Item(now + 0.05)
    one.others, two.others = [two], [one]
    for item in (one, two):
        wheel.add(item, now)
    await eventually(lambda: one.struck or two.struck)
    await soon(0.3)
    assert one.struck + two.struck == 1


# -- the whole --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_no_limit_on_the_whole(world: World) -> None:
    """A download and an upload that outlast every limit, but are never silent, are left alone."""

    async def drip(connection: RecordedConnection) -> None:
        for _ in range(16):
            connection.send(b"1\r\nx\r\n")
            await soon(0.06)
        connection.send(b"0\r\n\r\n")

    upstream = await world.upstream()
    limits = ("head", "body_idle", "keep_alive", "first_byte", "between_bytes", "write_stall")
    gateway = await world.gateway(upstream, timeouts=dict.fromkeys(limits, "300ms"))
    client = await world.client(
        gateway, b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: 16\r\n\r\n"
    )
    for _ in range(16):
        client.send(b"x")
        await soon(0.06)
    await upstream.request()
    upstream.connections[0].send(CHUNKED)
    await drip(upstream.connections[0])
    assert (await client.answer()).body == b"x" * 16


@pytest_twisted.ensureDeferred
async def test_silence_in_a_stream_of_events(world: World) -> None:
    """Events come when they come: no limit at all between them."""
    upstream = await world.upstream(event_stream())
    limits = ("head", "body_idle", "keep_alive", "first_byte", "between_bytes", "write_stall")
    gateway = await world.gateway(upstream, timeouts=dict.fromkeys(limits, "200ms"))
    client = await world.client(gateway, get("/sse/main/"))
    await eventually(lambda: b"\r\n\r\n" in client.received)
    await soon(0.8)
    assert client.lost is None
    upstream.connections[0].send(b"9\r\ndata: 1\n\n\r\n0\r\n\r\n")
    assert (await client.answer()).body == b"data: 1\n\n"
