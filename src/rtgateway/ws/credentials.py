"""Tokens where browsers can put them: they can't set Authorization on a WebSocket.

A token may stand among the subprotocols, in a cookie, or in the query (`ws.target`). It is taken
out, so that it goes no further; everything else there stays byte for byte and in its order.
Caller: ``ws.upgrade``.
"""

from __future__ import annotations

from rtgateway.errors import BadRequest
from rtgateway.wire.lines import Line

__all__ = ["SCHEME", "take_cookie", "take_pair"]

SCHEME = b"bearer"
"""In front of a token in a list of subprotocols, in any case."""


def take_pair(offered: list[bytes]) -> tuple[list[bytes], bytes | None, bytes]:
    """Subprotocols without the pair ``bearer, <token>``, the token, and ``bearer`` as it stands.

    :return: the list itself, None and an empty word if there is no such pair.
    :raises BadRequest: it stands there twice.
    """
    found = [at for at, name in enumerate(offered) if name.lower() == SCHEME]
    if not found:
        return offered, None, b""
    at = found[0]
    if at + 1 == len(offered):
        return offered, None, b""
    if len(found) > 1:
        raise BadRequest("Sec-WebSocket-Protocol has more than one token")
    return offered[:at] + offered[at + 2 :], offered[at + 1], offered[at]


def take_cookie(lines: list[Line], name: bytes) -> tuple[list[Line], bytes | None]:
    """Header lines without the cookie ``name``, and the token in that.

    Of several, the first counts (see `core.cookies`), and none goes further. Lines that are not
    changed are the same objects.
    """
    values: list[bytes] = []
    kept: list[Line] = []
    for line in lines:
        (key, field, value), _, named = line
        if key == b"cookie" and name in value:
            rest = _without(value, name, values)
            if not rest:
                continue
            if rest != value:
                line = ((key, field, rest), b"%b: %b\r\n" % (field, rest), named)
        kept.append(line)
    return kept, values[0] if values and values[0] else None


def _without(header: bytes, name: bytes, values: list[bytes]) -> bytes:
    """A Cookie field's value without the pairs of this name, whose values go to ``values``."""
    kept = []
    for pair in header.split(b";"):
        key, equals, value = pair.partition(b"=")
        if not equals or key.strip(b" \t") != name:
            kept.append(pair)
            continue
        value = value.strip(b" \t")
        quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
        values.append(value[1:-1] if quoted else value)
    # RFC 6265, 4.2.1: a blank stands behind each semicolon, and none in front of the first pair.
    return b";".join(kept).strip(b" \t")
