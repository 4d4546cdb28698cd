"""Penalties: when somebody is banned, for how long, and when it is forgotten."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.penalty import MOST_STRIKES, Penalty, Record
from tests.core.profile import PROPERTY

PENALTIES = st.builds(
    Penalty,
    refusals=st.integers(1, 20),
    window=st.floats(0.1, 1000),
    duration=st.floats(0.1, 1000),
    factor=st.floats(1, 10),
    max_duration=st.floats(1000, 1e6),
    memory=st.floats(0, 1e6),
)


class PenaltyTests(SynchronousTestCase):
    def test_strike(self) -> None:
        """The last refusal of so many within a window is a strike, however they are counted."""
        penalty = Penalty(3, window=10, duration=60)
        record, seconds = penalty.count(None, 1, 100.0)
        self.assertEqual(seconds, 0.0)
        record, seconds = penalty.count(record, 1, 105.0)
        self.assertEqual(seconds, 0.0)
        record, seconds = penalty.count(record, 1, 109.9)
        self.assertEqual(seconds, 60.0)
        self.assertEqual(penalty.count(None, 7, 100.0)[1], 60.0)

    def test_window(self) -> None:
        """What was counted in a window is nothing in the next, which begins with a refusal."""
        penalty = Penalty(3, window=10, duration=60)
        record, _ = penalty.count(None, 2, 100.0)
        record, seconds = penalty.count(record, 2, 110.0)
        self.assertEqual(seconds, 0.0)
        self.assertEqual(penalty.count(record, 1, 119.9)[1], 60.0)

    def test_repeats(self) -> None:
        """Each ban is longer than the one before, up to the longest."""
        penalty = Penalty(1, window=10, duration=60, factor=2, max_duration=300, memory=1000)
        record, now, lengths = None, 0.0, []
        for _ in range(5):
            record, seconds = penalty.count(record, 1, now)
            lengths.append(seconds)
            now += seconds + 999.0
        self.assertEqual(lengths, [60.0, 120.0, 240.0, 300.0, 300.0])

    def test_forgotten(self) -> None:
        """A time without a ban, and it is as if there had been none."""
        penalty = Penalty(1, window=10, duration=60, factor=2, memory=1000)
        record, _ = penalty.count(None, 1, 0.0)
        self.assertEqual(record.useful_until, 1060.0)
        self.assertEqual(penalty.count(record, 1, 1059.9)[1], 120.0)
        self.assertEqual(penalty.count(record, 1, 1060.0)[1], 60.0)

    def test_after_a_ban(self) -> None:
        """It takes as many refusals again."""
        penalty = Penalty(3, window=1000, duration=60)
        record, seconds = penalty.count(None, 5, 0.0)
        self.assertEqual(seconds, 60.0)
        record, seconds = penalty.count(record, 2, 60.0)
        self.assertEqual(seconds, 0.0)
        self.assertEqual(penalty.count(record, 1, 61.0)[1], 60.0)

    def test_many_strikes(self) -> None:
        """Any number of strikes is neither slow nor more than the longest ban."""
        penalty = Penalty(1, 10, 60, factor=1.0000001, max_duration=1e300, memory=0)
        record = Record(0.0, 0, MOST_STRIKES, 1e9)
        record, seconds = penalty.count(record, 1, 1e9 - 1)
        self.assertEqual(record.strikes, MOST_STRIKES)
        self.assertAlmostEqual(seconds, 60.006, 3)
        self.assertEqual(Penalty(1, 10, 60, 1e300, 1e301).seconds(MOST_STRIKES), 1e301)
        self.assertEqual(Penalty(1, 10, 60).seconds(MOST_STRIKES), 60)

    def test_clock_steps_back(self) -> None:
        """A window that would end too late has ended; so have strikes."""
        penalty = Penalty(3, window=10, duration=60, factor=2, max_duration=120, memory=100)
        record, _ = penalty.count(None, 2, 1e6)
        self.assertEqual(penalty.count(record, 2, 0.0)[1], 0.0)
        record, _ = penalty.count(None, 3, 1e6)
        self.assertEqual(penalty.count(record, 3, 0.0)[1], 60.0)

    def test_settings(self) -> None:
        """What makes no sense is refused."""
        good: dict[str, Any] = {"refusals": 3, "window": 10, "duration": 60}
        for wrong in (
            {"refusals": 0},
            {"window": 0},
            {"window": math.inf},
            {"duration": 0},
            {"duration": math.nan},
            {"factor": 0.5},
            {"factor": math.nan},
            {"max_duration": 59},
            {"max_duration": math.inf},
            {"memory": -1},
        ):
            with self.assertRaises(ValueError, msg=str(wrong)):
                Penalty(**{**good, **wrong})

    def test_words(self) -> None:
        penalty = Penalty(3, 10, 60, 2, 300)
        self.assertEqual(penalty.reason, "3 refusals within 10 s")
        self.assertEqual(repr(penalty), "<Penalty after 3 in 10 s: 60 s, times 2 up to 300 s>")
        self.assertEqual(penalty.parameters(), (b"3", b"10", b"60", b"2", b"300", b"86400"))

    @PROPERTY
    @given(PENALTIES, st.lists(st.tuples(st.integers(1, 5), st.floats(0, 500)), max_size=60))
    def test_any_trace(self, penalty: Penalty, refusals: list[tuple[int, float]]) -> None:
        """Nobody is banned for fewer refusals than so many within a window, nor for longer than
        the longest ban; each ban is as long as the one before at least, while it is remembered."""
        record: Record | None = None
        recent: list[tuple[float, int]] = []
        now, longest, ended = 0.0, 0.0, -math.inf
        for count, pause in refusals:
            now += pause
            recent.append((now, count))
            record, seconds = penalty.count(record, count, now)
            if not seconds:
                continue
            within = sum(number for at, number in recent if at >= now - penalty.window)
            self.assertGreaterEqual(within, penalty.refusals)
            self.assertLessEqual(seconds, penalty.max_duration)
            if now < ended + penalty.memory:
                self.assertGreaterEqual(seconds, longest)
            recent, longest = [], seconds
            now += seconds
            ended = now
            self.assertLessEqual(record.useful_until, ended + penalty.memory + 1e-6)
