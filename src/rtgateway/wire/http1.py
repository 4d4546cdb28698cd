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

from rtgateway.core.forwarded import FORWARDING_FIELDS
from rtgateway.core.headers import HOP_BY_HOP
from rtgateway.errors import BadRequest, UpstreamFailed
from rtgateway.wire.lines import Field, Line, LineTable, line_field, named_fields, passed_on

__all__ = [
    "NO_HEAD",
    "Field",
    "HeadLimits",
    "RequestHead",
    "RequestParser",
    "ResponseHead",
    "ResponseParser",
]

_END = b"\r\n\r\n"
_TOKEN_CHAR = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_TOKEN_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")
_UNKNOWN_METHOD = re.compile("Invalid method|Expected space after method")
_OTHER_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/(?!1\.[01])[0-9]\.[0-9]\r\n")
_MAX_LENGTH_DIGITS = 15
"""A Content-Length of up to 10**15 - 1 bytes (909 TiB); longer ones are refused, not wrapped."""


_MAX_REMEMBERED = 2048
"""Bytes of the longest head that is remembered whole."""
_MAX_RECENT = 512
"""How many heads of answers are remembered."""


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds of one head. ``line``: bytes of the first line; ``size``: bytes in all."""

    line: int = 8192
    size: int = 32768
    count: int = 100


REQUEST_FIELDS_WRITTEN_HERE = (
    HOP_BY_HOP | FORWARDING_FIELDS | {b"host", b"content-length", b"x-request-id", b"traceparent"}
)
"""Request fields that are made anew for the next hop, or end at this one."""

_REQUEST_LINES = LineTable(
    dropped=REQUEST_FIELDS_WRITTEN_HERE,
    named=frozenset(
        b"host content-length transfer-encoding connection expect x-request-id traceparent "
        b"authorization te user-agent referer tracestate max-forwards proxy-connection".split()
    ),
    unkept=frozenset(b"authorization cookie proxy-authorization x-api-key".split()),
)
_known_request_line = _REQUEST_LINES.__getitem__


_PLAIN = frozenset([b"host", b"connection", b"user-agent", b"referer", b"authorization"])
_SPECIAL_METHODS = frozenset([b"CONNECT", b"TRACE", b"OPTIONS"])


class RequestHead:
    """A request as its head tells it. Never changed: requests that are alike may share one.

    :ivar lines: the header lines in the order received.
    :ivar named: the values of the fields that steer the gateway, by lower-cased name. One that
        stands twice is joined by a comma (RFC 9110, 5.3), which is what none of them may hold.
    :ivar version: 10 or 11.
    :ivar length: bytes of the body, 0 if there is none, -1 if it is chunked.
    :ivar passed_on: the header lines that go on to the next hop as they are.
    :ivar plain: nothing in it but Host needs a second look on its way.
    """

    __slots__ = (
        "keep_alive",
        "length",
        "lines",
        "method",
        "named",
        "passed_on",
        "plain",
        "target",
        "version",
    )

    def __init__(self, method: bytes, target: bytes, version: int, lines: list[Line]) -> None:
        self.method = method
        self.target = target
        self.version = version
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
            self.length = _length(named[b"content-length"])
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


def _length(value: bytes) -> int:
    """The number in a Content-Length, or -1 where it is not one (RFC 9110, 8.6: 1*DIGIT)."""
    if value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS:
        return int(value)
    return -1


def keeps_alive(connection: bytes, version: int) -> bool:
    """Whether a message with this Connection value leaves its connection open (RFC 9112, 9.3)."""
    connection = connection.lower()
    if connection in (b"keep-alive", b"close"):
        return connection == b"keep-alive"
    options = {option.strip() for option in connection.split(b",")}
    if b"close" in options:
        return False
    return version == 11 or b"keep-alive" in options


class _Heads:
    """What the two parsers share: whole heads, out of any split of the bytes."""

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._partial = bytearray()
        self._complete = False
        self.rest = b""

    def _gather(self, data: bytes) -> tuple[bytes, int]:
        """All bytes from the start of a head on, and the index behind its blank line, or -1.

        llhttp sees nothing before that, so that no split of the bytes can change what it says.
        """
        partial = self._partial
        before = len(partial)
        partial += data
        end = partial.find(_END, max(0, before - 3))
        if end < 0:
            return b"", -1
        data = bytes(partial)
        partial.clear()
        return data, end + 4

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
            return self._last_head
        if self._partial or data[0] in b"\r\n":
            data = self._without_blank_lines(data)
            if not data:
                return None
        end = -1 if self._partial else data.find(_END) + 4
        if end <= 3:
            data, end = self._gather(data)
            if end < 0:
                self._check_partial()
                return None
        if end > self._limits.line:
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
            version = _VERSIONS[protocol]
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
        elif len(head) <= _MAX_REMEMBERED:
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
        if _END.startswith(data):
            partial += data
            return b""
        data = data[2 * (data.startswith(b"\r\n") + data.startswith(_END)) :]
        if data[0] in b"\r\n":
            raise BadRequest("The request starts with line ends")
        return data


_VERSIONS = {b"HTTP/1.1": 11, b"HTTP/1.0": 10}


def _not_our_version() -> BadRequest:
    return BadRequest("Only HTTP/1.0 and HTTP/1.1 are spoken here", status=505)


_RESPONSE_LINES = LineTable(
    dropped=HOP_BY_HOP | {b"content-length", b"x-request-id"},
    named=frozenset(
        b"content-length content-type transfer-encoding connection date content-encoding "
        b"set-cookie".split()
    ),
    unkept=frozenset([b"set-cookie"]),
)
_known_response_line = _RESPONSE_LINES.__getitem__
_BODILESS = frozenset([*range(100, 200), 204, 304])


class ResponseHead:
    """An answer as its head tells it. Never changed: answers that are alike may share one.

    :ivar lines: the header lines in the order received.
    :ivar named: as in `RequestHead`.
    :ivar passed_on: the status line and the header lines that go on to the next hop as they are.
    :ivar length: bytes of the body; -1 chunked; -2 until the connection ends (RFC 9112, 6.3).
    :ivar announced: the Content-Length field as a number, or -1 where there is none; differs from
        ``length`` for answers without a body (HEAD, 304).
    """

    __slots__ = ("announced", "keep_alive", "length", "lines", "named", "passed_on", "status")

    def __init__(self, status_line: _StatusLine, lines: list[Line], to_head: bool) -> None:
        version, status, first_line = status_line
        self.status = status
        self.lines = lines
        self.named = named = named_fields(lines)
        self.passed_on = first_line + passed_on(lines, named.get(b"connection"))
        length = named.get(b"content-length")
        if length is None:
            self.announced = -1
        elif length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS:
            self.announced = int(length)
        else:
            raise _bad_answer("its Content-Length is not a single decimal number")
        chunked = b"transfer-encoding" in named
        if chunked and (
            version != 11 or length is not None or named[b"transfer-encoding"].lower() != b"chunked"
        ):
            raise _bad_answer("its Transfer-Encoding is not a lone chunked")
        if to_head or length is None or status in _BODILESS:
            self.length = self._framing(chunked, to_head)
        else:
            self.length = self.announced
        connection = named.get(b"connection")
        if connection is None:
            self.keep_alive = version == 11 and self.length != -2
        else:
            self.keep_alive = keeps_alive(connection, version) and self.length != -2

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

    @property
    def fields(self) -> list[Field]:
        """``(lower-cased name, name, value)`` in the order received."""
        return list(map(line_field, self.lines))

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length} {len(self.lines)} fields>"


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
        self._whole = False

    def on_headers_complete(self) -> None:
        self._complete = True

    def on_message_complete(self) -> None:
        self._whole = True

    def feed(self, data: bytes) -> ResponseHead | None:
        """Take bytes; a head when its blank line is in, else None.

        :raises UpstreamFailed: the stream is not HTTP; it can't be used any further.
        """
        end = -1 if self._partial else data.find(_END) + 4
        if end <= 3:
            data, end = self._gather(data)
            if end < 0:
                self._check_partial()
                return None
        if end > self._limits.size:
            raise _bad_answer("its head is too large")
        size = len(data)
        self.rest = data[end:]
        known = _recent_answers.get(data[:end])
        if known is not None and not self.to_head:
            return known
        # Most answers come whole in one read. Then llhttp sees the body too (it only counts it)
        # and is ready for the next message; else it is replaced. 1xx heads come in twos.
        together = data[9:10] != b"1" and not self.to_head
        self._whole = self._complete = False
        try:
            self._parser.feed_data(data if together else data[:end])
        except httptools.HttpParserUpgrade:
            self._whole = False
        except httptools.HttpParserError as error:
            # Behind a head, `rtgateway.wire.body` is the judge.
            if not self._complete:
                raise _bad_answer(str(error)) from None
            self._whole = False
        if not self._complete:
            raise _bad_answer("its head is malformed")
        first, *lines = data[: end - 4].split(b"\r\n")
        if len(lines) > self._limits.count:
            raise _bad_answer("it has too many header fields")
        head = ResponseHead(
            _status_lines.get(first) or _status(first),
            list(map(_known_response_line, lines)),
            self.to_head,
        )
        if not (together and self._whole and head.length == size - end):
            self._parser = httptools.HttpResponseParser(self)
        if together and end <= _MAX_REMEMBERED and b"set-cookie" not in head.named:
            if len(_recent_answers) >= _MAX_RECENT:
                _recent_answers.clear()
            _recent_answers[data[:end]] = head
        return head

    def _check_partial(self) -> None:
        partial = self._partial
        if len(partial) > self._limits.size:
            raise _bad_answer("its head is too large")
        if not b"HTTP/1.1 ".startswith(partial[:9]) and not b"HTTP/1.0 ".startswith(partial[:9]):
            raise _bad_answer("it does not start with a status line")
        if partial.count(b"\n") != partial.count(b"\r\n"):
            raise _bad_answer("a line of its head ends in a bare LF")


# RFC 9112, 4: the space before an empty reason may be missing in practice.
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_StatusLine = tuple[int, int, bytes]
_status_lines: dict[bytes, _StatusLine] = {}

_recent_answers: dict[bytes, ResponseHead] = {}
"""Heads that llhttp has accepted. Instances say the same again and again, and the same bytes mean
the same. Not kept: answers to HEAD, 1xx, and what may hold a secret."""


def _status(line: bytes) -> _StatusLine:
    """Version, status and the line for the client, of a status line that llhttp has accepted."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise _bad_answer("its status line is malformed")
    status = int(match[2])
    known = (_VERSIONS[match[1]], status, b"HTTP/1.1 %d %b\r\n" % (status, match[3] or b""))
    if len(_status_lines) >= 512:
        _status_lines.clear()
    _status_lines[line] = known
    return known
