"""What an instance answered, as the row below sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rtgateway.errors import GatewayError, UpstreamFailed
from rtgateway.net.tasks import Waiter
from rtgateway.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from rtgateway.upstream.attempt import Attempt
    from rtgateway.upstream.body_reader import BodyReader
    from rtgateway.upstream.call import PayloadSink

__all__ = ["Answer"]


class Answer:
    """What an instance answered.

    :ivar body: the whole body if ``complete``, else the part that came with the head.
    :ivar came: when the head came, in seconds of the monotonic clock.
    :ivar trailers: trailer fields, once complete.
    """

    __slots__ = (
        "_attempt",
        "_broken",
        "_reader",
        "body",
        "came",
        "complete",
        "head",
        "trailers",
    )

    def __init__(
        self,
        reader: BodyReader,
        head: ResponseHead,
        body: bytes = b"",
        complete: bool = False,
        came: float = 0.0,
    ) -> None:
        self._attempt: Attempt | None = None
        self._broken: GatewayError | None = None
        self._reader = reader
        self.head = head
        self.body = body
        self.complete = complete
        self.came = came
        self.trailers: Sequence[tuple[bytes, bytes]] = ()

    def stream_to(self, sink: PayloadSink) -> Waiter[bytes]:
        """Hand the rest of the body to ``sink`` as it comes.

        The last payload is not handed over but is the result, so that its end can go with it.
        """
        return self._reader.stream_to(sink)

    def pause(self) -> None:
        """Take no more from the instance: whoever reads the answer is slower."""
        self._reader.pause()

    def resume(self) -> None:
        self._reader.resume()

    def watch(self, attempt: Attempt) -> None:
        """Tell ``attempt`` when the body has ended; at once if it has."""
        if self.complete or self._broken is not None:
            attempt.ended(self._broken)
        else:
            self._attempt = attempt

    def ended(self, error: GatewayError | None) -> None:
        """The connection is done with this answer (for `BodyReader` to call, once)."""
        self._broken = error
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.ended(error)

    def endless(self) -> None:
        """Silence in this answer is no fault: it is a stream of events."""
        self._reader.wait_for_ever()
        if self._attempt is not None:
            self._attempt.endless()

    def hand_over(self, protocol: Any) -> Attempt:
        """Give the connection, which has switched protocols (101), to ``protocol``.

        Bytes that came behind the head are in ``body``.

        :return: what has to be told when the connection is over.
        :raises UpstreamFailed: it is over already.
        """
        attempt = self._attempt
        if self._broken is not None or attempt is None:
            raise UpstreamFailed("it closed when it had switched protocols", kind="reset")
        self._reader.hand_over(protocol)
        attempt.endless()
        self._attempt = None
        self.complete = True
        return attempt

    def fail(self, error: GatewayError) -> None:
        """It makes no sense after all: the connection ends, and the instance is to blame."""
        self._reader.fail(error)
        # Whoever raises it is in its traceback, and may hold this.
        self._broken = None

    def abandon(self) -> None:
        """Nobody wants the rest."""
        if not self.complete:
            self._reader.abort()

    def __repr__(self) -> str:
        return f"<Answer {self.head.status} {'complete' if self.complete else 'streaming'}>"
