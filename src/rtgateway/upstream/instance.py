"""One instance of a service: where it is, how busy and how fast it is, and its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtgateway.config import Instance as InstanceConfig
from rtgateway.core.balance import ewma

if TYPE_CHECKING:
    from rtgateway.upstream.pool import Pool

__all__ = ["Instance"]


class Instance:
    """Identity and live state of an instance; configuration objects come and go, this stays.

    :ivar label: its normalised URL; the value of the ``instance`` label in metrics and logs.
    :ivar base: the path of its URL without a trailing slash, put before every request's path.
    :ivar authority: the Host it is asked with, unless a route preserves the client's.
    :ivar inflight: requests and streams it is serving for this gateway.
    :ivar streams: how many of those are event streams.
    :ivar latency: seconds until the head of its answers, as a moving average (EWMA).
    """

    __slots__ = (
        "authority",
        "base",
        "host",
        "inflight",
        "label",
        "last_latency",
        "latency",
        "pool",
        "port",
        "service",
        "streams",
        "weight",
    )

    pool: Pool

    def __init__(self, service: str, settings: InstanceConfig) -> None:
        self.service = service
        self.label = settings.label
        self.host = settings.host
        self.port = settings.port
        self.base = settings.base_path.encode("ascii")
        self.weight = settings.weight
        default = 443 if settings.scheme == "https" else 80
        name = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = (name if self.port == default else f"{name}:{self.port}").encode("ascii")
        self.inflight = 0
        self.streams = 0
        self.latency = 0.0
        self.last_latency: float | None = None

    def answered(self, seconds: float) -> None:
        """Count the time until an answer's head."""
        self.last_latency = seconds
        self.latency = ewma(self.latency, seconds)

    def __repr__(self) -> str:
        return f"<Instance {self.label} {self.inflight} in flight {self.pool!r}>"
