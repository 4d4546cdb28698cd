"""All limiters of a gateway together: what the admin pages see of them, and change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic, process_time
from typing import TYPE_CHECKING, Any

from rtgateway.config import ConfigError
from rtgateway.gateway.limits.access import Access
from rtgateway.gateway.limits.keys import is_about
from rtgateway.gateway.limits.level import Level
from rtgateway.gateway.limits.limiter import Limiter
from rtgateway.net.log import Logger
from rtgateway.store.limits.asked import Ask, LimitStore, Outcome, Usage

if TYPE_CHECKING:
    from rtgateway import config
    from rtgateway.store.build import Stores
    from rtgateway.store.limiter_settings import LimiterSettings
    from rtgateway.store.limits.known import Tally

__all__ = ["LeasesState", "LimiterState", "Limiters"]

log = Logger()

_HALF_LIFE = 60.0
"""Seconds after which having been asked for counts half."""


class LeasesState:
    """The leases of one limiter (``observe.limit_views.LeasesView``)."""

    __slots__ = ("leased", "live", "local", "returned")

    def __init__(self, live: int, tally: Tally) -> None:
        self.live = live
        self.leased = tally.leased
        self.returned = tally.returned
        self.local = tally.local

    def __repr__(self) -> str:
        return f"<LeasesState {self.live} live {self.leased} leased {self.returned} returned>"


class LimiterState:
    """One limiter as the pages show it (``observe.limit_views.LimiterView``)."""

    __slots__ = ("_limiter", "_settings")

    def __init__(self, limiter: Limiter, settings: LimiterSettings) -> None:
        self._limiter = limiter
        self._settings = settings

    @property
    def algorithm(self) -> str:
        return self._limiter.current.algorithm

    @property
    def per(self) -> Sequence[str]:
        return [str(each) for each in self._limiter.settings.per]

    @property
    def rate(self) -> float:
        return self._limiter.algorithm.rate

    @property
    def configured(self) -> Mapping[str, Any]:
        return _document(self._limiter.settings)

    @property
    def current(self) -> Mapping[str, Any]:
        return _document(self._limiter.current)

    @property
    def changed(self) -> bool:
        return self._limiter.current is not self._limiter.settings

    @property
    def persisted(self) -> bool:
        return self.changed and self._settings.persisted(self._limiter.name)

    @property
    def factor(self) -> float | None:
        return round(self._limiter.factor, 4) if self._limiter.adaptive is not None else None

    def __repr__(self) -> str:
        return f"<LimiterState {self._limiter!r}>"


class Limiters:
    """See the module (``observe.limit_views.LimitersView``).

    :param access: who refuses requests for where they come from.
    :ivar store: what decides.
    :ivar exceeded: refused requests by service, and ``user`` or ``anonymous``.
    :ivar degraded_since: monotonic seconds, 0.0 unless degraded.
    """

    def __init__(
        self,
        settings: Mapping[str, config.RateLimit],
        stores: Stores,
        access: Access,
    ) -> None:
        changes = stores.changes
        self.store: LimitStore = stores.limits
        self.mode = stores.mode
        self.degraded_since = 0.0
        self._all = {name: Limiter(name, each) for name, each in settings.items()}
        self.exceeded: dict[tuple[str, str], int] = {}
        self.limiters = {name: LimiterState(each, changes) for name, each in self._all.items()}
        self._stores = stores
        self._changes = changes
        self._access = access
        self._cpu = process_time()
        self._looked = monotonic()
        self._fade_at = self._looked + _HALF_LIFE
        changes.on_change(self._changed)

    # -- for the stages -----------------------------------------------------------------------

    def of_route(self, route: str, service: str) -> list[Level]:
        """The limiters that hold on a route."""
        return [
            Level(limiter, route, service)
            for limiter in self._all.values()
            if _holds(limiter.settings, route, service)
        ]

    def exceeded_at(self, service: str) -> Callable[[bool], None]:
        """What counts the refused requests to a service; told whether it is known who asked."""

        def count(known: bool) -> None:
            key = service, "user" if known else "anonymous"
            self.exceeded[key] = self.exceeded.get(key, 0) + 1

        return count

    def tick(self, now: float, event_loop_delay: float, latency: float) -> None:
        """Look at the load and at the store, once a second.

        :param event_loop_delay: seconds; ``latency``: of services, seconds.
        """
        if self.degraded and not self.degraded_since:
            link = self._stores.link
            self.degraded_since = (link is not None and link.failing_since) or now
            log.warn("Rate limits are decided without Redis")
        elif self.degraded_since and not self.degraded:
            seconds, self.degraded_since = now - self.degraded_since, 0.0
            log.info("Rate limits are shared again, after {seconds:.0f} s", seconds=seconds)
        if now >= self._fade_at:
            self._fade_at = now + _HALF_LIFE
            for limiter in self._all.values():
                limiter.popular.halve()
        cpu, elapsed = process_time() - self._cpu, now - self._looked
        self._cpu, self._looked = self._cpu + cpu, now
        if elapsed > 0:
            for limiter in self._all.values():
                limiter.adapt(event_loop_delay, min(1.0, cpu / elapsed), latency)

    # -- for metrics and pages ----------------------------------------------------------------

    @property
    def degraded(self) -> bool:
        shared = self._stores.shared
        return shared is not None and shared.degraded

    @property
    def degraded_seconds(self) -> float:
        shared = self._stores.shared
        return shared.degraded_seconds if shared is not None else 0.0

    @property
    def gateways(self) -> int:
        return self._stores.gateways.count

    @property
    def decisions(self) -> Mapping[tuple[str, str, str], int]:
        return {
            (name, limiter.level, outcome): count
            for name, limiter in self._all.items()
            for outcome, count in (("admitted", limiter.admitted), *limiter.others.items())
        }

    @property
    def denied(self) -> int:
        return self._access.denied

    @property
    def banned(self) -> int:
        return self._access.banned

    @property
    def leases(self) -> Mapping[str, LeasesState]:
        shared = self._stores.shared
        if shared is None:
            return {}
        live = shared.live_leases()
        return {
            name: LeasesState(live.get(name, 0), tally) for name, tally in shared.tallies().items()
        }

    @property
    def keys(self) -> Mapping[str, int]:
        return {name: self._stores.local.keys(name) for name in self._all}

    async def usage(self, name: str, count: int) -> Sequence[Usage]:
        """See `observe.limit_views.LimitersView`."""
        limiter = self._all[name]
        keys = [seen.key for seen in limiter.popular.top(count)]
        if not keys:
            return []
        asks = [Ask(limiter, limiter.algorithm_of(key), key, 0) for key in keys]
        outcome = self.store.decide(asks)
        if not isinstance(outcome, Outcome):
            outcome = await outcome
        return [
            Usage(ask.key, ask.algorithm.limit, taken.remaining, taken.reset)
            for ask, taken in zip(asks, outcome.taken, strict=True)
            if taken is not None
        ]

    async def reset(self, subject: str) -> int:
        """See `observe.limit_views.LimitersView`."""
        by_key: dict[str, list[Limiter]] = {}
        for limiter in self._all.values():
            for key in limiter.keys_of(subject):
                by_key.setdefault(key, []).append(limiter)
        known = 0
        for key, limiters in by_key.items():
            forgotten = await self.store.reset(limiters, key)
            if forgotten < 0:
                return -1
            known += forgotten
        searched = [each for each in self._all.values() if each.searched_for(subject)]
        if not searched:
            return known
        about = partial(is_about, subject=subject)
        forgotten = await self.store.reset_matching(searched, subject, about)
        return known + forgotten if forgotten >= 0 else -1

    async def change(self, name: str, numbers: Mapping[str, Any], persist: bool) -> None:
        """See `observe.limit_views.LimitersView`."""
        self._all[name].settings.effective(numbers)  # raises what is wrong with them
        await self._changes.set(name, dict(numbers), persist)

    async def restore(self, name: str) -> None:
        """See `observe.limit_views.LimitersView`."""
        await self._changes.clear(name)

    def _changed(self) -> None:
        """Numbers were changed, here or at another gateway."""
        overrides = self._changes.overrides
        for name, limiter in self._all.items():
            settings, numbers = limiter.settings, overrides.get(name)
            try:
                settings = settings.effective(numbers) if numbers else settings
            except ConfigError as error:
                # What another gateway has kept may not fit this one's configuration.
                log.warn("The change of limiter {name} is left out: {why}", name=name, why=error)
            if settings != limiter.current:
                limiter.change(settings)
                self.store.changed(limiter)
                log.info("Limiter {name} has other numbers: {limiter}", name=name, limiter=limiter)

    def __repr__(self) -> str:
        return f"<Limiters {', '.join(self._all) or 'none'} in {self.mode}>"


def _document(settings: config.RateLimit) -> dict[str, Any]:
    """What holds, with the numbers worked out; those that its algorithm does not have left out."""
    numbers = {name: value for name, value in settings.numbers._asdict().items() if value}
    return settings.model_dump(mode="json", exclude_none=True) | numbers


def _holds(settings: config.RateLimit, route: str, service: str) -> bool:
    if settings.routes and route not in settings.routes:
        return False
    return not settings.services or service in settings.services
