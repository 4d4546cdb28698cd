"""The whole configuration, and the rules between its sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rtgateway.config.auth import Auth
from rtgateway.config.bounds import Connections, Limits, Timeouts
from rtgateway.config.checks import DependencyCheck
from rtgateway.config.ip_lists import IpLists
from rtgateway.config.listeners import Listener
from rtgateway.config.operation import AccessLog, Admin, Pressure, Shutdown, Sse, Tracing
from rtgateway.config.penalties import Penalties
from rtgateway.config.rate_limit_rules import rate_limit_rules
from rtgateway.config.rate_limits import RateLimit
from rtgateway.config.references import look, name_rules, route_rules
from rtgateway.config.routes import Route
from rtgateway.config.section import Rule, Section
from rtgateway.config.services import Service
from rtgateway.config.state import State
from rtgateway.config.values import Network, one_or_many
from rtgateway.config.websocket import WebSocket
from rtgateway.config.websocket_rules import websocket_rules

__all__ = ["Config", "Environment", "LogLevel"]

LogLevel = Literal["fatal", "error", "warn", "info", "debug", "trace", "silent"]
Environment = Literal["development", "test", "production"]


class Config(Section):
    """Everything that can be configured. Every key may be left out."""

    listeners: tuple[Listener, ...] = Field(
        default=(Listener(tcp="0.0.0.0:8080"),),
        min_length=1,
        description="Sockets that clients connect to.",
    )
    services: dict[str, Service] = Field(
        default={}, description="What the gateway stands in front of, by name."
    )
    routes: tuple[Route, ...] = Field(
        default=(), description="Which requests go to which service; the most specific one wins."
    )
    builtin_routes: bool = Field(
        default=True,
        description="Serve every service at `/api/<service>/*`, `/sse/<service>/*` and "
        "`/ws/<service>`, too.",
    )
    proxy_headers: bool = Field(
        default=False,
        description="Send `X-Proxy-Service`, `X-Proxy-Instance` and `X-Proxy-Attempts` with every "
        "answer of a service.",
    )
    health_checks: dict[str, DependencyCheck] = Field(
        default={}, description="Checks of other things, by name; shown in `/health`."
    )
    auth: Auth = Field(default=Auth(), description="Who may pass.")
    limits: Limits = Field(default=Limits(), description="Largest messages.")
    timeouts: Timeouts = Field(default=Timeouts(), description="Longest waits.")
    connections: Connections = Field(
        default=Connections(), description="How many client connections."
    )
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(one_or_many)] = Field(
        default=(),
        description="Proxies in front of the gateway whose `Forwarded`, `X-Forwarded-*` and PROXY "
        "protocol are believed.",
    )
    access_log: AccessLog = Field(default=AccessLog(), description="One line for each request.")
    log_level: LogLevel = Field(
        default="info", description="Least severe event in the gateway's own log."
    )
    admin: Admin = Field(default=Admin(), description="Who may use `/admin` and `/gateway`.")
    pressure: Pressure = Field(default=Pressure(), description="When it is too much.")
    shutdown: Shutdown = Field(default=Shutdown(), description="How the gateway stops.")
    sse: Sse = Field(default=Sse(), description="Event streams.")
    websocket: WebSocket = Field(
        default=WebSocket(), description="WebSockets; routes may differ key by key."
    )
    state: State = Field(default=State(), description="What several gateways may share.")
    rate_limits: dict[str, RateLimit] = Field(
        default={}, description="How many requests pass, by names of limiters; at most 100."
    )
    penalties: Penalties = Field(
        default=Penalties(enabled=False), description="Bans for those who are refused too often."
    )
    ip_lists: IpLists = Field(
        default=IpLists(), description="Who is let in by address, and who is not."
    )
    tracing: Tracing = Field(default=Tracing(), description="W3C Trace Context.")
    environment: Environment = Field(
        default="development", description="Shown as `env` in `/admin/stats`."
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Names fit together, nothing is there twice, and what is required is there."""
        for key in ("services", "health_checks", "rate_limits"):
            yield from name_rules(key, values.get(key))
        routes = values.get("routes")
        if isinstance(routes, list | tuple):
            yield from route_rules(routes, values.get("services"))
        else:
            routes = ()
        listeners = values.get("listeners")
        if isinstance(listeners, list | tuple):
            yield from _listener_rules(listeners)
        yield from _auth_rules(values.get("auth"), routes)
        yield from websocket_rules(values.get("websocket"), values.get("auth"), routes)
        yield from rate_limit_rules(
            values.get("rate_limits"),
            values.get("services"),
            routes,
            values.get("builtin_routes"),
            values.get("auth"),
        )


def _listener_rules(listeners: Sequence[object]) -> Iterator[Rule]:
    seen: dict[object, int] = {}
    for index, listener in enumerate(listeners):
        # Port 0 is a free port, a different one each time.
        if not isinstance(listener, Listener) or (listener.tcp and listener.address[1] == 0):
            continue
        socket = listener.address if listener.tcp else listener.label
        if (first := seen.setdefault(socket, index)) != index:
            yield Rule(f"the same socket as listeners[{first}]", ("listeners", index))


def _auth_rules(auth: object, routes: Sequence[object]) -> Iterator[Rule]:
    if look(auth, "jwt") is not None:
        return
    allowed = "a mapping with secret or secret_file"
    if look(auth, "required") is True:
        message = "is missing, but auth.required is true"
        yield Rule(message, ("auth", "jwt"), allowed=allowed)
    for index, route in enumerate(routes):
        if look(route, "auth") == "required":
            message = f"is missing, but routes[{index}].auth is required"
            yield Rule(message, ("auth", "jwt"), allowed=allowed)
            break
