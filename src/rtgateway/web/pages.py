"""Ordinary ``twisted.web`` Resources on our connections: admin pages, and other people's.

The proxied path never comes here. For everything else an exchange is dressed as the channel of a
``twisted.web.server.Request``, so that any Resource renders as it would on a ``twisted.web`` Site:
sessions, producers, ``NOT_DONE_YET``, ``notifyFinish`` and all. Bodies are collected, bounded.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet import interfaces
from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web import resource, server
from twisted.web.http_headers import Headers

from rtgateway.errors import ClientGone, GatewayError
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.respond import connection_line
from rtgateway.net.tasks import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

__all__ = ["Missing", "Pages", "Root"]

_BODY_LIMIT = 1 << 20
"""The largest body, in bytes, that is collected for a page."""


class Missing(resource.Resource):
    """What stands where nothing is."""

    isLeaf = True


class Root(resource.Resource):
    """The root of the tree. A path that no child claims is Missing."""

    def getChild(self, path: bytes, request: object) -> resource.Resource:
        return Missing()


class Pages:
    """The Resource tree as a destination of requests.

    :param admit: asked before a page is rendered; raises `GatewayError` to refuse.
    :param labels: paths that may be named in metrics; all others are "unmatched".
    """

    def __init__(
        self,
        root: resource.Resource,
        reactor: IReactorTime,
        admit: Callable[[Exchange], None],
        labels: frozenset[bytes],
    ) -> None:
        self._site = server.Site(root, reactor=reactor)
        self._admit = admit
        self._labels = labels

    async def answer(self, exchange: Exchange) -> None:
        """Render what the path names.

        :raises GatewayError: 404, 413, or what ``admit`` says.
        """
        if exchange.path in self._labels:
            exchange.label = exchange.path.decode("ascii")
        self._admit(exchange)
        content = await _collect(exchange)
        request = PageRequest(_PageChannel(exchange, self._site), exchange)
        request.begin(content)
        try:
            await request.over
        except ClientGone:
            request.connectionLost(Failure(ConnectionDone()))
            raise
        finally:
            exchange.client.source = None


class PageRequest(server.Request):
    """A ``twisted.web`` request that is an exchange of ours.

    :ivar exchange: the request as the gateway knows it.
    """

    def __init__(self, channel: _PageChannel, exchange: Exchange) -> None:
        super().__init__(channel, False)
        self.over: Waiter[None] = Waiter()
        self.exchange = exchange
        channel.request_over = self.over

    def begin(self, content: bytes) -> None:
        exchange = self.exchange
        for _, name, value in exchange.headers:
            self.requestHeaders.addRawHeader(name, value)
        self.gotLength(len(content))
        self.content = BytesIO(content)
        self.parseCookies()
        self.requestReceived(
            exchange.method,
            exchange.target,
            b"HTTP/1.1" if exchange.version == 11 else b"HTTP/1.0",
        )

    def render(self, resrc: resource.IResource) -> None:
        if isinstance(resrc, Missing):
            path = self.exchange.path.decode("latin-1")[:256]
            message = f"Route {self.exchange.method.decode()}:{path} not found"
            self.over.fail(GatewayError(404, "not_found", message, fault="client"))
            return
        super().render(resrc)


class _PageChannel:
    """The little of ``twisted.web.http.HTTPChannel`` that a Request asks for."""

    def __init__(self, exchange: Exchange, site: server.Site) -> None:
        self._exchange = exchange
        self.site = self.factory = site
        self.transport: Any = exchange.client.transport
        self.request_over: Waiter[None] | None = None

    def getPeer(self) -> interfaces.IAddress:
        return self.transport.getPeer()  # type: ignore[no-any-return]

    def getHost(self) -> interfaces.IAddress:
        return self.transport.getHost()  # type: ignore[no-any-return]

    def isSecure(self) -> bool:
        return interfaces.ISSLTransport.providedBy(self.transport)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        exchange = self._exchange
        exchange.status = int(code)
        exchange.started_answering = True
        lines = [b"HTTP/1.1 %b %b\r\n" % (code, reason)]
        for name, values in headers.getAllRawHeaders():
            if name.lower() not in (b"server", b"connection"):
                lines += [b"%b: %b\r\n" % (name, value) for value in values]
        framed = headers.hasHeader(b"content-length") or headers.hasHeader(b"transfer-encoding")
        if not framed and not exchange.to_head and exchange.status not in (204, 304):
            exchange.keep_alive = False
        lines.append(b"X-Request-Id: %b\r\n" % exchange.request_id)
        lines += [connection_line(exchange), b"\r\n"]
        exchange.client.write(b"".join(lines))

    def write(self, data: bytes) -> None:
        self._exchange.bytes_out += len(data)
        self._exchange.client.write(data)

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def requestDone(self, request: server.Request) -> None:
        if self.request_over is not None:
            self.request_over.succeed(None)

    def loseConnection(self) -> None:
        self._exchange.keep_alive = False
        self.transport.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            producer = _PullToPush(producer, self)
        self._exchange.client.source = _Producer(producer)
        if not streaming:
            producer.startStreaming()

    def unregisterProducer(self) -> None:
        source = self._exchange.client.source
        self._exchange.client.source = None
        if isinstance(source, _Producer):
            source.stop()


class _Producer:
    """A producer of a page, as what a client's connection pauses and resumes."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def pause(self) -> None:
        self._producer.pauseProducing()

    def resume(self) -> None:
        self._producer.resumeProducing()

    def stop(self) -> None:
        if isinstance(self._producer, _PullToPush):
            self._producer.stopStreaming()


class _Collected:
    """A small request body, as a whole."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.over: Waiter[None] = Waiter()

    def body_payload(self, payload: bytes) -> None:
        self.pieces.append(payload)

    def body_ended(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.over.succeed(None)


async def _collect(exchange: Exchange) -> bytes:
    body = exchange.body
    if body is None:
        return b""
    body.bound(_BODY_LIMIT)
    collected = _Collected()
    collected.pieces.append(body.attach(collected))
    if not body.ended:
        if b"expect" in exchange.named and exchange.version == 11:
            exchange.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await collected.over
    return b"".join(collected.pieces)
