"""When checks happen, on a clock of our own: interval, jitter, delay, and never two at once."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.upstream.check_target import CheckTarget
from rtgateway.upstream.health import HealthCheck, HealthChecks
from rtgateway.upstream.probe import Outcome, Probe

__all__: list[str] = []

PASSED = Outcome(True, "status 200")
FAILED = Outcome(False, "status 500")


class FakeProbe:
    """Keeps when it was asked; the test says what comes of it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[float] = []
        self.cancelled = 0
        self.answer: Outcome | None = PASSED
        self.pending: list[Deferred[Outcome]] = []

    def check(self) -> Deferred[Outcome]:
        self.asked.append(self.clock.seconds())
        checking: Deferred[Outcome] = Deferred(self.cancel)
        self.pending.append(checking)
        if self.answer is not None:
            self.finish(self.answer)
        return checking

    def cancel(self, checking: Deferred[Outcome]) -> None:
        self.cancelled += 1
        self.pending.remove(checking)

    def finish(self, outcome: Outcome | Exception) -> None:
        checking = self.pending.pop()
        if isinstance(outcome, Exception):
            checking.errback(outcome)
        else:
            checking.callback(outcome)


class ScheduleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.probe = FakeProbe(self.clock)
        self.dice = 0.5
        self.changes: list[bool] = []

    def check(self, **settings: Any) -> HealthCheck[Any]:
        """A check every ten seconds; half of what the dice can show is the middle of the jitter."""
        return HealthCheck(
            CheckTarget("http://a.test:1", b"a.test:1", name="users"),
            config.HealthCheck(**{"interval": 10.0, "jitter": 0.0, **settings}),
            self.clock,
            lambda: self.dice,
            lambda check: self.changes.append(check.health.up),
            probe=cast("Probe", self.probe),
            clock=self.clock.seconds,
        )

    def started(self, **settings: Any) -> HealthCheck[Any]:
        check = self.check(**settings)
        check.start()
        return check

    def test_every_interval(self) -> None:
        """At once, and then once in each interval."""
        check = self.started()
        self.clock.pump([0.0, 10.0, 10.0])
        self.assertEqual(self.probe.asked, [0.0, 10.0, 20.0])
        self.assertEqual(check.health.consecutive, 3)
        self.assertEqual(check.health.checked_at, 20.0)
        self.assertEqual(check.last_detail, "status 200")

    def test_initial_delay(self) -> None:
        """Nothing is asked while a service is given time to come up."""
        self.started(initial_delay=30.0)
        self.clock.advance(29.9)
        self.assertEqual(self.probe.asked, [])
        self.clock.advance(0.1)
        self.assertEqual(self.probe.asked, [30.0])

    def test_jitter(self) -> None:
        """Checks of many instances drift apart: the interval varies by its share, both ways."""
        self.dice = 0.75
        self.started(jitter=0.2)
        self.clock.advance(1.5)
        self.assertEqual(self.probe.asked, [1.5])
        self.clock.advance(11.0)
        self.assertEqual(self.probe.asked, [1.5, 12.5])
        self.dice = 0.0
        self.clock.advance(11.0)
        self.clock.advance(8.0)
        self.assertEqual(self.probe.asked, [1.5, 12.5, 23.5, 31.5])

    def test_slow_checks_do_not_overlap(self) -> None:
        """A check that takes longer than the interval is waited for; the next follows at once."""
        self.probe.answer = None
        check = self.started(timeout=60.0)
        self.clock.pump([0.0] + [1.0] * 25)
        self.assertEqual(self.probe.asked, [0.0])
        self.probe.finish(PASSED)
        self.assertEqual(check.last_duration, 25.0)
        self.clock.advance(0.0)
        self.assertEqual(self.probe.asked, [0.0, 25.0])

    def test_the_interval_counts_from_the_beginning(self) -> None:
        """The time that a check takes is part of its interval."""
        self.probe.answer = None
        self.started()
        self.clock.pump([0.0, 4.0])
        self.probe.finish(FAILED)
        self.clock.pump([5.9, 0.1])
        self.assertEqual(self.probe.asked, [0.0, 10.0])

    def test_stop_between_checks(self) -> None:
        """Nothing is left in the reactor; starting again checks again, with what was known."""
        check = self.started(fall=1)
        self.probe.answer = FAILED
        self.clock.advance(0.0)
        check.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(check.running)
        check.start()
        self.assertFalse(check.health.up)
        self.clock.advance(0.0)
        self.assertEqual(len(self.probe.asked), 2)

    def test_stop_during_a_check(self) -> None:
        """The check in flight is ended and counts for nothing."""
        self.probe.answer = None
        check = self.started(fall=1)
        self.clock.advance(0.0)
        check.stop()
        check.stop()
        self.assertEqual(self.probe.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((check.health.up, check.last_checked, self.changes), (True, None, []))

    def test_started_twice(self) -> None:
        """Starting what runs changes nothing."""
        self.started().start()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_stopped_by_its_own_news(self) -> None:
        """Whoever is told of a change may stop the check."""
        self.probe.answer = FAILED
        check = self.started(fall=1)
        check._on_change = HealthCheck.stop
        self.clock.advance(0.0)
        self.assertFalse(check.health.up)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_listener_that_fails(self) -> None:
        """Its error is logged, and checking goes on."""
        self.probe.answer = FAILED
        check = self.started(fall=1)
        check._on_change = lambda check: self.fail("not today")
        self.clock.pump([0.0, 10.0])
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.assertEqual(self.probe.asked, [0.0, 10.0])

    def test_a_probe_with_a_defect(self) -> None:
        """It is logged and counts as failed; checking goes on."""
        self.probe.answer = None
        check = self.started(fall=1)
        self.clock.advance(0.0)
        self.probe.finish(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((check.health.up, self.changes), (False, [False]))
        self.clock.advance(10.0)
        self.assertEqual(self.probe.asked, [0.0, 10.0])

    def test_repr(self) -> None:
        self.assertEqual(
            repr(self.check()),
            "<HealthCheck of users http://a.test:1 stopped <Health up, 0 passed>>",
        )


class ServiceTests(SynchronousTestCase):
    """`HealthChecks` starts and stops what it holds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.checks = HealthChecks()

    def check(self) -> HealthCheck[Any]:
        return HealthCheck(
            CheckTarget("http://a.test:1", b"a.test:1"),
            config.HealthCheck(),
            self.clock,
            lambda: 0.5,
            lambda check: None,
            probe=cast("Probe", FakeProbe(self.clock)),
        )

    def test_with_the_gateway(self) -> None:
        """Checks begin when it starts, and end when it stops."""
        checks = [self.check(), self.check()]
        for check in checks:
            self.checks.add(check)
        self.assertEqual([check.running for check in checks], [False, False])
        self.checks.startService()
        self.assertEqual([check.running for check in checks], [True, True])
        self.checks.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(list(self.checks), checks)

    def test_while_it_runs(self) -> None:
        """A check that is added begins at once; one that is removed ends and is forgotten."""
        self.checks.startService()
        check = self.check()
        self.checks.add(check)
        self.assertTrue(check.running)
        self.checks.remove(check)
        self.checks.remove(check)
        self.assertFalse(check.running)
        self.assertEqual(len(self.checks), 0)

    def test_repr(self) -> None:
        check = self.check()
        self.checks.add(check)
        for _ in range(3):
            check.health.failed(0.0, "refused")
        self.assertEqual(repr(self.checks), "<HealthChecks 1 checks 1 down>")
