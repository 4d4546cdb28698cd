"""Dot segments in request paths, in every spelling that a service may understand as one.

A path goes upstream as it came, so what this gateway routes by and what a service makes of it
must be the same. ``.`` and ``..`` segments would break that (RFC 3986, 5.2.4: whoever resolves
them leaves the prefix that was matched); callers refuse such requests.
"""

from __future__ import annotations

import re

__all__ = ["has_dot_segments"]

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
