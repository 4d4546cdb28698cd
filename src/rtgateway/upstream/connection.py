"""One HTTP/1.1 connection to an instance: a request out, its answer in, again and again.

The current state is the method that takes the next bytes. A connection is in one place at a
time: idle in its pool, or lent to one call. Whatever arrives that the call did not ask for ends
the connection; it is never kept for the next one (RFC 9112, 9.2: response splitting, desync).
What does not come together with its head is the business of `upstream.body_reader`.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet import interfaces
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.errors import BadRequest, ClientGone, GatewayError, UpstreamFailed, UpstreamTimeout
from rtgateway.net.handover import hand_over
from rtgateway.net.tasks import Waiter
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.body_reader import BodyReader
from rtgateway.wire.body import BodyDecoder, UntilCloseBody, chunk, decoder_for, last_chunk
from rtgateway.wire.http1 import HeadLimits, ResponseHead, ResponseParser

if TYPE_CHECKING:
    from rtgateway.upstream.call import Call, Patience
    from rtgateway.upstream.pool import Pool

__all__ = ["Connection"]

_NEVER = float("inf")
_LOOKED_AT = 1.0
"""Seconds within which the sweep looks at a connection even if it does not know of a deadline."""
_LINGER = 2.0
"""Seconds for an instance to take a last rest and, under TLS, to say goodbye."""
_MAX_INTERIM = 16
"""1xx answers before the real one: they are passed on whether the client keeps up or not."""


@implementer(interfaces.IPushProducer)
class Connection(Protocol):
    """See the module. Created by `Pool`, which gets it back through ``release`` and ``lost``."""

    transport: Any  # several interfaces at once: TCP transport, consumer, producer

    def __init__(self, pool: Pool, limits: HeadLimits, trailer_bytes: int) -> None:
        self.pool = pool
        self.deadline = _NEVER
        self.served = 0
        self._interims = 0
        self._parser = ResponseParser(limits)
        self._trailer_bytes = trailer_bytes
        self._receive = self._while_idle
        self._call: Call | None = None
        self._patience: Patience
        self._waiter: Waiter[Answer] | None = None
        self._reader = BodyReader(self)
        self._heard = False
        self._sending = False
        self._blocked = False

    # -- asking -----------------------------------------------------------------------------

    def ask(self, call: Call, head: bytes, patience: Patience, now: float) -> Waiter[Answer]:
        """Send a request; its body, if any, follows as it comes from the client."""
        self._call = call
        self._patience = patience
        self._interims = 0
        self._heard = False
        self._parser.to_head = call.to_head
        self._receive = self._while_head
        first_byte = patience.first_byte
        self.deadline = now + first_byte
        waiter: Waiter[Answer] = Waiter()
        self._waiter = waiter
        body = call.body
        if body is not None:
            self._sending = True
            payload = body.attach(self)
            head += self._framed(payload, body.ended, body.chunked, body.trailers)
            self._sending = not body.ended
            if self._sending:
                self.deadline = _NEVER
        if first_byte < _LOOKED_AT:
            self.pool.hurry(self, now)
        self.transport.write(head)
        return waiter

    @staticmethod
    def _framed(
        payload: bytes, ended: bool, chunked: bool, trailers: list[tuple[bytes, bytes]]
    ) -> bytes:
        if not chunked:
            return payload
        framed = chunk(payload) if payload else b""
        return framed + last_chunk(trailers) if ended else framed

    def body_payload(self, payload: bytes) -> None:
        """More of the request body."""
        call = self._call
        if call is not None and call.body is not None and payload:
            self.transport.write(chunk(payload) if call.body.chunked else payload)

    def body_ended(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The request body is complete."""
        call = self._call
        self._sending = False
        if call is None or call.body is None:
            return
        if call.body.chunked:
            self.transport.write(last_chunk(trailers))
        if self._receive == self._while_head:
            self.deadline = monotonic() + self._patience.first_byte

    # -- the instance takes no more (IPushProducer of our own transport) ------------------------

    def pauseProducing(self) -> None:
        self._blocked = True
        call = self._call
        if call is not None and call.body is not None:
            call.body.pause()
            if self._sending and self._receive == self._while_head:
                self.deadline = monotonic() + self._patience.first_byte

    def resumeProducing(self) -> None:
        self._blocked = False
        call = self._call
        if call is not None and call.body is not None:
            if self._sending and self._receive == self._while_head:
                self.deadline = _NEVER
            call.body.resume()

    def stopProducing(self) -> None:
        """The transport is closing; connectionLost follows."""

    # -- bytes in ---------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        # Under TLS the socket belongs to the transport of the transport.
        handle = getattr(transport, "transport", transport).getHandle()
        watched = select.poll()
        watched.register(handle, select.POLLIN | select.POLLRDHUP)
        self._poll = watched.poll
        # Backpressure: told when the instance takes no more, for as long as the connection lives.
        transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._receive(data)
        except BadRequest as error:  # a body decoder, which can't know whose body it decodes
            self._break(UpstreamFailed(f"the answer is not valid HTTP: {error.message}"))
        except GatewayError as error:
            # Before its head is passed on, an answer that makes no sense may be asked for again.
            error.retryable = self._reader.answer is None
            self._break(error)

    def _while_idle(self, data: bytes) -> None:
        raise UpstreamFailed("it spoke without being asked")

    def _while_closed(self, data: bytes) -> None:
        """Bytes that were on their way when the connection was given up."""

    def _while_head(self, data: bytes) -> None:
        self._heard = True
        parser = self._parser
        head = parser.feed(data)
        if head is not None and head.status < 200:
            head = self._interim(head)
        if head is None:
            return
        now = monotonic()
        rest = parser.rest
        if head.status == 101:
            self._begin_body(Answer(self._reader, head, rest, came=now), b"", UntilCloseBody())
            return
        length = head.length
        if length == len(rest):
            waiter = self._waiter
            assert waiter is not None
            self.release(head.keep_alive, now)
            waiter.succeed(Answer(self._reader, head, rest, True, now))
        elif 0 <= length < len(rest):
            raise UpstreamFailed("it sent bytes behind the end of its answer")
        else:
            decoder = decoder_for(length, self._trailer_bytes)
            self._begin_body(Answer(self._reader, head, came=now), rest, decoder)

    def _interim(self, head: ResponseHead | None) -> ResponseHead | None:
        """Pass on 1xx answers; the head of the real one if it came with them."""
        call = self._call
        assert call is not None
        while head is not None and head.status < 200:
            self._interims += 1
            if head.status == 101:
                if call.upgrade is None:
                    raise UpstreamFailed("it switched protocols without being asked")
                break
            if self._interims > _MAX_INTERIM:
                raise UpstreamFailed("it sent too many interim answers")
            call.interim(head)
            rest = self._parser.rest
            head = self._parser.feed(rest) if rest else None
        return head

    def _begin_body(self, answer: Answer, rest: bytes, decoder: BodyDecoder) -> None:
        waiter = self._waiter
        assert waiter is not None
        if rest:
            answer.body = decoder.feed(rest)
        if not decoder.done:
            self._waiter = None
            reader, silence = self._reader, self._patience.between_bytes
            self._receive = reader.while_body
            self.deadline = answer.came + silence
            reader.begin(answer, decoder, silence, waiter)
            return
        if decoder.rest:
            raise UpstreamFailed("it sent bytes behind the end of its answer")
        answer.complete = True
        answer.trailers = decoder.trailers
        self.release(answer.head.keep_alive, answer.came)
        waiter.succeed(answer)

    def hand_over(self, protocol: Any, *, paused: bool) -> None:
        """Give the transport to ``protocol``, for good; reading goes on if it was ``paused``."""
        self._call = None
        self.pool.forget(self)
        self.pool.ended(self)
        hand_over(self.transport, protocol)
        if paused:
            self.transport.resumeProducing()
        self._let_go()
        self.transport = None

    def release(self, keep_alive: bool, now: float) -> None:
        """The answer is complete: back into the pool, or closed."""
        call, self._call = self._call, None
        self._waiter = None
        self.served += 1
        if call is not None and call.body is not None:
            call.body.detach(self)
        if keep_alive and not (self._sending or self._blocked):
            self._receive = self._while_idle
            self.pool.release(self, now)
        else:
            self._retire()

    def _retire(self) -> None:
        """Close what has served its last; at once if the instance still awaits a request body."""
        if self._sending:
            self._receive = self._while_closed
            self.deadline = _NEVER
            self.pool.forget(self)
            self.transport.abortConnection()
        else:
            self.close()

    # -- the end ----------------------------------------------------------------------------

    def usable(self) -> bool:
        """Whether an idle connection may be lent.

        The instance may have closed it, or said something that nobody has read yet and that would
        be taken for the answer to what is sent now. So the kernel is asked (0.5 us), always: a busy
        gateway reuses a connection long before it hears what came on it.
        """
        return not self._poll(0)

    def expired(self, now: float) -> None:
        """Its deadline has passed (called by the sweep)."""
        if self._receive == self._while_closed:
            self.deadline = _NEVER
            self.transport.abortConnection()
        elif self._call is None:
            self.close()
        elif self._reader.answer is not None:
            self._break(UpstreamTimeout("between_bytes"))
        else:
            self._break(UpstreamTimeout("first_byte", retryable=True))

    def close(self) -> None:
        """Close a connection on which no call is."""
        self._receive = self._while_closed
        self.deadline = monotonic() + _LINGER
        self.pool.forget(self)
        # A producer that stays registered would keep the transport open for what it may yet write.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Give up the call and the connection with it."""
        self.fail(ClientGone())  # nobody's failure

    def fail(self, error: GatewayError) -> None:
        """The same for a reason that whoever has the answer has found."""
        if self._receive not in (self._while_closed, _nothing_more):
            self._waiter = None
            self._break(error)

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        self.pool.ended(self)
        if self._receive != self._while_closed:
            if self._reader.ends_at_close() and reason.check(ConnectionDone) is not None:
                self._reader.complete(b"")
            else:
                self._break(self._reset())
        self._let_go()

    def _reset(self) -> UpstreamFailed:
        """What the end of the connection is to its call."""
        detail = "it closed without an answer"
        if self._reader.answer is not None:
            detail = "it closed in the middle of its answer"
        elif self._heard:
            detail = "it closed in the middle of its answer's head"
        reused = self.served > 0
        return UpstreamFailed(detail, kind="reset", retryable=not self._heard, reused=reused)

    def _let_go(self) -> None:
        """Nothing more comes here: no cycle keeps what is not needed any more."""
        self._receive = _nothing_more
        self._parser.release()
        del self._reader

    def _break(self, error: GatewayError) -> None:
        """End the connection, and the call on it with ``error``."""
        waiter, call = self._waiter, self._call
        self._call = self._waiter = None
        self._receive = self._while_closed
        self.deadline = _NEVER
        self.pool.forget(self)
        self.transport.abortConnection()
        if call is not None and call.body is not None:
            call.body.detach(self)
        self._reader.broken(error)
        if waiter is not None:
            waiter.fail(error)

    def __repr__(self) -> str:
        state = self._receive.__name__.rpartition("while_")[2]
        return f"<Connection {state} served={self.served}>"


def _nothing_more(data: bytes) -> None:
    """The state of a connection that has ended, or that another protocol has."""
