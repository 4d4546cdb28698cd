"""Requests: what their heads tell, and the parser that llhttp is behind."""

from __future__ import annotations

import re
from typing import Any

import httptools

from rtgateway.core.forwarded import FORWARDING_FIELDS
from rtgateway.core.headers import HOP_BY_HOP
from rtgateway.errors import BadRequest
from rtgateway.wire.http1.heads import (
    END,
    MAX_REMEMBERED,
    VERSIONS,
    HeadLimits,
    Heads,
    content_length,
    keeps_alive,
)
from rtgateway.wire.lines import Field, Line, LineTable, line_field, named_fields, passed_on

__all__ = ["NO_HEAD", "RequestHead", "RequestParser"]

_TOKEN_CHAR = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_TOKEN_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")
_UNKNOWN_METHOD = re.compile("Invalid method|Expected space after method")
_OTHER_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/(?!1\.[01])[0-9]\.[0-9]\r\n")

_WRITTEN_HERE = (
    HOP_BY_HOP
    | FORWARDING_FIELDS
    | {b"host", b"content-length", b"x-request-id", b"traceparent", b"x-rtgateway-mirror"}
)
"""Request fields that are made anew for the next hop, or end at this one."""

_REQUEST_LINES = LineTable(
    dropped=_WRITTEN_HERE,
    named=frozenset(
        b"host content-length transfer-encoding connection expect x-request-id traceparent "
        b"authorization te user-agent referer tracestate max-forwards proxy-connection "
        b"upgrade".split()
    ),
    unkept=frozenset(
        b"authorization cookie proxy-authorization x-api-key "
        b"sec-websocket-key sec-websocket-protocol".split()
    ),
)
_known_request_line = _REQUEST_LINES.__getitem__


_PLAIN = frozenset([b"host", b"connection", b"user-agent", b"referer", b"authorization"])
_SPECIAL_METHODS = frozenset([b"CONNECT", b"TRACE", b"OPTIONS"])


class RequestHead:
    """A request as its head tells it. Never changed: requests that are alike may share one.

    :ivar lines: the header lines in the order received.
    :ivar named: the values of the fields that steer the gateway, by lower-cased name. One that
        stands twice is joined by a comma (RFC 9110, 5.3), which is what none of them may hold.
    :ivar to_head: it is a HEAD request: its answer has no body, whatever it announces.
    :ivar version: 10 or 11.
    :ivar length: bytes of the body, 0 if there is none, -1 if it is chunked.
    :ivar passed_on: the header lines that go on to the next hop as they are.
    :ivar plain: nothing in it but Host needs a second look on its way.
    :ivar repeated: it has come before, on the same connection.
    :ivar memo: room for what is made of it, for when it is repeated.
    """

    __slots__ = (
        "keep_alive",
        "length",
        "lines",
        "memo",
        "method",
        "named",
        "passed_on",
        "plain",
        "repeated",
        "target",
        "to_head",
        "version",
    )

    def __init__(self, method: bytes, target: bytes, version: int, lines: list[Line]) -> None:
        self.method = method
        self.to_head = method == b"HEAD"
        self.target = target
        self.version = version
        self.repeated = False
        self.memo: Any = None
        self.lines = lines
        self.named = named = named_fields(lines)
        self.passed_on = passed_on(lines, named.get(b"connection"))
        self.plain = _PLAIN.issuperset(named) and method not in _SPECIAL_METHODS
        self.length = 0
        if b"connection" in named:
            self.keep_alive = keeps_alive(named[b"connection"], version)
        else:
            self.keep_alive = version == 11
        if b"transfer-encoding" in named:
            self.length = self._chunked(named)
        elif b"content-length" in named:
            self.length = content_length(named[b"content-length"])
            if self.length < 0:
                raise BadRequest("The Content-Length is not a single decimal number")

    def _chunked(self, named: dict[bytes, bytes]) -> int:
        # RFC 9112, 6.1 and 6.3: both framings at once, or chunked in HTTP/1.0, is how requests
        # are smuggled; an intermediary that can't tell where a body ends must not forward it.
        if b"content-length" in named:
            raise BadRequest("Content-Length and Transfer-Encoding are both present")
        if self.version != 11:
            raise BadRequest("Transfer-Encoding is not known to HTTP/1.0")
        coding = named[b"transfer-encoding"].lower()
        if coding == b"chunked":
            return -1
        if coding.endswith(b"chunked") and coding.count(b"chunked") == 1 and b"," in coding:
            raise BadRequest(
                "Only the chunked transfer coding is supported", status=501, code="not_implemented"
            )
        raise BadRequest("Transfer-Encoding does not end in a single chunked")

    @property
    def fields(self) -> list[Field]:
        """``(lower-cased name, name, value)`` in the order received."""
        return list(map(line_field, self.lines))

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {len(self.lines)} fields>"


NO_HEAD = RequestHead(b"", b"", 11, [])
"""Stands for the head of what was no request."""


class RequestParser(Heads):
    """Requests out of a byte stream.

    `feed` until it returns a head; ``rest`` is then what came behind it. Feed that only when the
    body, if any, has been taken off its front.
    """

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits)
        self._parser = httptools.HttpRequestParser(self)
        self._surely_fits = min(limits.line, limits.size)
        self._last = b""
        self._last_head: RequestHead

    def on_headers_complete(self) -> None:
        self._complete = True

    def feed(self, data: bytes) -> RequestHead | None:
        """Take bytes; a head when its blank line is in, else None.

        :raises BadRequest: 400, 414, 431, 501 or 505; nothing more can be read from this stream.
        """
        if data == self._last and not self._partial:
            # The same bytes as the request before: they mean the same.
            self.rest = b""
            head = self._last_head
            head.repeated = True
            return head
        if self._partial or data[0] in b"\r\n":
            data = self._without_blank_lines(data)
            if not data:
                return None
        end = -1 if self._partial else data.find(END) + 4
        if end <= 3:
            data, end = self._gather(data)
            if end < 0:
                self._check_partial()
                return None
        if end > self._surely_fits:
            self._check_size(data, end)
        if end == len(data):
            self.rest = b""
        else:
            self.rest = data[end:]
            data = data[:end]
        return self._parse(data)

    def _parse(self, head: bytes) -> RequestHead:
        self._complete = upgrade = False
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # CONNECT, or a wish to switch protocols: an ordinary head to us.
            upgrade = True
        except httptools.HttpParserError as error:
            raise self._refusal(head, error) from None
        # What llhttp has accepted is nothing but lines, each ended by CRLF.
        first, *lines = head[:-4].split(b"\r\n")
        try:
            method, target, protocol = first.split(b" ")
            version = VERSIONS[protocol]
        except ValueError:
            raise BadRequest("The request line does not have three parts") from None
        except KeyError:
            if _OTHER_VERSION.match(head):
                raise _not_our_version() from None
            raise BadRequest("The request line does not end in a version") from None
        if not self._complete:
            raise BadRequest("The request head is malformed")
        if len(lines) > self._limits.count:
            raise BadRequest("Too many header fields", status=431, code="header_too_large")
        parsed = RequestHead(method, target, version, list(map(_known_request_line, lines)))
        # A parser that expects a body, or an upgrade, or the end, is never asked about another
        # message: it would take the next head for that body. (To llhttp, Proxy-Connection is
        # another Connection.)
        closes = not parsed.keep_alive or b"proxy-connection" in parsed.named
        if parsed.length or upgrade or closes:
            self._parser = httptools.HttpRequestParser(self)
        elif len(head) <= MAX_REMEMBERED:
            self._last = head
            self._last_head = parsed
        return parsed

    def _refusal(self, head: bytes, error: httptools.HttpParserError) -> BadRequest:
        # A method that llhttp does not know, knows the beginning of, or from another protocol.
        if _UNKNOWN_METHOD.match(str(error)) and _TOKEN_START.match(head):
            return BadRequest("This method is not implemented", status=501, code="not_implemented")
        if _OTHER_VERSION.match(head):
            return _not_our_version()
        if self._complete:
            return BadRequest("Transfer-Encoding does not end in a single chunked")
        return BadRequest(f"The request head is malformed: {error}")

    def _check_size(self, whole: bytes, end: int) -> None:
        limits = self._limits
        if whole.index(b"\r\n") > limits.line:
            raise BadRequest("The request line is too long", status=414, code="uri_too_long")
        if end > limits.size:
            raise BadRequest("The header is too large", status=431, code="header_too_large")

    def _check_partial(self) -> None:
        partial, limits = self._partial, self._limits
        if len(partial) > limits.line and b"\r\n" not in partial[: limits.line + 2]:
            raise BadRequest("The request line is too long", status=414, code="uri_too_long")
        if len(partial) > limits.size:
            raise BadRequest("The header is too large", status=431, code="header_too_large")
        # What can never become a head is refused now, not when its deadline comes.
        if partial.count(b"\n") != partial.count(b"\r\n"):
            raise BadRequest("A line ends in a bare LF")
        if not _TOKEN_CHAR.match(partial):
            raise BadRequest("The request line does not start with a method")

    def _without_blank_lines(self, data: bytes) -> bytes:
        # RFC 9112, 2.2: a server should ignore at least one empty line before a request line.
        # Two are ignored, and only in their proper spelling.
        partial = self._partial
        if partial and partial[0] != 0x0D:
            return data
        data = bytes(partial) + data
        partial.clear()
        if END.startswith(data):
            partial += data
            return b""
        data = data[2 * (data.startswith(b"\r\n") + data.startswith(END)) :]
        if data[0] in b"\r\n":
            raise BadRequest("The request starts with line ends")
        return data


def _not_our_version() -> BadRequest:
    return BadRequest("Only HTTP/1.0 and HTTP/1.1 are spoken here", status=505)
