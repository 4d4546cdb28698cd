"""A bridged WebSocket as time passes: of all its deadlines the wheel knows the soonest.

`rtgateway.ws.socket.Socket` adds how it begins and ends. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtgateway.ws.relay import Side
    from rtgateway.ws.rules import Rules
    from rtgateway.ws.sockets import Sockets

__all__ = ["Watched"]

_NEVER = float("inf")
_IDLE_LOOKS = 10
"""How often within ``idle_timeout`` it is looked at: it ends at most a tenth of that too late."""


class Watched(ABC):
    """See the module.

    :ivar close_code: how it ended; 1006 if a connection was lost; 0 while it is open.
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
        "client",
        "close_code",
        "deadline",
        "rules",
        "upstream",
    )

    client: Side
    upstream: Side

    def __init__(self, sockets: Sockets, rules: Rules) -> None:
        self._sockets = sockets
        self.rules = rules
        self.close_code = 0
        self.deadline = self._end_at = self._leave_at = self._resume_at = self._stall_at = _NEVER
        self._end_with = self._leave_with = (1001, "going_away")
        self._ping_at = self._pong_at = self._idle_look = _NEVER
        self._idle_seen: object = None
        self._idle_since = 0.0

    @property
    def open(self) -> bool:
        return not self.close_code

    @abstractmethod
    def close(self, code: int, reason: str, detail: str = "") -> None:
        """End it."""

    @abstractmethod
    def cut_short(self, now: float) -> None:
        """It has taken too long to end."""

    # -- what it waits for --------------------------------------------------------------------

    def begin(self, now: float, expires: float) -> None:
        """It is open. ``expires``: when the identity is not valid any more."""
        rules, random = self.rules, self._sockets.random
        if rules.max_lifetime:
            early = rules.lifetime_jitter * random()
            self._end_at = now + rules.max_lifetime * (1.0 - early)
            self._end_with = (1001, "max_lifetime")
        if rules.close_at_expiry and expires < self._end_at:
            self._end_at, self._end_with = expires, (4001, "token_expired")
        if rules.ping_interval:
            # Sockets that were opened together are not pinged together.
            self._ping_at = now + rules.ping_interval * (0.5 + 0.5 * random())
        if rules.idle_timeout:
            self._idle_since = now
            self._idle_look = now + rules.idle_timeout / _IDLE_LOOKS
        self._arm()

    def leave(self, at: float, code: int, reason: str) -> None:
        """Close it at ``at`` (draining); ``inf``: after all not."""
        self._leave_at, self._leave_with = at, (code, reason)
        self._hurry()

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
            self.cut_short(now)
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
