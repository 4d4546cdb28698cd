"""From configuration to routes: every stage of every route is put together here.

Used by the composition root (`rtgateway.service`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from rtgateway.config import Config, Timeouts
from rtgateway.config import Route as RouteConfig
from rtgateway.core.deadlines import Wheel
from rtgateway.core.retry import RetryPolicy
from rtgateway.core.routes import RouteTable, Rule
from rtgateway.gateway.auth import JwtAuth
from rtgateway.gateway.limits import Access, Limiters, Limits
from rtgateway.gateway.route import Route
from rtgateway.gateway.shaping import Shaping, make_shaping
from rtgateway.gateway.upgrade import Bridge
from rtgateway.upstream.service import Service
from rtgateway.ws.build import make_bridge
from rtgateway.ws.sockets import Sockets

__all__ = ["Routing"]


class Routing:
    """See the module.

    :ivar table: all routes.
    :ivar shapings: of all routes that have one, ``limits`` likewise: they may be waiting.
    """

    def __init__(
        self,
        config: Config,
        services: Mapping[str, Service],
        auth: JwtAuth | None,
        sockets: Sockets,
        limiters: Limiters,
        access: Access,
        *,
        reactor: Any,
        wheel: Wheel,
    ) -> None:
        self._config = config
        self._services = services
        self._auth = auth
        self._sockets = sockets
        self._limiters = limiters
        self._access = access
        self._reactor = reactor
        self._wheel = wheel
        self.shapings: list[Shaping] = []
        self.limits: list[Limits] = []
        self.table = RouteTable(list(self._rules()))

    def _rules(self) -> Iterable[Rule[Route]]:
        for settings in self._config.routes:
            service = self._services[settings.service]
            yield Rule(
                settings.host,
                settings.path,
                frozenset(method.encode() for method in settings.methods),
                self._route(settings.label, service, settings),
            )
        if self._config.builtin_routes:
            for name, service in self._services.items():
                api = self._route("/api/:service/*", service, None)
                yield Rule(None, f"/api/{name}", frozenset(), api)
                sse = self._route("/sse/:service/*", service, None)
                yield Rule(None, f"/sse/{name}", frozenset([b"GET", b"HEAD"]), sse)
                sockets = self._route("/ws/:service", service, None, sockets=True)
                yield Rule(None, f"/ws/{name}", frozenset(), sockets)

    def _route(
        self, label: str, service: Service, settings: RouteConfig | None, *, sockets: bool = False
    ) -> Route:
        config = self._config
        needs = settings.auth if settings is not None else None
        required = config.auth.required if needs is None else needs == "required"
        limit = settings.body_limit if settings is not None else None
        retry = settings.retry if settings is not None else None
        names = settings.proxy_headers if settings is not None else None
        timeouts = self._timeouts(service, settings)
        bridge: Bridge | None = None
        if sockets or (settings is not None and settings.websocket is not None):
            bridge = make_bridge(
                label,
                config,
                settings,
                self._sockets,
                takes_token=required,
                write_stall=timeouts.write_stall,
            )
        return Route(
            label=label,
            service=service,
            auth=self._auth if required else None,
            limits=self._limits(label, service, reads_tokens=not required),
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
            shaping=self._shaping(settings) if settings is not None else None,
            websocket=bridge,
        )

    def _timeouts(self, service: Service, settings: RouteConfig | None) -> Timeouts:
        """The global ones, as far as neither the service nor the route has its own."""
        own: dict[str, float] = {}
        for section in (service.settings.timeouts, settings.timeouts if settings else None):
            if section is not None:
                own |= section.model_dump(exclude_none=True)
        return self._config.timeouts.model_copy(update=own)

    def _limits(self, label: str, service: Service, *, reads_tokens: bool) -> Limits:
        limits = Limits(
            self._limiters.of_route(label, service.name),
            self._limiters.store,
            self._access,
            self._limiters.exceeded_at(service.name),
            self._reactor,
            self._auth if reads_tokens else None,
        )
        self.limits.append(limits)
        return limits

    def _shaping(self, settings: RouteConfig) -> Shaping | None:
        shaping = make_shaping(
            settings,
            self._services,
            lambda service: self._timeouts(service, None),
            random=random.random,
            reactor=self._reactor,
            wheel=self._wheel,
        )
        if shaping is not None:
            self.shapings.append(shaping)
            if shaping.mirror is not None:
                shaping.mirror.service.mirrors.append(shaping.mirror)
        return shaping

    def __repr__(self) -> str:
        return f"<Routing {self.table!r}>"
