"""Metrics of services and instances, read from them when Prometheus asks.

Names that begin with ``proxy_`` are those that other gateways use for the same. An instance that
was removed is not there any more, even while it finishes its last requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from rtgateway.observe.breaker_views import BreakerView
from rtgateway.observe.exposition import Sample, family
from rtgateway.observe.views import InstanceView, ServiceView

__all__ = ["breaker_value", "service_metrics"]

_BREAKER = {"closed": 0, "disabled": 0, "open": 1, "forced_open": 1, "half_open": 2}
_BALANCER_ERRORS = ("no_instances", "selection_failed")

_S = ["service"]
_SI = ["service", "instance"]


def breaker_value(breaker: BreakerView) -> int:
    """0: calls pass, 1: none does, 2: a few try it out."""
    return _BREAKER[breaker.state]


def service_metrics(services: Sequence[ServiceView], now: float) -> Iterator[str]:
    """The text of all of them. ``now``: monotonic seconds."""
    yield from _traffic(services)
    yield from _availability(services, now)
    yield from _tries(services)
    yield from _limits(services)


def _traffic(services: Sequence[ServiceView]) -> Iterator[str]:
    yield _per_service(
        "gateway_requests_in_flight",
        "gauge",
        "Requests, event streams and WebSockets being served.",
        services,
        lambda service: sum(each.inflight for each in (*service.instances, *service.leaving)),
    )
    streams = sum(
        each.streams for service in services for each in (*service.instances, *service.leaving)
    )
    yield family(
        "gateway_sse_connections", "gauge", "Event streams being relayed.", [], [([], streams)]
    )
    connections: list[Sample] = []
    for name, instance in _instances(services):
        idle = len(instance.pool.idle)
        connections.append(([name, instance.label, "idle"], idle))
        connections.append(([name, instance.label, "busy"], instance.pool.open - idle))
    yield family(
        "gateway_upstream_connections",
        "gauge",
        "Connections to instances; busy are those lent to a request or being made.",
        ["service", "instance", "state"],
        connections,
    )
    yield _per_instance(
        "gateway_upstream_waiting_requests",
        "gauge",
        "Requests that wait for a connection to an instance.",
        services,
        lambda instance: instance.pool.waiting,
    )


def _availability(services: Sequence[ServiceView], now: float) -> Iterator[str]:
    yield _per_service(
        "proxy_instances_available",
        "gauge",
        "Instances that take requests, busy ones included.",
        services,
        lambda service: sum(each.standing(now).ok for each in service.instances),
    )
    breakers: list[Sample] = [
        ([name, instance.label], breaker_value(instance.breaker))
        for name, instance in _instances(services)
    ]
    breakers += [
        ([service.name, ""], breaker_value(service.breaker))
        for service in services
        if service.breaker is not None
    ]
    yield family(
        "proxy_circuit_breaker_state",
        "gauge",
        "0 closed or disabled, 1 open or forced open, 2 half-open; without an instance: "
        "the service's own.",
        _SI,
        breakers,
    )
    yield family(
        "gateway_circuit_breaker_shared",
        "gauge",
        "1 while other gateways share the circuit, 0 while it is on its own without the store; "
        "only where it is shared.",
        _SI,
        [
            ([name, instance.label], int(instance.breaker.mode == "shared"))
            for name, instance in _instances(services)
            if instance.breaker.shared
        ]
        + [
            ([service.name, ""], int(service.breaker.mode == "shared"))
            for service in services
            if service.breaker is not None and service.breaker.shared
        ],
    )
    yield family(
        "gateway_instance_health",
        "gauge",
        "1 while health checks say that the instance is up, else 0; only where there are checks.",
        _SI,
        [
            ([name, instance.label], int(instance.health.health.up))
            for name, instance in _instances(services)
            if instance.health is not None
        ],
    )
    yield _per_instance(
        "gateway_ejections_total",
        "counter",
        "How often the instance was ejected because it did worse than others.",
        services,
        lambda instance: instance.ejections,
    )
    yield _per_service(
        "gateway_panic",
        "gauge",
        "1 while all instances are asked because too few are available.",
        services,
        lambda service: int(service.panicking),
    )


def _tries(services: Sequence[ServiceView]) -> Iterator[str]:
    yield family(
        "proxy_retry_attempts_total",
        "counter",
        "Further tries, by their number; the first try of a request is none.",
        ["service", "attempt"],
        [
            ([service.name, str(attempt)], count)
            for service in services
            for attempt, count in sorted(service.retries.items())
        ],
    )
    yield family(
        "proxy_load_balancer_errors_total",
        "counter",
        "Requests for which there was no instance.",
        ["service", "error_type"],
        [
            ([service.name, error], service.balancer_errors.get(error, 0))
            for service in services
            for error in sorted({*_BALANCER_ERRORS, *service.balancer_errors})
        ],
    )
    yield _per_service(
        "gateway_hedges_total",
        "counter",
        "Second tries made while the first still ran.",
        services,
        lambda service: service.hedges,
    )
    yield _per_service(
        "gateway_retry_budget_refusals_total",
        "counter",
        "Further tries that the retry budget did not allow.",
        services,
        lambda service: service.budget_refusals,
    )
    yield family(
        "gateway_retry_budget_balance",
        "gauge",
        "Further tries that the retry budget would allow at this moment.",
        _S,
        [
            ([service.name], service.budget.balance)
            for service in services
            if service.budget is not None
        ],
    )


def _limits(services: Sequence[ServiceView]) -> Iterator[str]:
    yield _per_service(
        "gateway_concurrency_limit",
        "gauge",
        "Most requests in flight at once, 0 for any number.",
        services,
        lambda service: service.limit,
    )
    yield _per_service(
        "gateway_waiting_requests",
        "gauge",
        "Requests that wait because the service is at its limit.",
        services,
        lambda service: service.room.waiting if service.room is not None else 0,
    )
    yield _per_service(
        "gateway_waiting_refusals_total",
        "counter",
        "Requests refused because too many waited, or for too long.",
        services,
        lambda service: service.room.refused if service.room is not None else 0,
    )
    yield family(
        "gateway_mirrored_requests_total",
        "counter",
        "Copies of requests made for the service, by what became of them.",
        ["service", "outcome"],
        [
            ([service.name, outcome], count)
            for service in services
            for outcome, count in sorted(service.mirrored.items())
        ],
    )


def _instances(services: Iterable[ServiceView]) -> Iterator[tuple[str, InstanceView]]:
    for service in services:
        for instance in service.instances:
            yield service.name, instance


def _per_service(
    name: str,
    kind: Literal["counter", "gauge"],
    help: str,
    services: Iterable[ServiceView],
    value: Callable[[ServiceView], float],
) -> str:
    samples = [([service.name], value(service)) for service in services]
    return family(name, kind, help, _S, samples)


def _per_instance(
    name: str,
    kind: Literal["counter", "gauge"],
    help: str,
    services: Iterable[ServiceView],
    value: Callable[[InstanceView], float],
) -> str:
    samples = [([each, instance.label], value(instance)) for each, instance in _instances(services)]
    return family(name, kind, help, _SI, samples)
