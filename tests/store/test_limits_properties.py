"""What holds in every store of rate limits, whatever is asked and when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rtgateway.core.limits import Algorithm
from rtgateway.store.limits.asked import Ask
from rtgateway.testing.redis import RedisServer
from tests.store.limit_cases import (
    NOW,
    BlockingLink,
    Lasting,
    Limit,
    Store,
    algorithms,
    decide,
    fresh,
    most_admitted,
)

__all__: list[str] = []

PROPERTY = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def link(redis: RedisServer) -> Iterator[BlockingLink]:
    link = BlockingLink(redis)
    yield link
    link.close()


@pytest.fixture(params=["memory", "redis"])
def make_store(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Makes stores that know nothing, and answer at once."""
    if request.param == "memory":
        return Store
    return partial(fresh, request.getfixturevalue("link"))


# With pytest-twisted, Hypothesis can't run a test that has parameters: hence the functions inside.

CALLS = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 5)), max_size=40)


def test_never_more_than_the_quota(make_store: Callable[[], Store]) -> None:
    @PROPERTY
    @given(algorithms, CALLS)
    def run(algorithm: Algorithm, calls: list[tuple[float, int]]) -> None:
        store = make_store()
        ask = Ask(Limit("one", algorithm), Lasting(algorithm), "k", 0)
        admitted = 0
        for pause, cost in calls:
            store.now += pause
            if decide(store, ask._replace(cost=cost)).admitted:
                admitted += cost
            assert admitted <= most_admitted(algorithm, store.now - NOW)

    run()


def test_a_refusal_ends_when_it_was_said_to(make_store: Callable[[], Store]) -> None:
    """Waits only fall while nothing is admitted, whatever is refused meanwhile."""

    @PROPERTY
    @given(algorithms, CALLS, st.integers(1, 5), st.lists(st.floats(0.01, 0.99), max_size=4))
    def run(
        algorithm: Algorithm, calls: list[tuple[float, int]], cost: int, shares: list[float]
    ) -> None:
        store = make_store()
        ask = Ask(Limit("one", algorithm), Lasting(algorithm), "k", cost)
        for pause, units in calls:
            store.now += pause
            decide(store, ask._replace(cost=units))
        wait = 0.0
        for _ in range(100):
            refused = decide(store, ask).taken[0]
            assert refused is not None
            wait = refused.wait
            # Less is what a time is rounded by.
            if wait > 1e-5:
                break
        assume(1e-5 < wait < math.inf)
        until = store.now + wait
        for share in shares:
            store.now += (until - store.now) * share
            if until - store.now < 1e-6:
                break
            again = decide(store, ask)
            assert not again.admitted
            assert again.taken[0] is not None
            assert again.taken[0].wait == pytest.approx(until - store.now, abs=2e-6)
        store.now = until + 1e-6
        assert decide(store, ask).admitted

    run()


DECISIONS = st.lists(
    st.tuples(st.floats(-2, 20), st.lists(st.integers(0, 9), min_size=4, max_size=4)),
    max_size=15,
)


def test_both_say_the_same(link: BlockingLink) -> None:
    @PROPERTY
    @given(st.lists(algorithms, min_size=1, max_size=4), DECISIONS)
    def run(asked: list[Algorithm], decisions: list[tuple[float, list[int]]]) -> None:
        memory, shared = Store(), fresh(link)
        limits = [Limit(f"l{i}", Lasting(each)) for i, each in enumerate(asked)]
        for pause, costs in decisions:
            memory.now = shared.now = shared.now + pause
            asks = [Ask(limit, limit.algorithm, "k", costs[i]) for i, limit in enumerate(limits)]
            one, other = decide(memory, *asks), decide(shared, *asks)
            assert one.admitted == other.admitted
            assert one.delay == other.delay
            assert [said and said[:5] for said in one.taken] == [
                said and said[:5] for said in other.taken
            ]

    run()
