"""The document of ``/admin/stats``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe.dashboard import stats_document
from rtgateway.observe.statistics import Statistics
from tests.observe.services import Check, Instance, Service

A = "http://a:3001"


class StatsDocumentTests(SynchronousTestCase):
    """The schema that dashboards of the Real-Time API Gateway read."""

    def test_the_whole_document(self) -> None:
        """Every key is there, with its unit."""
        a = Instance("users", A, 5, 1, latency=0.0125, last_latency=0.02, sockets=2)
        b = Instance("users", "http://b:3001")
        statistics = Statistics()
        for _ in range(19):
            statistics.window("users", A).record(False, 105.0)
        statistics.window("users", A).record(True, 105.0)
        document = stats_document(
            [Service("users", (a, b))],
            statistics,
            connections=4,
            sockets=2,
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
                "connections": {"http": 3, "sse": 1, "ws": 2},
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
                "available": True,
                "reason": "",
                "circuit": "closed",
                "circuitOpenUntilMs": None,
                "inflight": {"http": 2, "sse": 1, "ws": 2},
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
            sockets=0,
            environment="test",
            uptime=0.0,
            now=0.0,
            wall_clock=0.0,
        )
        self.assertIsNone(document["services"]["users"]["avgLatencyMs"])
        self.assertEqual(document["connections"], {"http": 0, "sse": 0, "ws": 0})

    def test_instances_out_of_use(self) -> None:
        """A dashboard sees who is not healthy, why, and until when a circuit is open."""
        opened = Instance(label="http://opened")
        for _ in range(5):
            opened.breaker.record(opened.breaker.acquire(90.0), 90.0, 0.1, True)
        forced = Instance(label="http://forced")
        forced.breaker.force_open(90.0)
        down = Instance(label="http://down", health=Check().fails(1.0))
        busy = Instance(label="http://busy", inflight=1, limit=1)
        document = stats_document(
            [Service(instances=(opened, forced, down, busy))],
            Statistics(),
            connections=0,
            sockets=0,
            environment="test",
            uptime=0.0,
            now=100.0,
            wall_clock=5000.0,
        )
        users = document["services"]["users"]
        self.assertEqual((users["upstreams"], users["healthy"]), (4, 1))
        told = [
            (each["healthy"], each["available"], each["circuit"], each["circuitOpenUntilMs"])
            for each in users["upstreamDetails"]
        ]
        self.assertEqual(
            told,
            [
                # Open for 30 s since 10 s ago.
                (False, False, "open", 5_020_000),
                (False, False, "forced_open", None),
                (False, False, "closed", None),
                (True, False, "closed", None),
            ],
        )
        reasons = [each["reason"] for each in users["upstreamDetails"]]
        self.assertEqual(reasons, ["circuit open", "circuit open", "health check failing", ""])
