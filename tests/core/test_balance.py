"""Choosing an instance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.balance import Balancer, LeastLoad, ewma
from tests.core.profile import PROPERTY


@dataclass
class Candidate:
    """An instance, as the balancer sees it."""

    inflight: int = 0
    latency: float = 0.0
    weight: int = 1


class LeastLoadTests(SynchronousTestCase):
    def test_nobody(self) -> None:
        """Without candidates, or with none that may get traffic, there is no choice."""
        balancer: Balancer[Candidate] = LeastLoad()
        self.assertIsNone(balancer.pick([]))
        self.assertIsNone(balancer.pick([Candidate(weight=0)]))
        self.assertIsNone(balancer.pick([Candidate(weight=0), Candidate(weight=0)]))

    def test_only_one(self) -> None:
        only = Candidate(inflight=9)
        self.assertIs(LeastLoad().pick([only]), only)

    def test_least_busy(self) -> None:
        """A request in progress weighs as much as a second of latency."""
        slow, busy = Candidate(latency=0.9), Candidate(inflight=1)
        self.assertIs(LeastLoad().pick([busy, slow]), slow)
        slow.latency = 1.1
        self.assertIs(LeastLoad().pick([slow, busy]), busy)

    def test_weight_divides(self) -> None:
        """Twice the weight bears twice the load."""
        heavy, light = Candidate(inflight=3, weight=2), Candidate(inflight=2)
        self.assertIs(LeastLoad().pick([light, heavy]), heavy)

    def test_weight_zero_gets_nothing(self) -> None:
        resting, busy = Candidate(weight=0), Candidate(inflight=50)
        self.assertIs(LeastLoad().pick([resting, busy]), busy)

    def test_equals_take_turns(self) -> None:
        """Idle instances get the same number of requests, in order."""
        instances = [Candidate(), Candidate(), Candidate()]
        balancer = LeastLoad()
        order = [id(balancer.pick(instances)) for _ in range(6)]
        self.assertEqual(order, [id(one) for one in (*instances, *instances)])

    def test_less_than_a_millisecond_is_no_difference(self) -> None:
        """Two instances on the same network take turns, whatever the last microseconds were."""
        instances = [Candidate(latency=0.0011), Candidate(latency=0.0019)]
        balancer = LeastLoad()
        order = [id(balancer.pick(instances)) for _ in range(4)]
        self.assertEqual(order, [id(one) for one in (*instances, *instances)])

    def test_fewer_candidates_than_before(self) -> None:
        """Candidates may come and go between two choices."""
        balancer = LeastLoad()
        many = [Candidate() for _ in range(5)]
        for _ in many:
            balancer.pick(many)
        few = many[:2]
        counted = Counter(id(balancer.pick(few)) for _ in range(10))
        self.assertEqual(set(counted.values()), {5})

    def test_repr(self) -> None:
        self.assertEqual(repr(LeastLoad()), "<LeastLoad turn=0>")

    @PROPERTY
    @given(
        st.lists(
            st.builds(Candidate, st.integers(0, 50), st.floats(0, 5), st.integers(0, 4)),
            max_size=8,
        ),
        st.integers(0, 9),
    )
    def test_nobody_is_less_loaded(self, candidates: list[Candidate], before: int) -> None:
        """Whatever was chosen before, no candidate has a lower score than the chosen one."""
        balancer = LeastLoad()
        for _ in range(before):
            balancer.pick([Candidate() for _ in range(6)])
        scores = [score(one) for one in candidates if one.weight]
        chosen = balancer.pick(candidates)
        if chosen is None:
            self.assertEqual(scores, [])
        else:
            self.assertEqual(score(chosen), min(scores))


def score(one: Candidate) -> float:
    return (one.inflight * 1000 + one.latency // 0.001) / one.weight


class EwmaTests(SynchronousTestCase):
    def test_first_sample_counts_in_full(self) -> None:
        self.assertEqual(ewma(0.0, 0.5), 0.5)

    def test_later_samples_count_a_fifth(self) -> None:
        average = ewma(1.0, 2.0)
        self.assertAlmostEqual(average, 1.2)
        self.assertAlmostEqual(ewma(average, 0.2), 1.0)

    def test_alpha(self) -> None:
        self.assertEqual(ewma(1.0, 2.0, alpha=0.5), 1.5)
