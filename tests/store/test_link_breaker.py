"""The breaker in front of Redis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtgateway.store.redis.local_breaker import LocalBreaker


def test_it_is_down_until_something_works() -> None:
    breaker = LocalBreaker(lambda: 0.5, 7.0)
    assert not breaker.up
    assert breaker.failing_since == 7.0
    assert breaker.succeeded(0.0)
    assert breaker.up
    assert breaker.failing_since == 0.0
    assert not breaker.succeeded(0.0)


def test_three_failures_in_a_row_and_a_probe() -> None:
    breaker = LocalBreaker(lambda: 0.5, 0.0)
    breaker.succeeded(0.0)
    for _ in range(5):
        assert not breaker.failed(1.0)
        assert not breaker.failed(1.0)
        breaker.answered(ran=True)
    assert [breaker.failed(2.0) for _ in range(5)] == [False, False, True, False, False]
    assert breaker.failing_since == 2.0
    # Calls that were under way may still be answered.
    breaker.answered(ran=True)
    assert not breaker.up
    assert breaker.succeeded(0.0)
    assert not breaker.failed(3.0)


def test_a_redis_that_answers_and_can_do_nothing() -> None:
    breaker = LocalBreaker(lambda: 0.5, 0.0)
    breaker.succeeded(0.0)
    for _ in range(5):
        assert not breaker.refused(1.0)
        assert not breaker.refused(1.0)
        # It can again.
        breaker.answered(ran=True)
    for _ in range(2):
        assert not breaker.refused(2.0)
        # It answers a PING, and did not answer something else: neither has to do with it.
        assert not breaker.failed(2.0)
        breaker.answered(ran=False)
    assert breaker.refused(3.0)
    assert breaker.failing_since == 3.0
    assert breaker.succeeded(4.0)
    assert not breaker.refused(4.0)


def test_what_comes_and_goes_is_probed_as_rarely_as_before() -> None:
    breaker = LocalBreaker(lambda: 1.0, 0.0)
    breaker.succeeded(0.0)
    assert breaker.closed(10.0)
    pauses = [breaker.pause() for _ in range(4)]
    breaker.succeeded(11.0)
    assert breaker.closed(12.9)
    assert breaker.pause() > pauses[-1]
    breaker.succeeded(14.0)
    # It went well for a while.
    assert breaker.closed(16.1)
    assert breaker.pause() == pauses[0]


def test_no_connection_is_enough() -> None:
    breaker = LocalBreaker(lambda: 0.5, 0.0)
    breaker.succeeded(0.0)
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
