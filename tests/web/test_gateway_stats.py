"""``/gateway/stats``, and what it tells of the machine."""

from __future__ import annotations

from time import monotonic
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import AccessLog as AccessLogSettings
from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.telemetry import Telemetry
from rtgateway.web.admin.system import Busy, Machine, System
from tests.observe.exchanges import Exchange
from tests.observe.limits import Store
from tests.observe.services import Check
from tests.web.gateways import PageTestCase


class GatewayStatsTests(PageTestCase):
    """The document."""

    def serve(self, count: int, seconds: float = 0.02, **values: object) -> None:
        """Have ``count`` requests end now."""
        telemetry = Telemetry(self.gateway.outcomes, AccessLog(AccessLogSettings(format="off")))
        users = self.gateway.users
        now = monotonic()
        for _ in range(count):
            exchange = Exchange(service=users, chosen=users.instances[0])
            exchange.started, exchange.finished = now - seconds, now
            for name, value in values.items():
                setattr(exchange, name, value)
            telemetry.finished(exchange)

    def test_services(self) -> None:
        """Counts, times, and when a request last failed and last did not."""
        self.serve(19)
        self.serve(1, 0.2, status=500)
        document = self.json("/gateway/stats")
        users = document["services"]["users"]
        for key in ("last_error", "last_success"):
            self.assertTrue(users.pop(key).endswith("Z"))
        self.assertEqual(
            users,
            {
                "request_count": 20,
                "error_count": 1,
                "success_count": 19,
                "average_response_time": 0.029,
                "p95_response_time": 0.025,
                "error_rate": 0.05,
            },
        )
        self.assertTrue(document["timestamp"].endswith("Z"))

    def test_a_service_nobody_asked_yet(self) -> None:
        """Times are unknown, not zero."""
        users = self.json("/gateway/stats")["services"]["users"]
        self.assertEqual((users["request_count"], users["error_rate"]), (0, 0.0))
        for key in ("average_response_time", "p95_response_time", "last_error", "last_success"):
            self.assertIsNone(users[key])

    def test_top_endpoints(self) -> None:
        """The ten routes with most requests, pages among them; no paths of clients."""
        for number in range(12):
            self.serve(number + 1, label=f"r{number}")
        endpoints = self.json("/gateway/stats")["top_endpoints"]
        self.assertEqual([each["endpoint"] for each in endpoints][:2], ["r11", "r10"])
        self.assertEqual(len(endpoints), 10)
        self.assertEqual(
            endpoints[0],
            {"endpoint": "r11", "request_count": 12, "average_response_time": 0.02},
        )

    def test_rate_limits(self) -> None:
        """What became of requests, by outcome over all limiters, and how many are banned."""
        limits = self.gateway.limits
        limits.decisions = {
            ("a", "ip", "admitted"): 5,
            ("b", "identity", "admitted"): 2,
            ("b", "identity", "refused"): 1,
        }
        limits.exceeded, limits.denied = {("users", "user"): 1, ("mail", "anonymous"): 2}, 4
        self.gateway.bans.ban("ip:192.0.2.1", 60.0, "x")
        self.assertEqual(
            self.json("/gateway/stats")["rate_limits"],
            {
                "mode": "memory",
                "degraded": False,
                "gateways": 1,
                "decisions": {"admitted": 7, "refused": 1},
                "exceeded": 3,
                "ip_denied": 4,
                "bans": 1,
            },
        )

    def test_a_store_that_does_not_answer(self) -> None:
        """Is worth an alert, with for how long."""
        self.gateway.store = Store()
        self.assertNotIn("store_down", self.alerts())
        self.gateway.store = Store(up=False, failing_since=monotonic() - 60.0)
        self.assertEqual(self.alerts()["store_down"], "warning")
        alerts = self.json("/gateway/stats")["alerts"]
        (value,) = (each["value"] for each in alerts if each["type"] == "store_down")
        self.assertTrue(60.0 <= value < 70.0)

    def alerts(self) -> dict[str, str]:
        """Type and severity of the alerts about the gateway; the machine has its own."""
        document = self.json("/gateway/stats")
        for alert in document["alerts"]:
            self.assertEqual(set(alert), {"type", "severity", "message", "value"})
        return {
            each["type"]: each["severity"]
            for each in document["alerts"]
            if each["type"] not in ("high_cpu_usage", "high_memory_usage", "high_disk_usage")
        }

    def test_alerts(self) -> None:
        """Only while something is wrong, with how bad it is."""
        self.serve(20)
        self.assertEqual(self.alerts(), {})
        self.serve(10, status=503)
        self.gateway.users.instances[0].draining = False
        self.gateway.users.instances[0].breaker.force_open(monotonic())
        self.gateway.dependencies["db"] = Check().fails(1.0)
        self.gateway.overload()
        self.assertEqual(
            self.alerts(),
            {
                "pressure": "critical",
                "service_degraded": "warning",
                "high_error_rate": "warning",
                "dependency_down": "warning",
            },
        )
        self.gateway.users.instances = ()
        self.assertEqual(self.alerts()["service_unavailable"], "critical")

    def test_the_machine(self) -> None:
        """Shares in percent, as far as this machine tells them."""
        system = self.json("/gateway/stats")["system"]
        self.assertEqual(
            set(system),
            {
                "cpu_usage",
                "cpu_average",
                "memory_usage",
                "memory_average",
                "disk_usage",
                "network",
                "process_memory",
            },
        )
        for key in ("memory_usage", "memory_average", "disk_usage"):
            self.assertTrue(system[key] is None or 0 <= system[key] <= 100, system)


class _Script:
    """A machine that does what it is told."""

    ticks: Any = (0, 0)
    share: float | None = 25.0

    def processor(self) -> Any:
        return Busy(*self.ticks) if self.ticks else None

    def memory(self) -> float | None:
        return self.share

    def disk(self) -> float | None:
        return 50.0

    def network(self) -> dict[str, int]:
        return {}


class SystemTests(SynchronousTestCase):
    """Use of the processor is measured between two looks, and nobody waits."""

    def setUp(self) -> None:
        self.now = 0.0
        self.machine = _Script()
        self.system = System(cast("Machine", self.machine), clock=lambda: self.now)

    def told(self, now: float, *ticks: int) -> tuple[float | None, float | None]:
        self.now, self.machine.ticks = now, ticks
        document = self.system.document()
        return document["cpu_usage"], document["cpu_average"]

    def test_a_rate_between_two_looks(self) -> None:
        """30 of 100 ticks, then 90 of 100: 30 %, 90 %, 60 % on average."""
        self.assertEqual(self.told(5.0, 30, 100), (30.0, 30.0))
        self.assertEqual(self.told(10.0, 120, 200), (90.0, 60.0))

    def test_asked_at_once_again(self) -> None:
        """Too little time for a rate: the last one is told."""
        self.assertEqual(self.told(5.0, 30, 100), (30.0, 30.0))
        self.assertEqual(self.told(5.5, 40, 110), (30.0, 30.0))
        self.assertEqual(self.told(6.5, 80, 200), (50.0, 40.0))

    def test_a_machine_that_tells_nothing(self) -> None:
        """Unknown is null, and no error."""
        self.machine.share = None
        self.assertEqual(self.told(5.0), (None, None))
        self.assertIsNone(self.system.document()["memory_usage"])

    def test_averages_are_bounded(self) -> None:
        """Of the last sixty looks."""
        for look in range(1, 200):
            self.told(look * 2.0, 0 if look < 140 else (look - 139) * 100, look * 100)
        self.assertEqual(self.told(400.0, 6100, 20000), (100.0, 100.0))
