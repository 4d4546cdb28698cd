"""What is noted when a request is over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import AccessLog as Settings
from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.statistics import Statistics
from rtgateway.observe.telemetry import Telemetry
from tests.observe.exchanges import Exchange
from tests.observe.test_access_log import Sink
from tests.observe.test_metrics import NAME, labels, read

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange as RealExchange
    from rtgateway.observe.views import ExchangeView, InstanceView, ServiceView
    from rtgateway.upstream.instance import Instance as RealInstance
    from rtgateway.upstream.service import Service as RealService

    def shapes_fit(
        exchange: RealExchange, instance: RealInstance, service: RealService
    ) -> tuple[ExchangeView, InstanceView, ServiceView]:
        """Checked by mypy: the objects of other rows have the shapes that are read here."""
        return exchange, instance, service


ROUTE = "/api/:service/*"


class TelemetryTests(SynchronousTestCase):
    """One call, three books."""

    def setUp(self) -> None:
        self.statistics = Statistics()
        self.sink = Sink()
        self.access_log = AccessLog(Settings(), self.sink)
        self.metrics = Metrics(
            version="1",
            instances=lambda: (),
            connections=lambda: 0,
            event_loop_delay=lambda: 0.0,
            dropped_lines=lambda: 0,
        )
        self.telemetry = Telemetry(self.metrics, self.statistics, self.access_log)

    def sum_and_count(self, route: str, status: int) -> tuple[float | None, float | None]:
        samples = read(self.metrics.durations.exposition())
        of = labels(method="GET", route=route, status_code=str(status))
        return samples.get((f"{NAME}_sum", of)), samples.get((f"{NAME}_count", of))

    def errors(self, exchange: Exchange) -> int:
        """How many errors ``exchange`` alone counts for its service."""
        before = self.statistics.of_service("users", 100.0).errors
        self.telemetry.finished(exchange)
        return self.statistics.of_service("users", 100.0).errors - before

    def test_a_request_is_in_all_three(self) -> None:
        """Metrics, statistics and access log tell the same."""
        self.telemetry.finished(Exchange(started=100.0, finished=100.5))
        self.access_log.flush()
        self.assertEqual(self.sum_and_count(ROUTE, 200), (0.5, 1))
        rates = self.statistics.of_instance("users", "http://a:3001", 100.9)
        self.assertEqual((rates.recent_requests, rates.errors), (1, 0))
        self.assertEqual(json.loads(self.sink.text)["duration_us"], 500_000)

    def test_what_no_route_took_counts_for_no_service(self) -> None:
        """It is in the metrics as unmatched, and in the log."""
        lost = Exchange(status=404, label="unmatched", route=None, chosen=None)
        self.assertEqual(self.errors(lost), 0)
        self.assertEqual(self.sum_and_count("unmatched", 404)[1], 1)
        self.assertEqual(repr(self.statistics), "<Statistics 0 windows>")

    def test_event_streams_count_until_their_head(self) -> None:
        """A stream of an hour is no slow request; one that never began took until its end."""
        stream = Exchange(kind="sse", started=100.0, first_byte=100.25, finished=3700.0)
        self.telemetry.finished(stream)
        self.telemetry.finished(replace(stream, first_byte=0.0, finished=100.5, status=504))
        self.assertEqual(self.sum_and_count(ROUTE, 200), (0.25, 1))
        self.assertEqual(self.sum_and_count(ROUTE, 504), (0.5, 1))

    def test_what_is_an_error(self) -> None:
        """5xx and answers that broke off; not what the client did, not a client that left."""
        self.assertEqual(self.errors(Exchange(status=500)), 1)
        self.assertEqual(self.errors(Exchange(status=502, chosen=None)), 1)
        self.assertEqual(self.errors(Exchange(status=200, error_code="upstream_unavailable")), 1)
        self.assertEqual(self.errors(Exchange(status=200)), 0)
        self.assertEqual(self.errors(Exchange(status=404)), 0)
        self.assertEqual(self.errors(Exchange(status=499, error_code="client_gone")), 0)
        self.assertEqual(self.errors(Exchange(status=413, error_code="body_too_large")), 0)
