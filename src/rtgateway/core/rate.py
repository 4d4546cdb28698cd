"""A token bucket: so much in a second, and so much at once.

Pure: the time is an argument. Caller: ``ws``, once for each read of a limited WebSocket.
"""

from __future__ import annotations

import math

__all__ = ["TokenBucket"]


class TokenBucket:
    """Says by how much somebody is too fast.

    Whatever is taken is taken, so that the bucket may be in debt: who then waits for as long as it
    says has taken no more than ``burst + rate * t`` in ``t`` seconds. That what came in one piece
    was larger than the burst needs no rule of its own.

    :param rate: what comes in, per second.
    :param burst: what it holds; it is full at first.
    :raises ValueError: one of them is not above 0, or not finite.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        if not (0 < rate < math.inf and 0 < burst < math.inf):
            raise ValueError(f"a bucket of {burst:g}, filled by {rate:g} per second")
        self._rate = rate
        self._burst = burst
        self._level = burst
        # So long ago that it is full, whenever the first call comes.
        self._at = -math.inf

    def take(self, amount: float, now: float) -> float:
        """Take ``amount``, 0 or more.

        :param now: seconds of a monotonic clock. Where it steps back, nothing comes in until it is
            where it was.
        :return: seconds until the debt is paid; 0.0 if there is none.
        """
        level = self._level
        if now > self._at:
            level += (now - self._at) * self._rate
            if level > self._burst:
                level = self._burst
            self._at = now
        self._level = level = level - amount
        return 0.0 if level >= 0 else -level / self._rate

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:g} of {self._burst:g}, {self._rate:g}/s>"
