"""What all pages have in common: methods, JSON, refusals.

A page is a `Page` with a function for each method that it answers. A function gets the request and
returns an `Answer`, or raises `GatewayError` to refuse. `waiting` has pages that answer later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson
from twisted.web.resource import Resource
from twisted.web.server import Request

from rtgateway.errors import GatewayError
from rtgateway.web.pages import Missing

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = [
    "Answer",
    "Answering",
    "Branch",
    "Page",
    "Unknown",
    "answer",
    "asked_by",
    "body_of",
    "dressed",
    "function_for",
    "refusal",
    "refused",
]

F = TypeVar("F")

JSON = b"application/json; charset=utf-8"


class Answer(NamedTuple):
    """What a page says. ``headers``: fields beside type, length and ``Cache-Control``."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Answering = Callable[[Request], Answer]


def answer(status: int, document: object, *headers: tuple[bytes, bytes]) -> Answer:
    """An answer of JSON."""
    return Answer(status, orjson.dumps(document), JSON, headers)


class Page(Resource):
    """See the module. ``Page(GET=f, POST=g)``; HEAD is answered where GET is."""

    def __init__(self, **answering: Answering) -> None:
        super().__init__()
        self._answering = {method.encode("ascii"): each for method, each in answering.items()}
        if b"GET" in self._answering:
            self._answering[b"HEAD"] = self._answering[b"GET"]

    def getChild(self, path: bytes, request: object) -> Resource:
        """Nothing is below a page, unless it was put there."""
        return Missing()

    def render(self, request: Request) -> bytes:
        """Answer, also when the answer is a refusal."""
        try:
            found = function_for(request, self._answering)(request)
        except GatewayError as error:
            found = refused(error)
        return dressed(request, found)


def function_for(request: Request, answering: Mapping[bytes, F]) -> F:
    """That of the method of ``request``.

    :raises GatewayError: 405, there is none.
    """
    found = answering.get(request.method)
    if found is None:
        allow = b", ".join(sorted(answering))
        raise refusal(
            405, "method_not_allowed", "This method is not allowed here", (b"Allow", allow)
        )
    return found


def refused(error: GatewayError) -> Answer:
    """What a page says that refuses."""
    return answer(error.status, {"error": error.code, "message": error.message}, *error.headers)


def dressed(request: Request, found: Answer) -> bytes:
    """Give ``request`` status and header of an answer; what is to be written."""
    request.setResponseCode(found.status)
    for name, value in found.headers:
        request.setHeader(name, value)
    request.setHeader(b"content-type", found.content_type)
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"content-length", b"%d" % len(found.body))
    return b"" if request.method == b"HEAD" else found.body


class Branch(Missing):
    """A path with pages below it and none of its own."""

    isLeaf = False

    def getChild(self, path: bytes, request: object) -> Resource:
        """Nothing else is there."""
        return Missing()


class Unknown(Resource):
    """A path, and all below it, whose name nothing has: 404."""

    isLeaf = True

    def __init__(self, what: str) -> None:
        super().__init__()
        error = refusal(404, f"unknown_{what}", f"There is no {what} of this name")

        def refuse(request: Request) -> Answer:
            raise error

        self._page = Page(**dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), refuse))

    def render(self, request: Request) -> bytes:
        """Say so."""
        return self._page.render(request)


def refusal(status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> GatewayError:
    """What a page raises that can't do what it is asked to."""
    return GatewayError(status, code, message, fault="client", headers=headers)


def asked_by(request: Request) -> Exchange | None:
    """The exchange that ``request`` stands for; None if it came from elsewhere (in a test)."""
    return getattr(request, "exchange", None)


def body_of(request: Request) -> Any:
    """The JSON that came with ``request``.

    :raises GatewayError: 415 if it is of another type, 400 if it can't be read.
    """
    kind = request.getHeader("content-type") or ""
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise refusal(415, "unsupported_media_type", "The body has to be application/json")
    content = request.content.read() if request.content is not None else b""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        raise refusal(400, "bad_request", "The body is not JSON") from None
