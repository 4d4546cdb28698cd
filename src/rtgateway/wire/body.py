"""HTTP/1.1 bodies: where each one ends, and how it is written again (RFC 9112, 6 and 7).

A decoder takes the bytes behind a head and gives back payload; once ``done``, ``rest`` is what
belongs to the next message. The framing received is never sent on: payload is framed anew by
`chunk` and `last_chunk`, so that what a peer saw as a body is what the next one sees.
"""

from __future__ import annotations

import re
from typing import Protocol

from rtgateway.core.forwarded import FORWARDING_FIELDS
from rtgateway.core.headers import HOP_BY_HOP
from rtgateway.errors import BadRequest

__all__ = [
    "BodyDecoder",
    "ChunkedBody",
    "LengthBody",
    "UntilCloseBody",
    "chunk",
    "decoder_for",
    "last_chunk",
]


class BodyDecoder(Protocol):
    """Payload out of framed bytes. Raises `BadRequest` when the framing is broken."""

    done: bool
    rest: bytes
    trailers: list[tuple[bytes, bytes]]

    def feed(self, data: bytes) -> bytes:
        """The payload in ``data``; may be empty."""
        ...

    def ends_at_close(self) -> bool:
        """Whether the body is complete if the connection ends here."""
        ...


class LengthBody:
    """A body of known length."""

    __slots__ = ("done", "left", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes) -> bytes:
        size = len(data)
        if size < self.left:
            self.left -= size
            return data
        payload = data
        if size > self.left:
            self.rest = data[self.left :]
            payload = data[: self.left]
        self.left = 0
        self.done = True
        return payload

    def ends_at_close(self) -> bool:
        return self.done

    def __repr__(self) -> str:
        return f"<LengthBody left={self.left}>"


class UntilCloseBody:
    """A body that the end of its connection ends; only answers may have one."""

    __slots__ = ("done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes) -> bytes:
        return data

    def ends_at_close(self) -> bool:
        return True

    def __repr__(self) -> str:
        return "<UntilCloseBody>"


# chunk-size [ chunk-ext ]; whitespace before the ";" is what smuggling is made of, so none is
# taken (RFC 9112, 7.1.1 lets a recipient ignore extensions: they are read, bounded and dropped).
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_TRAILER = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*"
    rb"((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*"
)
_MAX_LINE = 1024
_EXTENSION_ROOM = 16384
"""Bytes of chunk extensions beyond as many as there is payload (RFC 9112, 7.1.1)."""

# RFC 9110, 6.5.1: fields that steer framing, routing, authentication or content can't come late.
_NOT_IN_TRAILERS = (
    HOP_BY_HOP
    | FORWARDING_FIELDS
    | frozenset(
        b"age authorization cache-control content-encoding content-length content-range "
        b"content-type cookie date expect expires host location max-forwards pragma range "
        b"retry-after set-cookie traceparent tracestate vary via warning www-authenticate "
        b"x-request-id".split()
    )
)


class ChunkedBody:
    """A chunked body. The current state is the method that takes the next bytes."""

    __slots__ = (
        "_extension_room",
        "_left",
        "_line",
        "_step",
        "_trailer_room",
        "done",
        "rest",
        "trailers",
    )

    def __init__(self, trailer_bytes: int = 8192) -> None:
        self.done = False
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self._left = 0
        self._line = b""
        self._trailer_room = trailer_bytes
        self._extension_room = _EXTENSION_ROOM
        self._step = self._size

    def feed(self, data: bytes) -> bytes:
        payload: list[bytes] = []
        at = 0
        if not self._line and self._step == self._size:
            # The common case: whole chunks without extensions, most often one of them in a read.
            while (plain := _PLAIN_SIZE.match(data, at)) is not None:
                start = plain.end()
                end = start + int(plain[1], 16)
                if end == start or data[end : end + 2] != b"\r\n":
                    break
                payload.append(data[start:end])
                at = end + 2
        while at < len(data) and not self.done:
            at = self._step(data, at, payload)
        if self.done:
            self.rest = data[at:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def ends_at_close(self) -> bool:
        return self.done

    # -- states -----------------------------------------------------------------------------

    def _size(self, data: bytes, at: int, payload: list[bytes]) -> int:
        line, at = self._take_line(data, at, _MAX_LINE)
        if line is None:
            return at
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadRequest("A chunk size is malformed")
        self._left = int(match[1], 16)
        if len(line) > match.end(1):
            self._extension_room += self._left - len(line)
            if self._extension_room < 0:
                raise BadRequest("The chunk extensions are larger than the payload")
        self._step = self._data if self._left else self._trailer
        return at

    def _data(self, data: bytes, at: int, payload: list[bytes]) -> int:
        here = data[at : at + self._left]
        self._left -= len(here)
        if not self._left:
            self._step = self._data_end
        payload.append(here)
        return at + len(here)

    def _data_end(self, data: bytes, at: int, payload: list[bytes]) -> int:
        line, at = self._take_line(data, at, 2)
        if line is not None:
            if line:
                raise BadRequest("A chunk is longer than its size")
            self._step = self._size
        return at

    def _trailer(self, data: bytes, at: int, payload: list[bytes]) -> int:
        line, at = self._take_line(data, at, self._trailer_room)
        if line is None:
            return at
        if not line:
            self.done = True
            return at
        self._trailer_room -= len(line) + 2
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise BadRequest("A trailer field is malformed")
        if match[1].lower() not in _NOT_IN_TRAILERS:
            self.trailers.append((match[1], match[2]))
        return at

    def _take_line(self, data: bytes, at: int, room: int) -> tuple[bytes | None, int]:
        """A line without its CRLF and the index behind it; None while its end has not come."""
        if self._line.endswith(b"\r"):
            # The CR came in the read before: only an LF may follow, whatever else is in sight.
            if data[at] != 0x0A:
                raise BadRequest("A chunked body has a bare CR")
            line, self._line = self._line[:-1], b""
            return line, at + 1
        end = data.find(b"\r\n", at)
        part = data[at : end if end >= 0 else at + room + 1]
        line = self._line + part
        if len(line) > room:
            raise BadRequest("A line in a chunked body is too long")
        if b"\n" in line or b"\r" in line[:-1] or (end >= 0 and b"\r" in line):
            raise BadRequest("A line in a chunked body has a bare CR or LF")
        if end < 0:
            self._line = line
            return None, at + len(part)
        self._line = b""
        return line, end + 2

    def __repr__(self) -> str:
        return f"<ChunkedBody {self._step.__name__[1:]} left={self._left}>"


def decoder_for(length: int, trailer_bytes: int) -> BodyDecoder:
    """The decoder for a head's ``length`` (-1 chunked, -2 until close)."""
    if length >= 0:
        return LengthBody(length)
    if length == -1:
        return ChunkedBody(trailer_bytes)
    return UntilCloseBody()


def chunk(payload: bytes) -> bytes:
    """``payload`` (not empty: an empty chunk ends a body) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def last_chunk(trailers: list[tuple[bytes, bytes]]) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return b"0\r\n\r\n"
    lines = b"".join(b"%b: %b\r\n" % field for field in trailers)
    return b"0\r\n%b\r\n" % lines
