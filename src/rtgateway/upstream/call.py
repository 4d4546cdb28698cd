"""What this row needs to know of a request: `gateway.exchange.Exchange` has this shape.

Requests live in a row below, so that they are seen here only through these protocols.
"""

from __future__ import annotations

from typing import Protocol

from rtgateway.core.retry import RetryPolicy
from rtgateway.errors import GatewayError
from rtgateway.upstream.instance import Instance
from rtgateway.wire.http1 import ResponseHead

__all__ = ["Body", "BodySink", "Call", "Patience", "PayloadSink", "Plan", "Upgrade"]


class BodySink(Protocol):
    """Where a request body goes: an upstream connection."""

    def body_payload(self, payload: bytes) -> None: ...
    def body_ended(self, trailers: list[tuple[bytes, bytes]]) -> None: ...


class Body(Protocol):
    """A request body that may still be on its way.

    :ivar ended: whether all of it has come from the client.
    :ivar trailers: its trailer fields, once ended.
    :ivar chunked: whether its length is unknown.
    """

    ended: bool
    trailers: list[tuple[bytes, bytes]]
    chunked: bool

    def attach(self, sink: BodySink) -> bytes:
        """Send what comes from now on to ``sink``; returns the payload that has come already."""
        ...

    def detach(self, sink: BodySink) -> None:
        """Send nothing more to ``sink``; nothing happens if another has been attached since."""
        ...

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    @property
    def repeatable(self) -> bool:
        """Whether `attach` may be called once more: the payload so far is still held."""
        ...


class PayloadSink(Protocol):
    """Where the payload of a streamed answer goes."""

    def payload(self, data: bytes) -> None: ...


class Patience(Protocol):
    """How long to wait for an instance, in seconds."""

    @property
    def connect(self) -> float: ...
    @property
    def first_byte(self) -> float: ...
    @property
    def between_bytes(self) -> float: ...


class Plan(Patience, Protocol):
    """How a request is to be treated; `gateway.route.Route` has this shape.

    ``retry``: when to try again; ``request``: seconds until the head of an answer, all tries
    together, 0 for no such limit.
    """

    @property
    def retry(self) -> RetryPolicy: ...
    @property
    def request(self) -> float: ...


class Upgrade(Protocol):
    """What a call that asks for another protocol brings (RFC 9110, 7.8).

    ``per_instance``: most WebSockets that its instance may have, this one included; 0: any number.
    """

    @property
    def per_instance(self) -> int: ...


class Call(Protocol):
    """One request on its way to a service.

    :ivar to_head: it is a HEAD request.
    :ivar upgrade: it asks to switch protocols; None for nearly all calls.
    :ivar path: as the client wrote it, without query.
    :ivar chosen: set by the service as soon as an instance is picked, again at each try.
    :ivar attempts: set by the service: how many tries there have been.
    :ivar answer_lines: header lines for the client; the service may add to them.
    """

    method: bytes
    to_head: bool
    path: bytes
    client_ip: str
    chosen: Instance | None
    attempts: int
    answer_lines: bytes

    @property
    def secure(self) -> bool:
        """Whether the client speaks TLS, as far as is known."""
        ...

    @property
    def body(self) -> Body | None: ...

    @property
    def upgrade(self) -> Upgrade | None: ...

    def values(self, key: bytes) -> list[bytes]:
        """All values of a request field (its name in lower case), in order."""
        ...

    def head_for(self, instance: Instance) -> bytes:
        """The request head to send to ``instance``, with its blank line."""
        ...

    def interrupt(self, error: GatewayError) -> None:
        """Raise ``error`` where the call waits, whatever it waits for."""
        ...

    def interim(self, head: ResponseHead) -> None:
        """A 1xx answer that is not 101 has come."""
        ...
