"""A gateway to look at, and to ask for pages: no connection, no listener."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import parse_qs
from twisted.web.resource import getChildForRequest
from twisted.web.test.requesthelper import DummyRequest

from rtgateway import __version__
from rtgateway.config import Admin, Config
from rtgateway.config import Pressure as PressureSettings
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.outcomes import Outcomes
from rtgateway.observe.pressure import Pressure
from rtgateway.observe.statistics import Statistics
from rtgateway.web.admin import make_root
from rtgateway.web.guard import Guard
from tests.observe.exchanges import Identity
from tests.observe.limits import Bans, IpLists, Limits, Store
from tests.observe.services import Check, Instance, Service
from tests.observe.sockets import Sockets

if TYPE_CHECKING:
    from rtgateway.service import Gateway as RealGateway
    from rtgateway.web.admin import GatewayView

    def shapes_fit(gateway: RealGateway, double: Gateway) -> tuple[GatewayView, GatewayView]:
        """Checked by mypy: the gateway has the shape that pages look at, and so has this one."""
        return gateway, double


@dataclass
class Site:
    """Connections, counted."""

    channels: tuple[str, ...] = ("one", "two", "three")
    draining: bool = False


def two_instances() -> dict[str, Service]:
    """One service, a request and a stream in flight."""
    instances = (Instance(inflight=2, streams=1), Instance(label="http://b:80"))
    return {"users": Service("users", instances)}


class Gateway:
    """A gateway in front of one service with two instances, up for a minute."""

    def __init__(self) -> None:
        self.config = Config(environment="test")
        self.services = two_instances()
        self.sockets = Sockets()
        self.limits = Limits()
        self.bans = Bans()
        self.ip_lists = IpLists()
        self.store: Store | None = None
        self.reactor = Clock()
        self.dependencies: dict[str, Check] = {}
        self.site = Site()
        self.started_at = monotonic() - 60.5
        self.pressure = Pressure(PressureSettings())
        self.statistics = Statistics()
        self.outcomes = Outcomes(self.services.values, self.statistics)
        self.metrics = Metrics(
            version=__version__,
            outcomes=self.outcomes,
            services=self.services.values,
            sockets=self.sockets,
            connections=lambda: 3,
            event_loop_delay=lambda: 0.0,
            dropped_lines=lambda: 0,
            state=self,
        )

    @property
    def users(self) -> Service:
        return self.services["users"]

    def overload(self) -> None:
        self.pressure.sample(100.0)
        self.pressure.sample(103.0)


@dataclass
class Asking:
    """Who asks for a page, as far as a page or the guard wants to know."""

    client_ip: str = "127.0.0.1"
    host: bytes = b"localhost"
    path: bytes = b"/"
    method: bytes = b"GET"
    headers: tuple[tuple[bytes, bytes, bytes], ...] = ()
    identity: Identity | None = None
    label: str = "unmatched"


@dataclass
class Shown:
    """An answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class PageTestCase(SynchronousTestCase):
    """Asks for pages of ``gateway``; every answer has the framing and type that it must."""

    def setUp(self) -> None:
        self.gateway = Gateway()
        self.asking: Asking | None = Asking()
        self.root, self.labels = make_root(self.gateway, Guard(Admin(), None))

    def ask(
        self, path: str, method: str = "GET", body: object = None, kind: str = "application/json"
    ) -> Shown:
        return self.shown(self.start(path, method, body, kind))

    def start(
        self, path: str, method: str = "GET", body: object = None, kind: str = "application/json"
    ) -> Any:
        """Ask without waiting for the answer."""
        path, _, query = path.partition("?")
        request = cast("Any", DummyRequest(path.encode().split(b"/")[1:]))
        request.method = method.encode()
        request.exchange = self.asking
        if query:
            request.uri = f"{path}?{query}".encode()
            request.args = parse_qs(query.encode(), keep_blank_values=True)
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.content = BytesIO(content)
            if kind:
                request.requestHeaders.setRawHeaders("content-type", [kind])
        request.render(getChildForRequest(self.root, request))
        return request

    def shown(self, request: Any) -> Shown:
        """The answer that was given."""
        self.assertEqual(request.finished, 1)
        headers = {
            name.decode().lower(): b", ".join(values).decode()
            for name, values in request.responseHeaders.getAllRawHeaders()
        }
        shown = Shown(request.responseCode, b"".join(request.written), headers)
        if request.method != b"HEAD":
            self.assertEqual(headers["content-length"], str(len(shown.body)))
        self.assertEqual(headers["cache-control"], "no-store")
        return shown

    def json(self, path: str, status: int = 200, method: str = "GET", body: object = None) -> Any:
        """The document that is answered."""
        shown = self.ask(path, method, body)
        self.assertEqual(shown.status, status, shown.body)
        self.assertEqual(shown.headers["content-type"], "application/json; charset=utf-8")
        return shown.json

    def refused(self, path: str, status: int, method: str = "POST", body: object = None) -> str:
        """The code of the error that is answered."""
        document = self.json(path, status, method, body)
        self.assertEqual(set(document), {"error", "message"})
        return str(document["error"])
