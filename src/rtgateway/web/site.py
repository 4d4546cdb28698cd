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
from rtgateway.gateway.route import Route
from rtgateway.web.channel import HTTPChannel
from rtgateway.wire.http1 import HeadLimits, RequestHead
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
    """

    __slots__ = ("_block", "_host", "_port", "_proxies", "_scheme", "ip", "trusted")

    def __init__(self, ip: str, scheme: bytes, port: int, proxies: TrustedProxies) -> None:
        self.ip = ip
        self.trusted = proxies.trusts(ip)
        self._proxies = proxies
        self._scheme = scheme
        self._port = port
        self._host = b""
        self._block = b""

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
        if host != self._host or not self._block:
            self._host = host
            self._block = forwarding_block(self.ip, self._scheme, host, self._port)
        exchange.client_ip = self.ip
        exchange.forwarding = self._block

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
        self._tracing = config.tracing
        self._hosts: dict[bytes, bytes] = {}

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

    def admit(self, exchange: Exchange, head: RequestHead, peer: Peer) -> Destination:
        """Make sense of a request's address; where it goes, or the error that it is."""
        refusal: GatewayError | None = None
        host = b""
        try:
            host = self._address(exchange, head)
        except GatewayError as error:
            refusal = error
        self.introduce(exchange, peer)
        if refusal is not None:
            return refusal
        if self.draining:
            exchange.keep_alive = False
        if exchange.expect and exchange.expect.lower() != b"100-continue":
            return GatewayError(
                417, "expectation_failed", "Only 100-continue can be expected", fault="client"
            )
        return self._find(exchange, host)

    def introduce(self, exchange: Exchange, peer: Peer) -> None:
        """Give ``exchange`` its request id, its trace and the address of its client."""
        request_id = trace = b""
        for key, _, value in exchange.headers:
            if key == b"x-request-id":
                request_id = value if not request_id and valid_request_id(value) else b""
            elif key == b"traceparent":
                trace = value if not trace and valid_traceparent(value) else b"?"
        exchange.request_id = request_id or self._ids.next()
        if trace and trace != b"?":
            exchange.trace = trace
        elif self._tracing.start:
            exchange.trace = start_trace(self._ids, sampled=self._tracing.sampled)
        peer.introduce(exchange)

    def _address(self, exchange: Exchange, head: RequestHead) -> bytes:
        """The host name to route by; sets host, target and path (RFC 9112, 3.2 and 3.3)."""
        hosts, target = head.hosts, head.target
        if len(hosts) != 1 and (hosts or head.version == 11):
            raise BadRequest("There must be exactly one Host field")
        host = hosts[0] if hosts else b""
        if b"#" in target:
            raise BadRequest("The request target has a fragment")
        if head.method == b"CONNECT":
            raise BadRequest("CONNECT is not served", status=501, code="not_implemented")
        name = self._name_of(host) if hosts else b""
        if target[0] != 0x2F:
            host, target = self._other_form(head, host)
            name = self._name_of(host) if host else b""
            exchange.target = target
        exchange.host = host
        path, _, _ = target.partition(b"?")
        if has_dot_segments(path):
            raise BadRequest("The path has dot segments; send it resolved")
        exchange.path = path
        exchange.rest = target
        return name

    def _other_form(self, head: RequestHead, host: bytes) -> tuple[bytes, bytes]:
        """Host and origin-form target of an absolute-form or asterisk-form target."""
        if head.target == b"*":
            if head.method != b"OPTIONS":
                raise BadRequest("Only OPTIONS may have the target *")
            return host, b"*"
        match = _ABSOLUTE.fullmatch(head.target)
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
        return authority, rest or b"/"

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
        method = exchange.method
        if method == b"TRACE":
            return _not_allowed((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
        if exchange.target == b"*":
            return self._pages
        found = self._routes.match(host, method, exchange.path)
        if found is None:
            return self._unknown_service(exchange) or self._pages
        if isinstance(found, MethodNotAllowed):
            return _not_allowed(found.allow)
        route = found.target
        if route.strip:
            query = exchange.target[len(exchange.path) :]
            exchange.rest = found.rest + query
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
