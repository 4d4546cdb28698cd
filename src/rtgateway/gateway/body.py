"""The body of a request, on its way from the client to an instance.

Payload is never collected: what has come before an instance is chosen waits here (bounded, the
client is paused), then goes straight through. The first bytes stay held, as many as `hold` allows,
so that a small request can be sent again: on a fresh connection, or to another instance. Somebody
else may `copy_to` itself what comes; a copy never holds anything up.
"""

from __future__ import annotations

from typing import Protocol

from rtgateway.errors import GatewayError
from rtgateway.upstream.call import BodySink

__all__ = ["BodyCopy", "BodySource", "RequestBody"]

_HELD = 65536
"""Bytes held for another attempt unless `RequestBody.hold` says otherwise, and the most that a
client may send before anybody takes it."""


class BodySource(Protocol):
    """The client's side: its reading can be stopped."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class BodyCopy(Protocol):
    """Gets what a body holds beside the instance that it is for. Must not raise, nor wait."""

    def copied(self, payload: bytes) -> None: ...

    def copy_complete(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The body has ended; nothing more is said."""
        ...

    def copy_cut_off(self) -> None:
        """The exchange is over and the body never ended; nothing more is said."""
        ...


class RequestBody:
    """See the module.

    :ivar length: bytes announced, -1 if the body is chunked.
    :ivar size: payload bytes so far.
    """

    __slots__ = (
        "_copy",
        "_held",
        "_hold",
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
        self._copy: BodyCopy | None = None
        self._held: list[bytes] | None = []
        self._hold = _HELD
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

    def hold(self, limit: int) -> None:
        """Hold a body of up to ``limit`` bytes for further attempts; to be said before the first.

        A larger one is let go as it is passed on. However much may be held, a client is not read
        beyond 64 KiB while nobody takes it: waiting clients must not cost more than that.
        """
        self._hold = limit
        if self._sink is None and self.size > limit:
            self._source.pause_reading()

    def copy_to(self, copy: BodyCopy) -> None:
        """Give ``copy`` what has come and what comes; to be said before the first `attach`."""
        for payload in self._held or ():
            copy.copied(payload)
        if self.ended:
            copy.copy_complete(self.trailers)
        else:
            self._copy = copy

    def over(self) -> None:
        """The exchange is over: nothing is held any longer, and nothing more is copied."""
        self._held = None
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.copy_cut_off()

    # -- from the client --------------------------------------------------------------------

    def received(self, payload: bytes) -> None:
        """More payload.

        :raises GatewayError: 413, exactly when the limit is passed.
        """
        self.size += len(payload)
        if self._limit and self.size > self._limit:
            raise too_large()
        sink = self._sink
        if self._held is not None:
            if sink is None or self.size <= self._hold:
                self._held.append(payload)
            else:
                self._held = None
        if sink is not None:
            sink.body_payload(payload)
        elif self.size > self._hold or self.size > _HELD:
            self._source.pause_reading()
        if self._copy is not None:
            self._copy.copied(payload)

    def finished(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The last payload has been received."""
        self.ended = True
        self.trailers = trailers
        if self._sink is not None:
            self._sink.body_ended(trailers)
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.copy_complete(trailers)

    # -- to an instance (upstream.call.Body) --------------------------------------------------

    def attach(self, sink: BodySink) -> bytes:
        held = self._held
        if held is None:
            raise AssertionError("the start of this body is gone")
        self._sink = sink
        payload = b"".join(held)
        # One piece from now on, the one that is sent: nothing is held twice.
        self._held = [payload] if self.size <= self._hold else None
        self._source.resume_reading()
        return payload

    def detach(self, sink: BodySink) -> None:
        # An answer that was held is given up after the next instance got the body.
        if self._sink is sink:
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
