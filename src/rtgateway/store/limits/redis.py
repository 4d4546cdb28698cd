"""Rate limits in Redis: one script call for a decision, however many limiters it asks.

The script computes what the algorithms of `core.limits` do, to the last bit, by the clock of Redis.
Its twin is `memory`; what stands in front of it, and knows what holds while Redis does not answer,
is `shared`.

A key is ``{prefix}:limit:<limiter>:<whom>``, a string with the numbers of the state or, for the
exact log, a list of times. It expires after the horizon of its algorithm. A key that holds what
another algorithm left there counts as none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from rtgateway.core.limits import Algorithm, Taken
from rtgateway.net.tasks import Waiter
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.asked import Ask, Limiter, Outcome
from rtgateway.store.redis.script import load

if TYPE_CHECKING:
    from rtgateway.store.redis.link import Link

__all__ = ["Answered", "GivenBack", "RedisLimits"]

Answered: TypeAlias = Callable[[Sequence[Taken] | None, StoreError | None], None]
"""Called once, with one of the two."""

GivenBack: TypeAlias = tuple[Limiter, Algorithm, str, int]
"""Units of one key that were taken as `Taken.extra` and not spent."""

_LONGEST = 10**15
"""Milliseconds: an expiry that Redis takes, and for ever."""

_MOST_ALGORITHMS = 4096
"""Algorithms whose arguments are remembered."""

_taken = tuple.__new__


class RedisLimits:
    """Rate limits that hold across all gateways of one Redis.

    :param clock: seconds, for tests; else Redis goes by its own clock.
    """

    __slots__ = ("_arguments", "_clock", "_decide", "_give_back", "_link", "_prefixes", "_shapes")

    def __init__(self, link: Link, clock: Callable[[], float] | None = None) -> None:
        self._link = link
        self._clock = clock
        self._decide = load("decide")
        self._give_back = load("give_back")
        # By the identity of the algorithm, which is held so that no other one takes its place:
        # a hash of its numbers costs more than all else that is done here for an ask.
        self._arguments: dict[int, tuple[Algorithm, tuple[bytes, ...]]] = {}
        self._prefixes: dict[str, bytes] = {}
        self._shapes: dict[int, Callable[[bytes], tuple[Any, ...]]] = {}

    def ask(self, asks: Sequence[Ask], wants: Sequence[int], done: Answered) -> None:
        """Take the cost of each ask, and up to so many units more, or nothing of any.

        :param asks: two about the same key of the same limiter take of it one after the other.
        :param wants: for each ask, the units beyond its cost that are welcome.
        :param done: gets what each limiter says. Nothing was taken unless each ``wait`` is 0.
        """
        keys = []
        args: list[bytes | int] = [b"" if self._clock is None else b"%.17g" % self._clock()]
        for (limiter, algorithm, key, cost), want in zip(asks, wants, strict=True):
            keys.append(self._key(limiter.name, key))
            args += self._arguments_of(algorithm)
            args += (cost, want)

        def answered(reply: Any, error: StoreError | None) -> None:
            if error is not None:
                done(None, error)
                return
            taken = self._taken(reply, len(keys))
            done(taken, None if taken is not None else StoreError("refused", "an odd answer"))

        self._link.script(self._decide, keys, args, answered)

    def decide(self, asks: Sequence[Ask]) -> Waiter[Outcome]:
        """Take the cost of each ask, or nothing of any. The waiter fails with `StoreError`."""
        waiter: Waiter[Outcome] = Waiter()

        def answered(taken: Sequence[Taken] | None, error: StoreError | None) -> None:
            if taken is None:
                waiter.fail(error or StoreError("refused"))
            elif any(each.wait for each in taken):
                waiter.succeed(Outcome(False, taken))
            else:
                waiter.succeed(Outcome(True, taken, max((each.delay for each in taken), default=0)))

        self.ask(asks, [0] * len(asks), answered)
        return waiter

    def give_back(
        self, items: Sequence[GivenBack], done: Callable[[int | None, StoreError | None], None]
    ) -> None:
        """Return units that were granted and not spent. ``done`` gets how many keys took some."""
        keys = []
        args: list[bytes | int] = [b"" if self._clock is None else b"%.17g" % self._clock()]
        for limiter, algorithm, key, units in items:
            keys.append(self._key(limiter.name, key))
            args += self._arguments_of(algorithm)
            args.append(units)
        self._link.script(self._give_back, keys, args, done)

    def reset(
        self,
        limiters: Sequence[Limiter],
        key: str,
        done: Callable[[int | None, StoreError | None], None],
    ) -> None:
        """Forget what ``key`` has taken of each limiter. ``done`` gets how many knew it."""
        if not limiters:
            done(0, None)
            return
        self._link.call(("DEL", *(self._key(each.name, key) for each in limiters)), done)

    def _key(self, name: str, key: str) -> bytes:
        prefix = self._prefixes.get(name)
        if prefix is None:
            prefix = self._prefixes[name] = self._link.key("limit", name, "")
        return prefix + key.encode("utf-8", "surrogatepass")

    def _arguments_of(self, algorithm: Algorithm) -> tuple[bytes, ...]:
        """Its name, its two numbers, and the milliseconds after which its keys expire."""
        known = self._arguments.get(id(algorithm))
        if known is not None:
            return known[1]
        # The state is as good as none after the horizon, not before it: upwards.
        expiry = int(min(algorithm.horizon * 1000, _LONGEST)) + 1
        arguments = (*algorithm.parameters(), b"%d" % expiry)
        if len(self._arguments) >= _MOST_ALGORITHMS:
            self._arguments.clear()
        self._arguments[id(algorithm)] = (algorithm, arguments)
        return arguments

    def _taken(self, reply: Any, count: int) -> list[Taken] | None:
        """What each limiter says, from the answer of the script."""
        shape = self._shapes.get(count)
        if shape is None:
            shape = self._shapes[count] = struct.Struct("<" + "dqdqd" * count).unpack
        try:
            flat = shape(reply)
        except (struct.error, TypeError):
            return None
        if count == 1:
            return [_taken(Taken, (*flat, None))]
        return [_taken(Taken, (*flat[i : i + 5], None)) for i in range(0, 5 * count, 5)]

    def __repr__(self) -> str:
        return f"<RedisLimits {len(self._prefixes)} limiters, {self._link!r}>"
