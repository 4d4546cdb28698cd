"""All WebSockets of the gateway: which there are, how many may be, what they did, how they leave.

Everything here is counted by route, and by whatever else comes from the configuration; what a
client can choose (its address, its identity, a close code) is never a label.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import NamedTuple, Protocol, TypeVar

from rtgateway.core.deadlines import Wheel
from rtgateway.observe.durations import BOUNDS, SUM, new_histogram
from rtgateway.upstream.instance import Instance
from rtgateway.ws.socket import Socket

__all__ = ["Place", "Sockets"]

K = TypeVar("K")

_NEVER = float("inf")


_WORDS = frozenset(
    [
        "backpressure",
        "cut_off",
        "frame_too_big",
        "going_away",
        "idle_timeout",
        "instance_draining",
        "max_lifetime",
        "message_too_big",
        "ping_timeout",
        "protocol_error",
        "rate_limit",
        "token_expired",
        "token_revoked",
    ]
)
"""Why the gateway closes. What an operator gives for a reason is none of its own words."""


class Place(NamedTuple):
    """What a WebSocket, open or opening, counts against: keys of `Sockets` counts."""

    route: object
    ip: tuple[object, str] | None
    identity: tuple[object, str] | None


class Farewell(Protocol):
    """A connection that waits for its end (`ws.farewell`)."""

    def abort(self) -> None: ...


class SocketLog(Protocol):
    """Told of every WebSocket that is over (`observe.access_log`)."""

    def socket(self, socket: Socket) -> None: ...


class Sockets:
    """See the module.

    :param random: gives ``0 <= x < 1``.
    :param instances: all instances of all services, as they are now.
    :ivar live: by id, in the order of their opening.
    :ivar farewells: connections that were only opened to be told why there is no WebSocket.
    :ivar opened: how many there have been, by route and service.
    :ivar closed: by route, service, close code, side and reason (of the gateway's own words).
    :ivar refused: upgrades that came to nothing, by route and the code of the error.
    :ivar handshakes: time until the 101, by route; histograms (`observe.durations`).
    :ivar rtts: how long pings took, by route and side.
    :ivar draining: the gateway stops: nothing new.
    """

    __slots__ = (
        "_instances",
        "_leaving",
        "_log",
        "_number",
        "_past",
        "_per_identity",
        "_per_ip",
        "_per_route",
        "closed",
        "draining",
        "farewells",
        "handshakes",
        "live",
        "opened",
        "random",
        "refused",
        "rtts",
        "wheel",
    )

    def __init__(
        self,
        wheel: Wheel,
        random: Callable[[], float],
        instances: Callable[[], Iterable[Instance]],
        log: SocketLog,
    ) -> None:
        self.wheel = wheel
        self.random = random
        self._instances = instances
        self._log = log
        self._number = 0
        self._leaving: set[Instance] = set()
        self._per_route: dict[object, int] = {}
        self._per_ip: dict[tuple[object, str], int] = {}
        self._per_identity: dict[tuple[object, str], int] = {}
        # Messages and bytes of those that are over, by route and direction.
        self._past: dict[tuple[str, str], tuple[int, int]] = {}
        self.live: dict[str, Socket] = {}
        self.farewells: set[Farewell] = set()
        self.opened: dict[tuple[str, str], int] = {}
        self.closed: dict[tuple[str, str, str, str, str], int] = {}
        self.refused: dict[tuple[str, str], int] = {}
        self.handshakes: dict[str, list[float]] = {}
        self.rtts: dict[tuple[str, str], list[float]] = {}
        self.draining = False

    # -- places -------------------------------------------------------------------------------

    def taken(self, place: Place) -> tuple[int, int, int]:
        """How many there are of the route, from the address, of the identity."""
        return (
            self._per_route.get(place.route, 0),
            self._per_ip.get(place.ip, 0) if place.ip else 0,
            self._per_identity.get(place.identity, 0) if place.identity else 0,
        )

    def take(self, place: Place) -> None:
        """One more."""
        _count(self._per_route, place.route, 1)
        if place.ip is not None:
            _count(self._per_ip, place.ip, 1)
        if place.identity is not None:
            _count(self._per_identity, place.identity, 1)

    def give_back(self, place: Place) -> None:
        """One less."""
        _count(self._per_route, place.route, -1)
        if place.ip is not None:
            _count(self._per_ip, place.ip, -1)
        if place.identity is not None:
            _count(self._per_identity, place.identity, -1)

    # -- what becomes of them -----------------------------------------------------------------

    def next_id(self) -> str:
        """An id that no other socket of this process has."""
        self._number += 1
        return f"ws-{self._number:x}"

    def refuse(self, route: str, code: str) -> None:
        """An upgrade came to nothing."""
        key = (route, code)
        self.refused[key] = self.refused.get(key, 0) + 1

    def add(self, socket: Socket, now: float) -> None:
        """It is open."""
        self.live[socket.id] = socket
        key = (socket.route, socket.instance.service)
        self.opened[key] = self.opened.get(key, 0) + 1
        self.wheel.add(socket, now)
        if self.draining:
            socket.leave(now, 1001, "going_away")
        elif socket.instance in self._leaving:
            # It was picked before that.
            self._leave(socket, now)

    def shook_hands(self, route: str, seconds: float) -> None:
        """An upgrade took so long."""
        _observe(self.handshakes, route, seconds)

    def ponged(self, socket: Socket, side: str, seconds: float) -> None:
        """A ping took so long to be answered."""
        _observe(self.rtts, (socket.route, side), seconds)

    def gone(self, socket: Socket) -> None:
        """It is over."""
        self.wheel.discard(socket)
        del self.live[socket.id]
        if socket.place is not None:
            self.give_back(socket.place)
        own = ""
        if socket.closed_by == "gateway":
            own = socket.close_reason if socket.close_reason in _WORDS else "closed_by_operator"
        code = _code_label(socket.close_code)
        key = (socket.route, socket.instance.service, code, socket.closed_by, own)
        self.closed[key] = self.closed.get(key, 0) + 1
        for direction, side in (("in", socket.received), ("out", socket.sent)):
            messages, size = self._past.get((socket.route, direction), (0, 0))
            total = (messages + side.messages, size + side.bytes)
            self._past[socket.route, direction] = total
        self._log.socket(socket)

    def totals(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Messages and bytes by route and direction (``in`` from clients, ``out`` to them)."""
        found = dict(self._past)
        for socket in self.live.values():
            for direction, side in (("in", socket.received), ("out", socket.sent)):
                messages, size = found.get((socket.route, direction), (0, 0))
                total = (messages + side.messages, size + side.bytes)
                found[socket.route, direction] = total
        return found

    # -- leaving ------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Once a second: instances that an operator drains lose their sockets bit by bit."""
        if self.draining:
            return
        instances = set(self._instances())
        leaving = {each for each in instances if each.draining}
        changed = leaving ^ (self._leaving & instances)
        self._leaving = leaving
        for socket in self.live.values() if changed else ():
            if socket.instance in changed:
                self._leave(socket, now if socket.instance.draining else _NEVER)

    def _leave(self, socket: Socket, now: float) -> None:
        late = socket.rules.drain_timeout * self.random()
        socket.leave(now + late, 1012, "instance_draining")

    def drain(self, patience: float) -> None:
        """The gateway stops: nothing new, and each leaves at a moment of its own.

        :param patience: seconds after which all are to be gone.
        """
        self.draining = True
        now = monotonic()
        for socket in list(self.live.values()):
            rules = socket.rules
            # Who is told last needs some time to answer, too.
            over = min(rules.drain_timeout, max(patience - rules.close_timeout, patience / 2))
            socket.leave(now + over * self.random(), 1001, "going_away")

    @property
    def connections(self) -> int:
        """Client connections that are here and not with HTTP."""
        return len(self.live) + len(self.farewells)

    def abort(self) -> None:
        """Nobody is waited for any longer."""
        for each in (*self.live.values(), *self.farewells):
            each.abort()

    def __repr__(self) -> str:
        return f"<Sockets {len(self.live)} open{' draining' if self.draining else ''}>"


def _count(counts: dict[K, int], key: K, change: int) -> None:
    left = counts.get(key, 0) + change
    if left:
        counts[key] = left
    else:
        del counts[key]


def _observe(histograms: dict[K, list[float]], key: K, seconds: float) -> None:
    histogram = histograms.get(key)
    if histogram is None:
        histogram = histograms[key] = new_histogram()
    histogram[bisect_left(BOUNDS, seconds)] += 1
    histogram[SUM] += seconds


def _code_label(code: int) -> str:
    """A close code as a label: the registered ones and our own; of the rest, the range."""
    if code < 3000 or code == 4001:
        return str(code)
    return "3xxx" if code < 4000 else "4xxx"
