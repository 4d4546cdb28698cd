"""Hop-by-hop options, tokens and Host values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.headers import (
    HOP_BY_HOP,
    connection_options,
    host_name,
    is_token,
    valid_host,
)
from tests.core.profile import PROPERTY


class HopByHopTests(SynchronousTestCase):
    def test_names_are_lower_case(self) -> None:
        """Names can be looked up as the parser lower-cased them."""
        self.assertEqual({name.lower() for name in HOP_BY_HOP}, HOP_BY_HOP)

    def test_fields_for_one_hop(self) -> None:
        """What RFC 9110, 7.6.1 says to remove is there, and what concerns both ends is not."""
        for name in (b"connection", b"te", b"transfer-encoding", b"upgrade", b"keep-alive"):
            self.assertIn(name, HOP_BY_HOP)
        for name in (b"authorization", b"content-length", b"host", b"via"):
            self.assertNotIn(name, HOP_BY_HOP)


class ConnectionOptionsTests(SynchronousTestCase):
    def test_one_option(self) -> None:
        self.assertEqual(connection_options([b"keep-alive"]), {b"keep-alive"})

    def test_several_fields_and_options(self) -> None:
        """Options are gathered from all fields, in lower case, without white space."""
        found = connection_options([b"Close ,\tX-Private", b"Upgrade"])
        self.assertEqual(found, {b"close", b"x-private", b"upgrade"})

    def test_empty_members(self) -> None:
        """Empty list members mean nothing (RFC 9110, 5.6.1)."""
        self.assertEqual(connection_options([b", ,close,,", b""]), {b"close"})
        self.assertEqual(connection_options([]), frozenset())


class TokenTests(SynchronousTestCase):
    def test_tokens(self) -> None:
        for value in (b"GET", b"x-a_b.c~!", b"1"):
            self.assertTrue(is_token(value), value)

    def test_others(self) -> None:
        for value in (b"", b"a b", b"a:", b"a\n", b"\xc3\xa4", b'"a"'):
            self.assertFalse(is_token(value), value)


class HostTests(SynchronousTestCase):
    def test_valid(self) -> None:
        """Names, addresses and ports as RFC 3986 has them."""
        for value in (
            b"example.com",
            b"EXAMPLE.com.",
            b"example.com:8080",
            b"example.com:",
            b"127.0.0.1:65535",
            b"[::1]",
            b"[2001:db8::7]:443",
            b"[::ffff:192.0.2.1]",
            b"a%20b",
            b"my_service",
        ):
            self.assertTrue(valid_host(value), value)

    def test_invalid(self) -> None:
        """Nothing with userinfo, a path, white space, or an address that is none."""
        for value in (
            b"",
            b":80",
            b"user@example.com",
            b"example.com/",
            b"example.com:80a",
            b"example.com:65536",
            b"example.com:123456",
            b"a b",
            b"a\n",
            b"a,b c",
            b"::1",
            b"[::1",
            b"[::1]x",
            b"[1.2.3.4]",
            b"[:::]",
            b"[fe80::1%25eth0]",
            b"[v1.a]",
            b"a%2",
            b"\xc3\xa4",
            b"a" * 256,
        ):
            self.assertFalse(valid_host(value), value)

    def test_host_name(self) -> None:
        """The same host has one name, however it is written."""
        for value, name in (
            (b"Example.COM", b"example.com"),
            (b"example.com:8080", b"example.com"),
            (b"example.com.:8080", b"example.com"),
            (b"example.com.", b"example.com"),
            (b"[2001:DB8::7]:443", b"[2001:db8::7]"),
            (b"[::1]", b"[::1]"),
            (b"", b""),
        ):
            self.assertEqual(host_name(value), name)

    @PROPERTY
    @given(st.binary(max_size=40))
    def test_a_valid_host_has_a_valid_name(self, value: bytes) -> None:
        """Taking the name is defined for every valid Host, and changes nothing the second time."""
        if valid_host(value):
            name = host_name(value)
            self.assertEqual(host_name(name).rstrip(b"."), name.rstrip(b"."))
            self.assertEqual(name, name.lower())
