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
from rtgateway.config import Config, DependencyCheck, Timeouts
from rtgateway.config import Route as RouteConfig
from rtgateway.core.deadlines import Wheel
from rtgateway.core.forwarded import TrustedProxies
from rtgateway.core.identifiers import RequestIds
from rtgateway.core.retry import RetryPolicy
from rtgateway.core.routes import RouteTable, Rule
from rtgateway.core.tokens import TokenVerifier
from rtgateway.gateway.auth import JwtAuth
from rtgateway.gateway.pipeline import Pipeline
from rtgateway.gateway.relay import Heartbeats
from rtgateway.gateway.route import Route
from rtgateway.gateway.shaping import Shaping, make_shaping
from rtgateway.gateway.upgrade import Bridge as BridgeStage
from rtgateway.net.gate import Gate
from rtgateway.net.listen import listen
from rtgateway.net.log import Logger, log_from
from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.outcomes import Outcomes
from rtgateway.observe.pressure import Pressure
from rtgateway.observe.statistics import Statistics
from rtgateway.observe.telemetry import Telemetry
from rtgateway.upstream.build import ServiceBuilder
from rtgateway.upstream.health import CheckTarget, HealthCheck
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.service import Service as Upstream
from rtgateway.web.admin import make_root
from rtgateway.web.guard import Guard
from rtgateway.web.pages import Pages
from rtgateway.web.site import Edge, Site
from rtgateway.ws.build import make_bridge
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
        self.builder = ServiceBuilder(config.limits, reactor, self.wheel)
        self.services = {
            name: self.builder.service(name, settings) for name, settings in config.services.items()
        }
        self.dependencies = {
            name: self._dependency(name, settings)
            for name, settings in config.health_checks.items()
        }
        for check in self.dependencies.values():
            self.builder.checks.add(check)
        self.site: Site
        self.auth = _auth(config)
        self.access_log = AccessLog(config.access_log)
        self.sockets = Sockets(self.wheel, random.random, self.instances, self.access_log)
        self._shapings: list[Shaping] = []
        self.routes = RouteTable(list(self._rules()))

        self.pressure = Pressure(config.pressure)
        self.statistics = Statistics()
        self.outcomes = Outcomes(self.services.values, self.statistics)
        self.metrics = Metrics(
            version=__version__,
            outcomes=self.outcomes,
            services=self.services.values,
            connections=lambda: len(self.site.channels) + self.sockets.connections,
            event_loop_delay=lambda: self.pressure.delay,
            dropped_lines=lambda: self.access_log.dropped,
            sockets=self.sockets,
        )
        telemetry = Telemetry(self.outcomes, self.access_log)
        heartbeat = config.sse.heartbeat
        pipeline = Pipeline(telemetry, Heartbeats(heartbeat, self.wheel) if heartbeat else None)
        guard = Guard(config.admin, self.auth if config.auth.required else None)
        root, labels = make_root(self, guard)
        self.site = Site(
            config,
            self.routes,
            Pages(root, reactor, guard.admit, labels),
            pipeline,
            self.wheel,
            trusted,
            RequestIds(os.urandom(16)),
            partial(UnknownService, self.sockets),
        )

    # -- parts --------------------------------------------------------------------------------

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

    def _rules(self) -> Iterable[Rule[Route]]:
        for settings in self.config.routes:
            service = self.services[settings.service]
            yield Rule(
                settings.host,
                settings.path,
                frozenset(method.encode() for method in settings.methods),
                self._route(settings.label, service, settings),
            )
        if self.config.builtin_routes:
            for name, service in self.services.items():
                api = self._route("/api/:service/*", service, None)
                yield Rule(None, f"/api/{name}", frozenset(), api)
                sse = self._route("/sse/:service/*", service, None)
                yield Rule(None, f"/sse/{name}", frozenset([b"GET", b"HEAD"]), sse)
                sockets = self._route("/ws/:service", service, None, sockets=True)
                yield Rule(None, f"/ws/{name}", frozenset(), sockets)

    def _route(
        self, label: str, service: Upstream, settings: RouteConfig | None, *, sockets: bool = False
    ) -> Route:
        config = self.config
        needs = settings.auth if settings is not None else None
        required = config.auth.required if needs is None else needs == "required"
        limit = settings.body_limit if settings is not None else None
        retry = settings.retry if settings is not None else None
        names = settings.proxy_headers if settings is not None else None
        timeouts = self._timeouts(service, settings)
        bridge: BridgeStage | None = None
        if sockets or (settings is not None and settings.websocket is not None):
            bridge = make_bridge(
                label,
                config,
                settings,
                self.sockets,
                takes_token=required,
                write_stall=timeouts.write_stall,
            )
        shaping = self._shaping(settings) if settings is not None else None
        if shaping is not None:
            self._shapings.append(shaping)
            if shaping.mirror is not None:
                shaping.mirror.service.mirrors.append(shaping.mirror)
        return Route(
            label=label,
            service=service,
            auth=self.auth if required else None,
            strip=settings.strip_prefix if settings is not None else True,
            preserve_host=settings.preserve_host if settings is not None else False,
            body_limit=config.limits.body if limit is None else limit,
            cancel=settings is None or settings.on_disconnect == "cancel",
            connect=timeouts.connect,
            first_byte=timeouts.first_byte,
            between_bytes=timeouts.between_bytes,
            request=timeouts.request,
            retry=RetryPolicy.from_config(service.settings.retry if retry is None else retry),
            proxy_headers=config.proxy_headers if names is None else names,
            shaping=shaping,
            websocket=bridge,
        )

    def _timeouts(self, service: Upstream, settings: RouteConfig | None) -> Timeouts:
        """The global ones, as far as neither the service nor the route has its own."""
        own: dict[str, float] = {}
        for section in (service.settings.timeouts, settings.timeouts if settings else None):
            if section is not None:
                own |= section.model_dump(exclude_none=True)
        return self.config.timeouts.model_copy(update=own)

    def _shaping(self, settings: RouteConfig) -> Shaping | None:
        return make_shaping(
            settings,
            self.services,
            lambda service: self._timeouts(service, None),
            random=random.random,
            reactor=self.reactor,
            wheel=self.wheel,
        )

    # -- its life -----------------------------------------------------------------------------

    def startService(self) -> None:
        """Listen.

        :raises ListenError: an address is taken or not ours.
        :raises OSError: the access log can't be written.
        """
        super().startService()
        log_from(self.config.log_level)
        self.access_log.start()
        self.pressure.start(self.reactor)
        self._every(_TICK, self._sweep)
        self._every(self.access_log.interval, self.access_log.flush)
        self._every(1.0, self._tick)
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
        for shaping in self._shapings:
            shaping.drain()
        return Deferred.fromCoroutine(self._stop(closed))

    async def _stop(self, closed: Deferred[Any]) -> None:
        try:
            await closed
            await self._until(lambda: not self._busy(), self.config.shutdown.grace)
            await self._cut_off()
        finally:
            self.builder.checks.stopService()
            for shaping in self._shapings:
                shaping.stop()
            for service in self.services.values():
                service.close()
            for call in self._calls:
                call.stop()
            self._calls = []
            self.pressure.stop()
            self.access_log.close()

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


def _maybe(result: Any) -> Deferred[Any]:
    if isinstance(result, Deferred):
        return result
    done: Deferred[Any] = Deferred()
    done.callback(result)
    return done
