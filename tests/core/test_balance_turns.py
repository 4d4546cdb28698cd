"""Weighted turns: exact, smooth, and not put off by instances that come and go."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.balance import RoundRobin
from tests.core.instances import Instance, instances
from tests.core.profile import PROPERTY

WEIGHTS = st.lists(st.integers(1, 30), min_size=1, max_size=7)


def choices(candidates: list[Instance], count: int) -> str:
    balancer = RoundRobin()
    return "".join(balancer.pick(candidates).id for _ in range(count))


class ExactTests(SynchronousTestCase):
    def test_smooth(self) -> None:
        """The heavy one's turns are spread over the cycle."""
        self.assertEqual(choices(instances(5, 1, 1), 14), "aabacaa" * 2)

    def test_equal(self) -> None:
        self.assertEqual(choices(instances(1, 1, 1), 7), "abcabca")

    @PROPERTY
    @given(WEIGHTS)
    def test_every_cycle(self, weights: list[int]) -> None:
        """In as many requests as the weights add up to, each has exactly its weight of them."""
        candidates = instances(*weights)
        expected = {each.id: int(each.weight) for each in candidates}
        for _ in range(3):
            self.assertEqual(Counter(choices(candidates, sum(weights))), expected)
        self.assertEqual([each.turn for each in candidates], [0.0] * len(weights))

    @PROPERTY
    @given(WEIGHTS)
    def test_at_every_moment(self, weights: list[int]) -> None:
        """Nobody is ever a whole turn ahead of their share."""
        candidates = instances(*weights)
        counted = Counter[str]()
        for count in range(1, sum(weights) + 1):
            counted.update(choices(candidates, 1))
            for each in candidates:
                self.assertLess(counted[each.id], count * each.weight / sum(weights) + 1)

    def test_fractions(self) -> None:
        """While instances start slowly, weights are no whole numbers."""
        counted = Counter(choices(instances(1.0, 0.325, 0.1), 1425))
        self.assertEqual(counted, {"a": 1000, "b": 325, "c": 100})


class ChangeTests(SynchronousTestCase):
    @PROPERTY
    @given(
        WEIGHTS,
        st.lists(st.tuples(st.sets(st.integers(0, 6)), st.integers(0, 40)), max_size=8),
    )
    def test_come_and_go(self, weights: list[int], past: list[tuple[set[int], int]]) -> None:
        """Whoever was there before and for how long: what that adds or takes is a few turns."""
        candidates = instances(*weights)
        for here, count in past:
            some = [each for at, each in enumerate(candidates) if at in here]
            if some:
                choices(some, count)
        counted = Counter(choices(candidates, 10 * sum(weights)))
        for each in candidates:
            self.assertApproximates(counted[each.id], 10 * each.weight, len(weights))

    def test_other_weights(self) -> None:
        """One that waited long among heavier ones does not get all its turns in a row."""
        candidates = instances(1000, 1)
        choices(candidates, 499)
        candidates[0].weight = 1
        for _ in range(10):
            self.assertIn(Counter(choices(candidates, 6))["a"], (2, 3))

    def test_no_old_debts(self) -> None:
        """One that came from heavier company, with turns to pay for, is not left out for long."""
        heavy = instances(1000, 1, 1)
        choices(heavy, 1)
        self.assertEqual(heavy[0].turn, -2)
        heavy[0].turn = -900.0
        heavy[0].weight = 1
        self.assertIn("a", choices(heavy, 8))

    def test_rolling_replacement(self) -> None:
        """Instances that leave with their turns unpaid, again and again, shift nothing."""
        kept, heavy = instances(1, 3)
        balancer = RoundRobin()
        for number in range(500):
            new = Instance(f"new {number}", weight=2.0)
            while balancer.pick([kept, heavy, new]) is not new:
                pass
        self.assertLess(abs(kept.turn) + abs(heavy.turn), 12)
        counted = Counter(choices([kept, heavy], 400))
        self.assertApproximates(counted["a"], 100, 2)

    def test_turns_belong_to_the_instance(self) -> None:
        """After a new configuration, and with it a new balancer, turns go on where they were."""
        candidates = instances(1, 1, 1)
        self.assertEqual([choices(candidates, 1) for _ in range(4)], ["a", "b", "c", "a"])

    def test_repr(self) -> None:
        self.assertEqual(repr(RoundRobin()), "<RoundRobin>")
