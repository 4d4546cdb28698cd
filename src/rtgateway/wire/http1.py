"""HTTP/1.1 message heads: bytes in, values out. llhttp parses; this module holds it to its word.

A head is found twice, once by its blank line and once by llhttp, and both must agree on where
it ends. Only whole heads leave this module; what follows a head is handed back untouched as
``rest``, so that a caller decides when the next message may be looked at (llhttp can't pause).
Bodies are decoded in `rtgateway.wire.body`.

Nothing here knows sockets. Callers: ``web.channel`` (requests), ``upstream.connection`` (answers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

from rtgateway.errors import BadRequest, UpstreamFailed

__all__ = [
    "Field",
    "Fields",
    "HeadLimits",
    "RequestHead",
    "RequestParser",
    "ResponseHead",
    "ResponseParser",
]

Field = tuple[bytes, bytes, bytes]
Fields = list[Field]

_END = b"\r\n\r\n"
_TOKEN_CHAR = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_TOKEN_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")
_OTHER_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/(?!1\.[01])[0-9]\.[0-9]\r\n")
_MAX_LENGTH_DIGITS = 15
"""A Content-Length of up to 10**15 - 1 bytes (909 TiB); longer ones are refused, not wrapped."""


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds of one head. ``line``: bytes of the first line; ``size``: bytes in all."""

    line: int = 8192
    size: int = 32768
    count: int = 100


class RequestHead:
    """A request as its head tells it.

    :ivar fields: ``(lower-cased name, name, value)`` in the order received.
    :ivar version: 10 or 11.
    :ivar length: bytes of the body, 0 if there is none, -1 if it is chunked.
    :ivar hosts: the values of all Host fields (``web.channel`` judges them).
    """

    __slots__ = (
        "connection",
        "expect",
        "fields",
        "hosts",
        "keep_alive",
        "length",
        "method",
        "target",
        "version",
    )

    def __init__(self, method: bytes, target: bytes, version: int, fields: Fields) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.length = 0
        self.hosts: list[bytes] = []
        self.connection: bytes = b""
        self.expect: bytes = b""
        self.keep_alive = version == 11
        self._interpret()

    def _interpret(self) -> None:
        length = coding = None
        for key, _, value in self.fields:
            if key not in _MEANINGFUL:
                continue
            if key == b"host":
                self.hosts.append(value)
            elif key == b"content-length":
                length = value if length is None else b"twice"
            elif key == b"transfer-encoding":
                coding = value if coding is None else b"twice"
            elif key == b"connection":
                self.connection = self.connection + b"," + value if self.connection else value
            else:
                self.expect = value if not self.expect else b"twice"
        if self.connection:
            self.keep_alive = keeps_alive(self.connection, self.version)
        if coding is not None:
            self.length = self._chunked(coding, length)
        elif length is not None:
            self.length = _length(length)
            if self.length < 0:
                raise BadRequest("The Content-Length is not a single decimal number")

    def _chunked(self, coding: bytes, length: bytes | None) -> int:
        # RFC 9112, 6.1 and 6.3: both framings at once, or chunked in HTTP/1.0, is how requests
        # are smuggled; an intermediary that can't tell where a body ends must not forward it.
        if length is not None:
            raise BadRequest("Content-Length and Transfer-Encoding are both present")
        if self.version != 11:
            raise BadRequest("Transfer-Encoding is not known to HTTP/1.0")
        coding = coding.lower()
        if coding == b"chunked":
            return -1
        if coding.endswith(b"chunked") and coding.count(b"chunked") == 1 and b"," in coding:
            raise BadRequest(
                "Only the chunked transfer coding is supported", status=501, code="not_implemented"
            )
        raise BadRequest("Transfer-Encoding does not end in a single chunked")

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {len(self.fields)} fields>"


_MEANINGFUL = frozenset(
    [b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"]
)


def _length(value: bytes) -> int:
    """The number in a Content-Length, or -1 where it is not one (RFC 9110, 8.6: 1*DIGIT)."""
    if value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS:
        return int(value)
    return -1


def keeps_alive(connection: bytes, version: int) -> bool:
    """Whether a message with this Connection value leaves its connection open (RFC 9112, 9.3)."""
    options = {option.strip() for option in connection.lower().split(b",")}
    if b"close" in options:
        return False
    return version == 11 or b"keep-alive" in options


class _Heads:
    """What the two parsers share: whole heads, out of any split of the bytes."""

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._partial = bytearray()
        self._fields: Fields = []
        self._complete = False
        self.rest = b""

    def _whole_head(self, data: bytes) -> bytes | None:
        """All bytes from the start of a head on, once its blank line is among them.

        llhttp sees nothing before that, so that no split of the bytes can change what it says.
        """
        partial = self._partial
        if not partial and _END in data:
            return data
        before = len(partial)
        partial += data
        if partial.find(_END, max(0, before - 3)) < 0:
            return None
        data = bytes(partial)
        partial.clear()
        return data

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), name, value))

    @property
    def between_messages(self) -> bool:
        """Whether no byte of the next head has been seen."""
        return not self._partial


class RequestParser(_Heads):
    """Requests out of a byte stream.

    `feed` until it returns a head; ``rest`` is then what came behind it. Feed that only when the
    body, if any, has been taken off its front.
    """

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits)
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        self._complete = True

    def feed(self, data: bytes) -> RequestHead | None:
        """Take bytes; a head when its blank line is in, else None.

        :raises BadRequest: 400, 414, 431, 501 or 505; nothing more can be read from this stream.
        """
        if self._partial or data[0] in b"\r\n":
            data = self._without_blank_lines(data)
            if not data:
                return None
        whole = self._whole_head(data)
        if whole is None:
            self._check_partial()
            return None
        end = whole.index(_END) + 4
        if end > self._limits.line:
            self._check_size(whole, end)
        if end == len(whole):
            self.rest = b""
        else:
            self.rest = whole[end:]
            whole = whole[:end]
        return self._parse(whole)

    def _parse(self, head: bytes) -> RequestHead:
        fields: Fields = []
        self._fields = fields
        self._target = b""
        self._complete = False
        upgrade = False
        parser = self._parser
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # CONNECT, or a wish to switch protocols: an ordinary head to us.
            upgrade = True
        except httptools.HttpParserError as error:
            raise self._refusal(head, error) from None
        if not self._complete:
            raise BadRequest("The request head is malformed")
        if len(fields) > self._limits.count:
            raise BadRequest("Too many header fields", status=431, code="header_too_large")
        version = _VERSIONS.get(parser.get_http_version(), 0)
        if not version:
            raise _not_our_version()
        parsed = RequestHead(parser.get_method(), self._target, version, fields)
        # A parser that expects a body, or an upgrade, or the end, is never asked about another
        # message: it would take the next head for that body.
        if parsed.length or upgrade or not parsed.keep_alive:
            self._parser = httptools.HttpRequestParser(self)
        return parsed

    def _refusal(self, head: bytes, error: httptools.HttpParserError) -> BadRequest:
        if isinstance(error, httptools.HttpParserInvalidMethodError) and _TOKEN_START.match(head):
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
        if _END.startswith(data):
            partial += data
            return b""
        data = data[2 * (data.startswith(b"\r\n") + data.startswith(_END)) :]
        if data[0] in b"\r\n":
            raise BadRequest("The request starts with line ends")
        return data


_VERSIONS = {"1.1": 11, "1.0": 10}


def _not_our_version() -> BadRequest:
    return BadRequest("Only HTTP/1.0 and HTTP/1.1 are spoken here", status=505)


class ResponseHead:
    """An answer as its head tells it.

    :ivar length: bytes of the body; -1 chunked; -2 until the connection ends (RFC 9112, 6.3).
    :ivar announced: the Content-Length field as a number, or -1 where there is none; differs from
        ``length`` for answers without a body (HEAD, 304).
    """

    __slots__ = (
        "announced",
        "connection",
        "content_type",
        "fields",
        "keep_alive",
        "length",
        "reason",
        "status",
    )

    def __init__(
        self, status: int, reason: bytes, version: int, fields: Fields, *, to_head: bool
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.connection: bytes = b""
        self.content_type: bytes = b""
        length = coding = None
        for key, _, value in fields:
            if key not in _TELLING:
                continue
            if key == b"content-length":
                length = value if length is None else b"twice"
            elif key == b"content-type":
                self.content_type = value
            elif key == b"connection":
                self.connection = self.connection + b"," + value if self.connection else value
            else:
                coding = value if coding is None else b"twice"
        self.announced = -1
        if length is not None:
            self.announced = _length(length)
            if self.announced < 0:
                raise _bad_answer("its Content-Length is not a single decimal number")
        if coding is not None and (
            version != 11 or length is not None or coding.lower() != b"chunked"
        ):
            raise _bad_answer("its Transfer-Encoding is not a lone chunked")
        self.length = self._framing(coding is not None, to_head)
        self.keep_alive = self.length != -2 and (
            keeps_alive(self.connection, version) if self.connection else version == 11
        )

    def _framing(self, chunked: bool, to_head: bool) -> int:
        status = self.status
        if status < 200 or status == 204:
            # RFC 9112, 6.1 and 6.3: no body, and nothing that announces one. A length of 0 is
            # harmless and common on 204.
            if chunked or self.announced > 0:
                raise _bad_answer(f"it announces a body on a {status}")
            self.announced = -1
            return 0
        if to_head or status == 304:
            return 0
        if chunked:
            return -1
        return self.announced if self.announced >= 0 else -2

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length} {len(self.fields)} fields>"


_TELLING = frozenset([b"content-length", b"content-type", b"connection", b"transfer-encoding"])


def _bad_answer(detail: str) -> UpstreamFailed:
    return UpstreamFailed(f"the answer is not valid HTTP: {detail}", code="upstream_invalid")


class ResponseParser(_Heads):
    """Answers out of a byte stream, one head at a time.

    ``to_head`` must be set before the answer to a HEAD request is fed: only who asked knows that
    its Content-Length announces nothing (RFC 9110, 9.3.2), and llhttp is not told.
    """

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits)
        self.to_head = False
        self._parser = httptools.HttpResponseParser(self)
        self._reason = b""
        self._status = 0
        self._version = 11
        self._head_fields: Fields = []
        self._whole = False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_headers_complete(self) -> None:
        if self._complete:
            return  # a second message in the same read: its bytes are in ``rest``, and wrong there
        self._complete = True
        parser = self._parser
        self._status = parser.get_status_code()
        self._version = _VERSIONS.get(parser.get_http_version(), 0)
        # Trailers, and whatever stands behind the answer, arrive as late headers: elsewhere.
        self._head_fields, self._fields = self._fields, []

    def on_message_complete(self) -> None:
        self._whole = True

    def feed(self, data: bytes) -> ResponseHead | None:
        """Take bytes; a head when its blank line is in, else None.

        :raises UpstreamFailed: the stream is not HTTP; it can't be used any further.
        """
        whole = self._whole_head(data)
        if whole is None:
            if len(self._partial) > self._limits.size:
                raise _bad_answer("its head is too large")
            if not _STATUS_LINE.startswith(self._partial[:9]) and self._partial[:9] != b"HTTP/1.0 ":
                raise _bad_answer("it does not start with a status line")
            return None
        end = whole.index(_END) + 4
        if end > self._limits.size:
            raise _bad_answer("its head is too large")
        self.rest = whole[end:] if end < len(whole) else b""
        # Most answers come whole in one read. Then llhttp sees the body too (it only counts it)
        # and is ready for the next message; else it is replaced. 1xx heads come in twos.
        together = not self.to_head and whole[9:10] != b"1"
        self._parse(whole if together else whole[:end])
        if not 100 <= self._status <= 599:
            raise _bad_answer("its status code is out of range")
        if len(self._head_fields) > self._limits.count:
            raise _bad_answer("it has too many header fields")
        if not self._version:
            raise _bad_answer("its HTTP version is neither 1.0 nor 1.1")
        head = ResponseHead(
            self._status, self._reason, self._version, self._head_fields, to_head=self.to_head
        )
        if not (together and self._whole and head.length == len(self.rest)):
            self._parser = httptools.HttpResponseParser(self)
        return head

    def _parse(self, data: bytes) -> None:
        self._fields = []
        self._reason = b""
        self._whole = self._complete = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._whole = False
        except httptools.HttpParserError as error:
            # Behind a head, `rtgateway.wire.body` is the judge.
            if not self._complete:
                raise _bad_answer(str(error)) from None
            self._whole = False
        if not self._complete:
            raise _bad_answer("its head is malformed")


_STATUS_LINE = b"HTTP/1.1 "
