"""One demo instance: an ordinary ``twisted.web`` site that any service of the demo can run.

`make_site` is all that `rtgateway.demo.launch` needs. Every instance has the same paths (``PATHS``)
and names itself in the ``X-Instance`` field of each answer, so that balancing can be seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import orjson
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

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
)
SLOW_SECONDS = 2.0
ECHO_BYTES = 64 * 1024
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
    }.items():
        root.putChild(path, page)
    return DemoSite(name, root, reactor)


class DemoSite(Site):
    """A site that puts its name on every answer. It keeps no log, for the gateway has one."""

    displayTracebacks = False
    noisy = False

    def __init__(self, name: str, root: Resource, reactor: IReactorTime) -> None:
        super().__init__(root, reactor=reactor)
        self.instance = name.encode("ascii")

    def __repr__(self) -> str:
        return f"<DemoSite {self.instance.decode('ascii')}>"

    def getResourceFor(self, request: Request) -> IResource:
        request.setHeader(b"x-instance", self.instance)
        found: IResource = super().getResourceFor(request)
        return found

    def log(self, request: object) -> None:
        pass


def send_json(request: Request, value: object, status: int = 200) -> bytes:
    """Set the head of an answer and return its body (nothing for HEAD)."""
    body = orjson.dumps(value) + b"\n"
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    return b"" if request.method == b"HEAD" else body


class Root(Resource):
    """Answers with 404, in JSON like everything else, where there is no page."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        return Page(lambda request: {"error": "not_found"}, status=404)


class Page(Resource):
    """Answers every method with what a function makes of the request."""

    isLeaf = True

    def __init__(self, describe: Callable[[Request], object], status: int = 200) -> None:
        super().__init__()
        self._describe = describe
        self._status = status

    def render(self, request: Request) -> bytes:
        if request.postpath and request.postpath != [b""]:
            return send_json(request, {"error": "not_found"}, 404)
        return send_json(request, self._describe(request), self._status)


class Collection(Resource):
    """``/users`` answers with all of them, ``/users/2`` with one or 404."""

    isLeaf = True

    def __init__(self, items: tuple[dict[str, Any], ...]) -> None:
        super().__init__()
        self._items = items

    def render(self, request: Request) -> bytes:
        rest = b"/".join(request.postpath or ())
        if not rest:
            return send_json(request, self._items)
        for item in self._items:
            if rest == b"%d" % item["id"]:
                return send_json(request, item)
        return send_json(request, {"error": "not_found"}, 404)


class Slow(Resource):
    """Answers after two seconds; forgets about it when the client leaves."""

    isLeaf = True

    def __init__(self, name: str, clock: IReactorTime) -> None:
        super().__init__()
        self._name = name
        self._clock = clock

    def render(self, request: Request) -> int:
        def answer(_: object) -> None:
            body = {"waited_seconds": SLOW_SECONDS, "instance": self._name}
            request.write(send_json(request, body))
            request.finish()

        def left(_: object) -> None:
            wait.cancel()

        wait: Deferred[object] = deferLater(self._clock, SLOW_SECONDS)
        wait.addCallback(answer)
        wait.addErrback(Failure.trap, CancelledError)
        request.notifyFinish().addErrback(left)
        return NOT_DONE_YET


def describe(request: Request) -> dict[str, object]:
    """The request as the instance received it; a long body is cut after 64 KiB."""
    content = request.content
    assert content is not None  # the whole body is there before a resource is asked
    length = content.seek(0, os.SEEK_END)
    content.seek(0)
    return {
        "method": request.method.decode("latin-1"),
        "target": request.uri.decode("latin-1"),
        "headers": [
            [name.decode("latin-1").lower(), value.decode("latin-1")]
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ],
        "body": content.read(ECHO_BYTES).decode("utf-8", "replace"),
        "body_bytes": length,
    }


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
