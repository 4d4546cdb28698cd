"""Shared limits with a real Redis: leases, what comes back, and a server that hangs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest_twisted

from rtgateway.core.limits import TokenBucket
from rtgateway.store.limits.asked import Ask, Outcome
from rtgateway.store.limits.memory import MemoryLimits
from rtgateway.store.limits.shared import SharedLimits
from rtgateway.testing.redis import RedisServer
from tests.helpers import eventually
from tests.store.limit_model import ALimiter, Gateways, Settings


def limits_of(link: Any, count: int) -> SharedLimits:
    from rtgateway.store.limits.redis import RedisLimits

    limits = SharedLimits(
        RedisLimits(link), MemoryLimits(1000), link, Gateways(count), Settings(), settle=0.1
    )
    limits._leases._from = 0.0
    return limits


async def decided(limits: SharedLimits, ask: Ask) -> Outcome:
    outcome = limits.decide((ask,))
    return outcome if isinstance(outcome, Outcome) else await outcome


@pytest_twisted.ensureDeferred
async def test_leases_of_two_gateways(redis: RedisServer, links: Callable[..., Any]) -> None:
    """Together they admit what there is, most of it without a call; what is left comes back."""
    limiter = ALimiter("api", TokenBucket(1000, 0.01), "deny")
    gateways = []
    for _ in range(2):
        link = links(redis, timeout=5.0)
        await eventually(lambda link=link: link.up)
        gateways.append(limits_of(link, 2))
    limiter.algorithm = TokenBucket(1000, 200)
    wide = Settings(duration=1.0)
    assert wide.enabled
    for _ in range(150):
        for limits in gateways:
            assert (await decided(limits, limiter.ask())).admitted
    assert sum(limits.tallies()["api"].local for limits in gateways) > 100
    for limits in gateways:
        limits.surrender()
    look = limiter.ask(cost=0)
    await eventually(lambda: all(not limits._leases.live(0.0) for limits in gateways))
    found = [(await decided(limits_of(link, 1), look)).taken[0]]
    assert found[0] is not None
    assert found[0].remaining >= 700


@pytest_twisted.ensureDeferred
async def test_hung(redis_server: RedisServer, links: Callable[..., Any]) -> None:
    """Decided without it after the deadline; at once when that has been seen; then with it."""
    limiter = ALimiter("api", TokenBucket(1000, 1000), "allow")
    link = links(redis_server)
    await eventually(lambda: link.up)
    limits = limits_of(link, 1)
    await eventually(lambda: link.up)
    redis_server.pause()
    outcomes = [await decided(limits, limiter.ask(f"k{i}")) for i in range(4)]
    assert outcomes[-1] == Outcome(True, [None], 0.0, True)
    assert not link.up
    assert limits.decide((limiter.ask("another"),)) == Outcome(True, [None], 0.0, True)
    redis_server.resume()
    await eventually(lambda: link.up)
    outcome = await decided(limits, limiter.ask("later"))
    assert outcome.admitted
