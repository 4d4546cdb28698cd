"""Gateways know how many they are."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import pytest_twisted

from rtgateway.store.gateways import Alone
from rtgateway.store.redis.gateways import Gateways, name_of_this
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually, soon, the_reactor
from tests.store.conftest import MakeLink

BEAT = 0.1


def joined(make_link: MakeLink, server: RedisServer, name: str) -> Gateways:
    gateways = Gateways(make_link(server), name, BEAT, the_reactor())
    gateways.start()
    return gateways


def see(count: int, *all_of: Gateways) -> Callable[[], bool]:
    return lambda: all(each.count == count for each in all_of)


def test_alone() -> None:
    alone = Alone("a")
    alone.start()
    assert (alone.count, list(alone.names)) == (1, ["a"])
    assert alone.stop().called


def test_names_differ() -> None:
    chances = iter((0.1, 0.2))
    one, other = (name_of_this(lambda: next(chances)) for _ in range(2))
    assert one != other


@pytest_twisted.ensureDeferred
async def test_all_know_of_those_who_come_leave_and_die(
    redis: RedisServer, make_link: MakeLink
) -> None:
    a, b, c = (joined(make_link, redis, name) for name in "abc")
    await eventually(see(3, a, b, c))
    assert a.names == ["a", "b", "c"]
    await b.stop()
    await eventually(see(2, a, c))
    c._running = False  # It dies: no word any more, and none of leaving.
    c._timer.cancel()
    await eventually(see(1, a))
    await a.stop()
    assert redis.command("EXISTS", "{rtgateway}:gateways") == 0


@pytest_twisted.ensureDeferred
async def test_what_is_kept_ends_with_the_last_of_them(
    redis: RedisServer, make_link: MakeLink
) -> None:
    a = joined(make_link, redis, "a")
    await eventually(lambda: redis.command("EXISTS", "{rtgateway}:gateways"))
    left = int(redis.command("PTTL", "{rtgateway}:gateways"))
    assert 0 < left <= 5 * BEAT * 1000
    await a.stop()


@pytest_twisted.ensureDeferred
async def test_the_number_stays_known_without_redis(
    redis_server: RedisServer, make_link: MakeLink
) -> None:
    a, b = (joined(make_link, redis_server, name) for name in "ab")
    await eventually(see(2, a, b))
    redis_server.kill()
    await soon(3 * BEAT)
    assert (a.count, b.count) == (2, 2)
    counts = []
    redis_server.start()
    await eventually(lambda: redis_server.command("EXISTS", "{rtgateway}:gateways"))
    # Whoever came first found himself alone in an empty Redis.
    while redis_server.command("ZCARD", "{rtgateway}:gateways") < 2:
        counts.append((a.count, b.count))
        await soon()
    assert set(counts) <= {(2, 2)}
    await a.stop()
    await b.stop()
    assert (a.count, b.count) == (2, 2)


@pytest_twisted.ensureDeferred
async def test_a_redis_that_lost_all(redis: RedisServer, make_link: MakeLink) -> None:
    """Connections stand: nothing tells that it did. Whoever is first finds himself alone there."""
    a, b = (joined(make_link, redis, name) for name in "ab")
    await eventually(see(2, a, b))
    counts = set()
    redis.command("FLUSHALL")
    until = monotonic() + 4 * BEAT
    while monotonic() < until:
        counts.add((a.count, b.count))
        await soon()
    assert counts == {(2, 2)}
    await a.stop()
    await eventually(see(1, b))
    await b.stop()
