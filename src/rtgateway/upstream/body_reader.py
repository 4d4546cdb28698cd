"""What comes behind the head of an answer: a body in pieces, or another protocol.

A connection has one reader, for one answer at a time. An answer that came whole, head and body in
one read, never gets here. While nobody reads, the kernel keeps the rest.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from rtgateway.errors import GatewayError, UpstreamFailed
from rtgateway.net.tasks import Waiter
from rtgateway.wire.body import BodyDecoder

if TYPE_CHECKING:
    from rtgateway.upstream.answer import Answer
    from rtgateway.upstream.call import PayloadSink
    from rtgateway.upstream.connection import Connection

__all__ = ["BodyReader"]

_NEVER = float("inf")


class BodyReader:
    """See the module. Created by `Connection`; told by `Answer` what its reader wants.

    :ivar answer: the one whose rest comes now; None if there is none.
    """

    __slots__ = (
        "_between_bytes",
        "_connection",
        "_decoder",
        "_paused",
        "_sink",
        "_waiter",
        "answer",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoder: BodyDecoder
        self._between_bytes = _NEVER
        self._sink: PayloadSink | None = None
        self._waiter: Waiter[bytes] | None = None
        self._paused = False
        self.answer: Answer | None = None

    def begin(
        self, answer: Answer, decoder: BodyDecoder, between_bytes: float, waiter: Waiter[Answer]
    ) -> None:
        """Give ``answer`` to who waits for it; the next bytes are its rest.

        :param between_bytes: seconds that the instance may be silent.
        """
        self.answer = answer
        self._decoder = decoder
        self._between_bytes = between_bytes
        waiter.succeed(answer)
        if self._sink is None and self.answer is answer:
            # Nobody reads yet: something is awaited in between.
            self.pause()

    # -- bytes in ---------------------------------------------------------------------------

    def while_body(self, data: bytes) -> None:
        """More of the body: the state of the connection until its end.

        :raises GatewayError: it makes no sense.
        """
        decoder = self._decoder
        payload = decoder.feed(data)
        if decoder.done:
            if decoder.rest:
                raise UpstreamFailed("it sent bytes behind the end of its answer")
            self.complete(payload)
            return
        if not self._paused:
            self._connection.deadline = monotonic() + self._between_bytes
        if not payload:
            return
        sink = self._sink
        if sink is not None:
            sink.payload(payload)
        else:
            # Paused, but TLS hands over whatever it has decrypted.
            assert self.answer is not None
            self.answer.body += payload

    def ends_at_close(self) -> bool:
        """Whether somebody reads a body that is complete if the connection ends here."""
        return self._waiter is not None and self._decoder.ends_at_close()

    def complete(self, last: bytes) -> None:
        """All has come; ``last`` is the last of its payload."""
        answer, decoder, waiter = self.answer, self._decoder, self._waiter
        assert answer is not None
        answer.complete = True
        answer.trailers = decoder.trailers
        if waiter is None:
            # Nobody reads yet: now it is one that has come whole.
            answer.body += last
        self.answer = self._sink = self._waiter = None
        connection = self._connection
        if self._paused:
            self._paused = False
            connection.transport.resumeProducing()
        connection.release(answer.head.keep_alive, monotonic())
        answer.ended(None)
        if waiter is not None:
            waiter.succeed(last)

    def broken(self, error: GatewayError) -> None:
        """The connection has ended before the body has."""
        answer, waiter = self.answer, self._waiter
        self.answer = self._sink = self._waiter = None
        if answer is not None:
            answer.ended(error)
        if waiter is not None:
            waiter.fail(error)

    # -- what whoever reads wants ---------------------------------------------------------------

    def stream_to(self, sink: PayloadSink) -> Waiter[bytes]:
        """See `Answer.stream_to`."""
        waiter: Waiter[bytes] = Waiter()
        if self.answer is None:
            waiter.fail(UpstreamFailed("it closed in the middle of its answer", kind="reset"))
            return waiter
        self._sink = sink
        self._waiter = waiter
        return waiter

    def pause(self) -> None:
        """Whoever reads is slower."""
        if not self._paused:
            self._paused = True
            connection = self._connection
            connection.deadline = _NEVER
            connection.transport.pauseProducing()

    def resume(self) -> None:
        """Whoever reads keeps up."""
        if self._paused:
            self._paused = False
            connection = self._connection
            connection.deadline = monotonic() + self._between_bytes
            connection.transport.resumeProducing()

    def wait_for_ever(self) -> None:
        """Silence inside this answer is no fault."""
        self._connection.deadline = self._between_bytes = _NEVER

    def hand_over(self, protocol: Any) -> None:
        """The instance has switched protocols: give the transport to ``protocol``, for good."""
        self.answer = None
        self._connection.hand_over(protocol, paused=self._paused)

    def fail(self, error: GatewayError) -> None:
        """The answer makes no sense to whoever has it, who needs not be told."""
        self._waiter = None
        self._connection.fail(error)

    def abort(self) -> None:
        """Nobody wants the rest."""
        self._waiter = None
        self._connection.abort()

    def __repr__(self) -> str:
        return f"<BodyReader {'paused ' * self._paused}{self.answer!r}>"
