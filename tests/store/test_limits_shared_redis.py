"""Shared limits with a real Redis: leases, what comes back, and a server that hangs."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from rtgateway.core.limits import TokenBucket
from rtgateway.net.tasks import Task
from rtgateway.store.limits.asked import Ask, Outcome
from rtgateway.store.limits.memory import MemoryLimits
from rtgateway.store.limits.shared import SharedLimits
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually
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
    if isinstance(outcome, Outcome):
        return outcome
    waiter = outcome
    fired: Deferred[Outcome] = Deferred()

    async def wait() -> None:
        fired.callback(await waiter)

    Task(wait()).step()
    return await fired


@pytest_twisted.ensureDeferred
async def test_leases_of_two_gateways(redis: RedisServer, make_link: Callable[..., Any]) -> None:
    """Together they admit what there is, most of it without a call; what is left comes back."""
    limiter = ALimiter("api", TokenBucket(1000, 200), "deny")
    gateways = []
    for _ in range(2):
        link = make_link(redis, timeout=5.0)
        await eventually(lambda link=link: link.up)  # type: ignore[misc]
        gateways.append(limits_of(link, 2))
    for _ in range(150):
        for limits in gateways:
            assert (await decided(limits, limiter.ask())).admitted
    assert sum(limits.tallies()["api"].local for limits in gateways) > 100
    for limits in gateways:
        limits.surrender()
    tallies = [limits.tallies()["api"] for limits in gateways]

    def all_back() -> bool:
        for limits in gateways:
            # A lease that was on its way comes back a little later.
            limits.tick(monotonic())
        return not any(limits._keys.held for limits in gateways)

    await eventually(all_back)
    assert all(each.returned > 0 and not each.lost for each in tallies)
    taken = (await decided(limits_of(link, 1), limiter.ask(cost=0))).taken[0]
    assert taken is not None
    assert taken.remaining >= 700


@pytest_twisted.ensureDeferred
async def test_hung(redis_server: RedisServer, make_link: Callable[..., Any]) -> None:
    """Decided without it after the deadline; at once when that has been seen; then with it."""
    limiter = ALimiter("api", TokenBucket(1000, 1000), "allow")
    link = make_link(redis_server)
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
