"""Copies of a route's requests for another service, whose answers nobody sees.

Built once per route from ``routes[].mirror``; called by ``gateway.shaping``. A client never waits
for its copy, is never held up by it, and never learns what became of it. A copy goes out when the
request has come whole and the reactor has nothing better to do; it has one try, and its answer is
read and dropped, up to a size and a time. All of it is bounded: what is too much is not mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall

from rtgateway import config
from rtgateway.core.deadlines import Wheel
from rtgateway.core.retry import RetryPolicy
from rtgateway.errors import ClientGone, GatewayError
from rtgateway.gateway.relay import is_event_stream
from rtgateway.net.log import Logger
from rtgateway.net.tasks import Task
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.call import Body, BodySink, Patience
from rtgateway.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange
    from rtgateway.upstream.instance import Instance
    from rtgateway.upstream.service import Service

__all__ = ["Mirror", "MirrorCall"]

log = Logger()

_NEVER = float("inf")
_MAX_ANSWER = 1 << 20
"""Bytes of an answer's body that are read before it is given up."""
_MARK = b"X-Rtgateway-Mirror: 1\r\n\r\n"
"""The last line of a mirrored head, and the blank line behind it."""


class Mirror:
    """See the module.

    :param service: gets the copies.
    :param patience: its timeouts; their sum is the longest that a copy may take.
    :param random: gives ``0 <= x < 1``.
    :ivar sent: copies that went to the service.
    :ivar failed: those of them that got no answer, or not in time.
    :ivar dropped: requests not mirrored because too many copies were in flight.
    :ivar skipped: requests not mirrored because their body was too large, or never came whole.
    """

    __slots__ = (
        "_calls",
        "_plan",
        "_random",
        "_reactor",
        "_ready",
        "_settings",
        "_starting",
        "_stopped",
        "_wheel",
        "dropped",
        "failed",
        "sent",
        "service",
        "skipped",
    )

    def __init__(
        self,
        service: Service,
        patience: Patience,
        settings: config.Mirror,
        *,
        random: Callable[[], float],
        reactor: Any,
        wheel: Wheel,
    ) -> None:
        self.service = service
        self._plan = _Plan(patience.connect, patience.first_byte, patience.between_bytes)
        self._settings = settings
        self._random = random
        self._reactor = reactor
        self._wheel = wheel
        self._calls: set[MirrorCall] = set()
        self._ready: list[MirrorCall] = []
        self._starting: IDelayedCall | None = None
        self._stopped = False
        self.sent = self.failed = self.dropped = self.skipped = 0

    @property
    def in_flight(self) -> int:
        """Copies being taken, or on their way."""
        return len(self._calls)

    def copy(self, exchange: Exchange) -> None:
        """Mirror ``exchange``, if chance wants it and there is room. Costs its client nothing."""
        settings = self._settings
        if settings.share < 1 and self._random() >= settings.share:
            return
        body = exchange.body
        if body is not None and body.length > settings.body_limit:
            self.skipped += 1
        elif self._stopped or len(self._calls) >= settings.in_flight:
            self.dropped += 1
        else:
            call = MirrorCall(self, exchange, settings.body_limit)
            self._calls.add(call)
            if body is not None:
                body.copy_to(call)
            else:
                self.ready(call)

    # -- for `MirrorCall` -----------------------------------------------------------------------

    def ready(self, call: MirrorCall) -> None:
        """The request has come whole."""
        self._ready.append(call)
        if self._starting is None:
            # Later than the request itself, which is about to go out in this turn of the reactor.
            self._starting = self._reactor.callLater(0, self._start)

    def skip(self, call: MirrorCall) -> None:
        """The request is not to be mirrored."""
        self.skipped += 1
        self._calls.discard(call)

    def too_late(self, call: MirrorCall) -> None:
        """The time for a copy is over."""
        self.failed += 1
        log.debug("A mirrored request took too long: {service}", service=self.service.name)
        call.cancel()

    def _start(self) -> None:
        self._starting = None
        calls, self._ready = self._ready, []
        now = monotonic()
        for call in calls:
            self.sent += 1
            call.deadline = now + self._plan.total
            self._wheel.add(call, now)
            call.task = Task(self._send(call))
            call.task.step()

    async def _send(self, call: MirrorCall) -> None:
        answer: Answer | None = None
        try:
            answer = call.answer = await self.service.forward(call, self._plan)
            if is_event_stream(answer.head):
                answer.endless()  # that it has begun is all there is to learn from it
            elif not answer.complete:
                answer.resume()
                await answer.stream_to(call)
        except ClientGone:
            pass  # it was cancelled: nobody is to blame, neither here nor there
        except GatewayError as error:
            self.failed += 1
            log.debug("A mirrored request failed: {error!r}", error=error)
        finally:
            if answer is not None:
                answer.abandon()
            self._wheel.discard(call)
            self._calls.discard(call)

    # -- the end ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Give up all copies, and make no more."""
        self._stopped = True
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        self._ready.clear()
        for call in list(self._calls):
            call.cancel()
        self._calls.clear()

    def __repr__(self) -> str:
        return f"<Mirror {self.service.name} {len(self._calls)} in flight>"


class MirrorCall:
    """One copy (`upstream.call.Call`); collects the body that it is to have (`body.BodyCopy`).

    :ivar deadline: monotonic seconds by which its answer must be complete.
    """

    __slots__ = (
        "_collected",
        "_exchange",
        "_limit",
        "_mirror",
        "_taken",
        "answer",
        "answer_lines",
        "attempts",
        "body",
        "chosen",
        "client_ip",
        "deadline",
        "method",
        "path",
        "secure",
        "task",
        "to_head",
        "upgrade",
    )

    def __init__(self, mirror: Mirror, exchange: Exchange, limit: int) -> None:
        self._mirror = mirror
        self._exchange = exchange
        self._limit = limit
        self._collected: list[bytes] | None = []
        self._taken = 0
        self.method = exchange.method
        self.to_head = exchange.to_head
        self.path = exchange.path
        self.client_ip = exchange.client_ip
        self.secure = exchange.secure
        self.body: Body | None = None
        self.chosen: Instance | None = None
        self.attempts = 0
        self.answer_lines = b""
        self.upgrade = None
        self.deadline = _NEVER
        self.task: Task | None = None
        self.answer: Answer | None = None

    # -- the body comes (gateway.body.BodyCopy) -----------------------------------------------

    def copied(self, payload: bytes) -> None:
        """More of the body; one that is too large is let go at once."""
        collected = self._collected
        if collected is None:
            return
        self._limit -= len(payload)
        if self._limit >= 0:
            collected.append(payload)
        else:
            self._collected = None
            self._mirror.skip(self)

    def copy_complete(self, trailers: list[tuple[bytes, bytes]]) -> None:
        collected, original = self._collected, self._exchange.body
        if collected is None or original is None:
            return
        self._collected = None
        self.body = _WholeBody(b"".join(collected), trailers, original.chunked)
        self._mirror.ready(self)

    def copy_cut_off(self) -> None:
        if self._collected is not None:
            self._collected = None
            self._mirror.skip(self)

    # -- sending it (upstream.call.Call) --------------------------------------------------------

    def values(self, key: bytes) -> list[bytes]:
        return self._exchange.values(key)

    def head_for(self, instance: Instance) -> bytes:
        """The head that the route would send to ``instance``, marked as a copy."""
        return self._exchange.head_for(instance)[:-2] + _MARK

    def interrupt(self, error: GatewayError) -> None:
        """Its plan has no limit on the whole that could."""

    def interim(self, head: ResponseHead) -> None:
        """Dropped, as the answer behind it."""

    # -- its answer comes (upstream.call.PayloadSink) -------------------------------------------

    def payload(self, data: bytes) -> None:
        self._taken += len(data)
        if self._taken > _MAX_ANSWER and self.answer is not None:
            self.answer.endless()  # to be judged by what has come of it
            self.cancel()

    def expired(self, now: float) -> None:
        """It has taken too long (called by the sweep)."""
        self.deadline = _NEVER
        self._mirror.too_late(self)

    def cancel(self) -> None:
        """End it, wherever it is. It is nobody's failure, so it ends like one whose client left."""
        self._collected = None
        if self.task is not None:
            self.task.cancel(ClientGone())

    def __repr__(self) -> str:
        state = "collecting" if self.task is None else "sent"
        return f"<MirrorCall {self.method.decode()} {state}>"


class _WholeBody:
    """A body that has come (`upstream.call.Body`)."""

    __slots__ = ("_payload", "chunked", "ended", "trailers")

    def __init__(self, payload: bytes, trailers: list[tuple[bytes, bytes]], chunked: bool) -> None:
        self._payload = payload
        self.trailers = trailers
        self.chunked = chunked
        self.ended = True

    def attach(self, sink: BodySink) -> bytes:
        return self._payload

    def detach(self, sink: BodySink) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...

    @property
    def repeatable(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<_WholeBody {len(self._payload)} bytes>"


_ONE_TRY = RetryPolicy.from_config(config.Retry(attempts=1, on=()))


@dataclass(frozen=True, slots=True)
class _Plan:
    """One try, with the timeouts of the service (`upstream.call.Plan`)."""

    connect: float
    first_byte: float
    between_bytes: float
    retry: RetryPolicy = _ONE_TRY
    request: float = 0.0

    @property
    def total(self) -> float:
        """Seconds for all of it, however steadily an answer drips."""
        return self.connect + self.first_byte + self.between_bytes
