"""Request ids and W3C trace parents: made cheaply, and judged when a client sends one.

Ids made here are unique, not secret: whoever sees one may guess others. Nothing may be granted
for knowing an id.
"""

from __future__ import annotations

import re
from binascii import hexlify
from hashlib import blake2b

__all__ = [
    "NOT_SAMPLED",
    "SAMPLED",
    "RequestIds",
    "start_trace",
    "valid_request_id",
    "valid_traceparent",
]

_MASK = (1 << 64) - 1
# 2**64 divided by the golden ratio, made even: added to an odd number again and again it visits
# all 2**63 odd numbers before it repeats, spread evenly, so that samplers which read an id as a
# fraction get their fraction. An odd number is never 0, which trace contexts forbid.
_STEP = 0x9E3779B97F4A7C16

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")

# https://www.w3.org/TR/trace-context/#traceparent-header: version 00 is complete at 55
# characters, a later one may go on behind a dash; ff and ids of zeros are invalid.
_IDS = rb"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(
    rb"00" + _IDS + rb"|(?!00|ff)[0-9a-f]{2}" + _IDS + rb"(?:-[\x21-\x7e]{0,200})?"
)


SAMPLED, NOT_SAMPLED = b"01", b"00"
"""Trace flags: whether who comes next should record its part."""


class RequestIds:
    """Ids of 32 lower-case hex digits.

    :param seed: bytes that differ from process to process, such as 16 from `os.urandom`. The same
        seed gives the same ids.
    """

    __slots__ = ("_number", "_prefix")

    def __init__(self, seed: bytes) -> None:
        digest = blake2b(seed, digest_size=16).digest()
        self._prefix = hexlify(digest[:8])
        self._number = int.from_bytes(digest[8:], "big") | 1

    def next(self) -> bytes:
        """An id that this object has not given before."""
        self._number = number = (self._number + _STEP) & _MASK
        return self._prefix + hexlify(number.to_bytes(8, "big"))

    def __repr__(self) -> str:
        return f"<RequestIds {self._prefix.decode('ascii')}>"


def start_trace(trace_id: bytes, flags: bytes = SAMPLED) -> bytes:
    """The ``traceparent`` line for a request that came without one.

    :param trace_id: one of `RequestIds`; its second half, which no other has, names the span.
    """
    return b"".join((b"traceparent: 00-", trace_id, b"-", trace_id[16:], b"-", flags, b"\r\n"))


def valid_request_id(value: bytes) -> bool:
    """Whether a client's request id may be kept: 1 to 128 characters, safe in logs and headers."""
    return _REQUEST_ID.fullmatch(value) is not None


def valid_traceparent(value: bytes) -> bool:
    """Whether a client's ``traceparent`` may be kept."""
    return _TRACEPARENT.fullmatch(value) is not None
