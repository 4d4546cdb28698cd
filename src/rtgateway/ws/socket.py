"""A bridged WebSocket: its two sides, the rules it is under, and how it comes to its end.

All that has to do with time is one deadline in the timing wheel, the soonest of several. However
it ends, both sides are told with a Close frame if that can be done (RFC 6455, 7), and whoever is
still there after ``close_timeout`` is disconnected.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rtgateway.ws.relay import Side

if TYPE_CHECKING:
    from rtgateway.gateway.route import Route
    from rtgateway.upstream.attempt import Attempt
    from rtgateway.upstream.instance import Instance
    from rtgateway.ws.rules import Rules
    from rtgateway.ws.sockets import Place, Sockets

__all__ = ["Socket"]

_NEVER = float("inf")
_LAST_WORDS = 2.0
"""Seconds for a side to take what was sent, when nothing more is expected of it."""
_IDLE_LOOKS = 10
"""How often within ``idle_timeout`` it is looked at: it ends at most a tenth of that too late."""
_FOR_INSTANCES = {1012: 1001}
"""To a service its client is not restarting, but going away."""
_NO_STATUS = 1005
"""Stands for a Close without a code."""
_ABNORMAL = 1006
"""For logs and metrics only (RFC 6455, 7.4.1): a connection was lost without a Close."""


class Socket:
    """See the module. Created by `ws.bridge` when the instance has agreed; `start` begins it.

    :ivar id: unique in this process.
    :ivar identity: the subject of its token, empty if there is none.
    :ivar opened: monotonic seconds; ``closed`` likewise, 0.0 while it is not.
    :ivar rtt: seconds that the client took to answer the last ping; None before the first.
    :ivar close_code: how it ended; 1006 if a connection was lost; 0 while it is open.
    :ivar close_detail: whose fault it was, and what, where only the gateway knows; for the log.
    :ivar closed_by: ``client``, ``upstream``, ``gateway``, or empty.
    :ivar place: what it counts against (`ws.sockets`).
    """

    __slots__ = (
        "_end_at",
        "_end_with",
        "_idle_look",
        "_idle_seen",
        "_idle_since",
        "_leave_at",
        "_leave_with",
        "_ping_at",
        "_pong_at",
        "_resume_at",
        "_sockets",
        "_stall_at",
        "attempt",
        "client",
        "client_ip",
        "close_code",
        "close_detail",
        "close_reason",
        "closed",
        "closed_by",
        "compressed",
        "deadline",
        "id",
        "identity",
        "opened",
        "path",
        "place",
        "request_id",
        "rtt",
        "rules",
        "subprotocol",
        "upstream",
        "way",
    )

    attempt: Attempt
    path: bytes
    request_id: bytes
    client_ip: str

    def __init__(
        self, sockets: Sockets, rules: Rules, way: Route, *, compressed: bool, subprotocol: str
    ) -> None:
        self._sockets = sockets
        self.rules = rules
        self.way = way
        self.id = sockets.next_id()
        self.identity = ""
        self.subprotocol = subprotocol
        self.compressed = compressed
        self.place: Place | None = None
        frames = rules.frames(from_client=True, compressed=compressed)
        client = self.client = Side(self, frames, masks=False, meter=rules.meter())
        frames = rules.frames(from_client=False, compressed=compressed)
        upstream = self.upstream = Side(self, frames, masks=True)
        client.other, upstream.other = upstream, client
        self.opened = self.closed = 0.0
        self.close_code = 0
        self.close_reason = self.close_detail = self.closed_by = ""
        self.rtt: float | None = None
        self.deadline = self._end_at = self._leave_at = self._resume_at = self._stall_at = _NEVER
        self._end_with = self._leave_with = (1001, "going_away")
        self._ping_at = self._pong_at = self._idle_look = _NEVER
        self._idle_seen: object = None
        self._idle_since = 0.0

    # -- what it looks like -------------------------------------------------------------------

    @property
    def open(self) -> bool:
        return not self.close_code

    @property
    def state(self) -> str:
        """``open``, or ``closing``."""
        return "closing" if self.close_code else "open"

    @property
    def route(self) -> str:
        """The label of its route."""
        return self.way.label

    @property
    def instance(self) -> Instance:
        return self.attempt.instance

    @property
    def received(self) -> Side:
        """What has come from the client."""
        return self.client

    @property
    def sent(self) -> Side:
        """What has come from the instance."""
        return self.upstream

    @property
    def buffered_in(self) -> int:
        """Bytes that wait for the instance to take them."""
        return self.upstream.unsent

    @property
    def buffered_out(self) -> int:
        """Bytes that wait for the client."""
        return self.client.unsent

    # -- its life -----------------------------------------------------------------------------

    def start(self, now: float, expires: float, from_client: bytes, from_instance: bytes) -> None:
        """Both transports are there: bridge them.

        :param expires: when the identity is not valid any more; monotonic seconds.
        :param from_client: what has come behind the handshake; ``from_instance`` likewise.
        """
        rules, sockets = self.rules, self._sockets
        self.opened = now
        if rules.max_lifetime:
            early = rules.lifetime_jitter * sockets.random()
            self._end_at = now + rules.max_lifetime * (1.0 - early)
            self._end_with = (1001, "max_lifetime")
        if rules.close_at_expiry and expires < self._end_at:
            self._end_at, self._end_with = expires, (4001, "token_expired")
        if rules.ping_interval:
            # Sockets that were opened together are not pinged together.
            self._ping_at = now + rules.ping_interval * (0.5 + 0.5 * sockets.random())
        if rules.idle_timeout:
            self._idle_since = now
            self._idle_look = now + rules.idle_timeout / _IDLE_LOOKS
        self._arm()
        sockets.add(self, now)
        self.client.connect(rules.max_buffered)
        self.upstream.connect(rules.max_buffered)
        if from_instance and not self.upstream.lost:
            self.upstream.dataReceived(from_instance)
        if from_client and not self.client.lost:
            self.client.dataReceived(from_client)

    def leave(self, at: float, code: int, reason: str) -> None:
        """Close it at ``at`` (draining); ``inf``: after all not."""
        self._leave_at, self._leave_with = at, (code, reason)
        self._hurry()

    def ponged(self, side: Side, seconds: float) -> None:
        """A side has answered a ping of ours."""
        if side is self.client:
            self.rtt = seconds
        self._sockets.ponged(self, side.name, seconds)

    def blocked(self, side: Side, *, again: bool) -> None:
        """A side takes no more at present; ``again``: it has been so before.

        It may be in the middle of a write to it: nothing can be written here.
        """
        if not self.open:
            return
        now = monotonic()
        if side.unsent > self.rules.max_buffered:
            self._stall_at = now
        elif again:
            return
        if not again:
            side.blocked_until(now + self.rules.write_stall)
            self._stall_at = min(self._stall_at, side.stall_at)
        self._hurry()

    def resume_after(self, seconds: float) -> None:
        """The client has sent too much, and is not read from for so long."""
        self._resume_at = monotonic() + seconds
        self._hurry()

    # -- as time passes -----------------------------------------------------------------------

    def _arm(self) -> None:
        self.deadline = min(
            self._end_at,
            self._leave_at,
            self._ping_at,
            self._pong_at,
            self._idle_look,
            self._resume_at,
            self._stall_at,
        )

    def _hurry(self) -> None:
        """A deadline may have become earlier than the wheel knows."""
        if self.open:
            self._arm()
            self._sockets.wheel.touch(self, monotonic())

    def expired(self, now: float) -> None:
        """The soonest of its deadlines has passed (called by the sweep)."""
        if not self.open:
            self._cut_short(now)
        elif now >= self._leave_at:
            self.close(*self._leave_with)
        elif now >= self._end_at:
            self.close(*self._end_with)
        else:
            if now >= self._resume_at:
                self._resume_at = _NEVER
                self.client.slow_enough()
            if now >= self._stall_at:
                self._look_at_stall(now)
            if now >= self._idle_look:
                self._look_if_idle(now)
            if now >= self._pong_at:
                self._look_for_pongs(now)
            if now >= self._ping_at:
                self._ping(now)
            if self.open:
                self._arm()

    def _ping(self, now: float) -> None:
        rules = self.rules
        for side in (self.client, self.upstream) if rules.ping_upstream else (self.client,):
            if not side.ping_sent:
                side.ping(now)
        self._ping_at = now + rules.ping_interval
        self._pong_at = min(self._pong_at, now + rules.pong_timeout)

    def _look_for_pongs(self, now: float) -> None:
        """The answer to a ping ought to be there."""
        self._pong_at = _NEVER
        for side in (self.client, self.upstream):
            due = side.answer_due(now, self.rules.pong_timeout)
            if due <= now:
                self.close(1001, "ping_timeout", f"{side.name} gives no sign of life")
                return
            self._pong_at = min(self._pong_at, due)

    def _look_if_idle(self, now: float) -> None:
        timeout = self.rules.idle_timeout
        seen = (self.client.activity, self.upstream.activity)
        if seen != self._idle_seen:
            self._idle_seen, self._idle_since = seen, now
        elif now - self._idle_since >= timeout:
            self.close(1001, "idle_timeout")
            return
        self._idle_look = min(now + timeout / _IDLE_LOOKS, self._idle_since + timeout)

    def _look_at_stall(self, now: float) -> None:
        rules = self.rules
        self._stall_at = _NEVER
        for side in (self.client, self.upstream):
            if not side.blocked:
                continue
            late = now >= side.stall_at
            if side.unsent > rules.max_buffered or (late and not side.takes()):
                self.close(1013, "backpressure", f"{side.name} takes too little")
                return
            if late:
                side.stall_at = now + rules.write_stall
            self._stall_at = min(self._stall_at, side.stall_at)

    # -- the end ------------------------------------------------------------------------------

    def close(self, code: int, reason: str, detail: str = "") -> None:
        """End it: a Close frame to both sides. Nothing happens if it is ending already."""
        if not self.open:
            return
        self.close_detail = detail
        self._begin_to_close(code, reason, "gateway")
        self.client.say_close(code, reason)
        self.upstream.say_close(_FOR_INSTANCES.get(code, code), reason)
        self.advance()

    def close_came(self, side: Side, code: int, reason: str) -> None:
        """A Close frame has come from ``side``; it is passed on with what came before it."""
        side.easy = False
        if self.open:
            self._begin_to_close(code, reason, side.name)

    def lost(self, side: Side) -> None:
        """The connection of ``side`` is gone."""
        other = side.other
        if self.open:
            self._begin_to_close(_ABNORMAL, "", side.name)
        if other.lost:
            self._over()
            return
        if other.waiting:
            # For the end of a frame that will never come.
            other.end()
        elif self.closed_by == other.name:
            # It began, and nobody is left to answer.
            other.say_close(*self._answer())
        elif side is self.upstream:
            other.say_close(1011, "upstream_error")
        else:
            other.say_close(1001, "client_gone")
        self.advance()

    def _answer(self) -> tuple[int, str]:
        """The same code as in the Close that came (RFC 6455, 5.5.1)."""
        if self.close_code == _NO_STATUS:
            return 1000, ""
        return self.close_code, self.close_reason

    def _begin_to_close(self, code: int, reason: str, by: str) -> None:
        self.close_code, self.close_reason, self.closed_by = code, reason, by
        self.client.easy = self.upstream.easy = False
        self.client.slow_enough()
        now = monotonic()
        self.deadline = now + self.rules.close_timeout
        self._sockets.wheel.touch(self, now)

    def be_quick(self) -> None:
        """Whatever is still expected of a side, it can't be waited for as long as usual."""
        now = monotonic()
        self.deadline = min(self.deadline, now + _LAST_WORDS)
        self._sockets.wheel.touch(self, now)

    def advance(self) -> None:
        """Go on to the end, as far as both sides are with it."""
        if self.client.finished:
            # RFC 6455, 7.1.1: the server closes first. So does the instance on its side, which
            # leaves the ports that are used towards it free at once (TIME_WAIT is with who closes).
            self.client.end()

    def _cut_short(self, now: float) -> None:
        """Nobody is waited for any longer."""
        sides = [side for side in (self.client, self.upstream) if not side.lost]
        if all(side.ended for side in sides):
            self.deadline = _NEVER
            for side in sides:
                side.abort()
            return
        self.deadline = now + _LAST_WORDS
        for side in sides:
            # If this one's own Close was never answered, it is by us.
            side.say_close(*self._answer())
            side.end()

    def abort(self) -> None:
        """End it without a word."""
        if self.open:
            self._begin_to_close(_ABNORMAL, "cut_off", "gateway")
        self.client.abort()
        self.upstream.abort()

    def _over(self) -> None:
        now = self.closed = monotonic()
        self.attempt.over(now)
        self._sockets.gone(self)
        self.client.let_go()
        self.upstream.let_go()

    def __repr__(self) -> str:
        return f"<Socket {self.id} {self.state} {self.client!r} {self.upstream!r}>"
