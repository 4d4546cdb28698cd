"""Whole gateways whose Redis dies, hangs, refuses, moves, or was never there.

Clients are answered all the same, in time and by the rules of each limiter, and everything is as
before when Redis is. See also ``test_store_forgets.py``.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import pytest
import pytest_twisted
from hiredis import ReplyError
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from rtgateway.testing import RawClient, eventually
from rtgateway.testing.redis import RedisServer, StartRedis, Watched
from rtgateway.testing.waiting import soon
from tests.e2e.faulty import (
    ALL,
    PATH,
    SLACK,
    Load,
    degraded,
    eventually_new,
    hasty,
    left,
    limited,
    link_of,
    patient,
    patiently,
    ready,
)
from tests.e2e.test_leaks import assert_not_grown, settled
from tests.e2e.test_rate_limits import asked, bucket, statuses
from tests.e2e.world import World, get, with_length

__all__: list[str] = []


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the gateway has logged."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    observer: ILogObserver = observe  # type: ignore[assignment]
    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)


# -- it dies, hangs and comes back --------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_killed_and_restarted_under_load(world: World, redis_server: RedisServer) -> None:
    """Nobody sees an error or waits; within seconds of its return limits are shared again."""
    gateway = await limited(
        world, hasty(redis_server), rate_limits={"it": bucket(100_000, refill_rate=ALL)}
    )
    load = Load(world, gateway, 8).begin()
    await load.more()
    redis_server.kill()
    await eventually(lambda: not link_of(gateway).up)
    assert all(degraded(each) for each in await eventually_new(load))
    redis_server.start()
    await eventually(lambda: link_of(gateway).up, 2.0 + SLACK)
    assert not any(degraded(each) for each in (await eventually_new(load))[-5:])
    assert await load.end() == {200: len(load.answers)}
    assert load.slowest < 0.05 + SLACK


@pytest_twisted.ensureDeferred
async def test_one_after_the_other_while_it_hangs(world: World, redis_server: RedisServer) -> None:
    """The first ones wait as long as the deadline, and then none waits at all."""
    gateway = await limited(world, hasty(redis_server, timeout="200ms"))
    client = await world.client(gateway, get(PATH))
    await client.answer()
    redis_server.pause()
    waits = []
    for _ in range(12):
        began = monotonic()
        client.send(get(PATH))
        answer = await client.answer()
        waits.append(monotonic() - began)
        assert (answer.status, degraded(answer)) == (200, True)
    assert max(waits) < 0.2 + SLACK
    assert not link_of(gateway).up
    # Three were enough to know.
    assert sorted(waits)[8] < 0.15
    redis_server.resume()
    await eventually(lambda: link_of(gateway).up, 2.0 + SLACK)
    client.send(get(PATH))
    assert not degraded(await client.answer())


@pytest_twisted.ensureDeferred
async def test_all_at_once_while_it_hangs(world: World, redis_server: RedisServer) -> None:
    """Each waits by itself, none for another, and each is decided once."""
    gateway = await limited(world, hasty(redis_server, timeout="200ms"))
    clients = [await world.client(gateway) for _ in range(100)]
    redis_server.pause()
    began = monotonic()
    for client in clients:
        client.send(get(PATH))
    answers = [await client.answer() for client in clients]
    assert monotonic() - began < 0.2 + SLACK
    assert {each.status for each in answers} == {200}
    assert sorted(map(left, answers)) == list(range(900, 1000))
    redis_server.resume()
    await eventually(lambda: link_of(gateway).up, 2.0 + SLACK)


@pytest_twisted.ensureDeferred
async def test_clients_that_leave_while_it_is_asked(
    world: World, redis_server: RedisServer
) -> None:
    """Nothing is left of them, whether Redis answers late or never."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=patient(redis_server, timeout="400ms", leases=False),
        rate_limits={"it": bucket(1000)},
    )

    async def leave(number: int) -> None:
        redis_server.pause()
        clients = [await RawClient.connect(gateway.port) for _ in range(number)]
        for client in clients:
            client.send(get(PATH))
        await eventually(lambda: len(gateway.service.site.channels) == number)
        await soon(0.02)
        for client in clients:
            client.abort()
        await eventually(lambda: not gateway.service.site.channels)
        redis_server.resume()
        await eventually(lambda: link_of(gateway).up)
        await asked(world, gateway)

    await ready(gateway)
    await leave(150)
    before = await settled(upstream, gateway)
    for _ in range(3):
        await leave(150)
    assert_not_grown(before, await settled(upstream, gateway))
    assert len(upstream.requests) == 0
    gc.collect()
    lines = await world.logged(gateway, 604)
    assert Counter(each["status"] for each in lines) == {499: 600, 200: 4}


@pytest_twisted.ensureDeferred
async def test_the_gateway_stops_while_it_hangs(world: World, redis_server: RedisServer) -> None:
    """Requests that wait for Redis are finished, and the end does not wait for it."""
    gateway = await limited(world, patient(redis_server, timeout="300ms"), shutdown={"grace": "5s"})
    await asked(world, gateway)
    redis_server.pause()
    clients = [await world.client(gateway, get(PATH)) for _ in range(20)]
    await eventually(lambda: len(gateway.service.site.channels) == 20)
    await soon(0.05)
    began = monotonic()
    stopped = gateway.stop()
    for client in clients:
        answer = await client.answer()
        assert (answer.status, answer.header(b"connection")) == (200, b"close")
    await stopped
    assert monotonic() - began < 3.0 + SLACK


@pytest.mark.parametrize(
    "path",
    [PATH, "/m"],
)
@pytest_twisted.ensureDeferred
async def test_no_grace_while_it_hangs(world: World, redis_server: RedisServer, path: str) -> None:
    """Who waits for Redis is cut off, and no instance is asked afterwards."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=patient(redis_server, timeout="1s"),
        rate_limits={"it": bucket(9)},
        routes=[{"path": "/m", "service": "main", "name": "m", "on_disconnect": "finish"}],
    )
    await ready(gateway)
    redis_server.pause()
    client = await world.client(gateway, get(path))
    await eventually(lambda: gateway.service.site.channels)
    await soon(0.05)
    began = monotonic()
    await gateway.stop()
    assert monotonic() - began < 1.0 + SLACK
    assert await client.closed() == b""
    await soon(0.05)
    assert not upstream.connections


@pytest_twisted.ensureDeferred
async def test_connections_are_killed_under_load(world: World, redis_server: RedisServer) -> None:
    """They are made anew, and what is said afterwards on the channel of news is heard."""
    gateway = await limited(world, patient(redis_server), rate_limits={"it": bucket(20_000)})
    other = await limited(world, patient(redis_server))
    load = Load(world, gateway, 4).begin()
    for kind in ("normal", "pubsub", "normal"):
        await load.more()
        redis_server.cli("CLIENT", "KILL", "TYPE", kind)
    await eventually(lambda: link_of(gateway).up and link_of(other).up)
    while degraded((await load.more(1))[0]):
        pass
    assert await load.end() == {200: len(load.answers)}
    assert load.slowest < 1.0 + SLACK
    await patiently(lambda: other.service.bans.ban("ip:192.0.2.1", 60, ""))
    await eventually(lambda: len(gateway.service.bans) == 1)


# -- it refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("ACL", "SETUSER", "default", "-@scripting"), ("ACL", "SETUSER", "default", "+@all")),
    ],
    ids=["out of memory", "a replica", "not allowed"],
)
@pytest_twisted.ensureDeferred
async def test_it_answers_with_errors(
    world: World, redis_server: RedisServer, spoil: tuple[str, ...], mend: tuple[str, ...]
) -> None:
    """As good as none, for as long as it does."""
    gateway = await limited(world, patient(redis_server), rate_limits={"it": bucket(1000)})
    await asked(world, gateway)
    redis_server.cli(*spoil)
    answers = [await asked(world, gateway) for _ in range(5)]
    assert {(each.status, degraded(each)) for each in answers} == {(200, True)}
    redis_server.cli(*mend)

    async def shared() -> bool:
        return not degraded(await asked(world, gateway))

    deadline = monotonic() + 2.0 + SLACK
    while not await shared():
        assert monotonic() < deadline
        await soon(0.05)


@pytest_twisted.ensureDeferred
async def test_a_wrong_password(world: World, start_redis: StartRedis, said: list[str]) -> None:
    """Clients are served within the time that a start may take; it is said once, without words
    that nobody may know."""
    server = start_redis(password="the right one")
    state = {"url": server.url_as("", "opensesame"), "connect_timeout": "200ms"}
    upstream = await world.upstream(with_length(b"ok"))
    began = monotonic()
    gateway = await world.gateway(upstream, state=state, rate_limits={"it": bucket(3)})
    answers = [await asked(world, gateway) for _ in range(4)]
    assert monotonic() - began < 0.2 + SLACK
    assert [each.status for each in answers] == [200, 200, 200, 429]
    assert all(map(degraded, answers))
    health = json.loads((await asked(world, gateway, path="/health")).body)
    assert (health["status"], health["state"]["up"]) == ("degraded", False)
    await soon(0.5)
    text = "\n".join(said)
    assert "opensesame" not in text
    assert "opensesame" not in json.dumps(health)
    assert 1 <= text.count("WRONGPASS") + text.lower().count("password") <= 4
    server.cli("CONFIG", "SET", "requirepass", "opensesame")
    server.password = "opensesame"
    await eventually(lambda: link_of(gateway).up)
    assert not degraded(await asked(world, gateway))


@pytest_twisted.ensureDeferred
async def test_something_else_is_there(world: World) -> None:
    """A web server on the port of Redis."""
    other = await world.upstream(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    other.answering = lambda connection, request: b"HTTP/1.1 400 Bad Request\r\n\r\n"
    upstream = await world.upstream(with_length(b"ok"))
    state = {"url": f"redis://127.0.0.1:{other.port}", "connect_timeout": "200ms"}
    gateway = await world.gateway(upstream, state=state, rate_limits={"it": bucket(2)})
    assert await statuses(world, gateway, 3) == [200, 200, 429]


# -- it is not there yet ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_started_before_redis(world: World, redis_server: RedisServer) -> None:
    """Clients wait in the backlog for as long as a connection may take, and then are served; those
    that come when Redis is there are counted in it."""
    redis_server.kill()
    state = {"url": redis_server.url, "connect_timeout": "500ms"}
    upstream = await world.upstream(with_length(b"ok"))
    began = monotonic()
    gateway = await world.gateway(upstream, state=state, rate_limits={"it": bucket(5)})
    clients = [await world.client(gateway, get(PATH)) for _ in range(3)]
    answers = [await client.answer() for client in clients]
    assert 0.4 < monotonic() - began < 0.5 + SLACK
    assert [(each.status, degraded(each)) for each in answers] == [(200, True)] * 3
    redis_server.start()
    await eventually(lambda: link_of(gateway).up, 2.0 + SLACK)
    answer = await asked(world, gateway)
    assert (answer.status, degraded(answer)) == (200, False)


@pytest_twisted.ensureDeferred
async def test_started_while_it_hangs(world: World, redis_server: RedisServer) -> None:
    """Connections are taken and nobody speaks: the same, and it may be stopped as well."""
    redis_server.pause()
    state = {"url": redis_server.url, "connect_timeout": "300ms"}
    upstream = await world.upstream(with_length(b"ok"))
    began = monotonic()
    gateway = await world.gateway(upstream, state=state, rate_limits={"it": bucket(2)})
    answers = [await asked(world, gateway) for _ in range(3)]
    assert monotonic() - began < 0.3 + SLACK
    assert [(each.status, degraded(each)) for each in answers] == [
        (200, True),
        (200, True),
        (429, True),
    ]
    began = monotonic()
    await gateway.stop()
    assert monotonic() - began < 1.0 + SLACK


@pytest_twisted.ensureDeferred
async def test_started_just_before_redis(world: World, redis_server: RedisServer) -> None:
    """Whoever waited is decided by Redis: nobody gets in on limits of the gateway's own."""
    redis_server.kill()
    state = {"url": redis_server.url, "connect_timeout": "8s", "timeout": "5s"}
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, state=state, rate_limits={"it": bucket(5)})
    clients = [await world.client(gateway, get(PATH)) for _ in range(3)]
    await soon(0.1)
    assert not any(client.received for client in clients)
    redis_server.start()
    answers = [await client.answer() for client in clients]
    assert [(each.status, degraded(each)) for each in answers] == [(200, False)] * 3


@pytest_twisted.ensureDeferred
async def test_stopped_before_redis_came(world: World, redis_server: RedisServer) -> None:
    """At once, though clients wait in the backlog."""
    redis_server.kill()
    state = {"url": redis_server.url, "connect_timeout": "8s"}
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, state=state, rate_limits={"it": bucket(5)})
    client = await world.client(gateway, get(PATH))
    await soon(0.05)
    began = monotonic()
    await gateway.stop()
    assert monotonic() - began < SLACK
    assert await client.closed() == b""
    assert not upstream.requests


# -- it moves -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_failover(world: World, start_redis: StartRedis) -> None:
    """The master dies; a Sentinel names its replica; nobody sees an error, and what was counted
    still counts."""
    master = start_redis()
    replica = start_redis(replica_of=master)
    await eventually(lambda: "state=online" in master.cli("INFO", "replication"))
    sentinel = start_redis(sentinel=Watched("limits", master))
    await eventually(lambda: str(replica.port) in sentinel.cli("SENTINEL", "REPLICAS", "limits"))
    nodes = [f"127.0.0.1:{sentinel.port}"]
    state = {"sentinel": {"nodes": nodes, "master": "limits"}, "connect_timeout": "5s"}
    gateway = await limited(world, state, rate_limits={"it": bucket(5)})
    assert await statuses(world, gateway, 2) == [200, 200]
    await eventually(lambda: replica.cli("DBSIZE") == master.cli("DBSIZE"))
    await soon(0.1)
    master.kill()
    await eventually(lambda: not link_of(gateway).up)

    def failed_over() -> bool:
        with suppress(ReplyError):
            sentinel.cli("SENTINEL", "FAILOVER", "limits")
        where = sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "limits").split()[1]
        return where == str(replica.port)

    while not failed_over():
        answer = await asked(world, gateway, path="/health")
        assert answer.status == 200
        await soon(0.05)
    await eventually(lambda: link_of(gateway).up)
    answers = [await asked(world, gateway) for _ in range(4)]
    assert [each.status for each in answers] == [200, 200, 200, 429]
    assert not any(map(degraded, answers))
