"""The composition root: configuration and reactor in, one service out. Everything is wired here.

`make_service` is what ``twistd``, the ``rtgateway`` command and ``rtgateway.testing`` call. Reading
`Gateway.__init__` from top to bottom shows every part and what it is given.
"""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater

from rtgateway import __version__
from rtgateway.config import Config, DependencyCheck
from rtgateway.core.deadlines import Wheel
from rtgateway.core.forwarded import TrustedProxies
from rtgateway.core.identifiers import RequestIds
from rtgateway.core.tokens import TokenVerifier
from rtgateway.gateway.auth import JwtAuth
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.limits import Access, Limiters
from rtgateway.gateway.limits.keys import of_address, of_client
from rtgateway.gateway.pipeline import Pipeline
from rtgateway.gateway.relay import Heartbeats
from rtgateway.net.gate import Gate
from rtgateway.net.listen import listen
from rtgateway.net.log import Logger, log_from
from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.limit_views import StoreView
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.outcomes import Outcomes
from rtgateway.observe.pressure import Pressure
from rtgateway.observe.statistics import Statistics
from rtgateway.observe.telemetry import Telemetry
from rtgateway.routing import Routing
from rtgateway.store.bans import Bans
from rtgateway.store.build import Stores, make_stores
from rtgateway.store.ip_lists import IpLists
from rtgateway.upstream.build import ServiceBuilder
from rtgateway.upstream.health import CheckTarget, HealthCheck
from rtgateway.upstream.instance import Instance
from rtgateway.web.admin import make_root
from rtgateway.web.guard import Guard
from rtgateway.web.pages import Pages
from rtgateway.web.site import Edge, Site
from rtgateway.ws.farewell import UnknownService
from rtgateway.ws.sockets import Sockets

__all__ = ["Gateway", "make_service"]

log = Logger()

_TICK = 0.1
"""Seconds between two sweeps for passed deadlines."""


def make_service(config: Config, reactor: Any, *, own_process: bool = True) -> Gateway:
    """The gateway as an `IService`; it listens once started.

    :param own_process: the process serves nothing else, so that signals and the garbage collector
        may be set up for it.
    """
    return Gateway(config, reactor, own_process=own_process)


class Gateway(Service):
    """All parts of one gateway, started and stopped together.

    :ivar ports: what it listens on, in the order of the configuration, once started.
    """

    def __init__(self, config: Config, reactor: Any, *, own_process: bool) -> None:
        self.setName("rtgateway")
        self.config = config
        self.reactor = reactor
        self.ports: list[IListeningPort] = []
        self.started_at = monotonic()
        self._own_process = own_process
        self._calls: list[LoopingCall] = []

        self.wheel = Wheel(tick=_TICK)
        trusted = TrustedProxies(config.trusted_proxies)
        self.gate = Gate(config.connections.total, config.connections.per_ip, exempt=trusted.trusts)
        self.stores = make_stores(config, reactor)
        self.builder = ServiceBuilder(
            config.limits, reactor, self.wheel, breakers=self.stores.breakers
        )
        self.services = {
            name: self.builder.service(name, settings) for name, settings in config.services.items()
        }
        self.dependencies = {
            name: self._dependency(name, settings)
            for name, settings in config.health_checks.items()
        }
        for check in self.dependencies.values():
            self.builder.checks.add(check)
        self.auth = _auth(config)
        self.access_log = AccessLog(config.access_log)
        self.sockets = Sockets(self.wheel, random.random, self.instances, self.access_log)
        self.access = _access(config, self.stores)
        self.limits = Limiters(config.rate_limits, self.stores, self.access)
        self.routing = Routing(
            config,
            self.services,
            self.auth,
            self.sockets,
            self.limits,
            self.access,
            reactor=reactor,
            wheel=self.wheel,
        )

        self.pressure = Pressure(config.pressure)
        self.statistics = Statistics()
        self.outcomes = Outcomes(self.services.values, self.statistics)
        self.metrics = self._metrics()
        self.site = self._site(trusted)

    # -- parts --------------------------------------------------------------------------------

    def _metrics(self) -> Metrics:
        return Metrics(
            version=__version__,
            outcomes=self.outcomes,
            services=self.services.values,
            connections=lambda: len(self.site.channels) + self.sockets.connections,
            event_loop_delay=lambda: self.pressure.delay,
            dropped_lines=lambda: self.access_log.dropped,
            sockets=self.sockets,
            state=self,
        )

    def _site(self, trusted: TrustedProxies) -> Site:
        config, heartbeat = self.config, self.config.sse.heartbeat
        telemetry = Telemetry(self.outcomes, self.access_log)
        pipeline = Pipeline(telemetry, Heartbeats(heartbeat, self.wheel) if heartbeat else None)
        guard = Guard(config.admin, self.auth if config.auth.required else None)
        root, labels = make_root(self, guard)
        return Site(
            config,
            self.routing.table,
            Pages(root, self.reactor, guard.admit, labels),
            pipeline,
            self.wheel,
            trusted,
            RequestIds(os.urandom(16)),
            partial(UnknownService, self.sockets),
        )

    def instances(self) -> Iterable[Instance]:
        """All instances of all services, those that are on their way out too."""
        for service in self.services.values():
            yield from service.instances
            yield from service.members.leaving

    def _dependency(self, name: str, settings: DependencyCheck) -> HealthCheck[DependencyCheck]:
        if settings.url is not None:
            target = CheckTarget.of_url(settings.url, name)
        else:
            assert settings.address is not None, "validated: one of the two"
            target = CheckTarget.of_tcp(*settings.address, name)
        return HealthCheck(target, settings, self.reactor, random.random, lambda check: None)

    # -- its life -----------------------------------------------------------------------------

    def startService(self) -> None:
        """Listen.

        :raises ListenError: an address is taken or not ours.
        :raises OSError: the access log can't be written.
        """
        super().startService()
        log_from(self.config.log_level)
        self.access_log.start()
        # Who comes in before Redis answers would have limits of this gateway's own.
        self.gate.shut = True
        self.stores.start(self.gate.open)
        self.pressure.start(self.reactor)
        self._every(_TICK, self._sweep)
        self._every(self.access_log.interval, self.access_log.flush)
        self._every(1.0, self._tick)
        self._every(_TICK, lambda: self.stores.tick(monotonic()))
        self.builder.checks.startService()
        for service in self.services.values():
            if service.discovery is not None:
                service.discovery.start()
        for settings in self.config.listeners:
            edge = Edge(
                site=self.site,
                scheme="https" if settings.tls else "http",
                port=settings.address[1] if settings.tcp else 0,
                tcp=settings.unix is None,
                half_closes=settings.tls is None,
                proxy_protocol=settings.proxy_protocol,
            )
            port = listen(settings, edge, self.reactor, self.gate)
            self.ports.append(port)
            edge.listens_on(port.getHost())
            log.info("Listening on {address}", address=port.getHost())
        if self._own_process:
            self._take_over_process()

    def stopService(self) -> Deferred[Any]:
        """Drain: accept nothing more, finish what is in flight within the grace period, close."""
        super().stopService()
        closed = DeferredList([_maybe(port.stopListening()) for port in self.ports])
        self.ports = []
        self.site.drain()
        self.sockets.drain(self.config.shutdown.grace)
        for shaping in self.routing.shapings:
            shaping.drain()
        return Deferred.fromCoroutine(self._stop(closed))

    async def _stop(self, closed: Deferred[Any]) -> None:
        try:
            await closed
            await self._until(lambda: not self._busy(), self.config.shutdown.grace)
            await self._cut_off()
        finally:
            self.builder.checks.stopService()
            for shaping in self.routing.shapings:
                shaping.stop()
            for limits in self.routing.limits:
                limits.stop()
            for service in self.services.values():
                service.close()
            for call in self._calls:
                call.stop()
            self._calls = []
            self.pressure.stop()
            self.access_log.close()
            await self.stores.stop()

    def _busy(self) -> bool:
        """Whether a client is connected, or a request goes on without one."""
        connected = self.site.channels or self.sockets.connections
        return bool(connected) or any(each.inflight for each in self.instances())

    async def _cut_off(self) -> None:
        channels = list(self.site.channels)
        count = len(channels) + self.sockets.connections
        if count:
            log.warn("Closing {count} connections: the grace period is over", count=count)
        for channel in channels:
            channel.transport.abortConnection()
        self.sockets.abort()
        # They end in the next turn of the reactor, and what they did belongs into the log.
        await self._until(lambda: not (self.site.channels or self.sockets.connections), 1.0)

    async def _until(self, condition: Callable[[], bool], patience: float) -> None:
        deadline = monotonic() + patience
        while not condition() and monotonic() < deadline:
            await deferLater(self.reactor, 0.01)

    def _every(self, seconds: float, function: Callable[[], None]) -> None:
        call = LoopingCall(function)
        call.clock = self.reactor
        call.start(seconds, now=False)
        self._calls.append(call)

    def _sweep(self) -> None:
        now = monotonic()
        for service in self.services.values():
            service.listen(now)
        for item in self.wheel.advance(now):
            try:
                # What was done about another may have moved this one's deadline.
                if item.deadline <= now:
                    item.expired(now)
            except Exception:
                log.failure("A passed deadline could not be dealt with")

    def _tick(self) -> None:
        now = monotonic()
        for service in self.services.values():
            service.tick(now)
        self.sockets.tick(now)
        self.limits.tick(now, self.pressure.delay, self._latency())

    def _latency(self) -> float:
        """Of the slowest service, in seconds: the mean of its instances."""
        means = [0.0]
        for service in self.services.values():
            known = [each.latency for each in service.instances if each.latency]
            if known:
                means.append(sum(known) / len(known))
        return max(means)

    @property
    def bans(self) -> Bans:
        """Who is banned."""
        return self.stores.bans

    @property
    def ip_lists(self) -> IpLists:
        """Which addresses are listed."""
        return self.stores.ip_lists

    @property
    def store(self) -> StoreView | None:
        """The connection to Redis, if there is one."""
        return self.stores.link

    def _take_over_process(self) -> None:
        # What is there now stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self.access_log.reopen))

    def __repr__(self) -> str:
        return f"<Gateway {len(self.services)} services {len(self.site.channels)} connections>"


def _auth(config: Config) -> JwtAuth | None:
    return JwtAuth(TokenVerifier(config.auth.jwt)) if config.auth.jwt is not None else None


def _access(config: Config, stores: Stores) -> Access:
    lists, penalties = config.ip_lists, config.penalties
    blame: Callable[[Exchange], str] | None = None
    if penalties.enabled:
        blame = of_address if penalties.by == "ip" else of_client
    return Access(
        stores.ip_lists,
        stores.bans,
        only_allowed=lists.only_allowed,
        deny_status=lists.deny_status,
        blame=blame,
    )


def _maybe(result: Any) -> Deferred[Any]:
    if isinstance(result, Deferred):
        return result
    done: Deferred[Any] = Deferred()
    done.callback(result)
    return done
