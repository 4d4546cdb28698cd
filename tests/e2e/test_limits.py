"""Nothing grows without a bound: connections, heads, bodies, queues, buffers."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionClosed

from rtgateway.testing import RawClient, RecordedConnection, eventually, soon
from tests.e2e.world import World, get, only_instance, post, with_length

__all__: list[str] = []


# -- connections of clients -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_connections_of_one_address(world: World) -> None:
    """One too many is closed at once; when another one goes, there is room again."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, connections={"per_ip": 3})
    clients = [await world.client(gateway) for _ in range(3)]
    await eventually(lambda: len(gateway.service.site.channels) == 3)
    refused = await world.client(gateway)
    assert await refused.closed() == b""
    assert gateway.service.gate.refused == 1
    for client in clients:
        client.send(get())
        assert (await client.answer()).status == 200
    clients[0].close()
    await eventually(lambda: gateway.service.gate.taken == 2)
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_connections_of_a_trusted_proxy(world: World) -> None:
    """It speaks for many clients, and is not limited as one."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream, connections={"per_ip": 1}, trusted_proxies=["127.0.0.1/32"]
    )
    for _ in range(3):
        client = await world.client(gateway, get())
        assert (await client.answer()).status == 200
    assert gateway.service.gate.refused == 0


@pytest_twisted.ensureDeferred
async def test_connections_in_all(world: World) -> None:
    """At the cap nobody is accepted or refused: who comes next waits until somebody leaves."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, connections={"total": 2})
    first, second = [await world.client(gateway) for _ in range(2)]
    await eventually(lambda: gateway.service.gate.full)
    waiting = await world.client(gateway, get())
    await soon(0.1)
    assert waiting.received == b""
    assert waiting.lost is None
    second.send(get())
    assert (await second.answer()).status == 200
    first.close()
    assert (await waiting.answer()).status == 200
    assert gateway.service.gate.taken == 2


# -- heads ------------------------------------------------------------------------------------

HEADS = {"request_line": 256, "header_bytes": 1024, "header_count": 10}


LINE = get("/api/main/" + "a" * 256)
SIZE = get("/api/main/", "X-Long: " + "a" * 1024)
COUNT = get("/api/main/", *(f"X-{number}: 1" for number in range(10)))


@pytest.mark.parametrize(
    ("head", "status"),
    [(LINE, 414), (SIZE, 431), (COUNT, 431), (LINE[:-4], 414), (SIZE[:-4], 431)],
    ids=["line", "size", "count", "line without end", "size without end"],
)
@pytest_twisted.ensureDeferred
async def test_heads_of_requests(world: World, head: bytes, status: int) -> None:
    """Refused as soon as it is known to be too much, and closed."""
    gateway = await world.gateway(await world.upstream(), limits=HEADS)
    client = await world.client(gateway, head)
    answer = await client.answer()
    assert (answer.status, answer.header(b"connection")) == (status, b"close")
    await client.closed()


@pytest.mark.parametrize(
    "line",
    [b"X-Long: " + b"a" * 4096, b"\r\n".join(b"X-%d: 1" % number for number in range(30))],
    ids=["size", "count"],
)
@pytest_twisted.ensureDeferred
async def test_heads_of_answers(world: World, line: bytes) -> None:
    """An answer with too much of a head is none: 502."""
    upstream = await world.upstream(
        b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n"
    )
    gateway = await world.gateway(
        upstream, limits={"response_header_bytes": 4096, "response_header_count": 20}
    )
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 502
    await eventually(lambda: upstream.connections[0].lost)


# -- bodies -----------------------------------------------------------------------------------

BODIES = {
    "limits": {"body": 1000},
    "routes": [
        {"path": "/small", "service": "main", "body_limit": 10},
        {"path": "/any", "service": "main", "body_limit": 0},
    ],
}


def chunked(path: str, *chunks: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head.encode() + body + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post("/small", bytes(10)), 200),
        (post("/small", bytes(11)), 413),
        (post("/api/main/", bytes(1000)), 200),
        (post("/api/main/", bytes(1001)), 413),
        (post("/any", bytes(300_000)), 200),
        (chunked("/small", bytes(5), bytes(5)), 200),
        (chunked("/small", bytes(5), bytes(6)), 413),
        (chunked("/small", *[b"x"] * 11), 413),
        (chunked("/any", bytes(200_000), bytes(100_000)), 200),
    ],
    ids=lambda value: value[:24].decode().split()[1] if isinstance(value, bytes) else str(value),
)
@pytest_twisted.ensureDeferred
async def test_bodies(world: World, request_: bytes, status: int) -> None:
    """To the byte, per route; the instance never gets a whole request that is too large."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, **BODIES)
    client = await world.client(gateway, request_)
    assert (await client.answer()).status == status
    if status == 413:
        # All of it has come, so that the connection goes on.
        assert upstream.connections == []
        client.send(get())
        assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_body_announced_too_large_is_refused_before_it_comes(world: World) -> None:
    """The client, still sending, gets the answer, and the instance hears nothing."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, **BODIES)
    client = await world.client(
        gateway, b"POST /small HTTP/1.1\r\nHost: test\r\nContent-Length: 50000000\r\n\r\n"
    )
    client.send(bytes(5_000_000))
    assert (await client.answer()).status == 413
    assert upstream.connections == []


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_too_large_on_its_way(world: World) -> None:
    """Cut off at the limit: the instance never sees its end."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, **BODIES)
    client = await world.client(
        gateway, b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    client.send(b"1f4\r\n" + bytes(500) + b"\r\n")
    connection = await upstream.connection()
    await eventually(lambda: bytes(500) in connection.received)
    client.send(b"1f5\r\n" + bytes(501) + b"\r\n0\r\n\r\n")
    assert (await client.answer()).status == 413
    await eventually(lambda: connection.lost)
    assert connection.requests == []
    await world.at_rest(gateway)


# -- the pool ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_connections_to_an_instance(world: World) -> None:
    """No more than configured; who comes later is served in the order of coming."""
    upstream = await world.upstream()
    gateway = await world.gateway({"instances": [upstream.url], "pool": {"connections": 2}})
    pool = only_instance(gateway).pool
    clients = []
    for number in range(8):
        clients.append(await world.client(gateway, get(f"/api/main/{number}")))
        if number < 2:
            await upstream.request(number)
        else:
            await eventually(lambda: pool.waiting == number - 1)  # noqa: B023
    assert len(upstream.connections) == pool.open == 2
    for number in range(8):
        request = await upstream.request(number)
        assert request.startswith(b"GET /%d " % number)
        of = next(each for each in upstream.connections if each.requests[-1] is request)
        of.send(with_length(b"%d" % number))
        assert (await clients[number].answer()).body == b"%d" % number
    assert len(upstream.connections) == 2


@pytest_twisted.ensureDeferred
async def test_a_full_queue(world: World) -> None:
    """503 at once, with Retry-After; the client may try again on the same connection."""
    upstream = await world.upstream()
    gateway = await world.gateway(
        {"instances": [upstream.url], "pool": {"connections": 1, "queue": 1}}
    )
    pool = only_instance(gateway).pool
    first = await world.client(gateway, get())
    await upstream.request()
    second = await world.client(gateway, get())
    await eventually(lambda: pool.waiting == 1)
    third = await world.client(gateway, get())
    answer = await third.answer()
    assert (answer.status, answer.header(b"retry-after")) == (503, b"1")
    assert b'"error":"upstream_busy"' in answer.body
    assert answer.header(b"connection") is None
    upstream.answering = lambda connection, request: with_length(b"ok")
    upstream.connections[0].send(with_length(b"ok"))
    assert [(await client.answer()).status for client in (first, second)] == [200, 200]
    third.send(get())
    assert (await third.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_waiting_too_long_in_the_queue(world: World) -> None:
    """503 after the deadline; it does not get a connection that comes free later."""
    upstream = await world.upstream()
    gateway = await world.gateway(
        {"instances": [upstream.url], "pool": {"connections": 1, "queue_timeout": "300ms"}}
    )
    first = await world.client(gateway, get("/api/main/first"))
    await upstream.request()
    second = await world.client(gateway, get("/api/main/second"))
    answer = await second.answer()
    assert (answer.status, answer.header(b"retry-after")) == (503, b"1")
    upstream.connections[0].send(with_length(b"ok"))
    assert (await first.answer()).status == 200
    await world.at_rest(gateway)
    assert len(upstream.requests) == 1
    lines = await world.logged(gateway, 2)
    assert [line["status"] for line in lines] == [503, 200]


@pytest_twisted.ensureDeferred
async def test_idle_connections_to_an_instance(world: World) -> None:
    """Of those that come free, only so many are kept."""
    upstream = await world.upstream()
    gateway = await world.gateway({"instances": [upstream.url], "pool": {"idle": 2}})
    clients = [await world.client(gateway, get()) for _ in range(5)]
    await eventually(lambda: len(upstream.requests) == 5)
    for connection in upstream.connections:
        connection.send(with_length(b"ok"))
    for client in clients:
        await client.answer()
    await eventually(lambda: sum(each.lost is None for each in upstream.connections) == 2)
    assert only_instance(gateway).pool.open == 2


# -- connections that died while idle ----------------------------------------------------------


def dies_at_second(connection: RecordedConnection, request: bytes) -> bytes | None:
    """Answers the first request of a connection, and closes it at the next one."""
    if len(connection.requests) == 1:
        return with_length(b"")
    connection.abort()
    return None


async def reused(world: World, request: bytes) -> tuple[RawClient, list[bytes]]:
    """A client whose second request meets a connection that dies under it."""
    upstream = await world.upstream(dies_at_second)
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get("/api/main/warm"))
    await client.answer()
    client.send(request)
    return client, upstream.requests


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
@pytest_twisted.ensureDeferred
async def test_repeated_once_where_that_is_safe(world: World, method: bytes) -> None:
    """The client does not notice."""
    lines = () if method != b"PUT" else ("Content-Length: 4",)
    body = b"" if method != b"PUT" else b"body"
    client, requests = await reused(
        world, get("/api/main/x", *lines).replace(b"GET", method) + body
    )
    assert (await client.answer(to=method)).status == 200
    assert len(requests) == 3
    assert requests[1] == requests[2]
    assert requests[2].endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("method", [b"POST", b"PATCH"])
@pytest_twisted.ensureDeferred
async def test_not_repeated_where_that_is_not(world: World, method: bytes) -> None:
    """It may have been carried out: the client decides."""
    client, requests = await reused(world, post("/api/main/x", b"pay").replace(b"POST", method))
    answer = await client.answer()
    assert answer.status == 502
    await soon(0.1)
    assert len(requests) == 2


@pytest_twisted.ensureDeferred
async def test_not_repeated_once_an_answer_has_begun(world: World) -> None:
    """Half an answer is an answer: 502."""

    def half(connection: RecordedConnection, request: bytes) -> bytes:
        if len(connection.requests) == 1:
            return with_length(b"ok")
        connection.send(b"HTTP/1.1 200 OK\r\nContent")
        connection.close()
        return b""

    upstream = await world.upstream(half)
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get())
    await client.answer()
    client.send(get())
    assert (await client.answer()).status == 502
    assert len(upstream.requests) == 2


@pytest_twisted.ensureDeferred
async def test_repeated_once_and_not_twice(world: World) -> None:
    """Without retries, a fresh connection that dies as well is the instance's fault: 502."""
    upstream = await world.upstream(dies_at_second)
    gateway = await world.gateway({"instances": [upstream.url], "retry": {"attempts": 1}})
    client = await world.client(gateway, get())
    await client.answer()
    upstream.answering = lambda connection, request: connection.abort()
    client.send(get())
    assert (await client.answer()).status == 502
    assert len(upstream.requests) == 3


@pytest_twisted.ensureDeferred
async def test_a_body_too_large_to_be_held_is_not_repeated(world: World) -> None:
    """What has been passed on and forgotten can't be sent again."""
    body = bytes(300_000)
    client, requests = await reused(world, post("/api/main/x", body).replace(b"POST", b"PUT", 1))
    assert (await client.answer()).status == 502
    assert len(requests) == 2


@pytest_twisted.ensureDeferred
async def test_closed_while_idle(world: World) -> None:
    """What is known to be closed is not even tried, so that POST is safe too."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get())
    await client.answer()
    upstream.connections[0].close()
    await eventually(lambda: upstream.connections[0].lost)
    client.send(post("/api/main/", b"pay"))
    assert (await client.answer()).status == 200
    assert len(upstream.requests) == 2


# -- clients that do not read -----------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/main/", "/healthz"])
@pytest_twisted.ensureDeferred
async def test_pipelined_requests(world: World, path: str) -> None:
    """A thousand at once are answered one after the other, in order."""

    def numbered(connection: RecordedConnection, request: bytes) -> bytes:
        return with_length(request.split(b" ", 2)[1])

    upstream = await world.upstream(numbered)
    gateway = await world.gateway(upstream)
    client = await world.client(gateway)
    client.send(b"".join(get(f"{path}{'' if 'z' in path else number}") for number in range(1000)))
    for number in range(1000):
        answer = await client.answer()
        assert answer.status == 200
        if "z" not in path:
            assert answer.body == b"/%d" % number
    assert len(upstream.connections) == (0 if "z" in path else 1)


@pytest.mark.parametrize("one_by_one", [False, True], ids=["at once", "one by one"])
@pytest_twisted.ensureDeferred
async def test_pipelining_without_reading(world: World, one_by_one: bool) -> None:
    """The gateway stops to read from who does not read, and takes up again where it stopped."""
    body = bytes(30_000)
    upstream = await world.upstream(with_length(body))
    gateway = await world.gateway(upstream)
    client = await world.client(gateway)
    client.pause()
    for _ in range(1000):
        client.send(get())
        if one_by_one:
            await soon(0.0005)
    (channel,) = gateway.service.site.channels
    await eventually(lambda: channel.blocked)
    served = -1
    while served != len(upstream.requests):
        served = len(upstream.requests)
        await soon(0.2)
    assert served < 500, "the rest is not even asked for"
    assert channel.transport.unsent < 300_000
    assert channel._reading_paused
    client.resume()
    for _ in range(1000):
        assert len((await client.answer()).body) == len(body)
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_reads_pipelined_answers(world: World) -> None:
    """Its connection ends after ``write_stall``, with all that waited on it."""
    upstream = await world.upstream(with_length(bytes(30_000)))
    gateway = await world.gateway(upstream, timeouts={"write_stall": "300ms"})
    client = await world.client(gateway)
    client.pause()
    client.send(get() * 1000)
    await eventually(lambda: upstream.requests)
    await eventually(lambda: not gateway.service.site.channels)
    client.resume()
    await client.closed()
    assert client.lost is not None
    assert client.lost.check(ConnectionClosed)
    await world.at_rest(gateway)
    lines = await world.logged(gateway)
    assert not [line for line in lines if line["status"] >= 500]


@pytest_twisted.ensureDeferred
async def test_a_large_answer_without_reading(world: World) -> None:
    """It waits with the instance, not in the gateway."""
    size = 32 << 20
    upstream = await world.upstream(with_length(bytes(size)))
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get())
    client.pause()
    connection = await upstream.connection()
    (channel,) = gateway.service.site.channels
    await eventually(lambda: channel.blocked)
    await soon(0.2)
    assert channel.transport.unsent < 600_000
    assert connection.transport._tempDataLen + len(connection.transport.dataBuffer) > size // 2
    client.resume()
    received = 0

    def all_of_it() -> bool:
        nonlocal received
        received += len(client.received)
        client.received = b""
        return received >= size

    await eventually(all_of_it)
    assert size < received < size + 1000


def begins_and_stops(connection: RecordedConnection) -> None:
    """Answers before the request is complete, much, and takes no more of it."""
    connection.transport.pauseProducing()
    connection.send(with_length(bytes(32 << 20)))


@pytest_twisted.ensureDeferred
async def test_a_client_that_sends_and_never_reads(world: World) -> None:
    """An answer and its request get stuck against each other: ``write_stall`` ends it."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, timeouts={"write_stall": "400ms"}, limits={"body": 0})
    head = b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: 67108864\r\n\r\n"
    client = await world.client(gateway, head)
    client.pause()
    connection = await upstream.connection()
    await eventually(lambda: connection.received)
    begins_and_stops(connection)
    (channel,) = gateway.service.site.channels
    await eventually(lambda: channel.blocked)
    client.send(bytes(64 << 20))
    await eventually(lambda: channel._reading_paused)
    await eventually(lambda: not gateway.service.site.channels, patience=2.0)
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_again_before_the_instance_does(world: World) -> None:
    """Who is made to wait with an upload is not blamed for its silence."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, timeouts={"body_idle": "300ms"}, limits={"body": 0})
    size = 12 << 20
    head = b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size
    client = await world.client(gateway, head)
    client.pause()
    connection = await upstream.connection()
    await eventually(lambda: connection.received)
    connection.transport.pauseProducing()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8388612\r\n\r\n" + bytes(8 << 20))
    (channel,) = gateway.service.site.channels
    await eventually(lambda: channel.blocked)
    client.send(bytes(size))
    await eventually(lambda: channel._reading_paused)
    client.resume()
    await eventually(lambda: len(client.received) > 8 << 20)
    await soon(0.8)
    assert client.lost is None
    connection.transport.resumeProducing()
    await upstream.request()
    connection.send(b"done")
    assert (await client.answer()).body.endswith(b"done")
