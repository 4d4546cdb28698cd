"""Whether the process is overloaded: how late its event loop is, and how much memory it holds.

`Pressure.sample` decides and knows no reactor; `start` calls it twice a second. What is asked for
every request is `overloaded`, which only reads the last decision.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rtgateway.config import Pressure as PressureSettings

__all__ = ["INTERVAL", "Pressure", "resident_memory"]

INTERVAL = 0.5
"""Seconds between two samples."""


class Pressure:
    """See the module.

    :param clock: monotonic seconds; the reactor's own clock follows the time of day, and a
        corrected time of day is no overload.
    :param memory: bytes that the process holds.
    :ivar delay: seconds by which the last sample was late.
    :ivar retry_after: whole seconds, what an answer of 503 says in ``Retry-After``.
    """

    __slots__ = ("_call", "_clock", "_due", "_memory", "_reason", "_settings", "delay")

    def __init__(
        self,
        settings: PressureSettings,
        *,
        clock: Callable[[], float] = monotonic,
        memory: Callable[[], int] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._memory = memory or resident_memory
        self._reason: str | None = None
        self._due = 0.0
        self._call: IDelayedCall | None = None
        self.delay = 0.0

    @property
    def retry_after(self) -> int:
        return max(1, round(self._settings.retry_after))

    def overloaded(self) -> str | None:
        """The reason in a few words, or None."""
        return self._reason

    def sample(self, now: float) -> None:
        """Decide anew; called when the sample that was due at the promised time is taken."""
        self.delay = max(0.0, now - self._due) if self._due else 0.0
        self._due = now + INTERVAL
        self._reason = self._judge()

    def start(self, reactor: IReactorTime) -> None:
        """Take samples until `stop`."""
        self.sample(self._clock())
        self._call = reactor.callLater(INTERVAL, self.start, reactor)

    def stop(self) -> None:
        """Take no more samples. What was decided last is forgotten."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        self._due = self.delay = 0.0
        self._reason = None

    def _judge(self) -> str | None:
        settings = self._settings
        limit = settings.max_event_loop_delay
        if limit and self.delay > limit:
            return f"event loop delay {self.delay:.2f} s, at most {limit:g} s allowed"
        if settings.max_rss:
            memory = self._memory()
            if memory > settings.max_rss:
                return f"{memory} bytes of memory in use, at most {settings.max_rss} allowed"
        return None

    def __repr__(self) -> str:
        return f"<Pressure {self._reason or 'none'} delay={self.delay:.3f}>"


def resident_memory() -> int:
    """Bytes of memory that this process holds (RSS); 0 where there is no ``/proc``."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            pages = int(statm.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
