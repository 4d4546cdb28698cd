"""Strategies that draw lots, against the theory."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from random import Random as Lots

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.balance import Balancer, PowerOfTwo, Random
from tests.core.instances import Instance, instances, too_far
from tests.core.profile import PROPERTY

DRAWS = 20_000


def counts(balancer: Balancer, candidates: list[Instance]) -> Counter[str]:
    return Counter(balancer.pick(candidates, b"").id for _ in range(DRAWS))


class RandomTests(SynchronousTestCase):
    def test_by_weight(self) -> None:
        """Each is drawn as often as its weight says, as far as chance allows."""
        for seed, weights in enumerate([(1, 1), (1, 2, 3), (10, 1, 0.1), (3,), (1,) * 9]):
            candidates = instances(*weights)
            counted = counts(Random(Lots(seed).random), candidates)
            wrong = too_far(counted, {each.id: each.weight for each in candidates})
            self.assertEqual(wrong, "", weights)

    def test_notices_a_bias(self) -> None:
        """The measure of these tests is not blind: 1 % more than there should be is too far."""
        counted = {"a": 10_400, "b": 9_600}
        self.assertIn("a: 10400 of 20000", too_far(counted, {"a": 1, "b": 1}))

    @PROPERTY
    @given(
        st.lists(st.floats(0.001, 1000), min_size=1, max_size=8),
        st.sampled_from([0.0, 0.5, 1 - 2**-53]),
    )
    def test_any_draw(self, weights: list[float], lot: float) -> None:
        """The least and the greatest lot fall on somebody, too."""
        candidates = instances(*weights)
        for balancer in (Random(lambda: lot), PowerOfTwo(lambda: lot)):
            self.assertIn(balancer.pick(candidates), candidates)
        if lot == 0.0:
            self.assertIs(Random(lambda: lot).pick(candidates), candidates[0])

    def test_repr(self) -> None:
        self.assertEqual(repr(Random(Lots(1).random)), "<Random>")


class PowerOfTwoTests(SynchronousTestCase):
    def test_by_rank(self) -> None:
        """Of n, the k-th best is chosen in 2 (n - k) of n (n - 1) cases; the worst never."""
        candidates = instances(1, 1, 1, 1, 1)
        for rank, each in enumerate(candidates, 1):
            each.latency = rank / 100
        counted = counts(PowerOfTwo(Lots(1).random), candidates)
        shares = {each.id: 2 * (5 - rank) / 20 for rank, each in enumerate(candidates, 1)}
        self.assertEqual(too_far(counted, shares), "")
        self.assertNotIn("e", counted)

    def test_by_weight_and_rank(self) -> None:
        """Both are drawn by weight, without putting the first one back."""
        candidates = instances(5, 3, 1, 1)
        costs = {"a": 4, "b": 1, "c": 2, "d": 3}
        for each in candidates:
            each.latency = costs[each.id] * each.weight
        shares = dict.fromkeys(costs, 0.0)
        for one, two in permutations(candidates, 2):
            better = min(one.id, two.id, key=lambda name: costs[name])
            shares[better] += one.weight / 10 * two.weight / (10 - one.weight)
        counted = counts(PowerOfTwo(Lots(2).random), candidates)
        self.assertEqual(too_far(counted, shares), "")

    def test_of_equal_cost_by_weight(self) -> None:
        """Where no choice is better, weights decide: here each costs the same."""
        candidates = instances(4, 2, 1, 1)
        for each in candidates:
            each.latency = each.weight / 64
        counted = counts(PowerOfTwo(Lots(3).random), candidates)
        wrong = too_far(counted, {each.id: each.weight for each in candidates})
        self.assertEqual(wrong, "")

    def test_load_in_proportion(self) -> None:
        """With something to do for all, what is in flight follows the weights."""
        candidates = instances(1, 2, 3)
        for each in candidates:
            each.latency = 0.01
        balancer = PowerOfTwo(Lots(4).random)
        for _ in range(600):
            balancer.pick(candidates).inflight += 1
        for each, expected in zip(candidates, (100, 200, 300), strict=True):
            self.assertApproximates(each.inflight, expected, 5)

    def test_cost(self) -> None:
        """Latency times what would be in flight, per weight."""
        one, two = Instance("a", latency=0.010, inflight=3), Instance("b", latency=0.030)
        balancer = PowerOfTwo(Lots(5).random)
        self.assertEqual(set(counts(balancer, [one, two])), {"b"})
        two.latency = 0.041
        self.assertEqual(set(counts(balancer, [one, two])), {"a"})
        two.weight = 2.0
        self.assertEqual(set(counts(balancer, [one, two])), {"b"})

    def test_nobody_measured(self) -> None:
        """Before the first answers the counts alone decide."""
        candidates = instances(1, 1)
        balancer = PowerOfTwo(Lots(6).random)
        for _ in range(50):
            balancer.pick(candidates).inflight += 1
        self.assertEqual([each.inflight for each in candidates], [25, 25])

    def test_a_new_instance(self) -> None:
        """One that was never measured gets requests, and no more than the others have."""
        old, other, new = candidates = instances(1, 1, 1)
        old.latency = other.latency = 0.010
        balancer = PowerOfTwo(Lots(7).random)
        for _ in range(90):
            balancer.pick(candidates).inflight += 1
        self.assertApproximates(new.inflight, 30, 3)

    def test_repr(self) -> None:
        self.assertEqual(repr(PowerOfTwo(Lots(1).random)), "<PowerOfTwo>")
