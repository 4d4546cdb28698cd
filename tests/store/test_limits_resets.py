"""What is forgotten in Redis is forgotten by all gateways, at once."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from rtgateway.core.limits import TokenBucket
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.memory import MemoryLimits
from rtgateway.store.limits.redis import RedisLimits
from rtgateway.store.limits.shared import SharedLimits
from rtgateway.store.redis.events import Events
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually
from tests.store.conftest import MakeLink
from tests.store.limit_cases import settled
from tests.store.limit_model import ALimiter, Gateways, Settings
from tests.store.test_limits_shared_redis import decided

__all__: list[str] = []

SOON = 0.1
"""Seconds within which all gateways know; and what a busy machine takes."""

SLACK = 0.4

MakeGateway = Callable[[], Deferred[SharedLimits]]


@pytest.fixture
def make_gateway(redis: RedisServer, make_link: MakeLink) -> MakeGateway:
    """One of two, with all that it hears of the other."""

    async def make() -> SharedLimits:
        link = make_link(redis, timeout="5s")
        shared = RedisLimits(link)
        memory = MemoryLimits(1000)
        limits = SharedLimits(shared, memory, link, Gateways(2), Settings(), settle=0.1)
        limits._leases._from = 0.0
        shared.on_reset(Events(link), limits.forget)
        connected: list[bool] = []
        link.on_connected(lambda: connected.append(True))
        await eventually(lambda: link.up and connected)
        return limits

    return lambda: Deferred.fromCoroutine(make())


async def known(what: Callable[[], object]) -> None:
    """Wait for something that all gateways are told."""
    asked = monotonic()
    await eventually(what)
    assert monotonic() - asked < SOON + SLACK


@pytest_twisted.ensureDeferred
async def test_leases_and_refusals_of_both(make_gateway: MakeGateway) -> None:
    """A reset at one ends those of the other, which returns nothing: both begin anew."""
    api = ALimiter("api", TokenBucket(1000, 200))
    few = ALimiter("few", TokenBucket(3, 0.001))
    one, two = await make_gateway(), await make_gateway()
    for _ in range(60):
        for limits in (one, two):
            assert (await decided(limits, api.ask())).admitted
    for limits in (one, two):
        assert limits.live_leases() == {"api": 1}
        while (await decided(limits, few.ask())).admitted:
            pass
    lost = two.tallies()["api"].lost
    assert await settled(one.reset([api, few], "k")) == 2
    assert one.live_leases() == {}
    assert (await decided(one, few.ask())).admitted
    await known(lambda: two.live_leases() == {})
    assert two.tallies()["api"].lost > lost
    admitted = [(await decided(limits, few.ask())).admitted for limits in (two, one, two)]
    assert admitted == [True, True, False], "with the first one, three"
    taken = (await decided(two, api.ask(cost=0))).taken[0]
    assert taken is not None
    assert taken.remaining == 1000


@pytest_twisted.ensureDeferred
async def test_all_that_matches(make_gateway: MakeGateway, redis: RedisServer) -> None:
    """Among very many other keys, with letters that mean something to Redis in patterns."""
    limiters = [ALimiter(name, TokenBucket(1, 0.001)) for name in ("a", "ab", "other")]
    subject = r"x:[*]?\-^"
    keys = [f"{subject}|ip:{i}" for i in range(700)] + [f"x:2|ip:{subject}", "x:*|ip:0"]
    one, two = await make_gateway(), await make_gateway()
    for i in range(0, len(keys), 100):
        for each in limiters:
            for key in keys[i : i + 100]:
                assert (await decided(two, each.ask(key))).admitted
    fill = "for i = 1, 20000 do redis.call('SET', 'else:' .. i, 1) end"
    redis.command("EVAL", fill, 0)
    assert not (await decided(two, limiters[0].ask(keys[5]))).admitted

    def about(key: str) -> bool:
        return subject in key.split("|")

    assert await settled(one.reset_matching(limiters[:2], subject, about)) == 1400
    await known(lambda: two._keys.find(("a", keys[5])).refused_until == 0.0)  # type: ignore[union-attr]
    assert (await decided(two, limiters[0].ask(keys[5]))).admitted
    assert (await decided(one, limiters[1].ask(keys[699]))).admitted
    for key in keys[700:]:
        assert not (await decided(one, limiters[0].ask(key))).admitted
    assert not (await decided(one, limiters[2].ask(keys[5]))).admitted
    assert await settled(one.reset_matching(limiters[:2], subject, about)) == 2


@pytest_twisted.ensureDeferred
async def test_a_search_that_takes_too_long(
    make_gateway: MakeGateway, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is given up, and said not to have come to its end."""
    one = await make_gateway()
    api = ALimiter("api", TokenBucket(1, 0.001))
    assert (await decided(one, api.ask())).admitted
    monkeypatch.setattr("rtgateway.store.limits.redis._PATIENCE", 0.0)
    assert await settled(one.reset_matching([api], "k", "k".__eq__)) == -1
    assert not (await decided(one, api.ask())).admitted


@pytest_twisted.ensureDeferred
async def test_without_redis(redis_server: RedisServer, make_link: MakeLink) -> None:
    """It is said at once that nothing can be forgotten."""
    link = make_link(redis_server)
    await eventually(lambda: link.up)
    redis_server.kill()
    await eventually(lambda: not link.up)
    limits = RedisLimits(link)
    api = ALimiter("api", TokenBucket(1, 0.001))
    answers: list[Any] = []
    limits.reset([api], "k", lambda *each: answers.append(each))
    assert answers[0][0] is None
    with pytest.raises(StoreError):
        await limits.reset_matching([api], "k", "k".__eq__)
