"""One try at one instance: from the moment it is picked until nothing of it is left.

An attempt takes a place (in flight) and a permit (of the breakers), and gives each back exactly
once, on every way out. Whoever holds it calls `answered` for what came, `failed` for what did not,
or `given_up` where nobody is to blame; `over` ends what may go on after the verdict.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rtgateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from rtgateway.upstream.answer import Answer
    from rtgateway.upstream.call import Patience
    from rtgateway.upstream.connection import Connection
    from rtgateway.upstream.instance import Instance
    from rtgateway.upstream.service import Service

__all__ = ["Attempt", "SocketAttempt"]

_PANIC = -2
"""The permit of a call that its breaker did not allow: of no generation, it counts for nothing."""


class Attempt:
    """See the module. Created by `Service`, which has picked ``instance``.

    :ivar asked: when the request was sent, or is, as far as is known.
    :ivar seconds: until the head of the answer.
    :ivar counted: more has to be given back than a place and a permit.
    """

    counted = False

    __slots__ = (
        "_connection",
        "_permit",
        "_service_permit",
        "asked",
        "instance",
        "seconds",
        "service",
        "started",
    )

    def __init__(self, service: Service, instance: Instance, now: float) -> None:
        self.service = service
        self.instance = instance
        self.started = self.asked = now
        self._connection: Connection | None = None
        instance.inflight += 1
        if not instance.waiting:
            instance.heard = now
        instance.waiting += 1
        service.inflight += 1
        breaker = instance.breaker
        if breaker.state == "closed":
            self._permit: int | None = breaker.generation
        else:
            self._permit = breaker.acquire(now) if breaker.ready(now) else _PANIC
        if service.breaker is not None:
            self._service_permit = service.breaker.acquire(now)

    # -- a connection ---------------------------------------------------------------------------

    def take(self) -> Connection | None:
        """An idle connection, if there is one."""
        connection = self._connection = self.instance.pool.take()
        return connection

    async def connect(self, patience: Patience, *, fresh: bool = False) -> Connection:
        """A connection; waits for room, and for it to be made.

        :raises GatewayError: there is none.
        """
        connection = await self.instance.pool.borrow(patience.connect, self.started, fresh=fresh)
        self._connection = connection
        self.asked = monotonic()
        return connection

    # -- verdicts -----------------------------------------------------------------------------

    def answered(self, answer: Answer, now: float) -> None:
        """The head of an answer is in; if that is all of it, the attempt is over."""
        instance = self.instance
        # How long making a connection took says more about this gateway than about the instance.
        self.seconds = seconds = now - self.asked
        instance.waiting -= 1
        instance.heard = now
        instance.answered(seconds)
        status = answer.head.status
        if status >= 429:
            # Whatever its body brings, this is what there is to judge.
            failed = status in instance.failure_on.statuses
            shared = status in self.service.failure_on.statuses
            self._verdict(now, failed, shared, status in _GATEWAY_ERRORS)
        elif answer.complete and self.service.plain and not self.counted:
            # The way of nearly all: `_verdict` and `over`, written out.
            instance.breaker.record(self._permit or 0, now, seconds, False)
            self._permit = None
            if instance.failing:
                instance.failing = 0
            instance.inflight -= 1
            self.service.inflight -= 1
            return
        if answer.complete:
            self._verdict(now)
            self.over(now)
        else:
            answer.watch(self)
            self._wake()

    def failed(self, error: BaseException) -> None:
        """No answer. Only an instance can be to blame."""
        if self._connection is not None:
            self._connection.abort()
        now = monotonic()
        self.instance.waiting -= 1
        self.seconds = now - self.asked
        if isinstance(error, UpstreamTimeout) and error.kind == "timeout":
            # Who does not answer is slow, and balancing ought to know.
            self.instance.answered(self.seconds)
        # Who had not been asked yet when the time of the whole request was over is not to blame.
        if self._connection is not None or getattr(error, "phase", "") != "request":
            self._blame(error, now)
        self.over(now)

    def endless(self) -> None:
        """The answer is a stream without an end: that it has begun is all there is to judge."""
        self._verdict(monotonic())
        self._wake()

    def ended(self, error: GatewayError | None) -> None:
        """The body of the answer is complete, or broke off with ``error`` (see `Answer.watch`)."""
        now = monotonic()
        if error is None:
            self._verdict(now)
        else:
            self._blame(error, now)
        self.over(now)

    def over(self, now: float) -> None:
        """Give back what is still held. Without a verdict so far, there is none."""
        instance, service = self.instance, self.service
        permit = self._permit
        if permit is not None:
            self._permit = None
            instance.breaker.release(permit, now)
            if service.breaker is not None:
                service.breaker.release(self._service_permit, now)
        instance.inflight -= 1
        service.inflight -= 1
        self._wake()

    def _wake(self) -> None:
        """There may be more room now: a place given back, or a limit that a verdict has raised."""
        room = self.service.room
        if room is not None:
            room.wake()

    def _blame(self, error: BaseException, now: float) -> None:
        if isinstance(error, UpstreamFailed | UpstreamTimeout):
            self.instance.last_error = error.detail
            failed = self.instance.failure_on.kind(error.kind)
            self._verdict(now, failed, self.service.failure_on.kind(error.kind), True)

    def _verdict(
        self,
        now: float,
        failed: bool = False,
        shared_failed: bool = False,
        gateway_error: bool = False,
    ) -> None:
        permit = self._permit
        if permit is None:
            return
        self._permit = None
        instance, service = self.instance, self.service
        instance.breaker.record(permit, now, self.seconds, failed)
        if gateway_error:
            instance.failing += 1
        elif instance.failing:
            instance.failing = 0
        if service.gradient is not None:
            service.gradient.sample(self.seconds, service.inflight, failed)
        if service.breaker is not None:
            service.breaker.record(self._service_permit, now, self.seconds, shared_failed)

    def __repr__(self) -> str:
        state = "judged" if self._permit is None else "open"
        return f"<Attempt {state} {self.instance!r}>"


class SocketAttempt(Attempt):
    """An attempt to open a WebSocket. If that comes about it lasts as long as the socket does."""

    __slots__ = ("_open",)

    counted = True

    def __init__(self, service: Service, instance: Instance, now: float) -> None:
        super().__init__(service, instance, now)
        instance.sockets += 1
        self._open = False

    def endless(self) -> None:
        """It is open: no request any more, that others would have to wait for."""
        self._open = True
        self.instance.bridged += 1
        self.service.inflight -= 1
        super().endless()

    def over(self, now: float) -> None:
        self.instance.sockets -= 1
        if self._open:
            self.instance.bridged -= 1
            self.service.inflight += 1  # given back in ``endless``
        super().over(now)


_GATEWAY_ERRORS = frozenset([502, 503, 504])
