"""A race between attempts: staggered, one winner, nobody left running."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.net.racing import ATTEMPT_DELAY, interleaved, race


class InterleavedTests(SynchronousTestCase):
    def test_families_take_turns_beginning_with_the_first(self) -> None:
        """The resolver's favourite family goes first, and the other is next in line."""
        self.assertEqual(
            interleaved(["::1", "::2", "::3", "10.0.0.1"]), ["::1", "10.0.0.1", "::2", "::3"]
        )
        self.assertEqual(
            interleaved(["10.0.0.1", "10.0.0.2", "::1"]), ["10.0.0.1", "::1", "10.0.0.2"]
        )

    def test_one_family_stays_in_the_resolvers_order(self) -> None:
        """There is nothing to interleave."""
        self.assertEqual(interleaved(["10.0.0.2", "10.0.0.1"]), ["10.0.0.2", "10.0.0.1"])
        self.assertEqual(interleaved([]), [])


class RaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.started: list[Deferred[str]] = []
        self.cancelled: list[int] = []

    def attempt(self) -> Deferred[str]:
        number = len(self.started)
        attempt: Deferred[str] = Deferred(lambda _: self.cancelled.append(number))
        self.started.append(attempt)
        return attempt

    def race(self, *attempts: Any) -> Deferred[str]:
        return race(attempts or [self.attempt] * 3, self.clock)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_first_one_wins_alone(self) -> None:
        """An address that answers at once is the only one that is tried."""
        racing = self.race()
        self.started[0].callback("first")
        self.assertEqual(self.successResultOf(racing), "first")
        self.assertEqual((len(self.started), self.cancelled), (1, []))

    def test_one_that_hangs_gets_company_after_a_while(self) -> None:
        """The next address is tried beside the first; the first may still win."""
        racing = self.race()
        self.clock.advance(ATTEMPT_DELAY - 0.01)
        self.assertEqual(len(self.started), 1)
        self.clock.advance(0.01)
        self.assertEqual((len(self.started), self.cancelled), (2, []))
        self.started[0].callback("first")
        self.assertEqual(self.successResultOf(racing), "first")
        self.assertEqual(self.cancelled, [1])

    def test_a_later_one_wins_and_the_others_are_cancelled(self) -> None:
        """Nothing of the losers stays."""
        racing = self.race()
        self.clock.pump([ATTEMPT_DELAY] * 2)
        self.started[1].callback("second")
        self.assertEqual(self.successResultOf(racing), "second")
        self.assertEqual(self.cancelled, [0, 2])

    def test_a_failure_starts_the_next_at_once(self) -> None:
        """A refused connection does not cost a quarter of a second; the delay begins anew."""
        racing = self.race()
        self.clock.advance(0.2)
        self.started[0].errback(ValueError())
        self.assertEqual(len(self.started), 2)
        self.clock.advance(0.2)
        self.assertEqual(len(self.started), 2)
        self.clock.advance(0.05)
        self.assertEqual(len(self.started), 3)
        racing.cancel()
        self.failureResultOf(racing, CancelledError)

    def test_all_fail(self) -> None:
        """The reason that came last is told, whichever attempt it was."""
        racing = self.race()
        self.clock.pump([ATTEMPT_DELAY] * 2)
        self.started[2].errback(ValueError("third"))
        self.started[1].errback(ValueError("second"))
        self.assertNoResult(racing)
        self.started[0].errback(ValueError("first"))
        self.assertEqual(str(self.failureResultOf(racing, ValueError).value), "first")

    def test_attempts_that_end_at_once(self) -> None:
        """Attempts may fail, raise or succeed before they return."""

        def broken() -> Deferred[str]:
            raise ValueError("broken")

        self.assertEqual(
            self.successResultOf(self.race(lambda: fail(KeyError()), broken, lambda: succeed("3"))),
            "3",
        )
        self.failureResultOf(self.race(lambda: fail(KeyError()), broken), ValueError)

    def test_cancelled(self) -> None:
        """Whoever gives up leaves no attempt running."""
        racing = self.race()
        self.clock.advance(ATTEMPT_DELAY)
        racing.cancel()
        self.failureResultOf(racing, CancelledError)
        self.assertEqual(self.cancelled, [0, 1])
        self.clock.advance(10)
        self.assertEqual(len(self.started), 2)
