"""A circuit breaker whose state is shared by all gateways: the part of one gateway.

To who calls, it is a `Breaker`. While the store answers (``joined``) its state is that of the tally
(`core.breaker_tally`): calls are counted here, as ever, and what came of them is worked out from
those counts for a report, so that a good call costs nothing more. A bad call opens nothing here.
It wakes the exchange, which takes what there is to say (`due`), carries it to the store, and comes
back with the `answered` or, if another gateway has changed the state, lets it be `heard`.

Probes need a grant of the store. `ready` never waits for one: if there is none it is False, and
the grant is asked for in the background. What was granted is kept for the next call, for `_HELD`
seconds at most, and goes back with what came of the probe. A slot is free for the others when the
store has taken that in; if that fails, it is said again until it has.

While the store does not answer, this is a `Breaker` of its own: it goes on from the state and the
counts that it has, opens and closes by itself, and grants itself probes. When the store is back,
the shared state is right again; what becomes of a circuit that is open here is said under "claim"
in `core.breaker_tally`.

Orders of an operator take effect here at once, and go to the store; until that has them, nothing
that it says is believed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rtgateway.core.breaker import Breaker, State, StateChange
from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.breaker_tally import GRANT, Answer, Message

__all__ = ["SharedBreaker"]

_HELD = 1.0
"""Seconds that a grant waits for a call, from when it was asked for."""
_WANTED = 1.0
"""Seconds for which somebody who asked in vain counts as demand for a grant."""
_ASK_AGAIN = 0.1
"""Seconds until a grant that was refused is asked for again."""
_LOOK = 5.0
"""Seconds after which the store is asked how things are; in trouble, sooner:"""
_LOOK_SOON = 1.0
_MISSES = 3
"""Answers missing in a row after which there is no store."""
_MOST_SAID = 16
"""Messages of one breaker at once."""
_NEVER = 1e18


class _Grant(NamedTuple):
    """``until``: when it has to be used, or renewed; monotonic seconds."""

    name: str
    version: int
    until: float


class SharedBreaker(Breaker):
    """See the module. Begins alone.

    :param gateway: the word for this gateway: what it says, and its grants, carry it.
    :param wake: called when there is something to say that can't wait.
    :param on_grant: called when a probe may begin.
    :ivar joined: the store answers, and its state is the state.
    :ivar version: of the last decision that is known; ``born``: of its tally.
    """

    shared = True

    __slots__ = (
        "_ask_again",
        "_asked_at",
        "_asking",
        "_claiming",
        "_grants",
        "_held",
        "_known",
        "_look_at",
        "_misses",
        "_on_grant",
        "_order",
        "_reported",
        "_sent",
        "_settled",
        "_sooner",
        "_used",
        "_wake",
        "_wanted_at",
        "born",
        "gateway",
        "joined",
        "version",
    )

    def __init__(
        self,
        settings: BreakerSettings,
        random: Callable[[], float],
        on_change: Callable[[StateChange], None] | None = None,
        *,
        gateway: str,
        wake: Callable[[SharedBreaker], None],
        on_grant: Callable[[], None] | None = None,
    ) -> None:
        self.gateway = gateway
        self.joined = False
        self.version = self.born = 0
        self._wake = wake
        self._on_grant = on_grant
        self._claiming = False
        self._order: Message | None = None
        self._sent: Sequence[Message] = ()
        self._known = 0
        self._misses = 0
        self._look_at = 0.0
        self._reported = (0, 0, 0)
        # Grants: asked for, kept for a call, with a probe (by its permit), and to be given back.
        self._grants = 0
        self._asking = ""
        self._asked_at = self._ask_again = 0.0
        self._wanted_at = -math.inf
        self._held: deque[_Grant] = deque()
        self._used: dict[int, deque[_Grant]] = {}
        self._settled: deque[Message] = deque()
        self._sooner = _NEVER
        super().__init__(settings, random, on_change)

    @property
    def mode(self) -> str:
        """``shared``, or ``alone`` while the store does not answer."""
        return "shared" if self.joined else "alone"

    # -- a call -----------------------------------------------------------------------------------

    def ready(self, now: float) -> bool:
        """Whether a call may begin; if only a grant is missing, that is asked for."""
        if not self.joined:
            return super().ready(now)
        if self.state in ("closed", "disabled"):
            return True
        if self.state == "forced_open":
            return False
        if self._held and now < self._held[0].until:
            return True
        self._wanted_at = now
        if self._wants_grant(now):
            self._wake(self)
        return False

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
        grant = self._held.popleft()
        self.probes += 1
        mine = self._used.setdefault(self.generation, deque())
        mine.append(grant._replace(until=grant.until - _HELD + GRANT / 3))
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
        grants = self._used.get(permit)
        if not grants:
            return
        grant = grants.popleft()
        if not grants:
            del self._used[permit]
        self._settle(grant, verdict, reason)

    def _settle(self, grant: _Grant, verdict: int, reason: str = "") -> None:
        self._settled.append(
            Message("settle", grant.version, 0, grant.name, float(verdict), word=reason)
        )
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

    def _void(self) -> None:
        """No probe of before counts, nor occupies a slot."""
        for grants in (self._held, *self._used.values()):
            for grant in grants:
                self._settle(grant, 0)
        self._held.clear()
        self._used.clear()
        self._voided = self.generation
        self.probes = 0

    # -- what there is to say ---------------------------------------------------------------------

    @property
    def occupied(self) -> bool:
        """Whether the store thinks that it has a grant."""
        return bool(self._asking or self._held or self._used or self._settled)

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
            bool(self._settled)
            or (self._order is not None and self._sent == ())
            or (self.joined and self._counts()[1:] != self._reported[1:])
            or (now - self._wanted_at <= _WANTED and self._wants_grant(now))
        )

    def due(self, now: float) -> Sequence[Message]:
        """What has to be said to the store now; nothing before the last has been `answered`."""
        if self._sent:
            return ()
        said = [self._settled.popleft() for _ in range(min(len(self._settled), _MOST_SAID))]
        if self._order is not None:
            said.append(self._order)
        elif not self.joined:
            said.append(self._first(now))
        else:
            self._drop_held(now)
            said += self._renewals(now)
            if self._calls != self._reported[0] and (report := self._report()) is not None:
                said.append(report)
            if self._wants_grant(now) and now - self._wanted_at <= _WANTED:
                said.append(self._ask(now))
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

    def _counts(self) -> tuple[int, int, int]:
        return self._calls, self._failed, self._slow

    def _wants_grant(self, now: float) -> bool:
        return (
            (self.state == "half_open" or (self.state == "open" and now >= self.open_until))
            and not self._asking
            and not self._held
            and now >= self._ask_again
        )

    def _ask(self, now: float) -> Message:
        self._grants += 1
        self._asking = f"{self.gateway}:{self._grants}"
        self._asked_at = now
        return Message("grant", self.version, 0, self._asking, self._sooner)

    def _drop_held(self, now: float) -> None:
        while self._held and now >= self._held[0].until:
            self._settle(self._held.popleft(), 0)

    def _renewals(self, now: float) -> list[Message]:
        said: list[Message] = []
        for grants in self._used.values():
            for at, grant in enumerate(grants):
                if now >= grant.until and len(said) < _MOST_SAID:
                    grants[at] = grant._replace(until=now + GRANT / 3)
                    said.append(Message("renew", 0, 0, grant.name))
        return said

    # -- what the store says ----------------------------------------------------------------------

    def part(self) -> None:
        """There is no store any more: go on alone."""
        self.joined = False
        self._claiming = False
        while self._held:
            self._settle(self._held.popleft(), 0)

    def look_again(self) -> None:
        """Something may have been missed: ask as soon as possible."""
        self._look_at = 0.0

    def heard(self, news: Answer, now: float) -> None:
        """Another gateway, or this one, has changed the state."""
        if self.joined and self._order is None and news.version > self.version:
            self._adopt(news, now)

    def answered(self, answers: Sequence[Answer] | None, now: float) -> None:
        """What the store says to what was `due`, one for each; None: nothing."""
        sent, self._sent = self._sent, ()
        if answers is None:
            self._unanswered(sent)
            return
        self._misses = 0
        for message, answer in zip(sent, answers, strict=True):
            self._take(message, answer, now)

    def _unanswered(self, sent: Sequence[Message]) -> None:
        for message in sent:
            # It may have arrived or not. A grant must not stay where nobody knows of it; what
            # was to be counted is lost, rather than counted twice.
            if message.op == "settle":
                self._settled.append(message)
            elif message.op == "grant":
                self._asking = ""
                self._settled.append(Message("settle", 0, 0, message.grant))
        self._misses += 1
        if self._misses >= _MISSES and self.joined:
            self.part()

    def _take(self, message: Message, answer: Answer, now: float) -> None:
        if message.op == "grant":
            self._asking = ""
        if message is self._order:
            self._order = None
            self._join(answer, now)
        elif self._order is None:
            self._compare(message, answer, now)
        if message.op == "grant":
            self._granted(message, answer, now)

    def _compare(self, message: Message, answer: Answer, now: float) -> None:
        if not self.joined:
            if self._claiming and answer.claimed and answer.state == "closed":
                return  # Whether this gateway is right turns out soon.
            self._join(answer, now)
        elif answer.born == self.born and answer.version >= self._known:
            if answer.version >= self.version:
                self._adopt(answer, now)
        elif self.state not in ("open", "half_open") or answer.version != answer.born:
            # The store has lost what it knew.
            self._join(answer, now)
        else:
            # The same, and nobody else has said yet what is right.
            self.part()
            self._wake(self)

    def _join(self, answer: Answer, now: float) -> None:
        # Nothing has been decided since the tally began; perhaps another one than was known here.
        new = answer.version == answer.born and self.version != answer.version
        if new and self.version and self.state in ("forced_open", "disabled") and answer.state == "closed":
            self._order = Message("order", a=1.0, word=self.state)
            self._wake(self)
            return
        if not self.joined:
            # What was counted alone is history.
            self._reported = self._counts()
        self.joined = True
        self._claiming = False
        self._adopt(answer, now)

    def _granted(self, message: Message, answer: Answer, now: float) -> None:
        if not answer.granted:
            self._ask_again = now + _ASK_AGAIN
            return
        grant = _Grant(message.grant, answer.version, self._asked_at + _HELD)
        if not self.joined or self.version != answer.version or now >= grant.until:
            self._settle(grant, 0)
            return
        self._held.append(grant)
        if self._on_grant is not None:
            self._on_grant()

    def _adopt(self, news: Answer, now: float) -> None:
        same = news.version == self.version and news.born == self.born
        self.version, self.born = news.version, news.born
        if same and news.state == self.state:
            if self.state == "open":
                until = min(now + news.open_for, self.since + self._sooner)
                self.open_until = min(until, self.open_until)
            return
        if news.ordered:
            self._void()
        while self._held:
            self._settle(self._held.popleft(), 0)
        self._sooner = _NEVER
        self._ask_again = 0.0
        if news.state == "closed":
            self._window.clear()
            self.consecutive_failures = 0
        elif news.state == "open":
            flapping = self.state == "half_open" or now - self.since < self._open_for
            settings = self.settings
            grown = self._unjittered * settings.timeout_factor if flapping else settings.timeout
            # About what the store has; needed only if this breaker goes on alone.
            self._unjittered = max(news.open_for, min(grown, settings.max_timeout))
            self._open_for = news.open_for
        else:
            self._probes_succeeded = 0
        if news.state == self.state:
            self._enter(news.state)
            self.since = now
            if news.state == "open":
                self.open_until = now + self._open_for
        else:
            self._change(news.state, now, news.reason)
        self._reported = self._counts()

    def __repr__(self) -> str:
        used = sum(map(len, self._used.values()))
        grants = f"{len(self._held)} held, {used} used, {len(self._settled)} to return"
        return f"<SharedBreaker {self.mode} {self.state} {self.version} {grants}>"
