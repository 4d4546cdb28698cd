"""Numbers for dashboards: ``/admin/stats`` and ``/gateway/stats``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from time import monotonic, time
from typing import Any

from twisted.web.server import Request

from rtgateway.observe.dashboard import stats_document
from rtgateway.observe.durations import SUM, count_of, new_histogram, quantile
from rtgateway.observe.statistics import Statistics
from rtgateway.web.admin.health import status_of
from rtgateway.web.admin.page import Answer, answer
from rtgateway.web.admin.system import System
from rtgateway.web.admin.times import Moment
from rtgateway.web.admin.view import GatewayView

__all__ = ["Stats"]

_TOP = 10
"""Routes that are told, those with most requests."""
_MANY_ERRORS = 0.1
"""Share of failed requests in the last ten seconds that is worth an alert, of at least ten."""
_FULL = 90.0
"""Percent of the disk, the memory or the processors in use that is worth an alert."""


class Stats:
    """Answers of the two pages."""

    def __init__(self, gateway: GatewayView) -> None:
        self._gateway = gateway
        self._system = System()

    def admin(self, request: Request) -> Answer:
        """``/admin/stats``: what dashboards of the Real-Time API Gateway show."""
        gateway = self._gateway
        now = monotonic()
        document = stats_document(
            gateway.services.values(),
            gateway.statistics,
            connections=len(gateway.site.channels),
            sockets=len(gateway.sockets.live),
            environment=gateway.config.environment,
            uptime=now - gateway.started_at,
            now=now,
            wall_clock=time(),
        )
        return answer(200, document)

    def gateway(self, request: Request) -> Answer:
        """``/gateway/stats``: the machine, services, routes, and what is wrong."""
        moment = Moment.current()
        system = self._system.document()
        self._gateway.outcomes.forget_gone()
        document = {
            "timestamp": moment.iso(),
            "system": system,
            "services": self._services(moment),
            "top_endpoints": self._routes(),
            "rate_limits": self._limits(),
            "alerts": list(self._alerts(system, moment.now)),
        }
        return answer(200, document)

    def _services(self, moment: Moment) -> dict[str, Any]:
        durations = self._gateway.outcomes.summed(lambda labels: labels.service or None)
        return {
            name: _service(
                name, self._gateway.statistics, durations.get(name, new_histogram()), moment
            )
            for name in self._gateway.services
        }

    def _routes(self) -> list[dict[str, Any]]:
        durations = self._gateway.outcomes.summed(lambda labels: labels.route)
        counted = sorted(
            ((count_of(histogram), route) for route, histogram in durations.items()), reverse=True
        )
        return [
            {
                "endpoint": route,
                "request_count": count,
                "average_response_time": round(durations[route][SUM] / count, 6),
            }
            for count, route in counted[:_TOP]
        ]

    def _limits(self) -> dict[str, Any]:
        """Requests that were refused for their number, and what may refuse more."""
        limits = self._gateway.limits
        outcomes: Counter[str] = Counter()
        for (_, _, outcome), count in limits.decisions.items():
            outcomes[outcome] += count
        return {
            "mode": limits.mode,
            "degraded": limits.degraded,
            "gateways": limits.gateways,
            "decisions": outcomes,
            "exceeded": sum(limits.exceeded.values()),
            "ip_denied": limits.denied,
            "bans": len(self._gateway.bans),
        }

    def _alerts(self, system: dict[str, Any], now: float) -> Iterator[dict[str, Any]]:
        gateway = self._gateway
        overloaded = gateway.pressure.overloaded()
        if overloaded:
            yield _alert("pressure", "critical", overloaded, gateway.pressure.delay)
        for what in ("cpu_usage", "memory_usage", "disk_usage"):
            value = system[what]
            if value is not None and value > _FULL:
                message = f"{what.removesuffix('_usage')} {value:g} % in use"
                yield _alert(f"high_{what}", "warning", message, value)
        for name, service in gateway.services.items():
            status = status_of(service, now)
            if status != "ok":
                severity = "critical" if status == "unavailable" else "warning"
                available = sum(each.standing(now).ok for each in service.instances)
                message = f"service {name} is {_PHRASES[status]}"
                yield _alert(f"service_{status}", severity, message, available)
            rates = gateway.statistics.of_service(name, now)
            if rates.recent_requests >= _TOP and rates.error_rate > _MANY_ERRORS:
                message = f"service {name}: {rates.error_rate:.0%} of requests fail"
                yield _alert("high_error_rate", "warning", message, rates.error_rate)
        for name, check in gateway.dependencies.items():
            if not check.health.up:
                severity = "critical" if check.settings.critical else "warning"
                yield _alert("dependency_down", severity, f"dependency {name} is down", 0)
        store = gateway.store
        if store is not None and not store.up:
            seconds = round(max(0.0, now - store.failing_since), 3)
            message = "the store of shared state does not answer"
            yield _alert("store_down", "warning", message, seconds)


_PHRASES = {
    "degraded": "missing instances",
    "panic": "in panic: all instances are asked",
    "unavailable": "unavailable",
}


def _alert(kind: str, severity: str, message: str, value: float) -> dict[str, Any]:
    return {"type": kind, "severity": severity, "message": message, "value": value}


def _service(
    name: str, statistics: Statistics, durations: list[float], moment: Moment
) -> dict[str, Any]:
    rates = statistics.of_service(name, moment.now)
    count = count_of(durations)
    p95 = quantile(durations, 0.95)
    return {
        "request_count": rates.requests,
        "error_count": rates.errors,
        "success_count": rates.requests - rates.errors,
        "average_response_time": round(durations[SUM] / count, 6) if count else None,
        "p95_response_time": None if p95 is None else round(p95, 6),
        "error_rate": round(rates.errors / rates.requests, 4) if rates.requests else 0.0,
        "last_error": moment.iso(rates.failed_at) if rates.failed_at else None,
        "last_success": moment.iso(rates.succeeded_at) if rates.succeeded_at else None,
    }
