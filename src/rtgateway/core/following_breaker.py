"""The half of a shared circuit breaker that believes what the store says.

`core.shared_breaker` is the other half, and says how both work together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rtgateway.core.breaker import Breaker, StateChange
from rtgateway.core.breaker_grants import Grants
from rtgateway.core.breaker_messages import Answer, Message
from rtgateway.core.breaker_settings import BreakerSettings

__all__ = ["NEVER", "FollowingBreaker"]

NEVER = 1e18
"""For messages, which have no infinity."""

_ASK_AGAIN = 0.1
"""Seconds until a grant that was refused is asked for again."""
_MISSES = 3
"""Answers missing in a row after which there is no store."""


class FollowingBreaker(Breaker):
    """See the module. Begins alone.

    :param gateway: the word for this gateway: what it says, and its grants, carry it.
    :param wake: called when there is something to say that can't wait.
    :param on_answer: called when it has turned out whether a probe may begin.
    :ivar joined: the store answers, and its state is the state.
    :ivar version: of the last decision that is known; ``born``: of its tally.
    """

    shared = True

    __slots__ = (
        "_ask_again",
        "_claiming",
        "_grants",
        "_known",
        "_look_at",
        "_misses",
        "_on_answer",
        "_order",
        "_reported",
        "_sent",
        "_sooner",
        "_wake",
        "_wanted_at",
        "born",
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
        wake: Callable[[Any], None],
        on_answer: Callable[[], None] | None = None,
    ) -> None:
        self.joined = False
        self.version = self.born = 0
        self._wake = wake
        self._on_answer = on_answer
        self._claiming = False
        self._order: Message | None = None
        self._sent: Sequence[Message] = ()
        self._known = 0
        self._misses = 0
        self._look_at = 0.0
        self._reported = (0, 0, 0)
        self._grants = Grants(gateway)
        self._ask_again = 0.0
        self._wanted_at = -math.inf
        self._sooner = NEVER
        super().__init__(settings, random, on_change)

    @property
    def mode(self) -> str:
        """``shared``, or ``alone`` while the store does not answer."""
        return "shared" if self.joined else "alone"

    # -- what the store says ----------------------------------------------------------------------

    def part(self) -> None:
        """There is no store any more: go on alone."""
        self.joined = False
        self._claiming = False
        self._grants.drop_held()
        self._decided()

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
            # What was to be counted is lost, rather than counted twice.
            self._grants.lost(message)
            if message.op == "grant":
                self._decided()
        self._misses += 1
        if self._misses >= _MISSES and self.joined:
            self.part()

    def _take(self, message: Message, answer: Answer, now: float) -> None:
        if message.op == "grant":
            self._grants.asking = ""
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
        if new and self.version and self.state in ("forced_open", "disabled"):
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
        else:
            wanted = self.joined and self.version == answer.version
            if not self._grants.arrived(message.grant, answer.version, now, wanted=wanted):
                self._wake(self)
        self._decided()

    def _decided(self) -> None:
        if self._on_answer is not None:
            self._on_answer()

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
        self._grants.drop_held()
        if self._grants.returning:
            self._wake(self)
        self._sooner = NEVER
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

    def _void(self) -> None:
        """No probe of before counts, nor occupies a slot."""
        self._grants.void()
        self._voided = self.generation
        self.probes = 0

    def _counts(self) -> tuple[int, int, int]:
        return self._calls, self._failed, self._slow
