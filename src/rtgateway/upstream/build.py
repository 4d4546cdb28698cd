"""From configuration to services: every part of a service and of its instances is wired here.

Used by the composition root (`rtgateway.service`), once per configured service, and by services
themselves when an instance appears.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred

from rtgateway import config
from rtgateway.core.affinity import AffinityCookie
from rtgateway.core.balance import latency_average, make_balancer
from rtgateway.core.breaker import Breaker, StateChange
from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.cookies import cookie_value
from rtgateway.core.deadlines import Wheel
from rtgateway.core.outliers import Ejection, OutlierSettings
from rtgateway.core.retry import Conditions
from rtgateway.net.connect import connect
from rtgateway.net.log import Logger
from rtgateway.net.tls import client_tls
from rtgateway.store.breakers import BreakerStore
from rtgateway.upstream.call import Call
from rtgateway.upstream.connection import Connection
from rtgateway.upstream.discovery import Discovery, Found, make_discovery
from rtgateway.upstream.health import CheckTarget, HealthCheck, HealthChecks
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.pool import Pool
from rtgateway.upstream.service import Service
from rtgateway.wire.http1 import HeadLimits

__all__ = ["ServiceBuilder"]

log = Logger()


class ServiceBuilder:
    """See the module.

    :param breakers: makes the circuit breakers that gateways share; without it each is its own.
    :ivar checks: the health checks of all instances, to be started and stopped with the gateway.
    """

    def __init__(
        self,
        limits: config.Limits,
        reactor: Any,
        wheel: Wheel,
        *,
        breakers: BreakerStore | None = None,
    ) -> None:
        self.checks = HealthChecks()
        self._reactor = reactor
        self._wheel = wheel
        self._breakers = breakers
        # What is drawn from it (turns, jitter) is no secret.
        self._random: Callable[[], float] = random.Random().random
        self._trailer_bytes = limits.trailer_bytes
        self._heads = HeadLimits(
            line=limits.response_header_bytes,
            size=limits.response_header_bytes,
            count=limits.response_header_count,
        )

    def service(self, name: str, settings: config.Service) -> Service:
        """A service with its configured instances."""
        balance = settings.balance
        sticky, hashing = balance.strategy == "sticky", balance.strategy == "consistent_hash"
        breaker = None
        if settings.service_breaker is not None and settings.service_breaker.enabled:
            what = f"service {name}"
            breaker = self._breaker(
                settings.service_breaker, what, _nothing, lambda: service.probe_wait.answered()
            )
        service = Service(
            name,
            settings,
            make_balancer(balance.strategy, self._random, balance.bound),
            make=lambda found, source: self._instance(service, found, source),
            on_leave=self._leaves,
            clock=self._reactor,
            wheel=self._wheel,
            random=self._random,
            key=_key(*balance.hash_by) if hashing else None,
            affinity=_affinity(balance) if sticky else None,
            breaker=breaker,
        )
        now = monotonic()
        for each in settings.instances:
            service.members.add(Found(each), "static", now)
        for instance in service.instances:
            instance.warmed_up()
        if settings.discovery is not None:
            service.discovery = self._discovery(service, settings.discovery)
        return service

    def _discovery(self, service: Service, settings: config.Discovery) -> Discovery:
        def found(instances: Sequence[Found]) -> None:
            service.members.update(instances, monotonic())

        return make_discovery(settings, found, self._reactor, self._random)

    # -- instances ----------------------------------------------------------------------------

    def _instance(self, service: Service, found: Found, source: str) -> Instance:
        settings = service.settings
        instance = Instance(
            service.name,
            found.settings,
            failure_on=Conditions(settings.circuit_breaker.failure_on),
            authority=found.authority or "",
            source=source,
            limit=settings.concurrency.per_instance,
            average=latency_average(settings.balance.strategy),
        )
        members = service.members

        def turned(change: StateChange) -> None:
            if change.new == "closed":
                instance.recovered(change.at)
            members.changed()

        what = f"{service.name} {instance.label}"

        def answered() -> None:
            members.changed()
            if service.room is not None:
                service.room.wake()
            service.probe_wait.answered()

        instance.breaker = self._breaker(settings.circuit_breaker, what, turned, answered)
        instance.ejection = Ejection(OutlierSettings.from_config(settings.outliers))
        tls = None
        if found.settings.scheme == "https":
            tls = client_tls(settings.tls, found.server_name or instance.host)
        instance.pool = self._pool(settings.pool, instance, tls)
        if settings.health is not None:

            def checked(check: HealthCheck[config.HealthCheck]) -> None:
                if check.health.up:
                    instance.recovered(monotonic())
                members.changed()

            target = CheckTarget(instance.label, instance.authority, tls=tls, name=service.name)
            instance.health = HealthCheck(
                target, settings.health, self._reactor, self._random, checked
            )
            self.checks.add(instance.health)
        return instance

    def _leaves(self, instance: Instance) -> None:
        if instance.health is not None:
            self.checks.remove(instance.health)
        if self._breakers is not None:
            self._breakers.forget(instance.breaker)

    def _pool(self, settings: config.Pool, instance: Instance, tls: Any) -> Pool:
        def open_connection(pool: Pool, timeout: float) -> Deferred[Connection]:
            return connect(
                instance.host,
                instance.port,
                Connection(pool, self._heads, self._trailer_bytes),
                timeout=timeout,
                reactor=self._reactor,
                tls=tls,
            )

        return Pool(settings, open_connection, self._wheel)

    def _breaker(
        self,
        settings: config.CircuitBreaker,
        what: str,
        on_change: Callable[[StateChange], None],
        on_answer: Callable[[], None],
    ) -> Breaker:
        def turned(change: StateChange) -> None:
            note = log.info if change.new in ("closed", "half_open") else log.warn
            note(
                "Circuit of {what}: {old} to {new}: {reason}",
                what=what,
                old=change.old,
                new=change.new,
                reason=change.reason,
            )
            on_change(change)

        rules = BreakerSettings.from_config(settings)
        if self._breakers is None or not (settings.shared and settings.enabled):
            return Breaker(rules, self._random, turned)
        return self._breakers.breaker(what, rules, turned, on_answer)

    def __repr__(self) -> str:
        return f"<ServiceBuilder {self.checks!r}>"


def _nothing(change: StateChange) -> None:
    """The breaker of a whole service is asked at every request; nobody has to be told."""


def _affinity(balance: config.Balance) -> AffinityCookie:
    # Without a secret of its own a restart gives clients new cookies, and nothing breaks.
    secret = balance.secret_bytes or os.urandom(32)
    return AffinityCookie(balance.cookie, secret, balance.cookie_max_age)


def _key(kind: str, name: str) -> Callable[[Call], bytes]:
    """What consistent hashing looks at, by the words of the configuration."""
    field = name.encode("ascii")
    match kind:
        case "header":
            return lambda call: b",".join(call.values(field.lower()))
        case "cookie":
            return lambda call: cookie_value(b"; ".join(call.values(b"cookie")), field) or b""
        case "path":
            return lambda call: call.path
        case _:
            return lambda call: call.client_ip.encode("ascii")
