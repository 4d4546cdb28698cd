"""Rate limits in memory: what is particular to them. What both stores do alike is tested once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.limits import (
    Algorithm,
    FixedWindow,
    Shaper,
    SlidingLog,
    SlidingWindow,
    State,
    Taken,
    TokenBucket,
)
from rtgateway.net.tasks import Waiter
from rtgateway.store.limits.asked import Ask, LimitStore, OnFailure, Outcome
from rtgateway.store.limits.memory import MemoryLimits
from tests.core.profile import PROPERTY


@dataclass
class Limiter:
    algorithm: Algorithm
    name: str = "x"
    on_failure: OnFailure = "local"
    leases: bool = False

    def ask(self, key: str = "k", cost: int = 1, algorithm: Algorithm | None = None) -> Ask:
        return Ask(self, algorithm or self.algorithm, key, cost)


@dataclass
class Time:
    now: float = 1000.0
    limits: MemoryLimits = field(init=False)

    def __post_init__(self) -> None:
        self.limits = MemoryLimits(1000, lambda: self.now)


def settled(waiter: Waiter[int]) -> int:
    """The result of a waiter that nobody has to wait for."""
    steps = waiter.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return int(stop.value)
    raise AssertionError("it is pending")


class MemoryLimitsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = Time()
        self.limits: MemoryLimits = self.time.limits

    def left(self, ask: Ask) -> int | None:
        """Units that a key has left."""
        (taken,) = self.limits.decide([ask._replace(cost=0)]).taken
        return taken and taken.remaining

    def test_protocol(self) -> None:
        store: LimitStore = self.limits
        self.assertEqual(store.decide([]), Outcome(True, []))

    def test_one(self) -> None:
        """One limiter, its keys each on their own."""
        bucket = Limiter(TokenBucket(2, 1))
        for remaining in (1, 0):
            outcome = self.limits.decide([bucket.ask()])
            self.assertTrue(outcome.admitted)
            self.assertEqual(outcome.taken[0] and outcome.taken[0].remaining, remaining)
        refused = self.limits.decide([bucket.ask()])
        self.assertEqual(refused, Outcome(False, (Taken(1.0, 0, 2.0, 0, 0.0, 1002.0),)))
        self.assertTrue(self.limits.decide([bucket.ask("other")]).admitted)
        self.assertEqual(self.limits.keys("x"), 2)
        self.time.now += 1.0
        self.assertTrue(self.limits.decide([bucket.ask()]).admitted)
        self.assertFalse(self.limits.decide([bucket.ask()]).admitted)

    def test_look(self) -> None:
        """A cost of 0 takes nothing, and makes no key known."""
        bucket = Limiter(TokenBucket(2, 1))
        for _ in range(5):
            outcome = self.limits.decide([bucket.ask(cost=0)])
            self.assertEqual(outcome.taken, (Taken(0.0, 2, 0.0, 0, 0.0, None),))
        self.assertEqual(self.limits.keys("x"), 0)
        self.limits.decide([bucket.ask()])
        for _ in range(5):
            self.assertTrue(self.limits.decide([bucket.ask(cost=0)]).admitted)
        self.assertTrue(self.limits.decide([bucket.ask()]).admitted)

    def test_delay(self) -> None:
        """The longest of all shapers is waited for."""
        slow, fast = Limiter(Shaper(1, 5), "slow"), Limiter(Shaper(10, 5), "fast")
        self.assertEqual(self.limits.decide([slow.ask()]).delay, 0.0)
        self.assertEqual(self.limits.decide([slow.ask()]).delay, 1.0)
        self.assertEqual(self.limits.decide([fast.ask(), slow.ask(), fast.ask("l")]).delay, 2.0)
        self.assertAlmostEqual(self.limits.decide([fast.ask()]).delay, 0.1)

    def test_all_or_none(self) -> None:
        """Who admits says what is left as nothing is taken, and has taken nothing."""
        wide, narrow = Limiter(TokenBucket(10, 1), "wide"), Limiter(FixedWindow(1, 5), "narrow")
        self.assertTrue(self.limits.decide([wide.ask(), narrow.ask()]).admitted)
        for asks in ([wide.ask(), narrow.ask()], [narrow.ask(), wide.ask()]):
            outcome = self.limits.decide(asks)
            self.assertFalse(outcome.admitted)
            said = {ask.limiter.name: taken for ask, taken in zip(asks, outcome.taken, strict=True)}
            self.assertEqual([(t.wait, t.remaining) for t in said.values() if t].sort(), None)
            self.assertEqual(said["wide"], Taken(0.0, 9, 1.0, 0, 0.0, 1001.0))
            self.assertEqual((said["narrow"] or ())[:2], (5.0, 0))
        self.assertEqual(self.left(wide.ask()), 9)

    def test_same_key_twice(self) -> None:
        """Two asks about one key take of it one after the other."""
        bucket = Limiter(TokenBucket(3, 1))
        self.assertTrue(self.limits.decide([bucket.ask(), bucket.ask(cost=2)]).admitted)
        self.assertEqual(self.left(bucket.ask()), 0)
        self.assertTrue(self.limits.decide([bucket.ask("l"), bucket.ask("l")]).admitted)
        self.assertFalse(self.limits.decide([bucket.ask("l"), bucket.ask("l")]).admitted)
        self.assertEqual(self.left(bucket.ask("l")), 1)

    def test_reset(self) -> None:
        """A key is forgotten by the limiters that are named, whatever decided about it."""
        bucket, window = Limiter(TokenBucket(1, 1)), Limiter(SlidingWindow(1, 1), "window")
        asks = [bucket.ask(), window.ask()]
        self.limits.decide(asks)
        self.limits.decide([bucket.ask(algorithm=FixedWindow(5, 5))])
        self.assertFalse(self.limits.decide(asks).admitted)
        self.assertEqual(settled(self.limits.reset([bucket], "k")), 1)
        self.assertEqual(settled(self.limits.reset([bucket, window], "k")), 1)
        self.assertEqual(settled(self.limits.reset([bucket, window], "k")), 0)
        self.assertEqual(settled(self.limits.reset([Limiter(bucket.algorithm, "?")], "k")), 0)
        self.assertTrue(self.limits.decide(asks).admitted)

    def test_reset_of_what_matches(self) -> None:
        """All keys that are meant, of the limiters that are named, in tables of any size."""
        bucket, window = Limiter(TokenBucket(1, 1)), Limiter(SlidingWindow(1, 1), "window")
        other = Limiter(bucket.algorithm, "other")
        for i in range(100):
            self.limits.decide([each.ask(f"a:{i}|b:{i % 10}") for each in (bucket, window, other)])

        def about(key: str) -> bool:
            return key.endswith("|b:7")

        unknown = Limiter(bucket.algorithm, "?")
        limiters = [bucket, window, unknown]
        self.assertEqual(settled(self.limits.reset_matching(limiters, "b:7", about)), 20)
        self.assertEqual(settled(self.limits.reset_matching(limiters, "b:7", about)), 0)
        self.assertEqual(
            [self.limits.keys(name) for name in ("x", "window", "other")], [90, 90, 100]
        )
        self.assertTrue(self.limits.decide([bucket.ask("a:7|b:7")]).admitted)
        self.assertFalse(self.limits.decide([other.ask("a:7|b:7")]).admitted)

    def test_a_search_holds_up_nothing(self) -> None:
        """It goes through very many keys a part at a time, and finds what is always there."""
        parts: list[Callable[[], None]] = []
        limits = MemoryLimits(200_000, lambda: self.time.now, parts.append)
        bucket = Limiter(TokenBucket(1, 0.001))
        keys = [f"a:{i}" for i in range(100_000)]
        for key in keys:
            limits.decide([bucket.ask(key)])
        waiter = limits.reset_matching([bucket], "a:", lambda key: key.endswith("7"))
        rounds = 0
        while parts:
            rounds += 1
            parts.pop()()
            # Young ones among the old, as they are when the search comes to them.
            limits.decide([bucket.ask(keys[rounds * 790 % len(keys)])])
        self.assertGreater(rounds, 1)
        self.assertEqual(settled(waiter), 10_000)
        self.assertEqual(limits.keys("x"), 90_000)

    def test_plans(self) -> None:
        """The algorithm of the ask decides; one of another kind has states of its own."""
        bucket = Limiter(TokenBucket(2, 1))
        gold = TokenBucket(10, 5)
        self.assertTrue(self.limits.decide([bucket.ask(cost=10, algorithm=gold)]).admitted)
        for algorithm in (FixedWindow(2, 5), SlidingLog(2, 5), SlidingWindow(2, 5), None, gold):
            for _ in range(2):
                self.assertEqual(
                    self.limits.decide([bucket.ask("l", 1, algorithm)]).admitted, algorithm != gold
                )
        self.assertEqual(self.limits.keys("x"), 5)
        self.assertEqual(self.limits.keys("unknown"), 0)

    def test_longer_horizon(self) -> None:
        """Keys of a plan with a longer window are kept for as long as that."""
        bucket = Limiter(TokenBucket(10, 10))
        slow = TokenBucket(1000, 1)
        self.limits.decide([bucket.ask()])
        self.limits.decide([bucket.ask("slow", 1000, slow)])
        for _ in range(200):
            self.time.now += 1.0
            self.limits.tick(self.time.now)
        self.assertFalse(self.limits.decide([bucket.ask("slow", 1000, slow)]).admitted)
        self.assertEqual(self.limits.keys("x"), 2)

    def test_expiry(self) -> None:
        """What is as good as none is forgotten, of every limiter."""
        limiters = [Limiter(TokenBucket(10, 1), f"{i}") for i in range(5)]
        for limiter in limiters:
            for i in range(500):
                self.limits.decide([limiter.ask(f"{i}")])
        self.assertEqual([self.limits.keys(limiter.name) for limiter in limiters], [500] * 5)
        for _ in range(220):
            self.limits.tick(self.time.now)
            self.time.now += 0.1
        self.assertEqual([self.limits.keys(limiter.name) for limiter in limiters], [0] * 5)

    def test_bound(self) -> None:
        """As many keys as were said; of logs as many as take the same memory."""
        bucket, log = Limiter(TokenBucket(10, 1)), Limiter(SlidingLog(400, 60), "log")
        for i in range(3000):
            self.limits.decide([bucket.ask(f"{i}")])
            self.limits.decide([log.ask(f"{i}")])
            self.assertLessEqual(self.limits.keys("x"), 1000)
            self.assertLessEqual(self.limits.keys("log"), 1000 // 26)
        self.limits.decide([log.ask("l", 1, SlidingLog(1000, 60))])
        for i in range(20):
            self.limits.tick(self.time.now + i)
        self.assertLessEqual(self.limits.keys("log"), 1000 // 64)

    @PROPERTY
    @given(
        st.lists(
            st.tuples(
                st.lists(
                    st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.integers(0, 4)),
                    max_size=4,
                ),
                st.floats(0, 2),
            )
        )
    )
    def test_model(self, calls: list[tuple[list[tuple[int, str, int]], float]]) -> None:
        """It does what a dict of states does; the fast way for one ask as the other."""
        time = Time()
        limiters = [
            Limiter(TokenBucket(6, 2), "0"),
            Limiter(FixedWindow(5, 2), "1"),
            Limiter(SlidingLog(4, 1), "2"),
            Limiter(Shaper(2, 3), "3"),
        ]
        states: dict[tuple[int, str], State | None] = {}
        for asked, step in calls:
            time.now += step
            outcome = time.limits.decide([limiters[n].ask(k, cost) for n, k, cost in asked])
            trial = dict(states)
            admitted = True
            delay = 0.0
            for n, key, cost in asked:
                taken = limiters[n].algorithm.take(trial.get((n, key)), cost, 0, time.now)
                if taken.wait:
                    admitted = False
                else:
                    trial[n, key] = taken.state
                    delay = max(delay, taken.delay)
            self.assertEqual(outcome.admitted, admitted)
            self.assertEqual(outcome.delay, delay if admitted else 0.0)
            if admitted:
                states = trial
            looks = time.limits.decide([limiters[n].ask(key, 0) for n, key in states]).taken
            for (n, key), look in zip(states, looks, strict=True):
                algorithm = limiters[n].algorithm
                self.assertEqual(look, algorithm.take(states[n, key], 0, 0, time.now))

    def test_repr(self) -> None:
        self.limits.decide([Limiter(TokenBucket(1, 1)).ask("secret")])
        self.assertEqual(repr(self.limits), "<MemoryLimits at most 1000 keys each; x 1>")
