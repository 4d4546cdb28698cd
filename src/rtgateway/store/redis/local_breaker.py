"""Whether Redis is worth asking: a breaker in front of all connections to it. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LocalBreaker"]

_FAILURES = 3
"""Failures in a row, or refusals, after which nobody asks any more."""
_FIRST, _LONGEST = 0.1, 1.0
"""Seconds between probes."""
_GOOD = 2.0
"""Seconds that it has to go well to count as over; else probes stay as rare as they were."""


class LocalBreaker:
    """Open (not `up`) until there is a connection; and after failures in a row, until a probe.

    A *failure* is no answer in time. A *refusal* is one that says that Redis can't do what it is
    there for, such as to write; that it still answers other things does not count against it.

    :param random: for jitter; 0 <= x < 1.
    :param now: monotonic seconds, here as everywhere.
    :ivar up: whether Redis is asked.
    :ivar failing_since: 0.0 while up.
    """

    __slots__ = (
        "_failures",
        "_probes",
        "_random",
        "_refusals",
        "_up_since",
        "failing_since",
        "up",
    )

    def __init__(self, random: Callable[[], float], now: float) -> None:
        self._random = random
        self._failures = 0
        self._refusals = 0
        self._probes = 0
        self._up_since = 0.0
        self.up = False
        self.failing_since = now

    def succeeded(self, now: float) -> bool:
        """There is a connection, or a probe did what it should; whether that opened the way."""
        self._failures = self._refusals = 0
        if self.up:
            return False
        self.up = True
        self.failing_since = 0.0
        self._up_since = now
        return True

    def answered(self, *, ran: bool) -> None:
        """An ordinary call was, in time: it takes a probe to open the way again.

        :param ran: a script did what it should.
        """
        self._failures = 0
        if ran:
            self._refusals = 0

    def failed(self, now: float) -> bool:
        """None came in time, or a connection was lost; whether that was one too many."""
        self._failures += 1
        return self._failures >= _FAILURES and self.closed(now)

    def refused(self, now: float) -> bool:
        """The answer was a refusal; whether that was one too many."""
        self._refusals += 1
        return self._refusals >= _FAILURES and self.closed(now)

    def closed(self, now: float) -> bool:
        """There is nobody to be asked; whether there was until now."""
        if not self.up:
            return False
        self.up = False
        self.failing_since = now
        if now - self._up_since >= _GOOD:
            self._probes = 0
        return True

    def pause(self) -> float:
        """Seconds until the next probe: longer each time, so that many gateways spread."""
        pause = min(_LONGEST, _FIRST * 1.6**self._probes)
        self._probes = min(self._probes + 1, 16)
        return pause * (0.75 + 0.25 * self._random())

    def __repr__(self) -> str:
        counted = f"{self._failures} failures, {self._refusals} refusals in a row"
        return f"<LocalBreaker {'up' if self.up else 'down'}, {counted}>"
