"""The body of a request, on its way from the client to an instance.

Payload is never collected: what has come before an instance is chosen waits here (bounded, the
client is paused), then goes straight through. The first `_KEPT` bytes stay held so that a small
request can be sent once more when its connection turns out to be dead.
"""

from __future__ import annotations

from typing import Protocol

from rtgateway.errors import GatewayError
from rtgateway.upstream.call import BodySink

__all__ = ["BodySource", "RequestBody"]

_KEPT = 65536


class BodySource(Protocol):
    """The client's side: its reading can be stopped."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class RequestBody:
    """See the module.

    :ivar length: bytes announced, -1 if the body is chunked.
    :ivar size: payload bytes so far.
    """

    __slots__ = (
        "_held",
        "_limit",
        "_sink",
        "_source",
        "chunked",
        "ended",
        "length",
        "size",
        "trailers",
    )

    def __init__(self, source: BodySource, length: int) -> None:
        self._source = source
        self.length = length
        self._sink: BodySink | None = None
        self._held: list[bytes] | None = []
        self.chunked = length < 0
        self.ended = False
        self.size = 0
        self._limit = 0
        self.trailers: list[tuple[bytes, bytes]] = []

    def bound(self, limit: int) -> None:
        """Allow ``limit`` bytes, 0 for any number; early by what is announced, then exactly.

        :raises GatewayError: 413.
        """
        if limit and (self.length > limit or self.size > limit):
            raise too_large()
        self._limit = limit

    # -- from the client --------------------------------------------------------------------

    def received(self, payload: bytes) -> None:
        """More payload.

        :raises GatewayError: 413, exactly when the limit is passed.
        """
        self.size += len(payload)
        if self._limit and self.size > self._limit:
            raise too_large()
        if self._held is not None:
            if self.size <= _KEPT or self._sink is None:
                self._held.append(payload)
            else:
                self._held = None
        if self._sink is not None:
            self._sink.body_payload(payload)
        elif self.size > _KEPT:
            self._source.pause_reading()

    def finished(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The last payload has been received."""
        self.ended = True
        self.trailers = trailers
        if self._sink is not None:
            self._sink.body_ended(trailers)

    # -- to an instance (upstream.call.Body) --------------------------------------------------

    def attach(self, sink: BodySink) -> bytes:
        held = self._held
        if held is None:
            raise AssertionError("the start of this body is gone")
        self._sink = sink
        payload = b"".join(held)
        if self.size > _KEPT:
            self._held = None
        self._source.resume_reading()
        return payload

    def detach(self) -> None:
        self._sink = None

    def pause(self) -> None:
        self._source.pause_reading()

    def resume(self) -> None:
        self._source.resume_reading()

    @property
    def repeatable(self) -> bool:
        return self._held is not None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "open"
        return f"<RequestBody {state} {self.size} bytes>"


def too_large() -> GatewayError:
    """The refusal of a body that is larger than its route allows."""
    return GatewayError(413, "body_too_large", "Request body is too large", fault="client")
