"""Finished requests, services and instances to observe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Pool:
    """Connections, counted."""

    open: int = 0
    idle: tuple[str, ...] = ()
    waiting: int = 0


@dataclass(eq=False)
class Instance:
    """An instance that does nothing."""

    service: str = "users"
    label: str = "http://a:3001"
    inflight: int = 0
    streams: int = 0
    latency: float = 0.0
    last_latency: float | None = None
    pool: Pool = field(default_factory=Pool)


@dataclass
class Service:
    """A service with such instances."""

    name: str = "users"
    instances: tuple[Instance, ...] = ()


@dataclass
class Body:
    """A request body of ``size`` bytes."""

    size: int = 0


@dataclass(eq=False)
class Route:
    """A route to a service."""

    service: Service = field(default_factory=Service)


@dataclass
class Identity:
    """Who a token speaks for."""

    subject: str = ""


@dataclass
class Exchange:
    """A GET that was answered with 200 after 2 ms, its head after 1 ms."""

    method: bytes = b"GET"
    path: bytes = b"/api/users/1"
    version: int = 11
    named: Mapping[bytes, bytes] = field(default_factory=dict)
    client_ip: str = "192.0.2.1"
    request_id: bytes = b"r-1"
    status: int = 200
    body: Body | None = None
    bytes_out: int = 150
    started: float = 100.0
    first_byte: float = 100.001
    finished: float = 100.002
    error_code: str = ""
    kind: str = "http"
    label: str = "/api/:service/*"
    route: Route | None = field(default_factory=Route)
    chosen: Instance | None = field(default_factory=Instance)
    identity: Identity | None = None


def fields(**values: bytes) -> dict[bytes, bytes]:
    """Header fields by their names; underscores in names are hyphens."""
    return {key.replace("_", "-").encode(): value for key, value in values.items()}
