"""Bearer tokens, with a clock of our own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Jwt
from rtgateway.core.tokens import MAX_TOKEN, Identity, TokenVerifier, bearer_token
from rtgateway.errors import Unauthorized

SECRET = "correct horse battery staple, twice over"
NOW = 1_000_000.0


def settings(**values: Any) -> Jwt:
    return Jwt.model_validate({"secret": SECRET, **values})


def token(claims: dict[str, Any] | None = None, **headers: Any) -> bytes:
    return jwt.encode(claims or {}, SECRET, headers=headers).encode()


def signed(header: bytes, payload: bytes) -> bytes:
    """Any two parts, rightly signed."""
    parts = base64.urlsafe_b64encode(header), base64.urlsafe_b64encode(payload)
    text = b".".join(part.rstrip(b"=") for part in parts)
    mac = hmac.digest(SECRET.encode(), text, hashlib.sha256)
    return text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")


class TokensTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.verifier = TokenVerifier(settings())

    def assertRefused(
        self,
        refused: bytes,
        code: str = "invalid_token",
        now: float = NOW,
        verifier: TokenVerifier | None = None,
    ) -> None:
        with self.assertRaises(Unauthorized) as caught:
            (verifier or self.verifier).verify(refused, now)
        self.assertEqual(caught.exception.code, code)


class ValidityTests(TokensTestCase):
    def test_valid(self) -> None:
        """A valid token tells subject, claims and expiry."""
        identity = self.verifier.verify(token({"sub": "ann", "exp": NOW + 60, "role": "a"}), NOW)
        self.assertEqual(identity.subject, "ann")
        self.assertEqual(identity.claims["role"], "a")
        self.assertEqual(identity.expires, NOW + 60)

    def test_without_claims(self) -> None:
        """A token without exp does not expire; one without sub has an empty subject."""
        self.assertEqual(self.verifier.verify(token(), NOW * 1e6), Identity("", {}, None))

    def test_claims_that_are_not_checked(self) -> None:
        """An issuer or audience matters only where one is configured; iat and jti never."""
        claims = {"iss": "x", "aud": "y", "iat": NOW * 2, "jti": 7}
        self.assertEqual(self.verifier.verify(token(claims), NOW).claims["jti"], 7)

    def test_numbered_user(self) -> None:
        self.assertEqual(self.verifier.verify(token({"sub": 42}), NOW).subject, "42")

    def test_subjects_that_are_none(self) -> None:
        for subject in (None, True, 1.5, ["a"], {"a": 1}):
            self.assertRefused(token({"sub": subject}))

    def test_padding(self) -> None:
        """Some issuers leave the "=" of base64 in place."""
        self.assertEqual(self.verifier.verify(token({"sub": "a"}) + b"=", NOW).subject, "a")


class SignatureTests(TokensTestCase):
    def test_malformed(self) -> None:
        """Whatever is not a token of ours is refused in the same way."""
        good = token({"sub": "ann"})
        for bad in (
            b"",
            b".",
            b"..",
            b"a.b.c",
            good[:-1],
            good + b"x",
            b" " + good,
            good.replace(b".", b"..", 1),
            good.rpartition(b".")[0] + b".",
            b"\xff" * 50,
            jwt.encode({}, "another secret that is quite long enough").encode(),
        ):
            self.assertRefused(bad)

    def test_malformed_but_signed(self) -> None:
        """A signature alone does not make a token."""
        for header, payload in (
            (b"", b"{}"),
            (b"[]", b"{}"),
            (b"{}", b"{}"),
            (b'{"alg":"HS256"}', b"[]"),
            (b'{"alg":"HS256"}', b"\xff"),
            (b'{"alg":"HS256"}', b"[" * 5000),
            (b'{"alg":"HS256","crit":["exp"],"exp":1}', b"{}"),
            (b'{"alg":"HS256","b64":false,"crit":["b64"]}', b""),
        ):
            self.assertRefused(signed(header, payload))
        self.assertEqual(self.verifier.verify(signed(b'{"alg":"HS256"}', b"{}"), NOW).subject, "")

    def test_other_algorithms(self) -> None:
        """The algorithm is ours to choose, not the token's."""
        self.assertRefused(jwt.encode({}, SECRET * 2, algorithm="HS512").encode())
        self.assertRefused(jwt.encode({}, "", algorithm="none").encode())
        for name in (b"none", b"HS512", b"RS256", b""):
            self.assertRefused(signed(b'{"alg":"%b"}' % name, b"{}"))

    def test_longer_hashes(self) -> None:
        """HS384 and HS512 work with any secret that may be configured."""
        for name in ("HS384", "HS512"):
            text = b"%b.%b" % tuple(
                base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
                for part in ({"alg": name}, {"sub": "ann"})
            )
            mac = hmac.digest(SECRET.encode(), text, name.replace("HS", "sha"))
            made = text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")
            verifier = TokenVerifier(settings(algorithm=name))
            self.assertEqual(verifier.verify(made, NOW).subject, "ann")

    def test_too_long(self) -> None:
        self.assertRefused(token({"sub": "x" * MAX_TOKEN}))

    def test_issuer_and_audience(self) -> None:
        """Where configured, both must be there and match."""
        verifier = TokenVerifier(settings(issuer="me", audience="you"))
        for good in ({"iss": "me", "aud": "you"}, {"iss": "me", "aud": ["they", "you"]}):
            self.assertEqual(verifier.verify(token(good), NOW).claims, good)
        for bad in ({"iss": "me"}, {"aud": "you"}, {"iss": "me", "aud": "they"}):
            self.assertRefused(token(bad), verifier=verifier)
        self.assertRefused(signed(b'{"alg":"HS256"}', b'{"iss":1,"aud":"you"}'), verifier=verifier)


class TimeTests(TokensTestCase):
    def test_expiry(self) -> None:
        """A token is valid before exp, and not at or after it."""
        made = token({"exp": 1000})
        self.verifier.verify(made, 999.9)
        self.assertRefused(made, "expired_token", now=1000.0)
        self.assertRefused(token({"exp": 900}), "expired_token", now=1000.0)

    def test_remembered_tokens_expire(self) -> None:
        """No token is valid past exp because it was seen before; it is forgotten then."""
        made = token({"exp": 1000})
        for now in (10.0, 20.0):
            self.verifier.verify(made, now)
        self.assertEqual(len(self.verifier), 1)
        self.assertRefused(made, "expired_token", now=1000.0)
        self.assertEqual(len(self.verifier), 0)

    def test_not_before(self) -> None:
        """nbf counts at every use, also when the clock was set back."""
        made = token({"nbf": 1000})
        self.assertRefused(made, now=999.0)
        self.verifier.verify(made, 1000.0)
        self.assertRefused(made, now=999.0)
        self.verifier.verify(made, 1000.0)

    def test_leeway(self) -> None:
        """Clocks may differ by the leeway, in both directions."""
        verifier = TokenVerifier(settings(leeway=5))
        made = token({"nbf": 1000, "exp": 2000})
        for now in (995.0, 2004.9):
            verifier.verify(made, now)
        self.assertRefused(made, now=994.9, verifier=verifier)
        self.assertRefused(made, "expired_token", now=2005.0, verifier=verifier)

    def test_times_that_are_none(self) -> None:
        """A time is a finite number (RFC 7519, 2); anything else is no licence to live forever."""
        for name in (b"exp", b"nbf"):
            for value in (
                b'"2000"',
                b"null",
                b"true",
                b"[]",
                b"NaN",
                b"Infinity",
                b"1" + b"0" * 400,
            ):
                payload = b'{"%b":%b}' % (name, value)
                self.assertRefused(signed(b'{"alg":"HS256"}', payload), now=1000.0)


class CacheTests(TokensTestCase):
    def test_same_identity(self) -> None:
        """A known token is not decoded again."""
        made = token({"sub": "ann"})
        self.assertIs(self.verifier.verify(made, NOW), self.verifier.verify(bytes(made), NOW))

    def test_least_recently_used_goes_first(self) -> None:
        verifier = TokenVerifier(settings(cache=2))
        one, two, three = (token({"sub": name}) for name in "abc")
        first = verifier.verify(one, NOW)
        second = verifier.verify(two, NOW)
        verifier.verify(one, NOW)
        verifier.verify(three, NOW)
        self.assertEqual(len(verifier), 2)
        self.assertIs(verifier.verify(one, NOW), first)
        self.assertIsNot(verifier.verify(two, NOW), second)

    def test_refused_tokens_take_no_room(self) -> None:
        verifier = TokenVerifier(settings(cache=1))
        kept = verifier.verify(token({"sub": "ann"}), NOW)
        self.assertRefused(token({"exp": 1}), "expired_token", verifier=verifier)
        self.assertRefused(b"x.y.z", verifier=verifier)
        self.assertIs(verifier.verify(token({"sub": "ann"}), NOW), kept)

    def test_off(self) -> None:
        verifier = TokenVerifier(settings(cache=0))
        verifier.verify(token(), NOW)
        self.assertEqual(len(verifier), 0)

    def test_no_credentials(self) -> None:
        """Neither the cache nor any repr holds a token or the secret."""
        made = token({"sub": "ann", "card": "4111"})
        identity = self.verifier.verify(made, NOW)
        self.assertEqual(repr(identity), "Identity(subject='ann', expires=None)")
        self.assertEqual(repr(self.verifier), "<TokenVerifier HS256 1/10000 remembered>")
        self.assertNotIn(made, self.verifier._cache)


class BearerTests(TokensTestCase):
    def test_bearer(self) -> None:
        for value in (b"Bearer abc", b"bearer abc", b"BEARER   abc "):
            self.assertEqual(bearer_token(value), b"abc")

    def test_others(self) -> None:
        for value in (b"", b"Bearer", b"Bearer ", b"Basic abc", b"Bearerabc", b"abc"):
            self.assertIsNone(bearer_token(value))


class UnauthorizedTests(SynchronousTestCase):
    def test_missing(self) -> None:
        """Who sent no token is told how to authenticate, and nothing else (RFC 6750, 3.1)."""
        error = Unauthorized()
        self.assertEqual((error.status, error.code), (401, "missing_token"))
        self.assertEqual(error.message, "Invalid or missing token")
        self.assertEqual(error.headers, ((b"WWW-Authenticate", b"Bearer"),))

    def test_invalid(self) -> None:
        """All tokens that do not pass get the same answer."""
        for code in ("invalid_token", "expired_token"):
            error = Unauthorized(code)
            self.assertEqual(error.message, "Invalid or missing token")
            self.assertEqual(
                error.headers, ((b"WWW-Authenticate", b'Bearer error="invalid_token"'),)
            )

    def test_nothing_configured(self) -> None:
        self.assertEqual(Unauthorized("auth_not_configured").message, "Authentication is required")
