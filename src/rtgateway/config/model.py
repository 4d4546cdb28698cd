"""The whole configuration, and the rules between its sections."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rtgateway.config.auth import Auth
from rtgateway.config.bounds import Connections, Limits, Timeouts
from rtgateway.config.listeners import Listener
from rtgateway.config.operation import AccessLog, Admin, Pressure, Shutdown, Sse, Tracing
from rtgateway.config.problems import show
from rtgateway.config.routes import Route
from rtgateway.config.section import Rule, Section
from rtgateway.config.services import SERVICE_NAME, Service
from rtgateway.config.values import Network, one_or_many

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
        description="Serve every service at `/api/<service>/*` and `/sse/<service>/*`, too.",
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
    admin: Admin = Field(default=Admin(), description="Who may read `/admin/stats`.")
    pressure: Pressure = Field(default=Pressure(), description="When it is too much.")
    shutdown: Shutdown = Field(default=Shutdown(), description="How the gateway stops.")
    sse: Sse = Field(default=Sse(), description="Event streams.")
    tracing: Tracing = Field(default=Tracing(), description="W3C Trace Context.")
    environment: Environment = Field(
        default="development", description="Shown as `env` in `/admin/stats`."
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Names fit together, nothing is there twice, and what is required is there."""
        yield from _service_rules(values.get("services"))
        routes = values.get("routes")
        if isinstance(routes, list | tuple):
            yield from _route_rules(routes, values.get("services"))
        else:
            routes = ()
        listeners = values.get("listeners")
        if isinstance(listeners, list | tuple):
            yield from _listener_rules(listeners)
        yield from _auth_rules(values.get("auth"), routes)


def _get(section: object, key: str) -> Any:
    """A key of a section that may be validated already, or be a mapping, or be anything."""
    if isinstance(section, Mapping):
        return section.get(key)
    return getattr(section, key, None) if isinstance(section, Section) else None


def _is_service_name(name: object) -> bool:
    # Dots alone would be taken for relative segments of the path /api/<service>/.
    valid = isinstance(name, str) and SERVICE_NAME.fullmatch(name) is not None
    return valid and name not in (".", "..")


def _service_rules(services: object) -> Iterator[Rule]:
    if not isinstance(services, Mapping):
        return
    for name in services:
        if not _is_service_name(name):
            allowed = "names of 1 to 64 letters, digits and . _ ~ -"
            yield Rule("", ("services", name), found=f"the name {show(name)}", allowed=allowed)


def _route_rules(routes: Sequence[object], services: object) -> Iterator[Rule]:
    names: dict[str, int] = {}
    matches: dict[tuple[object, ...], int] = {}
    known = sorted(filter(_is_service_name, services)) if isinstance(services, Mapping) else []
    for index, route in enumerate(routes):
        service, name = _get(route, "service"), _get(route, "name")
        if isinstance(service, str) and service not in known:
            near = difflib.get_close_matches(service, known, n=5, cutoff=0) or ["none yet"]
            allowed = f"a name under services: {', '.join(near)}"
            yield Rule("", ("routes", index, "service"), show(service), allowed)
        if isinstance(name, str) and (first := names.setdefault(name, index)) != index:
            yield Rule(
                f"the name of routes[{first}], too",
                ("routes", index, "name"),
                show(name),
                "each name once",
            )
        if isinstance(route, Route):
            for method in route.methods or ("",):
                if (first := matches.setdefault((route.host, route.path, method), index)) != index:
                    message = f"the same host, path and method as routes[{first}]"
                    yield Rule(message, ("routes", index))
                    break


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
    if _get(auth, "jwt") is not None:
        return
    allowed = "a mapping with secret or secret_file"
    if _get(auth, "required") is True:
        message = "is missing, but auth.required is true"
        yield Rule(message, ("auth", "jwt"), allowed=allowed)
    for index, route in enumerate(routes):
        if _get(route, "auth") == "required":
            message = f"is missing, but routes[{index}].auth is required"
            yield Rule(message, ("auth", "jwt"), allowed=allowed)
            break
