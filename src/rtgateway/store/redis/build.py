"""All stores of a gateway whose state is in Redis. Imported only there; see `store.build`."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from rtgateway import config
from rtgateway.store.breakers import Breakers
from rtgateway.store.build import Stores, penalty_of
from rtgateway.store.limits.redis import RedisLimits
from rtgateway.store.limits.shared import SharedLimits
from rtgateway.store.redis.bans import RedisBans
from rtgateway.store.redis.breakers import RedisKeeper
from rtgateway.store.redis.events import Events
from rtgateway.store.redis.gateways import Gateways, name_of_this
from rtgateway.store.redis.ip_lists import RedisIpLists
from rtgateway.store.redis.limiter_settings import RedisLimiterSettings
from rtgateway.store.redis.link import Link

__all__ = ["RedisStores"]


class RedisStores(Stores):
    """See the module."""

    mode = "redis"

    def __init__(self, settings: config.Config, reactor: Any) -> None:
        super().__init__(settings, reactor)
        state, lists = settings.state, settings.ip_lists
        name = name_of_this(random.random)
        self.link = link = Link(state, reactor, random.random)
        self.gateways = gateways = Gateways(link, name, state.heartbeat, reactor)
        events = Events(link)
        self.bans = RedisBans(link, events, penalty_of(settings.penalties))
        self.ip_lists = RedisIpLists(link, events, lists.allowed, lists.denied)
        self.changes = RedisLimiterSettings(link, events)
        redis = RedisLimits(link)
        self.shared = SharedLimits(
            redis,
            self.local,
            link,
            gateways,
            state.leases,
            settle=2 * state.heartbeat,
        )
        redis.on_reset(events, self.shared.forget)
        self.breakers = breakers = Breakers(RedisKeeper(link), reactor, name, random.random)
        self._parts = link, gateways, self.shared, breakers
        self._reactor = reactor
        self._patience = state.connect_timeout
        self._waiting: Any = None

    def start(self, ready: Callable[[], object]) -> None:
        """See `Stores.start`. Redis is waited for as long as a connection may take."""
        link, gateways, _, _ = self._parts
        self._waiting = self._reactor.callLater(self._patience, self._go_on, ready)
        link.on_connected(partial(self._go_on, ready))
        link.start()
        gateways.start()

    def _go_on(self, ready: Callable[[], object]) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if waiting.active():
            waiting.cancel()
        ready()

    def stop(self) -> Deferred[Any]:
        """See `Stores.stop`."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        link, gateways, limits, breakers = self._parts
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        breakers.stop()
        limits.surrender()
        # Written behind what is given back, and so it arrives behind it.
        await gateways.stop()
        await link.stop()

    def tick(self, now: float) -> None:
        """See `Stores.tick`."""
        super().tick(now)
        self._parts[3].tick(now)
