"""Numbers of limiters for all gateways, kept in Redis: ``limiter-settings`` (hash) and its version.

What does not persist is kept as `LimiterSettings` keeps it. When numbers are kept for all, or
forgotten for all, every gateway forgets what it had for itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from rtgateway.store.limiter_settings import MOST_SETTINGS, LimiterSettings, encoded, too_many
from rtgateway.store.redis.events import (
    CHANGE_TIMEOUT,
    Event,
    Events,
    EventsLink,
    Replica,
    Word,
    changing,
)

__all__ = ["RedisLimiterSettings"]

_KIND = "limiter-settings"


class RedisLimiterSettings(LimiterSettings):
    """See the module and `LimiterSettings`."""

    persistent = True

    def __init__(self, link: EventsLink, events: Events) -> None:
        super().__init__()
        self._link = link
        self._events = events
        self.replica = Replica(
            link, events, _KIND, read=_read, replace=self._replace, apply=self._apply
        )

    def clear(self, name: str) -> Deferred[bool]:
        """See `LimiterSettings.clear`. What holds here only is forgotten without Redis too."""
        there = name in self._here
        only_here = there and name not in self._shared

        def failed(failure: Failure) -> Deferred[bool]:
            return succeed(self._drop(name)) if only_here else fail(failure)

        cleared = self._ask(name, b"")
        return cleared.addCallbacks(lambda known: known or there, failed)

    def tick(self, now: float) -> None:
        """See `LimiterSettings.tick`."""
        self.replica.tick(now)

    def _keep(self, name: str, numbers: Mapping[str, Any]) -> Deferred[None]:
        return self._ask(name, encoded(numbers)).addCallback(lambda known: None)

    def _ask(self, name: str, numbers: bytes) -> Deferred[bool]:
        args: list[Word] = [self._events.channel, b"", MOST_SETTINGS, name, numbers]

        def answered(reply: Any) -> bool:
            known, said = reply
            if known < 0:
                raise too_many()
            self._events.heard(said)
            return bool(known)

        asked = self._link.run(_SET, self.replica.keys, args, timeout=CHANGE_TIMEOUT)
        return asked.addCallback(answered)

    # -- the copy -----------------------------------------------------------------------------

    def _replace(self, entries: dict[str, dict[str, Any]]) -> None:
        if entries != self._shared:
            self._shared = entries
            self._changed()

    def _apply(self, event: Event) -> None:
        name, numbers = event["name"], event.get("numbers")
        if numbers is None:
            self._drop(name)
            return
        self._here.pop(name, None)
        self._shared[name] = json.loads(numbers)
        self._changed()


def _read(name: bytes, numbers: bytes, milliseconds: float) -> tuple[str, dict[str, Any]] | None:
    value = json.loads(numbers)
    return (name.decode("utf-8", "replace"), value) if isinstance(value, dict) else None


_SET = changing("set_limiter")
