"""Adaptive limits, and the keys that are asked for most."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.limits import Adaptive, AdaptiveSettings, Popular
from tests.core.profile import PROPERTY


class AdaptiveTests(SynchronousTestCase):
    def test_decrease_and_increase(self) -> None:
        """Half as much while it is loaded, then a little more at a time."""
        adaptive = Adaptive(AdaptiveSettings())
        self.assertEqual(adaptive.factor, 1.0)
        self.assertFalse(adaptive.sample(0.0, 0.5, 0.0))
        factors = []
        for cpu in (0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.1):
            adaptive.sample(0.0, cpu, 0.0)
            factors.append(round(adaptive.factor, 6))
        self.assertEqual(factors, [0.5, 0.25, 0.125, 0.1, 0.1, 0.15, 0.2])
        for _ in range(20):
            adaptive.sample(0.0, 0.0, 0.0)
        self.assertEqual(adaptive.factor, 1.0)

    def test_each_threshold(self) -> None:
        """Any of the three is enough, one of 0 is off, and what is not known is no load."""
        settings = AdaptiveSettings(cpu=0.8, event_loop_delay=0.1, latency=0.0)
        for sample, changed in (
            ((0.2, 0.0, 0.0), True),
            ((0.0, 0.9, 0.0), True),
            ((0.1, 0.8, 100.0), False),
            ((math.nan, math.nan, math.nan), False),
        ):
            self.assertEqual(Adaptive(settings).sample(*sample), changed, sample)
        self.assertTrue(Adaptive(settings._replace(latency=0.5)).sample(0.0, 0.0, 0.6))

    @PROPERTY
    @given(
        st.floats(0.01, 1),
        st.floats(0, 3),
        st.floats(0.01, 0.99),
        st.floats(0.001, 1),
        st.lists(st.floats(0, 2)),
    )
    def test_bounds(
        self, floor: float, more: float, decrease: float, increase: float, loads: list[float]
    ) -> None:
        """Floor and ceiling hold, and it says when it changed."""
        settings = AdaptiveSettings(0.8, 0, 0, floor, floor + more, decrease, increase)
        adaptive = Adaptive(settings)
        for load in loads:
            before = adaptive.factor
            changed = adaptive.sample(0.0, load, 0.0)
            self.assertEqual(changed, before != adaptive.factor)
            self.assertTrue(floor <= adaptive.factor <= floor + more)
            self.assertTrue(adaptive.factor <= before if load > 0.8 else adaptive.factor >= before)

    def test_settings(self) -> None:
        for bad in (
            {"floor": 0.0},
            {"floor": 2.0},
            {"ceiling": math.inf},
            {"decrease": 1.0},
            {"decrease": 0.0},
            {"increase": 0.0},
            {"floor": math.nan},
        ):
            self.assertRaises(ValueError, Adaptive, AdaptiveSettings()._replace(**bad))

    def test_repr(self) -> None:
        adaptive = Adaptive(AdaptiveSettings())
        adaptive.sample(1.0, 0.0, 0.0)
        self.assertEqual(repr(adaptive), "<Adaptive 0.5 of 0.1 to 1>")


class PopularTests(SynchronousTestCase):
    def test_few(self) -> None:
        """As long as there is a counter for each, they are exact."""
        popular = Popular(4)
        for key in "abacabad":
            popular.add(key)
        popular.add("d", 5)
        popular.add("e", 0)
        self.assertEqual(popular.top(2), [("d", 6, 0), ("a", 4, 0)])
        self.assertEqual((len(popular), popular.total), (4, 13))

    def test_take_over(self) -> None:
        """Whoever comes new gets the smallest counter, and its count as the error."""
        popular = Popular(2)
        for key in ("a", "a", "b", "c"):
            popular.add(key)
        self.assertEqual(popular.top(9), [("a", 2, 0), ("c", 2, 1)])

    @PROPERTY
    @given(
        st.integers(1, 10),
        st.lists(st.tuples(st.sampled_from("abcdefghijklmnopqrst"), st.integers(1, 30))),
        st.booleans(),
    )
    def test_error(self, size: int, stream: list[tuple[str, int]], alike: bool) -> None:
        """No count is too low, none too high by more than it says, and that is total / size."""
        popular = Popular(size)
        truth: Counter[str] = Counter()
        for key, weight in stream:
            weight = 1 if alike else weight
            popular.add(key, weight)
            truth[key] += weight
            self.assertLessEqual(len(popular), size)
        total = truth.total()
        self.assertEqual(popular.total, total)
        seen = popular.top(size)
        self.assertEqual([s.weight for s in seen], sorted((s.weight for s in seen), reverse=True))
        # The counters together have counted everything, once.
        self.assertEqual(sum(s.weight for s in seen), total)
        for key, weight, error in seen:
            self.assertTrue(weight - error <= truth[key] <= weight, key)
            self.assertLessEqual(error, total / size)
        kept = {s.key for s in seen}
        for key, weight in truth.items():
            if weight > total / size:
                self.assertIn(key, kept)

    def test_halve(self) -> None:
        """What was long ago fades."""
        popular = Popular(3)
        for key, weight in (("a", 9), ("b", 2), ("c", 1)):
            popular.add(key, weight)
        popular.halve()
        self.assertEqual(popular.top(3), [("a", 4, 0), ("b", 1, 0)])
        popular.add("d", 2)
        popular.add("e", 1)
        self.assertEqual([s.key for s in popular.top(3)], ["a", "d", "e"])

    def test_settings(self) -> None:
        self.assertRaises(ValueError, Popular, 0)

    def test_repr(self) -> None:
        popular = Popular(3)
        popular.add("secret", 2)
        self.assertEqual(repr(popular), "<Popular 1 of 3 keys, 2 seen>")
