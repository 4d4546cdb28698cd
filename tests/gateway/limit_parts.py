"""What tests of the limits of a route put together: requests, limiters, a clock, stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.internet.task import Clock as Reactor

from rtgateway import config
from rtgateway.core.limits import Taken
from rtgateway.core.tokens import Identity
from rtgateway.errors import ClientGone, GatewayError
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.limits import Access, Limits
from rtgateway.gateway.limits.control import _holds
from rtgateway.gateway.limits.keys import of_client
from rtgateway.gateway.limits.level import Level
from rtgateway.gateway.limits.limiter import Limiter
from rtgateway.net.tasks import Task, Waiter
from rtgateway.store.bans import Bans
from rtgateway.store.build import penalty_of
from rtgateway.store.ip_lists import IpLists
from rtgateway.store.limits.asked import Ask, Outcome
from rtgateway.store.limits.memory import MemoryLimits
from rtgateway.wire.http1 import HeadLimits, RequestParser

__all__ = ["Asked", "Clock", "Gone", "Scripted", "Stage", "bucket", "limiter_of", "person", "taken"]

_SETTINGS: dict[str, Any] = {
    "services": {"main": "http://127.0.0.1:1", "other": "http://127.0.0.1:2"},
    "routes": [
        {"path": "/dear", "service": "main", "name": "dear"},
        {"path": "/cheap", "service": "main", "name": "cheap"},
    ],
    "auth": {"jwt": {"secret": "only for this test, and long enough for its algorithm"}},
}


def settings_of(more: Mapping[str, Any]) -> config.Config:
    """A whole configuration."""
    return config.from_dict({**_SETTINGS, **more})


def bucket(capacity: float, refill_rate: float = 1.0, **more: Any) -> dict[str, Any]:
    """A token bucket as in the configuration."""
    return {"capacity": capacity, "refill_rate": refill_rate, **more}


def limiter_of(**settings: Any) -> Limiter:
    """A limiter called ``it``."""
    return Limiter("it", settings_of({"rate_limits": {"it": settings}}).rate_limits["it"])


def person(subject: str = "ann", **claims: Any) -> Identity:
    """Somebody with a token."""
    return Identity(subject, {"sub": subject, **claims})


def taken(wait: float = 0.0, remaining: int = 1, reset: float = 1.0, delay: float = 0.0) -> Taken:
    """What a limiter says."""
    return Taken(wait, remaining, reset, 0, delay, None)


class Asked(Exchange):
    """A request of which limits are asked."""

    def __init__(
        self,
        *lines: str | bytes,
        ip: str = "203.0.113.7",
        identity: Identity | None = None,
        method: str = "GET",
    ) -> None:
        fields = [each if isinstance(each, bytes) else each.encode() for each in lines]
        head = b"\r\n".join((f"{method} /x HTTP/1.1".encode(), b"Host: test", *fields, b"", b""))
        parser = RequestParser(HeadLimits(line=8192, size=65536, count=100))
        parsed = parser.feed(head)
        assert parsed is not None
        super().__init__(cast("Any", None), parsed, 0.0)
        self.client_ip = ip
        self.identity = identity


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scripted:
    """A store that answers when, and what, the test says.

    :ivar asked: what it was asked, each with what its answer goes into.
    """

    asked: list[tuple[Sequence[Ask], Waiter[Outcome]]] = field(default_factory=list)
    at_once: Outcome | None = None

    def decide(self, asks: Sequence[Ask]) -> Outcome | Waiter[Outcome]:
        waiter: Waiter[Outcome] = Waiter()
        self.asked.append((asks, waiter))
        return waiter if self.at_once is None else self.at_once

    def reset(self, limiters: Sequence[Any], key: str) -> Waiter[int]:
        raise NotImplementedError

    def tick(self, now: float) -> None:
        raise NotImplementedError

    def answer(self, outcome: Outcome) -> None:
        """Settle the oldest that is open."""
        self.asked.pop(0)[1].succeed(outcome)


@dataclass
class Gone:
    """How a request that had to wait went on: ``went`` is True, an error, or None: it waits."""

    went: object = None


class Stage:
    """The limits of one route, and all that belongs to them.

    :param route: where, and ``service``.
    :param more: other sections of the configuration.
    """

    def __init__(
        self,
        store: Any = None,
        *,
        route: str = "dear",
        service: str = "main",
        more: Mapping[str, Any] | None = None,
        **limiters: Any,
    ) -> None:
        settings = settings_of({"rate_limits": limiters, **(more or {})})
        self.clock = Clock()
        self.reactor = Reactor()
        self.store = store if store is not None else MemoryLimits(10_000, self.clock)
        self.bans = Bans(penalty_of(settings.penalties))
        self.lists = IpLists(settings.ip_lists.allowed, settings.ip_lists.denied)
        self.access = Access(
            self.lists,
            self.bans,
            only_allowed=settings.ip_lists.only_allowed,
            deny_status=settings.ip_lists.deny_status,
            blame=of_client if settings.penalties.enabled else None,
        )
        self.limiters = {name: Limiter(name, each) for name, each in settings.rate_limits.items()}
        self.exceeded: list[bool] = []
        self.limits = self.of_route(route, service)

    def of_route(self, route: str, service: str = "main") -> Limits:
        """All limiters on another route too: they have the same keys, and the same store."""
        levels = [
            Level(each, route, service)
            for each in self.limiters.values()
            if _holds(each.settings, route, service)
        ]
        return Limits(levels, self.store, self.access, self.exceeded.append, self.reactor)

    def admit(self, exchange: Exchange, limits: Limits | None = None) -> GatewayError | None:
        """Why it is refused, if it is; it must be decided at once."""
        limits = limits or self.limits
        try:
            limits.screen(exchange)
            pending = limits.admit(exchange)
        except GatewayError as error:
            return error
        assert pending is None
        return None

    def statuses(self, *exchanges: Exchange) -> list[int]:
        """200, or what each is refused with."""
        refused = [self.admit(each) for each in exchanges]
        return [200 if each is None else each.status for each in refused]

    def start(self, exchange: Exchange) -> tuple[Task, Gone]:
        """Let it wait, as a pipeline does."""
        gone = Gone()

        async def wait() -> None:
            try:
                pending = self.limits.admit(exchange)
                if pending is not None:
                    await pending
                gone.went = True
            except (GatewayError, ClientGone) as error:
                gone.went = error

        task = Task(wait())
        task.step()
        return task, gone
