"""Sets of networks against `ipaddress`, which knows nothing of speed."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.networks import NetworkSet, packed, parse_network, spell
from tests.core.profile import PROPERTY

AnyNetwork = IPv4Network | IPv6Network


def _ints(bits: int) -> st.SearchStrategy[int]:
    """Numbers of which many are close to each other, so that networks are inside of others."""
    return st.one_of(
        st.integers(0, 2**bits - 1),
        st.integers(0, 255).map(lambda low: (10 << bits - 8) + low),
        st.integers(0, 255).map(lambda high: high << bits - 8),
        st.sampled_from([0, 2**bits - 1]),
    )


def _network(number: int, length: int, bits: int) -> AnyNetwork:
    first = number >> (bits - length) << (bits - length)
    return IPv4Network((first, length)) if bits == 32 else IPv6Network((first, length))


NETWORKS4 = st.builds(_network, _ints(32), st.integers(0, 32), st.just(32))
NETWORKS6 = st.builds(_network, _ints(128), st.integers(0, 128), st.just(128))
MAPPED = NETWORKS4.map(
    lambda network: IPv6Network((0xFFFF << 32 | int(network[0]), 96 + network.prefixlen))
)
NETWORKS = st.one_of(NETWORKS4, NETWORKS6, MAPPED)
ADDRESSES = st.one_of(
    _ints(32).map(lambda number: str(ip_address(number.to_bytes(4, "big")))),
    _ints(128).map(lambda number: str(IPv6Address(number))),
    _ints(32).map(lambda number: str(IPv6Address(0xFFFF << 32 | number))),
)


def _plain(network: AnyNetwork) -> AnyNetwork:
    """IPv4 for IPv4-mapped IPv6."""
    mapped = getattr(network[0], "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return IPv4Network((int(mapped), network.prefixlen - 96))


def _holds(networks: set[AnyNetwork], ip: str) -> bool:
    address = ip_address(ip)
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


def _edges(networks: set[AnyNetwork]) -> list[str]:
    """The addresses on both sides of the ends of each."""
    found = []
    for network in networks:
        size, last = network.max_prefixlen // 8, 2**network.max_prefixlen - 1
        for end in (int(network[0]), int(network[-1])):
            numbers = (max(end - 1, 0), end, min(end + 1, last))
            found += [str(ip_address(number.to_bytes(size, "big"))) for number in numbers]
    return found


class NetworkSetTests(SynchronousTestCase):
    def assert_same(self, networks: NetworkSet, model: set[AnyNetwork], ips: list[str]) -> None:
        for ip in (*ips, *_edges(model)):
            self.assertEqual(ip in networks, _holds(model, ip), ip)
        expected = sorted(model, key=lambda each: (each.version, int(each[0]), each.prefixlen))
        self.assertEqual(list(networks), [str(each) for each in expected])
        self.assertEqual(len(networks), len(model))

    @PROPERTY
    @given(st.lists(NETWORKS, max_size=40), st.lists(ADDRESSES, max_size=20))
    def test_membership(self, networks: list[AnyNetwork], ips: list[str]) -> None:
        """Any set holds what `ipaddress` says, whatever overlaps, is a duplicate or everything."""
        made = NetworkSet(map(str, networks))
        self.assert_same(made, {_plain(network) for network in networks}, ips)

    @settings(PROPERTY, max_examples=80)
    @given(
        st.lists(st.tuples(st.booleans(), st.lists(NETWORKS, max_size=25)), min_size=1, max_size=8),
        st.lists(ADDRESSES, max_size=10),
    )
    def test_changes(self, steps: list[tuple[bool, list[AnyNetwork]]], ips: list[str]) -> None:
        """After any additions and removals, of few or many, it holds what it should."""
        made, model = NetworkSet(), set[AnyNetwork]()
        for adding, networks in steps:
            plain = {_plain(network) for network in networks}
            if adding:
                changed = made.add(map(str, networks))
                self.assertEqual(set(map(spell, changed)), set(map(str, plain - model)))
                model |= plain
            else:
                # Half of what is there, so that something is removed.
                plain |= set(sorted(model, key=str)[::2])
                changed = made.remove(map(str, plain))
                self.assertEqual(set(map(spell, changed)), set(map(str, plain & model)))
                model -= plain
            self.assert_same(made, model, ips)

    @PROPERTY
    @given(NETWORKS)
    def test_spelling(self, network: AnyNetwork) -> None:
        """The text of a network is that of `ipaddress`."""
        self.assertEqual(spell(parse_network(str(network))), str(_plain(network)))

    def test_normalised(self) -> None:
        """Whatever the spelling, a network is there once."""
        for written, meant in (
            ("10.0.0.1", "10.0.0.1/32"),
            (" 10.0.0.0/8 ", "10.0.0.0/8"),
            ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            ("2001:DB8:0::0/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::102:304", "::102:304/128"),
            ("::/0", "::/0"),
        ):
            networks = NetworkSet([written, meant])
            self.assertEqual(list(networks), [meant])
            self.assertEqual(len(networks), 1)

    def test_wrong(self) -> None:
        """What is no network is named, with what may have been meant; nothing changes then."""
        networks = NetworkSet(["10.0.0.0/8"])
        for wrong, message in (
            ("10.1.0.0/8", r"'10.1.0.0/8' has host bits set; did you mean 10.0.0.0/8\?"),
            ("2001:db8::1/32", r"did you mean 2001:db8::/32\?"),
            ("::ffff:10.1.0.0/104", r"has host bits set"),
            ("10.0.0.0/33", r"'10.0.0.0/33' is not an address or a network"),
            ("10.0.0.0/", r"is not an address"),
            ("10.0.0.0/-1", r"is not an address"),
            ("example.org", r"is not an address"),
            ("fe80::1%eth0", r"is not an address"),
            ("10.0.0.0\0/8", r"is not an address"),
            ("", r"'' is not an address"),
            ("1" * 10_000, r"1\.\.\.' is not an address"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                networks.add(["192.0.2.0/24", wrong])
            with self.assertRaisesRegex(ValueError, message):
                networks.remove(["10.0.0.0/8", wrong])
        self.assertEqual(list(networks), ["10.0.0.0/8"])

    def test_what_is_no_address(self) -> None:
        """It is in no network, not even in those that hold everything."""
        networks = NetworkSet(["0.0.0.0/0", "::/0"])
        for ip in ("", "unknown", "1.2.3", "1.2.3.4.5", ":", "\0", "1" * 100, "é", "\udcff"):
            self.assertNotIn(ip, networks)
            self.assertIsNone(packed(ip))
        self.assertIn("fe80::1%eth0", networks)

    def test_remembered(self) -> None:
        """What was answered before a change is not answered after it, and no answer is kept for
        each of any number of addresses."""
        networks = NetworkSet()
        self.assertNotIn("10.0.0.1", networks)
        networks.add(["10.0.0.0/8"])
        self.assertIn("10.0.0.1", networks)
        networks.remove(["10.0.0.0/8"])
        self.assertNotIn("10.0.0.1", networks)
        for number in range(20_000):
            self.assertNotIn(str(IPv6Address(number)), networks)
        self.assertLessEqual(len(networks._known), 8192)

    def test_repr(self) -> None:
        self.assertEqual(repr(NetworkSet(["::/0", "10.0.0.0/8"])), "<NetworkSet 2 networks>")
