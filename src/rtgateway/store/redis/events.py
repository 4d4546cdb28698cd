"""Copies of what is in Redis, in every gateway: told of each change, and read anew when in doubt.

Who changes something runs a script that writes, counts the change (its version) and says what it
is to all gateways (``announce.lua``). It hears that as they do, from the reply if that comes first.
So a copy knows whether it has missed a change, and then is read anew, in pages, while what changes
meanwhile waits to be applied. Where nothing is heard (a user without channels, no connection to
spare), the version is looked at once a second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.script import Script, load

__all__ = [
    "CHANGE_TIMEOUT",
    "Event",
    "Events",
    "EventsLink",
    "Replica",
    "Word",
    "changing",
    "channel_of",
]

log = Logger()

CHANGE_TIMEOUT = 1.0
"""Seconds for what an operator changes."""

_READ_TIMEOUT = 2.0
"""Seconds for a page of a copy."""

_PAGE = 1000
"""Entries that are read at once: about 1 ms for Redis, and for a gateway."""

_MOST_AHEAD = 1000
"""Changes that wait for an earlier one."""

_PATIENCE = 1.0
"""Seconds until a change that was missed is given up, or reading is tried again."""

_LOOK = 1.0
"""Seconds between looks at the version, while nothing is heard."""

_HALF_DEAF = 0.5
"""Seconds until the first: subscribing takes longer than connecting."""

_SOON = -math.inf
"""In place of a time: `_PATIENCE` after the next tick, which knows what time it is."""

Event = dict[str, Any]
T = TypeVar("T")
Word = str | bytes | int | float


class EventsLink(Protocol):
    """What is used here of ``store.redis.link.Link``."""

    @property
    def deaf(self) -> bool: ...
    def call(
        self, command: tuple[Word, ...], done: Callable[[Any, StoreError | None], None]
    ) -> None: ...
    def run(
        self,
        script: Script,
        keys: Sequence[Word],
        args: Sequence[Word],
        timeout: float | None = None,
    ) -> Deferred[Any]: ...
    def script(
        self,
        script: Script,
        keys: Sequence[Word],
        args: Sequence[Word],
        done: Callable[[Any, StoreError | None], None],
    ) -> None: ...
    def subscribe(self, channel: bytes, heard: Callable[[bytes], None]) -> None: ...
    def on_connected(self, callback: Callable[[], None]) -> None: ...
    def key(self, *parts: str | bytes) -> bytes: ...


class Named(Protocol):
    """The part of a link that knows what keys and channels are called."""

    def key(self, *parts: str | bytes) -> bytes: ...


def channel_of(link: Named) -> bytes:
    """The channel on which gateways tell each other what has changed."""
    return link.key("events")


@cache
def changing(name: str, *before: str) -> Script:
    """The script ``name``, which uses ``announce.lua`` and what else comes ``before`` it."""
    parts = [load(each).text for each in ("announce", *before, name)]
    return Script(name, b"\n".join(parts).decode())


class Events:
    """What is said on the one channel that all gateways share, handed to those it is for."""

    def __init__(self, link: EventsLink) -> None:
        self.channel = channel_of(link)
        self._listeners: dict[str, Callable[[Event], None]] = {}
        link.subscribe(self.channel, self._heard)

    def listen(self, kind: str, heard: Callable[[Event], None]) -> None:
        """Call ``heard`` with each change of a kind."""
        self._listeners[kind] = heard

    def _heard(self, payload: bytes) -> None:
        self.heard(payload)

    def heard(self, payload: bytes) -> Event:
        """A change: from the channel, or from the reply to who asked for it."""
        try:
            event: Event = json.loads(payload)
            listener = self._listeners.get(event["kind"])
            if listener is not None:
                listener(event)
        except Exception:
            # Copies are read anew, at the latest, when the next change shows that one is missing.
            log.failure("A change told by Redis could not be applied")
            return {}
        return event

    def __repr__(self) -> str:
        return f"<Events for {', '.join(self._listeners) or 'nobody'}>"


class Replica(Generic[T]):
    """Keeps one copy in step.

    :param kind: of its changes, and a part of its keys.
    :param read: name and entry from a field and its value, and Redis's time in milliseconds; None:
        it is over.
    :param replace: these are all entries, by name.
    :param apply: a change.
    :ivar keys: of the version and of the hash.
    :ivar in_step: whether the copy was what is in Redis, by all that was heard of it.
    """

    def __init__(
        self,
        link: EventsLink,
        events: Events,
        kind: str,
        *,
        read: Callable[[bytes, bytes, float], tuple[str, T] | None],
        replace: Callable[[dict[str, T]], None],
        apply: Callable[[Event], None],
        now: Callable[[], bytes] = lambda: b"",
    ) -> None:
        self.keys = (link.key(kind, "version"), link.key(kind))
        self.in_step = False
        self._link = link
        self._kind = kind
        self._read = read
        self._replace = replace
        self._apply = apply
        self._now = now
        self._version = 0
        # Counts the times that reading was begun: 0 before the first.
        self._reading_of = 0
        self._reading = False
        # By version. `_missed`: there were more.
        self._ahead: dict[int, Event] = {}
        self._missed = False
        self._again_at = math.inf
        self._look_at = math.inf
        events.listen(kind, self._heard)
        link.on_connected(self.read)

    def read(self) -> None:
        """Read everything anew; the copy stays as it is until that is done."""
        self._reading_of += 1
        self._reading = True
        self._again_at = math.inf
        # Whatever has been heard by now is in what will be read.
        self._ahead.clear()
        self._missed = False
        Deferred.fromCoroutine(self._pages(self._reading_of)).addErrback(
            self._not_read, self._reading_of
        )

    async def _pages(self, reading: int) -> None:
        entries: dict[str, T] = {}
        version, cursor = -1, b"0"
        while version < 0 or cursor != b"0":
            args: list[Word] = [b"", self._now(), cursor, _PAGE]
            reply = await self._link.run(_COPY, self.keys, args, timeout=_READ_TIMEOUT)
            if reading != self._reading_of:
                return
            of_page, now, cursor, items = reply
            # What changed since the first page may be in the others or not: it is applied again.
            version = int(of_page) if version < 0 else version
            milliseconds = float(now)
            for field, value in zip(items[::2], items[1::2], strict=True):
                entry = self._read(field, value, milliseconds)
                if entry is not None:
                    entries[entry[0]] = entry[1]
        self._reading = False
        if version < self._version:
            log.warn("Redis has lost {kind}: what it has now holds", kind=self._kind)
        self._replace(entries)
        self._version = version
        self.in_step = True
        self._catch_up()

    def _not_read(self, failure: Any, reading: int) -> None:
        if reading == self._reading_of:
            self._reading = False
            self.in_step = False
            self._again_at = _SOON
            if not failure.check(StoreError):
                log.failure("A copy of {kind} could not be read", failure, kind=self._kind)

    # -- changes ------------------------------------------------------------------------------

    def _heard(self, event: Event) -> None:
        version = int(event["version"])
        if self.in_step and not self._reading and version <= self._version:
            return
        if len(self._ahead) < _MOST_AHEAD:
            self._ahead[version] = event
        else:
            self._missed = True
        self._catch_up()

    def _catch_up(self) -> None:
        """Apply what comes next, as far as it is there."""
        if self._reading or not self.in_step:
            return
        ahead = self._ahead
        for version in [version for version in ahead if version <= self._version]:
            del ahead[version]
        while (event := ahead.pop(self._version + 1, None)) is not None:
            self._version += 1
            self._apply(event)
        if not ahead and not self._missed:
            self._again_at = math.inf
        elif self._again_at == math.inf:
            # What is missing may be on its way yet, by the other connection.
            self._again_at = _SOON

    def tick(self, now: float) -> None:
        """Called every 100 ms with monotonic seconds."""
        if not self._link.deaf:
            self._look_at = math.inf
        elif self._look_at == math.inf:
            self._look_at = now + _HALF_DEAF
        elif now >= self._look_at:
            self._look_at = now + _LOOK
            self._look()
        if self._again_at == math.inf:
            return
        if self._again_at == _SOON:
            self._again_at = now + _PATIENCE
        elif now >= self._again_at:
            self.read()

    def _look(self) -> None:
        """Read anew if there was a change."""
        if self._reading:
            return
        if not self.in_step:
            self.read()
            return

        def answered(version: bytes | None, error: StoreError | None) -> None:
            if error is None and int(version or 0) != self._version and not self._reading:
                self.read()

        self._link.call(("GET", self.keys[0]), answered)

    def __repr__(self) -> str:
        state = "in step" if self.in_step else "not in step"
        return f"<Replica of {self._kind} {state}, version {self._version}>"


_COPY = changing("copy")
