"""Windows: so much in each stretch of time, fixed or sliding.

The Lua twin does the same operations in the same order, so that both agree to the last bit.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import ClassVar

from rtgateway.core.limits.algorithm import State, Taken

__all__ = ["FixedWindow", "SlidingWindow"]

_ROUNDING = 1e-9
"""Units, so that what is full by a rounding error is not."""

_SHORTEST = 1e-6
"""Seconds that who is refused has to wait at least: the resolution of the shared store's clock."""

_SMALL = 2.0**26
"""Two counts below it fit into one float, exactly."""

_wide = struct.Struct("3d")

_taken = tuple.__new__


@dataclass(frozen=True, slots=True)
class _Window:
    limit: int
    window: float
    rate: float = field(init=False, repr=False, compare=False)
    horizon: float = field(init=False, repr=False, compare=False)

    name: ClassVar[str]
    leasable: ClassVar[bool] = True
    _windows: ClassVar[float]

    def __post_init__(self) -> None:
        if not (1 <= self.limit < math.inf and 0 < self.window < math.inf):
            raise ValueError(f"{self.name}: {self.limit:g} units in {self.window:g} s")
        for key, value in (
            ("limit", int(self.limit)),
            ("window", float(self.window)),
            ("rate", int(self.limit) / self.window),
            ("horizon", self._windows * self.window),
        ):
            object.__setattr__(self, key, value)

    def parameters(self) -> tuple[bytes, ...]:
        """The name, limit and window."""
        return self.name.encode(), b"%.17g" % self.limit, b"%.17g" % self.window

    def _limit(self, factor: float) -> int:
        return max(1, math.floor(self.limit * factor + _ROUNDING))


@dataclass(frozen=True, slots=True)
class FixedWindow(_Window):
    """``limit`` units in a window that begins with the first request after the last one ended.

    As INCR and PEXPIRE do it: twice the limit may pass at once, about the end of a window. The
    state is when the window ends, and what was taken in it (the imaginary part). Units of a lease
    are worth nothing after the end of the window they were taken in: it has to end before
    `Taken.reset` has passed.

    :raises ValueError: a limit below 1, or a window that is not above 0.
    """

    name = "fixed_window"
    _windows = 1.0

    def take(self, state: State | None, cost: int, want: int, now: float) -> Taken:
        """See `Algorithm.take`. The extra units count as remaining."""
        limit, window = self.limit, self.window
        if state is None:
            ends, count = now + window, 0.0
        else:
            ends, count = state.real, state.imag  # type: ignore[union-attr]
            # Twice as far ahead as can be: the clock was set back, or the window is another one.
            # Once as far would be too strict: `now + window - now` may be more than `window`.
            if now >= ends or ends - now > 2.0 * window:
                ends, count = now + window, 0.0
        left = int(limit - count)
        if cost > left and cost:
            wait = math.inf if cost > limit else ends - now
            reset = ends - now if count else 0.0
            return _taken(Taken, (wait, left if left > 0 else 0, reset, 0, 0.0, state))
        left -= cost
        if left < 0:
            left = 0
        extra = want if want < left else left
        count += cost
        reset = ends - now if count else 0.0
        if cost or extra:
            state = complex(ends, count + extra)
        return _taken(Taken, (0.0, left, reset, extra, 0.0, state))

    def give_back(self, state: State | None, units: int, now: float) -> State | None:
        """See `Algorithm.give_back`. Nothing is, once the window has ended."""
        if state is None:
            return None
        ends, count = state.real, state.imag  # type: ignore[union-attr]
        if now >= ends:
            return state
        return complex(ends, count - units if count > units else 0.0)

    def scaled(self, factor: float) -> FixedWindow:
        return FixedWindow(self._limit(factor), self.window)


@dataclass(frozen=True, slots=True)
class SlidingWindow(_Window):
    """``limit`` units in the last ``window`` seconds, by two counters.

    What the last window counted is taken to have come evenly, so that it fades while this one goes
    on (Cloudflare, "How we built rate limiting capable of scaling to millions of domains", 2017).
    The state is when this window began, what the last one counted, and what this one did: a complex
    number with both counts in its imaginary part, or three packed floats if one of them is large.

    :raises ValueError: a limit below 1, or a window that is not above 0.
    """

    name = "sliding_window"
    _windows = 2.0

    def take(self, state: State | None, cost: int, want: int, now: float) -> Taken:
        """See `Algorithm.take`. The extra units count as remaining."""
        limit, window = self.limit, self.window
        if state is None:
            start, previous, current = now, 0.0, 0.0
        else:
            start, previous, current = _counts(state)
            if now >= start + window or start - now > window:
                # It begins later than a window from now: the clock was set back, or it is another.
                if now >= start + 2.0 * window or start - now > window:
                    start, previous, current = now, 0.0, 0.0
                else:
                    start, previous, current = start + window, current, 0.0
        passed = now - start
        # Before its start, after the clock was set back, nothing has faded yet.
        if passed < 0.0:
            passed = 0.0
        room = limit - (previous * (1.0 - passed / window) + current) + _ROUNDING
        if cost > room and cost:
            return self._refused(state, start, previous, current, room, cost, now)
        left = int(room - cost)
        if left < 0:
            left = 0
        extra = want if want < left else left
        current += cost
        # Until nothing counts any more: what is in this window does in the next one too.
        if current > 0.0:
            reset = start + 2.0 * window - now
        elif previous > 0.0:
            reset = start + window - now
        else:
            reset = 0.0
        if cost or extra:
            state = _state(start, previous, current + extra)
        return _taken(Taken, (0.0, left, reset, extra, 0.0, state))

    def _refused(
        self,
        state: State | None,
        start: float,
        previous: float,
        current: float,
        room: float,
        cost: int,
        now: float,
    ) -> Taken:
        window = self.window
        wait = self._wait(start, previous, current, cost) - now
        # None by a rounding error would be no refusal.
        if wait < _SHORTEST:
            wait = _SHORTEST
        left = int(room)
        reset = start + (2.0 * window if current > 0.0 else window) - now
        if not (current > 0.0 or previous > 0.0):
            reset = 0.0
        return _taken(Taken, (wait, left if left > 0 else 0, reset, 0, 0.0, state))

    def _wait(self, start: float, previous: float, current: float, cost: int) -> float:
        """The time at which there will be room for ``cost``, if nothing else comes."""
        limit, window = self.limit, self.window
        if cost > limit:
            return math.inf
        room = limit - cost - current
        if room >= 0.0 and previous > 0.0:
            return start + window * (1.0 - room / previous)
        return start + window + window * (1.0 - (limit - cost) / current)

    def give_back(self, state: State | None, units: int, now: float) -> State | None:
        """See `Algorithm.give_back`. Nothing is, once another window has begun."""
        if state is None:
            return None
        start, previous, current = _counts(state)
        if now >= start + self.window:
            return state
        return _state(start, previous, current - units if current > units else 0.0)

    def scaled(self, factor: float) -> SlidingWindow:
        return SlidingWindow(self._limit(factor), self.window)


def _counts(state: State) -> tuple[float, float, float]:
    """When this window began, what the last one counted, and what this one did."""
    if isinstance(state, bytes):
        return _wide.unpack(state)
    current = state.imag
    if current < _SMALL:
        return state.real, 0.0, current
    previous = current // _SMALL
    return state.real, previous, current - previous * _SMALL


def _state(start: float, previous: float, current: float) -> State:
    if previous < _SMALL and current < _SMALL:
        return complex(start, previous * _SMALL + current)
    return _wide.pack(start, previous, current)
