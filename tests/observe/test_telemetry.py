"""What is noted when a request is over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import AccessLog as Settings
from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.durations import SUM, count_of
from rtgateway.observe.outcomes import Outcomes
from rtgateway.observe.statistics import Statistics
from rtgateway.observe.telemetry import Telemetry
from tests.observe.exchanges import Exchange
from tests.observe.services import Instance, Service
from tests.observe.test_access_log import Sink

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
        self.instance = Instance()
        self.users = Service(instances=(self.instance,))
        self.outcomes = Outcomes(lambda: [self.users], self.statistics)
        self.telemetry = Telemetry(self.outcomes, self.access_log)

    def asked(self, **values: Any) -> Exchange:
        return Exchange(**{"service": self.users, "chosen": self.instance, **values})

    def sum_and_count(self, route: str, status: int) -> tuple[float, int]:
        summed = self.outcomes.summed(lambda labels: (labels.route, labels.status))
        histogram = summed[route, str(status)]
        return histogram[SUM], count_of(histogram)

    def errors(self, exchange: Exchange) -> int:
        """How many errors ``exchange`` alone counts for its service."""
        before = self.statistics.of_service("users", 100.0).errors
        self.telemetry.finished(exchange)
        return self.statistics.of_service("users", 100.0).errors - before

    def test_a_request_is_in_all_three(self) -> None:
        """Metrics, statistics and access log tell the same."""
        self.telemetry.finished(self.asked(started=100.0, finished=100.5))
        self.access_log.flush()
        self.assertEqual(self.sum_and_count(ROUTE, 200), (0.5, 1))
        rates = self.statistics.of_instance("users", "http://a:3001", 100.9)
        self.assertEqual((rates.recent_requests, rates.errors), (1, 0))
        self.assertEqual(json.loads(self.sink.text)["duration_us"], 500_000)

    def test_what_no_route_took_counts_for_no_service(self) -> None:
        """It is in the metrics as unmatched, and in the log."""
        lost = Exchange(status=404, label="unmatched", service=None, chosen=None)
        self.assertEqual(self.errors(lost), 0)
        self.assertEqual(self.sum_and_count("unmatched", 404)[1], 1)
        self.assertEqual(repr(self.statistics), "<Statistics 0 windows>")

    def test_event_streams_count_until_their_head(self) -> None:
        """A stream of an hour is no slow request; one that never began took until its end."""
        stream = self.asked(kind="sse", started=100.0, first_byte=100.25, finished=3700.0)
        self.telemetry.finished(stream)
        self.telemetry.finished(replace(stream, first_byte=0.0, finished=100.5, status=504))
        self.assertEqual(self.sum_and_count(ROUTE, 200), (0.25, 1))
        self.assertEqual(self.sum_and_count(ROUTE, 504), (0.5, 1))

    def test_websockets_count_until_they_are_open(self) -> None:
        """However long they stay; they are requests that went well, and say so in the log."""
        socket = self.asked(
            kind="websocket", status=101, started=100.0, first_byte=100.25, finished=3700.0
        )
        self.assertEqual(self.errors(socket), 0)
        self.assertEqual(self.sum_and_count(ROUTE, 101), (0.25, 1))
        self.access_log.flush()
        line = json.loads(self.sink.text)
        self.assertEqual((line["status"], line["kind"]), (101, "websocket"))

    def test_what_is_an_error(self) -> None:
        """5xx and answers that broke off; not what the client did, not a client that left."""
        self.assertEqual(self.errors(self.asked(status=500)), 1)
        self.assertEqual(self.errors(self.asked(status=502, chosen=None)), 1)
        self.assertEqual(self.errors(self.asked(status=200, error_code="upstream_unavailable")), 1)
        self.assertEqual(self.errors(self.asked(status=200)), 0)
        self.assertEqual(self.errors(self.asked(status=404)), 0)
        self.assertEqual(self.errors(self.asked(status=499, error_code="client_gone")), 0)
        self.assertEqual(self.errors(self.asked(status=413, error_code="body_too_large")), 0)

    def test_when_requests_last_failed_and_last_did_not(self) -> None:
        """By the time they ended."""
        self.telemetry.finished(self.asked(finished=101.0))
        self.telemetry.finished(self.asked(finished=102.0, status=500))
        rates = self.statistics.of_service("users", 103.0)
        self.assertEqual((rates.succeeded_at, rates.failed_at), (101.0, 102.0))

    def test_instances_are_told_apart(self) -> None:
        """The same request, answered by two instances, is two records and one log each."""
        other = Instance(label="http://b:3001")
        self.users.instances += (other,)
        self.telemetry.finished(self.asked())
        self.telemetry.finished(self.asked(chosen=other))
        self.access_log.flush()
        lines = [json.loads(line)["instance"] for line in self.sink.text.splitlines()]
        self.assertEqual(lines, ["http://a:3001", "http://b:3001"])
        self.assertEqual(repr(self.telemetry), "<Telemetry 2 outcomes>")
