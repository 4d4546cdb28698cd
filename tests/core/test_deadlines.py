"""The timing wheel, alone and against a list that is scanned in full."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.deadlines import Timed, Wheel
from tests.core.profile import PROPERTY

TICK = 0.1
PERIOD = 1.0


class Waiter:
    """Something with a deadline."""

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline

    def expired(self, now: float) -> None:
        """What a sweep would call; the wheel must not."""
        raise AssertionError("the wheel runs no code of its items")


class WheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wheel = Wheel(TICK, PERIOD)

    def test_found_within_a_tick(self) -> None:
        """Nothing is reported before its deadline, and all of it one tick later."""
        item = Waiter(100.25)
        self.wheel.add(item, 100.0)
        self.assertEqual(self.wheel.advance(100.2), [])
        self.assertEqual(self.wheel.advance(100.25), [])
        self.assertEqual(self.wheel.advance(100.35), [item])

    def test_far_away(self) -> None:
        """A deadline many periods ahead is kept as exactly."""
        item = Waiter(160.0)
        self.wheel.add(item, 100.0)
        now = 100.0
        while now < 160.0:
            self.assertEqual(self.wheel.advance(now), [])
            now += TICK
        self.assertEqual(self.wheel.advance(160.11), [item])

    def test_already_late(self) -> None:
        """What is late when it is added is reported at the next tick."""
        item = Waiter(1.0)
        self.wheel.advance(100.0)
        self.wheel.add(item, 100.0)
        self.assertEqual(self.wheel.advance(100.11), [item])

    def test_moved_later(self) -> None:
        """A deadline is moved later by writing it, without telling the wheel."""
        item = Waiter(100.2)
        self.wheel.add(item, 100.0)
        item.deadline = 105.0
        self.assertEqual(self.wheel.advance(104.9), [])
        self.assertEqual(self.wheel.advance(105.2), [item])

    def test_moved_earlier(self) -> None:
        """A deadline moved earlier is found a period late at most."""
        item = Waiter(math.inf)
        self.wheel.add(item, 100.0)
        item.deadline = 100.1
        self.assertEqual(self.wheel.advance(100.1 + PERIOD + TICK), [item])

    def test_touched(self) -> None:
        """A deadline moved earlier is found in time if the wheel is told."""
        item = Waiter(math.inf)
        self.wheel.add(item, 100.0)
        item.deadline = 100.3
        self.wheel.touch(item, 100.0)
        self.assertEqual(self.wheel.advance(100.41), [item])

    def test_stays_until_discarded(self) -> None:
        """A late item is reported again until it gets a new deadline or is discarded."""
        item = Waiter(100.0)
        self.wheel.add(item, 100.0)
        self.assertEqual(self.wheel.advance(100.5), [item])
        self.assertEqual(self.wheel.advance(100.61), [item])
        item.deadline = 101.0
        self.assertEqual(self.wheel.advance(100.8), [])
        self.assertEqual(self.wheel.advance(101.11), [item])
        self.wheel.discard(item)
        self.assertEqual(self.wheel.advance(102.0), [])
        self.assertEqual(len(self.wheel), 0)

    def test_discarded_is_not_touched(self) -> None:
        """Neither touching nor discarding brings back or breaks what is not watched."""
        item = Waiter(100.0)
        self.wheel.touch(item, 100.0)
        self.wheel.discard(item)
        self.assertEqual(len(self.wheel), 0)
        self.assertEqual(self.wheel.advance(101.0), [])

    def test_added_twice(self) -> None:
        """An item is watched once, however often it is added."""
        item = Waiter(100.0)
        self.wheel.add(item, 100.0)
        self.wheel.add(item, 100.5)
        self.assertEqual(self.wheel.advance(101.0), [item])

    def test_long_gap(self) -> None:
        """After a long pause each item is reported once, and the next ticks go on as usual."""
        items = [Waiter(100.0 + n / 7) for n in range(50)]
        for item in items:
            self.wheel.add(item, 100.0)
        late = self.wheel.advance(1_000_000.0)
        self.assertEqual(sorted(map(id, late)), sorted(map(id, items)))
        for item in items:
            item.deadline = 1_000_000.5
        self.assertEqual(self.wheel.advance(1_000_000.3), [])
        self.assertEqual(len(self.wheel.advance(1_000_000.7)), 50)

    def test_clock_that_stands_still(self) -> None:
        """Advancing to the same or an earlier time does nothing."""
        item = Waiter(100.0)
        self.wheel.add(item, 100.0)
        self.assertEqual(self.wheel.advance(100.2), [item])
        self.assertEqual(self.wheel.advance(100.2), [])
        self.assertEqual(self.wheel.advance(50.0), [])

    def test_work_is_bounded(self) -> None:
        """An item that is not due is looked at once in a period, and not at every tick."""
        looks: list[float] = []

        class Counting:
            @property
            def deadline(self) -> float:
                looks.append(now)
                return math.inf

            @deadline.setter
            def deadline(self, value: float) -> None:
                raise AssertionError("the wheel moves no deadline")

            expired = Waiter.expired

        now = 100.0
        self.wheel.add(Counting(), now)
        while now < 120.0:
            now += TICK
            self.assertEqual(self.wheel.advance(now), [])
        self.assertLessEqual(len(looks), 21)

    def test_repr(self) -> None:
        self.wheel.add(Waiter(), 0.0)
        self.assertEqual(repr(self.wheel), "<Wheel 1 items, tick 0.1 s, period 1.0 s>")


MOVES = st.sampled_from(["add", "later", "never", "touch", "earlier", "discard", "advance"])
STEPS = st.lists(st.tuples(MOVES, st.integers(0, 7), st.floats(0, 4)), max_size=60)


class WheelModelTests(SynchronousTestCase):
    @PROPERTY
    @given(STEPS)
    def test_against_a_full_scan(self, steps: list[tuple[str, int, float]]) -> None:
        """Whatever is added, moved and discarded: nothing too early, nothing lost, nothing late.

        Late is: a tick for what the wheel was told of, a period more for what it was not.
        """
        wheel = Wheel(TICK, PERIOD)
        items = [Waiter() for _ in range(8)]
        watched: set[int] = set()
        told_late: dict[int, float] = {}  # until when the wheel may miss an item
        now = 1000.0
        for move, which, amount in steps:
            item = items[which]
            if move == "add":
                item.deadline = now + amount
                wheel.add(item, now)
                watched.add(which)
                told_late[which] = 0.0
            elif move == "later":
                item.deadline = max(item.deadline, now + amount)
            elif move == "never":
                item.deadline = math.inf
            elif move in ("touch", "earlier"):
                item.deadline = now + amount / 4
                if move == "touch":
                    wheel.touch(item, now)
                told_late[which] = 0.0 if move == "touch" else now + PERIOD
            elif move == "discard":
                wheel.discard(item)
                watched.discard(which)
            else:
                now += amount
                self._check(wheel.advance(now), items, watched, told_late, now)
        self.assertEqual(len(wheel), len(watched))

    def _check(
        self,
        late: list[Timed],
        items: list[Waiter],
        watched: set[int],
        excused: dict[int, float],
        now: float,
    ) -> None:
        found = {id(item) for item in late}
        self.assertEqual(len(found), len(late))
        for which, item in enumerate(items):
            if which not in watched or item.deadline > now:
                self.assertNotIn(id(item), found)
            elif id(item) not in found:
                # Unreported: only within the tick, or the period, that the wheel may take.
                self.assertGreaterEqual(max(item.deadline, excused[which]) + TICK + 1e-6, now)
            else:
                item.deadline = math.inf
