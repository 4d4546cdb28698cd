"""Rate limits in the memory of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.task import Cooperator

from rtgateway.core.limits import Algorithm, KeyTable, SlidingLog, State, Taken
from rtgateway.net.tasks import Waiter
from rtgateway.store.limits.asked import Ask, Limiter, Outcome

__all__ = ["MemoryLimits"]

_LONGEST = 0.5e-3
"""Seconds that a tick, or a part of a search, may take if it is not interrupted."""

_AT_ONCE = 16
"""Keys that it forgets before it looks at the time."""

_UNITS = 16
"""Units of a log that take the memory of a key with a state of one number."""

_outcome = tuple.__new__


class _Table:
    """The keys of a limiter, as far as one kind of algorithm decides about them.

    :ivar known: the algorithm that asked last.
    """

    __slots__ = ("keys", "known")

    def __init__(self, algorithm: Algorithm, most: int) -> None:
        self.keys = KeyTable(max(1, most // _weight(algorithm)), algorithm.horizon)
        self.known = algorithm

    def learn(self, algorithm: Algorithm, most: int) -> None:
        """Make do for another algorithm of the kind: no state is forgotten before its time."""
        self.known = algorithm
        self.keys.horizon = max(self.keys.horizon, algorithm.horizon)
        self.keys.most = min(self.keys.most, max(1, most // _weight(algorithm)))


class MemoryLimits:
    """A table of keys for each limiter, and everything decided at once.

    Nothing is shared with other processes, and nothing outlives this one. States of one algorithm
    mean nothing to another, so that a limiter has a table for each that its plans name.

    :param most_keys: of each limiter and kind of algorithm. Of logs there are fewer, so that they
        take no more memory: each 16 units of one count as another key.
    :param clock: monotonic seconds.
    :param later: calls a function soon, so that a search through all keys holds up nothing; None:
        it may.
    """

    __slots__ = ("_clock", "_last", "_later", "_most", "_tables", "_turn")

    def __init__(
        self,
        most_keys: int,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self._most = most_keys
        self._clock = clock
        self._later = later
        self._tables: dict[str, dict[str, _Table]] = {}
        # Of each limiter, the one that was asked last.
        self._last: dict[str, _Table] = {}
        self._turn = 0

    def decide(self, asks: Sequence[Ask]) -> Outcome:
        """See `LimitStore.decide`: at once, never a Waiter."""
        if len(asks) != 1:
            return self._decide(asks)
        limiter, algorithm, key, cost = asks[0]
        try:
            table = self._last[limiter.name]
            if table.known is not algorithm:
                table = self._table(limiter, algorithm)
        except KeyError:
            table = self._table(limiter, algorithm)
        keys = table.keys
        young = keys.young[hash(key) % keys.shards]
        if key in young:
            taken = algorithm.take(young[key], cost, 0, self._clock())
            if taken[0]:
                return _outcome(Outcome, (False, (taken,), 0.0, False))
            young[key] = taken[5]  # type: ignore[assignment]
        else:
            taken = algorithm.take(keys.get(key), cost, 0, self._clock())
            if taken[0]:
                return _outcome(Outcome, (False, (taken,), 0.0, False))
            if cost:
                keys.set(key, taken[5])  # type: ignore[arg-type]
        return _outcome(Outcome, (True, (taken,), taken[4], False))

    def _decide(self, asks: Sequence[Ask]) -> Outcome:
        now = self._clock()
        last = self._last
        tables: list[KeyTable] = []
        given: list[Taken] = []
        admitted = True
        delay = 0.0
        for limiter, algorithm, key, cost in asks:
            table = last.get(limiter.name)
            if table is None or table.known is not algorithm:
                table = self._table(limiter, algorithm)
            keys = table.keys
            tables.append(keys)
            taken = algorithm.take(keys.get(key), cost, 0, now)
            given.append(taken)
            if taken[0]:
                admitted = False
            elif taken[4] > delay:
                delay = taken[4]
        if len(set(tables)) != len(tables):
            return self._decide_in_turn(asks, now)
        if not admitted:
            return Outcome(False, self._untaken(asks, given, now))
        for keys, (_, _, key, cost), taken in zip(tables, asks, given, strict=True):
            if cost:
                keys.set(key, taken[5])  # type: ignore[arg-type]
        return _outcome(Outcome, (True, given, delay, False))

    def _decide_in_turn(self, asks: Sequence[Ask], now: float) -> Outcome:
        """The same where a limiter is asked twice, and perhaps about the same key."""
        after: dict[tuple[KeyTable, str], State | None] = {}
        given: list[Taken] = []
        for limiter, algorithm, key, cost in asks:
            keys = self._table(limiter, algorithm).keys
            state = after[keys, key] if (keys, key) in after else keys.get(key)
            taken = algorithm.take(state, cost, 0, now)
            given.append(taken)
            if cost and not taken.wait:
                after[keys, key] = taken.state
        if any(taken.wait for taken in given):
            return Outcome(False, self._untaken(asks, given, now))
        for (keys, key), state in after.items():
            keys.set(key, state)  # type: ignore[arg-type]
        return Outcome(True, given, max(taken.delay for taken in given))

    def _untaken(self, asks: Sequence[Ask], given: list[Taken], now: float) -> list[Taken]:
        """What those that would have admitted say as nothing is taken."""
        for place, (limiter, algorithm, key, _) in enumerate(asks):
            if not given[place][0]:
                keys = self._table(limiter, algorithm).keys
                given[place] = algorithm.take(keys.get(key), 0, 0, now)
        return given

    def reset(self, limiters: Sequence[Limiter], key: str) -> Waiter[int]:
        """See `LimitStore.reset`: settled already."""
        waiter: Waiter[int] = Waiter()
        waiter.succeed(sum(self.forget(limiter.name, key) for limiter in limiters))
        return waiter

    def reset_matching(
        self, limiters: Sequence[Limiter], part: str, about: Callable[[str], bool]
    ) -> Waiter[int]:
        """See `LimitStore.reset_matching`."""
        waiter: Waiter[int] = Waiter()
        forgotten = 0

        def search() -> Iterator[None]:
            nonlocal forgotten
            for limiter in limiters:
                for table in tuple(self._tables.get(limiter.name, {}).values()):
                    for keys in table.keys.walk():
                        for key in keys:
                            if part in key and about(key):
                                forgotten += table.keys.delete(key)
                        yield

        def searched(_: object) -> None:
            waiter.succeed(forgotten)

        if self._later is None:
            searched(list(search()))
        else:
            Cooperator(_a_slice, self._later).coiterate(search()).addCallback(searched)
        return waiter

    def changed(self, limiter: Limiter) -> None:
        """See `LimitStore.changed`: what was taken is all that is kept of it."""

    def forget(self, limiter_name: str, key: str) -> bool:
        """Forget what a key has taken; whether it was known."""
        tables = self._tables.get(limiter_name, {}).values()
        return sum(table.keys.delete(key) for table in tables) > 0

    def tick(self, now: float) -> None:
        """Forget some of the keys that were not used for long; all, in some calls."""
        tables = [table.keys for kinds in self._tables.values() for table in kinds.values()]
        ends = time.perf_counter() + _LONGEST
        # Not the first one first each time, or its keys would be the only ones to go.
        self._turn += 1
        for place in range(len(tables)):
            keys = tables[(self._turn + place) % len(tables)]
            while not keys.tick(now, _AT_ONCE):
                if time.perf_counter() > ends:
                    return

    def keys(self, limiter_name: str) -> int:
        """How many keys of a limiter are remembered."""
        return sum(len(table.keys) for table in self._tables.get(limiter_name, {}).values())

    def _table(self, limiter: Limiter, algorithm: Algorithm) -> _Table:
        kinds = self._tables.get(limiter.name)
        if kinds is None:
            kinds = self._tables[limiter.name] = {}
        table = kinds.get(algorithm.name)
        if table is None:
            table = kinds[algorithm.name] = _Table(algorithm, self._most)
        elif table.known is not algorithm:
            table.learn(algorithm, self._most)
        self._last[limiter.name] = table
        return table

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {self.keys(name)}" for name in self._tables)
        return f"<MemoryLimits at most {self._most} keys each; {sizes or 'none'}>"


def _a_slice() -> Callable[[], bool]:
    """Says when a part of a search is over."""
    ends = time.perf_counter() + _LONGEST
    return lambda: time.perf_counter() > ends


def _weight(algorithm: Algorithm) -> int:
    """How much memory a key takes at most, one with a state of one number being 1."""
    return 1 + -(-algorithm.limit // _UNITS) if isinstance(algorithm, SlidingLog) else 1
