"""Leases: how much of a shared limit a gateway takes beforehand, to decide by itself.

Pure: what is wanted of a key, how large a lease may be, and how long a refusal may be remembered.
What these numbers guarantee together is derived in ``store/limits/shared.py``.
"""

from __future__ import annotations

import math

__all__ = ["Demand", "lease_size", "most_leased", "silence"]

_AVERAGED = 1.0
"""Seconds: what is older by so much counts for 1/e."""

_TURN = 0.1
"""Seconds that are counted before they go into the average."""

_MANY = 16
"""Units that need not wait for that, so that a burst is seen at once."""

_SMALLEST = 2
"""A lease of one unit would save nothing."""

_WORTHWHILE = 16
"""Units up to which a lease is for four times as long: to ask for fewer is to ask too often."""

_LOUD = 0.010
"""Seconds for which a refused key is left alone, where nothing is lost by it."""

_QUIET = 1.0
"""Seconds after which a refusal is asked for again: it may have been lifted, units given back."""


class Demand:
    """How many units per second of a key are asked for: an average with an exponential window.

    :ivar began: when the interval began that is being counted; seconds, monotonic.
    :ivar rate: units per second before that.
    :ivar seen: units since. The hot path adds to it, and calls `turn` where it reaches `MANY`, or
        where ``began`` is older than `DUE`.
    """

    __slots__ = ("began", "rate", "seen")

    DUE = _TURN
    MANY = _MANY

    def __init__(self, now: float) -> None:
        self.began = now
        self.rate = 0.0
        self.seen = 0

    def turn(self, now: float) -> None:
        """Take what was counted into the average, if it is time to."""
        passed = now - self.began
        if passed < _TURN and self.seen < _MANY:
            return
        faded = -math.expm1(-passed / _AVERAGED) if passed > 0.0 else 0.0
        # In next to no time, the limit of this fraction; it is never above.
        weight = faded / passed if passed > 1e-6 else 1.0 / _AVERAGED
        self.rate += self.seen * weight - self.rate * faded
        self.began = now
        self.seen = 0

    def at(self, now: float) -> float:
        """Units per second, as far as known."""
        self.turn(now)
        return self.rate

    def __repr__(self) -> str:
        return f"<Demand {self.rate:.3g}/s>"


def lease_size(
    limit: float, rate: float, demand: float, gateways: int, seconds: float
) -> int:  # fmt: skip
    """How many units to lease: what is used up in time, and no more than a fair share.

    :param limit: units at once of the limit.
    :param rate: units per second of the limit.
    :param demand: units per second that are asked for here.
    :param gateways: how many share the limit.
    :param seconds: for how long the units should do; four times that if they are few.
    :return: 0 where it would not be worth it, else 2 or more.
    """
    share = min(rate * seconds, limit) / max(gateways, 1)
    size = min(share, max(demand * seconds, min(4.0 * demand * seconds, _WORTHWHILE)))
    return int(size) if size >= _SMALLEST else 0


def most_leased(limit: float, rate: float, gateways: int, seconds: float) -> int:
    """The most units of one key that one gateway may hold, in leases or on their way."""
    return int(min(rate * seconds, limit) / max(gateways, 1))


def silence(wait: float, limit: float, rate: float) -> float:
    """Seconds for which a request that was refused is refused without asking again.

    At least 10 ms, so that a hot key that is used up does not ask for every request, but never so
    long that a bucket that was empty is over half full: then nothing runs over. At most a second.

    :param wait: seconds until it would be admitted.
    """
    spared = min(_LOUD, max(limit - 1.0, 0.0) / rate / 2.0)
    return min(max(wait, spared), _QUIET)
