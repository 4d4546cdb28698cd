"""Where requests come in: listeners, peers, and the way from an address to who answers it.

`Site` belongs to the gateway, an `Edge` to one listener, a `Peer` to one connection. What can be
known once per connection or once per Host is worked out once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet import address, interfaces
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from rtgateway.config import Config
from rtgateway.core.deadlines import Wheel
from rtgateway.core.forwarded import Received, TrustedProxies, forwarding_block, resolve
from rtgateway.core.headers import host_name, valid_host
from rtgateway.core.identifiers import (
    NOT_SAMPLED,
    SAMPLED,
    RequestIds,
    start_trace,
    valid_request_id,
    valid_traceparent,
)
from rtgateway.core.paths import has_dot_segments
from rtgateway.core.routes import MethodNotAllowed, RouteTable
from rtgateway.errors import BadRequest, GatewayError
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.pipeline import Destination, Page, Pipeline
from rtgateway.gateway.respond import with_nothing
from rtgateway.gateway.route import Route
from rtgateway.web.channel import HTTPChannel
from rtgateway.wire.http1 import HeadLimits
from rtgateway.wire.lines import Line
from rtgateway.wire.proxy_protocol import Proxied

if TYPE_CHECKING:
    from rtgateway.net.gate import Gate

__all__ = ["Edge", "Peer", "Site"]

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_KNOWN_HOSTS = 1024


class Peer:
    """Whom a connection comes from, and what the next hop is told about it.

    :ivar ip: the address in text, "" for a Unix socket.
    :ivar trusted: whether it is one of the configured proxies, and is believed.
    :ivar block: the forwarding lines for requests to ``host``, which was the last one asked for.
    """

    __slots__ = ("_port", "_proxies", "_scheme", "block", "host", "ip", "trusted")

    def __init__(self, ip: str, scheme: bytes, port: int, proxies: TrustedProxies) -> None:
        self.ip = ip
        self.trusted = proxies.trusts(ip)
        self._proxies = proxies
        self._scheme = scheme
        self._port = port
        self.host = b"?"
        self.block = b""

    def introduce(self, exchange: Exchange) -> None:
        """Tell the next hop for whom ``exchange`` is made, and the gateway too."""
        host = exchange.host
        if self.trusted:
            received = Received(exchange.headers)
            exchange.client_ip = resolve(
                self.ip, received.addresses, received.forwarded, self._proxies
            ).client
            exchange.forwarding = forwarding_block(
                self.ip, self._scheme, host, self._port, received
            )
            return
        self.host = host
        self.block = forwarding_block(self.ip, self._scheme, host, self._port)
        exchange.client_ip = self.ip
        exchange.forwarding = self.block

    def __repr__(self) -> str:
        return f"<Peer {self.ip or 'unix'}{' trusted' if self.trusted else ''}>"


class Site:
    """What all connections share."""

    def __init__(
        self,
        config: Config,
        routes: RouteTable[Route],
        pages: Page,
        pipeline: Pipeline,
        wheel: Wheel,
        trusted: TrustedProxies,
        request_ids: RequestIds,
    ) -> None:
        self.pipeline = pipeline
        self.wheel = wheel
        self.timeouts = config.timeouts
        limits = config.limits
        self.head_limits = HeadLimits(
            line=limits.request_line, size=limits.header_bytes, count=limits.header_count
        )
        self.trailer_bytes = limits.trailer_bytes
        self.trusted = trusted
        self.channels: set[HTTPChannel] = set()
        self.draining = False
        self._routes = routes
        self._pages = pages
        self._services = frozenset(config.services) if config.builtin_routes else None
        self._ids = request_ids
        tracing = config.tracing
        self._trace_flags = b""
        if tracing.start:
            self._trace_flags = SAMPLED if tracing.sampled else NOT_SAMPLED
        self._hosts: dict[bytes | None, bytes] = {}

    # -- connections --------------------------------------------------------------------------

    def opened(self, channel: HTTPChannel, now: float) -> None:
        self.channels.add(channel)
        self.wheel.add(channel, now)

    def closed(self, channel: HTTPChannel) -> None:
        self.channels.discard(channel)
        self.wheel.discard(channel)

    def drain(self) -> None:
        """Finish what is being served and take nothing new."""
        self.draining = True
        for channel in list(self.channels):
            channel.close_when_idle()

    # -- requests -----------------------------------------------------------------------------

    def admit(self, exchange: Exchange, peer: Peer) -> Destination:
        """Make sense of a request's address; where it goes, or the error that it is."""
        named = exchange.named
        target = exchange.target
        host = named.get(b"host")
        name = self._hosts.get(host)
        try:
            if name is None or target[0] != 0x2F or 0x23 in target:
                host, name, target = self._unusual_address(exchange)
            path = target.partition(b"?")[0]
            if has_dot_segments(path):
                raise BadRequest("The path has dot segments; send it resolved")
        except BadRequest as refusal:
            exchange.host = exchange.path = exchange.rest = b""
            self.introduce(exchange, peer)
            return refusal
        exchange.host = host or b""
        exchange.path = path
        exchange.rest = target
        self.introduce(exchange, peer)
        if self.draining:
            exchange.keep_alive = False
        if b"expect" in named:
            if named[b"expect"].lower() != b"100-continue":
                return GatewayError(
                    417, "expectation_failed", "Only 100-continue can be expected", fault="client"
                )
            if exchange.version == 10:
                exchange.drop(b"expect")  # RFC 9110, 10.1.1: such a client does not wait
        if b"max-forwards" in named and exchange.method == b"OPTIONS" and _last_hop(exchange):
            return _END_OF_THE_WAY
        return self._find(exchange, name)

    def introduce(self, exchange: Exchange, peer: Peer) -> None:
        """Give ``exchange`` its request id, its trace and the address of its client."""
        named = exchange.named
        request_id = named.get(b"x-request-id")
        if request_id is None or not valid_request_id(request_id):
            exchange.request_id = trace_id = self._ids.next()
        else:
            exchange.request_id = request_id
            trace_id = b""
        trace = named.get(b"traceparent")
        if trace is not None and valid_traceparent(trace):
            exchange.trace = b"\r\ntraceparent: %b\r\n" % trace
        else:
            if b"tracestate" in named:
                exchange.drop(b"tracestate")  # Trace Context, 4.3: it belongs to another trace
            if self._trace_flags:
                trace = start_trace(trace_id or self._ids.next(), self._trace_flags)
                exchange.trace = b"\r\ntraceparent: %b\r\n" % trace
            else:
                exchange.trace = b"\r\n"
        if peer.trusted or exchange.host != peer.host:
            peer.introduce(exchange)
        else:
            exchange.client_ip = peer.ip
            exchange.forwarding = peer.block

    def _unusual_address(self, exchange: Exchange) -> tuple[bytes, bytes, bytes]:
        """Host, the name in it, and target in origin form, of an address that is not plainly one.

        :raises BadRequest: RFC 9112, 3.2 and 3.3.
        """
        target = exchange.target
        host = exchange.named.get(b"host")
        if host is None and exchange.version == 11:
            raise BadRequest("There must be a Host field")
        if exchange.method == b"CONNECT":
            raise _never_forwarded(exchange.method)
        if 0x23 in target:
            raise BadRequest("The request target has a fragment")
        name = self._name_of(host) if host is not None else b""
        if target[0] != 0x2F:
            host, target = self._other_form(exchange.method, target, host or b"")
            name = self._name_of(host) if host else b""
            exchange.target = target
        return host or b"", name, target

    def _other_form(self, method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes]:
        """Host and origin-form target of an absolute-form or asterisk-form target."""
        if target == b"*":
            if method != b"OPTIONS":
                raise BadRequest("Only OPTIONS may have the target *")
            return host, b"*"
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise BadRequest("The request target is neither a path nor an absolute http URI")
        authority, rest = match.groups()
        # RFC 9112, 3.2.2: the target's authority counts; one that differs from Host is a try to
        # be seen as two hosts by two readers.
        if host and authority.lower() != host.lower():
            raise BadRequest("The absolute target and the Host field disagree")
        self._name_of(authority)
        if rest[:1] == b"?":
            rest = b"/" + rest
        # RFC 9112, 3.2.4: OPTIONS of a URI without a path is OPTIONS of the server.
        return authority, rest or (b"*" if method == b"OPTIONS" else b"/")

    def _name_of(self, host: bytes) -> bytes:
        name = self._hosts.get(host)
        if name is None:
            if not valid_host(host):
                raise BadRequest("The Host field is not a host")
            name = host_name(host)
            if len(self._hosts) >= _KNOWN_HOSTS:
                self._hosts.clear()
            self._hosts[host] = name
        return name

    def _find(self, exchange: Exchange, host: bytes) -> Destination:
        found = self._routes.match(host, exchange.method, exchange.path)
        if exchange.method in _NEVER_FORWARDED:
            return _never_forwarded(exchange.method)
        if found is None:
            return self._unknown_service(exchange) or self._pages
        if isinstance(found, MethodNotAllowed):
            return _not_allowed(found.allow)
        route = found.target
        if route.strip:
            exchange.rest = found.rest + exchange.target[len(exchange.path) :]
        return route

    def _unknown_service(self, exchange: Exchange) -> GatewayError | None:
        """The built-in mounts say which service they do not know."""
        if self._services is None:
            return None
        parts = exchange.path.split(b"/", 3)
        if len(parts) < 3 or parts[1] not in (b"api", b"sse") or not parts[2]:
            return None
        service = parts[2].decode("latin-1")
        if service in self._services:
            return None
        message = f"No upstream configured for service: {service[:64]}"
        return GatewayError(404, "unknown_service", message, fault="client")


_NEVER_FORWARDED = frozenset([b"CONNECT", b"TRACE"])
_FORWARDED = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")


def _never_forwarded(method: bytes) -> GatewayError:
    if method == b"CONNECT":
        # What follows may be meant for a tunnel: nothing more is read from this connection.
        return BadRequest("CONNECT is not served", status=501, code="not_implemented")
    return _not_allowed(_FORWARDED)


def _last_hop(exchange: Exchange) -> bool:
    """Whether Max-Forwards ends here; else it is counted down (RFC 9110, 7.6.2)."""
    value = exchange.named[b"max-forwards"]
    if not value.isdigit() or len(value) > 9:
        return False
    left = int(value)
    if left:
        field = (b"max-forwards", b"Max-Forwards", b"%d" % (left - 1))
        new: Line = (field, b"Max-Forwards: %b\r\n" % field[2], None)
        lines = exchange.head.lines
        exchange.pass_on([new if line[0][0] == field[0] else line for line in lines])
    return not left


class _EndOfTheWay:
    """Answers OPTIONS that may go no further."""

    async def answer(self, exchange: Exchange) -> None:
        with_nothing(exchange, ((b"Allow", b", ".join(_FORWARDED)),))


_END_OF_THE_WAY = _EndOfTheWay()


def _not_allowed(allow: tuple[bytes, ...]) -> GatewayError:
    return GatewayError(
        405,
        "method_not_allowed",
        "This method is not allowed here",
        fault="client",
        headers=((b"Allow", b", ".join(allow)),),
    )


@implementer(interfaces.IProtocolFactory)
@dataclass(eq=False)
class Edge(Factory):
    """One listener: makes channels, and knows what their peers are told apart by.

    :ivar scheme: ``http`` or ``https``, as clients see it.
    :ivar port: the port clients connect to, 0 for a Unix socket.
    :ivar half_closes: whether one direction can be closed alone (not with TLS).
    """

    site: Site
    scheme: str
    port: int
    tcp: bool
    half_closes: bool
    proxy_protocol: bool
    gate: Gate | None = None
    noisy = False

    def buildProtocol(self, addr: interfaces.IAddress | None) -> Protocol | None:
        channel = HTTPChannel(self)
        channel.factory = self
        return channel

    def listens_on(self, host: interfaces.IAddress) -> None:
        """Learn the port that the kernel chose."""
        self.port = getattr(host, "port", 0)

    def peer_of(self, transport: interfaces.ITransport) -> Peer:
        peer = transport.getPeer()
        ip = peer.host if isinstance(peer, address.IPv4Address | address.IPv6Address) else ""
        return self.peer(ip)

    def peer(self, ip: str) -> Peer:
        if ip.startswith("::ffff:") and "." in ip:
            ip = ip[7:]  # an IPv4 peer of a dual-stack listener
        return Peer(ip, self.scheme.encode("ascii"), self.port, self.site.trusted)

    def proxied_peer(self, peer: Peer, said: Proxied) -> Peer:
        """The peer that a proxy speaks for (PROXY protocol).

        :raises BadRequest: the proxy is not one that is trusted.
        """
        if not peer.trusted:
            raise BadRequest("PROXY headers are only taken from trusted proxies")
        return self.peer(said.ip) if said.ip else peer
