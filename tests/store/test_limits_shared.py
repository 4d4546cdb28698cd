"""Limits that all gateways share: leases, refusals that are remembered, and a store that fails."""

from __future__ import annotations

import math

import pytest

from rtgateway.core.limits import FixedWindow, Shaper, SlidingLog, TokenBucket
from rtgateway.net.tasks import Waiter
from rtgateway.store.limits.asked import Outcome
from rtgateway.store.limits.keys import Keys
from tests.store.limit_model import (
    ALimiter,
    Clock,
    Gateway,
    Gateways,
    ModelStore,
    Settings,
    settled,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> ModelStore:
    return ModelStore(clock)


@pytest.fixture
def gateway(store: ModelStore, clock: Clock) -> Gateway:
    return Gateway(store, clock)


@pytest.fixture
def limiter() -> ALimiter:
    return ALimiter("api", TokenBucket(1000, 1000))


def test_cold_key_asks_every_time(gateway: Gateway, limiter: ALimiter) -> None:
    for i in range(20):
        gateway.clock.now += 2.0
        outcome = gateway.decide(limiter.ask())
        assert outcome.admitted
        assert gateway.calls.asked == i + 1
    assert gateway.limits.live_leases() == {}


def test_hot_key_is_decided_by_lease(gateway: Gateway, limiter: ALimiter) -> None:
    """Few calls for many decisions, and not one unit more or less is taken."""
    admitted = gateway.warm(limiter.ask(), 200.0, 5.0)
    assert admitted == 1000
    assert gateway.calls.asked < 150
    assert gateway.limits.live_leases() == {"api": 1}
    tally = gateway.limits.tallies()["api"]
    assert tally.local > 850
    assert tally.leased >= tally.local
    gateway.limits.surrender()
    assert gateway.calls.store.taken["api"] - gateway.calls.store.given["api"] == 1000
    assert gateway.limits.live_leases() == {}


def test_no_leases(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """Not where they are off, and not of what can't be leased."""
    shaper = ALimiter("shaper", Shaper(1000, 1000))
    log = ALimiter("log", SlidingLog(1000, 1.0))
    off = ALimiter("off", limiter.algorithm, leases=False)
    for each in (shaper, log, off):
        gateway = Gateway(store, clock)
        gateway.warm(each.ask())
        assert gateway.calls.asked == 100
    gateway = Gateway(store, clock, settings=Settings(enabled=False))
    gateway.warm(limiter.ask())
    assert gateway.calls.asked == 100
    gateway = Gateway(store, clock, Gateways(800))
    gateway.warm(limiter.ask())
    assert gateway.calls.asked == 100, "the share of one is less than two units"


def test_lease_ends(gateway: Gateway, limiter: ALimiter) -> None:
    """What is left goes back with the next tick, and nothing of it is spent after the end."""
    gateway.warm(limiter.ask())
    asked = gateway.calls.asked
    gateway.clock.now += 3.01
    gateway.decide(limiter.ask())
    assert gateway.calls.asked == asked + 1
    gateway.clock.now += 3.01
    gateway.limits.tick(gateway.clock.now)
    store = gateway.calls.store
    assert store.taken["api"] - store.given["api"] == 101
    assert gateway.limits.tallies()["api"].returned == store.given["api"]


def test_idle_lease_goes_back(gateway: Gateway, limiter: ALimiter) -> None:
    gateway.warm(limiter.ask())
    store = gateway.calls.store
    gateway.clock.now += 1.4
    gateway.limits.tick(gateway.clock.now)
    assert store.taken["api"] - store.given.get("api", 0) > 100
    gateway.clock.now += 0.1
    gateway.limits.tick(gateway.clock.now)
    assert store.taken["api"] - store.given["api"] == 100


def test_lease_is_renewed_before_it_is_spent(store: ModelStore, clock: Clock) -> None:
    """With answers on their way, hardly a request waits."""
    limiter = ALimiter("api", TokenBucket(10_000, 10_000))
    gateway = Gateway(store, clock)
    gateway.warm(limiter.ask(), 500.0, 2.0)
    gateway.calls.at_once = False
    waited = 0
    for i in range(1000):
        clock.now += 0.002
        waited += isinstance(gateway.begin(limiter.ask()), Waiter)
        if i % 5 == 0:
            gateway.calls.deliver()
        if i % 50 == 0:
            gateway.limits.tick(clock.now)
    assert waited == 0
    assert all(sum(wants) < 1000 for wants in gateway.calls.wants)


def test_refusal_is_remembered(store: ModelStore, clock: Clock) -> None:
    """A key that is used up is asked for a hundred times a second at most, and admits in time."""
    limiter = ALimiter("api", TokenBucket(10, 1))
    gateway = Gateway(store, clock)
    for _ in range(10):
        assert gateway.decide(limiter.ask()).admitted
    first = gateway.decide(limiter.ask())
    assert not first.admitted
    asked = gateway.calls.asked
    for _ in range(9):
        clock.now += 0.1
        outcome = gateway.decide(limiter.ask())
        assert not outcome.admitted
        assert outcome.taken[0] is not None
        assert outcome.taken[0].wait == pytest.approx(1.0 - (clock.now - 1000.0))
        assert outcome.taken[0].remaining == 0
    assert gateway.calls.asked == asked
    clock.now = 1001.0001
    assert gateway.decide(limiter.ask()).admitted


def test_refusal_of_more_is_none_of_less(store: ModelStore, clock: Clock) -> None:
    limiter = ALimiter("api", TokenBucket(10, 1))
    gateway = Gateway(store, clock)
    assert gateway.decide(limiter.ask(cost=8)).admitted
    assert not gateway.decide(limiter.ask(cost=5)).admitted
    asked = gateway.calls.asked
    assert not gateway.decide(limiter.ask(cost=6)).admitted
    assert gateway.calls.asked == asked
    assert gateway.decide(limiter.ask(cost=2)).admitted
    assert not gateway.decide(limiter.ask(cost=11)).admitted
    outcome = gateway.decide(limiter.ask(cost=0))
    assert outcome.admitted, "a look is never refused"


def test_never(store: ModelStore, clock: Clock) -> None:
    """What can never be admitted is said to be so, and asked for once a second."""
    limiter = ALimiter("api", TokenBucket(10, 1))
    gateway = Gateway(store, clock)
    for _ in range(100):
        clock.now += 0.05
        outcome = gateway.decide(limiter.ask(cost=11))
        assert outcome.taken[0] is not None
        assert outcome.taken[0].wait == math.inf
    assert 5 <= gateway.calls.asked <= 6


def test_hot_empty_key_is_quiet(store: ModelStore, clock: Clock) -> None:
    """100,000 requests a second for a limit of 10,000: some hundred calls a second."""
    limiter = ALimiter("api", TokenBucket(10_000, 10_000))
    gateway = Gateway(store, clock)
    admitted = gateway.warm(limiter.ask(), 100_000.0, 0.5)
    assert gateway.calls.asked <= 300
    assert 14_900 <= admitted <= 15_000


def test_all_or_nothing(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """A lease gets back what the decision does not need, whoever refuses."""
    few = ALimiter("few", TokenBucket(50, 0.001))
    gateway = Gateway(store, clock)
    gateway.warm(limiter.ask())
    gateway.limits.tick(clock.now)
    both = (limiter.ask(), few.ask())
    admitted = sum(gateway.decide(*both).admitted for _ in range(200))
    assert admitted == 50
    refused = gateway.decide(*both)
    assert [each.wait > 0 for each in refused.taken if each] == [False, True]
    gateway.limits.surrender()
    assert store.taken["api"] - store.given["api"] == 150
    assert store.taken["few"] - store.given.get("few", 0) == 50


def test_same_key_twice(gateway: Gateway, limiter: ALimiter) -> None:
    """Each takes its own."""
    gateway.warm(limiter.ask())
    for _ in range(100):
        gateway.clock.now += 0.01
        assert gateway.decide(limiter.ask(cost=3), limiter.ask(cost=2)).admitted
    gateway.limits.surrender()
    store = gateway.calls.store
    assert store.taken["api"] - store.given["api"] == 600


def test_lease_that_ends_while_others_are_asked(
    store: ModelStore, clock: Clock, limiter: ALimiter
) -> None:
    """Reserved units of a lease that has ended are returned, not spent."""
    other = ALimiter("other", TokenBucket(1, 0.1))
    gateway = Gateway(store, clock)
    gateway.warm(limiter.ask())
    gateway.decide(other.ask())
    gateway.calls.at_once = False
    waiter = gateway.begin(limiter.ask(), other.ask("cold"))
    assert settled(waiter) is None
    store.take((other.ask("cold"),), (0,))
    clock.now += 1.5
    gateway.calls.deliver()
    outcome = settled(waiter)
    assert outcome is not None
    assert not outcome.admitted
    gateway.limits.tick(clock.now)
    gateway.calls.deliver()
    assert store.taken["api"] - store.given["api"] == 100


def test_remaining(gateway: Gateway, limiter: ALimiter) -> None:
    """Counted down as if the store had been asked, but for what others take meanwhile; and never
    more than the limit, though a bucket that fills up behind a lease has as much."""
    gateway.warm(limiter.ask(), 500.0, 1.0)
    before = gateway.decide(limiter.ask()).taken[0]
    after = gateway.decide(limiter.ask()).taken[0]
    assert before is not None
    assert after is not None
    assert after.remaining in (before.remaining - 1, 998, 999, 1000)
    assert after.reset >= 0.0
    look = gateway.decide(limiter.ask(cost=0)).taken[0]
    assert look is not None
    assert look.remaining == after.remaining


def test_windows_of_leases(store: ModelStore, clock: Clock) -> None:
    """Units of a fixed window are good for nothing in the next one, neither spent nor returned."""
    limiter = ALimiter("api", FixedWindow(1000, 10.0))
    gateway = Gateway(store, clock)
    admitted = gateway.warm(limiter.ask(), 95.0, 9.9)
    assert admitted == 940
    clock.now = 1010.02
    given = store.given.get("api", 0)
    admitted = sum(gateway.decide(limiter.ask()).admitted for _ in range(1500))
    gateway.limits.tick(clock.now)
    assert admitted == 1000
    assert store.given.get("api", 0) == given


def test_down(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """Leases are spent, then each limiter's own rule holds; at once, and nothing is asked."""
    gateway = Gateway(store, clock, Gateways(4))
    gateway.warm(limiter.ask())
    gateway.calls.up = False
    asked = gateway.calls.asked
    outcome = gateway.decide(limiter.ask())
    assert (outcome.admitted, outcome.degraded) == (True, False)
    assert asked == gateway.calls.asked
    allow = ALimiter("allow", limiter.algorithm, "allow")
    deny = ALimiter("deny", limiter.algorithm, "deny")
    local = ALimiter("local", TokenBucket(40, 0.001), "local")
    assert gateway.decide(allow.ask()) == Outcome(True, [None], 0.0, True)
    assert gateway.decide(deny.ask()) == Outcome(False, [None], 0.0, True)
    for expected in (9, 8, 7):
        outcome = gateway.decide(allow.ask(), local.ask())
        assert outcome.admitted
        assert outcome.taken[0] is None
        assert outcome.taken[1] is not None
        assert outcome.taken[1].remaining == expected
    outcome = gateway.decide(local.ask(), deny.ask())
    assert not outcome.admitted
    assert outcome.taken[0] is not None
    assert outcome.taken[0].remaining == 7, "refused as a whole"
    assert sum(gateway.decide(local.ask()).admitted for _ in range(20)) == 7
    gateway.gateways.count = 2
    assert gateway.decide(local.ask("other")).taken[0].remaining == 19  # type: ignore[union-attr]


def test_down_is_atomic_with_leases(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    deny = ALimiter("deny", limiter.algorithm, "deny")
    gateway = Gateway(store, clock)
    gateway.warm(limiter.ask())
    gateway.calls.up = False
    before = gateway.decide(limiter.ask(cost=0)).taken[0]
    for _ in range(50):
        outcome = gateway.decide(limiter.ask(), deny.ask())
        assert not outcome.admitted
        assert outcome.degraded
        assert outcome.taken[0] == before
        assert outcome.taken[1] is None


def test_error(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """A call that fails is decided without the store; it may have counted."""
    local = ALimiter("local", TokenBucket(10, 0.001), "local")
    gateway = Gateway(store, clock, Gateways(2))
    gateway.calls.at_once = False
    waiter = gateway.begin(local.ask())
    gateway.calls.messages[0].execute(clock.now)
    gateway.calls.messages[0].fail("timeout")
    outcome = settled(waiter)
    assert outcome is not None
    assert outcome.admitted
    assert outcome.degraded
    assert outcome.taken[0] is not None
    assert outcome.taken[0].remaining == 4
    assert store.taken["local"] == 1


def test_errors_now_and_then_give_nothing_extra(store: ModelStore, clock: Clock) -> None:
    """What the store granted counts as this gateway's part: each tenth call fails."""
    limiter = ALimiter("api", TokenBucket(100, 100), "local", leases=False)
    gateways = [Gateway(store, clock, Gateways(4)) for _ in range(4)]
    admitted = 0
    for i in range(1000):
        clock.now += 0.01
        gateways.append(gateways.pop(0))
        for gateway in gateways:
            gateway.calls.at_once = False
            waiter = gateway.begin(limiter.ask())
            for message in gateway.calls.messages:
                if i % 10:
                    message.execute(clock.now)
                    message.answer()
                else:
                    message.fail("lost")
            gateway.calls.messages.clear()
            outcome = settled(waiter)
            assert outcome is not None
            admitted += outcome.admitted
    assert 1000 <= admitted <= 1160


def test_settles(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """No leases until all know of this gateway, at first and after each outage."""
    gateway = Gateway(store, clock, settled=False)
    gateway.warm(limiter.ask(), 100.0, 4.9)
    assert gateway.limits.live_leases() == {}
    gateway.warm(limiter.ask(), 100.0, 1.0)
    assert gateway.limits.live_leases() == {"api": 1}
    gateway.calls.up = False
    gateway.limits.tick(clock.now)
    clock.now += 1.5
    gateway.calls.up = True
    gateway.warm(limiter.ask(), 100.0, 4.9)
    assert gateway.limits.live_leases() == {}
    gateway.warm(limiter.ask(), 100.0, 1.0)
    assert gateway.limits.live_leases() == {"api": 1}


@pytest.mark.parametrize("reason", ["timeout", "lost", "down", "busy", "refused"])
def test_return_in_doubt(store: ModelStore, clock: Clock, limiter: ALimiter, reason: str) -> None:
    """Units that may still come back are not leased once more meanwhile."""
    gateway = Gateway(store, clock, Gateways(5))
    gateway.warm(limiter.ask(), 300.0, 2.0)
    gateway.calls.at_once = False
    clock.now += 1.6
    gateway.limits.tick(clock.now)
    (message,) = gateway.calls.messages
    message.fail(reason)  # type: ignore[arg-type]
    tally = gateway.limits.tallies()["api"]
    lost = tally.lost
    assert lost > 0
    gateway.calls.at_once = True
    gateway.calls.wants.clear()
    gateway.warm(limiter.ask(), 300.0, 1.0)
    most = max(sum(wants) for wants in gateway.calls.wants)
    if reason in ("timeout", "lost"):
        assert most <= 200 - lost
    gateway.warm(limiter.ask(), 300.0, 3.0)
    clock.now += 3.0
    gateway.limits.tick(clock.now)
    gateway.limits.tick(clock.now)
    gateway.limits.tick(clock.now)
    assert repr(gateway.limits).count("0 with leases") == 1


def test_degraded_seconds(gateway: Gateway, limiter: ALimiter) -> None:
    clock, limits = gateway.clock, gateway.limits
    for _ in range(10):
        clock.now += 0.1
        limits.tick(clock.now)
    assert not limits.degraded
    gateway.calls.up = False
    for _ in range(10):
        clock.now += 0.1
        limits.tick(clock.now)
    assert limits.degraded
    gateway.calls.up = True
    clock.now += 0.1
    limits.tick(clock.now)
    assert not limits.degraded
    assert limits.degraded_seconds == pytest.approx(1.0)


def test_reset(gateway: Gateway, limiter: ALimiter) -> None:
    """Leases are of what was before; a refusal is lifted here at once."""
    few = ALimiter("few", TokenBucket(10, 0.001))
    while gateway.decide(few.ask()).admitted:
        pass
    gateway.warm(limiter.ask())
    assert settled(gateway.limits.reset([few, limiter], "k")) == 2  # type: ignore[arg-type,comparison-overlap]
    assert gateway.decide(few.ask()).admitted
    outcome = gateway.decide(limiter.ask())
    assert outcome.taken[0] is not None
    assert outcome.taken[0].remaining == 999
    gateway.calls.up = False
    assert settled(gateway.limits.reset([few], "k")) == -1  # type: ignore[arg-type,comparison-overlap]


def test_reset_at_another_gateway(store: ModelStore, clock: Clock) -> None:
    """What was leased before is lost, not returned; refusals, and what was counted here while
    there was no store, are forgotten. Other keys keep what they have."""
    limiter = ALimiter("api", TokenBucket(1000, 1000), "local")
    few = ALimiter("few", TokenBucket(10, 0.001), "local")
    gateway = Gateway(store, clock, Gateways(2))
    gateway.warm(limiter.ask())
    gateway.warm(limiter.ask("other"))
    while gateway.decide(few.ask()).admitted:
        pass
    gateway.calls.up = False
    while gateway.decide(few.ask("cold")).admitted:
        pass
    gateway.calls.up = True
    tally = gateway.limits.tallies()["api"]
    leased, returned = gateway.limits._keys.held["api", "k"].outstanding, tally.returned
    assert leased > 0
    del store.states["api", "k"], store.states["few", "k"]
    gateway.limits.forget([("api", "k"), ("few", "k"), ("few", "cold"), ("few", "unknown")])
    assert gateway.limits.live_leases() == {"api": 1}
    assert gateway.decide(few.ask()).admitted
    clock.now += 1.6
    gateway.limits.tick(clock.now)
    assert tally.lost == leased
    assert tally.returned > returned, "those of the other key"
    assert gateway.decide(limiter.ask()).taken[0].remaining == 999  # type: ignore[union-attr]
    gateway.calls.up = False
    assert gateway.decide(few.ask("cold")).admitted


def test_answers_from_before_a_reset(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """A lease that was on its way is lost, a refusal not remembered, a reserved unit not kept."""
    few = ALimiter("few", TokenBucket(1, 0.001))
    gateway = Gateway(store, clock)
    gateway.warm(limiter.ask(), 20.0)
    gateway.limits._keys.held["api", "k"].forget()
    gateway.decide(few.ask())
    gateway.calls.at_once = False
    asked = [gateway.begin(limiter.ask()), gateway.begin(few.ask("new")), gateway.begin(few.ask())]
    store.take((few.ask("new"),), (0,))
    for message in gateway.calls.messages:
        message.execute(clock.now)
    store.states.clear()
    gateway.limits.forget([("api", "k"), ("few", "k"), ("few", "new")])
    clock.now += 0.001
    gateway.calls.deliver()
    outcomes = [settled(each) for each in asked]
    assert [each and each.admitted for each in outcomes] == [True, False, False]
    assert gateway.limits.live_leases() == {}
    tally = gateway.limits.tallies()["api"]
    assert tally.lost == tally.leased - tally.local - tally.returned > 0
    gateway.calls.at_once = True
    assert gateway.decide(few.ask()).admitted
    assert gateway.decide(few.ask("new")).admitted


def test_units_reserved_before_a_reset(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """A decision that waits for another limiter puts none of them back."""
    other = ALimiter("other", TokenBucket(1, 0.1))
    gateway = Gateway(store, clock)
    gateway.warm(limiter.ask())
    gateway.calls.at_once = False
    waiter = gateway.begin(limiter.ask(cost=3), other.ask("cold"))
    store.take((other.ask("cold"),), (0,))
    gateway.limits.forget([("api", "k")])
    tally = gateway.limits.tallies()["api"]
    lost = tally.lost
    clock.now += 0.001
    gateway.calls.deliver()
    outcome = settled(waiter)
    assert outcome is not None
    assert not outcome.admitted
    assert tally.lost == lost + 3
    gateway.limits.tick(clock.now)
    assert not gateway.calls.messages, "nothing is returned"
    assert repr(gateway.limits).count("0 with leases") == 1


def test_other_numbers(store: ModelStore, clock: Clock, limiter: ALimiter) -> None:
    """Leases and refusals of the former ones end at once; those of other limiters don't."""
    few = ALimiter("few", TokenBucket(10, 0.001))
    other = ALimiter("other", limiter.algorithm)
    gateway = Gateway(store, clock)
    gateway.warm(other.ask())
    gateway.warm(limiter.ask())
    while gateway.decide(few.ask()).admitted:
        pass
    gateway.calls.at_once = False
    clock.now += 0.9
    gateway.begin(limiter.ask(cost=500))
    few.algorithm, limiter.algorithm = TokenBucket(20, 1000), TokenBucket(50, 1)
    gateway.limits.changed(few)
    gateway.limits.changed(limiter)
    gateway.calls.deliver()
    gateway.calls.at_once = True
    assert gateway.limits.live_leases() == {"other": 1}
    clock.now += 0.02
    assert gateway.decide(few.ask()).admitted
    asked = gateway.calls.asked
    assert not gateway.decide(limiter.ask(cost=51)).admitted
    assert gateway.calls.asked == asked + 1
    assert gateway.decide(other.ask()).admitted
    assert gateway.calls.asked == asked + 1


def test_reset_of_what_matches(gateway: Gateway) -> None:
    """In the store and in this process; -1 if the store does not answer."""
    few = ALimiter("few", TokenBucket(1, 0.001), "local")
    keys = ["ip:a|x:1", "ip:a|x:2", "ip:ab|x:1"]

    def refused() -> list[str]:
        return [key for key in keys if not gateway.decide(few.ask(key)).admitted]

    def reset() -> int | None:
        about = "ip:a".__eq__
        waiter = gateway.limits.reset_matching([few], "ip:a", lambda key: about(key.split("|")[0]))
        return settled(waiter)  # type: ignore[arg-type,return-value]

    assert refused() == []
    gateway.calls.up = False
    assert refused() == []
    gateway.clock.now += 0.001
    assert refused() == keys
    assert reset() == -1
    assert refused() == keys[2:]
    gateway.calls.up = True
    assert reset() == 2
    assert refused() == keys[2:]


def test_changed_limit(gateway: Gateway, limiter: ALimiter) -> None:
    """Units of the limit that was are not returned to the one that is."""
    gateway.warm(limiter.ask())
    limiter.algorithm = TokenBucket(500, 500)
    gateway.warm(limiter.ask(), 50.0, 2.0)
    tally = gateway.limits.tallies()["api"]
    gateway.limits.surrender()
    spent = 200
    store = gateway.calls.store
    assert tally.lost > 0
    assert store.taken["api"] - store.given["api"] == spent + tally.lost


def test_keys_are_bounded(clock: Clock, limiter: ALimiter) -> None:
    """The least recently used are forgotten first, however often others are asked for."""
    keys = Keys(1000)
    for i in range(20_000):
        ask = limiter.ask(f"k{i}")
        keys.seen(ask, clock.now)
        keys.seen(ask, clock.now)
        if i % 20 == 0:
            assert len(keys) <= 1000
            assert keys.seen(limiter.ask("hot"), clock.now) is not None or i == 0


def test_held_keys_are_not_forgotten(gateway: Gateway, limiter: ALimiter) -> None:
    gateway.warm(limiter.ask())
    for i in range(200_000):
        gateway.limits._keys.seen(limiter.ask(f"k{i}"), gateway.clock.now)
    assert len(gateway.limits._keys) <= 100_000
    assert gateway.limits.live_leases() == {"api": 1}
    gateway.clock.now += 2.0
    gateway.limits.tick(gateway.clock.now)
    gateway.limits.tick(gateway.clock.now)
    store = gateway.calls.store
    assert store.taken["api"] - store.given["api"] == 100
