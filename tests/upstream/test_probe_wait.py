"""Requests that wait to be told whether they may be a probe."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.upstream import probe_wait
from rtgateway.upstream.probe_wait import ProbeWait


class ProbeWaitTests(SynchronousTestCase):
    """They go on with the next answer, or without one when it is too late."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wait = ProbeWait(self.clock)

    def waiting(self) -> Deferred[None]:
        waiting = self.wait.wait()
        assert waiting is not None
        return waiting

    def test_an_answer(self) -> None:
        """All of them, in order; nothing is left of it."""
        order: list[int] = []
        for n in range(3):
            self.waiting().addCallback(lambda _, n: order.append(n), n)
        self.wait.answered()
        self.assertEqual(order, [0, 1, 2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_none(self) -> None:
        """The first one that waits sets the time for all."""
        first = self.waiting()
        self.clock.advance(0.06)
        second = self.waiting()
        self.assertFalse(first.called)
        self.clock.advance(0.05)
        self.assertTrue(first.called and second.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_leaves(self) -> None:
        """A request whose client is gone is told nothing; the others are."""
        leaving, staying = self.waiting(), self.waiting()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.wait.answered()
        self.assertTrue(staying.called)

    def test_one_that_ends_another(self) -> None:
        first, second = self.waiting(), self.waiting()
        first.addCallback(lambda _: second.cancel())
        self.wait.answered()
        self.failureResultOf(second, CancelledError)

    def test_who_waits_again(self) -> None:
        """For another answer than this one."""
        again: list[Deferred[None]] = []
        self.waiting().addCallback(lambda _: again.append(self.waiting()))
        self.wait.answered()
        self.assertFalse(again[0].called)
        self.clock.advance(0.1)
        self.assertTrue(again[0].called)

    def test_too_many(self) -> None:
        self.patch(probe_wait, "_MOST", 2)
        self.waiting(), self.waiting()
        self.assertIsNone(self.wait.wait())

    def test_the_end(self) -> None:
        """Who waits goes on, and nobody waits any more."""
        waiting = self.waiting()
        self.wait.close()
        self.assertTrue(waiting.called)
        self.assertIsNone(self.wait.wait())
        self.assertEqual(self.clock.getDelayedCalls(), [])
