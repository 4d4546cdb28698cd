"""Where an upgrade goes at the instance: the path, and what of the query is not for it.

Nothing here can name a host: what comes out begins with one slash and is sent as the path of a
request to the instance that was picked. Caller: ``ws.upgrade``.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from rtgateway.core.paths import escapes_host, has_dot_segments
from rtgateway.errors import BadRequest

__all__ = ["check_path", "path_of_query", "take_parameter", "with_query"]

_PERCENT = 0x25
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# RFC 3986, 3.3 and 3.4: what may stand in a path and its query as it is. Some services are sent
# more of ASCII by their clients, but what is written anew here is written as it should be.
_NOT_PLAIN = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]")


def take_parameter(query: bytes, name: bytes) -> tuple[bytes, list[bytes]]:
    """A query without the parameters of this name, and their values, decoded.

    :param query: without its question mark. What is left of it stays byte for byte, in order.
    :param name: decoded.
    """
    if name not in query and _PERCENT not in query and b"+" not in query:
        return query, []
    kept, values = [], []
    for piece in query.split(b"&"):
        key, _, value = piece.partition(b"=")
        if _decoded(key) == name:
            values.append(_decoded(value))
        else:
            kept.append(piece)
    return b"&".join(kept) if values else query, values


def _decoded(part: bytes) -> bytes:
    """A name or a value in a query, as forms and ``URLSearchParams`` write them."""
    if b"+" in part:
        part = part.replace(b"+", b" ")
    return unquote_to_bytes(part) if _PERCENT in part else part


def with_query(target: bytes, query: bytes) -> bytes:
    """``target`` with this query in place of its own; without one if it is empty."""
    path = target.partition(b"?")[0]
    return b"%b?%b" % (path, query) if query else path


def path_of_query(path: bytes, query: bytes) -> bytes:
    """The target for the instance that ``?path=`` asks for, with the other parameters behind it.

    :param path: what of the request's own path follows the service's name. It is taken where
        there is no ``?path=``.
    :raises BadRequest: it is there twice, or it is no path.
    """
    others, values = take_parameter(query, b"path")
    if len(values) > 1 or (values and path != b"/"):
        raise BadRequest("There is more than one path")
    if not values:
        check_path(path)
        return with_query(path, others)
    target = (values[0] if values else b"") or b"/"
    if target[0] != 0x2F:
        raise BadRequest("The path does not begin with a slash")
    if _CONTROL.search(target):
        raise BadRequest("The path has control characters")
    if b"#" in target:
        raise BadRequest("The path has a fragment")
    check_path(target.partition(b"?")[0])
    target = _NOT_PLAIN.sub(lambda found: b"%%%02X" % found[0][0], target)
    if not others:
        return target
    if b"?" not in target:
        return b"%b?%b" % (target, others)
    between = b"" if target[-1:] in b"?&" else b"&"
    return target + between + others


def check_path(path: bytes) -> None:
    """:raises BadRequest: to some reader ``path`` may lead away: to another host, or up."""
    if escapes_host(path):
        raise BadRequest("The path could be read as one at another host")
    if has_dot_segments(path):
        raise BadRequest("The path has dot segments; send it resolved")
