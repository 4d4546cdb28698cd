"""Health as it is seen from outside: one look at everything, service by service, and readiness.

These pages are open to all, so that they name services and dependencies but tell no addresses.
Instances, and the details of checks, are told only to those who may see the admin pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from twisted.web.server import Request

from rtgateway import __version__
from rtgateway.observe.breaker_views import BreakerView
from rtgateway.observe.views import HealthCheckView, InstanceView, ServiceView
from rtgateway.web.admin.page import Answer, answer, asked_by
from rtgateway.web.admin.times import Moment, iso
from rtgateway.web.admin.view import DependencyView, GatewayView

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = ["Health", "health_of", "liveness", "status_of"]


def liveness(request: Request) -> Answer:
    """``/healthz``: the process runs and its event loop turns."""
    return answer(200, {"ok": True})


class Health:
    """Answers of ``/health``, ``/health/services`` and ``/readyz``.

    :param trusts: whether an exchange may see what admin pages show.
    """

    def __init__(self, gateway: GatewayView, trusts: Callable[[Exchange], bool]) -> None:
        self._gateway = gateway
        self._trusts = trusts

    def everything(self, request: Request) -> Answer:
        """``/health``."""
        gateway = self._gateway
        now = monotonic()
        document = {
            "status": self._status(now),
            "version": __version__,
            "uptimeSeconds": int(now - gateway.started_at),
            "services": {
                name: {
                    **_summary(service, now),
                    "inFlight": sum(
                        each.inflight for each in (*service.instances, *service.leaving)
                    ),
                }
                for name, service in gateway.services.items()
            },
            "checks": {
                name: _check(check, self._trusted(request))
                for name, check in gateway.dependencies.items()
            },
            "state": self._state(now),
        }
        return answer(200 if document["status"] in ("ok", "degraded") else 503, document)

    def services(self, request: Request) -> Answer:
        """``/health/services``."""
        now = monotonic()
        instances = _by_id if self._trusted(request) else _counted
        document = {
            name: {
                **_summary(service, now),
                "critical": service.settings.critical,
                **instances(service, now),
            }
            for name, service in self._gateway.services.items()
        }
        return answer(200, {"services": document})

    def readiness(self, request: Request) -> Answer:
        """``/readyz``: whether to send requests here."""
        gateway = self._gateway
        document: dict[str, Any] = {"ok": True, "upstreamServices": len(gateway.services)}
        reasons = list(self._not_ready(monotonic()))
        if reasons:
            document.update(ok=False, reasons=reasons)
        return answer(503 if reasons else 200, document)

    def _trusted(self, request: Request) -> bool:
        asking = asked_by(request)
        return asking is not None and self._trusts(asking)

    def _not_ready(self, now: float) -> Iterator[str]:
        if self._gateway.site.draining:
            yield "draining"
        yield from self._critical(now)

    def _critical(self, now: float) -> Iterator[str]:
        """What is missing that must not be."""
        for name, service in self._gateway.services.items():
            if service.settings.critical and status_of(service, now) == "unavailable":
                yield f"service {name} is unavailable"
        for name, check in self._gateway.dependencies.items():
            if check.settings.critical and not check.health.up:
                yield f"dependency {name} is down"

    def _status(self, now: float) -> str:
        gateway = self._gateway
        if gateway.pressure.overloaded():
            return "overloaded"
        if gateway.site.draining:
            return "draining"
        if any(self._critical(now)):
            return "unavailable"
        services = all(status_of(each, now) == "ok" for each in gateway.services.values())
        checks = all(check.health.up for check in gateway.dependencies.values())
        store = gateway.store is None or (gateway.store.up and not gateway.store.deaf)
        whole = services and checks and store and not gateway.limits.degraded
        return "ok" if whole else "degraded"

    def _state(self, now: float) -> dict[str, Any]:
        """Where rate limits, bans and breakers are kept, and whether that answers."""
        limits, store = self._gateway.limits, self._gateway.store
        up = store is None or store.up
        document: dict[str, Any] = {"mode": limits.mode, "up": up}
        since = limits.degraded_since or (0.0 if store is None else store.failing_since)
        if since and (limits.degraded or not up):
            document["degraded_since"] = Moment(now, time()).iso(since)
        if up and store is not None and store.deaf:
            document["news"] = False
        document["gateways"] = limits.gateways
        return document


def health_of(check: HealthCheckView | None) -> str:
    """What active checks say: ``healthy``, ``unhealthy``, or ``unknown``."""
    if check is None or check.last_checked is None:
        return "unknown"
    return "healthy" if check.health.up else "unhealthy"


def _check(check: DependencyView, trusted: bool) -> dict[str, Any]:
    checked = check.last_checked
    return {
        "status": health_of(check),
        "last_check": None if checked is None else iso(checked),
        "duration": check.last_duration,
        # Why a connection failed names the address that it was for.
        "details": check.last_detail if trusted else None,
        "critical": check.settings.critical,
    }


def _summary(service: ServiceView, now: float) -> dict[str, Any]:
    return {
        "status": status_of(service, now),
        "instances": {
            "total": len(service.instances),
            "available": sum(each.standing(now).ok for each in service.instances),
        },
    }


def status_of(service: ServiceView, now: float) -> str:
    """``ok``; ``degraded``: instances are missing; ``panic``: all are asked; ``unavailable``."""
    instances = service.instances
    if _closed_to_all(service.breaker, now) or not any(each.standing(now).ok for each in instances):
        return "unavailable"
    if service.panicking:
        return "panic"
    # What an operator has taken out of use is not missing.
    wanted = [each for each in instances if each.nominal and not each.draining]
    return "ok" if all(each.standing(now).ok for each in wanted) else "degraded"


def _closed_to_all(breaker: BreakerView | None, now: float) -> bool:
    """Whether a service's own breaker lets nobody through."""
    if breaker is None:
        return False
    return breaker.state in ("open", "forced_open") and breaker.open_until > now


def _by_id(service: ServiceView, now: float) -> dict[str, Any]:
    return {"details": {each.id: _instance(each, now) for each in service.instances}}


def _instance(instance: InstanceView, now: float) -> dict[str, Any]:
    availability = instance.available(now)
    return {
        "available": availability.ok,
        "reason": availability.reason,
        "health": health_of(instance.health),
        "circuit": instance.breaker.state,
    }


def _counted(service: ServiceView, now: float) -> dict[str, Any]:
    return {
        "health": Counter(health_of(each.health) for each in service.instances),
        "circuits": Counter(each.breaker.state for each in service.instances),
    }
