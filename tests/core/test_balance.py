"""The least loaded instance, moving averages, and strategies by name."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.balance import (
    Balancer,
    LeastConnections,
    LeastLoad,
    aged,
    ewma,
    latency_average,
    make_balancer,
    peak_ewma,
    ramp,
)
from tests.core.instances import Instance, instances
from tests.core.profile import PROPERTY

LATENCIES = st.sampled_from([0.0, 0.0004, 0.0012, 0.003, 0.4, 1.0, 2.5]) | st.floats(0, 5)
ANY_WEIGHTS = st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0, 10.0])


def choices(balancer: Balancer, candidates: list[Instance], count: int) -> str:
    """The names of ``count`` choices in a row, while nothing else happens."""
    return "".join(balancer.pick(candidates, b"").id for _ in range(count))


class LeastLoadTests(SynchronousTestCase):
    def test_only_one(self) -> None:
        only = Instance(inflight=9)
        self.assertIs(LeastLoad().pick([only]), only)

    def test_least_busy(self) -> None:
        """A request in progress weighs as much as a second of latency."""
        slow, busy = Instance(latency=0.9), Instance(inflight=1)
        self.assertIs(LeastLoad().pick([busy, slow]), slow)
        slow.latency = 1.1
        self.assertIs(LeastLoad().pick([slow, busy]), busy)

    def test_weight_divides(self) -> None:
        """Twice the weight bears twice the load."""
        heavy, light = Instance(inflight=3, weight=2), Instance(inflight=2)
        self.assertIs(LeastLoad().pick([light, heavy]), heavy)

    def test_equals_take_turns(self) -> None:
        """Idle instances get the same number of requests, in order."""
        self.assertEqual(choices(LeastLoad(), instances(1, 1, 1), 6), "abcabc")

    def test_idle_instances_by_weight(self) -> None:
        """Also without load, when each request finds everybody idle, twice the weight is twice."""
        self.assertEqual(choices(LeastLoad(), instances(2, 1), 9), "abaabaaba")
        self.assertEqual(Counter(choices(LeastLoad(), instances(5, 3, 2), 40))["c"], 8)

    def test_fractions_of_weight(self) -> None:
        """An instance that starts slowly gets its share while all are idle..."""
        counted = Counter(choices(LeastLoad(), instances(1, 1, 0.1), 210))
        self.assertEqual(counted, {"a": 100, "b": 100, "c": 10})

    def test_a_new_instance_is_not_flooded(self) -> None:
        """...and while the others are busy: being idle does not draw everything to it."""
        candidates = instances(1, 1, 0.1)
        for each in candidates[:2]:
            each.inflight = 3
        counted = Counter(choices(LeastLoad(), candidates, 210))
        self.assertEqual(counted["c"], 10)

    def test_a_new_instance_is_not_starved(self) -> None:
        """It has the first request before the others have ten each, and then waits."""
        candidates = instances(1, 1, 0.1)
        balancer = LeastLoad()
        for _ in range(40):
            balancer.pick(candidates).inflight += 1
        self.assertIn(candidates[2].inflight, (1, 2))

    def test_faster_first(self) -> None:
        """Of those with nothing to do the fastest is asked, whatever the weights."""
        for weights in ((1, 1), (2, 1), (1, 2)):
            candidates = instances(*weights)
            candidates[0].latency, candidates[1].latency = 0.900, 0.005
            self.assertEqual(choices(LeastLoad(), candidates, 3), "bbb", weights)

    def test_less_than_a_millisecond_is_no_difference(self) -> None:
        """Two instances on the same network take turns, whatever the last microseconds were."""
        for weights, expected in (((1, 1), "ababab"), ((2, 1), "abaaba")):
            candidates = instances(*weights)
            candidates[0].latency, candidates[1].latency = 0.0011, 0.0019
            self.assertEqual(choices(LeastLoad(), candidates, 6), expected)

    def test_fewer_candidates_than_before(self) -> None:
        """Candidates may come and go between two choices."""
        balancer = LeastLoad()
        many = instances(1, 1, 1, 1, 1)
        choices(balancer, many, 5)
        counted = Counter(choices(balancer, many[:2], 10))
        self.assertEqual(counted, {"a": 5, "b": 5})

    def test_repr(self) -> None:
        self.assertEqual(repr(LeastLoad()), "<LeastLoad turn=0>")

    @PROPERTY
    @given(
        st.lists(st.tuples(st.integers(0, 50), LATENCIES), min_size=1, max_size=8),
        ANY_WEIGHTS,
        st.integers(0, 9),
    )
    def test_nobody_is_less_loaded(
        self, loads: list[tuple[int, float]], weight: float, before: int
    ) -> None:
        """Of equal weight, nobody has a lower score, whatever was chosen before."""
        balancer = LeastLoad()
        choices(balancer, instances(1, 1, 1, 1, 1, 1), before)
        candidates = [Instance("", weight, inflight, latency) for inflight, latency in loads]
        chosen = balancer.pick(candidates)
        best = min(score(each) for each in candidates)
        self.assertApproximates(score(chosen), best, best * 1e-12)

    @PROPERTY
    @given(
        st.lists(
            st.builds(Instance, st.just(""), ANY_WEIGHTS, st.integers(0, 50), LATENCIES),
            min_size=1,
            max_size=8,
        )
    )
    def test_nobody_better_is_passed_over(self, candidates: list[Instance]) -> None:
        """Nobody as fast would bear less with this request than the chosen one already does."""
        chosen = LeastLoad().pick(candidates)
        for each in candidates:
            if each is not chosen and each.latency // 0.001 <= chosen.latency // 0.001:
                self.assertGreater(
                    (each.inflight + 1) / each.weight, chosen.inflight / chosen.weight
                )


def score(one: Instance) -> float:
    return (one.inflight + 1) * 1000 / one.weight + one.latency // 0.001


class ProportionTests(SynchronousTestCase):
    """What is in flight is in proportion to the weights."""

    balancers = (LeastLoad, LeastConnections)

    @PROPERTY
    @given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 150))
    def test_while_nothing_ends(self, weights: list[int], count: int) -> None:
        """Streams that stay: nobody is further from their share than one, plus the others' ones.

        i is chosen only while inflight[i] / w[i] < (inflight[j] + 1) / w[j] for all j; summed up
        over all j, that is the bound below.
        """
        for make in self.balancers:
            candidates = instances(*weights)
            balancer = make()
            for _ in range(count):
                balancer.pick(candidates).inflight += 1
            for each in candidates:
                share = each.weight / sum(weights)
                self.assertLess(each.inflight, 1 + share * (count + len(weights)) + 1e-9)
                self.assertGreater(each.inflight, share * (count - len(weights)) - 1 - 1e-9)

    def test_while_they_come_and_go(self) -> None:
        """60 in flight, at each step one ends by chance and one comes: 10, 20 and 30 on average."""
        for make in self.balancers:
            candidates = instances(1, 2, 3)
            balancer = make()
            lots = Random(7)
            busy: list[Instance] = []
            sums = [0, 0, 0]
            for step in range(6000):
                if len(busy) == 60:
                    busy.pop(lots.randrange(60)).inflight -= 1
                chosen = balancer.pick(candidates)
                chosen.inflight += 1
                busy.append(chosen)
                if step >= 1000:
                    sums = [old + each.inflight for old, each in zip(sums, candidates, strict=True)]
            for total, expected in zip(sums, (10, 20, 30), strict=True):
                self.assertApproximates(total / 5000, expected, 0.5)


class LeastConnectionsTests(SynchronousTestCase):
    def test_fewest(self) -> None:
        """Latency has no say."""
        slow, busy = Instance("slow", latency=60.0), Instance("busy", inflight=1)
        self.assertIs(LeastConnections().pick([busy, slow]), slow)

    def test_per_weight(self) -> None:
        heavy, light = Instance(inflight=3, weight=4), Instance(inflight=1)
        self.assertIs(LeastConnections().pick([light, heavy]), heavy)

    def test_equals_take_weighted_turns(self) -> None:
        self.assertEqual(choices(LeastConnections(), instances(2, 1), 6), "abaaba")

    @PROPERTY
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    def test_nobody_has_fewer(self, counts: list[int]) -> None:
        candidates = [Instance(inflight=count) for count in counts]
        self.assertEqual(LeastConnections().pick(candidates).inflight, min(counts))

    def test_repr(self) -> None:
        self.assertEqual(repr(LeastConnections()), "<LeastConnections>")


class AverageTests(SynchronousTestCase):
    def test_first_sample_counts_in_full(self) -> None:
        self.assertEqual(ewma(0.0, 0.5), 0.5)
        self.assertEqual(peak_ewma(0.0, 0.5), 0.5)

    def test_later_samples_count_a_fifth(self) -> None:
        average = ewma(1.0, 2.0)
        self.assertAlmostEqual(average, 1.2)
        self.assertAlmostEqual(ewma(average, 0.2), 1.0)

    def test_alpha(self) -> None:
        self.assertEqual(ewma(1.0, 2.0, alpha=0.5), 1.5)

    def test_peaks(self) -> None:
        """Bad news count at once, good news by and by."""
        self.assertEqual(peak_ewma(1.0, 3.0), 3.0)
        self.assertAlmostEqual(peak_ewma(3.0, 1.0), 2.6)

    def test_which(self) -> None:
        """Peaks matter to the strategy that believes latency most."""
        self.assertIs(latency_average("p2c"), peak_ewma)
        self.assertIs(latency_average("least_load"), ewma)

    def test_aged(self) -> None:
        """Half of it is left after five seconds, and nothing once it says nothing any more."""
        average = 0.8
        for _ in range(5):
            average = aged(average)
        self.assertAlmostEqual(average, 0.4)
        for _ in range(70):
            average = aged(average)
        self.assertEqual(average, 0.0)
        self.assertEqual(aged(0.0), 0.0)

    def test_a_slow_one_is_tried_again(self) -> None:
        """An instance that was slow once is asked again within half a minute."""
        slow, fast = Instance("slow", latency=0.2), Instance("fast", latency=0.01)
        seconds = 0
        while LeastLoad().pick([fast, slow]) is not slow:
            slow.latency = aged(slow.latency)
            seconds += 1
        self.assertEqual(seconds, 22)


class RampTests(SynchronousTestCase):
    def test_even_rise(self) -> None:
        shares = [ramp(elapsed, 10.0) for elapsed in (0.0, 2.5, 5.0, 7.5, 9.99)]
        for share, expected in zip(shares, (0.1, 0.325, 0.55, 0.775, 0.9991), strict=True):
            self.assertAlmostEqual(share, expected)

    def test_then_whole(self) -> None:
        """Exactly 1 from then on, so that equal weights are equal again."""
        self.assertEqual(ramp(10.0, 10.0), 1.0)
        self.assertEqual(ramp(1e9, 10.0), 1.0)

    def test_off(self) -> None:
        self.assertEqual(ramp(0.0, 0.0), 1.0)

    def test_before_its_beginning(self) -> None:
        """A moment that was noted after the clock was read is no reason for less than the least."""
        self.assertEqual(ramp(-0.001, 10.0), 0.1)


class StrategyTests(SynchronousTestCase):
    def test_by_name(self) -> None:
        for name, expected in (
            ("least_load", "<LeastLoad turn=0>"),
            ("sticky", "<LeastLoad turn=0>"),
            ("round_robin", "<RoundRobin>"),
            ("random", "<Random>"),
            ("least_connections", "<LeastConnections>"),
            ("p2c", "<PowerOfTwo>"),
            ("consistent_hash", "<ConsistentHash bound=1.25>"),
        ):
            balancer = make_balancer(name, Random(1).random, 1.25)
            self.assertEqual(repr(balancer), expected)
            only = Instance("a")
            self.assertIs(balancer.pick([only], b"key"), only)

    def test_unknown(self) -> None:
        with self.assertRaisesRegex(ValueError, "no such strategy: best"):
            make_balancer("best", Random(1).random)
