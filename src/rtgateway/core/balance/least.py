"""The one with the least to do, with and without regard to how long it takes.

Both strategies have to say what equal load means when weights differ, and say the same: a candidate
ties with the best one if what it bears *now*, per unit of weight, is less than what the best one
*would* bear with this request. Compared by what they would bear, an idle instance of weight 1 would
never be asked beside an idle one of weight 2, nor one that starts with a tenth of its weight before
the others have ten requests each; compared by what they bear now, the latter would get whatever
comes while the others are busy. Among those that tie, weighted turns decide. For equal weights all
of this is the plain comparison of counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from rtgateway.core.balance.candidate import C
from rtgateway.core.balance.turns import take_turn

__all__ = ["LeastConnections", "LeastLoad"]


class LeastLoad:
    """The lowest score wins; equals take turns.

    The score is ``(inflight + 1) * 1000 / weight + latency in whole ms``: one request in progress
    weighs as much as a second of latency, and less than a millisecond is no difference.
    """

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, candidates: Sequence[C], key: bytes = b"") -> C:
        """The candidate with the lowest score."""
        # This runs for every request of most gateways: one loop, few operations. With equal
        # weights turns are a position; the first different weight leads to the general case.
        best = candidates[0]
        if len(candidates) == 1:
            return best
        weight = best.weight
        request = 1000 / weight
        turn = self._turn
        winner = 0
        lowest = inf
        for index, candidate in enumerate(candidates):
            if candidate.weight != weight:
                return self._pick_weighted(candidates)
            score = candidate.inflight * request + candidate.latency // 0.001
            # Of equals, the first behind the last winner; if there is none, the first of all.
            if score < lowest or (score == lowest and winner < turn <= index):
                best = candidate
                lowest = score
                winner = index
        self._turn = winner + 1
        return best

    @staticmethod
    def _pick_weighted(candidates: Sequence[C]) -> C:
        lowest = bearable = slowest = inf
        for candidate in candidates:
            latency = candidate.latency // 0.001
            load = (candidate.inflight + 1) / candidate.weight
            score = load * 1000 + latency
            if score < lowest:
                lowest, bearable, slowest = score, load, latency
        return take_turn(
            [
                candidate
                for candidate in candidates
                if (
                    candidate.latency // 0.001 <= slowest
                    and candidate.inflight / candidate.weight < bearable
                )
                or (candidate.inflight + 1) / candidate.weight * 1000 + candidate.latency // 0.001
                == lowest
            ]
        )

    def __repr__(self) -> str:
        return f"<LeastLoad turn={self._turn}>"


class LeastConnections:
    """The fewest requests, streams and upgraded connections per unit of weight; equals take turns.

    Latency has no say, which is right where what is in flight stays for hours.
    """

    __slots__ = ()

    def pick(self, candidates: Sequence[C], key: bytes = b"") -> C:
        """The candidate with the fewest in flight for its weight."""
        bearable = min([(each.inflight + 1) / each.weight for each in candidates])
        return take_turn([each for each in candidates if each.inflight / each.weight < bearable])

    def __repr__(self) -> str:
        return "<LeastConnections>"
