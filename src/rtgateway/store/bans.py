"""Bans: who gets nothing for a while, by refusals or by an operator.

`Bans` keeps them in this process. What is kept in Redis (`store.redis.bans`) has the same methods
and asks its own copy, which is one of these.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from time import monotonic, time
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed

from rtgateway.core.penalty import Penalty, Record
from rtgateway.net.log import Logger

__all__ = ["LONGEST_BAN", "LONGEST_TEXT", "MOST_BANS", "Ban", "Bans", "Kept"]

log = Logger()

MOST_BANS = 100_000
"""When there are more, those that would end first do so early."""

LONGEST_BAN = 10 * 366 * 86400.0
"""Seconds."""

LONGEST_TEXT = 256
"""Characters of a subject, and of a reason."""

_MOST_RECORDS = 100_000
"""Subjects whose refusals are counted here. Beyond, those refused longest ago are forgotten."""

_SOME = 1000
"""Bans or records that are looked at in one call of `Bans.tick`."""

_MOST_TOLD = 5
"""Subjects that one line of the log names."""


class Kept(NamedTuple):
    """A ban as it is kept. ``end``: monotonic seconds. ``local``: unknown to other gateways."""

    end: float
    strikes: int
    reason: str
    local: bool = False


class Ban(NamedTuple):
    """A ban as it is shown.

    :ivar until: seconds since the epoch, by the clock of this gateway.
    :ivar strikes: bans in a row that refusals led to, this one included; 0: an operator's.
    :ivar local: only this gateway knows of it, because Redis was not there to be told.
    """

    subject: str
    until: float
    reason: str
    strikes: int
    local: bool


class Bans:
    """See the module.

    Subjects are ``ip:<address, or IPv6 /64 network>`` and ``identity:<subject>``.

    :param penalty: the rule by which refusals lead to bans; None: they do not.
    :param clock: monotonic seconds, as what `banned` and `tick` are told.
    :param wall: seconds since the epoch.
    :ivar imposed: bans that began.
    :ivar active: whether there is any ban.
    """

    def __init__(
        self,
        penalty: Penalty | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        most: int = MOST_BANS,
    ) -> None:
        self._penalty = penalty
        self._clock = clock
        self._wall = wall
        self._most = most
        self._ends: dict[str, float] = {}
        self._kept: dict[str, Kept] = {}
        # By their ends; those that do not agree with `_ends` are over.
        self._order: list[tuple[float, str]] = []
        self._records: OrderedDict[str, Record] = OrderedDict()
        self.imposed = 0
        self.active = False
        self._untold: list[str] = []
        self._imposed_before = 0

    # -- for requests -------------------------------------------------------------------------

    def banned(self, subject: str, now: float) -> float:
        """Seconds left of a ban; 0.0: there is none."""
        end = self._ends.get(subject)
        if end is None or end <= now:
            return 0.0
        return end - now

    def refused(self, subject: str) -> None:
        """A limiter refused somebody. Who is banned already is not banned for longer by it."""
        if self._penalty is None or len(subject) > LONGEST_TEXT:
            return
        now = self._clock()
        if not self.banned(subject, now):
            self._strike(subject, 1, now)

    # -- for operators ------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ends)

    def all(self) -> list[Ban]:
        """All bans, in no order."""
        now, offset = self._clock(), self._wall() - self._clock()
        return [
            Ban(subject, kept.end + offset, kept.reason, kept.strikes, kept.local)
            for subject, kept in self._kept.items()
            if kept.end > now
        ]

    def ban(self, subject: str, seconds: float, reason: str) -> Deferred[None]:
        """Ban somebody, or let a ban end at another time.

        :return: fails with `StoreError`: nothing has changed, or that is not known.
        :raises ValueError: at once: one of the arguments makes no sense.
        """
        check(subject, seconds, reason)
        self._impose(subject, Kept(self._clock() + seconds, 0, reason))
        return succeed(None)

    def lift(self, subject: str, forget: bool = False) -> Deferred[bool]:
        """End a ban and forget the refusals that were counted since.

        :param forget: the bans before it as well: the next one is a first one again.
        :return: fires with whether there was a ban; fails with `StoreError`.
        """
        return succeed(self._lift(subject, forget))

    def tick(self, now: float) -> None:
        """Called every 100 ms: forget what has ended."""
        order, ends = self._order, self._ends
        for _ in range(_SOME):
            if not order or order[0][0] > now:
                break
            end, subject = heappop(order)
            if ends.get(subject) == end:
                self._end(subject)
        records = self._records
        for _ in range(_SOME):
            if not records or next(iter(records.values())).useful_until > now:
                break
            records.popitem(last=False)
        self._tell()

    # -- for both twins -----------------------------------------------------------------------

    def _strike(self, subject: str, refusals: int, now: float, local: bool = False) -> None:
        """Count refusals here, and ban who has had too many."""
        penalty = self._penalty
        assert penalty is not None
        records = self._records
        record, seconds = penalty.count(records.pop(subject, None), refusals, now)
        records[subject] = record
        if len(records) > _MOST_RECORDS:
            records.popitem(last=False)
        if seconds:
            self._impose(subject, Kept(now + seconds, record.strikes, penalty.reason, local))

    def _impose(self, subject: str, kept: Kept) -> None:
        self.imposed += 1
        if len(self._untold) < _MOST_TOLD:
            self._untold.append(subject)
        self._put(subject, kept)

    def _put(self, subject: str, kept: Kept) -> None:
        self._ends[subject] = kept.end
        self._kept[subject] = kept
        self.active = True
        heappush(self._order, (kept.end, subject))
        while len(self._ends) > self._most:
            end, other = heappop(self._order)
            if self._ends.get(other) == end:
                self._end(other)
        if len(self._order) > 2 * len(self._ends) + _SOME:
            self._sort()

    def _sort(self) -> None:
        self._order = [(end, subject) for subject, end in self._ends.items()]
        heapify(self._order)

    def _end(self, subject: str) -> None:
        del self._ends[subject], self._kept[subject]
        self.active = bool(self._ends)

    def _lift(self, subject: str, forget: bool) -> bool:
        now = self._clock()
        banned = self.banned(subject, now) > 0
        if subject in self._ends:
            self._end(subject)
        record = self._records.pop(subject, None)
        if record is not None and not forget:
            self._records[subject] = record._replace(ends=now, refusals=0)
        return banned

    def _replace(self, bans: dict[str, Kept]) -> None:
        """These are all that are shared; those known only here stay."""
        now = self._clock()
        kept = {
            subject: ban for subject, ban in self._kept.items() if ban.local and ban.end > now
        } | bans
        self._kept = kept
        self._ends = {subject: ban.end for subject, ban in kept.items()}
        self.active = bool(kept)
        self._sort()

    def _tell(self) -> None:
        """In the log, of all at once: they may be many."""
        new, self._imposed_before = self.imposed - self._imposed_before, self.imposed
        if not new:
            return
        told, self._untold = self._untold, []
        more = f" and {new - len(told)} more" if new > len(told) else ""
        log.info(
            "Banned {who}{more}; bans now: {all}",
            who=", ".join(told),
            more=more,
            all=len(self._ends),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._ends)} bans, {self.imposed} so far>"


def check(subject: str, seconds: float, reason: str) -> None:
    """
    :raises ValueError: this is nothing to ban somebody with.
    """
    if not 0 < len(subject) <= LONGEST_TEXT or not subject.isprintable():
        raise ValueError(f"a subject is a text of 1 to {LONGEST_TEXT} characters")
    if len(reason) > LONGEST_TEXT:
        raise ValueError(f"a reason has at most {LONGEST_TEXT} characters")
    if not (0 < seconds <= LONGEST_BAN and math.isfinite(seconds)):
        raise ValueError(f"a ban has over 0 and at most {LONGEST_BAN:.0f} seconds")
