"""The tree of all pages, and the paths that may be named in metrics."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from twisted.web.resource import Resource
from twisted.web.server import Request

from rtgateway.observe.metrics import CONTENT_TYPE, Metrics
from rtgateway.observe.pressure import Pressure
from rtgateway.web.admin.bans import BansPage
from rtgateway.web.admin.breakers import ACTIONS, BreakersPage
from rtgateway.web.admin.health import Health, liveness
from rtgateway.web.admin.ip_lists import LISTS, IpListsPage
from rtgateway.web.admin.page import Answer, Answering, Branch, Page, answer
from rtgateway.web.admin.rate_limits import RateLimitsPage
from rtgateway.web.admin.services import ServicesPage
from rtgateway.web.admin.stats import Stats
from rtgateway.web.admin.view import GatewayView
from rtgateway.web.admin.websockets import WebSocketsPage, websocket_health
from rtgateway.web.guard import Guard
from rtgateway.web.pages import Root

__all__ = ["make_root"]

_CHANGES = (b"instances", b"drain", b"undrain")


def make_root(gateway: GatewayView, guard: Guard) -> tuple[Resource, frozenset[bytes]]:
    """The root of the tree, and the paths in it that may be named in metrics.

    :param guard: says who may see more of a page that is open to all.
    """
    health = Health(gateway, guard.trusts)
    stats = Stats(gateway)
    health_page = Page(GET=health.everything)
    health_page.putChild(b"services", Page(GET=health.services))
    admin = Branch()
    admin.putChild(b"stats", Page(GET=stats.admin))
    administration = Branch()
    administration.putChild(b"stats", Page(GET=stats.gateway))
    administration.putChild(b"circuit-breakers", BreakersPage(gateway))
    administration.putChild(b"services", ServicesPage(gateway))
    administration.putChild(b"websockets", WebSocketsPage(gateway))
    administration.putChild(b"rate-limits", RateLimitsPage(gateway))
    administration.putChild(b"bans", BansPage(gateway))
    administration.putChild(b"ip-lists", IpListsPage(gateway))
    websockets = Branch()
    websockets.putChild(b"health", Page(GET=websocket_health(gateway)))
    root = Root()
    pages: dict[bytes, Resource] = {
        b"healthz": Page(GET=liveness),
        b"readyz": Page(GET=health.readiness),
        b"health": health_page,
        b"ws": websockets,
        b"_pressure": Page(GET=_pressure(gateway.pressure)),
        b"metrics": Page(GET=_metrics(gateway.metrics)),
        b"admin": admin,
        b"gateway": administration,
    }
    for name, page in pages.items():
        root.putChild(name, page)
    return root, frozenset(_paths(gateway.services))


def _paths(services: Iterable[str]) -> Iterable[bytes]:
    """Every path of a page: as many as the configuration has services."""
    yield from (b"/healthz", b"/readyz", b"/health", b"/health/services", b"/_pressure")
    yield from (b"/metrics", b"/ws/health", b"/admin/stats", b"/gateway/stats")
    yield from (b"/gateway/websockets", b"/gateway/bans", b"/gateway/ip-lists")
    yield from (b"/gateway/ip-lists/%b" % which.encode("ascii") for which in LISTS)
    yield from (b"/gateway/rate-limits", b"/gateway/rate-limits/reset")
    breakers, listed = b"/gateway/circuit-breakers", b"/gateway/services"
    yield from (breakers, listed)
    yield from (b"%b/%b" % (breakers, action) for action in ACTIONS)
    for name in (service.encode("ascii") for service in services):
        yield from (b"%b/%b" % (breakers, name), b"%b/%b" % (listed, name))
        yield from (b"%b/%b/%b" % (breakers, name, action) for action in ACTIONS)
        yield from (b"%b/%b/%b" % (listed, name, change) for change in _CHANGES)


def _pressure(pressure: Pressure) -> Answering:
    """``/_pressure``: 503 while the event loop is late or memory short."""

    def page(request: Request) -> Answer:
        reason = pressure.overloaded()
        if reason is None:
            return answer(200, {"status": "ok"})
        document = {
            "statusCode": 503,
            "code": "FST_UNDER_PRESSURE",
            "error": "Service Unavailable",
            "message": "Service Unavailable",
            "reason": reason,
        }
        return answer(503, document, (b"Retry-After", b"%d" % pressure.retry_after))

    return page


def _metrics(metrics: Metrics) -> Answering:
    """``/metrics``, for Prometheus."""

    def page(request: Request) -> Answer:
        return Answer(200, metrics.exposition(monotonic()), CONTENT_TYPE.encode("ascii"))

    return page
