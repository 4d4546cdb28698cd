"""One request and its answer: what is known of them, from the first byte to the log line.

The pipeline works on this object and on nothing else. It has the shape that ``upstream.call.Call``
asks for, and reaches its client only through the `Client` protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rtgateway.core.headers import HOP_BY_HOP, connection_options
from rtgateway.gateway.body import BodySource, RequestBody
from rtgateway.wire.http1 import Fields, RequestHead, ResponseHead

if TYPE_CHECKING:
    from rtgateway.core.tokens import Identity
    from rtgateway.gateway.route import Route
    from rtgateway.upstream.instance import Instance

__all__ = ["Client", "Exchange", "Pausable"]

_NO_FIELDS: Fields = []

_REPEATABLE = frozenset([b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"])

_WRITTEN_HERE = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"x-request-id",
    b"traceparent",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
}
"""Request fields that are made anew for the next hop, or end at this one."""

_PLAIN_CONNECTION = frozenset([b"", b"keep-alive", b"close", b"Keep-Alive", b"Close"])


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

    def done(self, exchange: Exchange) -> None:
        """The exchange is over and observed."""
        ...


class Exchange:
    """See the module. Times are seconds of the monotonic clock; 0.0 is "not yet".

    :ivar target: path and query as the client wrote them (origin form).
    :ivar rest: what is left of the path behind the route's prefix; all of it if not stripped.
    :ivar headers: ``(lower-cased name, name, value)``.
    :ivar host: the Host field, or what an absolute target says.
    :ivar client_ip: the peer, or whom a trusted proxy speaks for.
    :ivar forwarding: the X-Forwarded-* and Forwarded lines for the next hop.
    :ivar trace: the traceparent for the next hop, or empty.
    :ivar label: the route's label or a page's path, bounded in number.
    :ivar status: what the client was told; 499 if it left before.
    :ivar started_answering: the head of the answer is out.
    """

    __slots__ = (
        "between_bytes_timeout",
        "body",
        "bytes_out",
        "chosen",
        "client",
        "client_ip",
        "connect_timeout",
        "connection_field",
        "error_code",
        "expect",
        "finished",
        "first_byte",
        "first_byte_timeout",
        "forwarding",
        "headers",
        "host",
        "identity",
        "keep_alive",
        "kind",
        "label",
        "method",
        "path",
        "repeatable",
        "request_id",
        "rest",
        "route",
        "started",
        "started_answering",
        "status",
        "target",
        "to_head",
        "trace",
        "version",
    )

    def __init__(self, client: Client, head: RequestHead | None, started: float) -> None:
        self.client = client
        self.started = started
        self.first_byte = 0.0
        self.finished = 0.0
        self.body: RequestBody | None = None
        self.route: Route | None = None
        self.chosen: Instance | None = None
        self.identity: Identity | None = None
        self.label = "unmatched"
        self.request_id = b""
        self.status = 0
        self.bytes_out = 0
        self.error_code = ""
        self.kind = "http"
        self.started_answering = False
        self.client_ip = ""
        self.forwarding = b""
        self.trace = b""
        self.host = b""
        if head is None:
            self.method = self.target = self.path = self.rest = b""
            self.version = 11
            self.headers = _NO_FIELDS
            self.expect = self.connection_field = b""
            self.keep_alive = self.to_head = False
            return
        self.method = head.method
        self.target = head.target
        self.version = head.version
        self.headers = head.fields
        self.expect = head.expect
        self.connection_field = head.connection
        self.keep_alive = head.keep_alive
        self.to_head = head.method == b"HEAD"

    # -- reading it -------------------------------------------------------------------------

    def header(self, key: bytes) -> bytes | None:
        """The value of a field that may stand once; None if it is missing or stands twice."""
        found = None
        for name, _, value in self.headers:
            if name == key:
                if found is not None:
                    return None
                found = value
        return found

    def values(self, key: bytes) -> list[bytes]:
        """All values of a field, in order."""
        return [value for name, _, value in self.headers if name == key]

    @property
    def bytes_in(self) -> int:
        return self.body.size if self.body is not None else 0

    @property
    def takes_trailers(self) -> bool:
        """Whether the client said that it wants trailer fields (RFC 9110, 10.1.4)."""
        if self.version != 11:
            return False
        options = b",".join(self.values(b"te")).lower().split(b",")
        return b"trailers" in (option.strip() for option in options)

    # -- sending it on (upstream.call.Call) ---------------------------------------------------

    def sent_by(self, route: Route) -> None:
        """Take what the route says about this request."""
        self.route = route
        self.label = route.label
        self.repeatable = self.method in _REPEATABLE
        self.connect_timeout = route.connect
        self.first_byte_timeout = route.first_byte
        self.between_bytes_timeout = route.between_bytes

    def head_for(self, instance: Instance) -> bytes:
        """The request head for ``instance``: the client's fields, without those of its hop."""
        route = self.route
        assert route is not None
        lines = [
            self.method,
            b" ",
            instance.base,
            self.rest,
            b" HTTP/1.1\r\nHost: ",
            self.host if route.preserve_host and self.host else instance.authority,
            b"\r\n",
        ]
        dropped = _WRITTEN_HERE
        if self.connection_field not in _PLAIN_CONNECTION:
            dropped = dropped | connection_options([self.connection_field])
        for key, name, value in self.headers:
            if key not in dropped:
                lines += (name, b": ", value, b"\r\n")
        lines += (self.forwarding, b"X-Request-Id: ", self.request_id, b"\r\n")
        if self.trace:
            lines += (b"traceparent: ", self.trace, b"\r\n")
        lines.append(_VIA[self.version])
        body = self.body
        if body is not None:
            lines.append(self._framing(body))
        if b"te" in self.connection_field.lower() and self.takes_trailers:
            lines.append(b"TE: trailers\r\nConnection: TE\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _framing(self, body: RequestBody) -> bytes:
        if body.chunked:
            return b"Transfer-Encoding: chunked\r\n"
        return b"Content-Length: %d\r\n" % body.length

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx answer (RFC 9110, 15.2), unless the client could not read it."""
        if self.version != 11 or (head.status == 100 and not self.expect):
            return
        dropped = HOP_BY_HOP
        if head.connection not in _PLAIN_CONNECTION:
            dropped = dropped | connection_options([head.connection])
        lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
        lines += [
            b"%b: %b\r\n" % (name, value)
            for key, name, value in head.fields
            if key not in dropped and key != b"content-length"
        ]
        self.client.write(b"".join([*lines, b"\r\n"]))

    def __repr__(self) -> str:
        return f"<Exchange {self.method.decode()} status={self.status} {self.chosen!r}>"


# RFC 9110, 7.6.3: with the version of the message that was received.
_VIA = {11: b"Via: 1.1 rtgateway\r\n", 10: b"Via: 1.0 rtgateway\r\n"}
