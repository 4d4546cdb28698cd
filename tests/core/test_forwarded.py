"""Who the client is, and what services are told about it."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.forwarded import (
    FORWARDING_FIELDS,
    Origin,
    Received,
    TrustedProxies,
    forwarding_block,
    resolve,
)
from tests.core.profile import PROPERTY

TRUSTED = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


def received(**fields: bytes | list[bytes]) -> Received:
    """What a peer sent: ``x_forwarded_for=b"..."`` or a list of values."""
    names = [(key.replace("_", "-").encode(), values) for key, values in fields.items()]
    return Received(
        (name, name.title(), value)
        for name, values in names
        for value in (values if isinstance(values, list) else [values])
    )


def client(peer: str, *x_forwarded_for: bytes) -> str:
    return resolve(peer, x_forwarded_for, (), TRUSTED).client


def client_of_forwarded(*forwarded: bytes) -> str:
    return resolve("10.0.0.1", (), forwarded, TRUSTED).client


def block(
    peer: str, said: Received | None = None, host: bytes = b"example.com", port: int = 80
) -> dict[str, str]:
    """The header lines as a dict, after a check of their form."""
    lines = forwarding_block(peer, b"http", host, port, said).decode("ascii")
    assert lines.endswith("\r\n")
    return dict(line.split(": ", 1) for line in lines[:-2].split("\r\n"))


class TrustTests(SynchronousTestCase):
    def test_networks(self) -> None:
        for ip in ("10.1.2.3", "fd00::7", "::ffff:10.0.0.1", "fd00::1%eth0"):
            self.assertTrue(TRUSTED.trusts(ip), ip)
            self.assertTrue(TRUSTED.trusts(ip), ip)
        for ip in ("11.0.0.1", "::1", "", "unknown", "10.0.0.1:80", "10" * 100):
            self.assertFalse(TRUSTED.trusts(ip), ip)

    def test_nobody(self) -> None:
        self.assertFalse(TrustedProxies().trusts("127.0.0.1"))
        self.assertEqual(repr(TrustedProxies()), "<TrustedProxies none>")

    def test_memory_is_bounded(self) -> None:
        """Many peers, right ones and made-up ones, do not fill the memory."""
        proxies = TrustedProxies([ip_network("10.0.0.0/8")])
        for number in range(10_000):
            self.assertTrue(proxies.trusts(f"10.0.{number >> 8}.{number & 255}"))
        self.assertFalse(proxies.trusts("x" * 10_000))
        self.assertLessEqual(len(proxies._known), 4096)
        self.assertNotIn("x" * 10_000, proxies._known)

    def test_repr(self) -> None:
        self.assertEqual(repr(TRUSTED), "<TrustedProxies 10.0.0.0/8, fd00::/8>")


class ResolveTests(SynchronousTestCase):
    def test_stranger(self) -> None:
        """What a stranger says of others is not heard."""
        self.assertEqual(
            resolve("8.8.8.8", [b"1.2.3.4"], [b"for=1.2.3.4"], TRUSTED), ("8.8.8.8", ())
        )

    def test_direct(self) -> None:
        self.assertEqual(resolve("10.0.0.1", [], [], TRUSTED), Origin("10.0.0.1"))
        self.assertEqual(client("::ffff:8.8.8.8"), "8.8.8.8")
        self.assertEqual(client(""), "")

    def test_behind_one_proxy(self) -> None:
        self.assertEqual(
            resolve("10.0.0.1", [b"203.0.113.9"], [], TRUSTED),
            Origin("203.0.113.9", ("203.0.113.9",)),
        )

    def test_stops_at_the_first_stranger(self) -> None:
        """The leftmost address is the client's own claim, and so is all that it brought along."""
        self.assertEqual(client("10.0.0.1", b"1.1.1.1, 203.0.113.9, 10.0.0.2"), "203.0.113.9")
        self.assertEqual(client("10.0.0.1", b"10.9.9.9, 203.0.113.9"), "203.0.113.9")

    def test_several_fields(self) -> None:
        """Fields with one name are one list, in order."""
        self.assertEqual(client("10.0.0.1", b"1.1.1.1", b"203.0.113.9", b"10.0.0.2"), "203.0.113.9")

    def test_only_proxies(self) -> None:
        """A request that begins at a trusted proxy is that proxy's."""
        self.assertEqual(client("10.0.0.1", b"10.0.0.3, 10.0.0.2"), "10.0.0.3")

    def test_hops_without_address(self) -> None:
        """A hop that hides or is garbage ends the search at the one that told of it."""
        for value in (b"unknown", b"", b"_hidden", b"1.2.3", b"999.1.1.1", b"x" * 100, b"\xff"):
            self.assertEqual(client("10.0.0.1", b"1.1.1.1," + value), "10.0.0.1")
            self.assertEqual(client("10.0.0.1", b"1.1.1.1," + value + b", 10.0.0.2"), "10.0.0.2")

    def test_spellings(self) -> None:
        """Ports, brackets and quotes are no part of an address, which has one spelling."""
        for value, address in (
            (b"1.2.3.4:5678", "1.2.3.4"),
            (b"[2001:DB8::1]:443", "2001:db8::1"),
            (b"[2001:db8::1]", "2001:db8::1"),
            (b"2001:db8:0::1", "2001:db8::1"),
            (b"::ffff:1.2.3.4", "1.2.3.4"),
            (b' "1.2.3.4"\t', "1.2.3.4"),
        ):
            self.assertEqual(client("10.0.0.1", value), address)

    def test_forwarded(self) -> None:
        """RFC 7239 is understood where there is no X-Forwarded-For."""
        for value, address in (
            (b"for=1.2.3.4", "1.2.3.4"),
            (b"For=1.2.3.4;proto=https;by=10.0.0.1", "1.2.3.4"),
            (b'proto=https ; for="[2001:db8::1]:47011"', "2001:db8::1"),
            (b'for="1.2.3.4:80"', "1.2.3.4"),
            (b'for="1.2\\.3.4"', "1.2.3.4"),
            (b"for=[2001:db8::1]", "2001:db8::1"),
            (b'host="a,b;for=9.9.9.9";for=1.2.3.4', "1.2.3.4"),
            (b"for=9.9.9.9, for=1.2.3.4, for=10.0.0.2", "1.2.3.4"),
        ):
            self.assertEqual(client_of_forwarded(value), address, value)
        self.assertEqual(client_of_forwarded(b"for=9.9.9.9", b"for=1.2.3.4"), "1.2.3.4")

    def test_forwarded_without_address(self) -> None:
        for value in (b"for=unknown", b"for=_secret", b"proto=https", b"for=1.2.3.4, by=x"):
            self.assertEqual(client_of_forwarded(value), "10.0.0.1", value)

    def test_forwarded_malformed(self) -> None:
        """A header that breaks its grammar, or has two answers, gives none."""
        for value in (
            b"",
            b"1.2.3.4",
            b"for=",
            b"for=1.2.3.4;",
            b"for=1.2.3.4 x",
            b'for="1.2.3.4',
            b"for=1.2.3.4;for=10.0.0.2",
            b"for=1.2.3.4,,for=10.0.0.2",
            b"for=1.2.3.4\n",
        ):
            self.assertEqual(client_of_forwarded(value), "10.0.0.1", value)

    def test_x_forwarded_for_first(self) -> None:
        """A Forwarded that a proxy passed on unread can't overrule what it wrote itself."""
        origin = resolve("10.0.0.1", [b"203.0.113.9"], [b"for=1.1.1.1"], TRUSTED)
        self.assertEqual(origin.client, "203.0.113.9")

    @PROPERTY
    @given(
        st.lists(st.ip_addresses(v=4).map(str), max_size=5),
        st.ip_addresses(v=4, network="192.0.2.0/24").map(str),
        st.lists(st.ip_addresses(v=4, network="10.0.0.0/8").map(str), min_size=1, max_size=5),
    )
    def test_nothing_a_client_sends_changes_its_address(
        self, claims: list[str], address: str, proxies: list[str]
    ) -> None:
        """Behind any number of trusted proxies the client is found, whatever it claims."""
        *passed, peer = proxies
        hops = ", ".join([*claims, address, *passed]).encode()
        self.assertEqual(client(peer, hops), address)

    @PROPERTY
    @given(st.binary(max_size=60), st.binary(max_size=60))
    def test_any_bytes(self, x_forwarded_for: bytes, forwarded: bytes) -> None:
        """Whatever a trusted peer sends, the client is an address."""
        for origin in (
            resolve("10.0.0.1", [x_forwarded_for], [forwarded], TRUSTED),
            resolve("10.0.0.1", [], [forwarded], TRUSTED),
        ):
            self.assertRegex(origin.client, r"\A[0-9a-f.:]+\Z")


class BlockTests(SynchronousTestCase):
    def test_stranger(self) -> None:
        self.assertEqual(
            forwarding_block("8.8.8.8", b"https", b"example.com:8443", 8443),
            b"X-Forwarded-For: 8.8.8.8\r\n"
            b"X-Forwarded-Proto: https\r\n"
            b"X-Forwarded-Host: example.com:8443\r\n"
            b"X-Forwarded-Port: 8443\r\n"
            b'Forwarded: for=8.8.8.8;host="example.com:8443";proto=https\r\n',
        )

    def test_ipv6(self) -> None:
        """IPv6 stands in brackets and quotes in Forwarded, bare in X-Forwarded-For."""
        lines = block("2001:db8::1%eth0")
        self.assertEqual(lines["X-Forwarded-For"], "2001:db8::1")
        self.assertTrue(lines["Forwarded"].startswith('for="[2001:db8::1]";'))
        self.assertEqual(block("::ffff:8.8.8.8")["X-Forwarded-For"], "8.8.8.8")

    def test_unix_socket(self) -> None:
        """What is not known is said to be unknown, or not said."""
        lines = block("", host=b"", port=0)
        self.assertEqual(
            lines,
            {
                "X-Forwarded-For": "unknown",
                "X-Forwarded-Proto": "http",
                "Forwarded": "for=unknown;proto=http",
            },
        )

    def test_trusted_peer_is_appended(self) -> None:
        """What a trusted proxy said is kept, and it is itself added to the hops."""
        lines = block(
            "10.0.0.1",
            received(
                x_forwarded_for=[b"203.0.113.9", b"10.0.0.2"],
                x_forwarded_proto=b"https",
                x_forwarded_host=b"www.example.com",
                x_forwarded_port=b"443",
            ),
        )
        self.assertEqual(
            lines,
            {
                "X-Forwarded-For": "203.0.113.9, 10.0.0.2, 10.0.0.1",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "www.example.com",
                "X-Forwarded-Port": "443",
                "Forwarded": "for=203.0.113.9;host=www.example.com;proto=https, for=10.0.0.2, "
                "for=10.0.0.1;host=example.com;proto=http",
            },
        )

    def test_trusted_peer_with_nothing_to_say(self) -> None:
        self.assertEqual(block("10.0.0.1", Received()), block("10.0.0.1"))
        self.assertEqual(block("10.0.0.1", received(x_forwarded_for=b"")), block("10.0.0.1"))

    def test_values_that_are_none(self) -> None:
        """A trusted proxy may pass on what a client made up: only sound values are kept."""
        said = received(
            x_forwarded_proto=b"javascript", x_forwarded_host=b"a b", x_forwarded_port=b"80;"
        )
        self.assertEqual(block("10.0.0.1", said), block("10.0.0.1"))

    def test_lists_of_values(self) -> None:
        """Of several values the last is the peer's own."""
        said = received(x_forwarded_proto=b"https, HTTP", x_forwarded_port=[b"1", b"2, 3"])
        lines = block("10.0.0.1", said)
        self.assertEqual((lines["X-Forwarded-Proto"], lines["X-Forwarded-Port"]), ("http", "3"))

    def test_protocol_without_hops(self) -> None:
        """A proxy that tells the client's protocol only is heard in both headers."""
        lines = block("10.0.0.1", received(x_forwarded_proto=b"https"))
        self.assertEqual(lines["X-Forwarded-Proto"], "https")
        self.assertEqual(
            lines["Forwarded"],
            "for=unknown;proto=https, for=10.0.0.1;host=example.com;proto=http",
        )

    def test_forwarded_only(self) -> None:
        """X-Forwarded-For is written from Forwarded, which goes on as it came."""
        lines = block("10.0.0.1", received(forwarded=b'for="[2001:db8::1]:5";by=_x, for=_hidden'))
        self.assertEqual(lines["X-Forwarded-For"], "2001:db8::1, unknown, 10.0.0.1")
        self.assertEqual(
            lines["Forwarded"],
            'for="[2001:db8::1]:5";by=_x, for=_hidden, for=10.0.0.1;host=example.com;proto=http',
        )

    def test_both_agree(self) -> None:
        """Another gateway of this kind in front loses nothing."""
        first = block("203.0.113.9", host=b"example.com")
        said = received(
            x_forwarded_for=first["X-Forwarded-For"].encode(),
            forwarded=first["Forwarded"].encode(),
        )
        self.assertEqual(
            block("10.0.0.1", said)["Forwarded"],
            "for=203.0.113.9;host=example.com;proto=http, for=10.0.0.1;host=example.com;proto=http",
        )

    def test_both_differ(self) -> None:
        """A Forwarded that contradicts X-Forwarded-For is written anew from the latter."""
        for forwarded in (b"for=1.1.1.1", b"for=203.0.113.9;for=x", b"nonsense"):
            said = received(x_forwarded_for=b"203.0.113.9", forwarded=forwarded)
            self.assertEqual(
                block("10.0.0.1", said)["Forwarded"],
                "for=203.0.113.9, for=10.0.0.1;host=example.com;proto=http",
            )

    def test_malformed_forwarded_is_dropped(self) -> None:
        self.assertEqual(block("10.0.0.1", received(forwarded=b"for=")), block("10.0.0.1"))

    def test_other_fields_are_passed_over(self) -> None:
        said = Received([(b"accept", b"Accept", b"*/*")])
        self.assertEqual(repr(said), "<Received 0 X-Forwarded-For 0 Forwarded>")
        self.assertEqual(block("10.0.0.1", said), block("10.0.0.1"))

    def test_names(self) -> None:
        """Every field in the block is one that is removed from requests."""
        names = {name.lower().encode() for name in block("10.0.0.1")}
        self.assertEqual(names, FORWARDING_FIELDS)

    @PROPERTY
    @given(st.lists(st.ip_addresses().map(str), min_size=1, max_size=4), st.ip_addresses().map(str))
    def test_the_next_gateway_reads_what_this_one_wrote(self, hops: list[str], peer: str) -> None:
        """Both headers tell a gateway behind this one the same hops."""
        said = received(x_forwarded_for=", ".join(hops).encode())
        lines = block(peer, said)
        everybody = TrustedProxies([ip_network("0.0.0.0/0"), ip_network("::/0")])
        by_list = resolve("10.0.0.9", [lines["X-Forwarded-For"].encode()], [], everybody)
        by_rfc = resolve("10.0.0.9", [], [lines["Forwarded"].encode()], everybody)
        self.assertEqual(by_list, by_rfc)
        self.assertEqual(len(by_list.chain), len(hops) + 1)
