"""The quantile of latencies: how exact it is, how soon it follows, how little it keeps."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.quantile import LatencyQuantile
from tests.core.profile import PROPERTY


class LatencyQuantileTests(SynchronousTestCase):
    def quantile_of(self, latencies: list[float], quantile: float = 0.95) -> float:
        sketch = LatencyQuantile(quantile)
        for latency in latencies:
            sketch.add(latency)
        value = sketch.value
        assert value is not None
        return value

    def test_nothing_is_known_before_twenty(self) -> None:
        """One slow answer after a start must not set the pace."""
        sketch = LatencyQuantile(0.95)
        for _ in range(19):
            sketch.add(0.1)
            self.assertIsNone(sketch.value)
        self.assertEqual(repr(sketch), "<LatencyQuantile 0.95: not known yet>")
        sketch.add(0.1)
        self.assertApproximates(sketch.value or 0.0, 0.1, 0.005)
        self.assertRegex(repr(sketch), r"<LatencyQuantile 0\.95: (9|10)\d?\.\d ms>")

    @PROPERTY
    @given(
        latencies=st.lists(st.floats(1e-4, 100.0), min_size=20, max_size=400),
        quantile=st.floats(0.5, 0.999),
    )
    def test_within_five_percent(self, latencies: list[float], quantile: float) -> None:
        """Of the latency that the given share of all does not exceed."""
        value = self.quantile_of(latencies, quantile)
        ranked = sorted(latencies)
        # The share may fall between two of them: then either will do.
        rank = len(ranked) * quantile
        near = ranked[max(math.ceil(rank - 1e-6) - 1, 0) : math.floor(rank + 1e-6) + 1]
        self.assertTrue(near[0] * 0.95 <= value <= near[-1] * 1.05, f"{value} is not near {near}")

    def test_what_is_out_of_range(self) -> None:
        """Counts as the least or the most that is told apart."""
        self.assertLess(self.quantile_of([0.0] * 20 + [-1.0]), 1e-4)
        self.assertGreater(self.quantile_of([1e9, math.inf] * 20), 200.0)

    def test_adapts(self) -> None:
        """A service that became ten times slower, and faster again: known after some hundreds."""
        random = Random(5)
        sketch = LatencyQuantile(0.95)
        for mean in (0.01, 0.1, 0.001):
            for _ in range(3000):
                sketch.add(random.expovariate(1 / mean))
            expected = -mean * math.log(0.05)
            self.assertApproximates((sketch.value or 0.0) / expected, 1.0, 0.15)

    def test_a_storm_is_noticed_soon(self) -> None:
        """When a tenth of the answers is slow, the quantile is."""
        sketch = LatencyQuantile(0.95)
        for _ in range(10_000):
            sketch.add(0.01)
        for index in range(1000):
            sketch.add(1.0 if index % 10 == 0 else 0.01)
        self.assertApproximates(sketch.value or 0.0, 1.0, 0.05)

    def test_current_within_some_answers(self) -> None:
        """It is not computed anew for every request, but every 25th."""
        sketch = LatencyQuantile(0.5)
        for latency in (0.01, 1.0, 0.1):
            for _ in range(1500):
                sketch.add(latency)
                before = sketch.value
            self.assertApproximates((before or 0.0) / latency, 1.0, 0.05)

    def test_bounded(self) -> None:
        """A million answers take no more room than one."""
        sketch = LatencyQuantile(0.95)
        size = len(sketch._counts)
        random = Random(6)
        for _ in range(20_000):
            sketch.add(random.lognormvariate(-3, 3))
        self.assertEqual(len(sketch._counts), size)
        self.assertLess(sum(sketch._counts), 1001)
