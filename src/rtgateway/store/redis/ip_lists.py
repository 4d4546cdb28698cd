"""Networks on the lists of all gateways, kept in Redis: ``ip-lists`` (hash) and its version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred

from rtgateway.core.networks import Network, parse_network, spell
from rtgateway.store.ip_lists import LISTS, MOST_NETWORKS, IpLists, ListName, too_many
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
            read=_read,
            replace=self._replace,
            apply=self._apply,
        )

    def add(self, which: ListName, networks: Sequence[str]) -> Deferred[int]:
        """See `IpLists.add`. More than 1000 are added in parts: if that fails, some may be there,
        and to add all of them again does no harm."""
        parsed = set(map(parse_network, networks))
        if len(parsed) > self._most:
            raise too_many(self._most)
        return Deferred.fromCoroutine(self._in_parts(which, parsed, str(self._most)))

    def remove(self, which: ListName, networks: Sequence[str]) -> Deferred[int]:
        """See `IpLists.remove`; in parts, like `add`."""
        return Deferred.fromCoroutine(self._in_parts(which, self._removable(which, networks), ""))

    def tick(self, now: float) -> None:
        """See `IpLists.tick`."""
        self.replica.tick(now)

    async def _in_parts(self, which: ListName, networks: Iterable[Network], most: str) -> int:
        texts = list(map(spell, networks))
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

    def _replace(self, entries: dict[str, Network]) -> None:
        for which in LISTS:
            networks = {each for field, each in entries.items() if field.startswith(which)}
            there = self._added[which]
            if networks != there:
                self._change(which, networks - there, there - networks)

    def _apply(self, event: Event) -> None:
        added, removed = (
            frozenset(map(parse_network, event.get(word, ()))) for word in ("added", "removed")
        )
        self._change(event["list"], added, removed)


def _read(field: bytes, value: bytes, milliseconds: float) -> tuple[str, Network]:
    text = field.decode()
    return text, parse_network(text.partition(" ")[2])


_LIST = changing("list_networks")
