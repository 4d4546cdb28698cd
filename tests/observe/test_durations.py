"""Histograms of durations."""

from __future__ import annotations

from bisect import bisect_left

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe.durations import BOUNDS, SUM, count_of, new_histogram, quantile, total


def histogram(*durations: float) -> list[float]:
    """A histogram of these."""
    made = new_histogram()
    for seconds in durations:
        made[bisect_left(BOUNDS, seconds)] += 1
        made[SUM] += seconds
    return made


class HistogramTests(SynchronousTestCase):
    """What can be told of durations without having kept them."""

    def test_quantiles_are_interpolated(self) -> None:
        """Twenty durations between 50 and 100 ms: 95 of 100 are below 97.5 ms."""
        fast = histogram(*[0.07] * 20)
        self.assertAlmostEqual(quantile(fast, 0.95) or 0, 0.0975)
        self.assertAlmostEqual(quantile(fast, 1.0) or 0, 0.1)
        self.assertAlmostEqual(quantile(histogram(*[0.001] * 9), 0.5) or 0, 0.0025)

    def test_a_quantile_is_in_the_bucket_where_it_must_be(self) -> None:
        """Of 90 fast and 10 slow requests the 95th is slow, the 90th is not."""
        mixed = histogram(*[0.004] * 90, *[0.4] * 10)
        self.assertAlmostEqual(quantile(mixed, 0.90) or 0, 0.005)
        self.assertAlmostEqual(quantile(mixed, 0.95) or 0, 0.375)

    def test_beyond_the_last_bound_nothing_is_invented(self) -> None:
        """Requests of a minute and more: at least ten seconds is all that is known."""
        self.assertEqual(quantile(histogram(60.0, 90.0), 0.95), 10.0)

    def test_nothing_has_no_quantile(self) -> None:
        """Not zero: unknown."""
        self.assertIsNone(quantile(new_histogram(), 0.95))

    def test_histograms_are_added(self) -> None:
        """Counts and sums; nothing changes in the parts."""
        a, b = histogram(0.001, 0.2), histogram(0.2)
        both = total([a, b])
        self.assertEqual((count_of(both), count_of(a), count_of(b)), (3, 2, 1))
        self.assertAlmostEqual(both[SUM], 0.401)
