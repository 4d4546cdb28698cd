"""Whether Redis is worth asking: a breaker in front of all connections to it. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LocalBreaker"]

_FAILURES = 3
"""Failures in a row, after which nobody asks any more."""
_FIRST, _LONGEST = 0.1, 1.0
"""Seconds between probes."""


class LocalBreaker:
    """Open (not `up`) until there is a connection; and after failures in a row, until a probe.

    :param random: for jitter; 0 <= x < 1.
    :ivar up: whether Redis is asked.
    :ivar failing_since: monotonic seconds; 0.0 while up.
    """

    __slots__ = ("_failures", "_probes", "_random", "failing_since", "up")

    def __init__(self, random: Callable[[], float], now: float) -> None:
        self._random = random
        self._failures = 0
        self._probes = 0
        self.up = False
        self.failing_since = now

    def succeeded(self) -> bool:
        """An answer came in time; whether that opened the way again."""
        self._failures = 0
        if self.up:
            return False
        self.up = True
        self.failing_since = 0.0
        self._probes = 0
        return True

    def answered(self) -> None:
        """The same, of an ordinary call: it takes a probe to open the way again."""
        self._failures = 0

    def failed(self, now: float) -> bool:
        """None came in time, or a connection was lost; whether that was one too many."""
        self._failures += 1
        return self._failures >= _FAILURES and self.closed(now)

    def closed(self, now: float) -> bool:
        """There is nobody to be asked; whether there was until now."""
        if not self.up:
            return False
        self.up = False
        self.failing_since = now
        return True

    def pause(self) -> float:
        """Seconds until the next probe: longer each time, so that many gateways spread."""
        pause = min(_LONGEST, _FIRST * 1.6**self._probes)
        self._probes = min(self._probes + 1, 16)
        return pause * (0.75 + 0.25 * self._random())

    def __repr__(self) -> str:
        return f"<LocalBreaker {'up' if self.up else 'down'}, {self._failures} failures in a row>"
