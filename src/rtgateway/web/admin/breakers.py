"""``/gateway/circuit-breakers``: what the circuit breakers do, and what an operator makes of them.

Breakers are called ``<service>/<instance id>``; that of a service as a whole, ``<service>``. What
is done to one that is ``shared`` is done on all gateways; while its ``mode`` is ``alone``, as soon
as the store answers again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

from rtgateway.observe.breaker_views import BreakerView
from rtgateway.web.admin.audit import audited
from rtgateway.web.admin.page import Answer, Answering, Page, Unknown, answer, refusal
from rtgateway.web.admin.query import instance_asked_for
from rtgateway.web.admin.times import Moment
from rtgateway.web.admin.view import GatewayView, ManagedBreaker, ManagedService

__all__ = ["ACTIONS", "BreakersPage", "breaker_document"]

Breakers = dict[str, ManagedBreaker]

ACTIONS: dict[bytes, Callable[[ManagedBreaker, float], None]] = {
    b"reset": lambda breaker, now: breaker.reset(now),
    b"force_open": lambda breaker, now: breaker.force_open(now),
    b"disable": lambda breaker, now: breaker.disable(now),
}
"""What can be done to a breaker, by the last segment of the path."""


class BreakersPage(Page):
    """All breakers; below it, those of each service, and what can be done to them."""

    def __init__(self, gateway: GatewayView) -> None:
        super().__init__(GET=self._all)
        self._services = gateway.services

    def getChild(self, path: bytes, request: object) -> Resource:
        """A service, or an action on all breakers; a service may be called like an action."""
        service = self._services.get(path.decode("latin-1"))
        if path in ACTIONS:
            page = Page(POST=_acting(path, self._of_all))
        elif service is not None:
            page = _service_page(service)
        else:
            return Unknown("service") if path else super().getChild(path, request)
        if service is not None:
            for action in ACTIONS:
                page.putChild(action, Page(POST=_acting(action, _of_one(service))))
        return page

    def _all(self, request: Request) -> Answer:
        return _shown(_breakers(self._services.values()), Moment.current())

    def _of_all(self, request: Request) -> Breakers:
        if request.args and b"instance" in request.args:
            # Without its service an id names nobody; that must not mean everybody.
            raise refusal(400, "bad_request", "Name the service of the instance in the path")
        return _breakers(self._services.values())


def _service_page(service: ManagedService) -> Page:
    return Page(GET=lambda request: _shown(_breakers([service]), Moment.current()))


def _of_one(service: ManagedService) -> Callable[[Request], Breakers]:
    """All breakers of a service, or that of the instance that a request names."""

    def meant(request: Request) -> Breakers:
        if request.args and b"instance" in request.args:
            instance = instance_asked_for(request, service)
            return {f"{service.name}/{instance.id}": instance.breaker}
        return _breakers([service])

    return meant


def _acting(action: bytes, meant: Callable[[Request], Breakers]) -> Answering:
    """Do ``action`` to the breakers that a request means, and show them."""

    def act(request: Request) -> Answer:
        breakers = meant(request)
        moment = Moment.current()
        for name, breaker in breakers.items():
            before = breaker.state
            ACTIONS[action](breaker, moment.now)
            change = f"from {before} to {breaker.state}"
            audited(request, f"circuit {action.decode()}", name, change)
        return _shown(breakers, moment)

    return act


def _shown(breakers: Breakers, moment: Moment) -> Answer:
    documents = {name: breaker_document(name, each, moment) for name, each in breakers.items()}
    return answer(200, documents)


def _breakers(services: Iterable[ManagedService]) -> Breakers:
    """By name, those of whole services among them."""
    breakers: Breakers = {}
    for service in services:
        if service.breaker is not None:
            breakers[service.name] = service.breaker
        for instance in service.instances:
            breakers[f"{service.name}/{instance.id}"] = instance.breaker
    return breakers


def breaker_document(name: str, breaker: BreakerView, moment: Moment) -> dict[str, Any]:
    """A breaker with everything about it; durations in seconds, times in ISO 8601."""
    stats = breaker.stats()
    settings = breaker.settings
    return {
        "name": name,
        "state": breaker.state,
        "shared": breaker.shared,
        "mode": breaker.mode,
        "open_until": moment.iso(breaker.open_until) if breaker.state == "open" else None,
        "probes": breaker.probes,
        "stats": {
            "total_calls": stats.total_calls,
            "failed_calls": stats.failed_calls,
            "successful_calls": stats.successful_calls,
            "slow_calls": stats.slow_calls,
            "failure_rate": round(stats.failure_rate, 4),
            "consecutive_failures": stats.consecutive_failures,
            "consecutive_successes": stats.consecutive_successes,
            "last_failure": _time(stats.last_failure, moment),
            "last_success": _time(stats.last_success, moment),
            "average_duration": round(stats.average_duration, 6),
        },
        "config": {
            "failure_threshold": settings.failure_threshold,
            "success_threshold": settings.success_threshold,
            "timeout": settings.timeout,
            # Calls, or seconds in words: "30s".
            "window_size": settings.window_calls or f"{settings.window_seconds:g}s",
            "minimum_calls": settings.minimum_calls,
            "failure_rate_threshold": settings.failure_rate_threshold,
            "slow_call_duration": settings.slow_call_duration,
            "slow_call_rate_threshold": settings.slow_call_rate_threshold,
            "half_open_calls": settings.half_open_calls,
        },
        "state_changes": [
            {
                "from": change.old,
                "to": change.new,
                "timestamp": moment.iso(change.at),
                "reason": change.reason,
            }
            for change in breaker.changes
        ],
    }


def _time(at: float | None, moment: Moment) -> str | None:
    return None if at is None else moment.iso(at)
