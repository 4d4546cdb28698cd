"""What Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe.durations import RequestDurations
from rtgateway.observe.metrics import Metrics
from tests.observe.exchanges import Instance, Pool

NAME = "gateway_http_request_duration_seconds"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """The samples of a scrape, by name and labels, as Prometheus itself would parse them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


class RequestDurationsTests(SynchronousTestCase):
    """The histogram of request durations."""

    def bucket(self, durations: RequestDurations, le: str, **of: str) -> float:
        return read(durations.exposition())[f"{NAME}_bucket", labels(le=le, **of)]

    def test_counts_by_method_route_and_status(self) -> None:
        """Each request is found under its own labels."""
        durations = RequestDurations()
        durations.observe(b"GET", "/api/:service/*", 200, 0.25)
        durations.observe(b"GET", "/api/:service/*", 200, 0.5)
        durations.observe(b"POST", "/api/:service/*", 502, 1.0)
        samples = read(durations.exposition())
        of = {"method": "GET", "route": "/api/:service/*", "status_code": "200"}
        self.assertEqual(samples[f"{NAME}_count", labels(**of)], 2)
        self.assertEqual(samples[f"{NAME}_sum", labels(**of)], 0.75)
        of = {"method": "POST", "route": "/api/:service/*", "status_code": "502"}
        self.assertEqual(samples[f"{NAME}_count", labels(**of)], 1)

    def test_buckets_are_cumulative_and_inclusive(self) -> None:
        """A request of exactly 5 ms is in the bucket "at most 5 ms", and in all larger ones."""
        durations = RequestDurations()
        for seconds in (0.005, 0.0051, 99.0):
            durations.observe(b"GET", "r", 200, seconds)
        of = {"method": "GET", "route": "r", "status_code": "200"}
        counts = [self.bucket(durations, le, **of) for le in ("0.005", "0.01", "10.0", "+Inf")]
        self.assertEqual(counts, [1, 2, 2, 3])

    def test_invented_methods_share_a_label(self) -> None:
        """Clients can't make series by inventing methods."""
        durations = RequestDurations()
        for number in range(50):
            durations.observe(b"X%d" % number, "r", 405, 0.001)
        samples = read(durations.exposition())
        of = labels(method="OTHER", route="r", status_code="405")
        self.assertEqual(samples[f"{NAME}_count", of], 50)
        self.assertEqual(repr(durations), "<RequestDurations 1 of at most 2000 series>")

    def test_number_of_series_is_bounded(self) -> None:
        """Beyond the bound requests are still counted, together; known series go on."""
        durations = RequestDurations(max_series=2)
        for status in (200, 201, 202, 203, 200):
            durations.observe(b"GET", "r", status, 0.001)
        samples = read(durations.exposition())
        other = labels(method="OTHER", route="other", status_code="other")
        self.assertEqual(samples[f"{NAME}_count", other], 2)
        known = labels(method="GET", route="r", status_code="200")
        self.assertEqual(samples[f"{NAME}_count", known], 2)

    def test_labels_are_escaped(self) -> None:
        """A route may be named with quotes, backslashes and line breaks."""
        durations = RequestDurations()
        durations.observe(b"GET", 'a"b\\c\nd', 200, 0.001)
        samples = read(durations.exposition())
        of = labels(method="GET", route='a"b\\c\nd', status_code="200")
        self.assertEqual(samples[f"{NAME}_count", of], 1)


class MetricsTests(SynchronousTestCase):
    """The whole answer to a scrape."""

    def scrape(self, *instances: Instance) -> Samples:
        metrics = Metrics(
            version="1.2.3",
            instances=lambda: instances,
            connections=lambda: 7,
            event_loop_delay=lambda: 0.25,
            dropped_lines=lambda: 3,
        )
        metrics.observe(b"GET", "r", 200, 0.001)
        return read(metrics.exposition().decode())

    def test_gauges_are_read_when_asked(self) -> None:
        """Connections, event streams and the event loop are shown as they are at that moment."""
        a = Instance("users", "http://a", inflight=3, streams=1, pool=Pool(5, ("x", "y"), 4))
        b = Instance("users", "http://b", inflight=2, streams=2, pool=Pool(2))
        samples = self.scrape(a, b)
        a_labels = {"service": "users", "instance": "http://a"}
        upstream = "gateway_upstream_connections"
        expected: Samples = {
            ("gateway_info", labels(version="1.2.3")): 1,
            ("gateway_connections", labels()): 7,
            ("gateway_event_loop_delay_seconds", labels()): 0.25,
            ("gateway_access_log_dropped_lines_total", labels()): 3,
            ("gateway_requests_in_flight", labels(service="users")): 5,
            ("gateway_sse_connections", labels()): 3,
            (upstream, labels(state="idle", **a_labels)): 2,
            (upstream, labels(state="busy", **a_labels)): 3,
            ("gateway_upstream_waiting_requests", labels(**a_labels)): 4,
        }
        self.assertEqual({key: samples.get(key) for key in expected}, expected)

    def test_names_of_the_process_are_there(self) -> None:
        """Dashboards for Python processes work, beside the request durations."""
        names = {name for name, _ in self.scrape()}
        expected = {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"}
        self.assertEqual(expected - names, set())
        self.assertIn(f"{NAME}_count", names)
