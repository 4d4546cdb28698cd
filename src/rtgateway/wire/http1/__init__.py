"""HTTP/1.1 message heads: bytes in, values out. llhttp parses; this package holds it to its word.

A head is found twice, once by its blank line and once by llhttp, and both must agree on where
it ends. Only whole heads leave this package; what follows a head is handed back untouched as
``rest``, so that a caller decides when the next message may be looked at (llhttp can't pause).
Bodies are decoded in `rtgateway.wire.body`.

Nothing here knows sockets. Callers: ``web.channel`` (requests), ``upstream.connection`` (answers).
"""

from rtgateway.wire.http1.heads import HeadLimits
from rtgateway.wire.http1.request import NO_HEAD, RequestHead, RequestParser
from rtgateway.wire.http1.response import QUOTA_FIELDS, ResponseHead, ResponseParser

__all__ = [
    "NO_HEAD",
    "QUOTA_FIELDS",
    "HeadLimits",
    "RequestHead",
    "RequestParser",
    "ResponseHead",
    "ResponseParser",
]
