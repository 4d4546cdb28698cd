"""Sticky sessions: a signed cookie that names the instance a client should meet again.

The cookie does not show addresses: it names the instance by a keyed hash, its *mark*, which stays
the same for as long as secret and instance id do, whatever else is configured. Caller: ``upstream``
reads it before a choice and issues it on the answer when the choice was another.

The cookie grants nothing. It is signed so that no client can aim at instances by trying names, and
so that what reaches the comparison with marks was made here.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hmac import compare_digest
from hmac import digest as hmac_digest
from itertools import islice
from math import ceil

__all__ = ["MAX_COOKIES", "AffinityCookie"]

MAX_COOKIES = 4
"""How many cookies of the same name in one request are looked at."""

_SHORTEST_SECRET = 16
_SIZE = 16
"""Bytes kept of each HMAC: 128 bits, of which RFC 2104, 5, asks for at least half the hash's."""
_DIGITS = rb"[A-Za-z0-9_-]{22}"
"""That many bytes in base64url without padding."""


class AffinityCookie:
    """Makes and reads the cookie of one service.

    Its value is ``mark.signature``, both base64url of an HMAC-SHA256 cut to 128 bits (RFC 2104, 5),
    with keys that are derived from the secret for each purpose. The signature covers the cookie's
    name, so that the cookie of one service is not taken for that of another.

    :param name: a token (RFC 9110, 5.6.2), checked by the configuration.
    :param secret: at least 16 bytes; the same in all processes that should understand each other.
    :param max_age: seconds for which clients keep the cookie; 0 for as long as their session.
    :raises ValueError: the secret is too short.
    """

    __slots__ = ("_attributes", "_mark_key", "_name", "_pattern", "_signature_key")

    def __init__(self, name: str, secret: bytes, max_age: float = 0.0) -> None:
        if len(secret) < _SHORTEST_SECRET:
            raise ValueError(f"the secret of cookie {name} is shorter than 16 bytes")
        self._name = name.encode("ascii")
        self._mark_key = hmac_digest(secret, b"affinity mark", "sha256")
        self._signature_key = hmac_digest(secret, b"affinity cookie " + self._name, "sha256")
        # Lax: links into a site keep their instance. Path=/: streams and upgrades elsewhere on the
        # host do, too.
        self._attributes = b"; Path=/; HttpOnly; SameSite=Lax"
        if max_age > 0:
            self._attributes += b"; Max-Age=%d" % ceil(max_age)
        # RFC 6265, 4.1.1 and 5.4: pairs are separated by semicolon and space, and a value may stand
        # in quotes. Blanks are only skipped behind a semicolon, so that this is linear.
        self._pattern = re.compile(
            rb'(?:\A|;)[ \t]*%b=("?)(%b)\.(%b)\1[ \t]*(?=;|\Z)'
            % (re.escape(self._name), _DIGITS, _DIGITS)
        )

    def mark(self, instance_id: str) -> str:
        """The name by which cookies call an instance: 22 characters of base64url."""
        return _short(self._mark_key, instance_id.encode()).decode("ascii")

    def issue(self, instance_id: str, secure: bool) -> bytes:
        """The value of a Set-Cookie field that ties a client to an instance.

        :param secure: the client came over TLS, and should show the cookie only there.
        """
        mark = _short(self._mark_key, instance_id.encode())
        signature = _short(self._signature_key, mark)
        end = b"; Secure" if secure else b""
        return b"%b=%b.%b%b%b" % (self._name, mark, signature, self._attributes, end)

    def read(self, cookie_header: bytes | None) -> str | None:
        """The mark in the value of a request's Cookie field.

        The first cookie with a right signature counts; a browser that has several of the same name
        sends all of them, without saying where each is from (RFC 6265, 4.2.2).

        :return: None if there is no cookie of ours among the first `MAX_COOKIES` of this name.
        """
        if cookie_header is None or self._name not in cookie_header:
            return None
        for found in islice(self._pattern.finditer(cookie_header), MAX_COOKIES):
            mark = found[2]
            if compare_digest(_short(self._signature_key, mark), found[3]):
                return mark.decode("ascii")
        return None

    def __repr__(self) -> str:
        return f"<AffinityCookie {self._name.decode('ascii')}>"


def _short(key: bytes, message: bytes) -> bytes:
    return urlsafe_b64encode(hmac_digest(key, message, "sha256")[:_SIZE]).rstrip(b"=")
