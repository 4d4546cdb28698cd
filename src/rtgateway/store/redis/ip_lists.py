"""Networks on the lists of all gateways, kept in Redis: ``ip-lists`` (hash) and its version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from twisted.internet.defer import Deferred

from rtgateway.store.ip_lists import MOST_NETWORKS, IpLists, ListName, normalised, too_many
from rtgateway.store.redis.events import (
    CHANGE_TIMEOUT,
    Event,
    Events,
    EventsLink,
    Replica,
    changing,
)

__all__ = ["RedisIpLists"]

_KIND = "ip-lists"

_AT_ONCE = 1000
"""Networks of one script: about 2 ms for Redis."""


class RedisIpLists(IpLists):
    """See the module and `IpLists`."""

    def __init__(
        self,
        link: EventsLink,
        events: Events,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        most: int = MOST_NETWORKS,
    ) -> None:
        super().__init__(allow, deny, most)
        self._link = link
        self._events = events
        self.replica = Replica(
            link,
            events,
            _KIND,
            read=lambda field, value, milliseconds: field.decode(),
            replace=self._replace,
            apply=self._apply,
        )

    def add(self, which: ListName, networks: Sequence[str]) -> Deferred[int]:
        """See `IpLists.add`. More than 1000 are added in parts: if that fails, some may be there,
        and to add all of them again does no harm."""
        texts = normalised(networks)
        if len(texts) > self._most:
            raise too_many(self._most)
        return Deferred.fromCoroutine(self._in_parts(which, texts, str(self._most)))

    def remove(self, which: ListName, networks: Sequence[str]) -> Deferred[int]:
        """See `IpLists.remove`; in parts, like `add`."""
        return Deferred.fromCoroutine(self._in_parts(which, self._removable(which, networks), ""))

    def tick(self, now: float) -> None:
        """See `IpLists.tick`."""
        self.replica.tick(now)

    async def _in_parts(self, which: ListName, texts: Sequence[str], most: str) -> int:
        total = 0
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            args = [self._events.channel, b"", which, most, *part]
            keys = self.replica.keys
            count, said = await self._link.run(_LIST, keys, args, timeout=CHANGE_TIMEOUT)
            if count < 0:
                raise too_many(self._most)
            if said is not None:
                self._events.heard(said)
            total += count
        return total

    # -- the copy -----------------------------------------------------------------------------

    def _replace(self, entries: dict[bytes, str]) -> None:
        for which in cast("tuple[ListName, ...]", ("allow", "deny")):
            prefix = f"{which} "
            texts = {
                entry.removeprefix(prefix) for entry in entries.values() if entry.startswith(prefix)
            }
            there = self._added[which]
            if texts != there:
                self._change(which, texts - there, there - texts)

    def _apply(self, event: Event) -> None:
        self._change(event["list"], event.get("added", ()), event.get("removed", ()))


_LIST = changing("list_networks")
