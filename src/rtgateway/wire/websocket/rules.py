"""What one direction of a socket may say: the header of a frame, held against the rules."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "NO_MESSAGE",
    "PING",
    "PONG",
    "TEXT",
    "FrameError",
    "FrameRules",
    "Reason",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes (RFC 6455, 11.8)."""

NO_MESSAGE = -1
"""Instead of a message's bytes so far: none has begun, or its last frame has."""

Reason = Literal["protocol_error", "frame_too_big", "message_too_big"]

_CONTROLS = frozenset((0x80 | CLOSE, 0x80 | PING, 0x80 | PONG))
_INSIDE = _CONTROLS | {CONTINUATION, 0x80 | CONTINUATION}
_OUTSIDE = _CONTROLS | {TEXT, BINARY, 0x80 | TEXT, 0x80 | BINARY}
_COMPRESSED = _OUTSIDE | {0x40 | TEXT, 0x40 | BINARY, 0xC0 | TEXT, 0xC0 | BINARY}
"""First bytes of legal frames: FIN, three reserved bits, opcode (RFC 6455, 5.2)."""


class FrameError(Exception):
    """Bytes that break RFC 6455 or a limit; the direction they came from is at its end.

    :ivar code: for the Close frame: 1002 or 1009.
    :ivar reason: the same as a word, for the Close frame and for counting.
    :ivar detail: what is wrong, in words for a log; never contains payload.
    :ivar passed: what came before the violation in the same read and is to be passed on still;
        it ends at a frame boundary.
    """

    def __init__(self, code: int, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.reason: Reason = reason
        self.detail = detail
        self.passed = b""

    def __repr__(self) -> str:
        return f"<FrameError {self.code} {self.reason}: {self.detail}>"


class FrameRules:
    """The rules of one direction, shared by all sockets that they hold for.

    :param masked: frames must be masked, as those of clients; else they must not be.
    :param compressed: permessage-deflate was agreed on: messages may have RSV1 (RFC 7692, 6).
    :param max_frame: bytes of payload in a data frame; 0 for any number.
    :param max_message: the same for a message, as it is on the wire (not inflated).
    """

    __slots__ = ("_first", "compressed", "header", "masked", "max_frame", "max_message", "whole")

    def __init__(self, *, masked: bool, compressed: bool, max_frame: int, max_message: int) -> None:
        self.masked = masked
        self.compressed = compressed
        self.max_frame = max_frame
        self.max_message = max_message
        self.header = 6 if masked else 2
        """Bytes of the shortest header."""
        self._first = (_COMPRESSED if compressed else _OUTSIDE, _INSIDE)
        self.whole = self._whole()
        """Of a message in one legal frame, by its first and its second byte: the bytes of that
        frame; or, negative, those of its header, if the length is in the next two bytes and any
        is within the limits. 0 for all that needs a closer look."""

    def _whole(self) -> tuple[tuple[int, ...], ...]:
        limit = min([limit for limit in (self.max_frame, self.max_message) if limit] or [0xFFFF])
        sizes = [self.header + length if length <= limit else 0 for length in range(126)]
        sizes += (-self.header - 2 if limit >= 0xFFFF else 0, 0)
        message = (*[0] * 128, *sizes) if self.masked else (*sizes, *[0] * 128)
        other = (0,) * 256
        begins = {first for first in self._first[0] - _CONTROLS if first & 0x80}
        return tuple(message if first in begins else other for first in range(256))

    def read(self, data: bytes, at: int, message: int) -> tuple[int, int]:
        """The bytes of header and payload of the frame at ``at``.

        :param at: at least two bytes of ``data`` lie there.
        :param message: payload of the current message so far, or `NO_MESSAGE`.
        :returns: ``(0, 0)`` while the length is not complete; the mask may be missing still.
        :raises FrameError: for what is wrong with as much of the header as is there.
        """
        first = data[at]
        if first not in self._first[message >= 0]:
            raise self._wrong_first(first, message)
        second = data[at + 1]
        if (second > 0x7F) is not self.masked:
            raise _broken("a masked frame" if second > 0x7F else "a frame without a mask")
        length = second & 0x7F
        if first & 0x08:
            if length > 125:
                raise _broken("a control frame of more than 125 bytes")
            return self.header, length
        header = self.header
        if length == 126:
            if len(data) < at + 4:
                return 0, 0
            length = data[at + 2] << 8 | data[at + 3]
            header += 2
            if length < 126:
                raise _broken("a length that is not in its shortest form")
        elif length == 127:
            if len(data) < at + 10:
                return 0, 0
            length = int.from_bytes(data[at + 2 : at + 10], "big")
            header += 8
            if length >> 63:
                raise _broken("a length of more than 63 bits")
            if length < 0x10000:
                raise _broken("a length that is not in its shortest form")
        if length > self.max_frame > 0:
            raise FrameError(1009, "frame_too_big", f"a frame of more than {self.max_frame} bytes")
        if length + (message if message > 0 else 0) > self.max_message > 0:
            raise FrameError(
                1009, "message_too_big", f"a message of more than {self.max_message} bytes"
            )
        return header, length

    def _wrong_first(self, first: int, message: int) -> FrameError:
        opcode = first & 0x0F
        if first & 0x30 or (first & 0x40 and not self.compressed):
            return _broken("a reserved bit that no extension gives a meaning")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            return _broken(f"the reserved opcode {opcode}")
        if first & 0x40 and (opcode == CONTINUATION or opcode & 0x08):
            return _broken("a compressed bit on a frame that does not begin a message")
        if opcode & 0x08:
            return _broken("a fragmented control frame")
        if message >= 0:
            return _broken("a new message within a message")
        return _broken("a continuation of no message")

    def __repr__(self) -> str:
        flags = f"{'masked' if self.masked else 'bare'}{' compressed' * self.compressed}"
        return f"<FrameRules {flags} max_frame={self.max_frame} max_message={self.max_message}>"


def _broken(detail: str) -> FrameError:
    return FrameError(1002, "protocol_error", detail)
