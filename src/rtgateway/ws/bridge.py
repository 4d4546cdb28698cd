"""The WebSocket side of a route: what `gateway.pipeline` calls for a request that asks for one.

`Bridge` has the shape of ``gateway.upgrade.Bridge``. The request stays an ordinary one, under all
that its route says, until its instance has answered 101; then both connections are taken out of
the hands of HTTP, and a `Socket` has them.
"""

from __future__ import annotations

from time import monotonic, time

from rtgateway.errors import GatewayError, UpstreamFailed
from rtgateway.gateway.exchange import VIA, Exchange
from rtgateway.gateway.limits.answers import QUOTA_LINES
from rtgateway.net.gate import network_of
from rtgateway.upstream.answer import Answer
from rtgateway.wire.http1 import QUOTA_FIELDS, ResponseHead
from rtgateway.ws.handshake import passed_down
from rtgateway.ws.rules import Rules
from rtgateway.ws.socket import Socket
from rtgateway.ws.sockets import Place, Sockets
from rtgateway.ws.upgrade import Terms, Upgrade, read_upgrade, switched

__all__ = ["Bridge"]

_NEVER = float("inf")


class Bridge:
    """See the module.

    :param label: of the route, for metrics.
    """

    __slots__ = ("_label", "_rules", "_sockets", "_terms", "only")

    def __init__(self, label: str, terms: Terms, rules: Rules, sockets: Sockets) -> None:
        self._label = label
        self._terms = terms
        self._rules = rules
        self._sockets = sockets
        self.only = terms.only

    # -- before there is a WebSocket ------------------------------------------------------------

    def admit(self, exchange: Exchange) -> None:
        """See `gateway.upgrade.Bridge`."""
        try:
            upgrade = read_upgrade(exchange, self._terms)
            if upgrade is not None and self._sockets.draining:
                raise _no_room("draining", "The gateway is stopping", 503)
        except GatewayError as error:
            self._sockets.refuse(self._label, error.code)
            raise
        if upgrade is not None:
            upgrade.per_instance = self._rules.per_instance
        exchange.upgrade = upgrade

    def enter(self, exchange: Exchange) -> None:
        """See `gateway.upgrade.Bridge`."""
        rules, upgrade = self._rules, _upgrade_of(exchange)
        ip = identity = None
        if rules.per_ip and exchange.client_ip:
            ip = (self, network_of(exchange.client_ip))
        if rules.per_identity and exchange.identity is not None and exchange.identity.subject:
            identity = (self, exchange.identity.subject)
        place = Place(self, ip, identity)
        of_route, from_ip, of_identity = self._sockets.taken(place)
        if rules.connections and of_route >= rules.connections:
            raise _no_room("too_many_websockets", "All places are taken", 503)
        if ip is not None and from_ip >= rules.per_ip:
            raise _no_room("too_many_websockets_per_ip", "Your address has all its places", 429)
        if identity is not None and of_identity >= rules.per_identity:
            raise _no_room("too_many_websockets_per_identity", "You have all your places", 429)
        self._sockets.take(place)
        upgrade.place = place

    def left(self, exchange: Exchange) -> None:
        """See `gateway.upgrade.Bridge`."""
        upgrade = _upgrade_of(exchange)
        if exchange.status == 101:
            return  # its place is the socket's now
        if upgrade.place is not None:
            self._sockets.give_back(upgrade.place)
        self._sockets.refuse(self._label, exchange.error_code or "upstream_refused")

    # -- from request to WebSocket ------------------------------------------------------------

    def open(self, exchange: Exchange, answer: Answer) -> None:
        """See `gateway.upgrade.Bridge`."""
        upgrade, route = _upgrade_of(exchange), exchange.route
        assert route is not None
        try:
            agreed = upgrade.verify(answer.head)
        except UpstreamFailed as error:
            answer.fail(error)
            raise
        head = upgrade.accept(agreed, _fields(exchange, answer.head))
        socket = Socket(
            self._sockets,
            self._rules,
            route,
            compressed=agreed.compressed,
            subprotocol=agreed.protocol or "",
        )
        socket.attempt = answer.hand_over(socket.upstream)
        from_client = exchange.client.hand_over(socket.client)
        socket.client.transport.write(head)
        now = monotonic()
        _introduce(socket, exchange)
        socket.place = upgrade.place
        switched(exchange, now)
        self._sockets.shook_hands(self._label, now - exchange.started)
        identity = exchange.identity
        expires = _NEVER
        # A token that the route does not ask for may expire as it likes.
        if identity is not None and route.auth is not None and identity.ends < _NEVER:
            expires = now + max(0.0, identity.ends - time())
        socket.start(now, expires, from_client, answer.body)

    def __repr__(self) -> str:
        return f"<Bridge {self._label} {self._rules!r}>"


def _upgrade_of(exchange: Exchange) -> Upgrade:
    upgrade = exchange.upgrade
    assert isinstance(upgrade, Upgrade)
    return upgrade


def _introduce(socket: Socket, exchange: Exchange) -> None:
    """Tell ``socket`` what is worth knowing of its request, which it outlives."""
    socket.path = exchange.path
    socket.request_id = exchange.request_id
    socket.client_ip = exchange.client_ip
    if exchange.identity is not None:
        socket.identity = exchange.identity.subject


def _fields(exchange: Exchange, head: ResponseHead) -> list[tuple[bytes, bytes]]:
    """The fields of the 101 that are no part of the handshake itself."""
    fields = [*passed_down(head), (b"X-Request-Id", exchange.request_id)]
    if exchange.quota.startswith(QUOTA_LINES):
        fields = [field for field in fields if field[0].lower() not in QUOTA_FIELDS]
    lines = VIA[head.version] + exchange.answer_lines
    if exchange.quota:
        lines += exchange.quota[2:] + b"\r\n"
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        fields.append((name, value))
    return fields


def _no_room(code: str, message: str, status: int) -> GatewayError:
    return GatewayError(status, code, message, fault="client", headers=((b"Retry-After", b"5"),))
