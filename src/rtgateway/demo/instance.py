"""One demo instance: an ordinary ``twisted.web`` site that any service of the demo can run.

`make_site` is all that `rtgateway.demo.launch` needs. Every instance has the same paths (``PATHS``)
and names itself in the ``X-Instance`` field of each answer, so that balancing can be seen, and
can be broken for a while (`rtgateway.demo.outage`) to see what the gateway does about it.
"""

from __future__ import annotations

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from rtgateway.demo.outage import Order, Outage
from rtgateway.demo.pages import Collection, Page, Root, Slow, describe
from rtgateway.demo.ticker import Events, Ticker

__all__ = ["PATHS", "make_site"]

PATHS = (
    "/health",
    "/ok",
    "/users",
    "/users/<id>",
    "/products",
    "/products/<id>",
    "/slow",
    "/fail",
    "/echo",
    "/events",
    "/ws",
    "/break",
    "/mend",
)
MESSAGE_BYTES = 64 * 1024

USERS = (
    {"id": 1, "name": "Ada", "email": "ada@example.com"},
    {"id": 2, "name": "Grace", "email": "grace@example.com"},
    {"id": 3, "name": "Edsger", "email": "edsger@example.com"},
)
PRODUCTS = (
    {"id": 1, "name": "Lamp", "price": "24.90", "currency": "EUR"},
    {"id": 2, "name": "Chair", "price": "119.00", "currency": "EUR"},
    {"id": 3, "name": "Kettle", "price": "39.50", "currency": "EUR"},
)


def make_site(name: str, reactor: IReactorTime) -> Site:
    """The site of the instance `name` (``users-1``), ready for ``listenTCP``."""
    root = Root()
    outage = Outage(name, reactor)
    for path, page in {
        b"": Page(lambda request: {"instance": name, "paths": PATHS}),
        b"health": Page(lambda request: {"status": "ok", "instance": name}),
        b"ok": Page(lambda request: {"ok": True}),
        b"fail": Page(lambda request: {"error": "it_failed", "instance": name}, status=500),
        b"echo": Page(describe),
        b"users": Collection(USERS),
        b"products": Collection(PRODUCTS),
        b"slow": Slow(name, reactor),
        b"events": Events(Ticker(name, reactor)),
        b"ws": WebSocketResource(echo_factory(name, reactor)),
        b"break": Order(outage.begin),
        b"mend": Order(outage.end),
    }.items():
        root.putChild(path, page)
    return DemoSite(name, root, outage, reactor)


class DemoSite(Site):
    """A site that puts its name on every answer. It keeps no log, for the gateway has one.

    While it is broken, the outage answers instead of the pages; orders get through all the same.
    """

    displayTracebacks = False
    noisy = False

    def __init__(self, name: str, root: Resource, outage: Outage, reactor: IReactorTime) -> None:
        super().__init__(root, reactor=reactor)
        self.instance = name.encode("ascii")
        self.outage = outage

    def __repr__(self) -> str:
        return f"<DemoSite {self.instance.decode('ascii')}>"

    def getResourceFor(self, request: Request) -> IResource:
        request.setHeader(b"x-instance", self.instance)
        found: IResource = super().getResourceFor(request)
        return self.outage if self.outage.lasts and not isinstance(found, Order) else found

    def log(self, request: object) -> None:
        pass


def echo_factory(name: str, reactor: IReactorTime) -> WebSocketServerFactory:
    """WebSocket connections on which every message comes back as it was."""

    class Echo(WebSocketServerProtocol):
        def onConnect(self, request: object) -> tuple[None, dict[str, str]]:
            return None, {"X-Instance": name}

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            self.sendMessage(payload, isBinary)

    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = Echo
    factory.setProtocolOptions(maxMessagePayloadSize=MESSAGE_BYTES, webStatus=False)
    return factory
