"""Rates over the last ten seconds, and the document made of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe.statistics import Rates, Statistics, stats_document
from tests.observe.exchanges import Instance, Service

A = "http://a:3001"


class StatisticsTests(SynchronousTestCase):
    """Rates of instances and services."""

    def recent(self, statistics: Statistics, now: float) -> tuple[int, int]:
        rates = statistics.of_instance("users", A, now)
        return rates.recent_requests, rates.recent_errors

    def test_a_steady_rate_is_told_exactly(self) -> None:
        """Ten requests per second, one of them failing, are 10 rps and an error rate of 0.1."""
        statistics = Statistics()
        for tenth in range(1000, 1300):
            statistics.record("users", A, tenth % 10 == 0, tenth / 10)
        rates = statistics.of_instance("users", A, 130.0)
        self.assertEqual((rates.requests, rates.errors), (300, 30))
        self.assertEqual((rates.rps, rates.error_rate), (10.0, 0.1))

    def test_old_requests_leave_the_window(self) -> None:
        """After ten quiet seconds the rate is zero; the totals stay."""
        statistics = Statistics()
        statistics.record("users", A, True, 100.5)
        self.assertEqual(self.recent(statistics, 100.5), (1, 1))
        self.assertEqual(self.recent(statistics, 109.9), (1, 1))
        self.assertEqual(self.recent(statistics, 110.0), (0, 0))
        rates = statistics.of_instance("users", A, 110.0)
        self.assertEqual((rates.requests, rates.rps, rates.error_rate), (1, 0.0, 0.0))

    def test_a_burst_after_a_long_silence_counts_alone(self) -> None:
        """What was before the silence is not counted again."""
        statistics = Statistics()
        for now in (50.0, 50.1, 200.0, 200.2, 203.0):
            statistics.record("users", A, False, now)
        self.assertEqual(self.recent(statistics, 203.5), (3, 0))

    def test_memory_of_a_window_is_bounded(self) -> None:
        """An hour of traffic leaves no more than ten seconds of history."""
        statistics = Statistics()
        for second in range(3600):
            statistics.record("users", A, False, float(second))
        self.assertEqual(self.recent(statistics, 3599.5), (10, 0))
        self.assertEqual(repr(statistics), "<Statistics 1 windows>")

    def test_a_service_is_the_sum_of_its_instances(self) -> None:
        """Requests that reached no instance count for the service too; other services' don't."""
        statistics = Statistics()
        statistics.record("users", A, False, 100.0)
        statistics.record("users", "http://b", False, 100.0)
        statistics.record("users", "", True, 100.0)
        statistics.record("billing", A, True, 100.0)
        rates = statistics.of_service("users", 100.5)
        self.assertEqual((rates.requests, rates.errors, rates.recent_requests), (3, 1, 3))
        self.assertEqual(rates.error_rate, 0.3333)
        self.assertEqual(statistics.of_service("orders", 100.5), Rates())

    def test_what_is_no_longer_configured_is_forgotten(self) -> None:
        """After a reload only the services and instances there are remain."""
        statistics = Statistics()
        for service, instance in (("users", A), ("users", "http://b"), ("users", ""), ("old", A)):
            statistics.record(service, instance, False, 100.0)
        statistics.retain(iter([Service("users", (Instance("users", A),))]))
        self.assertEqual(statistics.of_service("users", 100.0).requests, 2)
        self.assertEqual(statistics.of_service("old", 100.0).requests, 0)


class StatsDocumentTests(SynchronousTestCase):
    """The schema that dashboards of the Real-Time API Gateway read."""

    def test_the_whole_document(self) -> None:
        """Every key is there, with its unit."""
        a = Instance("users", A, 3, 1, latency=0.0125, last_latency=0.02)
        b = Instance("users", "http://b:3001")
        statistics = Statistics()
        for _ in range(19):
            statistics.record("users", A, False, 105.0)
        statistics.record("users", A, True, 105.0)
        document = stats_document(
            [Service("users", (a, b))],
            statistics,
            connections=4,
            environment="test",
            uptime=61.9,
            now=109.0,
            wall_clock=1700000000.25,
        )
        node_version = document.pop("nodeVersion")
        self.assertRegex(node_version, r"^python 3\.\d+\.\d+ / twisted \d+\.\d+")
        users = document["services"].pop("users")
        self.assertEqual(
            document,
            {
                "nowMs": 1700000000250,
                "uptimeSeconds": 61,
                "env": "test",
                "services": {},
                "connections": {"http": 3, "sse": 1, "ws": 0},
            },
        )
        details = users.pop("upstreamDetails")
        self.assertEqual(
            users,
            {
                "upstreams": 2,
                "healthy": 2,
                "avgLatencyMs": 12.5,
                "rps": 2.22,
                "errorRate": 0.05,
            },
        )
        self.assertEqual(
            details[0],
            {
                "url": A,
                "healthy": True,
                "circuitOpenUntilMs": None,
                "inflight": {"http": 2, "sse": 1, "ws": 0},
                "requestsTotal": 20,
                "errorsTotal": 1,
                "rps": 2.22,
                "latency": {"ewmaMs": 12.5, "lastMs": 20.0},
            },
        )
        self.assertEqual(details[1]["latency"], {"ewmaMs": None, "lastMs": None})
        self.assertEqual((details[1]["requestsTotal"], details[1]["rps"]), (0, 0.0))

    def test_a_service_nobody_asked_yet(self) -> None:
        """Its latency is unknown, not zero."""
        document = stats_document(
            [Service("users", (Instance(),))],
            Statistics(),
            connections=0,
            environment="test",
            uptime=0.0,
            now=0.0,
            wall_clock=0.0,
        )
        self.assertIsNone(document["services"]["users"]["avgLatencyMs"])
        self.assertEqual(document["connections"], {"http": 0, "sse": 0, "ws": 0})
