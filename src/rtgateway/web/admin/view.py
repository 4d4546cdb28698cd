"""What the pages look at, and the little that they change, as protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from rtgateway.config import Config
from rtgateway.observe.breaker_views import BreakerView
from rtgateway.observe.limit_views import StateView
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.outcomes import Outcomes
from rtgateway.observe.pressure import Pressure
from rtgateway.observe.socket_views import SocketsView, SocketView
from rtgateway.observe.statistics import Statistics
from rtgateway.observe.views import HealthCheckView, InstanceView, ServiceView
from rtgateway.upstream.discovery import Found

__all__ = [
    "DependencyView",
    "GatewayView",
    "ManagedBreaker",
    "ManagedInstance",
    "ManagedService",
    "ManagedSocket",
    "ManagedSockets",
]


class _SiteView(Protocol):
    @property
    def channels(self) -> Sized: ...
    @property
    def draining(self) -> bool: ...


class _DependencySettings(Protocol):
    @property
    def critical(self) -> bool: ...


class DependencyView(HealthCheckView, Protocol):
    """The check of something that services depend on."""

    @property
    def settings(self) -> _DependencySettings: ...


class ManagedBreaker(BreakerView, Protocol):
    """A breaker that an operator may set. ``now``: monotonic seconds."""

    def reset(self, now: float) -> None: ...
    def force_open(self, now: float) -> None: ...
    def disable(self, now: float) -> None: ...


class ManagedInstance(InstanceView, Protocol):
    """An instance whose breaker an operator may set."""

    @property
    def breaker(self) -> ManagedBreaker: ...


class ManagedService(ServiceView, Protocol):
    """A service whose instances an operator may change. An unknown id is a KeyError."""

    @property
    def instances(self) -> Sequence[ManagedInstance]: ...
    @property
    def leaving(self) -> Sequence[ManagedInstance]: ...
    @property
    def breaker(self) -> ManagedBreaker | None: ...
    def find(self, id: str) -> ManagedInstance: ...

    def add(self, found: Found) -> ManagedInstance:
        """Take in a new instance.

        :raises ValueError: it belongs already, or there are too many.
        """
        ...

    def remove(self, id: str) -> ManagedInstance: ...
    def reweigh(self, id: str, weight: int) -> ManagedInstance: ...
    def drain(self, id: str) -> ManagedInstance: ...
    def undrain(self, id: str) -> ManagedInstance: ...


class ManagedSocket(SocketView, Protocol):
    """A WebSocket that an operator may close."""

    def close(self, code: int, reason: str) -> None:
        """Close both sides; ``code`` may be sent (RFC 6455, 7.4), 123 bytes of ``reason``."""
        ...


class ManagedSockets(SocketsView, Protocol):
    """All WebSockets."""

    @property
    def live(self) -> Mapping[str, ManagedSocket]: ...


class GatewayView(StateView, Protocol):
    """The gateway. ``started_at``: monotonic seconds; ``dependencies``: their checks, by name."""

    @property
    def reactor(self) -> IReactorTime: ...
    @property
    def config(self) -> Config: ...
    @property
    def services(self) -> Mapping[str, ManagedService]: ...
    @property
    def sockets(self) -> ManagedSockets: ...
    @property
    def dependencies(self) -> Mapping[str, DependencyView]: ...
    @property
    def site(self) -> _SiteView: ...
    @property
    def started_at(self) -> float: ...
    @property
    def pressure(self) -> Pressure: ...
    @property
    def statistics(self) -> Statistics: ...
    @property
    def outcomes(self) -> Outcomes: ...
    @property
    def metrics(self) -> Metrics: ...
