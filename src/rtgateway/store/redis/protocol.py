"""One connection on which commands are sent and answered, in order.

txredisapi's protocol, with another queue of replies: no Deferred for each command, a deadline for
each, and replies that come after theirs dropped where they are, so that none goes to another call.
"""

from __future__ import annotations

# txredisapi has no annotations.
# mypy: allow-untyped-calls
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, cast

from hiredis import pack_command
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from txredisapi import InvalidData, RedisProtocol, ResponseError

from rtgateway.net.connect import explain
from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.calls import Call, Word
from rtgateway.store.redis.refusals import is_unfit

__all__ = ["MOST_WAITING", "CommandProtocol", "Owner"]

log = Logger()

MOST_WAITING = 1024
"""Commands on one connection that have not been answered."""
_OVERDUE = 2.0
"""Seconds after its deadline that a reply is waited for before the connection is given up."""
_NO_DEADLINE = float("inf")


class Owner(Protocol):
    """Who has the connection, and is told how it fares."""

    def answered(self, call: Call, now: float) -> None:
        """In time, and not with an error."""
        ...

    def late(self) -> None:
        """A reply came after its deadline."""
        ...

    def timed_out(self, call: Call) -> None: ...
    def refused(self, call: Call, detail: str, now: float) -> None:
        """It was answered in time, with an error."""
        ...

    def unfit(self, detail: str) -> None:
        """This server is not the one to ask, on whatever connection."""
        ...

    def lost(self, connection: CommandProtocol, why: str) -> None:
        """It has ended; its calls are about to be told."""
        ...

    def dropped(self, call: Call) -> None:
        """A call ended with it."""
        ...


class CommandProtocol(RedisProtocol):
    """See the module.

    :param owner: None until the connection is ready to be used.
    :ivar where: host and port, once it is connected; empty with a Unix socket.
    :ivar stalled: a deadline has passed, and nothing came in time since.
    :ivar ended: no command can be sent any more.
    """

    transport: Any

    def __init__(self, reactor: Any, now: Callable[[], float] = monotonic) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.owner: Owner | None = None
        self.stalled = False
        self.where = ("", 0)
        self._reactor = reactor
        self._now = now
        self._waiting: deque[Call] = deque()
        # Those of the waiting ones whose deadline is watched here, the nearest first.
        self._due: deque[Call] = deque()
        self._timer: Any = None
        self._look_at = _NO_DEADLINE
        self._read_by = 0.0
        self._out: list[bytes] = []
        self._reading = False
        self._loading: set[bytes] = set()
        self._why = ""
        self.ended = self._closed = False
        self._at_end: list[Deferred[None]] = []

    # -- commands -----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many commands have not been answered, late ones included."""
        return len(self._waiting)

    def send(self, call: Call, command: bytes) -> None:
        """Send an encoded command whose deadline is watched by the caller."""
        self._waiting.append(call)
        self._write(command)

    def send_timed(self, call: Call, command: bytes) -> None:
        """The same, watching its deadline; all of these have the same time."""
        self._waiting.append(call)
        self._due.append(call)
        if call.deadline < self._look_at:
            # There is no timer, or one for a reply that is overdue, much later than this.
            self._set_timer(call.deadline, call.started)
        self._write(command)

    def execute_command(self, *words: Word, **options: object) -> Deferred[Any]:
        """What all methods of txredisapi call; without a deadline of its own."""
        answer: Deferred[Any] = Deferred()

        def done(reply: Any, error: StoreError | None) -> None:
            if not answer.called:
                if error is not None:
                    answer.errback(error)
                else:
                    answer.callback(reply)

        if self.ended:
            answer.errback(StoreError("lost", self._why))
        else:
            call = Call(str(words[0]).lower(), self._now(), _NO_DEADLINE, done)
            self.send(call, pack_command(cast("Any", words)))
        return answer

    def _write(self, command: bytes) -> None:
        if self._reading:
            # Several answers come at once, and several of them lead to commands.
            self._out.append(command)
        else:
            self.transport.write(command)

    # -- replies ------------------------------------------------------------------------------

    def connectionMade(self) -> None:  # type: ignore[override]
        """Nothing: who opens the connection does what there is to do (`opening`)."""

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        reader = self._reader
        self._reading = True
        try:
            reader.feed(data)
            now = self._now()
            while (reply := reader.gets()) is not False:
                self.take(reply, now)
        except InvalidData as error:
            self.abort(f"not a reply of Redis: {error}")
        finally:
            self._reading = False
        if self._out:
            out = self._out
            self._out = []
            if not self.ended:
                self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def take(self, reply: Any, now: float) -> None:
        """The reply to the first command that waits for one."""
        waiting = self._waiting
        if not waiting:
            if not self.ended:
                self.abort("a reply to nothing")
            return
        call = waiting.popleft()
        if call.attempts and call.script is not None:
            self._loading.discard(call.script.sha)
        done = call.done
        if done is not None and reply.__class__ is ResponseError:
            self._take_error(call, done, str(reply), now)
            return
        call.done = None
        due = self._due
        while due and due[0].done is None:
            due.popleft()
        owner = self.owner
        if done is None:
            if owner is not None and call.deadline < now:
                if not waiting:
                    self.stalled = False
                owner.late()
            return
        self.stalled = False
        if owner is not None:
            owner.answered(call, now)
        try:
            done(reply, None)
        except Exception:
            log.failure("What waited for {call} failed", call=call)

    def _take_error(self, call: Call, done: Any, detail: str, now: float) -> None:
        if call.script is not None and call.attempts < 2 and detail.startswith("NOSCRIPT"):
            self._send_again(call)
            return
        call.done = None
        self.stalled = False
        owner = self.owner
        if owner is not None:
            owner.refused(call, detail, now)
        if is_unfit(detail):
            if owner is not None:
                owner.unfit(detail)
            self.abort(detail)
        try:
            done(None, StoreError("refused", detail))
        except Exception:
            log.failure("What waited for {call} failed", call=call)

    def _send_again(self, call: Call) -> None:
        """Redis does not know the script: it gets its text, once for all who run it."""
        script = call.script
        assert script is not None
        rest = (len(call.keys), *call.keys, *call.arguments)
        if call.attempts == 0 and script.sha in self._loading:
            # It is on its way; by the time of this one it will be known.
            command = pack_command(cast("Any", ("EVALSHA", script.sha, *rest)))
        else:
            self._loading.add(script.sha)
            command = pack_command(cast("Any", ("EVAL", script.text, *rest)))
        call.attempts += 1
        # Among the deadlines it has kept its place.
        self._waiting.append(call)
        self._write(command)

    # -- deadlines and the end ----------------------------------------------------------------

    def _set_timer(self, when: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_at = when
        self._timer = self._reactor.callLater(max(when - now, 0.0), self._look)

    def _look(self) -> None:
        """End the calls whose time is over, and be called again when the next one's is."""
        self._timer = None
        now = self._now()
        due = self._due
        while due and due[0].done is None:
            due.popleft()
        if due and due[0].deadline <= now and not self._read_by:
            # If the reactor was busy, the reply is there and has not been read: see that first.
            self._read_by = now
            self._set_timer(now, now)
            return
        # Who is told that it is too late may send more; the timer is set when all have been told.
        self._look_at = 0.0
        until, self._read_by = self._read_by, 0.0
        while due and (due[0].done is None or due[0].deadline <= until):
            self._too_late(due.popleft())
        if self.ended:
            return
        nearest = due[0].deadline if due else _NO_DEADLINE
        if self._waiting:
            overdue = self._waiting[0].deadline + _OVERDUE
            if overdue <= now:
                self.abort("no answer")
                return
            nearest = min(nearest, overdue)
        self._look_at = nearest
        if nearest != _NO_DEADLINE:
            self._set_timer(nearest, now)

    def _too_late(self, call: Call) -> None:
        done, call.done = call.done, None
        if done is None:
            return
        self.stalled = True
        if self.owner is not None:
            self.owner.timed_out(call)
        try:
            done(None, StoreError("timeout"))
        except Exception:
            log.failure("What waited for {call} failed", call=call)

    def abort(self, why: str) -> None:
        """End the connection now; the calls that wait are told at once."""
        self._why = self._why or why
        if not self.ended and self.transport is not None:
            self.transport.abortConnection()
            self._end()

    def connectionLost(self, why: Failure = connectionDone) -> None:
        self._why = self._why or explain(why.value)
        self._end()
        self._closed = True
        at_end, self._at_end = self._at_end, []
        for each in at_end:
            each.callback(None)

    def gone(self) -> Deferred[None]:
        """Fires when the socket is closed. Abort it first."""
        gone: Deferred[None] = Deferred()
        if self._closed:
            gone.callback(None)
        else:
            self._at_end.append(gone)
        return gone

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.connected = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.lost(self, self._why)
        waiting = list(self._waiting)
        self._waiting.clear()
        self._due.clear()
        for call in waiting:
            done, call.done = call.done, None
            if done is not None:
                if owner is not None:
                    owner.dropped(call)
                try:
                    done(None, StoreError("lost", self._why))
                except Exception:
                    log.failure("What waited for {call} failed", call=call)

    def __repr__(self) -> str:
        state = f"ended: {self._why}" if self.ended else f"{len(self._waiting)} commands waiting"
        return f"<{type(self).__name__} {state}>"
