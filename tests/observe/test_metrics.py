"""What Prometheus reads."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import AccessLog as AccessLogSettings
from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.durations import new_histogram
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.outcomes import Outcomes
from rtgateway.observe.statistics import Statistics
from rtgateway.observe.telemetry import Telemetry
from tests.observe.exchanges import Exchange
from tests.observe.limits import State
from tests.observe.services import Budget, Check, Instance, Pool, Room, Service, a_breaker
from tests.observe.sockets import Socket, Sockets

NAME = "gateway_http_request_duration_seconds"
NOW = 1000.0
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """The samples of a scrape, by name and labels, as Prometheus itself would parse them."""
    samples = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    # Prometheus drops a whole scrape in which a sample comes twice.
    assert len(dict(samples)) == len(samples)
    return dict(samples)


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


class Scrape:
    """A gateway in front of ``services``, and what is read of it."""

    def __init__(self, *services: Service) -> None:
        self.services = list(services)
        self.sockets = Sockets()
        self.outcomes = Outcomes(lambda: self.services, Statistics())
        self.telemetry = Telemetry(self.outcomes, AccessLog(AccessLogSettings(format="off")))
        self.metrics = Metrics(
            version="1.2.3",
            outcomes=self.outcomes,
            services=lambda: self.services,
            sockets=self.sockets,
            connections=lambda: 7,
            event_loop_delay=lambda: 0.25,
            dropped_lines=lambda: 3,
            state=State(),
        )

    def samples(self) -> Samples:
        return read(self.metrics.exposition(NOW).decode())

    def count(self, *exchanges: Exchange) -> None:
        for exchange in exchanges:
            self.telemetry.finished(exchange)


class RequestTests(SynchronousTestCase):
    """Requests that are over."""

    def setUp(self) -> None:
        self.a = Instance()
        self.users = Service(instances=(self.a,))
        self.scrape = Scrape(self.users)

    def asked(self, seconds: float = 0.25, label: str = "r", **values: object) -> Exchange:
        exchange = Exchange(label=label, service=self.users, chosen=self.a)
        exchange.started, exchange.finished = 100.0, 100.0 + seconds
        for name, value in values.items():
            setattr(exchange, name, value)
        return exchange

    def test_durations_by_method_route_and_status(self) -> None:
        """Each request is found under its own labels, whichever instance it went to."""
        other = Instance(label="http://b")
        self.users.instances += (other,)
        self.scrape.count(self.asked(0.25), self.asked(0.5, chosen=other))
        self.scrape.count(self.asked(1.0, method=b"POST", status=502))
        samples = self.scrape.samples()
        of = labels(method="GET", route="r", status_code="200")
        self.assertEqual((samples[f"{NAME}_count", of], samples[f"{NAME}_sum", of]), (2, 0.75))
        of = labels(method="POST", route="r", status_code="502")
        self.assertEqual(samples[f"{NAME}_count", of], 1)

    def test_buckets_are_cumulative_and_inclusive(self) -> None:
        """A request of exactly 5 ms is in the bucket "at most 5 ms", and in all larger ones."""
        for seconds in (0.0, 0.0051, 99.0):
            self.scrape.count(self.asked(seconds))
        self.scrape.count(self.asked(started=0.0, finished=0.005))
        samples = self.scrape.samples()
        of = {"method": "GET", "route": "r", "status_code": "200"}
        counts = [
            samples[f"{NAME}_bucket", labels(le=le, **of)]
            for le in ("0.005", "0.01", "10.0", "+Inf")
        ]
        self.assertEqual(counts, [2, 3, 3, 4])

    def test_requests_by_service_and_instance(self) -> None:
        """With the names other gateways use: who answered what, and what nobody answered."""
        self.scrape.count(self.asked(), self.asked(), self.asked(status=404))
        self.scrape.count(self.asked(2.0, status=502, answered=False))
        self.scrape.count(Exchange(service=None, chosen=None, answered=False, status=500))
        samples = self.scrape.samples()
        of = {"service": "users", "method": "GET"}
        a = self.a.label
        requests = {
            key: value for key, value in samples.items() if key[0] == "proxy_requests_total"
        }
        self.assertEqual(
            requests,
            {
                ("proxy_requests_total", labels(status="200", instance=a, **of)): 2,
                ("proxy_requests_total", labels(status="404", instance=a, **of)): 1,
                ("proxy_requests_total", labels(status="error", instance="", **of)): 1,
            },
        )
        durations = "proxy_request_duration_seconds"
        self.assertEqual(samples[f"{durations}_count", labels(status="200", **of)], 2)
        self.assertEqual(samples[f"{durations}_sum", labels(status="error", **of)], 2.0)

    def test_removed_instances_leave(self) -> None:
        """Their requests stay in the durations of the service and of the route."""
        self.scrape.count(self.asked())
        self.users.instances = ()
        samples = self.scrape.samples()
        self.assertNotIn("proxy_requests_total", {name for name, _ in samples})
        of = labels(service="users", method="GET", status="200")
        self.assertEqual(samples["proxy_request_duration_seconds_count", of], 1)
        of = labels(method="GET", route="r", status_code="200")
        self.assertEqual(samples[f"{NAME}_count", of], 1)

    def test_labels_are_escaped(self) -> None:
        """A route may be named with quotes, backslashes and line breaks."""
        self.scrape.count(self.asked(label='a"b\\c\nd'))
        of = labels(method="GET", route='a"b\\c\nd', status_code="200")
        self.assertEqual(self.scrape.samples()[f"{NAME}_count", of], 1)

    def test_a_full_table(self) -> None:
        """Of 2,700 combinations 2,000 are told apart, and no request is lost."""
        for status in range(100, 1000):
            for method in (b"GET", b"POST", b"PUT"):
                self.scrape.count(self.asked(status=status, method=method))
        text = self.scrape.metrics.exposition(NOW).decode()
        counts = re.findall(r"^proxy_requests_total\{.*\} (\d+)$", text, re.MULTILINE)
        self.assertEqual((len(counts), sum(map(int, counts))), (2001, 2700))
        other = (
            'proxy_requests_total{service="other",method="OTHER",status="other",instance="other"}'
        )
        self.assertIn(f"{other} 700\n", text)


class ReadTestCase(SynchronousTestCase):
    """Looks for samples among all that are there."""

    def expect(self, scrape: Scrape, expected: Samples) -> None:
        samples = scrape.samples()
        self.assertEqual({key: samples.get(key) for key in expected}, expected)


class SocketTests(ReadTestCase):
    """WebSockets."""

    def test_those_that_are_there(self) -> None:
        """How many, with whom, and what waits in each direction."""
        a, gone = Instance(sockets=2), Instance(label="http://gone", sockets=1)
        scrape = Scrape(Service(instances=(a,), leaving=(gone,)))
        scrape.sockets.add(
            Socket("ws-1", buffered_in=10, buffered_out=200),
            Socket("ws-2", buffered_in=5, state="closing"),
        )
        on = labels(service="users", instance="http://a:3001")
        self.expect(
            scrape,
            {
                ("gateway_websocket_connections", labels()): 2,
                ("gateway_websocket_instance_connections", on): 2,
                ("gateway_websocket_buffered_bytes", labels(direction="in")): 15,
                ("gateway_websocket_buffered_bytes", labels(direction="out")): 200,
            },
        )
        name = "gateway_websocket_instance_connections"
        self.assertEqual([key for key in scrape.samples() if key[0] == name], [(name, on)])

    def test_those_that_came_and_went(self) -> None:
        """Opened, refused, and closed by whom with what."""
        scrape = Scrape()
        scrape.sockets.opened = {("chat", "users"): 4}
        scrape.sockets.refused = {("chat", "per_ip"): 3}
        scrape.sockets.closed = {
            ("chat", "users", "1000", "client", ""): 1,
            ("chat", "users", "1013", "gateway", "backpressure"): 2,
        }
        name, of = "gateway_websocket_closed_total", {"route": "chat", "service": "users"}
        self.expect(
            scrape,
            {
                ("gateway_websocket_opened_total", labels(**of)): 4,
                ("gateway_websocket_refused_total", labels(route="chat", reason="per_ip")): 3,
                (name, labels(code="1000", side="client", reason="", **of)): 1,
                (name, labels(code="1013", side="gateway", reason="backpressure", **of)): 2,
            },
        )

    def test_traffic_and_times(self) -> None:
        """Messages and bytes by direction; how long handshakes and pings took."""
        scrape = Scrape()
        scrape.sockets.counted = {("chat", "in"): (3, 300), ("chat", "out"): (4, 4000)}
        handshake, ping = new_histogram(), new_histogram()
        handshake[0], handshake[-1] = 2, 0.006
        ping[1], ping[-1] = 1, 0.009
        scrape.sockets.handshakes = {"chat": handshake}
        scrape.sockets.rtts = {("chat", "client"): ping}
        name, rtt = "gateway_websocket_handshake_duration_seconds", "gateway_websocket_ping_rtt"
        of = {"route": "chat"}
        self.expect(
            scrape,
            {
                ("gateway_websocket_messages_total", labels(direction="in", **of)): 3,
                ("gateway_websocket_messages_total", labels(direction="out", **of)): 4,
                ("gateway_websocket_bytes_total", labels(direction="in", **of)): 300,
                ("gateway_websocket_bytes_total", labels(direction="out", **of)): 4000,
                (f"{name}_count", labels(**of)): 2,
                (f"{name}_sum", labels(**of)): 0.006,
                (f"{rtt}_seconds_bucket", labels(side="client", le="0.005", **of)): 0,
                (f"{rtt}_seconds_bucket", labels(side="client", le="0.01", **of)): 1,
            },
        )


class GaugeTests(ReadTestCase):
    """What is read when asked."""

    def test_connections_and_streams(self) -> None:
        """Connections, event streams and the event loop are shown as they are at that moment."""
        a = Instance("users", "http://a", inflight=3, streams=1, pool=Pool(5, ("x", "y"), 4))
        b = Instance("users", "http://b", inflight=2, streams=2, pool=Pool(2))
        on = {"service": "users", "instance": "http://a"}
        upstream = "gateway_upstream_connections"
        self.expect(
            Scrape(Service(instances=(a,), leaving=(b,))),
            {
                ("gateway_info", labels(version="1.2.3")): 1,
                ("gateway_connections", labels()): 7,
                ("gateway_event_loop_delay_seconds", labels()): 0.25,
                ("gateway_access_log_dropped_lines_total", labels()): 3,
                ("gateway_requests_in_flight", labels(service="users")): 5,
                ("gateway_sse_connections", labels()): 3,
                (upstream, labels(state="idle", **on)): 2,
                (upstream, labels(state="busy", **on)): 3,
                ("gateway_upstream_waiting_requests", labels(**on)): 4,
            },
        )

    def test_availability(self) -> None:
        """Instances that take requests, circuits, health, ejections, panic."""
        down = Instance(label="http://down", health=Check().fails(1.0), ejections=4)
        busy = Instance(label="http://busy", inflight=1, limit=1, health=Check().passes(1.0))
        users = Service(instances=(down, busy), breaker=a_breaker(), panicking=True)
        down.breaker.force_open(NOW)
        assert users.breaker is not None
        users.breaker.disable(NOW)

        def on(which: str) -> frozenset[tuple[str, str]]:
            return labels(service="users", instance=which)

        scrape = Scrape(users, Service("other"))
        self.expect(
            scrape,
            {
                ("proxy_instances_available", labels(service="users")): 1,
                ("proxy_instances_available", labels(service="other")): 0,
                ("proxy_circuit_breaker_state", on("http://down")): 1,
                ("proxy_circuit_breaker_state", on("http://busy")): 0,
                ("proxy_circuit_breaker_state", on("")): 0,
                ("gateway_instance_health", on("http://down")): 0,
                ("gateway_instance_health", on("http://busy")): 1,
                ("gateway_ejections_total", on("http://down")): 4,
                ("gateway_panic", labels(service="users")): 1,
                ("gateway_panic", labels(service="other")): 0,
            },
        )
        self.assertNotIn(
            ("proxy_circuit_breaker_state", labels(service="other", instance="")), scrape.samples()
        )

    def test_a_half_open_circuit(self) -> None:
        """It is neither open nor closed: 2."""
        instance = Instance()
        for _ in range(5):
            instance.breaker.record(instance.breaker.acquire(0.0), 0.0, 0.1, True)
        instance.breaker.acquire(40.0)
        of = labels(service="users", instance=instance.label)
        self.expect(
            Scrape(Service(instances=(instance,))), {("proxy_circuit_breaker_state", of): 2}
        )

    def test_tries_and_limits(self) -> None:
        """Further tries, hedges, the budget, who waits, what was mirrored."""
        users = Service(
            retries={3: 1, 2: 5},
            hedges=6,
            budget=Budget(12.5),
            budget_refusals=7,
            balancer_errors={"no_instances": 8},
            mirrored={"sent": 9, "dropped": 10},
            room=Room(11, 12),
            limit=13,
        )
        of = {"service": "users"}
        self.expect(
            Scrape(users),
            {
                ("proxy_retry_attempts_total", labels(attempt="2", **of)): 5,
                ("proxy_retry_attempts_total", labels(attempt="3", **of)): 1,
                ("proxy_load_balancer_errors_total", labels(error_type="no_instances", **of)): 8,
                (
                    "proxy_load_balancer_errors_total",
                    labels(error_type="selection_failed", **of),
                ): 0,
                ("gateway_hedges_total", labels(**of)): 6,
                ("gateway_retry_budget_balance", labels(**of)): 12.5,
                ("gateway_retry_budget_refusals_total", labels(**of)): 7,
                ("gateway_mirrored_requests_total", labels(outcome="sent", **of)): 9,
                ("gateway_mirrored_requests_total", labels(outcome="dropped", **of)): 10,
                ("gateway_waiting_requests", labels(**of)): 11,
                ("gateway_waiting_refusals_total", labels(**of)): 12,
                ("gateway_concurrency_limit", labels(**of)): 13,
            },
        )

    def test_names_of_the_process_are_there(self) -> None:
        """Dashboards for Python processes work."""
        names = {name for name, _ in Scrape().samples()}
        expected = {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"}
        self.assertEqual(expected - names, set())

    def test_every_metric_is_documented(self) -> None:
        """docs/metrics.md has a row for each, and no others."""
        documented = set(
            re.findall(r"^\| `((?:gateway|proxy)_\w+)`", DOCUMENT.read_text(), re.MULTILINE)
        )
        text = Scrape(Service()).metrics.exposition(NOW).decode()
        families = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
        ours = {name for name in families if name.startswith(("gateway_", "proxy_"))}
        self.assertEqual(documented, ours)
