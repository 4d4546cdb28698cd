"""The cookie of sticky sessions."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.affinity import MAX_COOKIES, AffinityCookie
from tests.core.profile import PROPERTY

SECRET = b"correct horse battery staple"
COOKIE = AffinityCookie("rtgateway_instance", SECRET)
ONE, TWO = "10.0.0.1:8080", "10.0.0.2:8080"


def pair(cookie: AffinityCookie, instance: str) -> bytes:
    """What a client sends back: ``name=value``."""
    return cookie.issue(instance, secure=False).partition(b";")[0]


class IssueTests(SynchronousTestCase):
    def test_attributes(self) -> None:
        """Scripts can't read it, other sites can't send it along with forms, all paths get it."""
        self.assertRegex(
            COOKIE.issue(ONE, secure=False).decode(),
            r"\Artgateway_instance=[\w-]{22}\.[\w-]{22}; Path=/; HttpOnly; SameSite=Lax\Z",
        )

    def test_secure(self) -> None:
        """Over TLS the cookie is for TLS only."""
        self.assertTrue(COOKIE.issue(ONE, secure=True).endswith(b"; SameSite=Lax; Secure"))

    def test_max_age(self) -> None:
        """A part of a second is rounded up, since 0 would delete the cookie at once."""
        kept = AffinityCookie("a", SECRET, 3600.0).issue(ONE, secure=False)
        self.assertTrue(kept.endswith(b"; Max-Age=3600"), kept)
        barely = AffinityCookie("a", SECRET, 0.2).issue(ONE, secure=True)
        self.assertTrue(barely.endswith(b"; Max-Age=1; Secure"), barely)

    def test_understood_by_others(self) -> None:
        """The standard library reads the same attributes from it."""
        morsel = SimpleCookie(COOKIE.issue(ONE, secure=True).decode())["rtgateway_instance"]
        self.assertEqual(
            (morsel["path"], morsel["samesite"], morsel["httponly"], morsel["secure"]),
            ("/", "Lax", True, True),
        )

    def test_no_address(self) -> None:
        """Neither cookie nor mark shows where the instance is."""
        self.assertNotIn(b"10.0.0.1", COOKIE.issue(ONE, secure=False))
        self.assertNotIn("10.0.0.1", COOKIE.mark(ONE))


class MarkTests(SynchronousTestCase):
    def test_stable(self) -> None:
        """A restart, another cookie name or age, or another gateway: the instance's mark stays."""
        for same in (AffinityCookie("rtgateway_instance", SECRET), AffinityCookie("b", SECRET, 9)):
            self.assertEqual(same.mark(ONE), COOKIE.mark(ONE))
        # Pinned: a release that computed it differently would send every client elsewhere once.
        self.assertEqual(COOKIE.mark(ONE), "KhhsiwH-z4fyoLU4t5U0jw")

    def test_different(self) -> None:
        """Every instance has its own, and with another secret a different one."""
        self.assertNotEqual(COOKIE.mark(ONE), COOKIE.mark(TWO))
        self.assertNotEqual(COOKIE.mark(ONE), AffinityCookie("a", SECRET * 2).mark(ONE))

    @PROPERTY
    @given(st.text(max_size=80))
    def test_any_id(self, instance: str) -> None:
        """What was issued for an instance is read as that instance's mark."""
        self.assertEqual(COOKIE.read(pair(COOKIE, instance)), COOKIE.mark(instance))


class ReadTests(SynchronousTestCase):
    def test_among_others(self) -> None:
        """Wherever it stands in the field, quoted or not, with or without blanks."""
        mine = pair(COOKIE, ONE)
        name, _, value = mine.partition(b"=")
        for field in (
            mine,
            b"a=b; " + mine,
            mine + b"; a=b",
            b"a=b;" + mine + b";c=d",
            b"a=b; \t" + mine + b" ; c=d",
            b'a="x y"; ' + name + b'="' + value + b'"; c',
            b"; ;=;" + mine + b";",
        ):
            self.assertEqual(COOKIE.read(field), COOKIE.mark(ONE), field)

    def test_not_there(self) -> None:
        """No field, an empty one, only others, or one whose name only ends or begins like it."""
        mine = pair(COOKIE, ONE)
        for field in (
            None,
            b"",
            b"a=b",
            b"rtgateway_instance",
            b"rtgateway_instance=",
            b"x" + mine,
            b"a=" + mine,
            mine.replace(b"=", b"2="),
            mine.upper(),
            b"a b " + mine,
        ):
            self.assertIsNone(COOKIE.read(field), field)

    def test_spoilt(self) -> None:
        """Every single character of the value matters."""
        mine = pair(COOKIE, ONE)
        start = mine.index(b"=") + 1
        for position in range(start, len(mine)):
            for other in (b"A", b"B", b".", b"\xff", b""):
                spoilt = mine[:position] + other + mine[position + 1 :]
                if spoilt != mine:
                    self.assertIsNone(COOKIE.read(spoilt), spoilt)
        for longer in (mine + b"A", mine + b"=", mine + b".A", mine + b'"', mine + b"\n"):
            self.assertIsNone(COOKIE.read(longer), longer)

    def test_swapped(self) -> None:
        """The signature of one instance does not do for another."""
        mark = COOKIE.mark(TWO).encode()
        signature = pair(COOKIE, ONE).rpartition(b".")[2]
        self.assertIsNone(COOKIE.read(b"rtgateway_instance=" + mark + b"." + signature))

    def test_of_another_secret_or_name(self) -> None:
        """Neither another gateway's cookie nor another service's counts."""
        stranger = AffinityCookie("rtgateway_instance", b"another secret of mine")
        self.assertIsNone(COOKIE.read(pair(stranger, ONE)))
        service = AffinityCookie("other", SECRET)
        renamed = pair(service, ONE).replace(b"other=", b"rtgateway_instance=")
        self.assertIsNone(COOKIE.read(renamed))

    def test_several(self) -> None:
        """Leftovers of the same name before the right one do no harm, up to a limit."""
        old = pair(AffinityCookie("rtgateway_instance", b"the secret before this"), ONE)
        mine = pair(COOKIE, TWO)
        self.assertEqual(
            COOKIE.read(b"; ".join([old] * (MAX_COOKIES - 1) + [mine])), COOKIE.mark(TWO)
        )
        self.assertIsNone(COOKIE.read(b"; ".join([old] * MAX_COOKIES + [mine])))

    def test_first_right_one_counts(self) -> None:
        both = pair(COOKIE, TWO) + b"; " + pair(COOKIE, ONE)
        self.assertEqual(COOKIE.read(both), COOKIE.mark(TWO))

    def test_name_is_no_pattern(self) -> None:
        """Characters that a cookie's name may have and that mean something in patterns."""
        cookie = AffinityCookie("a.b*+^|$", SECRET)
        self.assertEqual(cookie.read(pair(cookie, ONE)), cookie.mark(ONE))
        self.assertIsNone(cookie.read(pair(cookie, ONE).replace(b"a.b", b"axb")))

    @PROPERTY
    @given(
        st.lists(
            st.sampled_from([b"rtgateway_instance", b"=", b";", b" ", b'"', b".", b"A" * 22, b"\t"])
            | st.binary(max_size=4),
            max_size=30,
        ).map(b"".join)
    )
    def test_any_field(self, field: bytes) -> None:
        """Nothing that a client can send breaks it, and nothing invented is believed."""
        self.assertIsNone(COOKIE.read(field))


class SecretTests(SynchronousTestCase):
    def test_too_short(self) -> None:
        """A secret that could be guessed is refused, without being shown."""
        with self.assertRaises(ValueError) as raised:
            AffinityCookie("a", b"0123456789abcde")
        self.assertEqual(str(raised.exception), "the secret of cookie a is shorter than 16 bytes")

    def test_repr(self) -> None:
        """Neither the secret nor what was derived from it is in what logs may show."""
        self.assertEqual(repr(COOKIE), "<AffinityCookie rtgateway_instance>")
        self.assertIsNone(re.search("horse", repr(COOKIE)))
