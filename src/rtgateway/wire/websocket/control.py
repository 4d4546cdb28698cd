"""Control frames, made and read (RFC 6455, 5.5)."""

from __future__ import annotations

import os

from rtgateway.wire.websocket.rules import CLOSE, PING, FrameError

__all__ = ["close_frame", "parse_close", "ping_frame", "xor"]

_MAX_PAYLOAD = 125
_NO_CODE = 1005


def close_frame(code: int, reason: str = "", *, masked: bool) -> bytes:
    """A Close frame.

    :param code: one that may be sent; else `ValueError`.
    :param reason: what is longer than 123 bytes of UTF-8 is cut at a character.
    """
    if not _may_be_sent(code):
        raise ValueError(f"{code} is not a close code that may be sent")
    words = reason.encode("utf-8", "replace")
    if len(words) > _MAX_PAYLOAD - 2:
        words = words[: _MAX_PAYLOAD - 2].decode("utf-8", "ignore").encode()
    return _frame(CLOSE, code.to_bytes(2, "big") + words, masked)


def ping_frame(payload: bytes, *, masked: bool) -> bytes:
    """A Ping frame; `ValueError` for more than 125 bytes."""
    if len(payload) > _MAX_PAYLOAD:
        raise ValueError(f"a ping of {len(payload)} bytes is longer than {_MAX_PAYLOAD}")
    return _frame(PING, payload, masked)


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a Close frame; 1005 (RFC 6455, 7.1.5) if it has none.

    Raises `FrameError` for half a code, for a code that must not be sent, and for a reason that
    is not UTF-8.
    """
    if not payload:
        return _NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1:
        raise FrameError(1002, "protocol_error", "a Close frame with half a code")
    if not _may_be_sent(code):
        raise FrameError(1002, "protocol_error", f"a Close frame with the code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        # `from None`: the exception left out holds the payload.
        raise FrameError(
            1002, "protocol_error", "a Close frame with a reason that is not UTF-8"
        ) from None


def xor(payload: bytes, key: bytes) -> bytes:
    """``payload``, which is short, masked or unmasked with the four bytes of ``key``."""
    size = len(payload)
    keys = key * (size // 4 + 1)
    both = int.from_bytes(payload, "big") ^ int.from_bytes(keys[:size], "big")
    return both.to_bytes(size, "big")


def _may_be_sent(code: int) -> bool:
    """RFC 6455, 7.4, and the registry: 1004 has no meaning, 1005, 1006 and 1015 stand for what
    did not come in a frame, 1016 to 2999 are unassigned."""
    if 3000 <= code <= 4999:
        return True
    return 1000 <= code <= 1014 and code not in (1004, _NO_CODE, 1006)


def _frame(opcode: int, payload: bytes, masked: bool) -> bytes:
    if not masked:
        return bytes((0x80 | opcode, len(payload))) + payload
    key = os.urandom(4)
    return bytes((0x80 | opcode, 0x80 | len(payload))) + key + xor(payload, key)
