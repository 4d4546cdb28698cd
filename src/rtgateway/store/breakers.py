"""Circuit breakers that gateways share: who keeps their tallies, and how one gateway talks to it.

`Breakers` is the gateway's side: it has the `SharedBreaker` of each instance, carries what they
have to say to a `Keeper`, all of one turn of the loop in one go, and brings them what it answers
and announces. After a bad call that is in the next turn; else at the next `Breakers.tick`.

A keeper has the tallies: in Redis (`store.redis.breakers`), or in this process, which is what tests
and several gateways in one process need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from time import monotonic
from typing import Any, NamedTuple, Protocol

from rtgateway.core.breaker import Breaker, StateChange
from rtgateway.core.breaker_messages import Answer, Message, Rules
from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.breaker_tally import Tally
from rtgateway.core.shared_breaker import SharedBreaker
from rtgateway.net.log import Logger

__all__ = ["Answers", "BreakerStore", "Breakers", "Heard", "Keeper", "MemoryKeeper", "Said"]

log = Logger()

_MOST_AT_ONCE = 64
"""Messages in one go: a script that runs longer would keep others waiting."""
_LONGEST_NAME = 200
_MOST_TALLIES = 100_000


class Said(NamedTuple):
    """One message of a gateway about the breaker ``name``; ``random``: see `Tally.tell`."""

    name: str
    rules: Rules
    random: float
    message: Message


Answers = Sequence[Answer] | None
"""One for each message, in order; None: the keeper can't be asked, or did not answer."""

Heard = Callable[[str, Answer], None]
"""Told of each change of state: the name of the breaker, and how it is now."""


class Keeper(Protocol):
    """Who has the tallies."""

    @property
    def up(self) -> bool:
        """Whether it is of any use to ask it."""
        ...

    def ask(self, by: str, said: Sequence[Said], done: Callable[[Answers], None]) -> None:
        """Tell the gateway ``by``'s messages; ``done`` is called once, perhaps within this call."""
        ...

    def listen(self, heard: Heard, connected: Callable[[], None]) -> None:
        """Have changes announced; ``connected``: there may have been some that were not."""
        ...


class BreakerStore(Protocol):
    """What makes the breakers of services and instances."""

    def breaker(
        self,
        name: str,
        settings: BreakerSettings,
        on_change: Callable[[StateChange], None],
        on_answer: Callable[[], None] | None = None,
    ) -> Breaker:
        """A breaker that shares its state with those of the same name on other gateways.

        :param on_answer: called when it has turned out whether a probe may begin.
        """
        ...

    def forget(self, breaker: Breaker) -> None:
        """Nobody uses it any more, calls in flight apart."""
        ...

    def tick(self, now: float) -> None:
        """Called every 100 ms with monotonic seconds."""
        ...

    def stop(self) -> None:
        """Say no more to anybody."""
        ...


class Breakers:
    """The shared breakers of this gateway: a `BreakerStore`.

    :param reactor: for its next turn.
    :param gateway: the word for this gateway, that no other one has.
    :param random: 0 <= x < 1, for jitter.
    :param clock: the monotonic clock of the callers of breakers.
    """

    def __init__(
        self,
        keeper: Keeper,
        reactor: Any,
        gateway: str,
        random: Callable[[], float],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._keeper = keeper
        self._reactor = reactor
        self._gateway = gateway
        self._random = random
        self._clock = clock
        self._all: dict[SharedBreaker, tuple[str, Rules]] = {}
        self._named: dict[str, list[SharedBreaker]] = {}
        self._leaving: dict[SharedBreaker, None] = {}
        self._dirty: dict[SharedBreaker, None] = {}
        self._turn: Any = None
        self._stopped = False
        self._up = keeper.up
        keeper.listen(self._heard, self._connected)

    def breaker(
        self,
        name: str,
        settings: BreakerSettings,
        on_change: Callable[[StateChange], None],
        on_answer: Callable[[], None] | None = None,
    ) -> SharedBreaker:
        """See `BreakerStore`. It is alone until the keeper has answered."""
        breaker = SharedBreaker(
            settings,
            self._random,
            on_change,
            gateway=self._gateway,
            wake=self._wake,
            on_answer=on_answer,
        )
        name = _short(name)
        self._all[breaker] = (name, Rules.of(settings))
        self._named.setdefault(name, []).append(breaker)
        self._wake(breaker)
        return breaker

    def forget(self, breaker: Breaker) -> None:
        """See `BreakerStore`. It goes when the last of its probes has been given back."""
        if isinstance(breaker, SharedBreaker) and breaker in self._all:
            self._leaving[breaker] = None
            self._part_with(breaker)

    def tick(self, now: float) -> None:
        """See `BreakerStore`."""
        if self._see(now) and not self._stopped:
            for breaker in self._all:
                if breaker.stirs(now):
                    self._dirty[breaker] = None
            self._flush()
        for breaker in list(self._leaving):
            self._part_with(breaker)

    def stop(self) -> None:
        """Say no more; grants that are held end by themselves."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()
        self._stopped = True

    def __len__(self) -> int:
        """How many breakers there are, with those that leave."""
        return len(self._all)

    # -- what breakers say ------------------------------------------------------------------------

    def _wake(self, breaker: SharedBreaker) -> None:
        """It has something to say: in the next turn, with what else there is by then."""
        if breaker not in self._all or self._stopped:
            return
        self._dirty[breaker] = None
        if self._turn is None:
            self._turn = self._reactor.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if self._see(self._clock()):
            self._flush()

    def _see(self, now: float) -> bool:
        """Whether there is a keeper; its going and coming is told to all."""
        up = self._keeper.up
        if up != self._up:
            self._up = up
            if up:
                self._connected()
            else:
                self._dirty.clear()
                for breaker in self._all:
                    breaker.part()
        return up

    def _flush(self) -> None:
        now = self._clock()
        dirty, self._dirty = self._dirty, {}
        said: list[Said] = []
        who: list[tuple[SharedBreaker, int]] = []
        for breaker in dirty:
            entry = self._all.get(breaker)
            messages = breaker.due(now) if entry is not None else ()
            if not messages or entry is None:
                continue
            if len(said) + len(messages) > _MOST_AT_ONCE:
                self._ask(who, said)
                said, who = [], []
            said += [Said(*entry, self._random(), each) for each in messages]
            who.append((breaker, len(messages)))
        if said:
            self._ask(who, said)

    def _ask(self, who: list[tuple[SharedBreaker, int]], said: list[Said]) -> None:
        def done(answers: Answers) -> None:
            now = self._clock()
            at = 0
            for breaker, count in who:
                mine = answers[at : at + count] if answers is not None else None
                breaker.answered(mine, now)
                at += count
                if answers is not None and breaker.urgent(now):
                    self._wake(breaker)
            if answers is None:
                self._see(now)

        self._keeper.ask(self._gateway, said, done)

    def _part_with(self, breaker: SharedBreaker) -> None:
        if breaker.occupied and self._up:
            return
        self._leaving.pop(breaker, None)
        self._dirty.pop(breaker, None)
        name, _ = self._all.pop(breaker)
        same = self._named[name]
        same.remove(breaker)
        if not same:
            del self._named[name]
        breaker.part()

    # -- what the keeper says ---------------------------------------------------------------------

    def _heard(self, name: str, news: Answer) -> None:
        now = self._clock()
        for breaker in self._named.get(name, ()):
            breaker.heard(news, now)

    def _connected(self) -> None:
        for breaker in self._all:
            breaker.look_again()
            self._wake(breaker)

    def __repr__(self) -> str:
        joined = sum(each.joined for each in self._all)
        return f"<Breakers {joined} of {len(self._all)} joined, {len(self._leaving)} leaving>"


class MemoryKeeper:
    """Tallies in this process; those used longest ago go when there are too many.

    :ivar up: as for Redis; tests set it.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.up = True
        self.tallies: dict[str, Tally] = {}
        self._clock = clock
        self._listeners: list[tuple[Heard, Callable[[], None]]] = []

    def ask(self, by: str, said: Sequence[Said], done: Callable[[Answers], None]) -> None:
        """See `Keeper`: answers at once; what has changed is announced before."""
        if not self.up:
            done(None)
            return
        answers = []
        for name, rules, random, message in said:
            tally = self._tally(name)
            answer = tally.tell(message, rules, by, random, self._clock())
            answers.append(answer)
            if tally.changed:
                news = answer._replace(granted=False, claimed=False)
                for heard, _ in self._listeners:
                    heard(name, news)
        done(answers)

    def listen(self, heard: Heard, connected: Callable[[], None]) -> None:
        """See `Keeper`."""
        self._listeners.append((heard, connected))

    def _tally(self, name: str) -> Tally:
        tally = self.tallies.pop(name, None)
        if tally is None:
            while len(self.tallies) >= _MOST_TALLIES:
                del self.tallies[next(iter(self.tallies))]
            tally = Tally(self._clock())
        self.tallies[name] = tally
        return tally

    def __repr__(self) -> str:
        return f"<MemoryKeeper {len(self.tallies)} tallies>"


def _short(name: str) -> str:
    """A name of at most 200 characters, different for each name."""
    if len(name) <= _LONGEST_NAME:
        return name
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{name[: _LONGEST_NAME - 33]}~{digest}"
