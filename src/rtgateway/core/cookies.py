"""One cookie out of a request's Cookie field, however untidy the rest of it is.

Pure and bounded: called for each request of a route that has an affinity or a split. Browsers send
what RFC 6265, 5.4 says; other clients send anything, and none of it is an error here.
"""

from __future__ import annotations

__all__ = ["cookie_value"]

_MAX_COOKIES = 200
"""Cookies looked at; RFC 6265, 6.1 asks browsers to keep at least 50 for a site."""


def cookie_value(header: bytes, name: bytes) -> bytes | None:
    """The value of the cookie ``name``, or None. Never raises.

    Names are case-sensitive. Of several cookies of this name the first counts: it is the one with
    the most specific path (RFC 6265, 5.4). White space around name and value and a pair of double
    quotes around the value are no part of them.

    :param header: the value of a Cookie field.
    """
    if name not in header:
        return None
    for pair in header.split(b";", _MAX_COOKIES)[:_MAX_COOKIES]:
        key, equals, value = pair.partition(b"=")
        if equals and key.strip(b" \t") == name:
            value = value.strip(b" \t")
            quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
            return value[1:-1] if quoted else value
    return None
