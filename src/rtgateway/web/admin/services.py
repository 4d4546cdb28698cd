"""``/gateway/services``: every instance, and what an operator changes about them at run time.

Changes hold until the gateway ends; the configuration is not written.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

from rtgateway.observe.views import InstanceView, ServiceView
from rtgateway.web.admin.health import health_of
from rtgateway.web.admin.instances import InstanceChanges
from rtgateway.web.admin.page import Answer, Page, Unknown, answer
from rtgateway.web.admin.times import Moment, iso
from rtgateway.web.admin.view import GatewayView, ManagedService

__all__ = ["ServicesPage"]


class ServicesPage(Page):
    """All services; below it, each by its name, and changes of its instances."""

    def __init__(self, gateway: GatewayView) -> None:
        super().__init__(GET=self._all)
        self._gateway = gateway

    def getChild(self, path: bytes, request: object) -> Resource:
        """A service."""
        if not path:
            return super().getChild(path, request)
        service = self._gateway.services.get(path.decode("latin-1"))
        return Unknown("service") if service is None else _service_page(service)

    def _all(self, request: Request) -> Answer:
        moment = Moment.current()
        services = self._gateway.services.items()
        return answer(200, {name: service_document(each, moment) for name, each in services})


def _service_page(service: ManagedService) -> Page:
    changes = InstanceChanges(service)
    page = Page(GET=lambda request: answer(200, service_document(service, Moment.current())))
    instances = Page(POST=changes.add, PATCH=changes.reweigh, DELETE=changes.remove)
    page.putChild(b"instances", instances)
    page.putChild(b"drain", Page(POST=changes.drain))
    page.putChild(b"undrain", Page(POST=changes.undrain))
    return page


def service_document(service: ServiceView, moment: Moment) -> dict[str, Any]:
    """A service with all that is known of it and of its instances."""
    breaker, room, budget = service.breaker, service.room, service.budget
    return {
        "critical": service.settings.critical,
        "panicking": service.panicking,
        "requests": service.requests,
        "retries": {str(attempt): count for attempt, count in sorted(service.retries.items())},
        "hedges": service.hedges,
        "retryBudget": None if budget is None else round(budget.balance, 2),
        "retryBudgetRefusals": service.budget_refusals,
        "balancerErrors": dict(service.balancer_errors),
        "concurrencyLimit": service.limit,
        "waiting": 0 if room is None else room.waiting,
        "waitingRefusals": 0 if room is None else room.refused,
        "mirrored": dict(service.mirrored),
        "circuit": None if breaker is None else breaker.state,
        "discovery": None if service.discovery is None else dict(service.discovery.describe()),
        "instances": [_instance(each, moment) for each in service.instances],
        "leaving": [_instance(each, moment) for each in service.leaving],
    }


def _instance(instance: InstanceView, moment: Moment) -> dict[str, Any]:
    availability = instance.available(moment.now)
    breaker, ejection = instance.breaker, instance.ejection
    ejected = ejection.until > moment.now
    measured = instance.last_latency is not None
    return {
        "id": instance.id,
        "url": instance.label,
        "source": instance.source,
        "available": availability.ok,
        "reason": availability.reason,
        "weight": {"configured": instance.nominal, "effective": round(instance.weight, 3)},
        "backup": instance.backup,
        "draining": instance.draining,
        "empty": not instance.inflight,
        "inflight": {
            "http": instance.inflight - instance.streams - instance.sockets,
            "sse": instance.streams,
            "ws": instance.sockets,
        },
        "limit": instance.limit,
        "latency": round(instance.latency, 6) if measured else None,
        "lastLatency": round(instance.last_latency or 0.0, 6) if measured else None,
        "lastError": instance.last_error,
        "circuit": {
            "state": breaker.state,
            "openUntil": moment.iso(breaker.open_until) if breaker.state == "open" else None,
            "probes": breaker.probes,
        },
        "health": _health(instance),
        "ejection": {
            "ejected": ejected,
            "until": moment.iso(ejection.until) if ejected else None,
            "reason": ejection.reason if ejected else "",
            "total": instance.ejections,
        },
        "connections": {
            "open": instance.pool.open,
            "idle": len(instance.pool.idle),
            "waiting": instance.pool.waiting,
        },
    }


def _health(instance: InstanceView) -> dict[str, Any] | None:
    check = instance.health
    if check is None:
        return None
    return {
        "status": health_of(check),
        "lastCheck": None if check.last_checked is None else iso(check.last_checked),
        "duration": check.last_duration,
        "details": check.last_detail,
    }
