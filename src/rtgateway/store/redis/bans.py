"""Bans that hold at all gateways, kept in Redis.

Keys: ``bans`` (hash), ``bans:ends`` (sorted set), ``bans:version``, and a record of refusals for
each subject, ``penalty:<subject>``; all but the version expire. Ends are by the clock of Redis: a
gateway is told how many seconds are left.

Refusals go up in batches. While Redis does not answer they are counted here, by the same rule,
and lead to bans at this gateway only, which stay when Redis is back.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from time import monotonic, time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rtgateway.core.penalty import Penalty
from rtgateway.store.bans import LONGEST_TEXT, MOST_BANS, Bans, Kept, check
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.events import (
    CHANGE_TIMEOUT,
    Event,
    Events,
    EventsLink,
    Replica,
    Word,
    changing,
)

__all__ = ["RedisBans"]

_KIND = "bans"

_MOST_PENDING = 10_000
"""Subjects whose refusals wait to be counted. Refusals of more are not counted."""

_BATCH = 250
"""Subjects of one script: about 1 ms for Redis, and 4 ms if all of them are banned."""

_BATCHES = 4
"""Those that are sent after one `RedisBans.tick`, each when the one before is answered."""


class RedisBans(Bans):
    """See the module.

    :param now: what scripts are told of the time; empty: they ask Redis.
    """

    def __init__(
        self,
        link: EventsLink,
        events: Events,
        penalty: Penalty | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        most: int = MOST_BANS,
        now: Callable[[], bytes] = lambda: b"",
    ) -> None:
        super().__init__(penalty, clock, wall, most)
        self._link = link
        self._events = events
        self._now = now
        self._pending: dict[str, int] = {}
        self._asking = False
        self._batches = 0
        self.replica = Replica(
            link,
            events,
            _KIND,
            read=self._read,
            replace=self._replace,
            apply=self._apply,
            now=now,
        )
        version, bans = self.replica.keys
        self._keys = [version, link.key(_KIND, "ends"), bans]

    def refused(self, subject: str) -> None:
        """See `Bans.refused`; counted with the next `tick`."""
        if self._penalty is None or len(subject) > LONGEST_TEXT:
            return
        pending = self._pending
        count = pending.get(subject)
        if count is not None:
            pending[subject] = count + 1
        elif len(pending) < _MOST_PENDING and not self.banned(subject, self._clock()):
            pending[subject] = 1

    def ban(self, subject: str, seconds: float, reason: str) -> Deferred[None]:
        """See `Bans.ban`."""
        check(subject, seconds, reason)
        args = [*self._first(), subject, b"%.17g" % seconds, reason]
        asked = self._link.run(_BAN, self._keys, args, timeout=CHANGE_TIMEOUT)
        return asked.addCallback(self._banned)

    def _banned(self, said: bytes) -> None:
        self._events.heard(said)

    def lift(self, subject: str, forget: bool = False) -> Deferred[bool]:
        """See `Bans.lift`. What only this gateway knows of is lifted without Redis too."""
        check(subject, 1.0, "")
        keys = [*self._keys, self._record(subject)]
        args = [*self._first(), subject, int(forget)]

        def lifted(reply: Any) -> bool:
            there = subject in self._ends
            self._events.heard(reply[1])
            return reply[0] == 1 or there

        def failed(failure: Failure) -> Failure | bool:
            kept = self._kept.get(subject)
            return self._lift(subject, forget) if kept is not None and kept.local else failure

        asked = self._link.run(_LIFT, keys, args, timeout=CHANGE_TIMEOUT)
        return asked.addCallbacks(lifted, failed)

    def tick(self, now: float) -> None:
        """See `Bans.tick`. Sends what has been counted."""
        super().tick(now)
        self.replica.tick(now)
        self._batches = _BATCHES
        self._send()

    # -- refusals -----------------------------------------------------------------------------

    def _send(self) -> None:
        penalty = self._penalty
        if penalty is None or not self._pending or not self._batches or self._asking:
            return
        self._batches -= 1
        batch = dict(islice(self._pending.items(), _BATCH))
        for subject in batch:
            del self._pending[subject]
        args: list[Word] = [*self._first(), penalty.reason, *penalty.parameters()]
        for subject, count in batch.items():
            args += (_encoded(subject), count)
        keys = [*self._keys, *map(self._record, batch)]

        def counted(reply: Any, error: StoreError | None) -> None:
            self._asking = False
            if error is not None:
                self._count_here(batch)
            elif reply is not None:
                self._events.heard(reply)
            self._send()

        self._asking = True
        self._link.script(_PENALISE, keys, args, counted)

    def _count_here(self, batch: dict[str, int]) -> None:
        now = self._clock()
        for subject, count in batch.items():
            if not self.banned(subject, now):
                self._strike(subject, count, now, local=True)

    def _first(self) -> list[Word]:
        """The arguments of all scripts."""
        return [self._events.channel, self._now(), self._most]

    def _record(self, subject: str) -> bytes:
        return self._link.key("penalty", _encoded(subject))

    # -- the copy -----------------------------------------------------------------------------

    def _read(self, field: bytes, value: bytes, milliseconds: float) -> tuple[str, Kept] | None:
        ends, strikes, reason = value.split(b" ", 2)
        left = (float(ends) - milliseconds) / 1000
        if left <= 0:
            return None
        kept = Kept(self._clock() + left, int(strikes), reason.decode("utf-8", "replace"))
        return field.decode("utf-8", "replace"), kept

    def _apply(self, event: Event) -> None:
        now = self._clock()
        for subject, seconds, strikes, reason in event.get("banned", ()):
            self._pending.pop(subject, None)
            self._impose(subject, Kept(now + seconds, int(strikes), reason))
        subject = event.get("lifted")
        if subject is not None:
            self._pending.pop(subject, None)
            self._lift(subject, event["forget"])


def _encoded(subject: str) -> bytes:
    return subject.encode("utf-8", "replace")


_BAN = changing("ban", "keep_bans")
_LIFT = changing("lift", "keep_bans")
_PENALISE = changing("penalise", "keep_bans")
