"""The adaptive limit, by itself and in front of a simulated service of known capacity."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from random import Random
from statistics import mean

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.concurrency import GradientLimit
from tests.core.profile import PROPERTY

SERVICE_TIME = 0.01
"""Mean seconds that a worker of the simulated service spends on a call."""


class Station:
    """A service with a number of workers and one queue, kept busy by more clients than it can bear.

    Its knee is where all workers are busy and nothing queues: as many calls as it has workers.
    """

    def __init__(self, limit: GradientLimit, workers: int, seed: int = 1) -> None:
        self.limit = limit
        self.now = 0.0
        self.slowness = 1.0
        self._random = Random(seed)
        self._free = [0.0] * workers
        self._calls: list[tuple[float, float]] = []

    def staff(self, workers: int) -> None:
        """Change how many work; who is busy finishes first."""
        self._free = sorted(self._free)[:workers]
        self._free += [self.now] * (workers - len(self._free))
        heapify(self._free)

    def serve(self, calls: int, demand: int = 10**6, loss: float = 0.0) -> list[int]:
        """Serve so many calls.

        :param demand: clients that each have one call in flight, if the limit allows it.
        :param loss: share of calls that fail.
        :returns: the limit after each call.
        """
        limits = []
        for _ in range(calls):
            while len(self._calls) < min(self.limit.limit, demand):
                self._start()
            inflight = len(self._calls)
            self.now, started = heappop(self._calls)
            failed = self._random.random() < loss
            self.limit.sample(self.now - started, inflight, failed)
            limits.append(self.limit.limit)
        return limits

    def _start(self) -> None:
        begin = max(heappop(self._free), self.now)
        end = begin + self._random.expovariate(1 / (SERVICE_TIME * self.slowness))
        heappush(self._free, end)
        heappush(self._calls, (end, self.now))


class SimulationTests(SynchronousTestCase):
    def assert_near_the_knee(self, limits: list[int], workers: int) -> None:
        """All workers are busy, and not much waits. A probe lowers the limit for a moment."""
        self.assertGreater(mean(limits), 0.9 * workers)
        self.assertLess(mean(limits), 1.6 * workers)
        self.assertLess(max(limits), 2 * workers)

    def test_finds_the_knee_from_below(self) -> None:
        """A service that can do twenty at once is soon asked twenty at once, and stays fast."""
        station = Station(GradientLimit(4, 1000, 4), workers=20)
        station.serve(10_000)
        self.assert_near_the_knee(station.serve(30_000), 20)

    def test_finds_the_knee_from_above(self) -> None:
        """A limit that was far too high to begin with comes down, though the service never rests,
        so that it was never seen without a queue."""
        station = Station(GradientLimit(4, 1000, 100), workers=20)
        station.serve(40_000)
        self.assert_near_the_knee(station.serve(20_000), 20)

    def test_stays_under_lasting_overload(self) -> None:
        """The present latency does not creep into what counts as usual."""
        station = Station(GradientLimit(4, 1000, 20), workers=20)
        station.serve(100_000)
        self.assert_near_the_knee(station.serve(20_000), 20)

    def test_follows_a_change_of_capacity(self) -> None:
        """Three of four workers go, and come back: so does the limit."""
        station = Station(GradientLimit(4, 1000, 20), workers=40)
        self.assert_near_the_knee(station.serve(40_000)[-10_000:], 40)
        station.staff(10)
        self.assertLess(mean(station.serve(30_000)[-10_000:]), 25)
        station.staff(40)
        self.assert_near_the_knee(station.serve(60_000)[-10_000:], 40)

    def test_recovers_from_failures(self) -> None:
        """When all calls fail the limit falls to its floor; afterwards it climbs back."""
        station = Station(GradientLimit(4, 1000, 20), workers=20)
        station.serve(20_000)
        self.assertEqual(station.serve(500, loss=1.0)[-1], 4)
        self.assert_near_the_knee(station.serve(20_000)[-10_000:], 20)

    def test_a_stray_failure_costs_little(self) -> None:
        """One call in a thousand fails, for reasons of its own: the service stays in use."""
        station = Station(GradientLimit(4, 1000, 20), workers=20)
        station.serve(10_000)
        self.assertGreater(mean(station.serve(20_000, loss=0.001)), 18)

    def test_accepts_that_a_service_became_slow(self) -> None:
        """Each call takes three times as long, with the same number of workers: after a while
        that is usual, and the limit is not held down for ever."""
        station = Station(GradientLimit(4, 1000, 20), workers=20)
        station.serve(20_000)
        station.slowness = 3.0
        self.assertGreater(mean(station.serve(60_000)[-10_000:]), 18)


class LimitTests(SynchronousTestCase):
    def feed(
        self, limit: GradientLimit, calls: int, seconds: float, inflight: Callable[[], int]
    ) -> None:
        for _ in range(calls):
            limit.sample(seconds, inflight(), False)

    def test_begins_within_its_bounds(self) -> None:
        self.assertEqual(GradientLimit(4, 10, 1).limit, 4)
        self.assertEqual(GradientLimit(4, 10, 100).limit, 10)
        self.assertEqual(GradientLimit(4, 10, 7).limit, 7)

    def test_does_not_grow_unused(self) -> None:
        """A quiet hour is no evidence that the service could take more."""
        limit = GradientLimit(4, 1000, 50)
        self.feed(limit, 10_000, 0.01, lambda: limit.limit // 2 - 1)
        self.assertEqual(limit.limit, 50)
        self.feed(limit, 10_000, 0.01, lambda: limit.limit)
        self.assertGreater(limit.limit, 100)

    def test_halves_when_all_fail(self) -> None:
        """At once, not when the average has noticed."""
        limit = GradientLimit(4, 1000, 100)
        for _ in range(100):
            limit.sample(30.0, 100, True)
        self.assertEqual(limit.limit, 50)
        for _ in range(50):
            limit.sample(30.0, 50, True)
        self.assertEqual(limit.limit, 25)

    def test_shrinks_as_latency_grows(self) -> None:
        limit = GradientLimit(4, 1000, 100)
        self.feed(limit, 1000, 0.01, lambda: limit.limit)
        before = limit.limit
        self.feed(limit, 3000, 0.1, lambda: limit.limit)
        self.assertLess(limit.limit, before * 0.7)

    def test_failures_say_nothing_of_latency(self) -> None:
        """Every other call times out after half a minute: that is not how long answers take."""
        limit = GradientLimit(4, 1000, 100)
        for _ in range(500):
            limit.sample(0.01, limit.limit, False)
            limit.sample(30.0, limit.limit, True)
        self.assertIn("usually 10.0 ms", repr(limit))

    def test_an_overload_is_soon_forgotten(self) -> None:
        """Some thousand slow calls became usual; some hundred fast ones are enough to undo that,
        so that the next overload is seen."""
        limit = GradientLimit(4, 100, 30)
        self.feed(limit, 3000, 0.1, lambda: limit.limit)
        self.feed(limit, 2000, 0.01, lambda: limit.limit)
        before = limit.limit
        self.feed(limit, 500, 0.05, lambda: limit.limit)
        self.assertLess(limit.limit, before)

    def test_probes(self) -> None:
        """Now and then the limit is lowered for a moment. A probe that meets a slow moment
        changes nothing of what is usual."""
        limit = GradientLimit(40, 200, 200)
        self.feed(limit, 200 * 100, 0.01, lambda: limit.limit)
        self.assertEqual(limit.limit, 140)
        self.feed(limit, 200 * 3, 0.1, lambda: limit.limit)
        self.assertEqual(limit.limit, 200)
        self.assertIn("usually 10.0 ms", repr(limit))

    def test_probes_within_its_bounds(self) -> None:
        """The lowest limit is not lowered."""
        limit = GradientLimit(10, 12, 10)
        for _ in range(10_000):
            limit.sample(0.01, limit.limit, False)
            self.assertTrue(10 <= limit.limit <= 12, repr(limit))

    def test_answers_in_no_time(self) -> None:
        """A clock too coarse for a fast service is no reason to fail."""
        limit = GradientLimit(4, 100, 10)
        self.feed(limit, 10_000, 0.0, lambda: limit.limit)
        self.assertEqual(limit.limit, 100)

    def test_shows_its_state(self) -> None:
        limit = GradientLimit(4, 100, 10)
        self.assertEqual(repr(limit), "<GradientLimit 10 of 4..100 nothing known>")
        self.feed(limit, 30, 0.01, lambda: 1)
        self.assertEqual(repr(limit), "<GradientLimit 10 of 4..100 usually 10.0 ms>")

    @settings(PROPERTY, max_examples=60)
    @given(
        low=st.integers(1, 50),
        room=st.integers(0, 500),
        initial=st.integers(0, 1000),
        waves=st.lists(
            st.tuples(
                st.integers(1, 400),
                st.floats(0.0, 1e6),
                st.integers(0, 2000),
                st.booleans(),
            ),
            max_size=10,
        ),
    )
    def test_never_leaves_its_bounds(
        self, low: int, room: int, initial: int, waves: list[tuple[int, float, int, bool]]
    ) -> None:
        """Whatever calls bring."""
        limit = GradientLimit(low, low + room, initial)
        for calls, seconds, inflight, failed in waves:
            for _ in range(calls):
                limit.sample(seconds, inflight, failed)
                self.assertTrue(low <= limit.limit <= low + room, repr(limit))
