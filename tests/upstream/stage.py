"""A real service whose instances are not there: pools and connections do what a test says.

Time stands still until `Stage.pass_time`; clients are tasks, as in ``gateway.pipeline``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rtgateway import config
from rtgateway.core.deadlines import Wheel
from rtgateway.core.health import Health
from rtgateway.core.retry import RetryPolicy
from rtgateway.errors import ClientGone, GatewayError, UpstreamFailed, UpstreamTimeout
from rtgateway.net.tasks import Task, Waiter
from rtgateway.upstream import attempt
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.attempt import Attempt
from rtgateway.upstream.body_reader import BodyReader
from rtgateway.upstream.build import ServiceBuilder
from rtgateway.upstream.call import Body, BodySink, Patience, PayloadSink
from rtgateway.upstream.findings import Found
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.pool import Pool
from rtgateway.upstream.service import Service
from rtgateway.wire.http1 import HeadLimits, ResponseHead, ResponseParser

__all__ = [
    "Client",
    "FakeConnection",
    "FakePool",
    "Payload",
    "Plan",
    "Stage",
    "Wish",
    "found",
    "head",
]

_READS_THE_CLOCK = ("service", "careful", "attempt", "retrial", "hedge", "build", "waiting_room")


def found(name: str, weight: int = 1, *, backup: bool = False) -> Found:
    """An instance on a host of this name."""
    settings = config.Instance(url=f"http://{name}:80", weight=weight, backup=backup)
    return Found(settings)


@cache
def head(status: int, *lines: tuple[bytes, bytes]) -> ResponseHead:
    """The head of an answer."""
    fields = b"".join(b"%b: %b\r\n" % line for line in lines)
    parser = ResponseParser(HeadLimits())
    parser.to_head = False
    framing = b"Transfer-Encoding: chunked\r\n" if status >= 200 else b""
    parsed = parser.feed(b"HTTP/1.1 %d Status\r\n%b%b\r\n" % (status, framing, fields))
    assert parsed is not None
    return parsed


class FakePool:
    """The connections to one instance. All of them are lent, idle, or being made."""

    def __init__(self) -> None:
        self.idle: list[FakeConnection] = []
        self.lent: list[FakeConnection] = []
        self.making: list[Deferred[Any]] = []
        self.asked_for: list[float] = []
        self.closed = False

    @property
    def busy(self) -> int:
        """Attempts that are here."""
        return len(self.lent) + len(self.making)

    # -- for an attempt -------------------------------------------------------------------------

    def take(self) -> FakeConnection | None:
        if not self.idle:
            return None
        self.lent.append(self.idle.pop())
        return self.lent[-1]

    def borrow(self, timeout: float, now: float, *, fresh: bool = False) -> Deferred[Any]:
        self.asked_for.append(timeout)
        making: Deferred[Any] = Deferred(self.making.remove)
        self.making.append(making)
        return making

    def close(self) -> None:
        self.closed = True

    # -- what happens to it ---------------------------------------------------------------------

    def connected(self, making: Deferred[Any] | None = None) -> FakeConnection:
        """A connection is made; the call it was made for is asked at once."""
        making = making or self.making[0]
        self.making.remove(making)
        connection = FakeConnection(self)
        self.lent.append(connection)
        making.callback(connection)
        return connection

    def refused(
        self, making: Deferred[Any] | None = None, error: GatewayError | None = None
    ) -> None:
        """No connection comes about."""
        making = making or self.making[0]
        self.making.remove(making)
        refusal = UpstreamFailed("refused", kind="connect", retryable=True)
        making.errback(error or refusal)


class FakeConnection:
    """To whoever asks on it, a `Connection`."""

    def __init__(self, pool: FakePool) -> None:
        self.pool = pool
        self.served = 0
        self.closed = False
        self.paused = False
        self.answer: Answer | None = None
        self.call: Client | None = None
        self.patience: Patience | None = None
        self.waiter: Waiter[Any] | None = None

    # -- for an attempt and its answer ----------------------------------------------------------

    def ask(self, call: Client, head: bytes, patience: Patience, now: float) -> Waiter[Any]:
        assert self in self.pool.lent
        assert self.call is None, "asked while it is asked"
        self.call, self.patience = call, patience
        call.sent.append(head)
        if call.body is not None:
            call.body.attach(cast(BodySink, self))
        self.waiter = Waiter()
        return self.waiter

    def stream_to(self, sink: PayloadSink) -> Waiter[bytes]:
        waiter: Waiter[bytes] = Waiter()
        if self.answer is None:
            waiter.fail(UpstreamFailed("it closed", kind="reset"))
        else:
            self.waiter = waiter
        return waiter

    def abort(self) -> None:
        if not self.closed:
            assert self in self.pool.lent, "somebody else's connection is aborted"
            self.waiter = None
            self.breaks(ClientGone())

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def wait_for_ever(self) -> None:
        """Silence is no fault."""

    def fail(self, error: GatewayError) -> None:
        self.waiter = None
        self.breaks(error)

    def hand_over(self, protocol: object) -> None:
        assert self.answer is not None
        self.answer = self.call = None
        self.closed = True
        self.pool.lent.remove(self)

    # -- what happens on it ---------------------------------------------------------------------

    @property
    def streams(self) -> bool:
        """Whether an answer has begun on it."""
        return self.answer is not None

    @property
    def read(self) -> bool:
        """Whether somebody takes the body of the answer."""
        return self.streams and self.waiter is not None

    def answers(self, status: int = 200, *lines: tuple[bytes, bytes]) -> Answer:
        """With all there is to say."""
        waiter = self._answered()
        answer = self._answer(status, lines)
        answer.complete = True
        self._release()
        waiter.succeed(answer)
        return answer

    def begins(self, status: int = 200, *lines: tuple[bytes, bytes]) -> Answer:
        """An answer of which there is more to come."""
        waiter = self._answered()
        self.answer = answer = self._answer(status, lines)
        waiter.succeed(answer)
        return answer

    def switches(self) -> Answer:
        """It speaks another protocol from here on."""
        return self.begins(101)

    def ends(self) -> None:
        """The answer is complete."""
        answer, waiter = self.answer, self.waiter
        assert answer is not None
        assert waiter is not None
        answer.complete = True
        self._release()
        answer.ended(None)
        waiter.succeed(b"")

    def breaks(self, error: GatewayError) -> None:
        """It ends, and whatever was on it with it."""
        answer, waiter = self.answer, self.waiter
        self.answer = self.call = self.waiter = None
        self.closed = True
        self.pool.lent.remove(self)
        if answer is not None:
            answer.ended(error)
        if waiter is not None:
            waiter.fail(error)

    def resets(self, *, heard: bool = False) -> None:
        """It is reset; ``heard``: in the middle of the head of an answer."""
        reused = self.served > 0
        retryable = not heard and not self.streams
        self.breaks(UpstreamFailed("reset", kind="reset", retryable=retryable, reused=reused))

    def times_out(self) -> None:
        """Nothing comes."""
        phase = "between_bytes" if self.streams else "first_byte"
        self.breaks(UpstreamTimeout(phase, retryable=not self.streams))

    def _answered(self) -> Waiter[Any]:
        waiter, self.waiter = self.waiter, None
        assert waiter is not None
        return waiter

    def _answer(self, status: int, lines: tuple[tuple[bytes, bytes], ...]) -> Answer:
        assert self.call is not None
        self.call.said.append(status)
        return Answer(cast(BodyReader, self), head(status, *lines), came=attempt.monotonic())  # type: ignore[attr-defined]

    def _release(self) -> None:
        self.served += 1
        self.answer = self.call = self.waiter = None
        self.pool.lent.remove(self)
        self.pool.idle.append(self)


@dataclass
class Wish:
    """That of a call for another protocol (`upstream.call.Upgrade`).

    :ivar agreed: what it takes a 101 for; an error: one that makes no sense.
    """

    per_instance: int = 0
    agreed: GatewayError | None = None


@dataclass
class Plan:
    """How a request is to be treated (`upstream.call.Plan`)."""

    retry: RetryPolicy
    connect: float = 5.0
    first_byte: float = 10.0
    between_bytes: float = 20.0
    request: float = 0.0


class Payload:
    """A request body that has come; ``keeps``: it can be sent again."""

    ended = True
    chunked = False

    def __init__(self, *, keeps: bool = True) -> None:
        self.trailers: list[tuple[bytes, bytes]] = []
        self.repeatable = True
        self._keeps = keeps

    def attach(self, sink: BodySink) -> bytes:
        assert self.repeatable, "the start of this body is gone"
        self.repeatable = self._keeps
        return b"body"

    def detach(self, sink: object) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Client:
    """One request (`upstream.call.Call`), and the one who waits for its answer.

    :ivar sent: the heads that were sent; ``tried``: the instances that were asked;
        ``said``: the statuses of their answers.
    :ivar answer: what it got, or ``error``.
    :ivar socket: what its instance has to be told when its WebSocket is over.
    """

    path = b"/"
    client_ip = "192.0.2.1"
    secure = False
    to_head = False

    def __init__(
        self,
        method: bytes = b"GET",
        fields: dict[bytes, bytes] | None = None,
        body: Body | None = None,
        upgrade: Wish | None = None,
    ) -> None:
        self.method = method
        self.body = body
        self.chosen: Instance | None = None
        self.attempts = 0
        self.answer_lines = b""
        self.upgrade = upgrade
        self.socket: Attempt | None = None
        self.sent: list[bytes] = []
        self.tried: list[Instance] = []
        self.said: list[int] = []
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.over = False
        self.got = 0
        self._fields = fields or {}
        self._task: Task | None = None

    def values(self, key: bytes) -> list[bytes]:
        return [self._fields[key]] if key in self._fields else []

    def head_for(self, instance: Instance) -> bytes:
        return b"%b / for %b" % (self.method, instance.id.encode())

    def interrupt(self, error: GatewayError) -> None:
        assert self._task is not None
        self._task.cancel(error)

    def interim(self, head: ResponseHead) -> None: ...
    def payload(self, data: bytes) -> None: ...

    def ask(self, service: Service, plan: Plan) -> None:
        """Ask the service, and read the answer to its end."""
        self._task = Task(self._serve(service, plan))
        self._task.step()

    def leaves(self) -> None:
        """It does not wait any longer."""
        self.interrupt(ClientGone())

    async def _serve(self, service: Service, plan: Plan) -> None:
        try:
            self.answer = await service.forward(self, plan)
            if self.answer.head.status == 101:
                self._switch(self.answer)
            elif not self.answer.complete:
                self.answer.resume()
                await self.answer.stream_to(self)
        except Exception as error:
            self.error = error
        finally:
            if self.answer is not None:
                self.answer.abandon()
            assert not self.over, "served twice"
            self.over = True

    def _switch(self, answer: Answer) -> None:
        assert self.upgrade is not None, "nobody asked for a 101"
        if self.upgrade.agreed is not None:
            answer.fail(self.upgrade.agreed)
            raise self.upgrade.agreed
        self.socket = answer.hand_over(object())

    def hangs_up(self) -> None:
        """Its WebSocket is over."""
        assert self.socket is not None
        self.socket.over(attempt.monotonic())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        state = repr(self.answer or self.error) if self.over else "waiting"
        return f"<Client {self.method.decode()} {self.attempts} tries {state}>"


@dataclass(eq=False)
class Check:
    """A health check that says what it is told to."""

    health: Health = field(default_factory=lambda: Health(1, 1))


class _Builder(ServiceBuilder):
    """Connects to nothing."""

    lot = 0.5

    def __init__(self, clock: Clock, wheel: Wheel) -> None:
        super().__init__(config.Limits(), clock, wheel)
        self._random = lambda: self.lot

    def _pool(self, settings: config.Pool, instance: Instance, tls: Any) -> Pool:
        return cast(Pool, FakePool())


class Stage:
    """See the module.

    :param names: of the instances to begin with, ``settings`` those of the service besides.
    """

    def __init__(self, *names: str, now: float = 1000.0, **settings: Any) -> None:
        self.now = now
        self.clock = Clock()
        self.clock.rightNow = now
        self.wheel = Wheel()
        self._next_tick = now + 1.0
        self.everybody: list[Instance] = []
        self.clients: list[Client] = []
        with self.on():
            section = config.Service.model_validate(
                {"instances": [f"http://{name}:80" for name in names], **settings}
            )
            self.service = _Builder(self.clock, self.wheel).service("main", section)
        self.members = self.service.members
        make: Callable[[Found, str], Instance] = self.members._make

        def remembered(found: Found, source: str) -> Instance:
            instance = make(found, source)
            instance.health = cast(Any, Check())
            self.everybody.append(instance)
            return instance

        self.members._make = remembered
        for instance in self.service.instances:
            instance.health = cast(Any, Check())
            self.everybody.append(instance)
        self.plan = Plan(RetryPolicy.from_config(section.retry))

    @contextmanager
    def on(self) -> Iterator[None]:
        """Our time is everybody's time; in the end nobody waits any longer."""
        places = [f"rtgateway.upstream.{module}.monotonic" for module in _READS_THE_CLOCK]
        patches = [patch(place, lambda: self.now) for place in places]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for client in self.clients:
                if not client.over:
                    client.leaves()
            for each in patches:
                each.stop()

    def instance(self, name: str) -> Instance:
        """The one on this host."""
        return self.service.find(f"{name}:80")

    def pool(self, name: str) -> FakePool:
        """The connections to the one on this host."""
        return pool_of(self.instance(name))

    def comes(
        self,
        method: bytes = b"GET",
        fields: dict[bytes, bytes] | None = None,
        body: Body | None = None,
        upgrade: Wish | None = None,
    ) -> Client:
        """A client asks."""
        client = Client(method, fields, body, upgrade)
        self.clients.append(client)
        client.ask(self.service, self.plan)
        return client

    def pass_time(self, seconds: float) -> None:
        """Timers fire, deadlines pass, and the second hand moves."""
        end = self.now + seconds
        while self.now < end:
            step = min(self._next_tick, self.now + 0.1, end)
            self.clock.advance(step - self.now)
            self.now = self.clock.rightNow = step
            for item in self.wheel.advance(self.now):
                if item.deadline <= self.now:
                    item.expired(self.now)
            self.service.listen(self.now)
            if self.now >= self._next_tick:
                self._next_tick += 1.0
                self.service.tick(self.now)


def pool_of(instance: Instance) -> FakePool:
    """The connections to an instance."""
    return cast(FakePool, instance.pool)
