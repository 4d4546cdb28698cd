"""What metrics and pages need to know of rate limits, bans, IP lists and the store, as protocols.

Rows above have the things themselves. What is counted counts from the start, and by labels of the
configuration only. What is awaited (a `net.tasks.Waiter`, a Deferred, a coroutine) may wait for a
shared store, and raises `store.errors.StoreError` if that does not answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence, Sized
from typing import Any, Literal, Protocol

__all__ = [
    "BanView",
    "BansView",
    "IpListsView",
    "LeasesView",
    "LimiterView",
    "LimitersView",
    "ListName",
    "StateView",
    "StoreView",
    "UsageView",
]

ListName = Literal["allow", "deny"]


class UsageView(Protocol):
    """What one key has left. ``reset``: seconds until it has all of it again."""

    @property
    def key(self) -> str: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset(self) -> float: ...


class LimiterView(Protocol):
    """A limiter.

    ``algorithm``, ``per``: in the words of the configuration. ``rate``: units per second in the
    long run, as it is now. ``configured``: everything that the configuration says about it, as JSON
    can hold it; durations in seconds. ``current``: the same with what was changed at run time.
    ``persisted``: whether that change is kept in the shared store, and holds for all gateways.
    ``factor``: by which load scales it now (adaptive ones), None for all others.
    """

    @property
    def algorithm(self) -> str: ...
    @property
    def per(self) -> Sequence[str]: ...
    @property
    def rate(self) -> float: ...
    @property
    def configured(self) -> Mapping[str, Any]: ...
    @property
    def current(self) -> Mapping[str, Any]: ...
    @property
    def changed(self) -> bool: ...
    @property
    def persisted(self) -> bool: ...
    @property
    def factor(self) -> float | None: ...


class LeasesView(Protocol):
    """The leases of one limiter.

    ``live``: those that this gateway has. ``leased``, ``returned``: units, over time. ``local``:
    decisions made without asking the store: by a lease, or while it did not answer.
    """

    @property
    def live(self) -> int: ...
    @property
    def leased(self) -> int: ...
    @property
    def returned(self) -> int: ...
    @property
    def local(self) -> int: ...


class LimitersView(Protocol):
    """All limiters.

    ``degraded``: there is a shared store, and it is decided without it. ``degraded_since``:
    monotonic seconds, 0.0 unless degraded. ``degraded_seconds``: all the time it was so, this one
    included. ``gateways``: how many share the limits, as far as is known; 1 without a shared store.
    ``limiters``: by name, in the order of the configuration. ``decisions``: by limiter, level
    (``ip``, ``identity``, ...) and outcome (``admitted``, ``refused``, ``exempt``, ``failed_open``,
    ``failed_closed``, ``reported``). ``exceeded``: refused requests by service and ``user`` or
    ``anonymous``. ``denied``: requests refused by the IP lists; ``banned``: because of a ban.
    ``leases``: by limiter; empty without a shared store. ``keys``: how many keys are remembered in
    this process, by limiter.
    """

    @property
    def mode(self) -> Literal["memory", "redis"]: ...
    @property
    def degraded(self) -> bool: ...
    @property
    def degraded_since(self) -> float: ...
    @property
    def degraded_seconds(self) -> float: ...
    @property
    def gateways(self) -> int: ...
    @property
    def limiters(self) -> Mapping[str, LimiterView]: ...
    @property
    def decisions(self) -> Mapping[tuple[str, str, str], int]: ...
    @property
    def exceeded(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def denied(self) -> int: ...
    @property
    def banned(self) -> int: ...
    @property
    def leases(self) -> Mapping[str, LeasesView]: ...
    @property
    def keys(self) -> Mapping[str, int]: ...

    def usage(self, name: str, count: int) -> Awaitable[Sequence[UsageView]]:
        """The ``count`` keys of a limiter that are asked for most here, the most wanted first."""
        ...

    def reset(self, subject: str) -> Awaitable[int]:
        """Forget what a subject (``ip:...``, ``identity:...``) has taken of all limiters.

        How many of them knew it; -1: the store did not answer.
        """
        ...

    def change(self, name: str, numbers: Mapping[str, Any], persist: bool) -> Awaitable[object]:
        """Let a limiter have other numbers, in the keys of the configuration; others are as there.

        :param persist: for all gateways, and kept in the shared store; else for this process.
        :raises ConfigError: what is wrong with them; nothing is changed then.
        :raises ValueError: it is too much to keep.
        """
        ...

    def restore(self, name: str) -> Awaitable[object]:
        """Back to what is configured; in the shared store too if it is kept there."""
        ...


class BanView(Protocol):
    """A ban.

    ``until``: seconds since the epoch. ``strikes``: bans in a row that refusals led to, this one
    included; 0: an operator's. ``local``: other gateways do not know of it.
    """

    @property
    def subject(self) -> str: ...
    @property
    def until(self) -> float: ...
    @property
    def reason(self) -> str: ...
    @property
    def strikes(self) -> int: ...
    @property
    def local(self) -> bool: ...


class BansView(Protocol):
    """Who is banned. ``imposed``: bans that began, by whatever means, as seen by this gateway."""

    @property
    def imposed(self) -> int: ...

    def __len__(self) -> int: ...

    def all(self) -> Iterable[BanView]: ...

    def ban(self, subject: str, seconds: float, reason: str) -> Awaitable[object] | None:
        """Ban a subject, or let its ban last as long as this.

        :raises ValueError: one of the arguments makes no sense; at once.
        """
        ...

    def lift(self, subject: str) -> Awaitable[bool]:
        """End a ban, and forget what led to it; whether there was one."""
        ...


class IpListsView(Protocol):
    """Addresses and networks that are let through, or not, whatever they ask for.

    ``allow``, ``deny``: how many networks are on each list.
    """

    @property
    def allow(self) -> Sized: ...
    @property
    def deny(self) -> Sized: ...

    def entries(self, which: ListName) -> Collection[tuple[str, str]]:
        """Each network of a list, and where it is from: ``config`` or ``runtime``."""
        ...

    def verdict(self, ip: str) -> str:
        """``allow``, ``deny``, or empty if neither list has a word about it."""
        ...

    def add(self, which: ListName, networks: Sequence[str]) -> Awaitable[int]:
        """Put networks on a list; how many of them were not there.

        :raises ValueError: there are too many; at once or when awaited. None is added then.
        """
        ...

    def remove(self, which: ListName, networks: Sequence[str]) -> Awaitable[int]:
        """Take networks off a list that were put there at run time; how many were there.

        :raises ValueError: one of them is configured; at once. None is removed then.
        """
        ...


class StoreView(Protocol):
    """The connection to a shared store.

    ``deaf``: it is up, but news of other gateways don't come: what is common is looked at once a
    second. ``failing_since``: monotonic seconds, 0.0 while it is up. ``durations``: histograms
    (`observe.durations`, with the bounds `BRIEF`) by operation. ``failures``: by operation and
    reason (`store.errors.Reason`).
    """

    @property
    def up(self) -> bool: ...
    @property
    def deaf(self) -> bool: ...
    @property
    def failing_since(self) -> float: ...
    @property
    def durations(self) -> Mapping[str, Sequence[float]]: ...
    @property
    def failures(self) -> Mapping[tuple[str, Any], int]: ...


class StateView(Protocol):
    """All of it. ``store``: None where everything is in memory."""

    @property
    def limits(self) -> LimitersView: ...
    @property
    def bans(self) -> BansView: ...
    @property
    def ip_lists(self) -> IpListsView: ...
    @property
    def store(self) -> StoreView | None: ...
