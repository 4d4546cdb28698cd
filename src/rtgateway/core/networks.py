"""Sets of networks: whether an address is in one of many.

An address is its bytes, 4 or 16. Networks lie apart or inside of each other; sorted by their first
addresses and without those that lie inside of others, they are bisected for the only one that can
hold an address.

Callers: ``store.ip_lists``, and limiters for whom they exempt.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from ipaddress import IPv6Address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

__all__ = ["Network", "NetworkSet", "packed", "parse_network", "spell"]

_MAX_CACHED = 8192
_LONGEST = 64
"""Characters of the longest text that is remembered as an address."""

_MAPPED = bytes(10) + b"\xff\xff"
"""How the IPv6 addresses begin that stand for IPv4 ones (RFC 4291, 2.5.5.2)."""

_FEW = 16
"""Networks that are rather put in their places than all sorted anew."""

_END = b"\xff"
"""More than any length of a prefix."""

_SPAN4 = 4 + 1 + 4
_SPAN6 = 16 + 1 + 16

_LENGTHS = {str(length): length for length in range(129)}
_BYTES = tuple(bytes((length,)) for length in range(129))
_HOSTS4 = tuple((1 << 32 - length) - 1 for length in range(33))
_HOSTS6 = tuple((1 << 128 - length) - 1 for length in range(129))
"""By length of prefix, the bits after it."""


Network = bytes
"""A network: its first address, the length of its prefix in one byte, its last address. Sorted, it
comes before those inside of it."""


def packed(ip: str) -> bytes | None:
    """The bytes of an address: 4, for IPv4-mapped IPv6 too, or 16. None: it is no address."""
    try:
        if ":" not in ip:
            return inet_pton(AF_INET, ip)
        address = inet_pton(AF_INET6, ip.partition("%")[0])
    except (OSError, ValueError):
        return None
    return address[12:] if address.startswith(_MAPPED) else address


def parse_network(text: str) -> Network:
    """An address, or ``address/length``. IPv4-mapped IPv6 is taken for IPv4.

    :raises ValueError: it is none, or has bits beyond its length; says which network that is in.
    """
    address, slash, size = text.partition("/")
    try:
        if ":" in address:
            return _span6(inet_pton(AF_INET6, address), _LENGTHS[size] if slash else 128)
        return _span4(inet_pton(AF_INET, address), _LENGTHS[size] if slash else 32)
    except (OSError, ValueError, LookupError):
        pass
    return _parse_slowly(text)


def spell(network: Network) -> str:
    """The text of a network, as `ipaddress` spells it, always with the length."""
    if len(network) == _SPAN4:
        return f"{inet_ntop(AF_INET, network[:4])}/{network[4]}"
    spelled = inet_ntop(AF_INET6, network[:16])
    if "." in spelled:
        # The C library spells some with an IPv4 tail, `ipaddress` does not.
        spelled = str(IPv6Address(network[:16]))
    return f"{spelled}/{network[16]}"


def _span4(first: bytes, length: int) -> Network:
    hosts = _HOSTS4[length]
    number = int.from_bytes(first, "big")
    if number & hosts:
        raise ValueError
    return first + _BYTES[length] + (number | hosts).to_bytes(4, "big")


def _span6(first: bytes, length: int) -> Network:
    if length >= 96 and first.startswith(_MAPPED):
        return _span4(first[12:], length - 96)
    hosts = _HOSTS6[length]
    number = int.from_bytes(first, "big")
    if number & hosts:
        raise ValueError
    return first + _BYTES[length] + (number | hosts).to_bytes(16, "big")


def _parse_slowly(text: str) -> Network:
    """What `ipaddress` knows besides (spaces, masks), or what is wrong with ``text``."""
    shown = repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")
    wrong = f"{shown} is not an address or a network such as 10.0.0.0/8 or fd00::/8"
    if len(text) > _LONGEST or "%" in text:
        raise ValueError(wrong)
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(wrong) from None
    try:
        ip_network(text.strip())
    except ValueError:
        raise ValueError(f"{shown} has host bits set; did you mean {network}?") from None
    return parse_network(str(network))


def _outer(networks: Iterable[Network], size: int) -> list[Network]:
    """Those of ``networks``, which are sorted, that are not inside of others."""
    outer: list[Network] = []
    after = size + 1
    end = b""
    for network in networks:
        if network > end:
            outer.append(network)
            end = network[after:] + _END
    return outer


class _Family:
    """The networks of one family, sorted, and those of them that are not inside of others."""

    __slots__ = ("_outer", "_size", "networks")

    def __init__(self, size: int) -> None:
        """
        :param size: bytes of an address.
        """
        self._size = size
        self.networks: list[Network] = []
        self._outer: list[Network] = []

    def holds(self, address: bytes) -> bool:
        at = bisect_right(self._outer, address + _END)
        return at > 0 and address <= self._outer[at - 1][self._size + 1 :]

    def add(self, networks: list[Network]) -> None:
        if len(networks) > _FEW:
            self.networks += networks
            self.networks.sort()
            self._outer = _outer(self.networks, self._size)
            return
        for network in networks:
            insort(self.networks, network)
            at = bisect_right(self._outer, network)
            if not at or network > self._end(self._outer[at - 1]):
                # It may be around of others.
                self._outer[at : bisect_right(self._outer, self._end(network))] = [network]

    def remove(self, networks: list[Network]) -> None:
        if len(networks) > _FEW:
            gone = set(networks)
            self.networks = [network for network in self.networks if network not in gone]
            self._outer = _outer(self.networks, self._size)
            return
        for network in networks:
            del self.networks[bisect_left(self.networks, network)]
            at = bisect_left(self._outer, network)
            if at < len(self._outer) and self._outer[at] == network:
                start = bisect_left(self.networks, network)
                inside = self.networks[start : bisect_right(self.networks, self._end(network))]
                self._outer[at : at + 1] = _outer(inside, self._size)

    def _end(self, network: Network) -> bytes:
        """What is behind all networks inside of this one."""
        return network[self._size + 1 :] + _END


class NetworkSet:
    """Networks, in any number. A lookup takes O(log n).

    :raises ValueError: from all that takes networks: one is none, or has host bits set. Nothing
        has changed then.
    """

    __slots__ = ("_all", "_family4", "_family6", "_known")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._all: set[Network] = set()
        self._known: dict[str, bool] = {}
        self._family4 = _Family(4)
        self._family6 = _Family(16)
        self.add(networks)

    def add(self, networks: Iterable[str]) -> list[Network]:
        """Add all, at the cost of one.

        :return: those that were not there.
        """
        return self.put(set(map(parse_network, networks)))

    def remove(self, networks: Iterable[str]) -> list[Network]:
        """Remove all, at the cost of one. What lies inside or around of one stays.

        :return: those that were there.
        """
        return self.drop(set(map(parse_network, networks)))

    def put(self, networks: AbstractSet[Network]) -> list[Network]:
        """`add`, of what has been parsed."""
        new = list(networks - self._all)
        self._all.update(new)
        for family, networks_of in self._families(new):
            family.add(networks_of)
        return new

    def drop(self, networks: AbstractSet[Network]) -> list[Network]:
        """`remove`, of what has been parsed."""
        gone = networks & self._all
        self._all -= gone
        for family, networks_of in self._families(gone):
            family.remove(networks_of)
        return list(gone)

    def _families(self, changed: Iterable[Network]) -> Iterator[tuple[_Family, list[Network]]]:
        self._known.clear()
        for family, span in ((self._family4, _SPAN4), (self._family6, _SPAN6)):
            networks = [network for network in changed if len(network) == span]
            if networks:
                yield family, networks

    def __contains__(self, ip: str) -> bool:
        """Whether an address is in one of the networks; a text that is no address is in none."""
        known = self._known.get(ip)
        if known is None:
            address = packed(ip)
            known = address is not None and self.holds(address)
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            if len(ip) <= _LONGEST:
                self._known[ip] = known
        return known

    def holds(self, address: bytes) -> bool:
        """Whether an address is in one of the networks, as `packed` gives it; not remembered."""
        return (self._family4 if len(address) == 4 else self._family6).holds(address)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[str]:
        """The networks, normalised, in the order of their addresses, IPv4 first."""
        return map(spell, self.networks)

    @property
    def networks(self) -> list[Network]:
        """Likewise, as they are parsed."""
        return self._family4.networks + self._family6.networks

    def __repr__(self) -> str:
        return f"<NetworkSet {len(self)} networks>"
