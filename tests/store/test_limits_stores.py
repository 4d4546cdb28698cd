"""What every store of rate limits does, in memory and in Redis alike."""

from __future__ import annotations

import math

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from rtgateway.core.limits import (
    Algorithm,
    Shaper,
    TokenBucket,
)
from rtgateway.store.limits.asked import Ask
from rtgateway.store.limits.redis import RedisLimits
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually
from tests.store.conftest import MakeLink
from tests.store.limit_cases import (
    TEN,
    Limit,
    Store,
)

__all__: list[str] = []

every_algorithm = pytest.mark.parametrize("algorithm", TEN.values(), ids=TEN.keys())


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    store = Store()
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        make: MakeLink = request.getfixturevalue("make_link")
        # The machine that runs the tests may be busy.
        link = make(server, timeout="5s")
        pytest_twisted.blockon(Deferred.fromCoroutine(eventually(lambda: link.up)))
        store.limits = RedisLimits(link, store.clock)
    return store


# -- one limiter ----------------------------------------------------------------------------------


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_so_many_at_once_and_no_more(store: Store, algorithm: Algorithm) -> None:
    for left in range(9, -1, -1):
        outcome = await store.take(algorithm)
        assert outcome.admitted
        assert outcome.taken[0] is not None
        assert outcome.taken[0].remaining == left
        assert outcome.taken[0].wait == 0
        assert not outcome.degraded
    outcome = await store.take(algorithm)
    assert not outcome.admitted
    assert outcome.taken[0] is not None
    assert outcome.taken[0].remaining == 0
    assert 0 < outcome.taken[0].wait <= 66
    assert outcome.delay == 0


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_who_waits_is_admitted(store: Store, algorithm: Algorithm) -> None:
    """A wait is exact; asking meanwhile makes it no longer."""
    await store.take(algorithm, 10)
    refused = (await store.take(algorithm, 2)).taken[0]
    assert refused is not None
    until = store.now + refused.wait
    for share in (0.1, 0.5, 0.9, 0.999):
        store.now = until - refused.wait * (1 - share)
        again = await store.take(algorithm, 2)
        assert not again.admitted
        assert again.taken[0] is not None
        assert again.taken[0].wait == pytest.approx(until - store.now, abs=1e-6)
    store.now = until
    assert (await store.take(algorithm, 2)).admitted


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_all_is_there_again_after_the_reset(store: Store, algorithm: Algorithm) -> None:
    taken = (await store.take(algorithm, 7)).taken[0]
    assert taken is not None
    assert 0 < taken.reset <= 120
    store.now += taken.reset + 1e-6
    assert (await store.take(algorithm, 10)).admitted


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_costs(store: Store, algorithm: Algorithm) -> None:
    """0 only looks, and what is more than can ever be there is never admitted."""
    assert (await store.take(algorithm, 4)).admitted
    for _ in range(3):
        look = await store.take(algorithm, 0)
        assert look.admitted
        assert look.taken[0] is not None
        assert look.taken[0].remaining == 6
        assert look.delay == 0
    assert not (await store.take(algorithm, 7)).admitted
    never = (await store.take(algorithm, 11)).taken[0]
    assert never is not None
    assert never.wait == math.inf
    assert (await store.take(algorithm, 6)).admitted
    look = await store.take(algorithm, 0)
    assert look.admitted
    assert look.taken[0] is not None
    assert look.taken[0].remaining == 0


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_keys_are_apart(store: Store, algorithm: Algorithm) -> None:
    """Whatever they look like."""
    keys = ["ip:a", "ip:b", "ip:", "a b\r\n", "ü:{x}", "k" * 256, "ip:a:", "0"]
    for key in keys:
        assert (await store.take(algorithm, 10, key)).admitted, key
    for key in keys:
        assert not (await store.take(algorithm, 1, key)).admitted, key


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_reset(store: Store, algorithm: Algorithm) -> None:
    """A key is forgotten by the limiters that are named."""
    one, two = Limit("one", algorithm), Limit("two", algorithm)
    for limit in (one, two):
        await store.decide(Ask(limit, algorithm, "ip:a", 10))
        await store.decide(Ask(limit, algorithm, "ip:b", 10))
    assert await store.reset([one, Limit("three", algorithm)], "ip:a") == 1
    assert (await store.decide(Ask(one, algorithm, "ip:a", 1))).admitted
    assert not (await store.decide(Ask(two, algorithm, "ip:a", 1))).admitted
    assert not (await store.decide(Ask(one, algorithm, "ip:b", 1))).admitted
    assert await store.reset([one, two], "ip:c") == 0
    assert await store.reset([one, two], "ip:b") == 2
    assert await store.reset([], "ip:b") == 0


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_the_clock_is_set(store: Store, algorithm: Algorithm) -> None:
    """Forwards all is there again; backwards nobody waits longer than from empty to full."""
    for step in (3600.0, -3600.0, 10 * 365 * 86400.0, -10 * 365 * 86400.0):
        await store.take(algorithm, 10)
        store.now += step
        assert (await store.take(algorithm, 10)).admitted, step
    await store.take(algorithm, 10)
    store.now -= 5
    taken = (await store.take(algorithm, 10)).taken[0]
    assert taken is not None
    assert taken.wait <= 125


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_the_quota_is_changed(store: Store, algorithm: Algorithm) -> None:
    """What was taken before is taken of the new one too."""
    await store.take(algorithm, 10)
    half = algorithm.scaled(0.5)
    assert half.limit == 5
    refused = (await store.take(half)).taken[0]
    assert refused is not None
    assert refused.wait > 0
    assert refused.remaining == 0
    store.now += 120
    for _ in range(5):
        assert (await store.take(half)).admitted
    assert not (await store.take(half)).admitted


@pytest_twisted.ensureDeferred
async def test_another_algorithm_starts_anew(store: Store) -> None:
    kinds = [TEN[name] for name in ("token_bucket", "fixed_window", "sliding_window")]
    for algorithm in (*kinds, TEN["sliding_log"]):
        assert (await store.take(algorithm, 10)).admitted
        assert not (await store.take(algorithm)).admitted


# -- several limiters -----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nothing_is_taken_unless_all_admit(store: Store) -> None:
    wide = [Ask(Limit(name, algorithm), algorithm, "k", 2) for name, algorithm in TEN.items()]
    bucket = TokenBucket(3, 0.001)
    narrow = Ask(Limit("narrow", bucket), bucket, "k", 1)
    for place in (0, 3, len(wide)):
        await store.reset([narrow.limiter], "k")
        for _ in range(3):
            assert (await store.decide(narrow)).admitted
        outcome = await store.decide(*wide[:place], narrow, *wide[place:])
        assert not outcome.admitted
        assert outcome.delay == 0
        for i, taken in enumerate(outcome.taken):
            assert taken is not None
            if i == place:
                assert taken.wait == pytest.approx(1000)
            else:
                assert taken == (0.0, 10, 0.0, 0, 0.0, taken.state), "as if nobody had asked"
    for left in (8, 6, 4, 2, 0):
        outcome = await store.decide(*wide)
        assert outcome.admitted
        assert [taken.remaining for taken in outcome.taken if taken] == [left] * len(wide)
    outcome = await store.decide(*wide)
    assert not outcome.admitted
    assert all(taken and taken.wait for taken in outcome.taken)


@every_algorithm
@pytest_twisted.ensureDeferred
async def test_one_key_twice(store: Store, algorithm: Algorithm) -> None:
    """Asks about the same key take of it one after the other, or nothing of it."""
    ask = Ask(Limit("one", algorithm), algorithm, "k", 3)
    outcome = await store.decide(ask, ask._replace(cost=0), ask)
    assert outcome.admitted
    assert [taken.remaining for taken in outcome.taken if taken] == [7, 7, 4]
    outcome = await store.decide(ask, ask._replace(cost=0), ask)
    assert not outcome.admitted
    assert [taken.remaining for taken in outcome.taken if taken] == [4, 4, 1]
    assert [taken.wait > 0 for taken in outcome.taken if taken] == [False, False, True]
    outcome = await store.decide(ask, ask._replace(cost=1))
    assert outcome.admitted
    assert [taken.remaining for taken in outcome.taken if taken] == [1, 0]


@pytest_twisted.ensureDeferred
async def test_the_longest_delay_holds(store: Store) -> None:
    slow, fast = Shaper(1, 9), Shaper(10, 9)
    asks = [
        Ask(Limit("slow", slow), slow, "k", 1),
        Ask(Limit("fast", fast), fast, "k", 1),
        Ask(Limit("none", TEN["gcra"]), TEN["gcra"], "k", 1),
    ]
    assert (await store.decide(*asks)).delay == 0
    assert (await store.decide(*asks)).delay == pytest.approx(1)
    store.now += 0.5
    outcome = await store.decide(*asks)
    assert outcome.delay == pytest.approx(1.5)
    assert [taken and taken.delay for taken in outcome.taken] == [pytest.approx(1.5), 0, 0]


@pytest_twisted.ensureDeferred
async def test_many_looks_at_once(store: Store) -> None:
    bucket = TokenBucket(100, 1)
    limit = Limit("one", bucket)
    for i in range(100):
        await store.decide(Ask(limit, bucket, f"k{i}", i))
    outcome = await store.decide(*[Ask(limit, bucket, f"k{i}", 0) for i in range(100)])
    assert [taken.remaining for taken in outcome.taken if taken] == list(range(100, 0, -1))
