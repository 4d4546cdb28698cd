"""What this row and the pages need to know of requests, services and instances, as protocols.

The objects live in rows below and are seen from here only through these shapes. All members are
read; nothing is written back. Durations are seconds, and times are those of the monotonic clock,
unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, Protocol

from rtgateway.observe.breaker_views import BreakerView

__all__ = [
    "AvailabilityView",
    "ChosenView",
    "ExchangeView",
    "HealthCheckView",
    "InstanceView",
    "NamedView",
    "PoolView",
    "ServiceView",
]


class PoolView(Protocol):
    """The connections to one instance. ``open`` counts those being made, lent and idle."""

    @property
    def open(self) -> int: ...
    @property
    def idle(self) -> Sized: ...
    @property
    def waiting(self) -> int: ...


class AvailabilityView(Protocol):
    """Whether an instance may be asked; ``reason`` says why not, and is empty if it may."""

    @property
    def ok(self) -> bool: ...
    @property
    def reason(self) -> str: ...


class _HealthView(Protocol):
    @property
    def up(self) -> bool: ...
    @property
    def reason(self) -> str: ...


class HealthCheckView(Protocol):
    """Active checks of an instance or a dependency; ``last_*``: of the latest check.

    ``last_checked``: seconds since the epoch; None before the first check.
    """

    @property
    def health(self) -> _HealthView: ...
    @property
    def last_checked(self) -> float | None: ...
    @property
    def last_duration(self) -> float | None: ...
    @property
    def last_detail(self) -> str: ...


class _EjectionView(Protocol):
    @property
    def until(self) -> float: ...
    @property
    def count(self) -> int: ...
    @property
    def reason(self) -> str: ...


class InstanceView(Protocol):
    """One instance, as it is now.

    ``label``: its normalised URL; ``id``: its short name, unique in its service. ``weight`` is what
    counts now, ``nominal`` what is configured. ``inflight``: requests, streams and
    WebSockets; ``streams``: those of them that are event streams, ``sockets``: WebSockets.
    ``latency``, ``last_latency``: seconds until the head of
    an answer; the first is a moving average, the second is None before the first answer.
    ``ejections``: how often it was ejected, ever. ``available``: whether it may be asked now;
    ``standing``: the same, however busy it is.
    """

    @property
    def service(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def nominal(self) -> int: ...
    @property
    def backup(self) -> bool: ...
    @property
    def draining(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def inflight(self) -> int: ...
    @property
    def streams(self) -> int: ...
    @property
    def sockets(self) -> int: ...
    @property
    def latency(self) -> float: ...
    @property
    def last_latency(self) -> float | None: ...
    @property
    def last_error(self) -> str: ...
    @property
    def pool(self) -> PoolView: ...
    @property
    def breaker(self) -> BreakerView: ...
    @property
    def health(self) -> HealthCheckView | None: ...
    @property
    def ejection(self) -> _EjectionView: ...
    @property
    def ejections(self) -> int: ...
    def available(self, now: float) -> AvailabilityView: ...
    def standing(self, now: float) -> AvailabilityView: ...


class _BudgetView(Protocol):
    @property
    def balance(self) -> float: ...


class _RoomView(Protocol):
    @property
    def waiting(self) -> int: ...
    @property
    def refused(self) -> int: ...


class _DiscoveryView(Protocol):
    def describe(self) -> Mapping[str, Any]: ...


class _ServiceSettings(Protocol):
    @property
    def critical(self) -> bool: ...


class ServiceView(Protocol):
    """A service and its instances. Numbers count from the start, except ``limit``.

    ``leaving``: removed, but still busy. ``retries``: further tries by their number (2, 3, ..).
    ``balancer_errors``: requests for which there was no instance, by reason. ``mirrored``: copies
    of requests made for it, by outcome. ``room``: where requests wait while it is full. ``limit``:
    most requests in flight at once, 0 for any number.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> _ServiceSettings: ...
    @property
    def instances(self) -> Sequence[InstanceView]: ...
    @property
    def leaving(self) -> Sequence[InstanceView]: ...
    @property
    def breaker(self) -> BreakerView | None: ...
    @property
    def panicking(self) -> bool: ...
    @property
    def requests(self) -> int: ...
    @property
    def retries(self) -> Mapping[int, int]: ...
    @property
    def hedges(self) -> int: ...
    @property
    def budget(self) -> _BudgetView | None: ...
    @property
    def budget_refusals(self) -> int: ...
    @property
    def balancer_errors(self) -> Mapping[str, int]: ...
    @property
    def mirrored(self) -> Mapping[str, int]: ...
    @property
    def room(self) -> _RoomView | None: ...
    @property
    def limit(self) -> int: ...
    @property
    def discovery(self) -> _DiscoveryView | None: ...


class NamedView(Protocol):
    @property
    def name(self) -> str: ...


class _RouteView(Protocol):
    @property
    def service(self) -> NamedView: ...


class ChosenView(Protocol):
    @property
    def label(self) -> str: ...


class _BodyView(Protocol):
    @property
    def size(self) -> int: ...


class _IdentityView(Protocol):
    @property
    def subject(self) -> str: ...


class _RepeatsView(Protocol):
    @property
    def log_texts(self) -> dict[str, tuple[str, str]]: ...


class ExchangeView(Protocol):
    """A request that is over. ``first_byte`` is 0.0 if none came.

    ``named``: fields by lower-cased name, User-Agent and Referer among them. ``body``: the
    request's, if it had one, with the bytes of payload that came. ``label``: what to call its
    address in metrics: a route's label, a page's path, or "unmatched"; never more of them than are
    configured. ``route``: None if it leads to no service; ``service``: whose answer was wanted,
    None if it did not come to that; ``chosen``: the instance asked last.
    ``attempts``: how many times it was sent; ``answered``: an answer of an instance was relayed.
    ``kind``: ``http``, ``sse`` for an event stream, or ``websocket``. ``error_code`` is empty if
    nothing failed; ``error_detail`` says why an instance failed, in our own words, bounded, and is
    often empty. ``repeats``: room for what is worked out for a request that is repeated, None for
    others.
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
    def error_detail(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def route(self) -> _RouteView | None: ...
    @property
    def service(self) -> NamedView | None: ...
    @property
    def chosen(self) -> ChosenView | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def answered(self) -> bool: ...
    @property
    def identity(self) -> _IdentityView | None: ...
    @property
    def repeats(self) -> _RepeatsView | None: ...
