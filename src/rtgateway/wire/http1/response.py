"""Answers: what their heads tell, and the parser that llhttp is behind."""

from __future__ import annotations

import re

import httptools

from rtgateway.core.headers import HOP_BY_HOP
from rtgateway.errors import UpstreamFailed
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

__all__ = ["QUOTA_FIELDS", "ResponseHead", "ResponseParser"]

_MAX_RECENT = 512
"""How many heads are remembered."""

QUOTA_FIELDS = frozenset([b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"])
"""What an instance says of limits of its own, and the gateway of its."""

_RESPONSE_LINES = LineTable(
    dropped=HOP_BY_HOP | {b"content-length", b"x-request-id"},
    named=QUOTA_FIELDS.union(
        b"content-length content-type transfer-encoding connection date content-encoding "
        b"set-cookie proxy-connection retry-after".split()
    ),
    unkept=frozenset([b"set-cookie", b"sec-websocket-accept"]),
)
_known_response_line = _RESPONSE_LINES.__getitem__
_BODILESS = frozenset([*range(100, 200), 204, 304])


class ResponseHead:
    """An answer as its head tells it. Never changed: answers that are alike may share one.

    :ivar version: 10 or 11.
    :ivar lines: the header lines in the order received.
    :ivar named: as in `RequestHead`.
    :ivar passed_on: the status line and the header lines that go on to the next hop as they are.
    :ivar length: bytes of the body; -1 chunked; -2 until the connection ends (RFC 9112, 6.3).
    :ivar announced: the Content-Length field as a number, or -1 where there is none; differs from
        ``length`` for answers without a body (HEAD, 304).
    :ivar memo: room for what `gateway.relay` makes of it: the head for most clients, in front of
        the request id and behind it.
    """

    __slots__ = (
        "announced",
        "keep_alive",
        "length",
        "lines",
        "memo",
        "named",
        "passed_on",
        "status",
        "version",
    )

    def __init__(self, status_line: _StatusLine, lines: list[Line], to_head: bool) -> None:
        version, status, first_line = status_line
        self.version = version
        self.status = status
        self.memo: tuple[bytes, bytes] | None = None
        self.lines = lines
        self.named = named = named_fields(lines)
        self.passed_on = first_line + passed_on(lines, named.get(b"connection"))
        length = named.get(b"content-length")
        if length is None:
            self.announced = -1
        else:
            self.announced = content_length(length)
            if self.announced < 0:
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

    def without(self, names: frozenset[bytes]) -> bytes:
        """``passed_on`` without these fields (lower-case names)."""
        first_line, _, _ = self.passed_on.partition(b"\r\n")
        lines = [line for line in self.lines if line[0][0] not in names]
        return first_line + b"\r\n" + passed_on(lines, self.named.get(b"connection"))

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


class ResponseParser(Heads):
    """Answers out of a byte stream, one head at a time.

    ``to_head`` must be set before the answer to a HEAD request is fed: only who asked knows that
    its Content-Length announces nothing (RFC 9110, 9.3.2), and llhttp is not told.
    """

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits)
        self.to_head = False
        self._parser = httptools.HttpResponseParser(self)
        self._whole = False
        self._last = b""
        self._last_head: ResponseHead | None = None

    def on_headers_complete(self) -> None:
        self._complete = True

    def on_message_complete(self) -> None:
        self._whole = True

    def feed(self, data: bytes) -> ResponseHead | None:
        """Take bytes; a head when its blank line is in, else None.

        :raises UpstreamFailed: the stream is not HTTP; it can't be used any further.
        """
        known = self._last_head
        if (
            known is not None
            and data.startswith(self._last)
            and not (self.to_head or self._partial)
        ):
            # The same head as before on this connection: it means the same.
            self.rest = data[len(self._last) :]
            return known
        end = -1 if self._partial else data.find(END) + 4
        if end <= 3:
            data, end = self._gather(data)
            if end < 0:
                self._check_partial()
                return None
        if end > self._limits.size:
            raise _bad_answer("its head is too large")
        self.rest = data[end:]
        known = _recent_answers.get(data[:end])
        if known is not None and not self.to_head:
            self._last = data[:end]
            self._last_head = known
            return known
        return self._read(data, end)

    def _read(self, data: bytes, end: int) -> ResponseHead:
        """The head in ``data[:end]``, which nobody has seen lately.

        :raises UpstreamFailed: it is not HTTP.
        """
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
        # To llhttp, Proxy-Connection is another Connection, and behind a close nothing may come.
        lasts = head.keep_alive and b"proxy-connection" not in head.named
        if not (together and self._whole and lasts and head.length == len(data) - end):
            self._parser = httptools.HttpResponseParser(self)
        if together and end <= MAX_REMEMBERED and b"set-cookie" not in head.named:
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
    known = (VERSIONS[match[1]], status, b"HTTP/1.1 %d %b\r\n" % (status, match[3] or b""))
    if len(_status_lines) >= 512:
        _status_lines.clear()
    _status_lines[line] = known
    return known
