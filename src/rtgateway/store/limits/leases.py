"""Leases of units: asking for them, and giving back what is left. The rules are in `shared`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from rtgateway.core.lease import lease_size, most_leased, silence
from rtgateway.core.limits import Taken
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.asked import Ask, Limiter
from rtgateway.store.limits.degraded import Counted, Degraded
from rtgateway.store.limits.keys import Keys
from rtgateway.store.limits.known import Known
from rtgateway.store.limits.redis import Answered, GivenBack

__all__ = ["LeaseSettings", "Leases", "Reachable", "Shared"]

_MOST_HELD = 10_000
"""Keys with leases; beyond, the store is asked for every request."""

_SWEPT = 2_000
"""Keys looked at in one tick, so that none takes over a millisecond or two."""

_BATCH = 50
"""Keys in one call that returns units: what Redis does in some 0.1 ms."""

_LIVES = 3.0
"""A lease lasts for so many times the seconds whose units may be held: those of a key that is asked
for now and then are to be spent, too."""

_RETRY = 0.1
"""Seconds before a lease is asked for again that was not answered or not granted."""


class LeaseSettings(Protocol):
    """The section ``state.leases`` of the configuration."""

    @property
    def enabled(self) -> bool: ...
    @property
    def duration(self) -> float: ...
    @property
    def minimum_rate(self) -> float: ...


class Reachable(Protocol):
    """The connection to the store. ``up``: it may be asked."""

    @property
    def up(self) -> bool: ...


class Shared(Protocol):
    """The limits all gateways share: `store.limits.redis.RedisLimits`."""

    def ask(self, asks: Sequence[Ask], wants: Sequence[int], done: Answered) -> None: ...
    def give_back(
        self, items: Sequence[GivenBack], done: Callable[[int | None, StoreError | None], None]
    ) -> None: ...
    def reset(
        self,
        limiters: Sequence[Limiter],
        key: str,
        done: Callable[[int | None, StoreError | None], None],
    ) -> None: ...
    async def reset_matching(
        self, limiters: Sequence[Limiter], part: str, about: Callable[[str], bool]
    ) -> int: ...


class Leases:
    """The leases of this gateway.

    :param settle: seconds in which every gateway learns of a new one, and in which whatever was
        sent comes to the store, or never will. At first, and each time after the store was down,
        there are no leases for so long, and for as long as a lease lasts that was made by one who
        did not know better.
    """

    __slots__ = (
        "_clock",
        "_degraded",
        "_doubtful",
        "_from",
        "_gateways",
        "_keys",
        "_link",
        "_lives",
        "_round",
        "_settings",
        "_settle",
        "_shared",
    )

    def __init__(
        self,
        keys: Keys,
        shared: Shared,
        link: Reachable,
        gateways: Counted,
        degraded: Degraded,
        settings: LeaseSettings,
        clock: Callable[[], float],
        settle: float,
    ) -> None:
        self._keys = keys
        self._shared = shared
        self._link = link
        self._gateways = gateways
        self._degraded = degraded
        self._settings = settings
        self._clock = clock
        self._settle = settle
        # Who vanishes is counted for five heartbeats, and `settle` is two of them.
        lives = min(_LIVES * settings.duration, 1.5 * settle) if settle else settings.duration
        self._lives = lives
        self._from = clock() + settle + lives
        # Each key that is held, in turn.
        self._round: deque[Known] = deque()
        # Units of which nobody knows whether they were returned, and until when they may be.
        self._doubtful: deque[tuple[float, Known, int]] = deque()

    def interrupted(self, now: float) -> None:
        """The store was down: nobody may know of this gateway any more."""
        self._from = now + self._settle + self._lives

    def wanted(self, known: Known, ask: Ask, now: float) -> int:
        """How many units to ask for beyond the cost; 0 or more."""
        algorithm = ask.algorithm
        settings = self._settings
        if (
            known.wanted
            or known.later
            or now < self._from
            or not settings.enabled
            or not ask.limiter.leases
            or not algorithm.leasable
            or len(self._keys.held) >= _MOST_HELD
        ):
            return 0
        demand = known.at(now)
        if demand < settings.minimum_rate:
            return 0
        count, seconds = self._gateways.count, settings.duration
        limit, rate = algorithm.limit, algorithm.rate
        # Half a lease's time: two of them, one nearly spent, are no more than may be held.
        size = lease_size(limit, rate, demand, count, seconds / 2.0)
        return max(min(size, most_leased(limit, rate, count, seconds) - known.outstanding), 0)

    def renew(self, known: Known, ask: Ask, now: float) -> None:
        """Ask for the next lease, so that no request has to wait for it."""
        if known.wanted or now < known.refused_until or now < known.retry_at or not self._link.up:
            return
        want = self.wanted(known, ask, now)
        if want < 2:
            known.retry_at = now + _RETRY
            return
        known.wanted = want
        # One unit is its cost: a look would not say until when there is nothing.
        ask = Ask(ask.limiter, ask.algorithm, ask.key, 1)

        def answered(taken: Sequence[Taken] | None, error: StoreError | None) -> None:
            known.wanted = 0
            if taken is None:
                known.retry_at = self._clock() + _RETRY
                return
            (each,) = taken
            if not each.wait:
                each = each._replace(extra=each.extra + 1, remaining=each.remaining + 1)
            self.learn(known, ask, each, now, 0 if each.wait else each.extra)

        self._shared.ask((ask,), (want - 1,), answered)

    def learn(self, known: Known, ask: Ask, taken: Taken, sent: float, granted: int) -> None:
        """The store said something about a key.

        :param sent: when it was asked. A lease is good from then: the store took its units later.
        :param granted: units, with ``taken.extra``; 0 where the decision as a whole was refused.
        """
        now = self._clock()
        algorithm = ask.algorithm
        if known.outdated(sent):
            extra = taken.extra if granted else 0
            known.tally.leased += extra
            known.tally.lost += extra
            return
        if known.ask.algorithm is not algorithm:
            if known.ask.algorithm != algorithm:
                # Units of another limit cannot be returned to this one.
                known.forget()
            known.ask = ask
        known.reset_at = now + taken.reset
        known.remaining = taken.remaining
        if granted:
            self._degraded.charge(known, ask, granted)
        if taken.wait:
            known.refused_until = sent + silence(taken.wait, algorithm.limit, algorithm.rate)
            known.refused_end = sent + taken.wait
            known.refused_cost = ask.cost
        elif granted and taken.extra:
            known.remaining = max(taken.remaining - taken.extra, 0)
            known.tally.leased += taken.extra
            seconds = self._lives
            end = sent + seconds
            if algorithm.name == "fixed_window":
                # What is left of a window is worth nothing in the next one.
                ends = sent + taken.reset
                end = min(end, ends)
                # Units of the window before may be there still, and must not go into this one.
                if known.units or known.later or known.ended:
                    ends = min(ends, known.worth_until)
                known.worth_until = ends
            known.lease(taken.extra, end, end - seconds / 4.0, now)
            self._hold(known)

    def tick(self, now: float) -> None:
        """Give back what has ended or is not spent."""
        idle = self._lives / 2.0
        while self._doubtful and self._doubtful[0][0] <= now:
            _, known, units = self._doubtful.popleft()
            known.away -= units
        back: list[tuple[Known, int]] = []
        round_ = self._round
        for _ in range(min(len(round_), _SWEPT)):
            known = round_.popleft()
            units = known.sweep(now, idle)
            if units:
                back.append((known, units))
            if units or known.outstanding:
                round_.append(known)
            else:
                self._keys.release(known)
        self._return(back, now)

    def surrender(self, now: float) -> None:
        """The gateway stops: give back everything that is left."""
        self._from = float("inf")
        back = [(known, known.sweep(now, 0.0)) for known in self._round]
        self._return([each for each in back if each[1]], now)

    def live(self, now: float) -> dict[str, int]:
        """How many keys of each limiter are decided by lease now."""
        counts: dict[str, int] = {}
        for (name, _), known in self._keys.held.items():
            if (known.units and now < known.end) or (known.later and now < known.later_end):
                counts[name] = counts.get(name, 0) + 1
        return counts

    def _hold(self, known: Known) -> None:
        if self._keys.hold(known):
            self._round.append(known)

    def _return(self, back: list[tuple[Known, int]], now: float) -> None:
        worth = []
        for known, units in back:
            if 0.0 < known.worth_until <= now + self._settle or not self._link.up:
                known.tally.lost += units
            else:
                worth.append((known, units))
        for i in range(0, len(worth), _BATCH):
            self._give_back(worth[i : i + _BATCH])

    def _give_back(self, batch: list[tuple[Known, int]]) -> None:
        items: list[GivenBack] = []
        for known, units in batch:
            known.away += units
            limiter, algorithm, key, _ = known.ask
            items.append((limiter, algorithm, key, units))

        def answered(_: int | None, error: StoreError | None) -> None:
            doubtful = error is not None and error.reason in ("timeout", "lost")
            until = self._clock() + self._settle
            for known, units in batch:
                if error is None:
                    known.tally.returned += units
                else:
                    known.tally.lost += units
                if doubtful:
                    self._doubtful.append((until, known, units))
                else:
                    known.away -= units

        self._shared.give_back(items, answered)

    def __repr__(self) -> str:
        return f"<Leases of {len(self._keys.held)} keys, {len(self._doubtful)} returns in doubt>"
