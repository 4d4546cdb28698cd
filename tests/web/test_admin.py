"""The gateway's own pages, rendered as ordinary Resources."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import getChildForRequest
from twisted.web.test.requesthelper import DummyRequest

from rtgateway import __version__
from rtgateway.config import Config
from rtgateway.config import Pressure as PressureSettings
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.pressure import Pressure
from rtgateway.observe.statistics import Statistics
from rtgateway.web.admin import make_root
from rtgateway.web.pages import Missing
from tests.observe.exchanges import Instance, Service


@dataclass
class Site:
    """Connections, counted."""

    channels: tuple[str, ...] = ("one", "two", "three")
    draining: bool = False


def _metrics() -> Metrics:
    return Metrics(
        version=__version__,
        instances=lambda: (),
        connections=lambda: 3,
        event_loop_delay=lambda: 0.0,
        dropped_lines=lambda: 0,
    )


@dataclass
class Gateway:
    """A gateway in front of one service with two instances, up for a minute."""

    config: Config = field(default_factory=lambda: Config(environment="test"))
    services: dict[str, Service] = field(
        default_factory=lambda: {
            "users": Service("users", (Instance(inflight=2, streams=1), Instance(label="http://b")))
        }
    )
    site: Site = field(default_factory=Site)
    started_at: float = field(default_factory=lambda: monotonic() - 60.5)
    pressure: Pressure = field(default_factory=lambda: Pressure(PressureSettings()))
    statistics: Statistics = field(default_factory=Statistics)
    metrics: Metrics = field(default_factory=_metrics)

    def overload(self) -> None:
        self.pressure.sample(100.0)
        self.pressure.sample(103.0)


class PageTests(SynchronousTestCase):
    """What is answered to whom asks for a path."""

    def setUp(self) -> None:
        self.gateway = Gateway()
        self.root, self.labels = make_root(self.gateway)

    def ask(self, path: str, method: bytes = b"GET") -> DummyRequest:
        segments = path.encode().split(b"/")[1:]
        request = cast("Any", DummyRequest(segments))
        request.method = method
        request.render(getChildForRequest(self.root, request))
        return cast("DummyRequest", request)

    def header(self, request: DummyRequest, name: str) -> str | None:
        values = request.responseHeaders.getRawHeaders(name)
        return None if values is None else ", ".join(values)

    def json(self, path: str, status: int = 200) -> Any:
        """The document at ``path``; its framing and type are as they must be."""
        request = self.ask(path)
        body = b"".join(request.written)
        self.assertEqual(cast("Any", request).responseCode, status)
        self.assertEqual(self.header(request, "content-type"), "application/json; charset=utf-8")
        self.assertEqual(self.header(request, "content-length"), str(len(body)))
        self.assertEqual(self.header(request, "cache-control"), "no-store")
        self.assertFalse(body.endswith(b"\n"))
        return json.loads(body)

    def test_liveness(self) -> None:
        """/healthz says one thing, byte for byte, whatever the load."""
        self.gateway.overload()
        self.gateway.site.draining = True
        self.assertEqual(b"".join(self.ask("/healthz").written), b'{"ok":true}')
        self.assertEqual(self.json("/healthz"), {"ok": True})

    def test_readiness(self) -> None:
        """/readyz sends traffic elsewhere while the gateway shuts down."""
        request = self.ask("/readyz")
        self.assertEqual(b"".join(request.written), b'{"ok":true,"upstreamServices":1}')
        self.gateway.site.draining = True
        self.assertEqual(self.json("/readyz", 503), {"ok": False, "upstreamServices": 1})

    def test_health(self) -> None:
        """/health names the services and how many instances there are, but not where."""
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
            },
        )
        self.gateway.site.draining = True
        self.assertEqual(self.json("/health", 503)["status"], "draining")
        self.gateway.overload()
        self.assertEqual(self.json("/health", 503)["status"], "overloaded")

    def test_pressure(self) -> None:
        """/_pressure is 200 until a limit is passed; then it says why and when to come back."""
        self.assertEqual(b"".join(self.ask("/_pressure").written), b'{"status":"ok"}')
        self.gateway.overload()
        document = self.json("/_pressure", 503)
        self.assertEqual((document["statusCode"], document["code"]), (503, "FST_UNDER_PRESSURE"))
        self.assertEqual(document["reason"], "event loop delay 2.50 s, at most 1 s allowed")
        self.assertEqual(self.header(self.ask("/_pressure"), "retry-after"), "10")

    def test_metrics(self) -> None:
        """/metrics is text that Prometheus reads."""
        request = self.ask("/metrics")
        self.assertEqual(
            self.header(request, "content-type"), "text/plain; version=0.0.4; charset=utf-8"
        )
        text = b"".join(request.written).decode()
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        self.assertEqual((values["gateway_connections"], values["gateway_info"]), (3, 1))

    def test_stats(self) -> None:
        """/admin/stats has the keys that dashboards of the Real-Time API Gateway need."""
        self.gateway.statistics.record("users", "http://a:3001", False, monotonic())
        document = self.json("/admin/stats")
        self.assertEqual((document["uptimeSeconds"], document["env"]), (60, "test"))
        self.assertEqual(document["connections"], {"http": 2, "sse": 1, "ws": 0})
        users = document["services"]["users"]
        self.assertEqual((users["upstreams"], users["healthy"]), (2, 2))
        self.assertEqual([each["requestsTotal"] for each in users["upstreamDetails"]], [1, 0])

    def test_head_is_get_without_a_body(self) -> None:
        """Every page answers HEAD with the same head."""
        for path in ("/healthz", "/readyz", "/health", "/_pressure", "/admin/stats"):
            got, asked = self.ask(path), self.ask(path, b"HEAD")
            self.assertEqual(b"".join(asked.written), b"")
            self.assertEqual(self.header(asked, "content-type"), self.header(got, "content-type"))
            self.assertEqual(
                self.header(asked, "content-length"), self.header(got, "content-length")
            )

    def test_other_methods_are_not_allowed(self) -> None:
        """405 in JSON, naming what is."""
        for method in (b"POST", b"DELETE", b"OPTIONS"):
            request = self.ask("/metrics", method)
            self.assertEqual(cast("Any", request).responseCode, 405)
            self.assertEqual(self.header(request, "allow"), "GET, HEAD")
            self.assertEqual(
                self.header(request, "content-type"), "application/json; charset=utf-8"
            )
            error = json.loads(b"".join(request.written))["error"]
            self.assertEqual(error, "method_not_allowed")

    def test_nothing_is_below_or_beside_the_pages(self) -> None:
        """Longer paths, trailing slashes and empty segments name nothing."""
        for path in ("/", "/healthz/", "/healthz/x", "/admin", "/admin/", "/admin/stats/x"):
            request = cast("Any", DummyRequest(path.encode().split(b"/")[1:]))
            self.assertIsInstance(getChildForRequest(self.root, request), Missing, path)

    def test_every_page_has_a_label(self) -> None:
        """Their paths, and no others, may be named in metrics."""
        pages = {b"/healthz", b"/readyz", b"/health", b"/_pressure", b"/metrics", b"/admin/stats"}
        self.assertEqual(self.labels, pages)
