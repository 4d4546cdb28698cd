"""From configuration to stores: everything of a gateway that may be shared, wired in one place.

Used by the composition root (`rtgateway.service`). What needs Redis is imported only where Redis is
configured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from twisted.internet.defer import Deferred, succeed

from rtgateway import config
from rtgateway.core.penalty import Penalty
from rtgateway.store.bans import Bans
from rtgateway.store.gateways import Alone, KnownGateways
from rtgateway.store.ip_lists import IpLists
from rtgateway.store.limiter_settings import LimiterSettings
from rtgateway.store.limits.memory import MemoryLimits

if TYPE_CHECKING:
    from rtgateway.store.breakers import BreakerStore
    from rtgateway.store.limits.shared import SharedLimits
    from rtgateway.store.redis.link import Link

__all__ = ["Stores", "make_stores", "penalty_of"]


class Stores:
    """See the module. Everything is in memory unless `make_stores` says otherwise.

    :ivar mode: where the state is.
    :ivar link: the connection to Redis; None in memory.
    :ivar local: limits in memory: all there are, or what stands in for Redis.
    :ivar shared: limits of all gateways; None in memory.
    :ivar breakers: where breakers are shared; None in memory.
    """

    mode: Literal["memory", "redis"] = "memory"

    def __init__(self, settings: config.Config, reactor: Any) -> None:
        self.local = MemoryLimits(settings.state.max_keys, later=partial(reactor.callLater, 0))
        self.link: Link | None = None
        self.shared: SharedLimits | None = None
        self.breakers: BreakerStore | None = None
        self.gateways: KnownGateways = Alone()
        self.bans = Bans(penalty_of(settings.penalties))
        self.ip_lists = IpLists(settings.ip_lists.allowed, settings.ip_lists.denied)
        self.changes = LimiterSettings()

    @property
    def limits(self) -> MemoryLimits | SharedLimits:
        """What decides about rate limits."""
        return self.shared or self.local

    def start(self, ready: Callable[[], object]) -> None:
        """Connect, if there is something to connect to.

        :param ready: called when that has come about, or is not waited for any longer.
        """
        ready()

    def stop(self) -> Deferred[Any]:
        """Give back what others can use, and disconnect."""
        return succeed(None)

    def tick(self, now: float) -> None:
        """Called every 100 ms with monotonic seconds."""
        self.limits.tick(now)
        self.bans.tick(now)
        self.ip_lists.tick(now)
        self.changes.tick(now)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self.mode} {self.link!r}>"


def make_stores(settings: config.Config, reactor: Any) -> Stores:
    """The stores that are configured."""
    if not settings.state.shared:
        return Stores(settings, reactor)
    from rtgateway.store.redis.build import RedisStores

    return RedisStores(settings, reactor)


def penalty_of(settings: config.Penalties) -> Penalty | None:
    """The rule by which refusals lead to bans, if there is one."""
    if not settings.enabled:
        return None
    return Penalty(
        settings.refusals,
        settings.window,
        settings.duration,
        settings.factor,
        settings.max_duration,
        settings.forget,
    )
