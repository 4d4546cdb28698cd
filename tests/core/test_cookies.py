"""One cookie out of whatever clients send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.cookies import cookie_value
from tests.core.profile import PROPERTY

__all__: list[str] = []


class CookieTests(SynchronousTestCase):
    def test_what_browsers_send(self) -> None:
        """Wherever it stands, and whatever stands beside it."""
        for header in (b"a=1", b"a=1; b=2", b"b=2; a=1", b"x=a=2; a=1; c="):
            self.assertEqual(cookie_value(header, b"a"), b"1", header)

    def test_what_others_send(self) -> None:
        """Missing or strange white space, quotes, and parts that are no cookies."""
        for header in (
            b"a=1;b=2",
            b" a = 1 ",
            b";;a=1;",
            b'a="1"',
            b"b;a=1",
            b"a;\ta=1\t",
            b"=;a=1",
        ):
            self.assertEqual(cookie_value(header, b"a"), b"1", header)

    def test_it_is_not_there(self) -> None:
        """Other names, other spellings, and the name in other places are not this cookie."""
        for header in (b"", b"a", b"A=1", b"aa=1", b"b=a", b"b=a=1", b"x; y", b"ba=1; ab=2"):
            self.assertIsNone(cookie_value(header, b"a"), header)

    def test_values(self) -> None:
        """A value is what stands there, without interpretation; it may be empty."""
        for header, value in (
            (b"a=", b""),
            (b'a=""', b""),
            (b'a="', b'"'),
            (b"a=b=c", b"b=c"),
            (b"a=%20\xff", b"%20\xff"),
        ):
            self.assertEqual(cookie_value(header, b"a"), value, header)

    def test_there_twice(self) -> None:
        """The first is the one with the longest path."""
        self.assertEqual(cookie_value(b"a=1; a=2", b"a"), b"1")

    def test_no_more_work_than_that(self) -> None:
        """A client that sends hundreds of cookies does not get all of them looked at."""
        self.assertEqual(cookie_value(b"x;" * 199 + b"a=1;b=2", b"a"), b"1")
        self.assertIsNone(cookie_value(b"x;" * 200 + b"a=1;b=2", b"a"))

    @PROPERTY
    @given(st.binary(max_size=60), st.sampled_from([b"a", b"a=", b"; a", b'"']))
    def test_any_header(self, header: bytes, more: bytes) -> None:
        """No bytes are an error, and what is found comes out of them."""
        value = cookie_value(header + more + header, b"a")
        self.assertTrue(value is None or value in header + more + header)
