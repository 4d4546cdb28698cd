"""A circuit breaker whose state is shared by all gateways: the part of one gateway.

To who calls, it is a `Breaker`. While the store answers (``joined``) its state is that of the tally
(`core.breaker_tally`): calls are counted here, as ever, and what came of them is worked out from
those counts for a report, so that a good call costs nothing more. A bad call opens nothing here.
It wakes the exchange, which takes what there is to say (`due`), carries it to the store, and comes
back with the `answered` or, if another gateway has changed the state, lets it be `heard`.

Probes need a grant of the store. `ready` never waits for one: if there is none it is False, and
the grant is asked for in the background; until that is answered the circuit is `undecided`. What
was granted is kept for the next call, for a second at most, and goes back with what came of the
probe. A slot is free for the others when the
store has taken that in; if that fails, it is said again until it has.

While the store does not answer, this is a `Breaker` of its own: it goes on from the state and the
counts that it has, opens and closes by itself, and grants itself probes. When the store is back,
the shared state is right again; what becomes of a circuit that is open here is said under "claim"
in `core.breaker_tally`.

Orders of an operator take effect here at once, and go to the store; until that has them, nothing
that it says is believed.
"""

from __future__ import annotations

from collections.abc import Sequence

from rtgateway.core.breaker import State
from rtgateway.core.breaker_messages import Message
from rtgateway.core.following_breaker import FollowingBreaker

__all__ = ["SharedBreaker"]

_WANTED = 1.0
"""Seconds for which somebody who asked in vain counts as demand for a grant."""
_LOOK = 5.0
"""Seconds after which the store is asked how things are; in trouble, sooner:"""
_LOOK_SOON = 1.0
_MOST_SAID = 16
"""Messages of one breaker at once."""


class SharedBreaker(FollowingBreaker):
    """See the module and `FollowingBreaker`."""

    __slots__ = ()

    # -- a call -----------------------------------------------------------------------------------

    def ready(self, now: float) -> bool:
        """Whether a call may begin; if only a grant is missing, that is asked for."""
        if not self.joined:
            return super().ready(now)
        if self.state in ("closed", "disabled"):
            return True
        if self.state == "forced_open":
            return False
        if self._grants.ready(now):
            return True
        self._wanted_at = now
        if self._wants_grant(now):
            self._wake(self)
        return False

    def undecided(self, now: float) -> bool:
        """Whether a grant has been asked for, or is about to be, and there is no answer yet."""
        if not self.joined:
            return False
        wanted = now - self._wanted_at <= _WANTED and self._wants_grant(now)
        return bool(self._grants.asking) or wanted

    def passes(self, now: float) -> bool:
        """Whether `ready` may be true, without asking for anything."""
        if not self.joined:
            return super().passes(now)
        if self.state in ("closed", "disabled"):
            return True
        return now >= self.open_until and self.probes < self.settings.half_open_calls

    def acquire(self, now: float) -> int:
        """The permit for a call (see `Breaker`)."""
        if not self.joined or self.state in ("closed", "disabled"):
            return super().acquire(now)
        if not self.ready(now):
            raise RuntimeError(f"a call begins, but the breaker is not ready: {self!r}")
        self._grants.use(self.generation)
        self.probes += 1
        return self.generation

    def release(self, permit: int, now: float) -> None:
        """The call with this permit ended and says nothing about the instance."""
        self._return(permit, 0)
        super().release(permit, now)

    def _record_probe(self, permit: int, now: float, seconds: float, failed: bool) -> None:
        settings = self.settings
        slow = seconds > self._slow_after and settings.slow_call_rate_threshold > 0
        reason = "probe failed" if failed else f"probe was slow ({seconds:.3g} s)" if slow else ""
        current = permit == self.generation and permit > self._voided
        self._return(permit, (-1 if reason else 1) if current else 0, reason)
        if not self.joined:
            super()._record_probe(permit, now, seconds, failed)
        elif self._give_back(permit) and current:
            self._tally(now, seconds, failed)
            self._reported = self._counts()

    def _return(self, permit: int, verdict: int, reason: str = "") -> None:
        """Give back the grant that this probe had, if it had one."""
        if self._grants.done(permit, verdict, reason):
            self._wake(self)

    def _reason_to_open(self) -> str:
        if not self.joined:
            return super()._reason_to_open()
        self._wake(self)
        return ""

    # -- what an operator does --------------------------------------------------------------------

    def hasten(self, seconds: float) -> None:
        """An open breaker may be probed ``seconds`` after it has opened, if not sooner."""
        if self.state == "open":
            self._sooner = min(self._sooner, seconds)
        super().hasten(seconds)

    def _force(self, state: State, now: float, reason: str) -> None:
        self._void()
        super()._force(state, now, reason)
        self._claiming = False
        self._order = Message("order", word=state)
        self._wake(self)

    # -- what there is to say ---------------------------------------------------------------------

    @property
    def occupied(self) -> bool:
        """Whether the store thinks that it has a grant."""
        return self._grants.any

    def stirs(self, now: float) -> bool:
        """Whether there may be something to say; nearly free for a circuit nobody uses."""
        return (
            self._calls != self._reported[0]
            or now >= self._look_at
            or self.state == "open"
            or self.state == "half_open"
            or self.occupied
            or not self.joined
            or self._order is not None
        )

    def urgent(self, now: float) -> bool:
        """Whether there is something to say that can't wait for the next tick."""
        return (
            bool(self._grants.returning)
            or (self._order is not None and self._sent == ())
            or (self.joined and self._counts()[1:] != self._reported[1:])
            or (now - self._wanted_at <= _WANTED and self._wants_grant(now))
        )

    def due(self, now: float) -> Sequence[Message]:
        """What has to be said to the store now; nothing before the last has been `answered`."""
        if self._sent:
            return ()
        grants = self._grants
        if self.joined:
            grants.drop_held(now)
        said = grants.returned(_MOST_SAID)
        if self._order is not None:
            said.append(self._order)
        elif not self.joined:
            said.append(self._first(now))
        else:
            said += grants.renewals(now, _MOST_SAID)
            if self._calls != self._reported[0] and (report := self._report()) is not None:
                said.append(report)
            if self._wants_grant(now) and now - self._wanted_at <= _WANTED:
                said.append(grants.ask(self.version, self._sooner, now))
            if not said and now >= self._look_at:
                said.append(Message("look"))
        if said:
            soon = self.state != "closed"
            self._look_at = now + (_LOOK_SOON if soon else _LOOK)
        self._sent = said
        self._known = self.version
        return said

    def _first(self, now: float) -> Message:
        if self.state not in ("open", "half_open"):
            return Message("look", self.version, self.born)
        self._claiming = True
        reason = self.changes[-1].reason if self.changes else ""
        return Message(
            "claim",
            self.version,
            self.born,
            a=max(0.0, self.open_until - now) if self.state == "open" else 0.0,
            b=self._unjittered,
            word=reason,
        )

    def _report(self) -> Message | None:
        calls, failed, slow = self._reported
        self._reported = self._counts()
        if self.state != "closed":
            return None
        calls = self._calls - calls
        run = min(calls, self.consecutive_failures)
        failed, slow = self._failed - failed, self._slow - slow
        return Message("report", self.version, a=calls, b=failed, c=slow, d=run)

    def _wants_grant(self, now: float) -> bool:
        return (
            (self.state == "half_open" or (self.state == "open" and now >= self.open_until))
            and not self._grants.asking
            and not self._grants.held
            and now >= self._ask_again
        )

    def __repr__(self) -> str:
        return f"<SharedBreaker {self.mode} {self.state} {self.version} {self._grants!r}>"
