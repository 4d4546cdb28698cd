"""Requests and errors of services and instances: since the start, and over the last ten seconds.

A window does not count by the second: it remembers what its running totals were when each of the
last seconds began. `observe.telemetry` counts in it, once per request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from rtgateway.observe.views import ServiceView

__all__ = ["Rates", "Statistics", "Window"]

WINDOW = 10
"""Seconds; the current one, which is not over, is one of them."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests and errors since the start; ``recent_*``: those of the last ``seconds``.

    :ivar failed_at: when the last request failed (monotonic seconds), 0.0 if none has;
        ``succeeded_at`` likewise.
    """

    requests: int = 0
    errors: int = 0
    recent_requests: int = 0
    recent_errors: int = 0
    seconds: float = WINDOW
    failed_at: float = 0.0
    succeeded_at: float = 0.0

    @property
    def rps(self) -> float:
        """Requests per second."""
        return round(self.recent_requests / self.seconds, 2)

    @property
    def error_rate(self) -> float:
        """Share of failed requests, 0 to 1."""
        if not self.recent_requests:
            return 0.0
        return round(self.recent_errors / self.recent_requests, 4)


class Window:
    """Totals, and what they were at the start of each second in which something happened.

    :ivar until: a request that ends at this time or later asks for `turn` first.
    """

    __slots__ = ("errors", "failed_at", "marks", "requests", "succeeded_at", "until")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.failed_at = 0.0
        self.succeeded_at = 0.0
        self.until = 0.0
        self.marks: deque[tuple[int, int, int]] = deque(maxlen=WINDOW)

    def turn(self, now: float) -> None:
        """A request has come in a second that has no mark yet."""
        second = int(now)
        self.until = second + 1.0
        self.marks.append((second, self.requests, self.errors))

    def record(self, failed: bool, now: float) -> None:
        """Count a request that ended at ``now`` (`observe.telemetry` has this written out)."""
        if now >= self.until:
            self.turn(now)
        self.requests += 1
        if failed:
            self.errors += 1
            self.failed_at = now
        else:
            self.succeeded_at = now

    def absorb(self, other: Window) -> None:
        """Add the totals of a window that ends; they are no part of the recent ones."""
        self.requests += other.requests
        self.errors += other.errors
        self.failed_at = max(self.failed_at, other.failed_at)
        self.succeeded_at = max(self.succeeded_at, other.succeeded_at)
        marks = [(at, r + other.requests, e + other.errors) for at, r, e in self.marks]
        self.marks = deque(marks, maxlen=WINDOW)

    def rates(self, now: float) -> Rates:
        """What it tells at ``now``."""
        oldest = int(now) - WINDOW + 1
        nothing = (oldest, self.requests, self.errors)
        _, requests, errors = next((mark for mark in self.marks if mark[0] >= oldest), nothing)
        return Rates(
            self.requests,
            self.errors,
            self.requests - requests,
            self.errors - errors,
            now - oldest,
            self.failed_at,
            self.succeeded_at,
        )


class Statistics:
    """One window per service and instance; bounded by the configuration, see `retain`."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], Window] = {}

    def window(self, service: str, instance: str) -> Window:
        """Where requests to an instance count; ``instance`` is empty for those it never was."""
        return self._windows.setdefault((service, instance), Window())

    def of_instance(self, service: str, instance: str, now: float) -> Rates:
        """The rates of one instance."""
        window = self._windows.get((service, instance))
        return window.rates(now) if window is not None else Rates()

    def of_service(self, service: str, now: float) -> Rates:
        """The rates of all instances of a service, and of requests that reached none of them."""
        parts = [w.rates(now) for (name, _), w in self._windows.items() if name == service]
        if not parts:
            return Rates()
        return Rates(
            sum(part.requests for part in parts),
            sum(part.errors for part in parts),
            sum(part.recent_requests for part in parts),
            sum(part.recent_errors for part in parts),
            parts[0].seconds,
            max(part.failed_at for part in parts),
            max(part.succeeded_at for part in parts),
        )

    def retain(self, services: Iterable[ServiceView]) -> None:
        """Forget services and instances that are not among these; services keep their totals."""
        kept = {
            (service.name, label)
            for service in services
            for label in ("", *(each.label for each in (*service.instances, *service.leaving)))
        }
        for service, label in [key for key in self._windows if key not in kept]:
            window = self._windows.pop((service, label))
            if (service, "") in kept:
                self.window(service, "").absorb(window)

    def __repr__(self) -> str:
        return f"<Statistics {len(self._windows)} windows>"
