"""Rates over the last ten seconds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe.statistics import Rates, Statistics
from tests.observe.services import Instance, Service

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
            statistics.window("users", A).record(tenth % 10 == 0, tenth / 10)
        rates = statistics.of_instance("users", A, 130.0)
        self.assertEqual((rates.requests, rates.errors), (300, 30))
        self.assertEqual((rates.rps, rates.error_rate), (10.0, 0.1))

    def test_old_requests_leave_the_window(self) -> None:
        """After ten quiet seconds the rate is zero; the totals stay."""
        statistics = Statistics()
        statistics.window("users", A).record(True, 100.5)
        self.assertEqual(self.recent(statistics, 100.5), (1, 1))
        self.assertEqual(self.recent(statistics, 109.9), (1, 1))
        self.assertEqual(self.recent(statistics, 110.0), (0, 0))
        rates = statistics.of_instance("users", A, 110.0)
        self.assertEqual((rates.requests, rates.rps, rates.error_rate), (1, 0.0, 0.0))

    def test_a_burst_after_a_long_silence_counts_alone(self) -> None:
        """What was before the silence is not counted again."""
        statistics = Statistics()
        for now in (50.0, 50.1, 200.0, 200.2, 203.0):
            statistics.window("users", A).record(False, now)
        self.assertEqual(self.recent(statistics, 203.5), (3, 0))

    def test_memory_of_a_window_is_bounded(self) -> None:
        """An hour of traffic leaves no more than ten seconds of history."""
        statistics = Statistics()
        for second in range(3600):
            statistics.window("users", A).record(False, float(second))
        self.assertEqual(self.recent(statistics, 3599.5), (10, 0))
        self.assertEqual(repr(statistics), "<Statistics 1 windows>")

    def test_a_service_is_the_sum_of_its_instances(self) -> None:
        """Requests that reached no instance count for the service too; other services' don't."""
        statistics = Statistics()
        statistics.window("users", A).record(False, 100.0)
        statistics.window("users", "http://b").record(False, 100.0)
        statistics.window("users", "").record(True, 100.0)
        statistics.window("billing", A).record(True, 100.0)
        rates = statistics.of_service("users", 100.5)
        self.assertEqual((rates.requests, rates.errors, rates.recent_requests), (3, 1, 3))
        self.assertEqual(rates.error_rate, 0.3333)
        self.assertEqual(statistics.of_service("orders", 100.5), Rates())

    def test_what_is_no_longer_configured_is_forgotten(self) -> None:
        """After a reload only the services and instances there are remain."""
        statistics = Statistics()
        for service, instance in (("users", A), ("users", "http://b"), ("users", ""), ("old", A)):
            statistics.window(service, instance).record(False, 100.0)
        statistics.retain(iter([Service("users", (Instance("users", A),))]))
        self.assertEqual(statistics.of_service("old", 100.0).requests, 0)
        self.assertEqual(statistics.of_instance("users", "http://b", 100.0).requests, 0)
        self.assertEqual(repr(statistics), "<Statistics 2 windows>")

    def test_a_service_keeps_what_its_former_instances_did(self) -> None:
        """In its totals, not in its present rates."""
        statistics = Statistics()
        statistics.window("users", "").record(True, 100.0)
        statistics.window("users", "http://b").record(True, 101.0)
        statistics.window("users", "http://b").record(False, 102.0)
        statistics.retain([Service("users")])
        rates = statistics.of_service("users", 103.0)
        self.assertEqual((rates.requests, rates.errors), (3, 2))
        self.assertEqual((rates.recent_requests, rates.recent_errors), (1, 1))
        self.assertEqual((rates.failed_at, rates.succeeded_at), (101.0, 102.0))
