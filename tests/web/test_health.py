"""What the pages about health say, and to whom."""

from __future__ import annotations

from datetime import datetime
from time import monotonic, time

from rtgateway import __version__
from tests.observe.limits import Store
from tests.observe.services import Check, Instance, Service, Settings, a_breaker
from tests.web.gateways import Asking, PageTestCase


class HealthTests(PageTestCase):
    """``/health``."""

    def status(self, code: int = 200) -> str:
        return str(self.json("/health", code)["status"])

    def of_users(self) -> str:
        document = self.ask("/health").json
        return str(document["services"]["users"]["status"])

    def test_the_whole_document(self) -> None:
        """It names the services and how many instances there are, but not where."""
        self.assertEqual(
            self.json("/health"),
            {
                "status": "ok",
                "version": __version__,
                "uptimeSeconds": 60,
                "services": {
                    "users": {
                        "status": "ok",
                        "instances": {"total": 2, "available": 2},
                        "inFlight": 2,
                    }
                },
                "checks": {},
                "state": {"mode": "memory", "up": True, "gateways": 1},
            },
        )

    def test_a_store_that_does_not_answer(self) -> None:
        """The gateway goes on without it, and says since when; 200."""
        limits, now = self.gateway.limits, monotonic()
        limits.mode, limits.gateways, self.gateway.store = "redis", 8, Store()
        expected = {"mode": "redis", "up": True, "gateways": 8}
        self.assertEqual(self.json("/health")["state"], expected)
        self.gateway.store = Store(up=False, failing_since=now - 60.0)
        document = self.json("/health")
        since = datetime.fromisoformat(document["state"].pop("degraded_since")).timestamp()
        self.assertLess(abs(since - (time() - 60.0)), 5.0)
        self.assertEqual((document["status"], document["state"]["up"]), ("degraded", False))
        self.gateway.store = Store()
        limits.degraded, limits.degraded_since = True, now - 30.0
        document = self.json("/health")
        since = datetime.fromisoformat(document["state"]["degraded_since"]).timestamp()
        self.assertLess(abs(since - (time() - 30.0)), 5.0)
        self.assertEqual((document["status"], document["state"]["up"]), ("degraded", True))

    def test_draining_and_overload(self) -> None:
        """503, and which of the two it is."""
        self.gateway.site.draining = True
        self.assertEqual(self.status(503), "draining")
        self.gateway.overload()
        self.assertEqual(self.status(503), "overloaded")

    def test_dependencies(self) -> None:
        """Each check with its result, when it was made, how long it took."""
        self.gateway.dependencies.update(
            db=Check(settings=Settings(critical=True)).passes(1700000000.25, "connected"),
            search=Check().fails(1700000001.0, "status 500"),
            mail=Check(),
        )
        document = self.json("/health")
        self.assertEqual(document["status"], "degraded")
        self.assertEqual(
            document["checks"],
            {
                "db": {
                    "status": "healthy",
                    "last_check": "2023-11-14T22:13:20.250Z",
                    "duration": 0.25,
                    "details": "connected",
                    "critical": True,
                },
                "search": {
                    "status": "unhealthy",
                    "last_check": "2023-11-14T22:13:21.000Z",
                    "duration": 0.25,
                    "details": "status 500",
                    "critical": False,
                },
                "mail": {
                    "status": "unknown",
                    "last_check": None,
                    "duration": None,
                    "details": "",
                    "critical": False,
                },
            },
        )

    def test_details_of_checks_are_not_for_everybody(self) -> None:
        """They may name addresses, and the page is open to all."""
        self.gateway.dependencies["db"] = Check().fails(1.0, "10.0.0.5:5432: refused")
        self.asking = Asking("203.0.113.9")
        shown = self.ask("/health")
        self.assertNotIn(b"10.0.0.5", shown.body)
        self.assertIsNone(shown.json["checks"]["db"]["details"])
        self.assertEqual(shown.json["checks"]["db"]["status"], "unhealthy")

    def test_a_critical_dependency_that_is_down(self) -> None:
        """503: the gateway is up, and of no use."""
        self.gateway.dependencies["db"] = Check(settings=Settings(critical=True)).fails(1.0)
        self.assertEqual(self.status(503), "unavailable")

    def test_some_instances_missing(self) -> None:
        """Degraded, but served: 200."""
        self.gateway.users.instances[0].breaker.force_open(monotonic())
        self.assertEqual((self.status(), self.of_users()), ("degraded", "degraded"))
        document = self.json("/health")["services"]["users"]
        self.assertEqual(document["instances"], {"total": 2, "available": 1})
        self.gateway.users.panicking = True
        self.assertEqual((self.status(), self.of_users()), ("degraded", "panic"))

    def test_instances_taken_out_of_use_are_not_missing(self) -> None:
        """Whoever drains an instance, or gives it weight 0, wants no alarm."""
        first, second = self.gateway.users.instances
        first.draining = True
        self.assertEqual(self.status(), "ok")
        second.nominal = 0
        self.assertEqual((self.status(), self.of_users()), ("degraded", "unavailable"))

    def test_busy_instances_are_not_missing(self) -> None:
        """A service at its limit is in use, not ill."""
        for each in self.gateway.users.instances:
            each.inflight = each.limit = 1
        self.assertEqual(self.status(), "ok")

    def test_nobody_left(self) -> None:
        """503 if the service is critical; otherwise the others still are of use."""
        self.gateway.users.instances = ()
        self.assertEqual((self.status(), self.of_users()), ("degraded", "unavailable"))
        self.gateway.users.settings.critical = True
        self.assertEqual((self.status(503), self.of_users()), ("unavailable", "unavailable"))

    def test_the_breaker_of_a_service(self) -> None:
        """While it is open nobody gets through; once its time is over, somebody may."""
        breaker = self.gateway.users.breaker = a_breaker()
        opened = monotonic()
        for _ in range(5):
            breaker.record(breaker.acquire(opened), opened, 0.1, True)
        self.assertEqual(self.of_users(), "unavailable")
        breaker.reset(opened)
        long_ago = opened - 60
        for _ in range(5):
            breaker.record(breaker.acquire(long_ago), long_ago, 0.1, True)
        self.assertEqual(self.of_users(), "ok")

    def test_removed_instances_still_count_in_flight(self) -> None:
        """Until their last request is over."""
        self.gateway.users.leaving = (Instance(inflight=3),)
        self.assertEqual(self.json("/health")["services"]["users"]["inFlight"], 5)


class ServiceHealthTests(PageTestCase):
    """``/health/services``."""

    def test_whoever_may_see_admin_pages_sees_instances(self) -> None:
        """By id, with the reason why one is not available."""
        first, second = self.gateway.users.instances
        first.health = Check().fails(1.0)
        second.breaker.disable(0.0)
        document = self.json("/health/services")["services"]["users"]
        self.assertEqual(
            document,
            {
                "status": "degraded",
                "critical": False,
                "instances": {"total": 2, "available": 1},
                "details": {
                    "a:3001": {
                        "available": False,
                        "reason": "health check failing",
                        "health": "unhealthy",
                        "circuit": "closed",
                    },
                    "b:80": {
                        "available": True,
                        "reason": "",
                        "health": "unknown",
                        "circuit": "disabled",
                    },
                },
            },
        )

    def test_others_see_how_many(self) -> None:
        """No addresses, no reasons: the page is open to all."""
        self.gateway.users.instances[0].health = Check().fails(1.0)
        for stranger in (None, Asking("203.0.113.9"), Asking(host=b"evil.example")):
            self.asking = stranger
            shown = self.ask("/health/services")
            self.assertNotIn(b"3001", shown.body)
            self.assertEqual(
                shown.json["services"]["users"],
                {
                    "status": "degraded",
                    "critical": False,
                    "instances": {"total": 2, "available": 1},
                    "health": {"unhealthy": 1, "unknown": 1},
                    "circuits": {"closed": 2},
                },
            )


class ReadinessTests(PageTestCase):
    """``/readyz``."""

    def test_ready(self) -> None:
        """Byte for byte what orchestrators have always got."""
        self.assertEqual(self.ask("/readyz").body, b'{"ok":true,"upstreamServices":1}')

    def test_draining(self) -> None:
        """Traffic goes elsewhere while the gateway shuts down."""
        self.gateway.site.draining = True
        self.assertEqual(
            self.json("/readyz", 503),
            {"ok": False, "upstreamServices": 1, "reasons": ["draining"]},
        )

    def test_what_is_critical(self) -> None:
        """Only that decides; the answer says which."""
        self.gateway.services["mail"] = Service("mail")
        self.gateway.dependencies["search"] = Check().fails(1.0)
        self.assertEqual(self.json("/readyz")["ok"], True)
        self.gateway.services["mail"].settings.critical = True
        self.gateway.dependencies["db"] = Check(settings=Settings(critical=True)).fails(1.0)
        self.assertEqual(
            self.json("/readyz", 503)["reasons"],
            ["service mail is unavailable", "dependency db is down"],
        )
