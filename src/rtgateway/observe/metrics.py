"""Everything at ``/metrics``.

Only request durations are counted as requests pass; all other values exist anyway and are read
from where they are when Prometheus asks. Labels come from the configuration, never from clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from rtgateway.observe.durations import RequestDurations
from rtgateway.observe.views import InstanceView

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one gateway.

    :param instances: all instances of all services, as they are now.
    :param connections: how many client connections are open.
    :param event_loop_delay: seconds, the last sample.
    :param dropped_lines: access log lines that were lost.
    :ivar registry: for collectors of other parts; the request durations are not in it.
    :ivar observe: count a request by ``(method, route, status, seconds)``.
    """

    __slots__ = ("durations", "observe", "registry")

    def __init__(
        self,
        *,
        version: str,
        instances: Callable[[], Iterable[InstanceView]],
        connections: Callable[[], int],
        event_loop_delay: Callable[[], float],
        dropped_lines: Callable[[], int],
    ) -> None:
        self.durations = RequestDurations()
        self.observe = self.durations.observe
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_Upstreams(instances))
        self.registry.register(_Process(version, connections, event_loop_delay, dropped_lines))

    def exposition(self) -> bytes:
        """The answer to a scrape; its content type is `CONTENT_TYPE`."""
        return generate_latest(self.registry) + self.durations.exposition().encode()

    def __repr__(self) -> str:
        return f"<Metrics {self.durations!r}>"


class _Upstreams(Collector):
    """Requests in flight and connections, by service and instance."""

    def __init__(self, instances: Callable[[], Iterable[InstanceView]]) -> None:
        self._instances = instances

    def collect(self) -> Iterator[Metric]:
        connections = GaugeMetricFamily(
            "gateway_upstream_connections",
            "Connections to instances; busy are those lent to a request or being made.",
            labels=["service", "instance", "state"],
        )
        waiting = GaugeMetricFamily(
            "gateway_upstream_waiting_requests",
            "Requests that wait for a connection to an instance.",
            labels=["service", "instance"],
        )
        inflight: dict[str, int] = {}
        streams = 0
        for instance in self._instances():
            service, label, pool = instance.service, instance.label, instance.pool
            inflight[service] = inflight.get(service, 0) + instance.inflight
            streams += instance.streams
            idle = len(pool.idle)
            connections.add_metric([service, label, "idle"], idle)
            connections.add_metric([service, label, "busy"], pool.open - idle)
            waiting.add_metric([service, label], pool.waiting)
        requests = GaugeMetricFamily(
            "gateway_requests_in_flight",
            "Requests and event streams being served.",
            labels=["service"],
        )
        for service, count in inflight.items():
            requests.add_metric([service], count)
        yield requests
        yield GaugeMetricFamily(
            "gateway_sse_connections", "Event streams being relayed.", value=streams
        )
        yield connections
        yield waiting


class _Process(Collector):
    """What there is once per process."""

    def __init__(
        self,
        version: str,
        connections: Callable[[], int],
        event_loop_delay: Callable[[], float],
        dropped_lines: Callable[[], int],
    ) -> None:
        self._version = version
        self._connections = connections
        self._event_loop_delay = event_loop_delay
        self._dropped_lines = dropped_lines

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("gateway_info", "The gateway itself.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield GaugeMetricFamily(
            "gateway_connections", "Open client connections.", value=self._connections()
        )
        yield GaugeMetricFamily(
            "gateway_event_loop_delay_seconds",
            "How late the event loop was at the last sample.",
            value=self._event_loop_delay(),
        )
        yield CounterMetricFamily(
            "gateway_access_log_dropped_lines",
            "Access log lines lost because they could not be written in time, or at all.",
            value=self._dropped_lines(),
        )
