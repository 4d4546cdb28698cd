"""What a circuit breaker lets through, and when; what it says about it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.core.breaker import Breaker, BreakerSettings, StateChange
from rtgateway.core.call_window import BUCKETS, FAILED, SLOW, CountWindow, TimeWindow
from tests.core.profile import PROPERTY

SETTINGS = BreakerSettings(jitter=0.0)


class SettingsTests(SynchronousTestCase):
    def test_the_defaults_are_those_of_the_configuration(self) -> None:
        section = config.CircuitBreaker()
        self.assertEqual(BreakerSettings.from_config(section), BreakerSettings())

    def test_a_window_of_time(self) -> None:
        section = config.CircuitBreaker.model_validate({"window_size": "30s"})
        expected = BreakerSettings(window_calls=0, window_seconds=30.0)
        self.assertEqual(BreakerSettings.from_config(section), expected)


class Bench:
    """A breaker and a clock."""

    def __init__(self, random: float = 0.0, **settings: Any) -> None:
        self.now = 1000.0
        self.told: list[StateChange] = []
        self.random = random
        self.breaker = Breaker(replace(SETTINGS, **settings), lambda: self.random, self.told.append)

    def call(self, result: str = "ok", times: int = 1, seconds: float = 0.01) -> None:
        """Calls one after another: "ok", "failed", or "left" for no verdict."""
        for _ in range(times):
            permit = self.breaker.acquire(self.now)
            if result == "left":
                self.breaker.release(permit, self.now)
            else:
                self.breaker.record(permit, self.now, seconds, result == "failed")

    def open(self) -> None:
        self.call("failed", times=self.breaker.settings.failure_threshold)

    def wait_until_open_time_is_over(self) -> None:
        self.now = self.breaker.open_until

    @property
    def open_time(self) -> float:
        return self.breaker.open_until - self.now

    @property
    def reason(self) -> str:
        return self.breaker.changes[-1].reason


class BreakerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.make()

    def make(self, random: float = 0.0, **settings: Any) -> None:
        self.bench = Bench(random, **settings)
        self.breaker = self.bench.breaker

    def assertState(self, state: str, reason: str | None = None) -> None:
        self.assertEqual(self.breaker.state, state)
        if reason is not None:
            self.assertEqual(self.bench.reason, reason)

    def assertReady(self, ready: bool = True) -> None:
        self.assertIs(self.breaker.ready(self.bench.now), ready)


class ClosedTests(BreakerTestCase):
    def test_failures_in_a_row(self) -> None:
        self.bench.call("failed", times=4)
        self.assertState("closed")
        self.bench.call("failed")
        self.assertState("open", "5 failures in a row")
        self.assertReady(False)
        self.assertEqual(self.breaker.retry_at(1000.0), 1030.0)
        self.assertRaises(RuntimeError, self.breaker.acquire, 1000.0)

    def test_a_success_between(self) -> None:
        for _ in range(4):
            self.bench.call("failed", times=4)
            self.bench.call("ok")
        self.assertState("closed")

    def test_who_leaves_says_nothing(self) -> None:
        """A client that went away neither is a failure nor ends a row of them."""
        self.bench.call("left", times=100)
        self.assertEqual(self.breaker.stats().total_calls, 0)
        self.bench.call("failed", times=4)
        self.bench.call("left")
        self.bench.call("failed")
        self.assertState("open")

    def test_one_failure_is_enough(self) -> None:
        self.make(failure_threshold=1)
        self.bench.call("failed")
        self.assertState("open", "1 failure in a row")

    def test_failures_in_a_row_switched_off(self) -> None:
        self.make(failure_threshold=0, failure_rate_threshold=0.0)
        self.bench.call("failed", times=1000)
        self.assertState("closed")

    def test_failure_rate(self) -> None:
        """Half of the calls fail, never five in a row: not judged before there are 20 calls."""
        for _ in range(9):
            self.bench.call("ok")
            self.bench.call("failed")
        self.bench.call("ok")
        self.assertState("closed")
        self.bench.call("failed")
        self.assertState("open", "failure rate 0.50 of 20 calls")

    def test_failure_rate_of_the_window_only(self) -> None:
        """What is older than the window is forgotten."""
        self.make(window_calls=10, minimum_calls=10, failure_rate_threshold=0.7)
        self.bench.call("ok", times=1000)
        self.bench.call("failed", times=4)
        self.bench.call("ok")
        self.bench.call("failed", times=2)
        self.assertState("closed")
        self.bench.call("failed")
        self.assertState("open", "failure rate 0.70 of 10 calls")

    def test_more_calls_demanded_than_the_window_holds(self) -> None:
        self.make(window_calls=4, minimum_calls=20, failure_threshold=0)
        self.bench.call("failed", times=3)
        self.assertState("closed")
        self.bench.call("failed")
        self.assertState("open", "failure rate 1.00 of 4 calls")

    def test_a_window_of_time(self) -> None:
        self.make(window_seconds=10.0, minimum_calls=4, failure_threshold=0)
        self.bench.call("failed", times=3)
        self.bench.now += 10.0
        self.bench.call("failed", times=3)
        self.assertState("closed")
        self.bench.now += 8.9
        self.bench.call("failed")
        self.assertState("open", "failure rate 1.00 of 4 calls")

    def test_slow_calls(self) -> None:
        self.make(slow_call_rate_threshold=0.6, minimum_calls=5)
        self.bench.call("ok", times=2, seconds=5.0)
        self.bench.call("ok", times=2, seconds=5.1)
        self.assertState("closed")
        self.bench.call("ok", seconds=5.1)
        self.assertState("open", "slow-call rate 0.60 of 5 calls")

    def test_slow_calls_do_not_matter_by_default(self) -> None:
        self.bench.call("ok", times=200, seconds=60.0)
        self.assertState("closed")
        self.assertEqual(self.breaker.stats().slow_calls, 200)

    def test_results_that_come_when_it_is_open(self) -> None:
        """Calls that had begun before change nothing any more."""
        permits = [self.breaker.generation for _ in range(10)]
        self.bench.open()
        before = self.breaker.stats()
        for permit in permits[:5]:
            self.breaker.record(permit, 1001.0, 0.1, True)
        for permit in permits[5:]:
            self.breaker.record(permit, 1001.0, 0.1, False)
        self.assertEqual(self.breaker.stats(), before)
        self.assertState("open", "5 failures in a row")


class HalfOpenTests(BreakerTestCase):
    def half_open(self, **settings: Any) -> int:
        """The permit of the first probe."""
        self.make(**settings)
        self.bench.open()
        self.bench.wait_until_open_time_is_over()
        permit = self.breaker.acquire(self.bench.now)
        self.assertState("half_open", "open time of 30 s is over")
        return permit

    def test_not_before_its_time(self) -> None:
        self.bench.open()
        self.bench.now += 29.9
        self.assertReady(False)
        self.bench.now += 0.1
        self.assertReady()
        self.assertState("open")

    def test_one_probe_at_a_time(self) -> None:
        permit = self.half_open()
        self.assertReady(False)
        self.assertRaises(RuntimeError, self.breaker.acquire, self.bench.now)
        self.assertEqual(self.breaker.retry_at(self.bench.now), self.bench.now)
        self.breaker.record(permit, self.bench.now, 0.1, False)
        self.assertReady()

    def test_several_probes(self) -> None:
        self.half_open(half_open_calls=3)
        self.breaker.acquire(self.bench.now)
        self.assertReady()
        self.breaker.acquire(self.bench.now)
        self.assertReady(False)
        self.assertEqual(self.breaker.probes, 3)

    def test_two_successes_close_it(self) -> None:
        permit = self.half_open()
        self.breaker.record(permit, self.bench.now, 0.1, False)
        self.assertState("half_open")
        self.bench.call("ok")
        self.assertState("closed", "2 probes succeeded")
        self.assertEqual(self.breaker.probes, 0)
        self.assertEqual(self.breaker.stats().failure_rate, 0.0)

    def test_a_failed_probe_opens_it(self) -> None:
        permit = self.half_open()
        self.breaker.record(permit, self.bench.now, 0.1, False)
        self.bench.call("failed")
        self.assertState("open", "probe failed")
        self.assertReady(False)
        self.bench.wait_until_open_time_is_over()
        self.bench.call("ok")
        self.assertState("half_open")

    def test_the_client_of_a_probe_left(self) -> None:
        """No verdict, but the slot is free again."""
        permit = self.half_open()
        self.breaker.release(permit, self.bench.now)
        self.assertState("half_open")
        self.assertEqual(self.breaker.probes, 0)
        self.assertReady()

    def test_a_slow_probe(self) -> None:
        """It is a failure only where slow calls matter."""
        permit = self.half_open()
        self.breaker.record(permit, self.bench.now, 6.0, False)
        self.assertState("half_open")
        permit = self.half_open(slow_call_rate_threshold=1.0)
        self.breaker.record(permit, self.bench.now, 6.0, False)
        self.assertState("open", "probe was slow (6 s)")

    def test_a_probe_that_outlives_its_time(self) -> None:
        """One of two failed. The other still counts as a probe, but its verdict no longer does."""
        late = self.half_open(half_open_calls=2)
        self.bench.call("failed")
        self.assertState("open")
        self.bench.wait_until_open_time_is_over()
        self.assertReady()
        probe = self.breaker.acquire(self.bench.now)
        self.assertReady(False)
        self.breaker.record(late, self.bench.now, 70.0, True)
        self.assertState("half_open")
        self.assertEqual(self.breaker.probes, 1)
        self.breaker.record(probe, self.bench.now, 0.1, False)
        self.assertEqual(self.breaker.probes, 0)

    def test_results_of_the_closed_time_are_no_probes(self) -> None:
        self.make()
        late = self.breaker.generation
        self.bench.open()
        self.bench.wait_until_open_time_is_over()
        self.breaker.acquire(self.bench.now)
        self.breaker.record(late, self.bench.now, 31.0, True)
        self.assertState("half_open")
        self.assertEqual(self.breaker.probes, 1)


class OpenTimeTests(BreakerTestCase):
    def reopen(self) -> float:
        """A probe fails; the open time that follows."""
        self.bench.wait_until_open_time_is_over()
        self.bench.call("failed")
        return self.bench.open_time

    def close(self) -> None:
        self.bench.wait_until_open_time_is_over()
        self.bench.call("ok", times=2)
        self.assertState("closed")

    def test_it_doubles_up_to_a_bound(self) -> None:
        self.bench.open()
        times = [self.bench.open_time, *(self.reopen() for _ in range(6))]
        self.assertEqual(times, [30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 300.0])

    def test_a_slow_probe_that_fails(self) -> None:
        """However long the probe took: the instance has not recovered."""
        self.bench.open()
        self.bench.wait_until_open_time_is_over()
        permit = self.breaker.acquire(self.bench.now)
        self.bench.now += 3600.0
        self.breaker.record(permit, self.bench.now, 3600.0, True)
        self.assertEqual(self.bench.open_time, 60.0)

    def test_it_never_overflows(self) -> None:
        self.make(timeout_factor=10.0)
        self.bench.open()
        self.assertEqual({self.reopen() for _ in range(1000)}, {300.0})

    def test_flapping(self) -> None:
        """Closing for less time than it was open last is no recovery."""
        self.bench.open()
        self.close()
        self.bench.now += 29.9
        self.bench.open()
        self.assertEqual(self.bench.open_time, 60.0)
        self.close()
        self.bench.now += 30.0
        self.bench.open()
        self.assertEqual(self.bench.open_time, 120.0)

    def test_recovery(self) -> None:
        """Once it has stayed closed for as long as it was open last, growth begins anew."""
        self.bench.open()
        self.reopen()
        self.close()
        self.bench.now += 60.0
        self.bench.open()
        self.assertEqual(self.bench.open_time, 30.0)

    def test_jitter(self) -> None:
        """Downwards, so that the open time has a bound."""
        self.make(jitter=0.2, random=0.5)
        self.bench.open()
        self.assertAlmostEqual(self.bench.open_time, 27.0)
        self.bench.random = 0.999
        self.assertAlmostEqual(self.reopen(), 60.0 * 0.8002)
        self.bench.random = 0.0
        self.assertAlmostEqual(self.reopen(), 120.0)


class HastenTests(BreakerTestCase):
    """Where nobody else is left, a breaker does not wait out its time."""

    def test_it_is_probed_sooner_and_says_so(self) -> None:
        """The reason tells how long it was really open."""
        self.bench.open()
        self.breaker.hasten(1.0)
        self.assertFalse(self.breaker.ready(self.bench.now + 0.9))
        self.bench.now += 1.0
        self.bench.call()
        self.assertEqual(self.breaker.changes[1].reason, "open time of 1 s is over")

    def test_never_later(self) -> None:
        """A breaker that may be probed before that anyway is left alone."""
        self.bench.open()
        self.breaker.hasten(60.0)
        self.assertEqual(self.bench.open_time, 30.0)

    def test_only_an_open_one(self) -> None:
        """What an operator has forced open stays so."""
        self.breaker.force_open(self.bench.now)
        self.breaker.hasten(1.0)
        self.assertFalse(self.breaker.ready(self.bench.now + 60.0))


class OperatorTests(BreakerTestCase):
    def test_forced_open(self) -> None:
        """Nothing gets through, however long it lasts."""
        self.breaker.force_open(1000.0)
        self.assertState("forced_open", "forced open by an operator")
        self.bench.now = 1e9
        self.assertReady(False)
        self.assertEqual(self.breaker.retry_at(self.bench.now), math.inf)
        self.assertRaises(RuntimeError, self.breaker.acquire, self.bench.now)
        self.breaker.reset(self.bench.now)
        self.assertState("closed", "reset by an operator")
        self.assertReady()
        self.assertEqual(self.breaker.retry_at(self.bench.now), self.bench.now)

    def test_disabled(self) -> None:
        """Everything gets through and is counted."""
        self.bench.open()
        self.breaker.disable(self.bench.now)
        self.bench.call("failed", times=100)
        self.assertState("disabled", "disabled by an operator")
        self.assertEqual(self.breaker.stats().failed_calls, 105)
        self.assertEqual(self.breaker.stats().failure_rate, 1.0)
        self.breaker.reset(self.bench.now)
        self.bench.call("failed", times=4)
        self.assertState("closed")

    def test_disabled_by_configuration(self) -> None:
        self.make(enabled=False)
        self.assertState("disabled")
        self.bench.call("failed", times=100)
        self.assertEqual(self.breaker.stats().consecutive_failures, 100)
        self.breaker.force_open(self.bench.now)
        self.assertReady(False)
        self.breaker.reset(self.bench.now)
        self.assertState("disabled", "reset by an operator")
        self.assertEqual(self.breaker.stats().consecutive_failures, 0)

    def test_reset_forgets_what_led_to_it(self) -> None:
        self.bench.call("failed", times=4)
        self.breaker.reset(self.bench.now)
        self.assertEqual(len(self.breaker.changes), 0)
        self.bench.call("failed", times=4)
        self.assertState("closed")
        self.bench.call("failed")
        self.bench.wait_until_open_time_is_over()
        self.bench.call("failed")
        self.breaker.reset(self.bench.now)
        self.bench.open()
        self.assertEqual(self.bench.open_time, 30.0)

    def test_calls_in_flight_when_it_is_reset(self) -> None:
        """Results of calls from before change nothing, whichever they are."""
        permits = [self.breaker.generation for _ in range(10)]
        self.breaker.reset(1000.0)
        for permit in permits:
            self.breaker.record(permit, 1000.0, 0.1, True)
        self.assertState("closed")
        self.assertEqual(self.breaker.stats().total_calls, 0)

    def test_probes_in_flight_when_it_is_forced(self) -> None:
        """Their slots are free at once, and are not freed a second time when they end."""
        for force in (self.breaker.reset, self.breaker.force_open, self.breaker.disable):
            self.breaker.reset(self.bench.now)
            self.bench.open()
            self.bench.wait_until_open_time_is_over()
            probe = self.breaker.acquire(self.bench.now)
            force(self.bench.now)
            state = self.breaker.state
            self.assertEqual(self.breaker.probes, 0)
            self.breaker.record(probe, self.bench.now, 0.1, False)
            self.assertEqual((self.breaker.state, self.breaker.probes), (state, 0))


class SeenTests(BreakerTestCase):
    def test_changes(self) -> None:
        """Each is told when it is complete, and the last 20 are kept."""
        self.bench.open()
        self.bench.wait_until_open_time_is_over()
        self.bench.call("ok", times=2)
        expected = [
            StateChange("closed", "open", 1000.0, "5 failures in a row"),
            StateChange("open", "half_open", 1030.0, "open time of 30 s is over"),
            StateChange("half_open", "closed", 1030.0, "2 probes succeeded"),
        ]
        self.assertEqual(list(self.breaker.changes), expected)
        self.assertEqual(self.bench.told, expected)
        for _ in range(20):
            self.breaker.force_open(2000.0)
            self.breaker.force_open(2000.0)
            self.breaker.reset(3000.0)
        self.assertEqual(len(self.bench.told), 43)
        self.assertEqual(list(self.breaker.changes), self.bench.told[-20:])
        self.assertEqual(self.breaker.since, 3000.0)

    def test_the_first_probe_is_counted_when_the_change_is_told(self) -> None:
        """Whoever asks then whether one more call may begin hears no."""
        answers = []
        breaker = Breaker(
            SETTINGS, lambda: 0.0, lambda change: answers.append(breaker.ready(change.at))
        )
        for _ in range(5):
            breaker.record(breaker.generation, 1000.0, 0.1, True)
        breaker.acquire(1030.0)
        self.assertEqual(answers, [False, False])

    def test_statistics(self) -> None:
        stats = self.breaker.stats()
        self.assertEqual((stats.last_failure, stats.average_duration), (None, 0.0))
        self.bench.call("ok", times=2, seconds=1.0)
        self.bench.now += 1.0
        self.bench.call("failed", seconds=6.0)
        self.bench.now += 1.0
        self.bench.call("ok", seconds=8.0)
        self.assertEqual(
            self.breaker.stats()._asdict(),
            {
                "total_calls": 4,
                "failed_calls": 1,
                "successful_calls": 3,
                "slow_calls": 2,
                "failure_rate": 0.25,
                "consecutive_failures": 0,
                "consecutive_successes": 1,
                "last_failure": 1001.0,
                "last_success": 1002.0,
                "average_duration": 4.0,
            },
        )

    def test_it_keeps_what_opened_it(self) -> None:
        """While it is open one can read the rate that did it."""
        self.bench.call("ok", times=5)
        self.bench.open()
        self.assertEqual(self.breaker.stats().failure_rate, 0.5)
        self.assertEqual(self.breaker.stats().consecutive_failures, 5)

    def test_in_words(self) -> None:
        expected = "<Breaker closed 0/1 probes <CountWindow 0 of 100 calls, 0 failed, 0 slow>>"
        self.assertEqual(repr(self.breaker), expected)
        self.make(window_seconds=30.0)
        self.bench.open()
        self.assertEqual(
            repr(self.breaker),
            "<Breaker open until 1030.000 0/1 probes <TimeWindow 30 s: 5 calls, 5 failed, 0 slow>>",
        )


OUTCOMES = st.integers(0, FAILED | SLOW)


class WindowTests(SynchronousTestCase):
    """Against a list of all calls."""

    def check(self, window: CountWindow | TimeWindow, inside: list[int]) -> None:
        counts = (window.calls, window.failed, window.slow)
        failed = sum(outcome & FAILED != 0 for outcome in inside)
        slow = sum(outcome & SLOW != 0 for outcome in inside)
        self.assertEqual(counts, (len(inside), failed, slow))

    @PROPERTY
    @given(st.integers(1, 8), st.lists(OUTCOMES, max_size=40))
    def test_the_last_calls(self, size: int, outcomes: list[int]) -> None:
        window = CountWindow(size)
        for count, outcome in enumerate(outcomes, 1):
            window.add(0.0, outcome)
            self.check(window, outcomes[max(count - size, 0) : count])
        window.clear()
        self.check(window, [])

    @PROPERTY
    @given(st.lists(st.tuples(st.integers(0, 14), OUTCOMES), max_size=40))
    def test_the_last_seconds(self, calls: list[tuple[int, int]]) -> None:
        """Buckets of one second: those of the last ten whole seconds are in."""
        window = TimeWindow(float(BUCKETS))
        now = 1000
        seen: list[tuple[int, int]] = []
        for silence, outcome in calls:
            now += silence
            window.add(now + 0.5, outcome)
            seen.append((now, outcome))
            self.check(window, [each for at, each in seen if at > now - BUCKETS])
        window.clear()
        self.check(window, [])
