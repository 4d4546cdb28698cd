"""The client leaves, in every phase of its request."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionLost

from rtgateway.testing import RawClient, RunningGateway, eventually, soon
from tests.e2e.world import World, event_stream, get, only_instance, post, with_length

__all__: list[str] = []

Leave = Callable[[RawClient], None]

leaving = pytest.mark.parametrize("leave", [RawClient.close, RawClient.abort])

FINISH = {"routes": [{"path": "/", "service": "main", "on_disconnect": "finish"}]}


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


async def logged_499(world: World, gateway: RunningGateway) -> None:
    """The log has it, the instance is not blamed, and nothing of the request is left."""
    (line,) = await world.logged(gateway)
    assert (line["status"], line["error"]) == (499, "client_gone")
    await world.at_rest(gateway)
    instance = only_instance(gateway)
    rates = gateway.service.statistics.of_instance("main", instance.label, line["duration_us"])
    assert rates.errors == 0
    assert len(gateway.service.site.channels) == 0


@leaving
@pytest_twisted.ensureDeferred
async def test_while_connecting(world: World, unanswering: str, leave: Leave) -> None:
    """The attempt to connect is given up."""
    gateway = await world.gateway(unanswering)
    client = await world.client(gateway, get())
    instance = only_instance(gateway)
    await eventually(lambda: instance.inflight)
    assert instance.pool.open == 1
    leave(client)
    await logged_499(world, gateway)
    assert instance.pool.open == 0
    assert instance.last_latency is None


@leaving
@pytest_twisted.ensureDeferred
async def test_while_waiting_for_room_in_the_pool(world: World, leave: Leave) -> None:
    """The place in the queue is given up; who waits behind moves up."""
    upstream = await world.upstream()
    gateway = await world.gateway({"instances": [upstream.url], "pool": {"connections": 1}})
    pool = only_instance(gateway).pool
    first = await world.client(gateway, get("/api/main/first"))
    lent = await upstream.connection()
    second = await world.client(gateway, get("/api/main/second"))
    await eventually(lambda: pool.waiting == 1)
    third = await world.client(gateway, get("/api/main/third"))
    await eventually(lambda: pool.waiting == 2)
    leave(second)
    await eventually(lambda: pool.waiting == 1)
    await eventually(lambda: lent.requests)
    lent.send(with_length(b"one"))
    assert (await first.answer()).body == b"one"
    await eventually(lambda: len(lent.requests) == 2)
    assert b"/third" in lent.requests[1]
    lent.send(with_length(b"three"))
    assert (await third.answer()).body == b"three"
    lines = await world.logged(gateway, 3)
    assert sorted(line["status"] for line in lines) == [200, 200, 499]


@leaving
@pytest_twisted.ensureDeferred
async def test_while_a_connection_is_made_for_who_waited(
    world: World, unanswering: str, leave: Leave
) -> None:
    """It left the queue, its connection is being made: giving up still ends well."""
    service = {
        "instances": [unanswering],
        "pool": {"connections": 1},
        "timeouts": {"connect": "500ms"},
    }
    gateway = await world.gateway(service)
    pool = only_instance(gateway).pool
    first = await world.client(gateway, get())
    await eventually(lambda: pool.open == 1)
    second = await world.client(gateway, get())
    await eventually(lambda: pool.waiting == 1)
    assert (await first.answer()).status == 504
    await eventually(lambda: pool.waiting == 0)
    assert pool.open == 1
    leave(second)
    await world.at_rest(gateway)
    await eventually(lambda: pool.open == 0)
    lines = await world.logged(gateway, 2)
    assert [line["status"] for line in lines] == [504, 499]


@leaving
@pytest_twisted.ensureDeferred
async def test_while_waiting_for_the_head(world: World, leave: Leave) -> None:
    """The instance sees its connection closed, and can stop working."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get())
    await upstream.request()
    leave(client)
    await eventually(lambda: upstream.connections[0].lost)
    await logged_499(world, gateway)
    assert only_instance(gateway).last_latency is None


@leaving
@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
@pytest_twisted.ensureDeferred
async def test_while_the_body_streams(world: World, leave: Leave, framing: str) -> None:
    """The instance sees its connection closed in the middle of its answer."""
    begun = f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode()
    upstream = await world.upstream(begun + b"5\r\nhello\r\n")
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get())
    await eventually(lambda: b"hello" in client.received)
    leave(client)
    await eventually(lambda: upstream.connections[0].lost)
    await logged_499(world, gateway)


@pytest_twisted.ensureDeferred
async def test_while_it_takes_no_more(world: World) -> None:
    """A client that stopped reading leaves; the instance, paused till then, sees it."""
    upstream = await world.upstream(with_length(bytes(32 << 20)))
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get())
    client.pause()
    await eventually(lambda: any(each.blocked for each in gateway.service.site.channels))
    client.abort()
    await eventually(lambda: upstream.connections[0].lost)
    await logged_499(world, gateway)


@leaving
@pytest.mark.parametrize("route", ["cancel", "finish"])
@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
@pytest_twisted.ensureDeferred
async def test_while_uploading(world: World, leave: Leave, route: str, framing: str) -> None:
    """Half a request is no request: the instance sees it cut off, whatever the route says."""
    upstream = await world.upstream()
    gateway = await world.gateway(
        upstream, routes=[{"path": "/", "service": "main", "on_disconnect": route}]
    )
    head = f"POST /x HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n".encode()
    client = await world.client(gateway, head + b"5\r\nhello\r\n")
    connection = await upstream.connection()
    await eventually(lambda: b"hello" in connection.received)
    leave(client)
    await eventually(lambda: connection.lost)
    assert connection.lost is not None
    assert connection.lost.check(ConnectionLost), "a clean end could be taken for a whole body"
    assert b"\r\n0\r\n" not in connection.received
    await logged_499(world, gateway)


@leaving
@pytest_twisted.ensureDeferred
async def test_finish_while_waiting_for_the_head(world: World, leave: Leave) -> None:
    """The instance answers undisturbed, and its connection serves the next request."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, **FINISH)
    client = await world.client(gateway, post("/pay", b"now"))
    await upstream.request()
    leave(client)
    await eventually(lambda: not gateway.service.site.channels)
    connection = upstream.connections[0]
    assert only_instance(gateway).inflight == 1
    assert connection.lost is None
    connection.send(with_length(b"paid"))
    await logged_499(world, gateway)
    assert connection.lost is None
    assert len(only_instance(gateway).pool.idle) == 1


@leaving
@pytest_twisted.ensureDeferred
async def test_finish_while_the_body_streams(world: World, leave: Leave) -> None:
    """All of the answer is taken from the instance, at its own pace."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, **FINISH)
    client = await world.client(gateway, get("/export"))
    await upstream.request()
    connection = upstream.connections[0]
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await eventually(lambda: b"hello" in client.received)
    leave(client)
    await eventually(lambda: not gateway.service.site.channels)
    for _ in range(64):
        connection.send(b"10000\r\n" + bytes(65536) + b"\r\n")
    connection.send(b"0\r\n\r\n")
    await logged_499(world, gateway)
    assert connection.lost is None
    assert len(only_instance(gateway).pool.idle) == 1


@pytest_twisted.ensureDeferred
async def test_finish_when_the_client_had_stopped_reading(world: World) -> None:
    """Who paused the instance is gone, so it is resumed."""
    upstream = await world.upstream(with_length(bytes(32 << 20)))
    gateway = await world.gateway(upstream, **FINISH)
    client = await world.client(gateway, get("/export"))
    client.pause()
    await eventually(lambda: any(each.blocked for each in gateway.service.site.channels))
    client.abort()
    await logged_499(world, gateway)
    assert upstream.connections[0].lost is None
    assert len(only_instance(gateway).pool.idle) == 1


@leaving
@pytest_twisted.ensureDeferred
async def test_finish_ends_event_streams_all_the_same(world: World, leave: Leave) -> None:
    """A stream of events has no end that one could wait for."""
    upstream = await world.upstream(event_stream())
    gateway = await world.gateway(upstream, **FINISH)
    client = await world.client(gateway, get("/events"))
    await eventually(lambda: only_instance(gateway).streams == 1)
    leave(client)
    await eventually(lambda: upstream.connections[0].lost)
    await logged_499(world, gateway)


@leaving
@pytest_twisted.ensureDeferred
async def test_between_two_requests(world: World, leave: Leave) -> None:
    """Leaving then is nobody's business: no line in the log."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get())
    await client.answer()
    leave(client)
    await eventually(lambda: not gateway.service.site.channels)
    await soon(0.1)
    (line,) = await world.logged(gateway)
    assert line["status"] == 200
    assert upstream.connections[0].lost is None


@pytest_twisted.ensureDeferred
async def test_a_hundred_at_once(world: World) -> None:
    """Whatever phase each is in, nothing is left of any of them."""
    upstream = await world.upstream()
    gateway = await world.gateway({"instances": [upstream.url], "pool": {"connections": 20}})
    instance = only_instance(gateway)
    clients = [await world.client(gateway, get()) for _ in range(100)]
    await eventually(lambda: len(upstream.requests) == 20 and instance.pool.waiting == 80)
    for connection in upstream.connections[::2]:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    for client in clients:
        client.abort()
    lines = await world.logged(gateway, 100)
    assert {line["status"] for line in lines} == {499}
    await world.at_rest(gateway)
    # The twenty that were in use are closed; those made for who waited are kept for others.
    await eventually(lambda: all(connection.lost for connection in upstream.connections[:20]))
    standing = [each for each in upstream.connections if not each.lost]
    assert len(standing) == instance.pool.open == len(instance.pool.idle) <= 20
