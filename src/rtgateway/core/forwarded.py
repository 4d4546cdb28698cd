"""Who the client is, behind how many proxies, and how a service is told.

What a peer says about those before it (X-Forwarded-*, and Forwarded of RFC 7239) counts only if
the peer is a trusted proxy; from anyone else it is dropped. Of the two ways to list hops one is
believed and the other rewritten from it: X-Forwarded-For where there is one, because most proxies
write only that and pass on whatever a client made up in Forwarded.

Callers: ``web.channel`` (once per connection for strangers, per request for trusted peers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from rtgateway.core.headers import is_token, valid_host

__all__ = [
    "FORWARDING_FIELDS",
    "Origin",
    "Received",
    "TrustedProxies",
    "forwarding_block",
    "resolve",
]

FORWARDING_FIELDS = frozenset(
    [
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    ]
)
"""Lower-case names of the fields that `forwarding_block` writes anew."""

_LONGEST_NODE = 64
"""Bytes of the longest hop that can be an address: quotes, brackets, IPv6 and a port are 56."""

_MAX_CACHED = 4096
_UNKNOWN = b"unknown"
_PROTOCOLS = frozenset([b"http", b"https", b"ws", b"wss"])
_PORT = re.compile(rb"[0-9]{1,5}")

# RFC 7239, 4: forwarded-pair = token "=" ( token / quoted-string ), pairs joined by ";" into
# elements, elements by ",". IPv6 without quotes is wrong and common, so ":[]" pass as well.
_PAIR = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    rb'([!#$%&\'*+.^_`|~0-9A-Za-z:\[\]-]+|"(?:[^"\\]|\\.)*")[ \t]*(;|,|\Z)'
)
_ESCAPED = re.compile(rb"\\(.)")


class TrustedProxies:
    """The networks of proxies whose word about their clients is believed."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def trusts(self, ip: str) -> bool:
        """Whether ``ip`` (as `resolve` and transports spell it) is in one of the networks."""
        known = self._known.get(ip)
        if known is None:
            if not self._networks:
                return False
            known = self._lookup(ip)
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            if len(ip) <= _LONGEST_NODE:
                self._known[ip] = known
        return known

    def _lookup(self, ip: str) -> bool:
        plain = _normal(ip)
        if plain is None:
            return False
        address = ip_address(plain)
        return any(address in network for network in self._networks)

    def __repr__(self) -> str:
        return f"<TrustedProxies {', '.join(map(str, self._networks)) or 'none'}>"


class Origin(NamedTuple):
    """Where a request comes from.

    :ivar client: address of the nearest hop that is not a trusted proxy.
    :ivar chain: addresses of the hops before the peer, the farthest first, ``unknown`` for those
        that tell none. All but the end of it is hearsay.
    """

    client: str
    chain: tuple[str, ...] = ()


class Received:
    """What a trusted peer sent of `FORWARDING_FIELDS`. Values hold no CR or LF."""

    __slots__ = ("addresses", "forwarded", "host", "port", "proto")

    def __init__(self, fields: Iterable[tuple[bytes, bytes, bytes]] = ()) -> None:
        """
        :param fields: of a request head: lower-cased name, name, value. Others are passed over.
        """
        self.addresses: list[bytes] = []
        self.forwarded: list[bytes] = []
        self.proto = self.host = self.port = b""
        for key, _, value in fields:
            if key not in FORWARDING_FIELDS or not value:
                continue
            if key == b"x-forwarded-for":
                self.addresses.append(value)
            elif key == b"forwarded":
                self.forwarded.append(value)
            else:
                self._single(key, value)

    def _single(self, key: bytes, value: bytes) -> None:
        # Of several values the last is the one that the peer itself wrote.
        value = value.rpartition(b",")[2].strip(b" \t")
        if key == b"x-forwarded-proto":
            self.proto = value.lower() if value.lower() in _PROTOCOLS else b""
        elif key == b"x-forwarded-host":
            self.host = value if valid_host(value) else b""
        else:
            self.port = value if _PORT.fullmatch(value) else b""

    def __repr__(self) -> str:
        return f"<Received {len(self.addresses)} X-Forwarded-For {len(self.forwarded)} Forwarded>"


def resolve(
    peer: str,
    x_forwarded_for: Sequence[bytes],
    forwarded: Sequence[bytes],
    trusted: TrustedProxies,
) -> Origin:
    """Find the client behind ``peer``.

    From the peer on, hop by hop towards the client: each trusted proxy is believed about the hop
    before it, and the first that is not trusted is the client. A hop without a usable address
    ends the search at the hop that told of it.

    :param x_forwarded_for: values of the X-Forwarded-For fields, in the order received.
    :param forwarded: values of the Forwarded fields; used if there is no X-Forwarded-For.
    """
    client = _normal(peer) or peer
    if not (x_forwarded_for or forwarded) or not trusted.trusts(client):
        return Origin(client)
    chain = _hops(x_forwarded_for, forwarded)
    for hop in reversed(chain):
        if hop is None:
            break
        client = hop
        if not trusted.trusts(hop):
            break
    return Origin(client, tuple(hop or "unknown" for hop in chain))


def forwarding_block(
    peer: str, scheme: bytes, host: bytes, port: int, received: Received | None = None
) -> bytes:
    """The header lines that tell a service about the client, each with its line end.

    For a stranger (``received`` is None) they are the same for every request with this host on
    a connection.

    :param peer: address of the transport's peer; empty if it has none (a Unix socket).
    :param scheme: ``http`` or ``https``: how the peer talks to this gateway.
    :param host: the Host field, valid or empty.
    :param port: where the gateway listens; 0 if it is not a port.
    :param received: what a trusted peer said.
    """
    address = (_normal(peer) or peer).encode("ascii") or _UNKNOWN
    element = _element(address, host, scheme)
    shown_port = b"%d" % port if port else b""
    if received is None:
        return _lines(address, scheme, host, shown_port, element)
    hops = _hops(received.addresses, received.forwarded)
    before = received.addresses or [hop.encode("ascii") if hop else _UNKNOWN for hop in hops]
    return _lines(
        b", ".join((*before, address)),
        received.proto or scheme,
        received.host or host,
        received.port or shown_port,
        b", ".join((*_elements(received, hops), element)),
    )


def _lines(addresses: bytes, proto: bytes, host: bytes, port: bytes, elements: bytes) -> bytes:
    lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (addresses, proto)
    if host:
        lines += b"X-Forwarded-Host: %b\r\n" % host
    if port:
        lines += b"X-Forwarded-Port: %b\r\n" % port
    return lines + b"Forwarded: %b\r\n" % elements


# -- hops as received -------------------------------------------------------------------------


def _hops(x_forwarded_for: Sequence[bytes], forwarded: Sequence[bytes]) -> list[str | None]:
    """The hops before the peer, the farthest first; None for one without an address."""
    if x_forwarded_for:
        return [_hop(node) for node in b",".join(x_forwarded_for).split(b",")]
    return _forwarded_hops(forwarded)


def _forwarded_hops(values: Sequence[bytes]) -> list[str | None]:
    """The ``for`` of each element; none at all if anything is malformed.

    An element has each parameter once (RFC 7239, 4): a second ``for`` may have come in by a Host
    that a proxy copied without quoting it.
    """
    hops: list[str | None] = []
    if not values:
        return hops
    text = b",".join(values)
    node: bytes | None = None
    at = 0
    while True:
        match = _PAIR.match(text, at)
        if match is None:
            return []
        name, value, separator = match.groups()
        if name.lower() == b"for":
            if node is not None:
                return []
            node = value
        if separator != b";":
            hops.append(None if node is None else _hop(_ESCAPED.sub(rb"\1", node)))
            node = None
        if not separator:
            return hops
        at = match.end()


def _hop(node: bytes) -> str | None:
    """The address in a node of either header: with or without port, brackets, quotes."""
    node = node.strip(b' \t"')
    return _parse_node(node) if len(node) <= _LONGEST_NODE else None


@lru_cache(maxsize=_MAX_CACHED)
def _parse_node(node: bytes) -> str | None:
    if node.startswith(b"["):
        node = node[1:].partition(b"]")[0]
    elif node.count(b":") == 1:
        node = node.partition(b":")[0]
    return _normal(node.decode("latin-1"))


@lru_cache(maxsize=_MAX_CACHED)
def _normal(ip: str) -> str | None:
    """One spelling for each address: IPv4 out of IPv6, no zone; None if it is no address."""
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


# -- elements to send -------------------------------------------------------------------------


def _elements(received: Received, hops: list[str | None]) -> list[bytes]:
    """What Forwarded says of the hops before the peer."""
    if hops and hops == _forwarded_hops(received.forwarded):
        # Both headers agree, or there is only this one: it says more than hops.
        return received.forwarded
    if not hops and not (received.proto or received.host):
        return []
    # RFC 7239, 7.4: converted. Host and protocol are those that the client used: the first hop's.
    first, *others = [hop.encode("ascii") if hop else _UNKNOWN for hop in hops] or [_UNKNOWN]
    elements = [_element(first, received.host, received.proto)]
    elements += [_element(hop, b"", b"") for hop in others]
    return elements


def _element(address: bytes, host: bytes, scheme: bytes) -> bytes:
    # RFC 7239, 6: IPv6 in brackets, which no token may hold; 4: nor may it hold the ":" of a port.
    element = b'for="[%b]"' % address if b":" in address else b"for=" + address
    if host:
        element += b";host=%b" % host if is_token(host) else b';host="%b"' % host
    return element + b";proto=" + scheme if scheme else element
