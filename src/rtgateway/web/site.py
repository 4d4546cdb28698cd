"""Where requests come in: listeners, and the way from an address to who answers it.

`Site` belongs to the gateway, an `Edge` to one listener, a `Peer` to one connection. What can be
known once per connection or once per Host is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet import address, interfaces
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from rtgateway.config import Config
from rtgateway.core.deadlines import Wheel
from rtgateway.core.forwarded import TrustedProxies
from rtgateway.core.identifiers import (
    NOT_SAMPLED,
    SAMPLED,
    RequestIds,
    start_trace,
    valid_request_id,
    valid_traceparent,
)
from rtgateway.core.paths import has_dot_segments
from rtgateway.core.routes import Match, MethodNotAllowed, RouteTable
from rtgateway.errors import BadRequest, GatewayError
from rtgateway.gateway.exchange import Exchange, Repeats
from rtgateway.gateway.pipeline import Destination, Page, Pipeline
from rtgateway.gateway.route import Route
from rtgateway.web.address import Hosts, not_allowed, special_case, unusual_address
from rtgateway.web.channel import HTTPChannel
from rtgateway.web.peer import Peer
from rtgateway.wire.http1 import HeadLimits
from rtgateway.wire.proxy_protocol import Proxied

if TYPE_CHECKING:
    from rtgateway.net.gate import Gate

__all__ = ["Edge", "Site"]


class Site:
    """What all connections share.

    :param no_such_socket: what answers at ``/ws/<service>`` of no service, given its refusal.
    """

    def __init__(
        self,
        config: Config,
        routes: RouteTable[Route],
        pages: Page,
        pipeline: Pipeline,
        wheel: Wheel,
        trusted: TrustedProxies,
        request_ids: RequestIds,
        no_such_socket: Callable[[GatewayError], Page],
    ) -> None:
        self._no_such_socket = no_such_socket
        self.pipeline = pipeline
        self.wheel = wheel
        self.timeouts = config.timeouts
        # By itself, because models are slow to read: it is asked for after every request.
        self.keep_alive = config.timeouts.keep_alive
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
        self._hosts = Hosts()

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
        known = exchange.head.memo
        if known is not None and known.routes is self._routes:
            return self._admit_again(exchange, known)
        target = exchange.target
        host = exchange.named.get(b"host")
        name = self._hosts.get(host)
        try:
            if name is None or target[0] != 0x2F or 0x23 in target:
                host, name, target = unusual_address(exchange, self._hosts)
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
        if exchange.head.plain:
            exchange.request_id = request_id = self._ids.next()
            exchange.trace = self._trace(request_id)
            peer.introduce(exchange)
        else:
            self.introduce(exchange, peer)
            special = special_case(exchange)
            if special is not None:
                return special
        if self.draining:
            exchange.keep_alive = False
        found = self._routes.match(name, exchange.method, path)
        if not isinstance(found, Match):
            return self._without_route(exchange, found)
        route = found.target
        if route.strip:
            exchange.rest = found.rest + target[len(path) :]
        if exchange.head.repeated and exchange.head.plain:
            exchange.head.memo = Admitted(exchange, self._routes, route)
        return route

    def _admit_again(self, exchange: Exchange, known: Admitted) -> Route:
        """The same request as before on its connection: the same address, a new identity."""
        exchange.host = known.host
        exchange.path = known.path
        exchange.rest = known.rest
        exchange.client_ip = known.client_ip
        exchange.forwarding = known.forwarding
        exchange.repeats = known
        exchange.request_id = request_id = self._ids.next()
        exchange.trace = self._trace(request_id)
        if self.draining:
            exchange.keep_alive = False
        return known.route

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
            exchange.trace = b"traceparent: %b\r\n" % trace
        else:
            if b"tracestate" in named:
                exchange.drop(b"tracestate")  # Trace Context, 4.3: it belongs to another trace
            exchange.trace = self._trace(trace_id or self._ids.next())
        peer.introduce(exchange)

    def _trace(self, trace_id: bytes) -> bytes:
        """The traceparent line of a request that came without one."""
        flags = self._trace_flags
        return start_trace(trace_id, flags) if flags else b""

    def _without_route(self, exchange: Exchange, found: MethodNotAllowed | None) -> Destination:
        if found is not None:
            return not_allowed(found.allow)
        return self._unknown_service(exchange) or self._pages

    def _unknown_service(self, exchange: Exchange) -> GatewayError | Page | None:
        """The built-in mounts say which service they do not know."""
        if self._services is None:
            return None
        parts = exchange.path.split(b"/", 3)
        if len(parts) < 3 or parts[1] not in (b"api", b"sse", b"ws") or not parts[2]:
            return None
        service = parts[2].decode("latin-1")
        if service in self._services or exchange.path == b"/ws/health":
            return None
        message = f"No upstream configured for service: {service[:64]}"
        refusal = GatewayError(404, "unknown_service", message, fault="client")
        return self._no_such_socket(refusal) if parts[1] == b"ws" else refusal


class Admitted(Repeats):
    """What was made of the address of a request that is repeated on its connection."""

    __slots__ = ("client_ip", "forwarding", "host", "path", "rest", "route", "routes")

    def __init__(self, exchange: Exchange, routes: RouteTable[Route], route: Route) -> None:
        super().__init__()
        self.host = exchange.host
        self.path = exchange.path
        self.rest = exchange.rest
        self.client_ip = exchange.client_ip
        self.forwarding = exchange.forwarding
        self.routes = routes
        self.route = route


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
        # A socket that was inherited may be of either kind.
        self.tcp = not isinstance(host, address.UNIXAddress)

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
