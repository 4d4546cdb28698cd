"""Everything at ``/metrics``.

Only what `observe.outcomes` holds is counted as requests pass; all other values exist anyway and
are read from where they are when Prometheus asks. Labels come from the configuration and from
discovery, never from clients. ``docs/metrics.md`` explains every one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from rtgateway.observe.durations import count_of
from rtgateway.observe.exposition import family, histogram_family
from rtgateway.observe.limit_metrics import limit_metrics
from rtgateway.observe.limit_views import StateView
from rtgateway.observe.outcomes import Labels, Outcomes
from rtgateway.observe.service_metrics import service_metrics
from rtgateway.observe.socket_metrics import socket_metrics
from rtgateway.observe.socket_views import SocketsView
from rtgateway.observe.views import ServiceView

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one gateway.

    :param outcomes: how requests came out.
    :param services: all services, as they are now.
    :param sockets: all WebSockets.
    :param state: rate limits, bans and the store; looked at when it is asked.
    :param connections: how many client connections are open.
    :param event_loop_delay: seconds, the last sample.
    :param dropped_lines: access log lines that were lost.
    :ivar registry: for collectors of other parts; the gateway's own metrics are not in it.
    """

    __slots__ = (
        "_connections",
        "_dropped_lines",
        "_event_loop_delay",
        "_outcomes",
        "_services",
        "_sockets",
        "_state",
        "_version",
        "registry",
    )

    def __init__(
        self,
        *,
        version: str,
        outcomes: Outcomes,
        services: Callable[[], Iterable[ServiceView]],
        sockets: SocketsView,
        state: StateView,
        connections: Callable[[], int],
        event_loop_delay: Callable[[], float],
        dropped_lines: Callable[[], int],
    ) -> None:
        self._version = version
        self._outcomes = outcomes
        self._services = services
        self._sockets = sockets
        self._state = state
        self._connections = connections
        self._event_loop_delay = event_loop_delay
        self._dropped_lines = dropped_lines
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def exposition(self, now: float) -> bytes:
        """The answer to a scrape; its content type is `CONTENT_TYPE`. ``now``: monotonic seconds.

        What belongs to services and instances that are no more is forgotten before.
        """
        self._outcomes.forget_gone()
        services = list(self._services())
        texts = [
            *self._process(),
            *_requests(self._outcomes),
            *service_metrics(services, now),
            *socket_metrics(self._sockets, services),
            *limit_metrics(self._state),
        ]
        return generate_latest(self.registry) + "".join(texts).encode()

    def _process(self) -> Iterator[str]:
        """What there is once per process."""
        yield family(
            "gateway_info", "gauge", "The gateway itself.", ["version"], [([self._version], 1)]
        )
        yield family(
            "gateway_connections",
            "gauge",
            "Open client connections, WebSockets included.",
            [],
            [([], self._connections())],
        )
        yield family(
            "gateway_event_loop_delay_seconds",
            "gauge",
            "How late the event loop was at the last sample.",
            [],
            [([], self._event_loop_delay())],
        )
        yield family(
            "gateway_access_log_dropped_lines_total",
            "counter",
            "Access log lines lost because they could not be written in time, or at all.",
            [],
            [([], self._dropped_lines())],
        )

    def __repr__(self) -> str:
        return f"<Metrics {self._outcomes!r}>"


def _requests(outcomes: Outcomes) -> Iterator[str]:
    """Requests that are over."""
    yield histogram_family(
        "gateway_http_request_duration_seconds",
        "Time until the end of the answer; of event streams and WebSockets, until its head.",
        ["method", "route", "status_code"],
        outcomes.summed(lambda labels: (labels.method, labels.route, labels.status)).items(),
    )
    yield family(
        "proxy_requests_total",
        "counter",
        "Requests to services; status error where no instance gave an answer.",
        ["service", "method", "status", "instance"],
        [(key, count_of(each)) for key, each in outcomes.summed(_answer).items()],
    )
    yield histogram_family(
        "proxy_request_duration_seconds",
        "Time until the end of a service's answer; of event streams and WebSockets, until its "
        "head.",
        ["service", "method", "status"],
        outcomes.summed(_service_answer).items(),
    )


def _answer(labels: Labels) -> tuple[str, str, str, str] | None:
    if not labels.service or labels.instance is None:
        return None
    return labels.service, labels.method, labels.outcome, labels.instance


def _service_answer(labels: Labels) -> tuple[str, str, str] | None:
    return (labels.service, labels.method, labels.outcome) if labels.service else None
