"""The sliding window that is exact: it remembers when each unit was taken."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import ClassVar

from rtgateway.core.limits.algorithm import State, Taken

__all__ = ["MOST_LOGGED", "SlidingLog"]

MOST_LOGGED = 1000
"""Units that a log may be asked to remember of one key."""

_SLACK = 1e-6
"""Seconds by which a unit may be early: the resolution of the shared store's clock."""

_time = struct.Struct("d")

_taken = tuple.__new__


@dataclass(frozen=True, slots=True)
class SlidingLog:
    """``limit`` units in any ``window`` seconds, exactly.

    The state is a time for each unit, oldest first: packed floats, 8 bytes each.

    :raises ValueError: a limit below 1 or above 1000, or a window that is not above 0.
    """

    limit: int
    window: float
    rate: float = field(init=False, repr=False, compare=False)
    horizon: float = field(init=False, repr=False, compare=False)

    name: ClassVar[str] = "sliding_log"
    leasable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (1 <= self.limit <= MOST_LOGGED and 0 < self.window < math.inf):
            raise ValueError(f"{self.name}: {self.limit:g} units in {self.window:g} s")
        for key, value in (
            ("limit", int(self.limit)),
            ("window", float(self.window)),
            ("rate", int(self.limit) / self.window),
            ("horizon", float(self.window)),
        ):
            object.__setattr__(self, key, value)

    def take(self, state: State | None, cost: int, want: int, now: float) -> Taken:
        """See `Algorithm.take`. There is never anything extra."""
        limit, window = self.limit, self.window
        times: bytes = state or b""  # type: ignore[assignment]
        last = -math.inf
        if times:
            (last,) = _time.unpack_from(times, len(times) - 8)
            edge = now - window + _SLACK
            # More than a window ahead: the clock was set back, or the window is another one.
            if last <= edge or last - now > window:
                times, last = b"", -math.inf
            elif _time.unpack_from(times)[0] <= edge:
                times = times[8 * bisect_right(memoryview(times).cast("d"), edge) :]
        left = limit - len(times) // 8 - cost
        if left < 0 and cost:
            # As many as have to go first; the quota may be less than what was taken of a larger.
            wait = math.inf
            if cost <= limit:
                wait = _time.unpack_from(times, -8 * left - 8)[0] + window - now
            reset = last + window - now if times else 0.0
            return _taken(Taken, (wait, max(left + cost, 0), reset, 0, 0.0, state))
        if cost:
            # The clock may have been set back a little: the order has to stay.
            if last < now:
                last = now
            state = times + _time.pack(last) * cost
        reset = last + window - now if cost or times else 0.0
        return _taken(Taken, (0.0, left if left > 0 else 0, reset, 0, 0.0, state))

    def give_back(self, state: State | None, units: int, now: float) -> State | None:
        """Nothing is: whose unit was the last one is not known."""
        return state

    def scaled(self, factor: float) -> SlidingLog:
        return SlidingLog(max(1, math.floor(self.limit * factor + 1e-9)), self.window)

    def parameters(self) -> tuple[bytes, ...]:
        """The name, limit and window."""
        return self.name.encode(), b"%.17g" % self.limit, b"%.17g" % self.window
