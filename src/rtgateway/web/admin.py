"""The gateway's own pages: health, readiness, pressure, metrics, statistics.

Ordinary ``twisted.web`` Resources, rendered by ``web.pages``; who may see which is decided by
``web.guard`` before. JSON has the shapes of the Real-Time API Gateway where that has the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from time import monotonic, time
from typing import Any, Protocol

import orjson
from twisted.web.resource import Resource
from twisted.web.server import Request

from rtgateway import __version__
from rtgateway.config import Config
from rtgateway.observe.metrics import CONTENT_TYPE, Metrics
from rtgateway.observe.pressure import Pressure
from rtgateway.observe.statistics import Statistics, stats_document
from rtgateway.observe.views import ServiceView
from rtgateway.web.pages import Missing, Root

__all__ = ["GatewayView", "make_root"]

_JSON = b"application/json; charset=utf-8"


class _SiteView(Protocol):
    @property
    def channels(self) -> Sized: ...
    @property
    def draining(self) -> bool: ...


class GatewayView(Protocol):
    """What the pages look at. ``started_at``: monotonic seconds."""

    @property
    def config(self) -> Config: ...
    @property
    def services(self) -> Mapping[str, ServiceView]: ...
    @property
    def site(self) -> _SiteView: ...
    @property
    def started_at(self) -> float: ...
    @property
    def pressure(self) -> Pressure: ...
    @property
    def statistics(self) -> Statistics: ...
    @property
    def metrics(self) -> Metrics: ...


def make_root(gateway: GatewayView) -> tuple[Resource, frozenset[bytes]]:
    """The tree of all pages, and their paths (which may be named in metrics)."""
    root = Root()
    root.putChild(b"healthz", Liveness(gateway))
    root.putChild(b"readyz", Readiness(gateway))
    root.putChild(b"health", Health(gateway))
    root.putChild(b"_pressure", PressurePage(gateway))
    root.putChild(b"metrics", MetricsPage(gateway))
    admin = _Branch()
    admin.putChild(b"stats", StatsPage(gateway))
    root.putChild(b"admin", admin)
    own = {b"/" + name for name in root.children if name != b"admin"}
    return root, frozenset(own | {b"/admin/stats"})


class _Branch(Missing):
    """A path with pages below it and none of its own."""

    isLeaf = False

    def getChild(self, path: bytes, request: object) -> Resource:
        return Missing()


class _Page(Resource):
    """A page of the gateway; GET and HEAD."""

    content_type = _JSON

    def __init__(self, gateway: GatewayView) -> None:
        super().__init__()
        self.gateway = gateway

    def getChild(self, path: bytes, request: object) -> Resource:
        return Missing()

    def render(self, request: Request) -> bytes:
        if request.method in (b"GET", b"HEAD"):
            status, body = self.content(request)
        else:
            request.setHeader(b"allow", b"GET, HEAD")
            status, body = 405, _not_allowed()
        request.setResponseCode(status)
        request.setHeader(b"content-type", self.content_type if status != 405 else _JSON)
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"content-length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body

    def content(self, request: Request) -> tuple[int, bytes]:
        """Status and body."""
        raise NotImplementedError


class Liveness(_Page):
    """``/healthz``: the process runs and its event loop turns."""

    def content(self, request: Request) -> tuple[int, bytes]:
        return 200, orjson.dumps({"ok": True})


class Readiness(_Page):
    """``/readyz``: whether to send requests here; not while it shuts down."""

    def content(self, request: Request) -> tuple[int, bytes]:
        ok = not self.gateway.site.draining
        document = {"ok": ok, "upstreamServices": len(self.gateway.services)}
        return 200 if ok else 503, orjson.dumps(document)


class Health(_Page):
    """``/health``: one look at everything. Names services, but no addresses: it is open to all."""

    def content(self, request: Request) -> tuple[int, bytes]:
        gateway = self.gateway
        status = "draining" if gateway.site.draining else "ok"
        if gateway.pressure.overloaded():
            status = "overloaded"
        document = {
            "status": status,
            "version": __version__,
            "uptimeSeconds": int(monotonic() - gateway.started_at),
            "services": {name: _health(service) for name, service in gateway.services.items()},
        }
        return 200 if status == "ok" else 503, orjson.dumps(document)


class PressurePage(_Page):
    """``/_pressure``: 503 while the event loop is late or memory short."""

    def content(self, request: Request) -> tuple[int, bytes]:
        pressure = self.gateway.pressure
        reason = pressure.overloaded()
        if reason is None:
            return 200, orjson.dumps({"status": "ok"})
        request.setHeader(b"retry-after", b"%d" % pressure.retry_after)
        document = {
            "statusCode": 503,
            "code": "FST_UNDER_PRESSURE",
            "error": "Service Unavailable",
            "message": "Service Unavailable",
            "reason": reason,
        }
        return 503, orjson.dumps(document)


class MetricsPage(_Page):
    """``/metrics``, for Prometheus."""

    content_type = CONTENT_TYPE.encode("ascii")

    def content(self, request: Request) -> tuple[int, bytes]:
        return 200, self.gateway.metrics.exposition()


class StatsPage(_Page):
    """``/admin/stats``: what dashboards show."""

    def content(self, request: Request) -> tuple[int, bytes]:
        gateway = self.gateway
        now = monotonic()
        document = stats_document(
            gateway.services.values(),
            gateway.statistics,
            connections=len(gateway.site.channels),
            environment=gateway.config.environment,
            uptime=now - gateway.started_at,
            now=now,
            wall_clock=time(),
        )
        return 200, orjson.dumps(document)


def _health(service: ServiceView) -> dict[str, Any]:
    # Nothing takes an instance out of service yet: each is there to be asked.
    count = len(service.instances)
    return {
        "status": "ok" if count else "unavailable",
        "instances": {"total": count, "available": count},
        "inFlight": sum(instance.inflight for instance in service.instances),
    }


def _not_allowed() -> bytes:
    document = {"error": "method_not_allowed", "message": "This method is not allowed here"}
    return orjson.dumps(document)
