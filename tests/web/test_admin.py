"""The gateway's own pages, rendered as ordinary Resources."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families
from twisted.web.resource import getChildForRequest
from twisted.web.test.requesthelper import DummyRequest

from rtgateway.config import Admin
from rtgateway.web.admin import make_root
from rtgateway.web.admin.breakers import ACTIONS
from rtgateway.web.guard import Guard
from rtgateway.web.pages import Missing
from tests.observe.sockets import Socket
from tests.web.gateways import PageTestCase

DOCUMENT = Path(__file__).parents[2] / "docs" / "admin.md"


class PageTests(PageTestCase):
    """What is answered to whom asks for a path."""

    def test_liveness(self) -> None:
        """/healthz says one thing, byte for byte, whatever the load."""
        self.gateway.overload()
        self.gateway.site.draining = True
        self.assertEqual(self.ask("/healthz").body, b'{"ok":true}')

    def test_pressure(self) -> None:
        """/_pressure is 200 until a limit is passed; then it says why and when to come back."""
        self.assertEqual(self.ask("/_pressure").body, b'{"status":"ok"}')
        self.gateway.overload()
        document = self.json("/_pressure", 503)
        self.assertEqual((document["statusCode"], document["code"]), (503, "FST_UNDER_PRESSURE"))
        self.assertEqual(document["reason"], "event loop delay 2.50 s, at most 1 s allowed")
        self.assertEqual(self.ask("/_pressure").headers["retry-after"], "10")

    def test_metrics(self) -> None:
        """/metrics is text that Prometheus reads."""
        shown = self.ask("/metrics")
        self.assertEqual(shown.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(shown.body.decode())
            for sample in family.samples
        }
        self.assertEqual((values["gateway_connections"], values["gateway_info"]), (3, 1))
        self.assertEqual(values["proxy_instances_available"], 2)

    def test_stats(self) -> None:
        """/admin/stats has the keys that dashboards of the Real-Time API Gateway need."""
        self.gateway.statistics.window("users", "http://a:3001").record(False, monotonic())
        self.gateway.sockets.add(Socket())
        document = self.json("/admin/stats")
        self.assertEqual((document["uptimeSeconds"], document["env"]), (60, "test"))
        self.assertEqual(document["connections"], {"http": 2, "sse": 1, "ws": 1})
        users = document["services"]["users"]
        self.assertEqual((users["upstreams"], users["healthy"]), (2, 2))
        self.assertEqual([each["requestsTotal"] for each in users["upstreamDetails"]], [1, 0])

    def test_head_is_get_without_a_body(self) -> None:
        """Every page answers HEAD with the same head."""
        for path in sorted(label.decode() for label in self.labels):
            got = self.ask(path)
            if got.status == 405:
                continue
            asked = self.ask(path, "HEAD")
            self.assertEqual((asked.status, asked.body), (got.status, b""))
            self.assertEqual(set(asked.headers), set(got.headers))

    def test_other_methods_are_not_allowed(self) -> None:
        """405 in JSON, naming what is."""
        for method in ("POST", "DELETE", "OPTIONS"):
            self.assertEqual(self.refused("/metrics", 405, method), "method_not_allowed")
        allowed = {
            "/metrics": "GET, HEAD",
            "/gateway/circuit-breakers/reset": "POST",
            "/gateway/circuit-breakers/users/disable": "POST",
            "/gateway/services/users/instances": "DELETE, PATCH, POST",
            "/gateway/services/users/drain": "POST",
            "/gateway/websockets": "DELETE, GET, HEAD",
            "/gateway/rate-limits/reset": "POST",
            "/gateway/ip-lists": "GET, HEAD",
            "/gateway/ip-lists/deny": "DELETE, GET, HEAD, POST",
            "/gateway/bans": "DELETE, GET, HEAD, POST",
            "/ws/health": "GET, HEAD",
        }
        for path, methods in allowed.items():
            self.assertEqual(self.ask(path, "PUT").headers["allow"], methods)

    def test_nothing_is_below_or_beside_the_pages(self) -> None:
        """Longer paths, trailing slashes and empty segments name nothing."""
        for path in (
            "/",
            "/healthz/",
            "/healthz/x",
            "/health/services/x",
            "/admin",
            "/admin/",
            "/admin/stats/x",
            "/gateway",
            "/gateway/",
            "/gateway/x",
            "/gateway/stats/",
            "/gateway/services/",
            "/gateway/services/users/",
            "/gateway/services/users/instances/x",
            "/gateway/circuit-breakers/",
            "/gateway/circuit-breakers/users/x",
            "/gateway/websockets/",
            "/gateway/rate-limits/",
            "/gateway/rate-limits/reset/",
            "/gateway/rate-limits/reset/x",
            "/gateway/bans/",
            "/gateway/bans/x",
            "/gateway/ip-lists/",
            "/gateway/ip-lists/other",
            "/gateway/ip-lists/deny/x",
            "/ws",
            "/ws/",
            "/ws/health/",
            "/ws/health/x",
        ):
            request = cast("Any", DummyRequest(path.encode().split(b"/")[1:]))
            self.assertIsInstance(getChildForRequest(self.root, request), Missing, path)

    def test_every_page_has_a_label(self) -> None:
        """Their paths, and no others, may be named in metrics; each of them is there."""
        for label in self.labels:
            request = cast("Any", DummyRequest(label.split(b"/")[1:]))
            self.assertNotIsInstance(getChildForRequest(self.root, request), Missing)
        pages = {"/healthz", "/readyz", "/health", "/health/services", "/_pressure", "/metrics"}
        pages |= {"/ws/health", "/gateway/websockets", "/gateway/bans", "/gateway/ip-lists"}
        pages |= {"/gateway/ip-lists/allow", "/gateway/ip-lists/deny"}
        pages |= {"/gateway/rate-limits", "/gateway/rate-limits/reset"}
        admin = {"/admin/stats", "/gateway/stats", "/gateway/circuit-breakers", "/gateway/services"}
        self.assertEqual({each.encode() for each in pages | admin} - self.labels, set())
        self.gateway.services.clear()
        _, labels = make_root(self.gateway, Guard(Admin(), None))
        self.assertEqual(len(labels), 21)

    def test_every_page_is_documented(self) -> None:
        """docs/admin.md tells of each, with what can be done there."""
        text = DOCUMENT.read_text()
        for label in self.labels:
            path = label.decode().replace("users", "<service>")
            if path != "/metrics" and not path.endswith(tuple(each.decode() for each in ACTIONS)):
                self.assertIn(path.replace("/undrain", "/drain"), text)
        for action in ACTIONS:
            self.assertIn(f"| `{action.decode()}` |", text)

    def test_pages_refuse_nothing_silently(self) -> None:
        """A name that no service has is a 404 in JSON, on every path below it."""
        for path in ("/gateway/services/nobody", "/gateway/circuit-breakers/nobody"):
            self.assertEqual(self.refused(path, 404, "GET"), "unknown_service")
            self.assertEqual(self.refused(path + "/reset", 404), "unknown_service")
            self.assertEqual(self.refused(path + "/instances", 404, "DELETE"), "unknown_service")
