"""What a gateway knows of the keys of its limiters: demand, leases, and refusals.

At most 100,000 keys are known, the least recently used are forgotten first. A key that is asked for
once a second or less costs a time in a table and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rtgateway.core.lease import Demand
from rtgateway.core.limits import Taken
from rtgateway.store.limits.asked import Ask

__all__ = ["Keys", "Known", "Reserved", "Tally", "as_known", "merged"]

_MOST = 100_000
_SHARDS = 64
_COLD = 1.0
"""Seconds after which a second request is like a first one."""

_DUE = Demand.DUE
_MANY = Demand.MANY
_taken = tuple.__new__

Reserved = tuple["Known", int, float]
"""Units that a decision took from a lease, and the end of that lease."""


class Tally:
    """What happened at one limiter, for metrics: counts of units, and of decisions."""

    __slots__ = ("leased", "local", "lost", "returned")

    def __init__(self) -> None:
        self.leased = 0
        self.local = 0
        self.lost = 0
        self.returned = 0

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

    def restore(self, cost: int, end: float, now: float) -> None:
        """Put back what `spend` took and the decision did not need."""
        if end == self.end and now < end:
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

    def forget(self) -> int:
        """Drop leases and refusals: they are of another time. Returns the units lost."""
        lost = self.units + self.later + self.ended
        self.units = self.later = self.ended = 0
        self.end = self.refused_until = 0.0
        return lost

    def __repr__(self) -> str:
        return (
            f"<Known {self.ask.limiter.name} {self.rate:.3g}/s, {self.units}+{self.later} units, "
            f"{self.ended} ended, {self.away} away, {self.wanted} wanted>"
        )


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
    """

    __slots__ = ("_shards", "_share", "_tallies", "held")

    def __init__(self, most: int = _MOST) -> None:
        self.held: dict[tuple[str, str], Known] = {}
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

    def tallies(self) -> Iterator[tuple[str, Tally]]:
        """Of each limiter, by name."""
        return iter(list(self._tallies.items()))

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
