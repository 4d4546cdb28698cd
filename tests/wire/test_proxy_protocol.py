"""Only a complete, valid PROXY header is believed, and nothing after it is touched."""

from __future__ import annotations

import ipaddress
import struct

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.errors import BadRequest
from rtgateway.wire.proxy_protocol import Proxied, ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(
    source: str = "192.0.2.7",
    port: int = 51000,
    *,
    command: int = 0x21,
    transport: int | None = None,
    more: bytes = b"",
) -> bytes:
    """A version 2 header as a proxy sends it."""
    address = ipaddress.ip_address(source)
    destination = ipaddress.ip_address("198.51.100.1" if address.version == 4 else "2001:db8::1")
    block = address.packed + destination.packed + struct.pack(">HH", port, 443) + more
    if transport is None:
        transport = 0x11 if address.version == 4 else 0x21
    return SIGNATURE + bytes((command, transport)) + struct.pack(">H", len(block)) + block


class ProxyProtocolTests(SynchronousTestCase):
    def feed(self, data: bytes) -> Proxied | None:
        return ProxyHeader().feed(data)

    def assert_refused(self, data: bytes) -> None:
        with self.assertRaises(BadRequest, msg=data):
            self.feed(data)

    def test_version_1_names_the_client(self) -> None:
        line = b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n"
        self.assertEqual(self.feed(line + b"GET /"), ("192.0.2.7", 51000, b"GET /"))

    def test_version_1_names_an_ipv6_client_in_its_short_form(self) -> None:
        line = b"PROXY TCP6 2001:DB8:0:0::7 2001:db8::1 1 2\r\n"
        self.assertEqual(self.feed(line), ("2001:db8::7", 1, b""))

    def test_version_1_unknown_leaves_the_peer_as_it_is(self) -> None:
        for line in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n"):
            self.assertEqual(self.feed(line + b"x"), ("", 0, b"x"))

    def test_version_2_names_the_client(self) -> None:
        self.assertEqual(self.feed(version_2() + b"GET /"), ("192.0.2.7", 51000, b"GET /"))
        self.assertEqual(self.feed(version_2("2001:db8::7")), ("2001:db8::7", 51000, b""))

    def test_version_2_extensions_are_skipped(self) -> None:
        extension = b"\x04" + struct.pack(">H", 100) + b"e" * 100
        found = self.feed(version_2(more=extension) + b"rest")
        self.assertEqual(found, ("192.0.2.7", 51000, b"rest"))

    def test_version_2_local_unspecified_and_unix_leave_the_peer_as_it_is(self) -> None:
        for header in (
            SIGNATURE + b"\x20\x00\x00\x00",
            SIGNATURE + b"\x21\x00\x00\x03abc",
            SIGNATURE + b"\x21\x31" + struct.pack(">H", 216) + bytes(216),
            version_2(command=0x20),
        ):
            self.assertEqual(self.feed(header + b"x"), ("", 0, b"x"))

    def test_headers_may_come_byte_by_byte(self) -> None:
        for header in (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n",
            version_2(),
        ):
            parser = ProxyHeader()
            for n in range(len(header) - 1):
                self.assertIsNone(parser.feed(header[n : n + 1]))
            self.assertEqual(parser.feed(header[-1:] + b"G"), ("192.0.2.7", 51000, b"G"))
            self.assertEqual(repr(parser), "<ProxyHeader 0 bytes held>")

    def test_the_longest_line_is_taken_and_a_longer_one_is_not(self) -> None:
        words = b"PROXY UNKNOWN " + b"f" * (107 - 16)
        self.assertEqual(len(words + b"\r\n"), 107)
        self.assertEqual(self.feed(words + b"\r\n"), ("", 0, b""))
        self.assertIsNone(self.feed(words))
        self.assert_refused(words + b"ff")
        self.assert_refused(words + b"f\r\n")
        self.assert_refused(b"PROXY " + b"x" * 200)

    def test_a_long_version_2_header_is_refused_before_it_has_come(self) -> None:
        self.assertIsNone(self.feed(SIGNATURE + b"\x21\x11" + struct.pack(">H", 536)))
        self.assert_refused(SIGNATURE + b"\x21\x11" + struct.pack(">H", 537))
        self.assert_refused(SIGNATURE + b"\x20\x00" + struct.pack(">H", 0xFFFF))

    def test_anything_else_is_refused_at_its_first_wrong_byte(self) -> None:
        for data in (
            b"G",
            b"GET / HTTP/1.1\r\n",
            b"PROXX",
            b"proxy ",
            b"\r\n\r\n\x01",
            b"\x16\x03",
        ):
            self.assert_refused(data)
        self.assertIsNone(self.feed(b""))
        self.assertIsNone(self.feed(b"PRO"))
        self.assertIsNone(self.feed(SIGNATURE))

    def test_a_line_that_is_not_exactly_right_is_refused(self) -> None:
        for line in (
            b"PROXY \r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 nonsense 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\nx\r\n",
            b"PROXY TCP4 1.2.3.\xb9 1.2.3.4 1 2\r\n",
        ):
            self.assert_refused(line)

    def test_port_zero_is_a_port(self) -> None:
        self.assertEqual(self.feed(b"PROXY TCP4 1.2.3.4 1.2.3.4 0 0\r\n"), ("1.2.3.4", 0, b""))

    def test_a_binary_header_that_is_not_exactly_right_is_refused(self) -> None:
        self.assert_refused(version_2(command=0x11))
        self.assert_refused(version_2(command=0x22))
        # Datagrams, and families that do not exist.
        for transport in (0x12, 0x22, 0x32, 0x41, 0x10):
            self.assert_refused(version_2(transport=transport))
        # Too short for the addresses it announces.
        self.assert_refused(SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11))
        self.assert_refused(version_2(transport=0x21))
