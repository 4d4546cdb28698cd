"""Strategies that draw lots: they need no common memory, and many gateways do not act in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rtgateway.core.balance.candidate import C

__all__ = ["PowerOfTwo", "Random"]


class Random:
    """Anybody, with the probability that their weight says.

    :param random: draws from 0 (included) to 1 (excluded).
    """

    __slots__ = ("_random",)

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random

    def pick(self, candidates: Sequence[C], key: bytes = b"") -> C:
        """Whoever is drawn."""
        return candidates[_draw(candidates, self._random())]

    def __repr__(self) -> str:
        return "<Random>"


class PowerOfTwo:
    """The better one of two that are drawn by weight.

    Better is a lower cost, ``latency * (inflight + 1) / weight``: about how long the request would
    take. The strategy of the literature (Mitzenmacher, "The Power of Two Choices in Randomized
    Load Balancing", 2001) with the cost of Finagle's ``P2CPeakEwma``; it avoids the slow ones
    almost as well as looking at all does, and is not drawn all at once to the one that looks best.

    :param random: draws from 0 (included) to 1 (excluded).
    """

    __slots__ = ("_random",)

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random

    def pick(self, candidates: Sequence[C], key: bytes = b"") -> C:
        """The less costly of two; the one that was drawn first if they cost the same."""
        if len(candidates) == 1:
            return candidates[0]
        index = _draw(candidates, self._random())
        one = candidates[index]
        others = [*candidates[:index], *candidates[index + 1 :]]
        two = others[_draw(others, self._random())]
        # One that was never measured is taken to be as fast as the other. With a latency of 0 it
        # would win every time until its first answer is there, and drown in the meantime.
        latency_of_one = one.latency or two.latency or 1.0
        latency_of_two = two.latency or latency_of_one
        cost_of_one = latency_of_one * (one.inflight + 1) / one.weight
        cost_of_two = latency_of_two * (two.inflight + 1) / two.weight
        return two if cost_of_two < cost_of_one else one

    def __repr__(self) -> str:
        return "<PowerOfTwo>"


def _draw(candidates: Sequence[C], lot: float) -> int:
    """The position of the candidate on which ``lot`` (0 <= lot < 1) falls."""
    rest = lot * sum([each.weight for each in candidates])
    last = len(candidates) - 1
    for index in range(last):
        rest -= candidates[index].weight
        if rest < 0:
            return index
    # Also where rounding left something over.
    return last
