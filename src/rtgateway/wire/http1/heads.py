"""What requests and answers share: where a head ends, and what its framing fields may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "END",
    "MAX_REMEMBERED",
    "VERSIONS",
    "HeadLimits",
    "Heads",
    "content_length",
    "keeps_alive",
]

END = b"\r\n\r\n"
VERSIONS = {b"HTTP/1.1": 11, b"HTTP/1.0": 10}

MAX_REMEMBERED = 2048
"""Bytes of the longest head that is remembered whole."""

_MAX_LENGTH_DIGITS = 15
"""A Content-Length of up to 10**15 - 1 bytes (909 TiB); longer ones are refused, not wrapped."""


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds of one head. ``line``: bytes of the first line; ``size``: bytes in all."""

    line: int = 8192
    size: int = 32768
    count: int = 100


def content_length(value: bytes) -> int:
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


class Heads:
    """What the two parsers share: whole heads, out of any split of the bytes."""

    _parser: Any  # llhttp's for one kind of message or the other

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
        end = partial.find(END, max(0, before - 3))
        if end < 0:
            return b"", -1
        data = bytes(partial)
        partial.clear()
        return data, end + 4

    def release(self) -> None:
        """Nothing more will be fed: let go of llhttp, which refers to this object."""
        self._parser = None

    @property
    def between_messages(self) -> bool:
        """Whether no byte of the next head has been seen."""
        return not self._partial
