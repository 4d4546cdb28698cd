"""A ClientHello is read whole, in pieces, over records; everything else is left to OpenSSL."""

from __future__ import annotations

import ssl
import struct

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.net.hello import ClientHello, read_hello


def real(name: str | None, *protocols: str) -> bytes:
    """What the standard library sends."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("nobody has answered")


def records(message: bytes, size: int) -> bytes:
    """The message over several records."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part for part in parts)


class HelloTests(SynchronousTestCase):
    def test_name_and_protocols_of_a_real_one(self) -> None:
        self.assertEqual(
            read_hello(real("Api.Example.com", "h2", "http/1.1")),
            ClientHello("api.example.com", (b"h2", b"http/1.1")),
        )

    def test_neither_is_needed(self) -> None:
        self.assertEqual(read_hello(real(None)), ClientHello("", ()))

    def test_until_the_last_byte_it_is_not_complete(self) -> None:
        hello = real("gateway.test")
        for end in range(len(hello)):
            self.assertIsNone(read_hello(hello[:end]), end)
        self.assertEqual(read_hello(hello + b"more"), ClientHello("gateway.test"))

    def test_it_may_be_spread_over_records(self) -> None:
        message = real("gateway.test", "http/1.1")[5:]
        whole = ClientHello("gateway.test", (b"http/1.1",))
        for size in (100, 200, len(message) - 1):
            flight = records(message, size)
            self.assertEqual(read_hello(flight), whole, size)
            for end in range(len(flight)):
                self.assertIsNone(read_hello(flight[:end]))

    def test_so_many_records_are_not_put_together(self) -> None:
        """Each byte that comes would make them all be read again."""
        self.assertEqual(read_hello(records(real("gateway.test")[5:], 1)), ClientHello())

    def test_what_is_none_is_left_to_others_from_its_first_wrong_byte(self) -> None:
        for flight in (
            b"G",
            b"\x80\x2e\x01\x03\x01",
            b"\x15\x03\x01\x00\x02\x01\x00",
            b"\x16\x03\x01\x00\x04\x02",
            b"\x16\x03\x01\x00\x04\x01\x00\x40\x01",
            b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        ):
            self.assertEqual(read_hello(flight), ClientHello(), flight)

    def test_lengths_that_lie_are_not_believed(self) -> None:
        hello = real("gateway.test", "http/1.1")
        for at in range(9, len(hello)):
            broken = hello[:at] + b"\xff" + hello[at + 1 :]
            self.assertIsInstance(read_hello(broken), ClientHello)
            # All that is said to follow is missing.
            self.assertIsInstance(
                read_hello(records(b"\x01" + (at - 9).to_bytes(3, "big") + hello[9:at], 16384)),
                ClientHello,
            )
