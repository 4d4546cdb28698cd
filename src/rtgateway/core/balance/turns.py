"""Smooth weighted turns: as a strategy of their own, and between equals of other strategies."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from rtgateway.core.balance.candidate import C

__all__ = ["RoundRobin", "take_turn"]


def take_turn(candidates: Sequence[C]) -> C:
    """The candidate whose turn it is; the turns of all are moved on.

    Smooth weighted round robin, as nginx does it: each candidate is owed its weight, the one that
    is owed most is chosen and pays for all. Weights 5:1:1 give a a b a c a a, and not five times
    a in a row. Over as many choices as the weights add up to, each is chosen exactly as often as
    its weight says.
    """
    count = len(candidates)
    if count == 1:
        return candidates[0]
    total = balance = 0.0
    for candidate in candidates:
        total += candidate.weight
        balance += candidate.turn
    # Debts and credits add up to 0, unless somebody who left took theirs along: what is missing is
    # shared by all. No order changes by that, and nothing piles up however many come and go.
    missing = balance / count
    # With constant weights nobody owes more than ``total``, so that nobody, with the sum being 0,
    # is owed more than this. After a change of the weights old claims are cut down to it: one who
    # was owed a thousand turns among heavier ones does not get them all in a row.
    most = total * (count - 1)
    best = candidates[0]
    highest = -inf
    for candidate in candidates:
        turn = candidate.turn - missing
        if turn < -total:
            turn = -total
        elif turn > most:
            turn = most
        candidate.turn = turn = turn + candidate.weight
        if turn > highest:
            highest = turn
            best = candidate
    best.turn -= total
    return best


class RoundRobin:
    """Everybody in turn, as often as their weight says, whatever they are doing."""

    __slots__ = ()

    def pick(self, candidates: Sequence[C], key: bytes = b"") -> C:
        """The next one."""
        return take_turn(candidates)

    def __repr__(self) -> str:
        return "<RoundRobin>"
