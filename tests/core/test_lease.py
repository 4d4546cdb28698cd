"""Leases: demand, size, and how long a refusal is remembered."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.lease import Demand, lease_size, most_leased, silence
from tests.core.profile import PROPERTY

LIMITS = st.floats(1, 1e6)
RATES = st.floats(0.001, 1e6)
GATEWAYS = st.integers(1, 64)
SECONDS = st.floats(0.05, 1.0)


class DemandTests(SynchronousTestCase):
    def demand(self, rate: float, seconds: float, start: float = 50.0) -> tuple[Demand, float]:
        demand = Demand(start)
        now = start
        for i in range(1, int(rate * seconds) + 1):
            now = start + i / rate
            demand.seen += 1
            if demand.seen >= Demand.MANY or now - demand.began >= Demand.DUE:
                demand.turn(now)
        return demand, now

    def test_steady(self) -> None:
        """An even demand is known after some seconds, whether it is turned by time or number."""
        for rate in (2.0, 10.0, 100.0, 5000.0):
            demand, now = self.demand(rate, 5.0)
            self.assertLess(abs(demand.at(now) / rate - 1.0), 0.02)

    def test_burst(self) -> None:
        """What comes in no time counts at once, as so much in the seconds of the average."""
        demand = Demand(0.0)
        demand.seen = 100
        self.assertAlmostEqual(demand.at(0.0), 100.0)
        demand.seen = 100
        self.assertAlmostEqual(demand.at(1e-9), 200.0, places=3)

    def test_fades(self) -> None:
        """A second later, a third of it is left; then nothing."""
        demand, now = self.demand(1000.0, 5.0)
        before = demand.at(now)
        self.assertLess(abs(demand.at(now + 1.0) / before - math.exp(-1)), 0.01)
        self.assertLess(demand.at(now + 20.0), 1e-3)

    def test_first_moments(self) -> None:
        """It is never over what was seen, so that nobody looks hot who is not."""
        demand = Demand(0.0)
        demand.seen = 1
        demand.turn(0.05)
        self.assertEqual((demand.rate, demand.seen), (0.0, 1))
        self.assertLessEqual(demand.at(0.2), 1.0)

    def test_repr(self) -> None:
        self.assertEqual(repr(Demand(0.0)), "<Demand 0/s>")

    @PROPERTY
    @given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 3)), max_size=40))
    def test_bounds(self, calls: list[tuple[int, float]]) -> None:
        """Never below 0, never more than was seen in all per second of the average."""
        demand = Demand(0.0)
        now, total = 0.0, 0
        for units, pause in calls:
            now += pause
            total += units
            demand.seen += units
            self.assertGreaterEqual(demand.at(now), 0.0)
            self.assertLessEqual(demand.at(now), total * (1 + 1e-6))


class LeaseSizeTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        for (limit, rate, demand, gateways, seconds), size in {
            (100, 100, 1000, 8, 1.0): 12,
            (100, 100, 5, 4, 1.0): 16,
            (100, 100, 3, 4, 1.0): 12,
            (100, 100, 20, 4, 1.0): 20,
            (100, 100, 1000, 1, 0.5): 50,
            (10, 1000, 1000, 2, 1.0): 5,
            (100, 5, 1000, 8, 1.0): 0,
            (100, 100, 0.4, 8, 1.0): 0,
            (100, 100, 1000, 0, 1.0): 100,
            (10_000, 10_000, 100_000, 8, 0.5): 625,
        }.items():
            self.assertEqual(lease_size(limit, rate, demand, gateways, seconds), size)

    @PROPERTY
    @given(LIMITS, RATES, st.floats(0, 1e7), GATEWAYS, SECONDS)
    def test_shares(
        self, limit: float, rate: float, demand: float, gateways: int, seconds: float
    ) -> None:
        """All gateways together hold no more than comes in meanwhile, and no more than there is."""
        size = lease_size(limit, rate, demand, gateways, seconds)
        self.assertTrue(size == 0 or size >= 2)
        self.assertLessEqual(size, max(demand * seconds, min(4 * demand * seconds, 16)))
        most = most_leased(limit, rate, gateways, seconds)
        self.assertLessEqual(size, most)
        self.assertLessEqual(most * gateways, min(limit, rate * seconds))


class SilenceTests(SynchronousTestCase):
    def test_silence(self) -> None:
        for (wait, limit, rate), seconds in {
            (0.5, 10, 1): 0.5,
            (0.0001, 10_000, 10_000): 0.01,
            (0.0001, 3, 1000): 0.001,
            (0.003, 1, 100): 0.003,
            (60.0, 10, 1): 1.0,
            (math.inf, 10, 1): 1.0,
        }.items():
            self.assertAlmostEqual(silence(wait, limit, rate), seconds)

    @PROPERTY
    @given(st.floats(1e-9, 1e6), LIMITS, RATES)
    def test_nothing_runs_over(self, wait: float, limit: float, rate: float) -> None:
        """A bucket too empty for one unit is not full when it is asked for again."""
        seconds = silence(wait, limit, rate)
        self.assertGreaterEqual(seconds, min(wait, 1.0))
        self.assertLessEqual(seconds, 1.0)
        if seconds > wait:
            self.assertLessEqual(rate * seconds, (limit - 1) / 2 + 1e-6)
