"""Three gateways that share a breaker: what one finds out, all know; both keepers, one suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import LoopingCall

from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.shared_breaker import SharedBreaker
from rtgateway.store.breakers import Breakers, Keeper, MemoryKeeper
from rtgateway.store.redis.breakers import RedisKeeper
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually, soon, the_reactor
from tests.store.conftest import MakeLink

SETTINGS = BreakerSettings(
    failure_threshold=3, success_threshold=1, timeout=0.15, jitter=0.0, half_open_calls=1
)


class Gateway:
    """One of several, with a breaker of the same instance."""

    def __init__(self, number: int, keeper: Keeper, settings: BreakerSettings) -> None:
        self.woken = 0
        self.keeper = keeper
        self.breakers = Breakers(keeper, the_reactor(), f"gateway{number}", lambda: 0.5)
        self.breaker = self.make(settings)
        self.ticking = LoopingCall(lambda: self.breakers.tick(monotonic()))
        self.ticking.clock = the_reactor()
        self.ticking.start(0.1)

    def make(self, settings: BreakerSettings) -> SharedBreaker:
        return self.breakers.breaker("users a:1", settings, lambda change: None, self.granted)

    def granted(self) -> None:
        self.woken += 1

    def call(self, failed: bool = False, seconds: float = 0.01) -> None:
        now = monotonic()
        self.breaker.record(self.breaker.acquire(now), now, seconds, failed)

    @property
    def ready(self) -> bool:
        return self.breaker.ready(monotonic())

    def close(self) -> None:
        self.ticking.stop()
        self.breakers.stop()


Make = Callable[..., list[Gateway]]


@pytest.fixture
def opened() -> Iterator[list[Gateway]]:
    """Gateways that are closed after the test."""
    made: list[Gateway] = []
    yield made
    for gateway in made:
        gateway.close()


@pytest.fixture(params=["memory", "redis"])
def make(request: Any, make_link: MakeLink, redis: RedisServer, opened: list[Gateway]) -> Make:
    """``make(settings)``: three gateways with one keeper."""
    memory = MemoryKeeper()

    def gateways(settings: BreakerSettings = SETTINGS) -> list[Gateway]:
        for number in range(3):
            keeper = memory if request.param == "memory" else RedisKeeper(make_link(redis))
            opened.append(Gateway(number, keeper, settings))
        return opened

    return gateways


async def all_are(gateways: list[Gateway], state: str) -> None:
    """Joined, and in this state."""
    await eventually(
        lambda: all(each.breaker.joined and each.breaker.state == state for each in gateways)
    )


async def probe(gateway: Gateway) -> int:
    """A permit for a probe."""
    await eventually(lambda: gateway.ready)
    return gateway.breaker.acquire(monotonic())


@pytest_twisted.ensureDeferred
async def test_failures_of_all_add_up(make: Make) -> None:
    """Three failures in a row, one at each gateway, open it at all of them."""
    gateways = make()
    await all_are(gateways, "closed")
    for gateway in gateways:
        gateway.call(failed=True)
        assert gateway.breaker.state == "closed"
    await all_are(gateways, "open")
    for gateway in gateways:
        assert gateway.breaker.changes[-1].reason == "3 failures in a row"
        assert gateway.breaker.mode == "shared"
        assert not gateway.ready
    assert len({each.breaker.version for each in gateways}) == 1


@pytest_twisted.ensureDeferred
async def test_a_good_call_ends_the_row(make: Make) -> None:
    """Also that of another gateway."""
    gateways = make()
    await all_are(gateways, "closed")
    a, b, _ = gateways
    a.call(failed=True)
    a.call(failed=True)
    await soon(0.05)
    b.call()
    await soon(0.25)
    b.call(failed=True)
    await soon(0.15)
    assert {each.breaker.state for each in gateways} == {"closed"}


@pytest_twisted.ensureDeferred
async def test_probes_need_a_grant(make: Make) -> None:
    """One at a time over all gateways; a good one closes it everywhere."""
    gateways = make(replace(SETTINGS, success_threshold=2))
    await all_are(gateways, "closed")
    for _ in range(3):
        gateways[0].call(failed=True)
    await all_are(gateways, "open")
    a, b, c = gateways
    permit = await probe(a)
    await all_are(gateways, "half_open")
    assert a.woken == 1
    for _ in range(5):
        assert not any(each.ready for each in gateways)
        await soon(0.05)
    assert sum(each.breaker.probes for each in gateways) == 1
    a.breaker.record(permit, monotonic(), 0.01, False)
    permit = await probe(b)
    assert not c.ready
    b.breaker.record(permit, monotonic(), 0.01, False)
    await all_are(gateways, "closed")
    assert c.breaker.changes[-1].reason == "2 probes succeeded"
    assert not any(each.breaker.occupied for each in gateways)


@pytest_twisted.ensureDeferred
async def test_a_failed_probe_opens_it_for_longer(make: Make) -> None:
    gateways = make()
    await all_are(gateways, "closed")
    for _ in range(3):
        gateways[1].call(failed=True)
    await all_are(gateways, "open")
    permit = await probe(gateways[2])
    gateways[2].breaker.record(permit, monotonic(), 0.01, True)
    await all_are(gateways, "open")
    for gateway in gateways:
        rest = gateway.breaker.open_until - gateway.breaker.since
        assert 0.25 < rest <= 0.3001, rest
        assert gateway.breaker.changes[-1].reason == "probe failed"


@pytest_twisted.ensureDeferred
async def test_a_grant_that_nobody_uses_goes_back(make: Make) -> None:
    """After a second at most; a probe whose client left frees its slot at once."""
    gateways = make()
    await all_are(gateways, "closed")
    for _ in range(3):
        gateways[0].call(failed=True)
    a, b, _ = gateways
    permit = await probe(a)
    a.breaker.release(permit, monotonic())
    await eventually(lambda: b.ready)
    # It is there for b, which does not use it.
    permit = await probe(a)
    a.breaker.record(permit, monotonic(), 0.01, False)
    await all_are(gateways, "closed")


@pytest_twisted.ensureDeferred
async def test_orders_are_shared(make: Make) -> None:
    """What an operator does at one gateway holds at all, and ends at all."""
    gateways = make()
    await all_are(gateways, "closed")
    a, b, c = gateways
    a.breaker.force_open(monotonic())
    assert a.breaker.state == "forced_open"
    await all_are(gateways, "forced_open")
    assert not any(each.ready for each in gateways)
    b.breaker.disable(monotonic())
    await all_are(gateways, "disabled")
    assert all(each.ready for each in gateways)
    c.breaker.reset(monotonic())
    await all_are(gateways, "closed")
    assert a.breaker.changes[-1].reason == "reset by an operator"


@pytest_twisted.ensureDeferred
async def test_who_comes_later_joins(make: Make) -> None:
    """A breaker that is new finds what the others know; one that is not needed is forgotten."""
    gateways = make(replace(SETTINGS, timeout=60.0))
    await all_are(gateways, "closed")
    for _ in range(3):
        gateways[0].call(failed=True)
    await all_are(gateways, "open")
    a = gateways[0]
    late = a.make(SETTINGS)
    await eventually(lambda: late.joined)
    assert late.state == "open"
    a.breakers.forget(late)
    assert (len(a.breakers), late.mode) == (1, "alone")


@pytest.fixture
def three(redis_server: RedisServer, make_link: MakeLink, opened: list[Gateway]) -> list[Gateway]:
    """Three gateways with a Redis that a test may harm."""
    for number in range(3):
        keeper = RedisKeeper(make_link(redis_server))
        opened.append(Gateway(number, keeper, replace(SETTINGS, timeout=2.0)))
    return opened


async def alone(gateways: list[Gateway]) -> None:
    """They have found out that there is no store."""

    def found_out() -> bool:
        for each in gateways:
            each.breaker.look_again()
        return not any(each.breaker.joined for each in gateways)

    await eventually(found_out)


@pytest_twisted.ensureDeferred
async def test_without_redis_each_is_its_own(
    redis_server: RedisServer, three: list[Gateway]
) -> None:
    """They go on from what they know; the shared state wins when it is back."""
    await all_are(three, "closed")
    redis_server.pause()
    three[0].call()
    await alone(three)
    a, b, c = three
    for _ in range(3):
        a.call(failed=True)
    assert [each.breaker.state for each in three] == ["open", "closed", "closed"]
    a.breaker.disable(monotonic())
    b.breaker.disable(monotonic())
    b.breaker.reset(monotonic())
    redis_server.resume()
    # Orders given meanwhile arrive, in whatever order; a claim of nobody is left.
    await eventually(
        lambda: (
            all(each.breaker.joined for each in three)
            and len({(each.breaker.version, each.breaker.state) for each in three}) == 1
        )
    )
    assert c.breaker.state in ("closed", "disabled")


@pytest_twisted.ensureDeferred
async def test_redis_loses_it(redis_server: RedisServer, three: list[Gateway]) -> None:
    """A restart forgets everything: who is open says so, and nobody flaps."""
    await all_are(three, "closed")
    for _ in range(3):
        three[0].call(failed=True)
    await all_are(three, "open")
    for each in three:
        each.breaker.open_until += 60  # So that nobody probes meanwhile.
    before = [len(each.breaker.changes) for each in three]
    redis_server.restart()
    await eventually(lambda: not all(each.breaker.joined for each in three))
    await eventually(lambda: all(each.breaker.joined for each in three))
    assert {each.breaker.state for each in three} == {"open"}
    assert [len(each.breaker.changes) for each in three] == before


@pytest_twisted.ensureDeferred
async def test_nonsense_is_not_believed(redis: RedisServer, make_link: MakeLink) -> None:
    """Announcements that are none change nothing, and neither does a record that was spoilt."""
    gateway = Gateway(0, RedisKeeper(make_link(redis)), SETTINGS)
    try:
        await all_are([gateway], "closed")
        version = gateway.breaker.version
        for text in (b"", b"{}", b"[1]", b'["users a:1","ajar","1","1","1","",0]', b"x" * 5000):
            redis.command("PUBLISH", "{rtgateway}:breakers", text)
        news = ["users a:1", "open", str(version + 1), "1", "60", "\u00fcber", 0]
        redis.command("PUBLISH", "{rtgateway}:breakers", json.dumps(news))
        await eventually(lambda: gateway.breaker.state == "open")
        redis.command("DEL", "{rtgateway}:breaker:users a:1")
        redis.command("SET", "{rtgateway}:breaker:users a:1", "x")
        await alone([gateway])
    finally:
        gateway.close()
