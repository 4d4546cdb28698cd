"""Token buckets: how much passes, and how long who is too fast has to wait."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.rate import TokenBucket
from tests.core.profile import PROPERTY

RATES = st.floats(0.01, 1e9)
BURSTS = st.floats(0.5, 1e9)
AMOUNTS = st.one_of(st.just(1.0), st.floats(0, 1e9))
PAUSES = st.one_of(st.just(0.0), st.floats(0, 100))


class TokenBucketTests(SynchronousTestCase):
    def test_burst(self) -> None:
        """As much as it holds passes at once; what comes then has to wait."""
        bucket = TokenBucket(10, 5)
        self.assertEqual([bucket.take(1, 100.0) for _ in range(5)], [0.0] * 5)
        self.assertAlmostEqual(bucket.take(1, 100.0), 0.1)
        self.assertAlmostEqual(bucket.take(1, 100.0), 0.2)

    def test_first_call(self) -> None:
        """It is full at first, whatever the clock says: they begin anywhere, below 0 too."""
        for now in (0.0, -1000.0, 1e12):
            self.assertEqual(TokenBucket(0.001, 3).take(3, now), 0.0, now)

    def test_refill(self) -> None:
        """It fills by its rate, and no more than full."""
        bucket = TokenBucket(10, 5)
        bucket.take(5, 0.0)
        self.assertEqual(bucket.take(2, 0.25), 0.0)
        self.assertEqual(bucket.take(5, 1000.0), 0.0)
        self.assertAlmostEqual(bucket.take(0.5, 1000.0), 0.05)

    def test_debt(self) -> None:
        """A debt is paid before anything else passes; to take nothing tells how much is left."""
        bucket = TokenBucket(2, 1)
        self.assertAlmostEqual(bucket.take(101, 0.0), 50.0)
        self.assertAlmostEqual(bucket.take(0, 30.0), 20.0)
        self.assertEqual(bucket.take(0, 50.0), 0.0)
        self.assertAlmostEqual(bucket.take(1, 50.0), 0.5)

    def test_clock_steps_back(self) -> None:
        """A clock that goes back and forth fills nothing twice."""
        bucket = TokenBucket(1, 10)
        bucket.take(10, 100.0)
        for now in (50.0, 100.0, 0.0, 100.0):
            self.assertAlmostEqual(bucket.take(0.0, now), 0.0)
        self.assertAlmostEqual(bucket.take(3, 60.0), 3.0)
        self.assertAlmostEqual(bucket.take(0, 102.0), 1.0)

    def test_settings(self) -> None:
        """What would let nothing or everything pass is refused."""
        for rate, burst in ((0, 1), (1, 0), (-1, 1), (1, -1), (math.nan, 1), (1, math.inf)):
            with self.assertRaises(ValueError, msg=f"{rate} {burst}"):
                TokenBucket(rate, burst)

    def test_repr(self) -> None:
        bucket = TokenBucket(10, 5)
        bucket.take(2, 0.0)
        self.assertEqual(repr(bucket), "<TokenBucket 3 of 5, 10/s>")

    @PROPERTY
    @given(RATES, BURSTS, st.lists(st.tuples(AMOUNTS, PAUSES), max_size=30))
    def test_who_waits(self, rate: float, burst: float, calls: list[tuple[float, float]]) -> None:
        """Who waits out every debt has taken no more than the burst and what came in since."""
        bucket = TokenBucket(rate, burst)
        start = now = 0.0
        taken = 0.0
        for amount, pause in calls:
            taken += amount
            now += bucket.take(amount, now)
            self.assertLessEqual(taken, (burst + rate * (now - start)) * (1 + 1e-6) + 1e-6)
            now += pause

    @PROPERTY
    @example(1.0, 1.0, [(1.0, -1.0), (1.0, 1.0)])
    @given(RATES, BURSTS, st.lists(st.tuples(AMOUNTS, st.floats(-10, 10)), max_size=30))
    def test_who_is_refused(
        self, rate: float, burst: float, calls: list[tuple[float, float]]
    ) -> None:
        """The same with a clock that goes anywhere: nothing is taken until a debt is paid."""
        bucket = TokenBucket(rate, burst)
        now = taken = 0.0
        paid, earliest, latest = -math.inf, math.inf, -math.inf
        for amount, step in calls:
            now += step
            earliest, latest = min(earliest, now), max(latest, now)
            if now < paid:
                continue
            most = burst + rate * (latest - earliest)
            self.assertLessEqual(taken, most * (1 + 1e-6) + 1e-6)
            debt = bucket.take(amount, now)
            taken += amount
            if debt:
                paid = latest + debt

    @PROPERTY
    @given(RATES, BURSTS, st.lists(st.tuples(AMOUNTS, st.floats(-10, 10)), max_size=30))
    def test_never_more_than_full(
        self, rate: float, burst: float, calls: list[tuple[float, float]]
    ) -> None:
        """Whatever happened, no more than the burst passes at once."""
        bucket = TokenBucket(rate, burst)
        now = 0.0
        for amount, step in calls:
            now += step
            bucket.take(amount, now)
        self.assertGreater(bucket.take(burst * 1.001, now), 0.0)
