"""The keys that a gateway knows something of.

At most 100,000 keys are known, the least recently used are forgotten first. A key that is asked for
once a second or less costs a time in a table and no more.
"""

from __future__ import annotations

import math

from rtgateway.core.lease import Demand
from rtgateway.store.limits.asked import Ask
from rtgateway.store.limits.known import Known, Tally

__all__ = ["Keys"]

_MOST = 100_000
_SHARDS = 64
_COLD = 1.0
"""Seconds after which a second request is like a first one."""

_DUE = Demand.DUE
_MANY = Demand.MANY


class _Shard:
    """A part of the keys, in two generations: the old one is dropped when the young one is full.

    Small, so that no drop takes long.
    """

    __slots__ = ("old", "young")

    def __init__(self) -> None:
        self.young: dict[tuple[str, str], Known | float] = {}
        self.old: dict[tuple[str, str], Known | float] = {}


class Keys:
    """Every key known: see the module.

    :ivar held: those with units that were leased; never forgotten. Who leases bounds them.
    :ivar since: when any of them was last reset.
    """

    __slots__ = ("_shards", "_share", "_tallies", "held", "since")

    def __init__(self, most: int = _MOST) -> None:
        self.held: dict[tuple[str, str], Known] = {}
        self.since = -math.inf
        self._share = max(most // (2 * _SHARDS), 1)
        self._shards = [_Shard() for _ in range(_SHARDS)]
        self._tallies: dict[str, Tally] = {}

    def seen(self, ask: Ask, now: float) -> Known | None:
        """A request. What is known of its key; None the first time in a while."""
        at = (ask.limiter.name, ask.key)
        known = self.held.get(at)
        if known is None:
            shard = self._shards[hash(at) % _SHARDS]
            found = shard.young.get(at)
            if found is None:
                found = shard.old.get(at)
                self._keep(shard, at, now if found is None else found)
            if type(found) is not Known:
                if found is None or now - found > _COLD:  # type: ignore[operator]
                    shard.young[at] = now
                    return None
                found = Known(ask, self.tally(ask.limiter.name), found)  # type: ignore[arg-type]
                found.seen = 1
                shard.young[at] = found
            known = found
        known.seen += ask.cost
        if known.seen >= _MANY or now - known.began >= _DUE:
            known.turn(now)
        return known

    def add(self, ask: Ask, now: float) -> Known:
        """What is known of a key from now on."""
        at = (ask.limiter.name, ask.key)
        known = self.find(at)
        if known is None:
            known = Known(ask, self.tally(ask.limiter.name), now)
            known.seen = ask.cost
            self._keep(self._shards[hash(at) % _SHARDS], at, known)
        return known

    def find(self, at: tuple[str, str]) -> Known | None:
        """What is known of a key, by the name of its limiter and itself."""
        known = self.held.get(at)
        if known is not None:
            return known
        shard = self._shards[hash(at) % _SHARDS]
        found = shard.young.get(at) or shard.old.get(at)
        return found if type(found) is Known else None

    def reset(self, at: tuple[str, str], now: float) -> None:
        """What was taken of a key is forgotten."""
        self.since = now
        known = self.find(at)
        if known is not None:
            known.reset(now)

    def change(self, name: str, now: float) -> None:
        """A limiter has other numbers: no lease of the former ones is spent or returned.

        A refusal by them is one of another algorithm: see `SharedLimits.decide`.
        """
        tally = self.tally(name)
        tally.since = now
        for known in self.held.values():
            if known.tally is tally:
                known.forget()

    def hold(self, known: Known) -> bool:
        """It has units now. Whether that is new."""
        at = (known.ask.limiter.name, known.ask.key)
        if at in self.held:
            return False
        self.held[at] = known
        return True

    def release(self, known: Known) -> None:
        """It has no units any more."""
        at = (known.ask.limiter.name, known.ask.key)
        del self.held[at]
        self._keep(self._shards[hash(at) % _SHARDS], at, known)

    def tally(self, name: str) -> Tally:
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally()
        return tally

    def tallies(self) -> dict[str, Tally]:
        """Of each limiter, by name."""
        return dict(self._tallies)

    def _keep(self, shard: _Shard, at: tuple[str, str], found: Known | float) -> None:
        if len(shard.young) >= self._share and at not in shard.young:
            shard.old = shard.young
            shard.young = {}
        shard.young[at] = found

    def __len__(self) -> int:
        shards = sum(len(each.young) + len(each.old) for each in self._shards)
        return max(shards, len(self.held))

    def __repr__(self) -> str:
        return f"<Keys {len(self)}, {len(self.held)} with leases>"
