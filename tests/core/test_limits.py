"""The algorithms of rate limiting: what each admits, and what holds for all of them."""

from __future__ import annotations

import gc
import math
import struct
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.limits import (
    Algorithm,
    FixedWindow,
    Gcra,
    LeakyBucket,
    Shaper,
    SlidingLog,
    SlidingWindow,
    State,
    Taken,
    TokenBucket,
)
from tests.core.profile import PROPERTY

LIMITS = st.integers(1, 50)
RATES = st.floats(0.01, 1e4)
WINDOWS = st.floats(0.01, 1000)
BUCKETS: st.SearchStrategy[Algorithm] = st.one_of(
    st.builds(TokenBucket, LIMITS, RATES),
    st.builds(LeakyBucket, LIMITS, RATES),
    st.builds(Gcra, LIMITS, WINDOWS, st.none() | LIMITS),
)
WINDOWED: st.SearchStrategy[Algorithm] = st.one_of(
    st.builds(FixedWindow, LIMITS, WINDOWS), st.builds(SlidingWindow, LIMITS, WINDOWS)
)
LEASABLE = st.one_of(BUCKETS, WINDOWED)
ALL: st.SearchStrategy[Algorithm] = st.one_of(
    LEASABLE, st.builds(Shaper, RATES, st.integers(0, 50)), st.builds(SlidingLog, LIMITS, WINDOWS)
)
# Times as shares of the window, so that all that is there to happen does.
STEPS = st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 2.5))
CALLS = st.lists(st.tuples(st.integers(0, 8), STEPS), max_size=40)
BEGIN = 1e5


def ask(
    algorithm: Algorithm, calls: Sequence[tuple[int, float]], state: State | None = None
) -> list[tuple[float, int, Taken]]:
    """One key asking; when, for how much, and what it was told."""
    told = []
    now = BEGIN
    for cost, step in calls:
        now += step * algorithm.window
        taken = algorithm.take(state, cost, 0, now)
        if not taken.wait:
            state = taken.state
        told.append((now, cost, taken))
    return told


def at_once(algorithm: Algorithm, state: State | None, now: float) -> int:
    """How many units are admitted one by one."""
    units = 0
    while not (taken := algorithm.take(state, 1, 0, now)).wait:
        state = taken.state
        units += 1
        assert units <= 1000
    return units


class BucketTests(SynchronousTestCase):
    def test_burst_and_refill(self) -> None:
        """Three ways to say the same; all of it at once, then by the rate."""
        for algorithm in (TokenBucket(10, 2), LeakyBucket(10, 2), Gcra(10, 5.0)):
            first = algorithm.take(None, 4, 0, 100.0)
            self.assertEqual(first, Taken(0.0, 6, 2.0, 0, 0.0, 102.0))
            second = algorithm.take(first.state, 6, 0, 100.0)
            self.assertEqual(second, Taken(0.0, 0, 5.0, 0, 0.0, 105.0))
            refused = algorithm.take(second.state, 1, 0, 100.0)
            self.assertEqual(refused, Taken(0.5, 0, 5.0, 0, 0.0, 105.0))
            self.assertEqual(algorithm.take(second.state, 3, 0, 101.5).state, 106.5)
            self.assertEqual(algorithm.take(second.state, 0, 0, 102.2).remaining, 4)
            self.assertEqual((algorithm.limit, algorithm.window, algorithm.horizon), (10, 5, 5))

    def test_never(self) -> None:
        """What is more than the whole has no time to wait for."""
        for algorithm in (TokenBucket(10, 2), FixedWindow(10, 1), SlidingWindow(10, 1)):
            self.assertEqual(algorithm.take(None, 11, 0, 5.0)[:2], (math.inf, 10))
            self.assertEqual(algorithm.take(None, 10, 0, 5.0)[:2], (0.0, 0))
        self.assertEqual(SlidingLog(10, 1).take(None, 11, 0, 5.0)[:2], (math.inf, 10))
        self.assertEqual(Gcra(100, 1, 10).take(None, 11, 0, 5.0)[:2], (math.inf, 10))

    def test_fractions(self) -> None:
        """Half a token is none for clients, but is not lost."""
        bucket = TokenBucket(1.5, 1)
        self.assertEqual(bucket.limit, 1)
        taken = bucket.take(None, 1, 0, 0.0)
        self.assertEqual((taken.wait, taken.remaining), (0.0, 0))
        self.assertEqual(bucket.take(taken.state, 1, 0, 0.5).wait, 0.0)

    def test_gcra_burst(self) -> None:
        """A burst of one spaces requests evenly; clients are told of the burst."""
        even = Gcra(10, 5.0, 1)
        self.assertEqual((even.limit, even.window, even.rate), (1, 0.5, 2.0))
        state = even.take(None, 1, 0, 10.0).state
        self.assertEqual(even.take(state, 1, 0, 10.2).wait, 10.5 - 10.2)
        self.assertEqual(even.take(state, 1, 0, 10.5).wait, 0.0)

    def test_shaper(self) -> None:
        """One goes on at once, as many as the queue holds wait for their turns."""
        shaper = Shaper(2, 3)
        state: State | None = None
        delays = []
        for _ in range(4):
            taken = shaper.take(state, 1, 0, 100.0)
            state = taken.state
            delays.append(taken.delay)
        self.assertEqual(delays, [0.0, 0.5, 1.0, 1.5])
        refused = shaper.take(state, 1, 0, 100.0)
        self.assertEqual((refused.wait, refused.delay, refused.state), (0.5, 0.0, state))
        self.assertEqual(shaper.take(state, 1, 0, 100.5).delay, 1.5)
        self.assertEqual(shaper.take(state, 0, 0, 100.5).delay, 0.0)
        self.assertEqual(shaper.give_back(state, 1, 100.0), state)
        self.assertEqual(shaper.take(None, 1, 5, 100.0).extra, 0)

    def test_shaper_without_queue(self) -> None:
        """What is early is refused."""
        shaper = Shaper(2, 0)
        state = shaper.take(None, 1, 0, 100.0).state
        self.assertEqual(shaper.take(state, 1, 0, 100.25).wait, 0.25)
        self.assertEqual(shaper.take(state, 1, 0, 100.5)[::4], (0.0, 0.0))

    def test_settings(self) -> None:
        """What would let nothing or everything pass is refused."""
        for bad in (0, -1, math.nan, math.inf):
            for make in (
                lambda bad: TokenBucket(bad, 1),
                lambda bad: TokenBucket(1, bad),
                lambda bad: Gcra(1, bad),
                lambda bad: Gcra(bad, 1),
                lambda bad: Gcra(1, 1, bad),
                lambda bad: Shaper(bad, 1),
                lambda bad: FixedWindow(1, bad),
                lambda bad: SlidingWindow(bad, 1),
                lambda bad: SlidingLog(bad, 1),
                lambda bad: SlidingLog(1, bad),
            ):
                self.assertRaises(ValueError, make, bad)
        self.assertRaises(ValueError, Shaper, 1, -1)
        self.assertRaises(ValueError, SlidingLog, 1001, 1)

    def test_frozen(self) -> None:
        """The same numbers are the same algorithm, and stay what they are."""
        self.assertEqual(TokenBucket(1, 2), TokenBucket(1.0, 2.0))
        self.assertEqual(len({TokenBucket(1, 2), TokenBucket(1.0, 2.0), LeakyBucket(1, 2)}), 2)
        self.assertNotEqual(FixedWindow(1, 2), SlidingWindow(1, 2))
        for algorithm in (TokenBucket(1, 2), Gcra(1, 2), FixedWindow(1, 2), SlidingLog(1, 2)):
            with self.assertRaises(AttributeError):
                algorithm.rate = 5.0  # type: ignore[misc]

    def test_parameters(self) -> None:
        """A float comes out of them as it was."""
        self.assertEqual(Shaper(2, 3).parameters(), (b"shaper", b"4", b"2"))
        self.assertEqual(FixedWindow(5, 0.5).parameters(), (b"fixed_window", b"5", b"0.5"))
        name, capacity, rate = Gcra(7, 0.3).parameters()
        self.assertEqual((name, float(capacity), float(rate)), (b"gcra", 7.0, 7 / 0.3))

    def test_repr(self) -> None:
        self.assertEqual(repr(TokenBucket(10, 5)), "TokenBucket(capacity=10.0, rate=5.0)")
        self.assertEqual(repr(SlidingLog(10, 5)), "SlidingLog(limit=10, window=5.0)")


class WindowTests(SynchronousTestCase):
    def test_fixed(self) -> None:
        """A window begins with a request, and ends for all that came in it."""
        window = FixedWindow(3, 10)
        first = window.take(None, 2, 0, 100.0)
        self.assertEqual(first, Taken(0.0, 1, 10.0, 0, 0.0, complex(110, 2)))
        self.assertEqual(window.take(first.state, 2, 0, 104.0)[:3], (6.0, 1, 6.0))
        last = window.take(first.state, 1, 0, 109.0)
        self.assertEqual(last[:3], (0.0, 0, 1.0))
        self.assertEqual(window.take(last.state, 3, 0, 110.0).state, complex(120, 3))

    def test_fixed_at_one_instant(self) -> None:
        """The end of a window is no further than the window, whatever the rounding says."""
        window = FixedWindow(3, 0.1)
        for now in (45e6 + 0.1234567, 1e9 / 3, 1e5 / 7):
            self.assertEqual(at_once(window, None, now), 3)

    def test_sliding(self) -> None:
        """What the last window counted fades."""
        window = SlidingWindow(10, 10)
        state = window.take(None, 10, 0, 100.0).state
        self.assertEqual(state, complex(100, 10))
        # At 110 all ten still count, at 115 half of them do.
        self.assertEqual(window.take(state, 1, 0, 105.0)[:3], (6.0, 0, 15.0))
        self.assertEqual(window.take(state, 5, 0, 110.0)[:3], (5.0, 0, 10.0))
        half = window.take(state, 5, 0, 115.0)
        self.assertEqual(half[:3], (0.0, 0, 15.0))
        self.assertEqual(half.state, complex(110, 10 * 2**26 + 5))
        self.assertEqual(window.take(half.state, 1, 0, 115.0)[:3], (1.0, 0, 15.0))
        self.assertEqual(window.take(half.state, 10, 0, 130.0).state, complex(130, 10))

    def test_log(self) -> None:
        """Each unit is there again a window after it was taken."""
        log = SlidingLog(3, 10)
        state = log.take(log.take(None, 1, 0, 100.0).state, 2, 0, 104.0).state
        self.assertEqual(state, struct.pack("3d", 100.0, 104.0, 104.0))
        self.assertEqual(log.take(state, 1, 5, 105.0), Taken(5.0, 0, 9.0, 0, 0.0, state))
        self.assertEqual(log.take(state, 2, 0, 105.0).wait, 9.0)
        later = log.take(state, 1, 5, 110.0).state
        self.assertEqual(later, struct.pack("3d", 104.0, 104.0, 110.0))
        self.assertEqual(log.take(state, 0, 0, 113.0)[:3], (0.0, 1, 1.0))
        self.assertEqual(log.give_back(state, 1, 113.0), state)

    @PROPERTY
    @given(
        st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), STEPS), max_size=20),
        st.integers(0, 2**26),
    )
    def test_sliding_counts(self, calls: list[tuple[int, int, float]], back: int) -> None:
        """Both counts are exact, however large they are."""
        window = SlidingWindow(10**9, 10.0)
        state: State | None = None
        start, previous, current = BEGIN, 0, 0
        now = BEGIN
        for cost, want, step in calls:
            now += 10.0 * step
            taken = window.take(state, cost, want, now)
            if taken.wait:
                continue
            if now >= start + 20.0 or state is None:
                start, previous, current = now, 0, 0
            elif now >= start + 10.0:
                start, previous, current = start + 10.0, current, 0
            state = taken.state
            current += cost + taken.extra
            if state is None:
                continue
            if not cost and not taken.extra:
                state = window.give_back(window.take(state, 0, 1, now).state, 1, now)
            elif now < start + 10.0:
                state = window.give_back(state, back, now)
                current = max(current - back, 0)
            small = max(previous, current) < 2**26
            self.assertEqual(
                state,
                complex(start, previous * 2**26 + current)
                if small
                else struct.pack("3d", start, previous, current),
            )

    def test_nothing_counts(self) -> None:
        """What was given back needs no time to be there again, wherever the clock goes."""
        window = SlidingWindow(10, 10)
        state = window.give_back(window.take(None, 1, 4, 100.0).state, 5, 100.0)
        for now in (95.0, 100.0, 105.0):
            self.assertEqual(window.take(state, 0, 0, now)[:3], (0.0, 10, 0.0))

    def test_quota_made_smaller(self) -> None:
        """What was taken of a larger quota is waited for, and no more."""
        for now, large, small in (
            (1.0, SlidingLog(10, 10), SlidingLog(3, 10)),
            (1.0, FixedWindow(10, 10), FixedWindow(3, 10)),
        ):
            state = large.take(None, 10, 0, 0.0).state
            taken = small.take(state, 1, 0, now)
            self.assertEqual((taken.wait, taken.remaining), (9.0, 0))
            self.assertEqual(small.take(state, 0, 0, now)[:2], (0.0, 0))
        state = SlidingWindow(10, 10).take(None, 10, 0, 0.0).state
        taken = SlidingWindow(3, 10).take(state, 1, 0, 1.0)
        self.assertEqual((taken.wait, taken.remaining), (17.0, 0))


class AllTests(SynchronousTestCase):
    @PROPERTY
    @given(BUCKETS, CALLS)
    def test_buckets_admit_no_more(
        self, algorithm: Algorithm, calls: list[tuple[int, float]]
    ) -> None:
        """In any stretch of time no more than the capacity and what came in."""
        told = [(now, cost) for now, cost, taken in ask(algorithm, calls) if not taken.wait]
        for first, (since, _) in enumerate(told):
            admitted = 0
            for now, cost in told[first:]:
                admitted += cost
                most = algorithm.limit + algorithm.rate * (now - since + 2e-7)
                self.assertLessEqual(admitted, most + 1e-6)

    @PROPERTY
    @given(st.builds(SlidingLog, LIMITS, WINDOWS), CALLS)
    def test_log_is_exact(self, log: SlidingLog, calls: list[tuple[int, float]]) -> None:
        """It admits just what a list of all that was admitted would."""
        units: list[float] = []
        for now, cost, taken in ask(log, calls):
            live = [at for at in units if at > now - log.window + 1e-6]
            self.assertEqual(not taken.wait, not cost or len(live) + cost <= log.limit)
            if not taken.wait:
                units += [now] * cost
                live += [now] * cost
            self.assertEqual(taken.remaining, log.limit - len(live))

    @PROPERTY
    @given(WINDOWED, CALLS)
    def test_windows_admit_no_more(
        self, algorithm: Algorithm, calls: list[tuple[int, float]]
    ) -> None:
        """No more than the limit in each window of its own, nor twice as much in any."""
        told = [(now, cost) for now, cost, taken in ask(algorithm, calls) if not taken.wait]
        for first, (since, _) in enumerate(told):
            within = sum(cost for now, cost in told[first:] if now < since + algorithm.window)
            self.assertLessEqual(within, 2 * algorithm.limit)
        if isinstance(algorithm, FixedWindow):
            ends, count = -math.inf, 0
            for now, cost in told:
                if now >= ends and cost:
                    ends, count = now + algorithm.window, 0
                count += cost
                self.assertLessEqual(count, algorithm.limit)

    @PROPERTY
    @given(st.builds(SlidingWindow, LIMITS, WINDOWS), CALLS)
    def test_sliding_window_is_its_estimate(
        self, algorithm: SlidingWindow, calls: list[tuple[int, float]]
    ) -> None:
        """It admits by what came in the window before, faded, and in this one."""
        previous = current = 0
        start: float | None = None
        window = algorithm.window
        for now, cost, taken in ask(algorithm, calls):
            if start is not None and min(abs(now - start - n * window) for n in (1, 2)) < 1e-8:
                # Whether a window that ends now has ended is a matter of rounding.
                return
            # Only who takes something changes what is remembered: a look begins no window.
            if start is None or now >= start + 2 * window:
                origin, before, here = now, 0, 0
            elif now >= start + window:
                origin, before, here = start + window, current, 0
            else:
                origin, before, here = start, previous, current
            room = algorithm.limit - before * (1 - (now - origin) / window) - here - cost
            if abs(room) > 1e-6 and cost:
                self.assertEqual(not taken.wait, room > 0)
            if not taken.wait and cost:
                start, previous, current = origin, before, here + cost

    @PROPERTY
    @given(ALL, CALLS, st.integers(1, 8), STEPS)
    def test_wait_is_exact(
        self, algorithm: Algorithm, calls: list[tuple[int, float]], cost: int, step: float
    ) -> None:
        """Who waits for as long as it is told is admitted, and not much earlier."""
        told = ask(algorithm, calls)
        state = next((t.state for _, _, t in reversed(told) if not t.wait), None)
        now = (told[-1][0] if told else BEGIN) + step * algorithm.window
        refused = algorithm.take(state, cost, 0, now)
        if not refused.wait:
            return
        self.assertEqual(math.isinf(refused.wait), cost > algorithm.limit)
        if cost <= algorithm.limit:
            self.assertEqual(algorithm.take(state, cost, 0, now + refused.wait + 1e-6).wait, 0.0)
            early = now + 0.99 * refused.wait
            if refused.wait > 1e-3:
                self.assertGreater(algorithm.take(state, cost, 0, early).wait, 0.0)

    @PROPERTY
    @given(ALL, CALLS, st.lists(st.tuples(st.integers(1, 8), st.floats(0, 0.5)), max_size=10))
    def test_refusals_change_nothing(
        self, algorithm: Algorithm, calls: list[tuple[int, float]], more: list[tuple[int, float]]
    ) -> None:
        """A wait only gets shorter, by as much as was waited."""
        told = ask(algorithm, calls)
        state = next((t.state for _, _, t in reversed(told) if not t.wait), None)
        now = told[-1][0] if told else BEGIN
        until: dict[int, float] = {}
        for cost, step in more:
            now += step * algorithm.window
            taken = algorithm.take(state, cost, 0, now)
            if not taken.wait:
                continue
            self.assertIs(taken.state, state)
            self.assertEqual((taken.extra, taken.delay), (0, 0.0))
            if cost in until and cost <= algorithm.limit:
                self.assertAlmostEqual(now + taken.wait, until[cost], delta=2e-6)
            until[cost] = now + taken.wait

    @PROPERTY
    @given(ALL, CALLS)
    def test_what_is_told(self, algorithm: Algorithm, calls: list[tuple[int, float]]) -> None:
        """``remaining`` is what would be admitted at once, ``reset`` when all of it would be."""
        state: State | None = None
        for now, _, taken in ask(algorithm, calls):
            if not taken.wait:
                state = taken.state
            look = algorithm.take(state, 0, 0, now)
            self.assertEqual((look.wait, look.delay, look.state), (0.0, 0.0, state))
            self.assertEqual(taken.remaining, look.remaining)
            self.assertEqual(taken.remaining, at_once(algorithm, state, now))
            self.assertAlmostEqual(taken.reset, look.reset)
            self.assertLessEqual(taken.reset, algorithm.horizon * (1 + 1e-9) + 1e-8)
            then = algorithm.take(state, 0, 0, now + taken.reset + 1e-6)
            self.assertEqual(then.remaining, algorithm.limit)

    @PROPERTY
    @given(ALL, CALLS, st.integers(1, 8))
    def test_horizon(self, algorithm: Algorithm, calls: list[tuple[int, float]], cost: int) -> None:
        """A state that was not used for a horizon is as good as none."""
        told = ask(algorithm, calls)
        if not told:
            return
        state = next((t.state for _, _, t in reversed(told) if not t.wait), None)
        now = told[-1][0] + algorithm.horizon + 2e-6
        kept, forgotten = algorithm.take(state, cost, 0, now), algorithm.take(None, cost, 0, now)
        self.assertEqual(kept[:2], forgotten[:2])
        self.assertEqual(kept.delay, forgotten.delay)

    @PROPERTY
    @given(LEASABLE, CALLS, st.integers(0, 5), st.integers(0, 60))
    def test_extra(
        self, algorithm: Algorithm, calls: list[tuple[int, float]], cost: int, want: int
    ) -> None:
        """Extra units are as many as are left, and are taken; given back, they are there again."""
        told = ask(algorithm, calls)
        state = next((t.state for _, _, t in reversed(told) if not t.wait), None)
        now = told[-1][0] if told else BEGIN
        plain = algorithm.take(state, cost, 0, now)
        leased = algorithm.take(state, cost, want, now)
        self.assertEqual(plain[:3], leased[:3])
        if plain.wait:
            self.assertEqual(leased.extra, 0)
            return
        self.assertEqual(leased.extra, min(want, plain.remaining))
        left = algorithm.take(leased.state, 0, 0, now).remaining
        self.assertEqual(left, plain.remaining - leased.extra)
        for units in range(leased.extra + 1):
            back = algorithm.give_back(leased.state, units, now)
            self.assertEqual(algorithm.take(back, 0, 0, now).remaining, left + units)
        more = algorithm.give_back(leased.state, 10_000, now)
        self.assertLessEqual(algorithm.take(more, 0, 0, now).remaining, algorithm.limit)
        self.assertIsNone(algorithm.give_back(None, 1, now))

    @PROPERTY
    @given(BUCKETS, st.lists(st.tuples(st.integers(0, 5), STEPS, st.integers(0, 9)), max_size=30))
    def test_leases_admit_no_more(
        self, algorithm: Algorithm, calls: list[tuple[int, float, int]]
    ) -> None:
        """Units are counted when they are leased: no more of them than capacity and rate give.

        Half of each lease is given back a little later, and may be taken again.
        """
        state: State | None = None
        now = BEGIN
        spent = 0
        for cost, step, want in calls:
            now += step * algorithm.window
            taken = algorithm.take(state, cost, want, now)
            if taken.wait:
                continue
            unspent = taken.extra // 2
            now += 0.01 * algorithm.window
            state = algorithm.give_back(taken.state, unspent, now)
            spent += cost + taken.extra - unspent
            most = algorithm.limit + algorithm.rate * (now - BEGIN + 2e-7) + 1e-5
            self.assertLessEqual(spent, most)

    def test_give_back_too_late(self) -> None:
        """Nothing comes back into a window that the units were not taken from."""
        for algorithm in (FixedWindow(10, 5), SlidingWindow(10, 5)):
            state = algorithm.take(None, 2, 8, 100.0).state
            back = algorithm.give_back(state, 8, 105.0)
            self.assertEqual(back, state)
            self.assertEqual(algorithm.give_back(state, 3, 104.0), complex(state.real, 7.0))  # type: ignore[union-attr]

    @PROPERTY
    @given(ALL, CALLS)
    def test_states_are_not_tracked(
        self, algorithm: Algorithm, calls: list[tuple[int, float]]
    ) -> None:
        """The garbage collector has nothing to do with them, however many keys there are."""
        for _, _, taken in ask(algorithm, calls):
            self.assertFalse(gc.is_tracked(taken.state))


class ClockTests(SynchronousTestCase):
    @PROPERTY
    @given(ALL, CALLS, st.one_of(st.floats(-3, 3), st.floats(-1e6, 1e6)))
    def test_steps(self, algorithm: Algorithm, calls: list[tuple[int, float]], step: float) -> None:
        """Wherever the clock goes, a key is not shut out for more than a window longer."""
        told = ask(algorithm, calls)
        state = next((t.state for _, _, t in reversed(told) if not t.wait), None)
        now = (told[-1][0] if told else BEGIN) + step * algorithm.window
        look = algorithm.take(state, 0, 0, now)
        self.assertEqual(look.wait, 0.0)
        self.assertTrue(0 <= look.remaining <= algorithm.limit)
        taken = algorithm.take(state, 1, 0, now)
        longest = algorithm.horizon + algorithm.window
        self.assertLessEqual(taken.wait, longest * (1 + 1e-6))
        if taken.wait:
            # What it is told is true here, too.
            again = algorithm.take(state, 1, 0, now + taken.wait + 1e-6)
            self.assertEqual(again.wait, 0.0)

    def test_far_back(self) -> None:
        """By more than a window: as if nothing had been taken."""
        for algorithm in (
            TokenBucket(5, 1),
            Shaper(1, 4),
            FixedWindow(5, 5),
            SlidingWindow(5, 5),
            SlidingLog(5, 5),
        ):
            state = algorithm.take(None, 5, 0, 1000.0).state
            self.assertEqual(algorithm.take(state, 5, 0, 990.0).wait, 0.0)
            self.assertGreater(algorithm.take(state, 1, 0, 996.0).wait, 0.0)

    @PROPERTY
    @given(ALL, st.lists(st.tuples(st.integers(0, 8), st.floats(-1.0, 1.5)), max_size=40))
    def test_back_and_forth(self, algorithm: Algorithm, calls: list[tuple[int, float]]) -> None:
        """While it goes anywhere, what is told stays within bounds."""
        state: State | None = None
        now = BEGIN
        for cost, step in calls:
            now += step * algorithm.window
            taken = algorithm.take(state, cost, 0, now)
            self.assertTrue(0 <= taken.remaining <= algorithm.limit)
            self.assertTrue(0.0 <= taken.reset <= 2 * algorithm.horizon * (1 + 1e-6) + 1e-6)
            self.assertTrue(0.0 <= taken.delay <= algorithm.horizon)
            if taken.wait:
                self.assertGreater(taken.wait, 0.0)
            else:
                state = taken.state

    @PROPERTY
    @given(BUCKETS, st.lists(st.tuples(st.integers(1, 8), st.floats(-0.2, 0.2)), max_size=40))
    def test_small_steps_forgive_nothing(
        self, algorithm: Algorithm, calls: list[tuple[int, float]]
    ) -> None:
        """Steps back of less than a window in all give nothing that time did not."""
        state: State | None = None
        now = earliest = latest = BEGIN
        admitted = 0
        for cost, step in calls:
            now = max(now + step * algorithm.window, BEGIN)
            earliest, latest = min(earliest, now), max(latest, now)
            if now < latest - 0.99 * algorithm.window:
                break
            taken = algorithm.take(state, cost, 0, now)
            if not taken.wait:
                state = taken.state
                admitted += cost
            most = algorithm.limit + algorithm.rate * (latest - BEGIN + 1e-6)
            self.assertLessEqual(admitted, most + 1e-6)


class ScaledTests(SynchronousTestCase):
    @PROPERTY
    @given(ALL, st.floats(1e-6, 10))
    def test_scaled(self, algorithm: Algorithm, factor: float) -> None:
        """Limit and rate by the factor, at least one unit; the windows stay."""
        scaled = algorithm.scaled(factor) if algorithm.limit * factor <= 1000 else algorithm
        self.assertIs(type(scaled), type(algorithm))
        self.assertAlmostEqual(scaled.window / algorithm.window, 1.0)
        self.assertAlmostEqual(scaled.horizon / algorithm.horizon, 1.0)
        self.assertGreaterEqual(scaled.limit, 1)
        if scaled is not algorithm:
            self.assertLessEqual(scaled.limit, max(1, algorithm.limit * factor + 1e-6))
            self.assertGreater(scaled.limit + 1, algorithm.limit * factor - 1e-6)
            self.assertLessEqual(
                scaled.rate, max(algorithm.rate * factor, 1 / algorithm.window) * (1 + 1e-6)
            )
        self.assertEqual(algorithm.scaled(1.0), algorithm)

    def test_state_goes_on(self) -> None:
        """A key that has nothing left has nothing left of half as much."""
        bucket = TokenBucket(10, 1)
        state = bucket.take(None, 10, 0, 0.0).state
        half = bucket.scaled(0.5)
        self.assertEqual(half.take(state, 1, 0, 0.0).wait, 2.0)
        self.assertEqual(half.take(state, 0, 0, 5.0).remaining, 2)
