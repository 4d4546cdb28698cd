"""Services and instances to look at, and to change: the shapes of ``upstream``, without traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rtgateway.core.breaker import Breaker, BreakerSettings
from rtgateway.core.health import Health
from rtgateway.core.outliers import Ejection, OutlierSettings
from rtgateway.upstream.discovery import Found


class Availability(NamedTuple):
    """Whether an instance may be asked, and why not."""

    ok: bool
    reason: str = ""


@dataclass
class Pool:
    """Connections, counted."""

    open: int = 0
    idle: tuple[str, ...] = ()
    waiting: int = 0


@dataclass
class Settings:
    """Of a service, or of the check of a dependency."""

    critical: bool = False


@dataclass
class Check:
    """The health check of an instance or a dependency."""

    health: Health = field(default_factory=lambda: Health(1, 1))
    last_checked: float | None = None
    last_duration: float | None = None
    last_detail: str = ""
    settings: Settings = field(default_factory=Settings)

    def passes(self, at: float, detail: str = "status 200") -> Check:
        """A check passed, ``at`` seconds of the epoch."""
        self.health.passed(at)
        self.last_checked, self.last_duration, self.last_detail = at, 0.25, detail
        return self

    def fails(self, at: float, detail: str = "status 500") -> Check:
        """A check failed."""
        self.health.failed(at, detail)
        self.last_checked, self.last_duration, self.last_detail = at, 0.25, detail
        return self


def a_breaker() -> Breaker:
    """A real one, without jitter."""
    return Breaker(BreakerSettings(jitter=0.0), lambda: 0.5)


@dataclass(eq=False)
class Instance:
    """An instance that does nothing."""

    service: str = "users"
    label: str = "http://a:3001"
    inflight: int = 0
    streams: int = 0
    latency: float = 0.0
    last_latency: float | None = None
    pool: Pool = field(default_factory=Pool)
    nominal: int = 1
    weight: float = 1.0
    sockets: int = 0
    backup: bool = False
    draining: bool = False
    source: str = "static"
    limit: int = 0
    last_error: str = ""
    ejections: int = 0
    health: Check | None = None
    breaker: Breaker = field(default_factory=a_breaker)
    ejection: Ejection = field(default_factory=lambda: Ejection(OutlierSettings()))

    @property
    def id(self) -> str:
        return self.label.partition("://")[2]

    def available(self, now: float) -> Availability:
        if self.limit and self.inflight >= self.limit:
            return Availability(False, f"limit of {self.limit} requests in flight")
        return self.standing(now)

    def standing(self, now: float) -> Availability:
        reasons = {
            "weight 0": not self.nominal,
            "draining": self.draining,
            "health check failing": self.health is not None and not self.health.health.up,
            "ejected": self.ejection.active(now),
            "circuit open": not self.breaker.ready(now),
        }
        reason = next((words for words, applies in reasons.items() if applies), "")
        return Availability(not reason, reason)


@dataclass
class Budget:
    """Further tries that are allowed."""

    balance: float = 30.0


@dataclass
class Room:
    """Requests that wait."""

    waiting: int = 0
    refused: int = 0


class Discovery:
    """Knows where instances are."""

    def describe(self) -> Mapping[str, Any]:
        return {"source": "dns users.internal", "ttl": 30}


@dataclass(eq=False)
class Service:
    """A service of such instances; what an operator changes is changed, and nothing else."""

    name: str = "users"
    instances: tuple[Instance, ...] = ()
    leaving: tuple[Instance, ...] = ()
    settings: Settings = field(default_factory=Settings)
    breaker: Breaker | None = None
    panicking: bool = False
    requests: int = 0
    retries: dict[int, int] = field(default_factory=dict)
    hedges: int = 0
    budget: Budget | None = None
    budget_refusals: int = 0
    balancer_errors: dict[str, int] = field(default_factory=dict)
    mirrored: dict[str, int] = field(default_factory=dict)
    room: Room | None = None
    limit: int = 0
    discovery: Discovery | None = None

    def find(self, id: str) -> Instance:
        for instance in self.instances:
            if instance.id == id:
                return instance
        raise KeyError(id)

    def add(self, found: Found) -> Instance:
        settings = found.settings
        if any(each.id == settings.id for each in self.instances):
            raise ValueError(f"instance {settings.id} is there already")
        instance = Instance(
            self.name, settings.label, nominal=settings.weight, backup=settings.backup
        )
        self.instances += (instance,)
        return instance

    def remove(self, id: str) -> Instance:
        instance = self.drain(id)
        self.instances = tuple(each for each in self.instances if each is not instance)
        self.leaving += (instance,)
        return instance

    def reweigh(self, id: str, weight: int) -> Instance:
        instance = self.find(id)
        instance.nominal = weight
        return instance

    def drain(self, id: str) -> Instance:
        instance = self.find(id)
        instance.draining = True
        return instance

    def undrain(self, id: str) -> Instance:
        instance = self.find(id)
        instance.draining = False
        return instance
