"""What a gateway knows of one key of a limiter: demand, leases, and refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rtgateway.core.lease import Demand
from rtgateway.core.limits import Taken
from rtgateway.store.limits.asked import Ask

__all__ = ["Known", "Reserved", "Tally", "as_known", "merged"]

_taken = tuple.__new__

Reserved = tuple["Known", int, float]
"""Units that a decision took from a lease, and the end of that lease."""


class Tally:
    """What happened at one limiter, for metrics: counts of units, and of decisions.

    :ivar since: when it got the numbers that it has; seconds, monotonic.
    """

    __slots__ = ("leased", "local", "lost", "returned", "since")

    def __init__(self) -> None:
        self.leased = 0
        self.local = 0
        self.lost = 0
        self.returned = 0
        self.since = -math.inf

    def __repr__(self) -> str:
        return (
            f"<Tally {self.local} decisions, {self.leased} units leased, "
            f"{self.returned} returned, {self.lost} lost>"
        )


class Known(Demand):
    """One key of one limiter. Times are seconds, monotonic.

    It has at most two leases: the one being spent, and the one asked for when that ran low. Each
    unit that was leased is in one of the numbers below until it is spent, returned or lost.

    :ivar ask: the last one: how it is decided.
    :ivar tally: of the limiter.
    :ivar units: left of the lease that is being spent, until ``end``.
    :ivar low: it is time for another one when no more than so many are left, or at ``due``.
    :ivar later: of the next lease, until ``later_end``.
    :ivar ended: units whose lease has ended, to be returned.
    :ivar away: units reserved by decisions that still wait, or being returned.
    :ivar wanted: units being asked for.
    :ivar debt: units granted here beyond this gateway's part; see `degraded`.
    :ivar worth_until: when returning makes no sense any more: the window they are of has ended.
    :ivar remaining: units left in the store at its last answer, leases not counted.
    :ivar reset_at: when the whole quota is there again.
    :ivar refused_until: until then a ``refused_cost`` and more is refused without asking.
    :ivar refused_end: what the store said would be the end of that.
    :ivar spent_at: when a lease was last used.
    :ivar retry_at: not before then is a lease asked for in the background.
    :ivar since: when it was last reset.
    """

    __slots__ = (
        "ask",
        "away",
        "debt",
        "due",
        "end",
        "ended",
        "later",
        "later_end",
        "low",
        "refused_cost",
        "refused_end",
        "refused_until",
        "remaining",
        "reset_at",
        "retry_at",
        "since",
        "spent_at",
        "tally",
        "units",
        "wanted",
        "worth_until",
    )

    def __init__(self, ask: Ask, tally: Tally, now: float) -> None:
        Demand.__init__(self, now)
        self.ask = ask
        self.tally = tally
        self.units = self.low = self.later = self.ended = self.away = self.wanted = 0
        self.debt = 0
        self.end = self.due = self.later_end = self.worth_until = 0.0
        self.remaining = ask.algorithm.limit
        self.reset_at = self.refused_until = self.refused_end = 0.0
        self.spent_at = self.retry_at = 0.0
        self.refused_cost = 0
        self.since = -math.inf

    @property
    def outstanding(self) -> int:
        """Units that count as taken in the store and were not spent here, or may be so soon."""
        return self.units + self.later + self.ended + self.away + self.wanted

    def spend(self, cost: int, now: float) -> float:
        """Take ``cost`` units of the leases.

        :return: the end of the lease they are of; 0.0: there are not enough, and none was taken.
        """
        if now < self.end and cost <= self.units:
            self.units -= cost
            self.spent_at = now
            return self.end
        if not self.later or now >= self.later_end:
            return 0.0
        alive = self.units if now < self.end else 0
        if cost > alive + self.later:
            return 0.0
        self._turn_lease(now)
        # What is left of the first goes into the second, and with it no further than its end: the
        # units taken are said to be of neither, so that none gets a longer life by coming back.
        self.units -= cost - alive
        self.spent_at = now
        return self.end if not alive else -1.0

    def _turn_lease(self, now: float) -> None:
        """The next lease is spent now. What is alive of the first one is the caller's."""
        if now >= self.end:
            self.ended += self.units
        self.units = self.later
        self.low = self.later >> 2
        self.due += self.later_end - self.end
        self.end = self.later_end
        self.later = 0

    def restore(self, cost: int, end: float, taken: float, now: float) -> None:
        """Put back what `spend` took at the time ``taken`` and the decision did not need."""
        if self.outdated(taken):
            self.tally.lost += cost
        elif end == self.end and now < end:
            self.units += cost
        else:
            self.ended += cost

    def lease(self, units: int, end: float, due: float, now: float) -> None:
        """Units were granted, to be spent until ``end``; at ``due`` it is time to ask for more."""
        if now >= end or self.later:
            self.ended += units
        elif self.units and now < self.end:
            self.later = units
            self.later_end = end
        else:
            self.ended += self.units
            self.units = units
            self.low = units >> 2
            self.end = end
            self.due = due
        self.spent_at = now

    def sweep(self, now: float, idle: float) -> int:
        """Units that are to be returned now: their lease has ended, or nobody spends them."""
        if now >= self.end or now - self.spent_at >= idle:
            self.ended += self.units
            self.units = 0
        if self.later and (now >= self.later_end or now - self.spent_at >= idle):
            self.ended += self.later
            self.later = 0
        units, self.ended = self.ended, 0
        return units

    def outdated(self, asked: float) -> bool:
        """Whether what was asked for then says nothing any more: of this key, or its limiter."""
        return asked <= self.since or asked <= self.tally.since

    def forget(self) -> None:
        """Drop leases and refusals: they are of another time."""
        self.tally.lost += self.units + self.later + self.ended
        self.units = self.later = self.ended = 0
        self.end = self.refused_until = 0.0

    def reset(self, now: float) -> None:
        """All that was taken of it is forgotten; what is on its way yet is of before."""
        self.forget()
        self.since = now
        self.debt = 0
        self.remaining = self.ask.algorithm.limit
        self.reset_at = 0.0

    def __repr__(self) -> str:
        return (
            f"<Known {self.ask.limiter.name} {self.rate:.3g}/s, {self.units}+{self.later} units, "
            f"{self.ended} ended, {self.away} away, {self.wanted} wanted>"
        )


def as_known(known: Known, now: float) -> Taken:
    """What can be said of a key without asking: what was left, and what is left of its leases."""
    reset = known.reset_at - now
    # What was left may have been said before a part of the lease was spent.
    left = min(known.remaining + known.units + known.later, known.ask.algorithm.limit)
    return _taken(Taken, (0.0, left, reset if reset > 0.0 else 0.0, 0, 0.0, None))


def merged(
    reserved: Sequence[Reserved | None], taken: Sequence[Taken | None], now: float
) -> list[Taken | None]:
    """What each limiter says: those with a lease from what is known, the others in their order."""
    rest = iter(taken)
    return [next(rest) if each is None else as_known(each[0], now) for each in reserved]
