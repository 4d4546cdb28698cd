"""A sliding window over the calls to an instance: how many of them failed, how many were slow.

`core.breaker` adds each call when it ends and reads the counts. Adding costs O(1), and memory is
bounded: the bad calls of a `CountWindow`, ten buckets of a `TimeWindow`. These are the two windows
of Resilience4j (https://resilience4j.readme.io/docs/circuitbreaker).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

__all__ = [
    "BUCKETS",
    "FAILED",
    "GOOD",
    "SLOW",
    "CallWindow",
    "CountWindow",
    "TimeWindow",
    "make_window",
]

GOOD = 0
FAILED = 1
SLOW = 2
"""Outcomes of a call. They are bits: a call may have failed *and* been slow."""

BUCKETS = 10
"""Parts of a `TimeWindow`, and by which share of its length it may be too short."""


class CallWindow(Protocol):
    """What a breaker asks of a window. ``failed`` and ``slow`` are out of ``calls``."""

    @property
    def calls(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def slow(self) -> int: ...

    def add(self, now: float, outcome: int) -> None:
        """A call ended ``now`` (monotonic seconds, never less than before)."""
        ...

    def clear(self) -> None:
        """Forget all calls."""
        ...


class CountWindow:
    """The last ``size`` calls. Of those that were bad it knows which ones they were.

    :ivar total: calls since the start. To count one more *is* to add a good call: nearly all are
        good, and this makes them nearly free.
    """

    __slots__ = ("_bad", "_failed", "_first", "_size", "_slow", "total")

    def __init__(self, size: int) -> None:
        self._size = size
        self._bad: deque[tuple[int, int]] = deque()
        self.total = 0
        self.clear()

    def clear(self) -> None:
        """Forget all calls."""
        self._first = self.total
        self._bad.clear()
        self._failed = 0
        self._slow = 0

    def add(self, now: float, outcome: int) -> None:
        """A call ended; the oldest one leaves a full window."""
        self.total += 1
        if outcome:
            self._bad.append((self.total, outcome))
            self._failed += outcome & FAILED
            self._slow += (outcome & SLOW) // SLOW
            self._forget()

    def _forget(self) -> None:
        # Each bad call is forgotten once, so that this costs O(1) for each in the long run.
        bad = self._bad
        last = self.total - self._size
        while bad and bad[0][0] <= last:
            _, outcome = bad.popleft()
            self._failed -= outcome & FAILED
            self._slow -= (outcome & SLOW) // SLOW

    @property
    def calls(self) -> int:
        return min(self.total - self._first, self._size)

    @property
    def failed(self) -> int:
        self._forget()
        return self._failed

    @property
    def slow(self) -> int:
        self._forget()
        return self._slow

    def __repr__(self) -> str:
        counts = f"{self.calls} of {self._size} calls, {self.failed} failed, {self.slow} slow"
        return f"<CountWindow {counts}>"


class TimeWindow:
    """The calls of the last ``seconds``, in `BUCKETS` that leave one by one.

    So the window reaches back between nine and ten tenths of ``seconds``. It moves when a call is
    added: the counts are those at the end of the last call.
    """

    __slots__ = ("_calls", "_failed", "_slow", "_tick", "_width", "calls", "failed", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self.clear()

    def clear(self) -> None:
        """Forget all calls."""
        self._calls = [0] * BUCKETS
        self._failed = [0] * BUCKETS
        self._slow = [0] * BUCKETS
        self._tick = 0
        self.calls = 0
        self.failed = 0
        self.slow = 0

    def add(self, now: float, outcome: int) -> None:
        """A call ended; those that are too old leave first."""
        tick = int(now / self._width)
        if tick != self._tick:
            self._advance(tick)
        at = tick % BUCKETS
        self._calls[at] += 1
        self.calls += 1
        if outcome & FAILED:
            self._failed[at] += 1
            self.failed += 1
        if outcome & SLOW:
            self._slow[at] += 1
            self.slow += 1

    def _advance(self, tick: int) -> None:
        # After a long silence every bucket is too old, and each is emptied once.
        for old in range(max(self._tick + 1, tick - BUCKETS + 1), tick + 1):
            at = old % BUCKETS
            self.calls -= self._calls[at]
            self.failed -= self._failed[at]
            self.slow -= self._slow[at]
            self._calls[at] = self._failed[at] = self._slow[at] = 0
        self._tick = tick

    def __repr__(self) -> str:
        counts = f"{self.calls} calls, {self.failed} failed, {self.slow} slow"
        return f"<TimeWindow {self._width * BUCKETS:g} s: {counts}>"


def make_window(calls: int, seconds: float) -> CountWindow | TimeWindow:
    """A `TimeWindow` of ``seconds``; if that is 0, a `CountWindow` of ``calls``."""
    return TimeWindow(seconds) if seconds else CountWindow(calls)
