"""Metrics of services and instances, read from them when Prometheus asks.

`_METRICS` is the list of them, in the order in which they are shown. Names that begin with
``proxy_`` are those that other gateways use for the same. An instance that was removed is not there
any more, even while it finishes its last requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from rtgateway.observe.breaker_views import BreakerView
from rtgateway.observe.exposition import Sample, family
from rtgateway.observe.views import InstanceView, ServiceView

__all__ = ["breaker_value", "service_metrics"]

_BREAKER = {"closed": 0, "disabled": 0, "open": 1, "forced_open": 1, "half_open": 2}
_BALANCER_ERRORS = ("no_instances", "selection_failed")

_S = ["service"]
_SI = ["service", "instance"]

_Services = Sequence[ServiceView]
_Samples = Callable[[_Services, float], list[Sample]]


def breaker_value(breaker: BreakerView) -> int:
    """0: calls pass, 1: none does, 2: a few try it out."""
    return _BREAKER[breaker.state]


def service_metrics(services: Sequence[ServiceView], now: float) -> Iterator[str]:
    """The text of all of them. ``now``: monotonic seconds."""
    for name, kind, help, labels, samples in _METRICS:
        yield family(name, kind, help, labels, samples(services, now))


# -- of each service, or of each instance ---------------------------------------------------------


def _each_service(value: Callable[[ServiceView], float]) -> _Samples:
    return lambda services, now: [([service.name], value(service)) for service in services]


def _each_instance(value: Callable[[InstanceView], float]) -> _Samples:
    return lambda services, now: [
        ([name, instance.label], value(instance)) for name, instance in _instances(services)
    ]


def _instances(services: _Services) -> Iterator[tuple[str, InstanceView]]:
    for service in services:
        for instance in service.instances:
            yield service.name, instance


# -- what is not as simple ------------------------------------------------------------------------


def _everyone(service: ServiceView) -> Sequence[InstanceView]:
    return (*service.instances, *service.leaving)


def _streams(services: _Services, now: float) -> list[Sample]:
    return [([], sum(each.streams for service in services for each in _everyone(service)))]


def _connections(services: _Services, now: float) -> list[Sample]:
    samples: list[Sample] = []
    for name, instance in _instances(services):
        idle = len(instance.pool.idle)
        samples.append(([name, instance.label, "idle"], idle))
        samples.append(([name, instance.label, "busy"], instance.pool.open - idle))
    return samples


def _available(services: _Services, now: float) -> list[Sample]:
    return [
        ([service.name], sum(each.standing(now).ok for each in service.instances))
        for service in services
    ]


def _breakers(services: _Services) -> Iterator[tuple[list[str], BreakerView]]:
    for name, instance in _instances(services):
        yield [name, instance.label], instance.breaker
    for service in services:
        if service.breaker is not None:
            yield [service.name, ""], service.breaker


def _breaker_states(services: _Services, now: float) -> list[Sample]:
    return [(labels, breaker_value(breaker)) for labels, breaker in _breakers(services)]


def _breakers_shared(services: _Services, now: float) -> list[Sample]:
    return [
        (labels, int(breaker.mode == "shared"))
        for labels, breaker in _breakers(services)
        if breaker.shared
    ]


def _health(services: _Services, now: float) -> list[Sample]:
    return [
        ([name, instance.label], int(instance.health.health.up))
        for name, instance in _instances(services)
        if instance.health is not None
    ]


def _retries(services: _Services, now: float) -> list[Sample]:
    return [
        ([service.name, str(attempt)], count)
        for service in services
        for attempt, count in sorted(service.retries.items())
    ]


def _balancer_errors(services: _Services, now: float) -> list[Sample]:
    return [
        ([service.name, error], service.balancer_errors.get(error, 0))
        for service in services
        for error in sorted({*_BALANCER_ERRORS, *service.balancer_errors})
    ]


def _budgets(services: _Services, now: float) -> list[Sample]:
    return [
        ([service.name], service.budget.balance)
        for service in services
        if service.budget is not None
    ]


def _mirrored(services: _Services, now: float) -> list[Sample]:
    return [
        ([service.name, outcome], count)
        for service in services
        for outcome, count in sorted(service.mirrored.items())
    ]


# -- all of them ----------------------------------------------------------------------------------


class _Metric(NamedTuple):
    """One metric; ``samples`` is asked with the services and the monotonic seconds."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: Sequence[str]
    samples: _Samples


_METRICS = (
    # Traffic.
    _Metric(
        "gateway_requests_in_flight",
        "gauge",
        "Requests, event streams and WebSockets being served.",
        _S,
        _each_service(lambda service: sum(each.inflight for each in _everyone(service))),
    ),
    _Metric("gateway_sse_connections", "gauge", "Event streams being relayed.", [], _streams),
    _Metric(
        "gateway_upstream_connections",
        "gauge",
        "Connections to instances; busy are those lent to a request or being made.",
        ["service", "instance", "state"],
        _connections,
    ),
    _Metric(
        "gateway_upstream_waiting_requests",
        "gauge",
        "Requests that wait for a connection to an instance.",
        _SI,
        _each_instance(lambda instance: instance.pool.waiting),
    ),
    # Who may be asked.
    _Metric(
        "proxy_instances_available",
        "gauge",
        "Instances that take requests, busy ones included.",
        _S,
        _available,
    ),
    _Metric(
        "proxy_circuit_breaker_state",
        "gauge",
        "0 closed or disabled, 1 open or forced open, 2 half-open; without an instance: "
        "the service's own.",
        _SI,
        _breaker_states,
    ),
    _Metric(
        "gateway_circuit_breaker_shared",
        "gauge",
        "1 while other gateways share the circuit, 0 while it is on its own without the store; "
        "only where it is shared.",
        _SI,
        _breakers_shared,
    ),
    _Metric(
        "gateway_instance_health",
        "gauge",
        "1 while health checks say that the instance is up, else 0; only where there are checks.",
        _SI,
        _health,
    ),
    _Metric(
        "gateway_ejections_total",
        "counter",
        "How often the instance was ejected because it did worse than others.",
        _SI,
        _each_instance(lambda instance: instance.ejections),
    ),
    _Metric(
        "gateway_panic",
        "gauge",
        "1 while all instances are asked because too few are available.",
        _S,
        _each_service(lambda service: int(service.panicking)),
    ),
    # Tries.
    _Metric(
        "proxy_retry_attempts_total",
        "counter",
        "Further tries, by their number; the first try of a request is none.",
        ["service", "attempt"],
        _retries,
    ),
    _Metric(
        "proxy_load_balancer_errors_total",
        "counter",
        "Requests for which there was no instance.",
        ["service", "error_type"],
        _balancer_errors,
    ),
    _Metric(
        "gateway_hedges_total",
        "counter",
        "Second tries made while the first still ran.",
        _S,
        _each_service(lambda service: service.hedges),
    ),
    _Metric(
        "gateway_retry_budget_refusals_total",
        "counter",
        "Further tries that the retry budget did not allow.",
        _S,
        _each_service(lambda service: service.budget_refusals),
    ),
    _Metric(
        "gateway_retry_budget_balance",
        "gauge",
        "Further tries that the retry budget would allow at this moment.",
        _S,
        _budgets,
    ),
    # Limits.
    _Metric(
        "gateway_concurrency_limit",
        "gauge",
        "Most requests in flight at once, 0 for any number.",
        _S,
        _each_service(lambda service: service.limit),
    ),
    _Metric(
        "gateway_waiting_requests",
        "gauge",
        "Requests that wait because the service is at its limit.",
        _S,
        _each_service(lambda service: service.room.waiting if service.room is not None else 0),
    ),
    _Metric(
        "gateway_waiting_refusals_total",
        "counter",
        "Requests refused because too many waited, or for too long.",
        _S,
        _each_service(lambda service: service.room.refused if service.room is not None else 0),
    ),
    _Metric(
        "gateway_mirrored_requests_total",
        "counter",
        "Copies of requests made for the service, by what became of them.",
        ["service", "outcome"],
        _mirrored,
    ),
)
