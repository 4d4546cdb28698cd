"""Request paths that are not what they seem: dot segments, and what leads to another host.

A path goes upstream as it came, so what this gateway routes by and what a service makes of it
must be the same, in every spelling that a service may understand. ``.`` and ``..`` segments would
break that (RFC 3986, 5.2.4: whoever resolves them leaves the prefix that was matched), and so would
``//host`` (5.2.2: whoever resolves it against a URL leaves the URL's host); callers refuse such
requests.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

__all__ = ["escapes_host", "has_dot_segments"]

# A segment starts and ends at "/", but some services also take "\" for one, or decode "%2f" and
# "%5c" before they split; others cut a segment at ";", which makes ".." of "..;x".
_DOT_SEGMENT = re.compile(
    rb"(?:^|[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\;]|%2f|%5c)", re.IGNORECASE | re.DOTALL
)

_DOT, _PERCENT, _BACKSLASH = b".%\\"


def has_dot_segments(path: bytes) -> bool:
    """Whether any segment of ``path`` (raw, without query) is ``.`` or ``..`` or may become one."""
    # A number is searched for five times faster than a bytes object of length 1.
    if _DOT not in path:
        if _PERCENT not in path or (path.find(b"%2e") < 0 and path.find(b"%2E") < 0):
            return False
    elif path.find(b"/.") < 0 and _PERCENT not in path and _BACKSLASH not in path:
        return path[:1] == b"."
    return _DOT_SEGMENT.search(path) is not None


_DECODINGS = 8
"""How often a path is decoded; nothing decent is encoded as often."""

# RFC 3986, 3.1.
_SCHEME = re.compile(rb"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# The URL Standard of browsers, 4.4, which libraries follow: control characters and spaces at the
# front are cut off, tabs and line ends are taken out everywhere, and "\" is "/".
_FRONT = bytes(range(0x21))
_TAKEN_OUT = b"\t\n\r"
_SLASHES = bytes.maketrans(b"\\", b"/")
_LEADING_DOTS = re.compile(rb"(?:/\.{1,2}(?=/))+")


def escapes_host(path: bytes) -> bool:
    """Whether ``path``, put behind a base URL or resolved against it, may lead to another host.

    It does when it begins with two slashes or a scheme: as it is, or after any number of decodings.
    Only its front matters: ``/a//b`` and ``/login/https://a/`` are ordinary.

    :param path: raw, without query.
    """
    if _PERCENT not in path and path[:1] == b"/" and path[1:2].isalnum():
        return False
    for _ in range(_DECODINGS):
        seen = path.lstrip(_FRONT).translate(_SLASHES, _TAKEN_OUT)
        # A dot segment in front is resolved to nothing, which leaves what follows it.
        dots = _LEADING_DOTS.match(seen)
        if dots is not None:
            seen = seen[dots.end() :]
        if seen[:2] == b"//" or _SCHEME.match(seen) is not None:
            return True
        # What is neither encoded nor a dot stays what it is, however often the rest is decoded.
        if seen[:1] == b"/" and seen[1:2] not in (b"%", b"."):
            return False
        path = unquote_to_bytes(seen)
        if path == seen:
            return False
    return True
