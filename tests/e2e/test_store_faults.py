"""Whole gateways whose Redis dies, hangs, forgets, moves, or was never there.

Clients are answered all the same, in time and by the rules of each limiter, and everything is as
before when Redis is. See also ``test_rate_limits.py``.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from time import monotonic
from typing import Any

import pytest
import pytest_twisted
from hiredis import ReplyError
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from rtgateway.net.tasks import Task
from rtgateway.store.errors import StoreError
from rtgateway.testing import RawAnswer, RawClient, RunningGateway, eventually
from rtgateway.testing.redis import RedisServer, Watched
from rtgateway.testing.waiting import soon
from rtgateway.testing.websocket import WebSocketClient, WebSocketUpstream
from tests.e2e.test_leaks import assert_not_grown, settled
from tests.e2e.test_rate_limits import SECRET, asked, bearer, bucket, statuses
from tests.e2e.world import World, event_stream, get, post, with_length

__all__: list[str] = []

PATH = "/api/main/x"
SLACK = 2.0
"""Seconds that a busy machine may add to everything."""

ALL = 1000.0
"""Units per second that are enough for a test."""

Start = Callable[..., RedisServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(...)`` starts a `RedisServer` that is stopped after the test."""
    started: list[RedisServer] = []

    def one(**options: Any) -> RedisServer:
        started.append(RedisServer(**options))
        return started[-1].start()

    yield one
    for server in started:
        server.kill()
        server.stop()


def patient(server: RedisServer, **more: Any) -> dict[str, Any]:
    """State in a Redis that is waited for, because the machine may be busy."""
    return {"url": server.url, "timeout": "5s", "connect_timeout": "5s", **more}


def hasty(server: RedisServer, **more: Any) -> dict[str, Any]:
    """As configured by default, but for how long a gateway waits for Redis when it starts."""
    return {"url": server.url, "connect_timeout": "5s", **more}


async def limited(world: World, state: Any, **settings: Any) -> RunningGateway:
    upstream = await world.upstream(with_length(b"ok"))
    more = {"rate_limits": {"it": bucket(1000)}, **settings}
    gateway = await world.gateway(upstream, state=state, **more)
    await ready(gateway)
    return gateway


async def ready(gateway: RunningGateway) -> None:
    """Wait until it is connected to Redis, for the first time."""
    await eventually(lambda: link_of(gateway).up and not gateway.service.gate.shut)


def link_of(gateway: RunningGateway) -> Any:
    link = gateway.service.stores.link
    assert link is not None
    return link


def left(answer: RawAnswer) -> int:
    return int(answer.header(b"x-ratelimit-remaining") or -1)


def degraded(answer: RawAnswer) -> bool:
    return answer.header(b"x-ratelimit-mode") == b"degraded"


class Load:
    """Clients that ask one request after the other, each on a connection of its own.

    :ivar answers: of all of them; ``slowest``: seconds until one was answered.
    """

    def __init__(self, world: World, gateway: RunningGateway, clients: int) -> None:
        self.answers: list[RawAnswer] = []
        self.slowest = 0.0
        self._going = True
        self._world = world
        self._gateway = gateway
        self._done = 0
        self._clients = clients

    async def _ask(self) -> None:
        client = await self._world.client(self._gateway)
        while self._going:
            began = monotonic()
            client.send(get(PATH))
            self.answers.append(await client.answer())
            self.slowest = max(self.slowest, monotonic() - began)
            await soon(0.002)
        client.close()
        self._done += 1

    def begin(self) -> Load:
        self._waiting = DeferredList(
            [Deferred.fromCoroutine(self._ask()) for _ in range(self._clients)],
            fireOnOneErrback=True,
            consumeErrors=True,
        )
        return self

    async def end(self) -> Counter[int]:
        self._going = False
        await self._waiting
        assert self._done == self._clients
        return Counter(each.status for each in self.answers)

    async def more(self, number: int = 20) -> list[RawAnswer]:
        """So many more answers."""
        before = len(self.answers)
        await eventually(lambda: len(self.answers) >= before + number)
        return self.answers[before:]


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


async def eventually_new(load: Load) -> list[RawAnswer]:
    """Answers to requests that were not under way before."""
    await load.more(16)
    return await load.more(20)


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


async def patiently(change: Callable[[], Deferred[Any]]) -> None:
    """Try until Redis answers."""
    deadline = monotonic() + 2.0 + SLACK
    while True:
        try:
            await change()
            return
        except StoreError:
            assert monotonic() < deadline
            await soon(0.05)


# -- it forgets ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_scripts_are_flushed_under_load(world: World, redis_server: RedisServer) -> None:
    """They are loaded again by the next request, and no unit is lost or given twice."""
    gateway = await limited(world, patient(redis_server))
    load = Load(world, gateway, 4).begin()
    for _ in range(5):
        await load.more()
        redis_server.cli("SCRIPT", "FLUSH")
    await load.more()
    assert await load.end() == {200: len(load.answers)}
    assert not any(map(degraded, load.answers))
    assert min(map(left, load.answers)) == 1000 - len(load.answers)


@pytest_twisted.ensureDeferred
async def test_everything_is_flushed(world: World, redis_server: RedisServer) -> None:
    """Two gateways go on with one new limit; each still knows who is banned and listed, and lets
    go of them when told to."""
    settings: dict[str, Any] = {"rate_limits": {"it": bucket(4)}}
    one = await limited(world, patient(redis_server), **settings)
    two = await limited(world, patient(redis_server), **settings)
    both = (one, two)

    async def codes(number: int) -> list[int]:
        return [(await asked(world, both[i % 2])).status for i in range(number)]

    assert await codes(6) == [200] * 4 + [429] * 2
    await one.service.bans.ban("ip:192.0.2.1", 600, "")
    await one.service.ip_lists.add("deny", ["192.0.2.2"])
    await one.service.limits.change("it", {"capacity": 5}, True)
    await eventually(lambda: two.service.ip_lists.verdict("192.0.2.2") == "deny")
    redis_server.cli("FLUSHALL")
    await eventually_admitted(world, one)
    after = await codes(6)
    assert after.count(200) in (3, 4)
    assert after[-1] == 429
    assert await two.service.bans.lift("ip:192.0.2.1")
    await one.service.limits.restore("it")
    await eventually(lambda: not any(len(each.service.bans) for each in both))
    await eventually(lambda: not any(each.service.limits.limiters["it"].changed for each in both))
    # And what is said afterwards is heard.
    await two.service.bans.ban("ip:192.0.2.3", 600, "")
    await eventually(lambda: len(one.service.bans))


@pytest_twisted.ensureDeferred
async def test_lists_that_are_flushed(world: World, redis_server: RedisServer) -> None:
    """What Redis does not know of can be taken off the lists of all gateways nevertheless."""
    one = await limited(world, patient(redis_server))
    two = await limited(world, patient(redis_server))
    both = [each.service.ip_lists for each in (one, two)]
    await both[0].add("deny", ["192.0.2.2"])
    await eventually(lambda: both[1].verdict("192.0.2.2") == "deny")
    redis_server.cli("FLUSHALL")
    await both[0].remove("deny", ["192.0.2.2"])
    await eventually(lambda: [each.verdict("192.0.2.2") for each in both] == ["", ""])


async def eventually_admitted(world: World, gateway: RunningGateway) -> RawAnswer:
    """A refusal may be remembered for a second."""
    deadline = monotonic() + 2.0 + SLACK
    while True:
        answer = await asked(world, gateway)
        if answer.status == 200 or monotonic() > deadline:
            assert answer.status == 200
            return answer
        await soon(0.05)


@pytest.mark.parametrize(
    "garbage",
    [
        ("SET", "x" * 100),
        ("SET", "nan"),
        ("SET", "inf"),
        ("SET", "1e400"),
        ("SET", "-inf"),
        ("RPUSH", "a", "b"),
        ("HSET", "a", "1"),
    ],
    ids=lambda words: " ".join(words)[:12],
)
@pytest_twisted.ensureDeferred
async def test_what_it_knows_makes_no_sense(
    world: World, redis: RedisServer, garbage: tuple[str, ...]
) -> None:
    """A key that somebody has spoilt counts as none, and is good again after the next request."""
    gateway = await limited(world, patient(redis), rate_limits={"it": bucket(3)})
    await asked(world, gateway)
    (key,) = [each for each in redis.cli("KEYS", "*127.0.0.1*").split("\n") if each]
    redis.command("DEL", key)
    redis.command(garbage[0], key, *garbage[1:])
    assert await statuses(world, gateway, 4) == [200, 200, 200, 429]
    assert int(redis.cli("PTTL", key)) > 0


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
async def test_a_wrong_password(world: World, start: Start, said: list[str]) -> None:
    """Clients are served within the time that a start may take; it is said once, without words
    that nobody may know."""
    server = start(password="the right one")
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
async def test_a_failover(world: World, start: Start) -> None:
    """The master dies; a Sentinel names its replica; nobody sees an error, and what was counted
    still counts."""
    master = start()
    replica = start(replica_of=master)
    await eventually(lambda: "state=online" in master.cli("INFO", "replication"))
    sentinel = start(sentinel=Watched("limits", master))
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


# -- what clients see of it ---------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_other_answers(world: World, redis: RedisServer) -> None:
    """Pipelined, repeated, by HTTP/1.0, HEAD and without a body: each with what was left then."""
    upstream = await world.upstream(b"HTTP/1.1 204 No Content\r\n\r\n")
    gateway = await world.gateway(upstream, state=patient(redis), rate_limits={"it": bucket(30)})
    client = await world.client(gateway, get(PATH) * 10)
    assert [left(await client.answer()) for _ in range(10)] == list(range(29, 19, -1))
    for remaining in range(19, 9, -1):
        client.send(get(PATH))
        assert left(await client.answer()) == remaining
    for remaining, request in enumerate(
        (get(PATH, version="1.0"), b"HEAD" + get(PATH)[3:], get(PATH, "Connection: close"))
    ):
        other = await world.client(gateway, request)
        assert left(await other.answer(to=request.split(b" ")[0])) == 9 - remaining
    client.send(get(PATH) * 8)
    assert [(await client.answer()).status for _ in range(8)] == [204] * 7 + [429]


@pytest_twisted.ensureDeferred
async def test_odd_values(world: World, redis: RedisServer) -> None:
    """Whatever a header has is a key of its own in Redis, of bounded length, that ends."""
    gateway = await limited(
        world, patient(redis), rate_limits={"it": bucket(1, per="header:x-tenant")}
    )
    odd = [b"\xff", b"\xc3\xbc", b"a|b", b"{x}", b"}{", b"x" * 8000, b"%s%d", b"a b", b"*", b"?[a]"]
    for value in odd:
        client = await world.client(gateway)
        client.send(b"GET /api/main/x HTTP/1.1\r\nHost: test\r\nX-Tenant: %b\r\n\r\n" % value * 2)
        assert [(await client.answer()).status for _ in range(2)] == [200, 429], value
    keys = redis.command("KEYS", "*x-tenant*")
    assert len(keys) == len(odd)
    assert all(key.startswith(b"{rtgateway}") and len(key) < 128 for key in keys)
    assert all(redis.command("PTTL", key) > 0 for key in keys)


WINDOWS: dict[str, dict[str, Any]] = {
    "token_bucket": {"capacity": 2, "refill_rate": 1},
    "leaky_bucket": {"capacity": 2, "refill_rate": 1},
    "gcra": {"limit": 1, "window": "1s"},
    "shaper": {"refill_rate": 1, "queue": 0},
    "fixed_window": {"limit": 2, "window": "1s"},
    "sliding_window": {"limit": 2, "window": "700ms"},
    "sliding_log": {"limit": 2, "window": "1s"},
}


@pytest_twisted.ensureDeferred
async def test_who_waits_as_long_as_told_is_admitted(world: World, redis: RedisServer) -> None:
    """By the clock of Redis too, and though refusals are remembered here."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=patient(redis),
        routes=[{"path": f"/{name}", "service": "main", "name": name} for name in WINDOWS],
        rate_limits={
            name: {"algorithm": name, **each, "routes": [name]} for name, each in WINDOWS.items()
        },
    )
    await ready(gateway)

    async def wait_and_ask(name: str) -> None:
        client = await world.client(gateway)

        async def ask() -> RawAnswer:
            client.send(get(f"/{name}"))
            return await client.answer()

        for _ in range(2):
            while (answer := await ask()).status == 200:
                pass
            assert answer.status == 429
            assert (await ask()).status == 429
            seconds = int(answer.header(b"retry-after") or 0)
            assert 1 <= seconds <= 2
            await soon(seconds)
            assert (await ask()).status == 200, name

    await DeferredList(
        [Deferred.fromCoroutine(wait_and_ask(name)) for name in WINDOWS],
        fireOnOneErrback=True,
        consumeErrors=True,
    )


@pytest_twisted.ensureDeferred
async def test_streams(world: World, redis_server: RedisServer) -> None:
    """WebSockets and streams of events that are open do not care; new ones are let in."""
    upstream = await WebSocketUpstream.listening()
    world.keep(upstream)
    events = await world.upstream(event_stream() + b"4\r\n:hi\n\r\n")
    gateway = await world.gateway(
        upstream,
        services={"main": f"ws://127.0.0.1:{upstream.port}", "events": events.url},
        state=hasty(redis_server),
        rate_limits={"it": bucket(9)},
    )
    await ready(gateway)
    old = await WebSocketClient.open(gateway.port, "/ws/main")
    stream = await world.client(gateway, get("/sse/events/x"))
    await eventually(lambda: b":hi" in stream.received)
    redis_server.pause()
    new = await WebSocketClient.open(gateway.port, "/ws/main")
    assert new.handshake is not None
    assert new.handshake.all(b"x-ratelimit-mode") == [b"degraded"]
    later = await world.client(gateway, get("/sse/events/x"))
    await eventually(lambda: b":hi" in later.received)
    assert b"\r\nX-RateLimit-Mode: degraded\r\n" in later.received
    for connection in events.connections:
        connection.send(b"4\r\n:ho\n\r\n")
    await eventually(lambda: b":ho" in stream.received and b":ho" in later.received)
    old.text("hello")
    socket = await upstream.socket(0)
    assert (await socket.message())[1] == b"hello"
    redis_server.resume()
    old.abort()
    new.abort()


@pytest_twisted.ensureDeferred
async def test_many_keys(world: World, redis: RedisServer) -> None:
    """Each has its own in Redis, and all of them are gone after their time."""
    gateway = await limited(
        world, patient(redis), rate_limits={"it": bucket(1, refill_rate=1, per="header:x-tenant")}
    )
    clients = [await world.client(gateway) for _ in range(10)]
    for first in range(0, 3000, 1000):
        for place, client in enumerate(clients):
            for number in range(first + 100 * place, first + 100 * place + 100):
                client.send(get(PATH, f"X-Tenant: t{number}"))
        for client in clients:
            for _ in range(100):
                assert (await client.answer()).status == 200
    await eventually(lambda: int(redis.cli("DBSIZE")) < 100)


# -- everything at once -------------------------------------------------------------------------

EVERYTHING: dict[str, dict[str, Any]] = {
    "by-ip": {**bucket(300, refill_rate=50), "cost": {"header": "x-cost", "most": 9}},
    "by-identity": {"algorithm": "gcra", "limit": 60, "window": "1s", "per": "identity"},
    "by-header": {
        "algorithm": "sliding_log",
        "limit": 40,
        "window": "1s",
        "per": "header:x-tenant",
    },
    "by-claim": {
        "algorithm": "sliding_window",
        "limit": 80,
        "window": "1s",
        "per": ["claim:tenant", "route"],
        "plans": {"claim": "plan", "values": {"gold": {"limit": 90}}},
        "on_store_failure": "allow",
    },
    "all": {"algorithm": "adaptive", "capacity": 400, "refill_rate": 400, "per": "global"},
    "service": {"algorithm": "fixed_window", "limit": 300, "window": "1s", "per": "service"},
    "paced": {"algorithm": "shaper", "refill_rate": 1000, "queue": 20, "per": ["ip", "route"]},
    "leaky": {
        "algorithm": "leaky_bucket",
        "capacity": 100,
        "refill_rate": 100,
        "on_store_failure": "deny",
        "overrides": {"ann": {"capacity": 9}, "ip:127.0.0.1": {"refill_rate": 200}},
    },
    "trial": {**bucket(5, refill_rate=5), "report_only": True, "per": "route"},
}


@pytest.mark.parametrize("seed", range(2))
@pytest_twisted.ensureDeferred
async def test_everything_at_once(world: World, redis_server: RedisServer, seed: int) -> None:
    """All algorithms and keys, while numbers, lists and bans change, and Redis is at its worst:
    every request has an answer, by the rules, and no error of the gateway's own."""
    dice = Random(seed)
    gateway = await limited(
        world,
        hasty(redis_server, heartbeat="200ms", leases={"duration": "200ms"}),
        auth={"required": False, "jwt": {"secret": SECRET}},
        penalties={"refusals": 30, "window": "1s", "duration": "1s", "factor": 1},
        routes=[{"path": "/free", "service": "main", "name": "free"}],
        rate_limits=EVERYTHING,
    )
    service = gateway.service
    tokens = [bearer("ann"), bearer("bob", tenant="acme", plan="gold"), bearer("cyd", tenant=[1])]

    def request() -> bytes:
        lines = [dice.choice([*tokens, "X-Tenant: a", "X-Tenant:", "X-Cost: 7", "X-Cost: -1"])]
        lines += dice.choices(["X-Tenant: b", "X-Cost: 99999999999999", "Accept: text/html"])
        if dice.random() < 0.1:
            return post(dice.choice([PATH, "/free"]), b"body", *lines)
        return get(dice.choice([PATH, "/free", "/api/main"]), *lines)

    async def ask() -> Counter[int]:
        seen: Counter[int] = Counter()
        for _ in range(40):
            client = await world.client(gateway)
            number = dice.randrange(1, 6)
            client.send(b"".join(request() for _ in range(number)))
            if dice.random() < 0.1:
                client.abort()
                continue
            for _ in range(number):
                seen[(await client.answer()).status] += 1
            client.close()
            await soon(dice.random() * 0.02)
        return seen

    async def reset(subject: str) -> None:
        # It may wait for what only a Task knows how to wait for.
        done: Deferred[None] = Deferred()

        async def resetting() -> None:
            await service.limits.reset(subject)
            done.callback(None)

        Task(resetting()).step()
        await done

    async def disturb() -> None:
        lists, bans, limits = service.ip_lists, service.bans, service.limits
        for _ in range(25):
            what = dice.randrange(9)
            with suppress(StoreError):
                if what == 0:
                    await limits.change("by-ip", {"capacity": dice.randrange(50, 500)}, True)
                elif what == 1:
                    await limits.change("service", {"limit": dice.randrange(50, 500)}, False)
                elif what == 2:
                    await (lists.add if dice.random() < 0.5 else lists.remove)(
                        "deny", ["127.0.0.1"]
                    )
                elif what == 3:
                    await bans.lift("ip:127.0.0.1")
                elif what == 4:
                    service.limits.tick(monotonic(), dice.choice([0.0, 5.0]), 0.0)
                elif what == 5:
                    await reset(dice.choice(["ip:127.0.0.1", "identity:ann", "global"]))
                elif what == 6:
                    redis_server.cli(*dice.choice([("SCRIPT", "FLUSH"), ("FLUSHALL",)]))
                elif what == 7:
                    redis_server.cli("CLIENT", "KILL", "TYPE", dice.choice(["normal", "pubsub"]))
                else:
                    redis_server.pause()
                    await soon(dice.random() * 0.2)
                    redis_server.resume()
            await soon(dice.random() * 0.05)

    asking = [Deferred.fromCoroutine(ask()) for _ in range(4)]
    disturbing = Deferred.fromCoroutine(disturb())
    seen = Counter[int]()
    for each in asking:
        seen += await each
    await disturbing
    assert set(seen) <= {200, 403, 429, 503}, seen
    # Whatever it was, it is over when nobody asks for a while.
    await patiently(lambda: service.ip_lists.remove("deny", ["127.0.0.1"]))
    deadline = monotonic() + 5.0 + SLACK
    while (answer := await asked(world, gateway, path="/free")).status != 200:
        assert monotonic() < deadline, answer.raw
        await soon(1.1)
