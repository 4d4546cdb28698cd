"""The kinds of pages that an instance has, and how they answer: in JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

__all__ = ["SLOW_SECONDS", "Collection", "Page", "Root", "Slow", "describe", "send_json"]

SLOW_SECONDS = 2.0
ECHO_BYTES = 64 * 1024


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
