"""The breaker in front of Redis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtgateway.store.redis.local_breaker import LocalBreaker


def test_it_is_down_until_something_works() -> None:
    breaker = LocalBreaker(lambda: 0.5, 7.0)
    assert not breaker.up
    assert breaker.failing_since == 7.0
    assert breaker.succeeded()
    assert breaker.up
    assert breaker.failing_since == 0.0
    assert not breaker.succeeded()


def test_three_failures_in_a_row_and_a_probe() -> None:
    breaker = LocalBreaker(lambda: 0.5, 0.0)
    breaker.succeeded()
    for _ in range(5):
        assert not breaker.failed(1.0)
        assert not breaker.failed(1.0)
        breaker.answered()
    assert [breaker.failed(2.0) for _ in range(5)] == [False, False, True, False, False]
    assert breaker.failing_since == 2.0
    # Calls that were under way may still be answered.
    breaker.answered()
    assert not breaker.up
    assert breaker.succeeded()
    assert not breaker.failed(3.0)


def test_no_connection_is_enough() -> None:
    breaker = LocalBreaker(lambda: 0.5, 0.0)
    breaker.succeeded()
    assert breaker.closed(5.0)
    assert not breaker.closed(6.0)
    assert breaker.failing_since == 5.0


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_probes_become_rarer_up_to_one_a_second(chances: list[float]) -> None:
    rest = iter(chances)
    breaker = LocalBreaker(lambda: next(rest), 0.0)
    pauses = [breaker.pause() for _ in chances]
    assert 0.075 <= pauses[0] <= 0.1
    assert all(0.075 <= pause <= 1.0 for pause in pauses)
    assert all(pause >= 0.75 for pause in pauses[5:])
