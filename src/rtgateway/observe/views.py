"""What this row needs to know of requests, services and instances, as protocols.

The objects live in rows below and are seen from here only through these shapes. All members are
read; nothing is written back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Protocol

__all__ = ["ChosenView", "ExchangeView", "InstanceView", "PoolView", "RouteView", "ServiceView"]


class PoolView(Protocol):
    """The connections to one instance. ``open`` counts those being made, lent and idle."""

    @property
    def open(self) -> int: ...
    @property
    def idle(self) -> Sized: ...
    @property
    def waiting(self) -> int: ...


class InstanceView(Protocol):
    """One instance, as it is now.

    ``label``: its normalised URL. ``inflight``: requests and streams, ``streams``: those of them
    that are event streams. ``latency``, ``last_latency``: seconds until the head of an answer; the
    first is a moving average, the second is None before the first answer.
    """

    @property
    def service(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def inflight(self) -> int: ...
    @property
    def streams(self) -> int: ...
    @property
    def latency(self) -> float: ...
    @property
    def last_latency(self) -> float | None: ...
    @property
    def pool(self) -> PoolView: ...


class ServiceView(Protocol):
    """A service and its instances."""

    @property
    def name(self) -> str: ...
    @property
    def instances(self) -> Sequence[InstanceView]: ...


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class RouteView(Protocol):
    @property
    def service(self) -> _Named: ...


class ChosenView(Protocol):
    @property
    def label(self) -> str: ...


class _BodyView(Protocol):
    @property
    def size(self) -> int: ...


class _IdentityView(Protocol):
    @property
    def subject(self) -> str: ...


class ExchangeView(Protocol):
    """A request that is over. Times are monotonic seconds; ``first_byte`` is 0.0 if none came.

    ``named``: fields by lower-cased name, User-Agent and Referer among them. ``body``: the
    request's, if it had one, with the bytes of payload that came. ``label``: what to call its
    address in metrics: a route's label, a page's path, or "unmatched"; never more of them than are
    configured. ``error_code`` is empty if nothing failed.
    """

    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def named(self) -> Mapping[bytes, bytes]: ...
    @property
    def client_ip(self) -> str: ...
    @property
    def request_id(self) -> bytes: ...
    @property
    def status(self) -> int: ...
    @property
    def body(self) -> _BodyView | None: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def started(self) -> float: ...
    @property
    def first_byte(self) -> float: ...
    @property
    def finished(self) -> float: ...
    @property
    def error_code(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def route(self) -> RouteView | None: ...
    @property
    def chosen(self) -> ChosenView | None: ...
    @property
    def identity(self) -> _IdentityView | None: ...
