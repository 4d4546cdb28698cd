"""WebSocket frames and handshakes as bytes, legal or not: what tests send and see."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import NamedTuple

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "accept_for",
    "agree",
    "encode",
    "parse",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes (RFC 6455, 11.8)."""

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Frame(NamedTuple):
    """A frame as it came; ``payload`` is without its mask, ``rsv`` the three reserved bits."""

    opcode: int
    payload: bytes
    fin: bool
    rsv: int
    masked: bool
    raw: bytes

    @property
    def close(self) -> tuple[int, str]:
        """Code and reason of a Close frame; 1005 for one without."""
        if not self.payload:
            return 1005, ""
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


def encode(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b""
) -> bytes:
    """A frame (RFC 6455, 5.2), legal or not.

    :param rsv: the reserved bits as a number: 4 is RSV1.
    :param mask: four bytes; none leaves the payload as it is.
    """
    first, size = (fin << 7) | (rsv << 4) | opcode, len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 1 << 16:
        head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    return head + mask + (_masked(payload, mask) if mask else payload)


def agree(
    request: bytes, *lines: str, protocol: str | None = None, extensions: str | None = None
) -> bytes:
    """The 101 that answers a handshake (RFC 6455, 4.2.2), with more header lines."""
    key = _field(request, b"sec-websocket-key")
    chosen = [f"Sec-WebSocket-Protocol: {protocol}"] if protocol is not None else []
    if extensions is not None:
        chosen.append(f"Sec-WebSocket-Extensions: {extensions}")
    return "\r\n".join(
        (
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_for(key)}",
            *chosen,
            *lines,
            "",
            "",
        )
    ).encode()


def parse(data: bytearray, at: int) -> Frame | None:
    """The frame at ``at``; None if it is not complete."""
    if len(data) < at + 2:
        return None
    first, second = data[at], data[at + 1]
    extra = {126: 2, 127: 8}.get(second & 0x7F, 0)
    start = at + 2 + extra
    size = int.from_bytes(data[at + 2 : start], "big") if extra else second & 0x7F
    mask_at = start
    start += 4 if second & 0x80 else 0
    if len(data) < start or len(data) < start + size:
        return None
    payload = bytes(data[start : start + size])
    if second & 0x80:
        payload = _masked(payload, bytes(data[mask_at:start]))
    return Frame(
        opcode=first & 0x0F,
        payload=payload,
        fin=bool(first & 0x80),
        rsv=(first >> 4) & 7,
        masked=bool(second & 0x80),
        raw=bytes(data[at : start + size]),
    )


def _masked(payload: bytes, mask: bytes) -> bytes:
    # As one large number: Python has no faster way without an extension.
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def _field(request: bytes, name: bytes) -> bytes:
    for line in request.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


def accept_for(key: bytes) -> str:
    """The ``Sec-WebSocket-Accept`` that answers a key."""
    return b64encode(sha1(key + _ACCEPT).digest()).decode()
