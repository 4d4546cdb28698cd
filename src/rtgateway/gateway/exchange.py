"""One request and its answer: what is known of them, from the first byte to the log line.

The pipeline works on this object and on nothing else. It has the shape that ``upstream.call.Call``
asks for, and reaches its client only through the `Client` protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rtgateway.errors import GatewayError
from rtgateway.gateway.body import BodySource, RequestBody
from rtgateway.wire.http1 import RequestHead, ResponseHead
from rtgateway.wire.lines import Field, Line

if TYPE_CHECKING:
    from rtgateway.core.tokens import Identity
    from rtgateway.gateway.route import Route
    from rtgateway.gateway.upgrade import Upgrade
    from rtgateway.upstream.instance import Instance
    from rtgateway.upstream.service import Service

__all__ = ["VIA", "Client", "Exchange", "Pausable", "Repeats"]


class Pausable(Protocol):
    """What can be told that its reader is slower, and that it has caught up."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Client(BodySource, Protocol):
    """The connection a request came on.

    :ivar source: the answer being relayed, paused while the client takes no more.
    :ivar blocked: the client takes no more at present.
    """

    source: Pausable | None
    blocked: bool
    transport: Any

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        """Break the connection so that the client sees its answer cut off."""
        ...

    def interrupt(self, error: GatewayError) -> None:
        """Raise ``error`` where the exchange waits."""
        ...

    def done(self, exchange: Exchange) -> None:
        """The exchange is over and observed."""
        ...

    def hand_over(self, protocol: Any) -> bytes:
        """Give the connection to ``protocol``, for good; what came behind the request so far."""
        ...


class Repeats:
    """What is remembered of a request that is repeated on its connection.

    All its exchanges share it. They have no body, and no fields but those that are passed on as
    they are.

    :ivar prefixes: the heads sent on, up to the request id, by instance.
    :ivar identity: who asks, as long as that is valid (`gateway.auth`).
    :ivar log_texts: parts of a log line, by how a request came out (`observe.log_lines`).
    """

    __slots__ = ("identity", "log_texts", "prefixes")

    def __init__(self) -> None:
        self.prefixes: dict[Instance, bytes] = {}
        self.identity: Identity | None = None
        self.log_texts: dict[str, tuple[str, str]] = {}


class Exchange:
    """See the module. Times are seconds of the monotonic clock; 0.0 is "not yet".

    :ivar target: path and query as the client wrote them (origin form).
    :ivar rest: what is left of the path behind the route's prefix; all of it if not stripped.
    :ivar named: values of the fields that steer the gateway, see `wire.http1.RequestHead`.
    :ivar host: the Host field, or what an absolute target says.
    :ivar client_ip: the peer, or whom a trusted proxy speaks for.
    :ivar forwarding: the X-Forwarded-* and Forwarded lines for the next hop.
    :ivar repeats: what the request has in common with others, if it is one that is repeated.
    :ivar trace: the traceparent line for the next hop, empty if tracing is off.
    :ivar upgrade: the protocol that the client wants to switch to, where the route serves that.
    :ivar service: who is to answer, and ``chosen``: which of its instances was asked last.
    :ivar attempts: how many times an instance was asked; ``answered``: one of them has.
    :ivar answer_lines: header lines for the client besides those of the answer.
    :ivar quota: header lines about its rate limits, each with a line end *before* it.
    :ivar unlimited: no limits hold for it.
    :ivar error_detail: why an instance did not answer, in words for the log.
    :ivar label: the route's label or a page's path, bounded in number.
    :ivar status: what the client was told; 499 if it left before.
    :ivar started_answering: the head of the answer is out.
    """

    __slots__ = (
        "answer_lines",
        "answered",
        "attempts",
        "body",
        "bytes_out",
        "chosen",
        "client",
        "client_ip",
        "error_code",
        "error_detail",
        "finished",
        "first_byte",
        "forwarding",
        "head",
        "host",
        "identity",
        "keep_alive",
        "kind",
        "label",
        "method",
        "named",
        "path",
        "quota",
        "repeats",
        "request_id",
        "rest",
        "route",
        "service",
        "started",
        "started_answering",
        "status",
        "target",
        "to_head",
        "trace",
        "unlimited",
        "upgrade",
        "version",
    )

    # Set by web.site when it makes sense of the address.
    client_ip: str
    forwarding: bytes
    host: bytes
    path: bytes
    request_id: bytes
    rest: bytes
    trace: bytes

    def __init__(self, client: Client, head: RequestHead, started: float) -> None:
        self.client = client
        self.head = head
        self.method = head.method
        self.target = head.target
        self.version = head.version
        self.named = head.named
        self.keep_alive = head.keep_alive
        self.to_head = head.to_head
        self.repeats: Repeats | None = None
        self.started = started
        self.first_byte = 0.0
        self.finished = 0.0
        self.body: RequestBody | None = None
        self.upgrade: Upgrade | None = None
        self.route: Route | None = None
        self.service: Service | None = None
        self.chosen: Instance | None = None
        self.attempts = 0
        self.answered = False
        self.answer_lines = b""
        self.quota = b""
        self.unlimited = False
        self.identity: Identity | None = None
        self.label = "unmatched"
        self.status = 0
        self.bytes_out = 0
        self.error_code = ""
        self.error_detail = ""
        self.kind = "http"
        self.started_answering = False

    # -- reading it -------------------------------------------------------------------------

    @property
    def headers(self) -> list[Field]:
        """``(lower-cased name, name, value)`` in the order received."""
        return self.head.fields

    def values(self, key: bytes) -> list[bytes]:
        """All values of a field, in order."""
        return [value for name, _, value in self.head.fields if name == key]

    @property
    def bytes_in(self) -> int:
        return self.body.size if self.body is not None else 0

    @property
    def takes_trailers(self) -> bool:
        """Whether the client said that it wants trailer fields (RFC 9110, 10.1.4)."""
        if self.version != 11:
            return False
        options = self.named.get(b"te", b"").lower().split(b",")
        return b"trailers" in (option.strip() for option in options)

    def drop(self, key: bytes) -> None:
        """Pass on no field of this name."""
        self.pass_on([line for line in self.head.lines if line[0][0] != key])

    def pass_on(self, lines: list[Line]) -> None:
        """Pass on these header lines instead of those received."""
        head = self.head
        self.head = RequestHead(head.method, head.target, head.version, lines)

    # -- sending it on (upstream.call.Call) ---------------------------------------------------

    @property
    def secure(self) -> bool:
        # A proxy in front of the gateway may be the one that speaks TLS; if it is trusted, it is
        # in what the next hop is told.
        return b"X-Forwarded-Proto: https\r\n" in self.forwarding

    def head_for(self, instance: Instance) -> bytes:
        """The request head for ``instance``: the client's fields, without those of its hop."""
        repeats = self.repeats
        if repeats is not None:
            prefix = repeats.prefixes.get(instance)
            if prefix is None:
                prefix = repeats.prefixes[instance] = self._prefix(instance)
            return b"".join((prefix, self.request_id, b"\r\n", self.trace, _LAST[self.version]))
        more = b""
        if self.upgrade is not None:
            # It has no body, and its Connection field can't name any but this one.
            more = self.upgrade.lines
        elif self.body is not None:
            more = self._framing(self.body)
        elif b"content-length" in self.named:
            # RFC 9110, 8.6: an empty body is not the same as none to every service.
            more = b"Content-Length: 0\r\n"
        if b"te" in self.named and self.takes_trailers and self.upgrade is None:
            more += b"TE: trailers\r\nConnection: TE\r\n"
        prefix, via = self._prefix(instance), VIA[self.version]
        return b"".join((prefix, self.request_id, b"\r\n", self.trace, via, more, b"\r\n"))

    def _prefix(self, instance: Instance) -> bytes:
        """The head for ``instance`` up to the request id, which no other request has."""
        route = self.route
        assert route is not None
        return b"%b %b%b HTTP/1.1\r\nHost: %b\r\n%b%bX-Request-Id: " % (
            self.method,
            instance.base,
            self.rest,
            self.host if route.preserve_host and self.host else instance.authority,
            self.head.passed_on,
            self.forwarding,
        )

    def _framing(self, body: RequestBody) -> bytes:
        if body.chunked:
            return b"Transfer-Encoding: chunked\r\n"
        return b"Content-Length: %d\r\n" % body.length

    def interrupt(self, error: GatewayError) -> None:
        self.client.interrupt(error)

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx answer (RFC 9110, 15.2), unless the client could not read it."""
        if self.version != 11 or (head.status == 100 and b"expect" not in self.named):
            return
        self.client.write(head.passed_on + b"\r\n")

    def __repr__(self) -> str:
        return f"<Exchange {self.method.decode()} status={self.status} {self.chosen!r}>"


# RFC 9110, 7.6.3: with the version of the message that was received.
VIA = {11: b"Via: 1.1 rtgateway\r\n", 10: b"Via: 1.0 rtgateway\r\n"}
_LAST = {version: via + b"\r\n" for version, via in VIA.items()}
"""The end of a head."""
