"""Which instance answers a request: the one with the least to do.

A balancer sees candidates only through `Load` and keeps no counts of its own, so that adding or
removing an instance loses nothing. Called once per attempt by ``upstream.service``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

__all__ = ["Balancer", "LeastLoad", "Load", "ewma"]


class Load(Protocol):
    """What a balancer asks a candidate.

    ``inflight``: requests and streams in progress; ``latency``: seconds, as a moving average, 0
    until measured; ``weight``: share of the traffic, 0 for none.
    """

    @property
    def inflight(self) -> int: ...
    @property
    def latency(self) -> float: ...
    @property
    def weight(self) -> int: ...


L = TypeVar("L", bound=Load)


class Balancer(Protocol[L]):
    """A way to choose."""

    def pick(self, candidates: Sequence[L]) -> L | None:
        """One of ``candidates``, or None when there is none that may be used."""
        ...


class LeastLoad:
    """The lowest score wins; equal scores take turns.

    The score is ``inflight * 1000 + latency in whole ms``, divided by the weight: one request in
    progress weighs as much as a second of latency, and less than a millisecond is no difference.
    """

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, candidates: Sequence[L]) -> L | None:
        """The candidate with the lowest score; None if all have weight 0 or there is none."""
        count = len(candidates)
        if count == 1:
            only = candidates[0]
            return only if only.weight else None
        best: L | None = None
        lowest = 0.0
        index = self._turn
        for _ in range(count):
            if index >= count:
                index = 0
            candidate = candidates[index]
            index += 1
            weight = candidate.weight
            if not weight:
                continue
            score = (candidate.inflight * 1000 + candidate.latency // 0.001) / weight
            if best is None or score < lowest:
                best = candidate
                lowest = score
                # The next search starts behind the winner: that is what makes equals take turns.
                self._turn = index
        return best

    def __repr__(self) -> str:
        return f"<LeastLoad turn={self._turn}>"


def ewma(average: float, sample: float, alpha: float = 0.2) -> float:
    """An exponentially weighted moving average that has taken ``sample`` in.

    :param average: so far; 0.0 before the first sample, which then counts in full.
    :param alpha: weight of the newest sample, between 0 and 1.
    """
    return average + alpha * (sample - average) if average else sample
