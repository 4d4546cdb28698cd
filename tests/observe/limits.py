"""Rate limits, bans, IP lists and a store to look at, and to change: no store behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from twisted.internet.defer import Deferred, succeed

from rtgateway.config import RateLimit
from rtgateway.net.tasks import Waiter
from rtgateway.observe.limit_views import ListName


@dataclass
class Usage:
    """What a key has left."""

    key: str
    limit: int = 100
    remaining: int = 40
    reset: float = 6.0


def a_bucket() -> dict[str, Any]:
    """What a configuration says about a token bucket."""
    return {"algorithm": "token_bucket", "per": ["ip"], "capacity": 100, "refill_rate": 10.0}


@dataclass
class Limiter:
    """A token bucket of 100 units, 10 per second, for each address."""

    algorithm: str = "token_bucket"
    per: tuple[str, ...] = ("ip",)
    rate: float = 10.0
    configured: dict[str, Any] = field(default_factory=a_bucket)
    changes: dict[str, Any] = field(default_factory=dict)
    persisted: bool = False
    factor: float | None = None

    @property
    def current(self) -> dict[str, Any]:
        return self.configured | self.changes

    @property
    def changed(self) -> bool:
        return bool(self.changes)


@dataclass
class Leases:
    """Those of a limiter."""

    live: int = 0
    leased: int = 0
    returned: int = 0
    local: int = 0


@dataclass
class Limits:
    """All limiters.

    :ivar waits_for: what a wait is for, settled by a test; None: nobody waits.
    :ivar error: raised where something is asked of the store.
    """

    mode: Literal["memory", "redis"] = "memory"
    degraded: bool = False
    degraded_since: float = 0.0
    degraded_seconds: float = 0.0
    gateways: int = 1
    limiters: dict[str, Limiter] = field(default_factory=dict)
    decisions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    exceeded: dict[tuple[str, str], int] = field(default_factory=dict)
    denied: int = 0
    banned: int = 0
    leases: dict[str, Leases] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    used: dict[str, list[Usage]] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    most_numbers: int = 10
    error: Exception | None = None
    waits_for: Waiter[None] | Deferred[None] | None = None

    async def usage(self, name: str, count: int) -> Sequence[Usage]:
        await self._store()
        return self.used.get(name, [])[:count]

    async def reset(self, subject: str) -> int:
        await self._store()
        return self.known.pop(subject, 0)

    async def change(self, name: str, numbers: Mapping[str, Any], persist: bool) -> None:
        await self._store()
        limiter = self.limiters[name]
        RateLimit(capacity=100, refill_rate=10.0).effective(numbers)
        if len(numbers) > self.most_numbers:
            raise ValueError("this is too much to keep")
        limiter.changes, limiter.persisted = dict(numbers), persist

    async def restore(self, name: str) -> None:
        await self._store()
        self.limiters[name].changes = {}
        self.limiters[name].persisted = False

    async def _store(self) -> None:
        if self.waits_for is not None:
            await self.waits_for
        if self.error is not None:
            raise self.error


@dataclass
class Ban:
    """One that refusals led to."""

    subject: str
    until: float
    reason: str = "10 refusals"
    strikes: int = 1
    local: bool = False


@dataclass
class Bans:
    """Who is banned, until when by this clock."""

    there: dict[str, Ban] = field(default_factory=dict)
    imposed: int = 0
    error: Exception | None = None
    now: float = 1_800_000_000.0

    def __len__(self) -> int:
        return len(self.there)

    def all(self) -> list[Ban]:
        return list(self.there.values())

    def ban(self, subject: str, seconds: float, reason: str) -> None:
        if self.error is not None:
            raise self.error
        if reason == "nonsense":
            raise ValueError("this makes no sense")
        self.there[subject] = Ban(subject, self.now + seconds, reason)
        self.imposed += 1

    def lift(self, subject: str) -> Deferred[bool]:
        if self.error is not None:
            raise self.error
        return succeed(self.there.pop(subject, None) is not None)


@dataclass
class IpLists:
    """Both lists: networks in words, and where they are from."""

    lists: dict[str, dict[str, str]] = field(default_factory=lambda: {"allow": {}, "deny": {}})
    most: int = 20_000
    error: Exception | None = None

    @property
    def allow(self) -> dict[str, str]:
        return self.lists["allow"]

    @property
    def deny(self) -> dict[str, str]:
        return self.lists["deny"]

    def entries(self, which: ListName) -> list[tuple[str, str]]:
        return list(self.lists[which].items())

    def verdict(self, ip: str) -> str:
        single = ip + ("/128" if ":" in ip else "/32")
        return next((which for which, each in self.lists.items() if single in each), "")

    async def add(self, which: ListName, networks: Sequence[str]) -> int:
        if self.error is not None:
            raise self.error
        there = self.lists[which]
        new = [each for each in networks if each not in there]
        if len(there) + len(new) > self.most:
            raise ValueError(f"there may be {self.most} networks at most")
        there.update(dict.fromkeys(new, "runtime"))
        return len(new)

    async def remove(self, which: ListName, networks: Sequence[str]) -> int:
        if self.error is not None:
            raise self.error
        there = self.lists[which]
        if any(there.get(each) == "config" for each in networks):
            raise ValueError("one of them is configured")
        gone = [each for each in networks if there.get(each) == "runtime"]
        for each in gone:
            del there[each]
        return len(gone)


@dataclass
class Store:
    """A connection to a shared store."""

    up: bool = True
    failing_since: float = 0.0
    durations: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], int] = field(default_factory=dict)
    deaf: bool = False


@dataclass
class State:
    """All of it."""

    limits: Limits = field(default_factory=Limits)
    bans: Bans = field(default_factory=Bans)
    ip_lists: IpLists = field(default_factory=IpLists)
    store: Store | None = None
