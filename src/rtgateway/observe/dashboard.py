"""The document of ``/admin/stats``, in the schema of the Real-Time API Gateway."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from typing import Any

import twisted

from rtgateway.observe.statistics import Statistics
from rtgateway.observe.views import InstanceView, ServiceView

__all__ = ["stats_document"]

_NODE_VERSION = f"python {platform.python_version()} / twisted {twisted.__version__}"


def stats_document(
    services: Iterable[ServiceView],
    statistics: Statistics,
    *,
    connections: int,
    sockets: int,
    environment: str,
    uptime: float,
    now: float,
    wall_clock: float,
) -> dict[str, Any]:
    """The answer of ``/admin/stats``.

    :param connections: client connections that speak HTTP, those with event streams included.
    :param sockets: WebSockets.
    :param uptime: seconds.
    :param now: monotonic seconds.
    :param wall_clock: seconds since the epoch.
    """
    services = list(services)
    streams = sum(
        each.streams for service in services for each in (*service.instances, *service.leaving)
    )
    return {
        "nowMs": int(wall_clock * 1000),
        "uptimeSeconds": int(uptime),
        # The name is the schema's; what runs here is Python.
        "nodeVersion": _NODE_VERSION,
        "env": environment,
        "services": {
            service.name: _service(service, statistics, now, wall_clock) for service in services
        },
        "connections": {"http": max(0, connections - streams), "sse": streams, "ws": sockets},
    }


def _service(
    service: ServiceView, statistics: Statistics, now: float, wall_clock: float
) -> dict[str, Any]:
    rates = statistics.of_service(service.name, now)
    return {
        "upstreams": len(service.instances),
        "healthy": sum(each.standing(now).ok for each in service.instances),
        "avgLatencyMs": _average_latency(service.instances),
        "rps": rates.rps,
        "errorRate": rates.error_rate,
        "upstreamDetails": [
            _instance(each, statistics, now, wall_clock) for each in service.instances
        ],
    }


def _instance(
    instance: InstanceView, statistics: Statistics, now: float, wall_clock: float
) -> dict[str, Any]:
    rates = statistics.of_instance(instance.service, instance.label, now)
    measured = instance.last_latency is not None
    standing = instance.standing(now)
    open_until = instance.breaker.open_until if instance.breaker.state == "open" else 0.0
    return {
        "url": instance.label,
        "healthy": standing.ok,
        "available": instance.available(now).ok,
        "reason": standing.reason,
        "circuit": instance.breaker.state,
        # A circuit that was forced open has no end; it is told by ``circuit``.
        "circuitOpenUntilMs": int((wall_clock + open_until - now) * 1000) if open_until else None,
        "inflight": {
            "http": instance.inflight - instance.streams - instance.sockets,
            "sse": instance.streams,
            "ws": instance.sockets,
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
