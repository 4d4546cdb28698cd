"""Request rates and error rates over the last ten seconds, and the document of ``/admin/stats``.

`Statistics.record` is on the path of every request. A window does not count by the second: it
remembers what its running totals were when each of the last seconds began.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import twisted

from rtgateway.observe.views import InstanceView, ServiceView

__all__ = ["Rates", "Statistics", "stats_document"]

WINDOW = 10
"""Seconds; the current one, which is not over, is one of them."""

_NODE_VERSION = f"python {platform.python_version()} / twisted {twisted.__version__}"


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests and errors since the start; ``recent_*``: those of the last ``seconds``."""

    requests: int = 0
    errors: int = 0
    recent_requests: int = 0
    recent_errors: int = 0
    seconds: float = WINDOW

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


class _Window:
    """Totals, and what they were at the start of each second in which something happened."""

    __slots__ = ("errors", "marks", "requests", "until")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.until = 0.0
        self.marks: deque[tuple[int, int, int]] = deque(maxlen=WINDOW)

    def turn(self, now: float) -> None:
        """A request has come in a second that has no mark yet."""
        second = int(now)
        self.until = second + 1.0
        self.marks.append((second, self.requests, self.errors))

    def rates(self, now: float) -> Rates:
        oldest = int(now) - WINDOW + 1
        nothing = (oldest, self.requests, self.errors)
        _, requests, errors = next((mark for mark in self.marks if mark[0] >= oldest), nothing)
        return Rates(
            self.requests,
            self.errors,
            self.requests - requests,
            self.errors - errors,
            now - oldest,
        )


class Statistics:
    """One window per service and instance; bounded by the configuration, see `retain`."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], _Window] = {}

    def record(self, service: str, instance: str, failed: bool, now: float) -> None:
        """Count a request; ``instance`` is empty if none was chosen. ``now``: monotonic seconds."""
        try:
            window = self._windows[service, instance]
        except KeyError:
            window = self._windows[service, instance] = _Window()
        if now >= window.until:
            window.turn(now)
        window.requests += 1
        if failed:
            window.errors += 1

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
        )

    def retain(self, services: Iterable[ServiceView]) -> None:
        """Forget services and instances that are not among these (after a reload)."""
        kept = {
            (service.name, label)
            for service in services
            for label in ("", *(instance.label for instance in service.instances))
        }
        self._windows = {key: window for key, window in self._windows.items() if key in kept}

    def __repr__(self) -> str:
        return f"<Statistics {len(self._windows)} windows>"


def stats_document(
    services: Iterable[ServiceView],
    statistics: Statistics,
    *,
    connections: int,
    environment: str,
    uptime: float,
    now: float,
    wall_clock: float,
) -> dict[str, Any]:
    """The answer of ``/admin/stats``, in the schema of the Real-Time API Gateway.

    :param connections: open client connections, those with event streams included.
    :param uptime: seconds.
    :param now: monotonic seconds.
    :param wall_clock: seconds since the epoch.
    """
    services = list(services)
    streams = sum(instance.streams for service in services for instance in service.instances)
    return {
        "nowMs": int(wall_clock * 1000),
        "uptimeSeconds": int(uptime),
        # The name is the schema's; what runs here is Python.
        "nodeVersion": _NODE_VERSION,
        "env": environment,
        "services": {service.name: _service(service, statistics, now) for service in services},
        "connections": {"http": max(0, connections - streams), "sse": streams, "ws": 0},
    }


def _service(service: ServiceView, statistics: Statistics, now: float) -> dict[str, Any]:
    rates = statistics.of_service(service.name, now)
    return {
        "upstreams": len(service.instances),
        # Nothing takes an instance out of service yet: all are healthy, no circuit is open.
        "healthy": len(service.instances),
        "avgLatencyMs": _average_latency(service.instances),
        "rps": rates.rps,
        "errorRate": rates.error_rate,
        "upstreamDetails": [_instance(i, statistics, now) for i in service.instances],
    }


def _instance(instance: InstanceView, statistics: Statistics, now: float) -> dict[str, Any]:
    rates = statistics.of_instance(instance.service, instance.label, now)
    measured = instance.last_latency is not None
    return {
        "url": instance.label,
        "healthy": True,
        "circuitOpenUntilMs": None,
        "inflight": {
            "http": instance.inflight - instance.streams,
            "sse": instance.streams,
            "ws": 0,
        },
        "requestsTotal": rates.requests,
        "errorsTotal": rates.errors,
        "rps": rates.rps,
        "latency": {
            "ewmaMs": _milliseconds(instance.latency) if measured else None,
            "lastMs": _milliseconds(instance.last_latency),
        },
    }


def _average_latency(instances: Sequence[InstanceView]) -> float | None:
    latencies = [i.latency for i in instances if i.last_latency is not None]
    return _milliseconds(sum(latencies) / len(latencies)) if latencies else None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
