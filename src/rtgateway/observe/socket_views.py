"""What metrics, pages and the log need to know of WebSockets (row ``ws``), as protocols.

Durations are seconds, and times are those of the monotonic clock. A message is one of a client or
an instance, however many frames it came in; a frame is any, control frames included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["SocketView", "SocketsView", "TrafficView"]


class TrafficView(Protocol):
    """What came from one side; ``bytes`` are those of its frames, their heads included."""

    @property
    def messages(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def bytes(self) -> int: ...


class _InstanceView(Protocol):
    @property
    def service(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def id(self) -> str: ...


class SocketView(Protocol):
    """A WebSocket: a client's side and an instance's, with the gateway between them.

    ``id``: short, unique in this process. ``identity``: the subject of its token, empty if there
    is none. ``route``: the route's label. ``path``: without its query. ``state``: ``open``, or
    ``closing`` from the first Close on. ``closed``: 0.0 as long as it is there. ``closed_by``:
    ``client``, ``upstream``, ``gateway``, or empty while nobody has; ``close_code`` and
    ``close_reason`` are what that side said, the reason of bounded length; 1005 if it said no
    code, 1006 if its connection was lost. ``close_detail``: in words whose fault it was, where the
    gateway closed and can tell; empty elsewhere. ``received``: from the client, ``sent``: from the
    instance. ``buffered_in``: bytes that wait to be taken by the instance, ``buffered_out``: by the
    client. ``rtt``: of the client's last pong, None before it.
    """

    @property
    def id(self) -> str: ...
    @property
    def request_id(self) -> bytes: ...
    @property
    def client_ip(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def route(self) -> str: ...
    @property
    def path(self) -> bytes: ...
    @property
    def subprotocol(self) -> str: ...
    @property
    def compressed(self) -> bool: ...
    @property
    def instance(self) -> _InstanceView: ...
    @property
    def opened(self) -> float: ...
    @property
    def closed(self) -> float: ...
    @property
    def state(self) -> str: ...
    @property
    def close_code(self) -> int: ...
    @property
    def close_reason(self) -> str: ...
    @property
    def close_detail(self) -> str: ...
    @property
    def closed_by(self) -> str: ...
    @property
    def received(self) -> TrafficView: ...
    @property
    def sent(self) -> TrafficView: ...
    @property
    def buffered_in(self) -> int: ...
    @property
    def buffered_out(self) -> int: ...
    @property
    def rtt(self) -> float | None: ...


class SocketsView(Protocol):
    """All WebSockets. What is counted counts from the start, and by labels of bounded number.

    ``live``: those that are there, by id. ``opened``: by route and service. ``closed``: by route,
    service, code, side and reason; other codes than the protocol's are ``3xxx`` and ``4xxx``, the
    reason is one of the gateway's own words, and empty if it was not the gateway that closed.
    ``refused``: by route and the word of the error. ``handshakes``: histograms
    (`observe.durations`) by route. ``rtts``: the same of pings, by route and side. ``draining``: no
    new ones are taken.
    """

    @property
    def live(self) -> Mapping[str, SocketView]: ...
    @property
    def opened(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def closed(self) -> Mapping[tuple[str, str, str, str, str], int]: ...
    @property
    def refused(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def handshakes(self) -> Mapping[str, Sequence[float]]: ...
    @property
    def rtts(self) -> Mapping[tuple[str, str], Sequence[float]]: ...
    @property
    def draining(self) -> bool: ...

    def totals(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Messages and bytes by route and direction (``in``, ``out``), live ones included."""
        ...
