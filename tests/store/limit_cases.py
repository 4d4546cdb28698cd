"""What tests of rate limits have in common: limiters, quotas, stores, a link that blocks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import hiredis
from hypothesis import strategies as st

from rtgateway.core.limits import (
    Algorithm,
    FixedWindow,
    Gcra,
    LeakyBucket,
    Shaper,
    SlidingLog,
    SlidingWindow,
    State,
    Taken,
    TokenBucket,
)
from rtgateway.net.tasks import Task, Waiter
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.asked import Ask, Limiter, OnFailure, Outcome
from rtgateway.store.limits.memory import MemoryLimits
from rtgateway.store.limits.redis import RedisLimits
from rtgateway.store.redis.script import Script
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually

__all__ = [
    "ALGORITHMS",
    "NOW",
    "PAUSES",
    "TEN",
    "BlockingLink",
    "Lasting",
    "Limit",
    "Store",
    "algorithms",
    "decide",
    "fresh",
    "most_admitted",
]

NOW = 46_000_000.25
"""A time as the store has it in 2026."""


@dataclass
class Limit:
    """A limiter."""

    name: str
    algorithm: Algorithm
    on_failure: OnFailure = "local"
    leases: bool = True


class BlockingLink:
    """In place of a `Link` where a test has no reactor to wait with: every call is answered."""

    def __init__(self, server: RedisServer) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(server.unix)
        self._reader = hiredis.Reader()

    def close(self) -> None:
        self._socket.close()

    def command(self, *words: Any) -> Any:
        """The reply to one command.

        :raises hiredis.ReplyError: an error reply.
        """
        self._socket.sendall(hiredis.pack_command(words))
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            assert data, "the server closed the connection"
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    # -- as a Link has it ---------------------------------------------------------------------

    def key(self, *parts: str) -> bytes:
        return ":".join(("{test}", *parts)).encode()

    def call(
        self, command: tuple[Any, ...], done: Callable[[Any, StoreError | None], None]
    ) -> None:
        try:
            reply = self.command(*command)
        except hiredis.ReplyError as error:
            done(None, StoreError("refused", str(error)))
        else:
            done(reply, None)

    def script(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Any],
        done: Callable[[Any, StoreError | None], None],
    ) -> None:
        words = (len(keys), *keys, *args)
        try:
            reply = self.command("EVALSHA", script.sha, *words)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                done(None, StoreError("refused", str(error)))
                return
            self.call(("EVAL", script.text, *words), done)
            return
        done(reply, None)


class Store:
    """A store whose time is that of the test."""

    def __init__(self) -> None:
        self.now = NOW
        self.limits: MemoryLimits | RedisLimits = MemoryLimits(10_000, self.clock)

    def clock(self) -> float:
        return self.now

    async def decide(self, *asks: Ask) -> Outcome:
        outcomes = self.begin(*asks)
        await eventually(lambda: outcomes)
        return outcomes[0]

    def begin(self, *asks: Ask) -> list[Outcome]:
        """A decision; its outcome is in the list when the store has answered."""
        if isinstance(self.limits, MemoryLimits):
            return [self.limits.decide(asks)]
        outcomes: list[Outcome] = []

        def answered(taken: Sequence[Taken] | None, error: StoreError | None) -> None:
            assert taken is not None, error
            admitted = not any(each.wait for each in taken)
            delay = max((each.delay for each in taken), default=0.0) if admitted else 0.0
            outcomes.append(Outcome(admitted, taken, delay))

        self.limits.ask(asks, [0] * len(asks), answered)
        return outcomes

    async def take(self, algorithm: Algorithm, cost: int = 1, key: str = "ip:a") -> Outcome:
        """A decision of one limiter, called ``one``."""
        return await self.decide(Ask(Limit("one", algorithm), algorithm, key, cost))

    async def reset(self, limiters: Sequence[Limiter], key: str) -> int:
        if isinstance(self.limits, MemoryLimits):
            known: int = await settled(self.limits.reset(limiters, key))
            return known
        counts: list[int | None] = []
        self.limits.reset(limiters, key, lambda count, error: counts.append(count))
        await eventually(lambda: counts)
        assert counts[0] is not None
        return counts[0]


async def settled(waiter: Waiter[Any]) -> Any:
    """What it is settled with: a test awaits Deferreds only."""
    results: list[Any] = []

    async def wait() -> None:
        results.append(await waiter)

    Task(wait()).step()
    await eventually(lambda: results)
    return results[0]


def fresh(link: BlockingLink) -> Store:
    """A store in Redis that knows nothing, and answers at once."""
    link.command("FLUSHDB")
    store = Store()
    store.limits = RedisLimits(cast(Any, link), store.clock)
    return store


def decide(store: Store, *asks: Ask) -> Outcome:
    """At once."""
    (outcome,) = store.begin(*asks)
    return outcome


@dataclass(frozen=True)
class Lasting:
    """An algorithm whose keys outlive any test, for those whose time is not that of Redis."""

    of: Algorithm
    horizon: float = 3600.0

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def limit(self) -> int:
        return self.of.limit

    @property
    def window(self) -> float:
        return self.of.window

    @property
    def rate(self) -> float:
        return self.of.rate

    @property
    def leasable(self) -> bool:
        return self.of.leasable

    def take(self, state: State | None, cost: int, want: int, now: float) -> Taken:
        return self.of.take(state, cost, want, now)

    def give_back(self, state: State | None, units: int, now: float) -> State | None:
        return self.of.give_back(state, units, now)

    def scaled(self, factor: float) -> Algorithm:
        return Lasting(self.of.scaled(factor))

    def parameters(self) -> tuple[bytes, ...]:
        return self.of.parameters()


TEN: dict[str, Algorithm] = {
    "token_bucket": TokenBucket(10, 1),
    "leaky_bucket": LeakyBucket(10, 1),
    "gcra": Gcra(60, 60.0, 10),
    "shaper": Shaper(1, 9),
    "fixed_window": FixedWindow(10, 60.0),
    "sliding_window": SlidingWindow(10, 60.0),
    "sliding_log": SlidingLog(10, 60.0),
}
"""Ten units, one per second or within a minute."""


def most_admitted(algorithm: Algorithm, seconds: float) -> float:
    """Units that may be admitted from a fresh key in so much time, and what rounding adds."""
    if isinstance(algorithm, FixedWindow | SlidingWindow | SlidingLog):
        return algorithm.limit * (1 + (seconds + 1e-6) // algorithm.window)
    # A time is stored to 8 ns.
    assert isinstance(algorithm, TokenBucket | LeakyBucket | Gcra | Shaper)
    return algorithm.capacity + algorithm.rate * (seconds + 1e-6) + 0.01


# -- strategies ---------------------------------------------------------------------------------

RATES = st.one_of(st.sampled_from([0.5, 1.0, 3.0, 10.0, 1000.0]), st.floats(0.01, 1e5))
CAPACITIES = st.one_of(st.integers(1, 30), st.floats(1, 1e4))
LIMITS = st.integers(1, 40)
WINDOWS = st.one_of(st.sampled_from([1.0, 10.0, 60.0]), st.floats(0.01, 1000))

ALGORITHMS: dict[str, st.SearchStrategy[Algorithm]] = {
    "token_bucket": st.builds(TokenBucket, CAPACITIES, RATES),
    "leaky_bucket": st.builds(LeakyBucket, CAPACITIES, RATES),
    "gcra": st.builds(Gcra, LIMITS, WINDOWS, st.one_of(st.none(), CAPACITIES)),
    "shaper": st.builds(Shaper, RATES, st.integers(0, 30)),
    "fixed_window": st.builds(FixedWindow, LIMITS, WINDOWS),
    "sliding_window": st.builds(SlidingWindow, LIMITS, WINDOWS),
    "sliding_log": st.builds(SlidingLog, LIMITS, WINDOWS),
}
"""Of each algorithm, with quotas from slow to fast."""

algorithms = st.one_of(*ALGORITHMS.values())

PAUSES = st.one_of(
    st.just(0.0),
    st.sampled_from([1e-6, 0.1, 1.0, 10.0, 60.0, -1e-6, -0.5, -7.0, -3600.0]),
    st.floats(0, 2),
    st.floats(-5, 100),
)
"""Seconds between two calls; below 0 the clock was set back."""
