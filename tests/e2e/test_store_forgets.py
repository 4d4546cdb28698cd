"""Whole gateways whose Redis has forgotten, or knows what makes no sense; and what clients see.

What it is like when it is not there: ``test_store_faults.py``.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from random import Random
from time import monotonic
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from rtgateway.net.tasks import Task
from rtgateway.store.errors import StoreError
from rtgateway.testing import RawAnswer, RunningGateway, eventually
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import soon
from rtgateway.testing.websocket import WebSocketClient, WebSocketUpstream
from tests.e2e.faulty import (
    PATH,
    SLACK,
    Load,
    degraded,
    hasty,
    left,
    limited,
    patient,
    patiently,
    ready,
)
from tests.e2e.test_rate_limits import SECRET, asked, bearer, bucket, statuses
from tests.e2e.world import World, event_stream, get, post, with_length

__all__: list[str] = []


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
