"""The same key to the same instance, for as long as that one is there and not overloaded."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import inf, log

from rtgateway.core.balance.candidate import C
from rtgateway.core.balance.least import LeastLoad

__all__ = ["ConsistentHash"]


class ConsistentHash:
    """Each key has an order of preference over all instances, and its first choice that has room.

    The order is by weighted rendezvous ("highest random weight": Thaler and Ravishankar, "Using
    Name-Based Mappings to Increase Hit Rates", 1998). It follows from key and ids alone: it is the
    same in every process, and when an instance leaves or joins, only its own share of the keys
    moves, from it or to it. There is no table to build, and none to grow.

    "Room" is a bounded load (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded
    Loads", 2016): no instance bears more than ``bound`` times its share of what is in flight,
    this request included, rounded up. A key in great demand overflows to its next choices.

    :param bound: at least 1, or 0 for no bound.
    :raises ValueError: it is something else.
    """

    __slots__ = ("_bound", "_keyless")

    def __init__(self, bound: float = 0.0) -> None:
        if bound and not 1.0 <= bound < inf:
            raise ValueError("bound: 0, or at least 1")
        self._bound = bound
        self._keyless = LeastLoad()

    def pick(self, candidates: Sequence[C], key: bytes = b"") -> C:
        """The key's first choice among those with room; the least loaded if there is no key."""
        if not key:
            return self._keyless.pick(candidates)
        if len(candidates) == 1:
            return candidates[0]
        weights, most = self._bounds(candidates)
        hashed = blake2b(key, digest_size=8)
        best = candidates[0]
        earliest = inf
        for candidate in candidates:
            weight = candidate.weight
            # inflight >= ceil(most * weight / weights), with nothing to round. Not true of all:
            # together they may bear more than there is.
            if candidate.inflight * weights >= most * weight:
                continue
            both = hashed.copy()
            both.update(candidate.id.encode())
            # Half a step up from 52 bits of the hash: between 0 and 1, never either of them.
            fraction = ((int.from_bytes(both.digest(), "big") >> 12) + 0.5) * 2.0**-52
            # -weight / ln(fraction) as its reciprocal: exponentially distributed with the weight
            # as its rate, so that each is the lowest with the probability that its weight says.
            arrival = -log(fraction) / weight
            if arrival < earliest:
                earliest = arrival
                best = candidate
        return best

    def _bounds(self, candidates: Sequence[C]) -> tuple[float, float]:
        """The sum of the weights, and what all together may bear."""
        if not self._bound:
            return 1.0, inf
        weights = sum([each.weight for each in candidates])
        return weights, self._bound * (sum([each.inflight for each in candidates]) + 1)

    def __repr__(self) -> str:
        return f"<ConsistentHash bound={self._bound:g}>"
