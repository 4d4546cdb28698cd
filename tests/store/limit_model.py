"""A shared store that can be slow, lose calls and stop, and gateways in front of it; all by hand.

`ModelStore` runs the algorithms of `core.limits`. What a gateway asks of it is a `Message`, which a
test executes, answers, or loses, when it likes: real ones can't be made to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rtgateway.core.limits import Algorithm, FixedWindow, State, Taken
from rtgateway.net.tasks import Waiter
from rtgateway.store.errors import Reason, StoreError
from rtgateway.store.limits.asked import Ask, Limiter, OnFailure, Outcome
from rtgateway.store.limits.memory import MemoryLimits
from rtgateway.store.limits.shared import SharedLimits


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ALimiter:
    name: str
    algorithm: Algorithm
    on_failure: OnFailure = "deny"
    leases: bool = True

    def ask(self, key: str = "k", cost: int = 1) -> Ask:
        return Ask(self, self.algorithm, key, cost)


@dataclass
class Settings:
    enabled: bool = True
    duration: float = 1.0
    minimum_rate: float = 10.0


@dataclass
class Gateways:
    count: int = 1


class ModelStore:
    """Counts by its own clock. ``taken`` and ``given``: units by limiter and key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.states: dict[tuple[str, str], State | None] = {}
        self.taken: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.first: dict[str, float] = {}
        # When each window of a limiter (with one key) ends.
        self.windows: dict[str, list[float]] = {}

    def take(self, asks: Sequence[Ask], wants: Sequence[int]) -> list[Taken]:
        states = dict(self.states)
        all_taken = []
        for ask, want in zip(asks, wants, strict=True):
            at = (ask.limiter.name, ask.key)
            taken = ask.algorithm.take(states.get(at), ask.cost, want, self.clock())
            if not taken.wait:
                states[at] = taken.state
            all_taken.append(taken)
        if not any(each.wait for each in all_taken):
            self.states = states
            for ask, taken in zip(asks, all_taken, strict=True):
                name = ask.limiter.name
                self.taken[name] = self.taken.get(name, 0) + ask.cost + taken.extra
                self.first.setdefault(name, self.clock())
                if isinstance(ask.algorithm, FixedWindow):
                    ends = taken.state.real  # type: ignore[union-attr]
                    windows = self.windows.setdefault(name, [])
                    if not windows or windows[-1] != ends:
                        windows.append(ends)
        return all_taken

    def give(self, items: Sequence[tuple[Limiter, Algorithm, str, int]]) -> int:
        for limiter, algorithm, key, units in items:
            assert units > 0
            at = (limiter.name, key)
            self.states[at] = algorithm.give_back(self.states.get(at), units, self.clock())
            self.given[limiter.name] = self.given.get(limiter.name, 0) + units
        return len(items)


@dataclass
class Message:
    """A call on its way."""

    run: Callable[[], Any]
    done: Callable[[Any, StoreError | None], None]
    sent: float
    reply: Any = None
    executed_at: float = math.nan
    settled: bool = False

    def execute(self, now: float) -> None:
        if math.isnan(self.executed_at):
            self.reply = self.run()
            self.executed_at = now

    def answer(self) -> None:
        assert not math.isnan(self.executed_at)
        if not self.settled:
            self.settled = True
            self.done(self.reply, None)

    def fail(self, reason: Reason) -> None:
        if not self.settled:
            self.settled = True
            self.done(None, StoreError(reason))


@dataclass
class Calls:
    """The way from one gateway to the store: ``RedisLimits`` and ``Link`` in one.

    :ivar at_once: calls are executed and answered inside the call that asks, as if in no time.
    """

    store: ModelStore
    clock: Clock
    up: bool = True
    at_once: bool = False
    messages: list[Message] = field(default_factory=list)
    asked: int = 0
    wants: list[Sequence[int]] = field(default_factory=list)

    def ask(self, asks: Sequence[Ask], wants: Sequence[int], done: Callable[..., None]) -> None:
        self.asked += 1
        self.wants.append(wants)
        self._send(lambda: self.store.take(asks, wants), done)

    def give_back(self, items: Sequence[Any], done: Callable[..., None]) -> None:
        self.asked += 1
        self._send(lambda: self.store.give(items), done)

    def reset(
        self, limiters: Sequence[Limiter], key: str, done: Callable[[int | None, Any], None]
    ) -> None:
        def run() -> int:
            found = [self.store.states.pop((each.name, key), None) for each in limiters]
            return sum(each is not None for each in found)

        self._send(run, done)

    async def reset_matching(
        self, limiters: Sequence[Limiter], part: str, about: Callable[[str], bool]
    ) -> int:
        if not self.up:
            raise StoreError("down")
        names = {each.name for each in limiters}
        found = [at for at in self.store.states if at[0] in names and about(at[1])]
        return sum(self.store.states.pop(at) is not None for at in found)

    def _send(self, run: Callable[[], Any], done: Callable[..., None]) -> None:
        if not self.up:
            done(None, StoreError("down"))
            return
        message = Message(run, done, self.clock())
        if self.at_once:
            message.execute(self.clock())
            message.answer()
        else:
            self.messages.append(message)

    def deliver(self) -> None:
        """Execute and answer all that was sent."""
        while self.messages:
            message = self.messages.pop(0)
            message.execute(self.clock())
            message.answer()


class Gateway:
    """One gateway with its way to the store."""

    def __init__(
        self,
        store: ModelStore,
        clock: Clock,
        gateways: Gateways | None = None,
        settings: Settings | None = None,
        settle: float = 2.0,
        settled: bool = True,
    ) -> None:
        self.clock = clock
        self.gateways = gateways or Gateways()
        self.calls = Calls(store, clock, at_once=True)
        self.limits = SharedLimits(
            self.calls,
            MemoryLimits(1000, clock),
            self.calls,
            self.gateways,
            settings or Settings(),
            clock,
            settle,
        )
        if settled:
            self.limits._leases._from = 0.0

    def decide(self, *asks: Ask) -> Outcome:
        """What came of it, at once."""
        outcome = self.limits.decide(asks)
        assert isinstance(outcome, Outcome)
        return outcome

    def begin(self, *asks: Ask) -> Outcome | Waiter[Outcome]:
        return self.limits.decide(asks)

    def warm(self, ask: Ask, rate: float = 100.0, seconds: float = 1.0) -> int:
        """Ask so often for so long, with ticks. How many were admitted."""
        admitted = 0
        for i in range(int(rate * seconds)):
            self.clock.now += 1.0 / rate
            admitted += self.decide(ask).admitted
            if i % max(int(rate / 10), 1) == 0:
                self.limits.tick(self.clock.now)
        return admitted


def settled(waiter: Outcome | Waiter[Outcome]) -> Outcome | None:
    """What a decision came to, or None while it waits."""
    if isinstance(waiter, Outcome):
        return waiter
    try:
        waiter.__await__().send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    return None
