"""Bearer tokens: JSON Web Tokens (RFC 7519), signed with a shared secret.

A token is verified in full once and remembered by its digest, so that the cache is worth nothing
to who reads it. What depends on the time is checked at every use. Caller: ``gateway.auth``, and
``web.guard`` for the gateway's own pages.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import Any

import jwt

from rtgateway.config import Jwt
from rtgateway.errors import Unauthorized

__all__ = ["MAX_TOKEN", "Identity", "TokenVerifier", "bearer_token"]

MAX_TOKEN = 8192
"""Bytes of the longest token that is looked at."""

_SCHEME = b"bearer "
_NEVER = math.inf
_KEY_SIZE = {"HS256": 32, "HS384": 48, "HS512": 64}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a valid token speaks for.

    :ivar subject: the ``sub`` claim, empty if there is none.
    :ivar claims: all claims; not to be changed, they are shared by all requests with this token.
    :ivar expires: the ``exp`` claim in seconds of the epoch, None for never.
    :ivar begins: from when on it is valid, tolerance included, and ``ends``: until when.
    """

    subject: str
    claims: Mapping[str, Any] = field(repr=False, compare=False)
    expires: float | None = None
    begins: float = field(default=-math.inf, repr=False, compare=False)
    ends: float = field(default=math.inf, repr=False, compare=False)


def bearer_token(value: bytes) -> bytes | None:
    """The token in the value of an Authorization field; None if it is of another scheme."""
    # RFC 9110, 11.1: schemes are compared without regard to case; 11.4: one or more spaces.
    if value[:7].lower() != _SCHEME:
        return None
    return value[7:].strip(b" ") or None


class TokenVerifier:
    """Verifies tokens by one algorithm and one key.

    An issuer or audience that is not configured is not checked. A token without ``exp`` does not
    expire; ``iat`` says nothing about validity (RFC 7519, 4.1.6).
    """

    __slots__ = (
        "_algorithms",
        "_audience",
        "_cache",
        "_hash",
        "_issuer",
        "_jwt",
        "_key",
        "_leeway",
        "_room",
    )

    def __init__(self, settings: Jwt) -> None:
        # RFC 2104, 2: HMAC pads its key with zero bytes, so that these change no signature. They
        # keep the library from warning, at every token, of a secret shorter than the hash.
        self._key = settings.key.ljust(_KEY_SIZE[settings.algorithm], b"\0")
        self._algorithms = [settings.algorithm]
        self._hash = settings.algorithm.replace("HS", "sha")
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._leeway = settings.leeway
        self._room = settings.cache
        self._cache: OrderedDict[bytes, Identity] = OrderedDict()
        # Times are checked here, against the caller's clock. A ``jti`` has no meaning here, and
        # ``sub`` is judged in `_subject`.
        self._jwt = jwt.PyJWT(
            {
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_sub": False,
                "verify_jti": False,
                "verify_aud": settings.audience is not None,
            }
        )

    def verify(self, token: bytes, now: float) -> Identity:
        """Who ``token`` speaks for.

        :param now: seconds of the epoch.
        :raises Unauthorized: it is malformed, not ours, expired, or not valid yet.
        """
        digest = sha256(token).digest()
        known = self._cache.get(digest)
        identity = known or self._decode(token)
        if now >= identity.ends:
            self._cache.pop(digest, None)
            raise Unauthorized("expired_token")
        if now < identity.begins:
            raise Unauthorized("invalid_token")
        if known is not None:
            self._cache.move_to_end(digest)
        else:
            self._remember(digest, identity)
        return identity

    def _decode(self, token: bytes) -> Identity:
        if len(token) > MAX_TOKEN or not self._signed(token):
            raise Unauthorized("invalid_token")
        try:
            claims = self._jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
            )
        except jwt.PyJWTError:
            raise Unauthorized("invalid_token") from None
        expires = _seconds(claims, "exp")
        begins = _seconds(claims, "nbf")
        return Identity(
            _subject(claims),
            claims,
            expires,
            begins=-_NEVER if begins is None else begins - self._leeway,
            ends=_NEVER if expires is None else expires + self._leeway,
        )

    def _signed(self, token: bytes) -> bool:
        """Whether the signature is ours. The library checks it too, but parses the token first.

        That costs it a hundred times more than this, which would be paid for any made-up token.
        """
        signed, _, signature = token.rpartition(b".")
        expected = urlsafe_b64encode(hmac_digest(self._key, signed, self._hash))
        return compare_digest(signature.rstrip(b"="), expected.rstrip(b"="))

    def _remember(self, digest: bytes, identity: Identity) -> None:
        if not self._room:
            return
        if len(self._cache) >= self._room:
            self._cache.popitem(last=False)
        self._cache[digest] = identity

    def __len__(self) -> int:
        """How many tokens are remembered."""
        return len(self._cache)

    def __repr__(self) -> str:
        return f"<TokenVerifier {self._algorithms[0]} {len(self._cache)}/{self._room} remembered>"


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A claim that is a time. RFC 7519, 2: NumericDate is a JSON number, and finite."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthorized("invalid_token")
    try:
        seconds = float(value)
    except OverflowError:
        raise Unauthorized("invalid_token") from None
    if not math.isfinite(seconds):
        raise Unauthorized("invalid_token")
    return seconds


def _subject(claims: Mapping[str, Any]) -> str:
    """RFC 7519, 4.1.2 has a string; some issuers number their users."""
    subject = claims.get("sub", "")
    if isinstance(subject, str):
        return subject
    if isinstance(subject, int) and not isinstance(subject, bool):
        return str(subject)
    raise Unauthorized("invalid_token")
