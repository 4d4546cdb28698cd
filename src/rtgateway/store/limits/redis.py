"""Rate limits in Redis: one script call for a decision, however many limiters it asks.

The script computes what the algorithms of `core.limits` do, to the last bit, by the clock of Redis.
Its twin is `memory`; what stands in front of it, and knows what holds while Redis does not answer,
is `shared`.

A key is ``{prefix}:limit:<limiter>:<whom>``, a string with the numbers of the state or, for the
exact log, a list of times. It expires after the horizon of its algorithm. A key that holds what
another algorithm left there counts as none.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from rtgateway.core.limits import Algorithm, Taken
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.asked import Ask, Limiter
from rtgateway.store.redis.events import Events, channel_of
from rtgateway.store.redis.script import load

if TYPE_CHECKING:
    from rtgateway.store.redis.link import Link

__all__ = ["Answered", "GivenBack", "RedisLimits", "Reset"]

Answered: TypeAlias = Callable[[Sequence[Taken] | None, StoreError | None], None]
"""Called once, with one of the two."""

GivenBack: TypeAlias = tuple[Limiter, Algorithm, str, int]
"""Units of one key that were taken as `Taken.extra` and not spent."""

Reset: TypeAlias = tuple[str, str]
"""Name of a limiter, and a key that has taken nothing of it any more."""

_RESETS = "limit-resets"
"""What these are called among the changes of which gateways tell each other."""

_PATIENCE = 1.5
"""Seconds for a search through all keys. Who asks for one waits for two."""

_PAGE = 1000
"""Keys of any kind that Redis looks at in a step of it: less than 1 ms."""

_AT_ONCE = 500
"""Keys that are forgotten in one call; what is said of it has some 50 KB."""

_LONGEST = 10**15
"""Milliseconds: an expiry that Redis takes, and for ever."""

_MOST_ALGORITHMS = 4096
"""Algorithms whose arguments are remembered."""

_taken = tuple.__new__


class RedisLimits:
    """Rate limits that hold across all gateways of one Redis.

    :param clock: seconds, for tests; else Redis goes by its own clock.
    """

    __slots__ = (
        "_arguments",
        "_channel",
        "_clock",
        "_decide",
        "_give_back",
        "_link",
        "_prefixes",
        "_reset",
        "_shapes",
    )

    def __init__(self, link: Link, clock: Callable[[], float] | None = None) -> None:
        self._link = link
        self._clock = clock
        self._channel = channel_of(link)
        self._decide = load("decide")
        self._give_back = load("give_back")
        self._reset = load("reset")
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
        keys = [self._key(each.name, key) for each in limiters]
        said = self._said((each.name, key) for each in limiters)
        self._link.script(self._reset, keys, [self._channel, said], done)

    async def reset_matching(
        self, limiters: Sequence[Limiter], part: str, about: Callable[[str], bool]
    ) -> int:
        """Forget what all keys have taken that have ``part`` in them and are ``about`` it.

        For an operator: Redis is asked for all of its keys, a part at a time.

        :return: how many there were.
        :raises StoreError: it does not answer, or there are too many to look at; some may be
            forgotten.
        """
        prefixes = {self._key(each.name, ""): each.name for each in limiters}
        prefix_of = re.compile(b"|".join(map(re.escape, prefixes))).match

        def meant(name: bytes) -> Reset | None:
            prefix = prefix_of(name)
            if prefix is None:
                return None
            key = name[prefix.end() :].decode(errors="replace")
            return (prefixes[prefix[0]], key) if about(key) else None

        pattern = _glob(self._link.key("limit", "")) + b"*" + _glob(part.encode()) + b"*"
        ends = monotonic() + _PATIENCE
        cursor, forgotten = None, 0
        while cursor != b"0":
            step = ("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", _PAGE)
            cursor, found = await self._link.ask(*step, timeout=_left(ends))
            keys = [(name, reset) for name in found if (reset := meant(name)) is not None]
            for i in range(0, len(keys), _AT_ONCE):
                names, resets = zip(*keys[i : i + _AT_ONCE], strict=True)
                args = (self._channel, self._said(resets))
                forgotten += await self._link.run(self._reset, names, args, timeout=_left(ends))
        return forgotten

    def on_reset(self, events: Events, forget: Callable[[list[Reset]], None]) -> None:
        """Call ``forget`` with the keys that were reset, whichever gateway was told to do so."""
        events.listen(_RESETS, lambda event: forget([(name, key) for name, key in event["keys"]]))

    def _said(self, resets: Iterable[Reset]) -> bytes:
        """What all gateways are told."""
        return json.dumps({"kind": _RESETS, "keys": list(resets)}).encode()

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


def _glob(text: bytes) -> bytes:
    """A pattern that only ``text`` matches."""
    return re.sub(rb"([*?\[\]\\^-])", rb"\\\1", text)


def _left(ends: float) -> float:
    """Seconds until a search has to be over.

    :raises StoreError: it has to be over now.
    """
    left = ends - monotonic()
    if left <= 0:
        raise StoreError("timeout", "there are too many keys to look at")
    return left
