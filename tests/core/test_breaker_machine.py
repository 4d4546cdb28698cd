"""The circuit breaker under every order of events that Hypothesis finds.

Calls begin, end well, badly, slowly or without a verdict, in any order and long after the state in
which they began; operators interfere; time passes.
"""

from __future__ import annotations

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.breaker import Breaker, BreakerSettings, BreakerStats, StateChange
from tests.core.profile import PROPERTY

__all__: list[str] = []

LEGAL = {
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "open"),
    ("half_open", "closed"),
}
"""Moves that the breaker makes by itself."""

SETTINGS = st.builds(
    BreakerSettings,
    failure_threshold=st.sampled_from([1, 2, 0]),
    success_threshold=st.integers(1, 2),
    timeout=st.sampled_from([1.0, 8.0]),
    max_timeout=st.just(20.0),
    timeout_factor=st.sampled_from([1.0, 2.0]),
    jitter=st.sampled_from([0.0, 0.5]),
    window_calls=st.integers(1, 6),
    window_seconds=st.sampled_from([0.0, 10.0]),
    minimum_calls=st.integers(1, 4),
    failure_rate_threshold=st.sampled_from([0.0, 0.5]),
    slow_call_rate_threshold=st.sampled_from([0.0, 0.5]),
    half_open_calls=st.integers(1, 4),
)

ENDS = st.tuples(st.integers(-3, 3), st.sampled_from(["good", "failed", "slow", "left"]))
"""Which of the calls that are out, counted from either end, and how it ends."""


class Permit:
    """A permit that is out."""

    def __init__(self, number: int, *, probe: bool) -> None:
        self.number = number
        self.probe = probe
        self.current = True
        """Whether the state in which it was given still lasts."""
        self.void = False
        """Whether an operator has interfered since."""


class Breakers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.permits: list[Permit] = []
        self.forced: str | None = None
        self.opened_at = -math.inf
        self.probes_succeeded = 0

    @initialize(
        settings=SETTINGS, jitter=st.sampled_from([0.0, 0.5, 0.999]), operator=st.booleans()
    )
    def begin(self, settings: BreakerSettings, jitter: float, operator: bool) -> None:
        self.settings = settings
        self.operator = operator
        self.breaker = Breaker(settings, lambda: jitter, self.changed)

    def changed(self, change: StateChange) -> None:
        """Each move is legal, and has a reason."""
        assert change.at == self.now
        assert change.reason
        assert change.new == self.breaker.state
        if self.forced is not None:
            assert change.new == self.forced
        else:
            assert (change.old, change.new) in LEGAL, change
        if change.new == "half_open":
            assert self.now >= self.opened_at + self.least_open_time
            self.probes_succeeded = 0
        if change.new == "closed" and self.forced is None:
            assert self.probes_succeeded == self.settings.success_threshold
        if change.new == "open":
            self.opened_at = self.now
            open_time = self.breaker.open_until - self.now
            assert self.least_open_time <= open_time <= self.settings.max_timeout
        for permit in self.permits:
            permit.current = False

    @property
    def least_open_time(self) -> float:
        return self.settings.timeout * (1 - self.settings.jitter)

    @property
    def worth_interfering(self) -> bool:
        """An operator who did it all the time would let nothing else happen."""
        closed = self.breaker.state == "closed"
        return len(self.permits) >= (4 if closed else 1) or self.breaker.state == "forced_open"

    def snapshot(self) -> tuple[Any, ...]:
        breaker = self.breaker
        return breaker.state, breaker.generation, breaker.open_until, breaker.stats()

    # -- what happens ---------------------------------------------------------------------------

    @rule(calls=st.lists(st.booleans(), min_size=1, max_size=3))
    def calls_begin(self, calls: list[bool]) -> None:
        for fast in calls:
            self.begin_call(fast)

    def begin_call(self, fast: bool) -> None:
        breaker = self.breaker
        before = breaker.state
        ready = breaker.ready(self.now)
        try:
            # The gateway saves itself the call while the breaker is closed.
            if fast and before == "closed":
                number = breaker.generation
            else:
                number = breaker.acquire(self.now)
        except RuntimeError:
            assert not ready
            assert breaker.state == before
            return
        assert ready
        self.permits.append(Permit(number, probe=breaker.state == "half_open"))

    @rule(ends=st.lists(ENDS, min_size=1, max_size=4))
    def calls_end(self, ends: list[tuple[int, str]]) -> None:
        """Any of those in flight, in any order."""
        for index, result in ends:
            if self.permits:
                self.end(self.permits.pop(index % len(self.permits)), result)

    def end(self, permit: Permit, result: str) -> None:
        before = self.snapshot()
        if result == "left":
            self.breaker.release(permit.number, self.now)
            assert self.snapshot() == before
            return
        failed = result == "failed"
        slow = result == "slow"
        bad = failed or (slow and self.settings.slow_call_rate_threshold > 0)
        if permit.probe and permit.current and not bad:
            self.probes_succeeded += 1
        self.breaker.record(permit.number, self.now, 6.0 if slow else 0.1, failed)
        if not permit.current:
            assert self.snapshot() == before, "a late verdict"
            return
        self.check_counted(before[3], self.breaker.stats(), failed)
        if permit.probe and bad:
            assert self.breaker.state == "open"

    def check_counted(self, before: BreakerStats, after: BreakerStats, failed: bool) -> None:
        assert after.total_calls == before.total_calls + 1
        assert after.failed_calls == before.failed_calls + failed
        assert after.successful_calls == after.total_calls - after.failed_calls
        consecutive = before.consecutive_failures + 1 if failed else 0
        assert after.consecutive_failures == consecutive
        assert after.consecutive_successes == (0 if failed else before.consecutive_successes + 1)

    @precondition(lambda self: self.operator and self.worth_interfering)
    @rule(state=st.sampled_from(["closed", "forced_open", "disabled"]))
    def an_operator_interferes(self, state: str) -> None:
        self.forced = state
        if state == "closed":
            self.breaker.reset(self.now)
        elif state == "forced_open":
            self.breaker.force_open(self.now)
        else:
            self.breaker.disable(self.now)
        self.forced = None
        assert self.breaker.state == state
        assert self.breaker.probes == 0
        for permit in self.permits:
            permit.current = False
            permit.void = True

    @rule(seconds=st.sampled_from([None, 0.1, 1.0, 30.0]))
    def time_passes(self, seconds: float | None) -> None:
        """Until the end of the open time, if not so many seconds."""
        if seconds is not None:
            self.now += seconds
        elif self.breaker.state == "open":
            self.now = max(self.now, self.breaker.open_until)
            assert self.breaker.ready(self.now)

    # -- what holds -----------------------------------------------------------------------------

    @invariant()
    def every_slot_belongs_to_a_probe(self) -> None:
        """None leaks, none is freed twice, and there are never more than configured."""
        out = [each for each in self.permits if each.probe and not each.void]
        assert self.breaker.probes == len(out) <= self.settings.half_open_calls

    @invariant()
    def never_stuck(self) -> None:
        """Whatever is out: calls begin again by themselves, or an operator forbids it."""
        breaker = self.breaker
        at = breaker.retry_at(self.now)
        assert at >= self.now
        if breaker.state in ("closed", "disabled"):
            assert breaker.ready(self.now)
            assert at == self.now
        elif breaker.state == "forced_open":
            assert not breaker.ready(math.inf)
            assert at == math.inf
        elif breaker.state == "open":
            # The failed probe that opened it has left its slot, and no other may take that.
            assert breaker.probes < self.settings.half_open_calls
            assert breaker.ready(self.now) == (self.now >= breaker.open_until)
            assert at == max(self.now, breaker.open_until)
            assert breaker.ready(at)
        else:
            free = breaker.probes < self.settings.half_open_calls
            assert breaker.ready(self.now) == free

    @invariant()
    def everything_is_bounded(self) -> None:
        assert len(self.breaker.changes) <= 20
        assert 0.0 <= self.breaker.stats().failure_rate <= 1.0

    def teardown(self) -> None:
        """All calls over: no slot is taken."""
        if not hasattr(self, "breaker"):
            return
        for permit in self.permits:
            self.breaker.release(permit.number, self.now)
        assert self.breaker.probes == 0
        assert self.breaker.ready(self.now + 20.0) == (self.breaker.state != "forced_open")


class BreakerMachineTests(SynchronousTestCase):
    def test_any_order_of_events(self) -> None:
        """Legal moves only, no probe too many, no slot lost, never stuck."""
        run_state_machine_as_test(
            Breakers, settings=settings(PROPERTY, max_examples=100, stateful_step_count=50)
        )
