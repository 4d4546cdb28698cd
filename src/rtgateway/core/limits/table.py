"""What is remembered of keys: bounded, and forgotten without pauses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

from rtgateway.core.limits.algorithm import State

__all__ = ["KeyTable"]

_SHARD = 512
"""Keys in a shard of a full table at most: half of them are freed at once, in 0.1 to 0.2 ms."""

_EXAMINED = 512
"""Shards that a tick looks at."""


class KeyTable:
    """States by key: at most so many, those not used for the longest time forgotten first.

    Each shard has two generations. New keys, and old ones that are used again, are in the young
    one. A shard turns when its young generation began a horizon ago: what is then old has not been
    used since, and goes; what was young is old now. So a key is kept for one to two horizons after
    its last use. To free one dict of some hundred keys is all that is ever done at once, and
    nothing is kept of a key but its state.

    Where the table is full, one shard after the other turns early, so that the half of its keys
    that was used last stays. While there is room, nothing goes before its time.

    :param most: keys at most; they may be less than that by up to ``1 / shards`` while it is full.
    :param horizon: seconds without use after which a state is as good as none.
    :raises ValueError: ``most`` below 1, or a horizon that is not above 0.

    For who asks very often: ``young[hash(key) % shards]`` is the dict that a key is in if it was
    used lately. A state that is there may be replaced in place; all else is for `get` and `set`.
    """

    __slots__ = (
        "_began",
        "_count",
        "_going",
        "_hand",
        "_old",
        "_turning",
        "horizon",
        "most",
        "shards",
        "young",
    )

    def __init__(self, most: int, horizon: float) -> None:
        if most < 1 or not horizon > 0:
            raise ValueError(f"{most} keys for {horizon:g} s")
        # Odd, so that the hashes in a shard do not end in the same bits: by the last bits a dict
        # finds their places.
        shards = most // _SHARD | 1
        self.most = most
        self.horizon = horizon
        self.shards = shards
        self.young: list[dict[str, State]] = [{} for _ in range(shards)]
        self._old: list[dict[str, State]] = [{} for _ in range(shards)]
        # When the young ones began; inf: since the last tick that looked at the shard.
        self._began = [math.inf] * shards
        # The shard that ticks are freeing. Nothing finds its keys any more.
        self._going: dict[str, State] = {}
        self._hand = 0
        self._turning = 0
        self._count = 0

    def get(self, key: str) -> State | None:
        """The state of a key, which is used by this."""
        shard = hash(key) % self.shards
        state = self.young[shard].get(key)
        if state is None:
            old = self._old[shard]
            if old:
                state = old.pop(key, None)
                if state is not None:
                    self.young[shard][key] = state
        return state

    def set(self, key: str, state: State) -> None:
        """Remember a state, and forget another key if the table is full."""
        shard = hash(key) % self.shards
        young = self.young[shard]
        if key not in young:
            old = self._old[shard]
            if old.pop(key, None) is None:
                if self._count >= self.most:
                    self._make_room()
                # Half of the keys have to be old, so that there are some to forget when it is full.
                elif not old and 2 * len(young) * len(self._old) >= self.most:
                    self._turn(shard)
                self._count += 1
                young = self.young[shard]
        young[key] = state

    def delete(self, key: str) -> bool:
        """Forget a key; whether it was known."""
        shard = hash(key) % self.shards
        for keys in (self.young[shard], self._old[shard]):
            if keys.pop(key, None) is not None:
                self._count -= 1
                return True
        return False

    def walk(self) -> Iterator[list[str]]:
        """All keys, those of one shard at a time: the table may be used between two of them."""
        for young, old in zip(self.young, self._old, strict=True):
            yield [*young, *old]

    def tick(self, now: float, budget: int) -> int:
        """Forget what was not used for a horizon, until the budget is spent.

        :param now: seconds of any clock that does not step back.
        :param budget: keys that may be freed.
        :return: what is left of it; above 0 only if there was nothing more to do.
        """
        began, horizon = self._began, self.horizon
        for _ in range(min(_EXAMINED, len(began))):
            budget = self._free(budget)
            if budget <= 0:
                return 0
            shard = self._hand
            if began[shard] == math.inf:
                began[shard] = now
            elif now - began[shard] >= horizon:
                emptied, self._going = self._going, self._old[shard]
                self._turn(shard)
                # A dict without keys has its memory still, until it gets one: if all of them went
                # one after the other, that of many would go back to the system at once.
                self.young[shard] = emptied
                began[shard] = now
            self._hand = (shard + 1) % self.shards
        budget = self._free(budget)
        while self._count > self.most and budget > 0:
            before = self._count
            self._make_room()
            budget -= before - self._count
        return max(0, budget)

    def _free(self, budget: int) -> int:
        """Free the keys of the shard that goes, one by one.

        Not the dict as a whole: with the last keys of a large table much of its memory goes back to
        the system, which takes milliseconds.
        """
        going = self._going
        while going and budget > 0:
            going.popitem()
            budget -= 1
        return budget

    def _turn(self, shard: int) -> None:
        self._count -= len(self._old[shard])
        self._old[shard] = self.young[shard]
        self.young[shard] = {}
        # The ticks come seldom: what was used after the last one must not count from there.
        self._began[shard] = math.inf

    def _make_room(self) -> None:
        """Forget at least one key, those of the half of a shard that was not used for longer."""
        most, longest = -1, 0
        for _ in range(8):
            shard = self._turning
            young, old = self.young[shard], self._old[shard]
            if 0 < len(old) <= len(young):
                self._turn(shard)
                self._turning = (shard + 1) % self.shards
                return
            if len(young) > most:
                most, longest = len(young), shard
            self._turning = (shard + 1) % self.shards
        # Of these, that one turned longest ago: who has come since is among its young ones.
        self._turning = longest
        self._drop_first()

    def _drop_first(self) -> None:
        """Forget some keys of the next shard, those first that came first."""
        while not (self._old[self._turning] or self.young[self._turning]):
            self._turning = (self._turning + 1) % self.shards
        shard = self._turning
        if not self._old[shard]:
            self._turn(shard)
        old = self._old[shard]
        # Several, since each search for the first passes those that were removed before.
        for key in list(islice(old, len(old) // 64 + 1)):
            del old[key]
            self._count -= 1

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        size = f"{self._count} of {self.most} keys, {self.horizon:g} s, {self.shards} shards"
        return f"<KeyTable {size}>"
