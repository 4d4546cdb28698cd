"""One client connection: HTTP/1.1 heads and bodies in, exchanges started, answers out in order.

The current state is the method that takes the next bytes, as ``dataReceived``: ``_head``,
``Upload.while_body``, ``_early`` (bytes of the next request while this one is served: they stay
unread and unparsed), ``_nothing``. One exchange at a time, so that answers can't overtake each
other. Deadlines are an attribute that the sweep compares; no timer belongs to a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet import interfaces
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.errors import BadRequest, ClientGone, GatewayError
from rtgateway.gateway.exchange import Exchange, Pausable
from rtgateway.net.handover import hand_over
from rtgateway.net.tasks import Task
from rtgateway.web.proxied import ProxyPreface
from rtgateway.web.upload import Upload
from rtgateway.wire.http1 import NO_HEAD, RequestHead, RequestParser

if TYPE_CHECKING:
    from rtgateway.web.site import Edge

__all__ = ["HTTPChannel"]

_NEVER = float("inf")
_MAX_EARLY = 16384
"""Bytes read of the requests behind the one being served."""
_LINGER = 2.0
"""Seconds for a client to read a last answer while it is still sending (RFC 9112, 9.6)."""


@implementer(interfaces.IPushProducer)
class HTTPChannel(Protocol):
    """See the module. ``edge`` is the listener it was accepted on."""

    transport: Any  # several interfaces at once: TCP transport, consumer, producer
    dataReceived: Callable[[bytes], None]  # type: ignore[assignment]

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.site = edge.site
        self.exchange: Exchange | None = None
        self.source: Pausable | None = None
        self.blocked = False
        self.deadline = _NEVER
        self._parser = RequestParser(edge.site.head_limits)
        self.dataReceived = self._head
        self._task: Task | None = None
        self._upload: Upload | None = None
        self._pending = b""
        self._head_due = 0.0
        self._reading_paused = False
        self._pumping = False
        self._lost = False
        self._undelivered = 0
        self._taken = 0.0

    # -- the connection -----------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        self.write = transport.write
        # Backpressure: told when the client takes no more, for as long as the connection lives.
        transport.registerProducer(self, True)
        edge = self.edge
        if edge.tcp:
            transport.setTcpNoDelay(True)
        self.peer = edge.peer_of(transport)
        if edge.proxy_protocol:
            self.dataReceived = ProxyPreface(self).proxied
        now = monotonic()
        self._head_due = self.deadline = now + edge.site.timeouts.head
        edge.site.opened(self, now)

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        self._lost = True
        self.dataReceived = self._nothing
        self.site.closed(self)
        exchange, task = self.exchange, self._task
        if exchange is None or task is None:
            self._let_go()
            return
        body_open = exchange.body is not None and not exchange.body.ended
        route = exchange.route
        if route is None or route.cancel or body_open or exchange.kind == "sse":
            task.cancel(ClientGone())
        else:
            # on_disconnect: finish (what has an end). Nobody reads, so nothing holds the answer up.
            exchange.error_code = "client_gone"
            self.blocked = False
            if self.source is not None:
                self.source.resume()

    # -- states -----------------------------------------------------------------------------

    def begin_http(self, data: bytes) -> None:
        """The first request begins here (for `ProxyPreface` to call)."""
        self.dataReceived = self._head
        if data:
            self._head(data)

    def _head(self, data: bytes) -> None:
        try:
            head = self._parser.feed(data)
        except BadRequest as error:
            self.refuse(error)
            return
        if head is not None:
            self._begin(head)
        elif self._head_due == 0.0:
            self._head_due = self.deadline = monotonic() + self.site.timeouts.head

    def _early(self, data: bytes) -> None:
        self._pending += data
        # Only then: who is not read from can't be seen leaving.
        if len(self._pending) > _MAX_EARLY:
            self.pause_reading()

    def _nothing(self, data: bytes) -> None:
        """Dropped: this connection has said its last."""

    # -- one request --------------------------------------------------------------------------

    def _begin(self, head: RequestHead) -> None:
        now = monotonic()
        self._head_due = 0.0
        self.deadline = _NEVER
        self.exchange = exchange = Exchange(self, head, now)
        rest = self._parser.rest
        refusal: GatewayError | None = None
        if head.length:
            exchange.body = self._upload = upload = Upload(self, head, now)
            self.dataReceived = upload.while_body
            if rest:
                try:
                    upload.take(rest)
                except GatewayError as error:
                    self.dataReceived = self._nothing
                    self._upload = None
                    refusal = error
        else:
            self.dataReceived = self._early
            if rest:
                self._early(rest)
        site = self.site
        destination = site.admit(exchange, self.peer)
        self._task = task = Task(site.pipeline.serve(exchange, refusal or destination))
        task.step()

    def body_ended(self, rest: bytes) -> None:
        """The request is complete; ``rest`` belongs to the next one (for `Upload` to call)."""
        self.dataReceived = self._early
        self._upload = None
        if not self.blocked:
            self.deadline = _NEVER
        if rest:
            self._early(rest)

    def break_off(self, error: GatewayError) -> None:
        """The rest of the body is not wanted (for `Upload` to call)."""
        self.dataReceived = self._nothing
        self._upload = None
        if self.exchange is not None and self._task is not None:
            self.exchange.keep_alive = False
            self._task.cancel(error)

    def refuse(self, error: BadRequest) -> None:
        """Answer what is not HTTP, and believe nothing more on this connection."""
        now = monotonic()
        self.dataReceived = self._nothing
        self.deadline = _NEVER
        exchange = Exchange(self, NO_HEAD, now)
        exchange.host = exchange.path = exchange.rest = b""
        self.exchange = exchange
        self.site.introduce(exchange, self.peer)
        self._task = task = Task(self.site.pipeline.serve(exchange, error))
        task.step()

    def done(self, exchange: Exchange) -> None:
        """The exchange is over: the next one, or the end."""
        self.exchange = self._task = None
        if self._lost:
            self._let_go()
            return
        body = exchange.body
        if not exchange.keep_alive or (body is not None and not body.ended):
            # The client has to get its answer even if it is still sending (RFC 9112, 9.6).
            unread = self.dataReceived != self._early or bool(self._pending)
            self._end(linger=unread and self.edge.half_closes)
            return
        self.dataReceived = self._head
        if self.blocked:
            # Who does not read answers is not asked for more requests.
            self.pause_reading()
            return
        self.deadline = exchange.finished + self.site.keep_alive
        if self._pending:
            if not self._pumping:
                self._pump()
        elif self._reading_paused:
            self.resume_reading()

    def _pump(self) -> None:
        """Requests that came behind the last one, while the client reads their answers."""
        self._pumping = True
        try:
            while self._pending and self.exchange is None and not self.blocked:
                data, self._pending = self._pending, b""
                self.dataReceived(data)
        finally:
            self._pumping = False
        if self.exchange is None and not self._pending and not self.blocked:
            self.resume_reading()

    def _end(self, *, linger: bool) -> None:
        """Take nothing more, send what has been written, close.

        :param linger: read on and drop what comes, so that the client is not cut off by a reset.
        """
        now = monotonic()
        self.dataReceived = self._nothing
        self._upload = None
        self._pending = b""
        self.deadline = now + _LINGER
        self.site.wheel.touch(self, now)
        self._taken, self._undelivered = now, self._bytes_undelivered()
        # A producer that stays registered would keep the transport open for what it may yet write.
        self.transport.unregisterProducer()
        self.blocked = False
        self.resume_reading()
        if linger:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def close_when_idle(self) -> None:
        """Serve nothing more: now if no request is here or on its way, else after it (draining)."""
        if self.exchange is not None:
            self.exchange.keep_alive = False
        elif (
            not self._lost and self.dataReceived != self._nothing and self._parser.between_messages
        ):
            self._end(linger=False)

    def hand_over(self, protocol: Any) -> bytes:
        """Give the connection to ``protocol``, for good: it speaks HTTP no more.

        :return: what has come behind the request.
        """
        self._lost = True
        self.site.closed(self)
        pending, self._pending = self._pending, b""
        transport = self.transport
        hand_over(transport, protocol)
        if self._reading_paused:
            transport.resumeProducing()
        return pending

    def _let_go(self) -> None:
        """Nothing comes and nothing goes here any more: no cycle keeps what is not needed."""
        own = self.__dict__
        own.pop("dataReceived", None)
        own.pop("write", None)
        self._upload = None
        self._parser.release()
        self.transport = None

    # -- what an exchange does with its client ------------------------------------------------

    def interrupt(self, error: GatewayError) -> None:
        if self._task is not None:
            self._task.cancel(error)

    def abort(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.keep_alive = False
            if exchange.version == 10:
                # Only a reset tells an HTTP/1.0 client that what it has is not all.
                self.transport.abortConnection()

    def pause_reading(self) -> None:
        if not self._reading_paused and not self._lost:
            self._reading_paused = True
            if self._upload is not None and not self.blocked:
                self.deadline = _NEVER
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        if self._reading_paused and not self._pending and not self._lost:
            self._reading_paused = False
            if self._upload is not None and not self.blocked:
                self._upload.wait(monotonic())
            self.transport.resumeProducing()

    # -- the client takes no more (IPushProducer of our own transport) --------------------------

    def pauseProducing(self) -> None:
        self.blocked = True
        now = monotonic()
        self.deadline = now + self.site.timeouts.write_stall
        self.site.wheel.touch(self, now)
        self._taken, self._undelivered = now, self._bytes_undelivered()
        if self.source is not None:
            self.source.pause()

    def resumeProducing(self) -> None:
        self.blocked = False
        if self._lost:
            return
        if self._upload is not None and not self._reading_paused:
            self._upload.wait(monotonic())
        elif self.exchange is not None:
            self.deadline = _NEVER
        else:
            self.deadline = monotonic() + self.site.keep_alive
        if self.source is not None:
            self.source.resume()
        elif self.exchange is None and not self._pumping:
            self._pump()

    def stopProducing(self) -> None:
        """The transport is closing; connectionLost follows."""

    def _bytes_undelivered(self) -> int:
        return int(getattr(self.transport, "undelivered", 0))

    def _takes(self, now: float) -> bool:
        """Whether the client has taken anything of what was written, within ``write_stall``."""
        undelivered = self._bytes_undelivered()
        if undelivered < self._undelivered:
            self._taken = now
        self._undelivered = undelivered
        return now - self._taken < self.site.timeouts.write_stall

    # -- deadlines --------------------------------------------------------------------------

    def expired(self, now: float) -> None:
        """The deadline has passed (called by the sweep)."""
        if self.blocked:
            if self._takes(now):
                self.deadline = now + self.site.timeouts.write_stall
            else:
                self.transport.abortConnection()
        elif self.dataReceived == self._nothing:
            if not self._takes(now):
                self.transport.abortConnection()
            elif self._undelivered:
                self.deadline = now + _LINGER
            else:
                # It has everything and only keeps its side open: no reason for a reset.
                self.deadline = now + self.site.timeouts.write_stall
                self.transport.loseConnection()
        elif self._upload is not None:
            self._upload.judge(now)
        elif self.exchange is None and self._parser.between_messages:
            self._end(linger=False)
        elif self.exchange is None:
            self.refuse(BadRequest("The request took too long", status=408, code="timeout"))

    def __repr__(self) -> str:
        state = self.dataReceived.__name__.removeprefix("_").removeprefix("while_")
        return f"<HTTPChannel {state} {self.exchange!r}>"
