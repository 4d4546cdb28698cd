"""What is decided for a request by its address: built once per route from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from rtgateway.core.retry import RetryPolicy
from rtgateway.gateway.auth import JwtAuth
from rtgateway.gateway.limits import Limits
from rtgateway.gateway.shaping import Shaping
from rtgateway.gateway.upgrade import Bridge
from rtgateway.upstream.service import Service

__all__ = ["Route"]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A route with its stages; a stage that is off is None, and costs nothing.

    :ivar label: its name or pattern, for metrics and logs; never a path that a client sent.
    :ivar strip: send only what follows the matched part of the path.
    :ivar body_limit: bytes; 0 for no limit.
    :ivar cancel: give up the request to the instance when the client leaves.
    :ivar retry: when to ask again; ``request``: seconds for all tries together, 0 for any time.
    :ivar proxy_headers: tell the client which service and instance have answered.
    :ivar websocket: makes WebSockets of requests that ask for one.
    :ivar connect: seconds; ``first_byte`` and ``between_bytes`` likewise.
    """

    label: str
    service: Service
    auth: JwtAuth | None
    limits: Limits | None
    strip: bool
    preserve_host: bool
    body_limit: int
    cancel: bool
    connect: float
    first_byte: float
    between_bytes: float
    request: float
    retry: RetryPolicy
    proxy_headers: bool
    shaping: Shaping | None
    websocket: Bridge | None

    def __repr__(self) -> str:
        return f"<Route {self.label} -> {self.service.name}>"
