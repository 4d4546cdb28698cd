"""All connections of this gateway to one Redis, and how it is asked.

Nothing waits for a connection: while there is none, or Redis does not answer, calls fail at once.
Every call has a deadline. Replies of one connection come in the order of its commands, and a reply
that comes too late is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, cast

from hiredis import pack_command
from twisted.internet.defer import Deferred, DeferredList

from rtgateway import config
from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.calls import Call, Done, Measures, Word, answer_of
from rtgateway.store.redis.line import Line
from rtgateway.store.redis.opening import Opening, Place
from rtgateway.store.redis.protocol import MOST_WAITING, CommandProtocol
from rtgateway.store.redis.refusals import Complaints, about_the_server, in_short
from rtgateway.store.redis.script import Script
from rtgateway.store.redis.subscriber import Subscriber
from rtgateway.store.redis.upkeep import Upkeep
from rtgateway.store.redis.watch import Watch

__all__ = ["Link"]

log = Logger()

_ELSEWHERE = "the master is another one now"
_PROBE = Script("probe", "return redis.call('SET', KEYS[1], '', 'PX', 1000)")
"""What all scripts do: a PING is answered, too, by a Redis that can't write."""
_MANY = 256
"""Commands waiting on a connection, from which on another one gets the next."""


class Link:
    """See the module.

    :param random: for jitter; 0 <= x < 1.
    :raises CertificateFileError: a certificate, key or file of authorities can't be used.
    """

    def __init__(self, settings: config.State, reactor: Any, random: Callable[[], float]) -> None:
        self._settings = settings
        self._reactor = reactor
        self._now = monotonic
        self._timeout = settings.timeout
        self._prefix = b"{%b}" % settings.prefix.encode()
        self._opening = Opening(settings, reactor)
        self._measures = Measures()
        self._lines = [
            Line(self._open, self._opened, self._failed, reactor, random)
            for _ in range(settings.connections)
        ]
        self._ready: list[CommandProtocol] = []
        self._subscriber = Subscriber(
            opening=self._opening, ready=self._renewed, reactor=reactor, random=random
        )
        self._watch = Watch(settings.label, self._probe, self._renewed, reactor, random)
        self._on_connected: list[Callable[[], None]] = []
        self._complaints = Complaints()
        self._running = False
        self._upkeep = Upkeep(self._ready, self._opening, self._move, settings.timeout, reactor)

    # -- its state ----------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether calls are made; else they fail at once."""
        return self._watch.up

    @property
    def deaf(self) -> bool:
        """Whether calls are made, but what other gateways say is not heard."""
        return self._watch.up and not self._hears()

    @property
    def failing_since(self) -> float:
        """Monotonic seconds; 0.0 while up."""
        return self._watch.failing_since

    @property
    def durations(self) -> dict[str, list[float]]:
        """Histograms with the bounds `observe.durations.BRIEF`, by operation."""
        return self._measures.durations

    @property
    def failures(self) -> dict[tuple[str, str], int]:
        """By operation and reason."""
        return self._measures.failures

    def start(self) -> None:
        """Connect, and stay connected."""
        self._running = True
        for line in self._lines:
            line.start()
        self._subscriber.start()
        self._upkeep.start()

    def stop(self) -> Deferred[None]:
        """Close everything. Calls under way fail; fires when the sockets are closed."""
        self._running = False
        self._watch.stop()
        self._upkeep.stop()
        closing = [line.stop() for line in self._lines]
        closing.append(self._subscriber.stop())
        return DeferredList(closing, consumeErrors=True).addCallback(lambda _: None)

    # -- asking -------------------------------------------------------------------------------

    def call(self, command: tuple[Word, ...], done: Done) -> None:
        """Send a command; ``done`` is called once, within this call if it can't be sent."""
        connection = self._connection(operation := _operation(command), done)
        if connection is not None:
            now = self._now()
            call = Call(operation, now, now + self._timeout, done)
            connection.send_timed(call, pack_command(cast("Any", command)))

    def script(
        self, script: Script, keys: Sequence[Word], args: Sequence[Word], done: Done
    ) -> None:
        """Run a script; Redis gets its text if it does not know it. Otherwise like `call`."""
        connection = self._connection(script.name, done)
        if connection is not None:
            self._run(connection, script, keys, args, done)

    def ask(self, *command: Word, timeout: float | None = None) -> Deferred[Any]:
        """Send a command; cancellable.

        :param timeout: seconds; None: those of ``state.timeout``.
        :return: fires with the reply; fails with `StoreError`.
        """
        if timeout is None:
            return answer_of(partial(self.call, command))
        return answer_of(partial(self._patiently, timeout, command, None, (), ()))

    def run(
        self,
        script: Script,
        keys: Sequence[Word],
        args: Sequence[Word],
        timeout: float | None = None,
    ) -> Deferred[Any]:
        """Run a script; otherwise like `ask`."""
        if timeout is None:
            return answer_of(partial(self.script, script, keys, args))
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        return answer_of(partial(self._patiently, timeout, command, script, keys, args))

    def subscribe(self, channel: bytes, heard: Callable[[bytes], None]) -> None:
        """Call ``heard`` with all that is said on a channel from now on.

        What is said while there is no connection is not heard: see `on_connected`.
        """
        self._subscriber.subscribe(channel, heard)
        if self._running:
            self._subscriber.start()

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Call it whenever something may have been missed, and now can be asked for.

        That is after each new connection on which all subscriptions are in place, and each time
        that Redis answers again.
        """
        self._on_connected.append(callback)

    def key(self, *parts: str | bytes) -> bytes:
        """The name of a key or channel. All are in one slot of a cluster."""
        return b":".join(
            [self._prefix, *(part.encode() if isinstance(part, str) else part for part in parts)]
        )

    # -- how it is asked ----------------------------------------------------------------------

    def _connection(self, operation: str, done: Done) -> CommandProtocol | None:
        """One to send on; None after ``done`` was told that there is none."""
        ready = self._ready
        if not self._watch.up:
            self._measures.failed(operation, "down")
            done(None, StoreError("down", self._watch.trouble))
            return None
        # Many commands on one connection share reads and writes; the others are there for when it
        # is full, or nothing comes from it.
        for connection in ready:
            if not connection.stalled and connection.waiting < _MANY:
                return connection
        connection = min(ready, key=_waiting)
        if connection.waiting < MOST_WAITING:
            return connection
        self._measures.failed(operation, "busy")
        done(None, StoreError("busy"))
        return None

    def _run(
        self,
        connection: CommandProtocol,
        script: Script,
        keys: Sequence[Word],
        args: Sequence[Word],
        done: Done,
    ) -> None:
        now = self._now()
        call = Call(script.name, now, now + self._timeout, done, script, keys, args)
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        connection.send_timed(call, pack_command(cast("Any", command)))

    def _patiently(
        self,
        timeout: float,
        command: tuple[Word, ...],
        script: Script | None,
        keys: Sequence[Word],
        args: Sequence[Word],
        done: Done,
    ) -> None:
        """Send with a deadline other than that of most."""
        operation = script.name if script is not None else _operation(command)
        connection = self._connection(operation, done)
        if connection is None:
            return

        def settled(reply: Any, error: StoreError | None) -> None:
            if timer.active():
                timer.cancel()
            done(reply, error)

        def too_late() -> None:
            call.done = None
            self.timed_out(call)
            done(None, StoreError("timeout"))

        now = self._now()
        timer = self._reactor.callLater(timeout, too_late)
        call = Call(operation, now, now + timeout, settled, script, keys, args)
        connection.send(call, pack_command(cast("Any", command)))

    # -- connections come and go --------------------------------------------------------------

    def _open(self) -> Deferred[CommandProtocol]:
        return self._opening.open(partial(CommandProtocol, self._reactor))

    def _opened(self, connection: CommandProtocol) -> None:
        connection.owner = self
        self._move(connection.where)
        self._ready.append(connection)
        if len(self._ready) == 1:
            self._watch.works()
        else:
            self._watch.look()

    def _move(self, where: Place | None) -> None:
        """All connections go to the same server: this one, if it is known."""
        if where is not None:
            for connection in tuple(self._ready):
                if connection.where != where:
                    connection.abort(_ELSEWHERE)
            self._subscriber.leave(_ELSEWHERE, unless=where)

    def _failed(self, why: str) -> None:
        """A connection could not be opened."""
        self._watch.not_opened(why)

    def lost(self, connection: CommandProtocol, why: str) -> None:
        """A connection has ended."""
        self._ready.remove(connection)
        if self._ready:
            self._watch.failed(f"a connection was lost: {why}")
        else:
            self._watch.lost(f"the connection was lost: {why}")
        for line in self._lines:
            if line.connection is connection:
                line.lost()

    def unfit(self, detail: str) -> None:
        self._opening.follow(detail)
        for connection in tuple(self._ready):
            connection.abort(detail)
        self._subscriber.leave(detail)

    def dropped(self, call: Call) -> None:
        self._measures.failed(call.operation, "lost")

    # -- told by connections ------------------------------------------------------------------

    def answered(self, call: Call, now: float) -> None:
        self._watch.answered(ran=call.script is not None)
        self._measures.took(call.operation, now - call.started)

    def late(self) -> None:
        self._watch.look()

    def timed_out(self, call: Call) -> None:
        self._measures.failed(call.operation, "timeout")
        self._watch.failed("it does not answer in time")

    def refused(self, call: Call, detail: str, now: float) -> None:
        self._measures.took(call.operation, now - call.started)
        self._measures.failed(call.operation, "refused")
        self._watch.answered(ran=False)
        if about_the_server(detail, of_script=call.script is not None):
            self._watch.refused(f"it refuses {call.operation}: {in_short(detail)}")
        else:
            self._complaints.refused(call.operation, detail)

    def _renewed(self) -> None:
        """Subscriptions are in place, or Redis answers again."""
        if not self._watch.up or not self._hears():
            return
        for callback in self._on_connected:
            try:
                callback()
            except Exception:
                log.failure("What reads from Redis anew failed")

    def _hears(self) -> bool:
        return self._subscriber.in_place or not self._subscriber.wanted

    def _probe(self, done: Done) -> bool:
        if not self._ready:
            return False
        connection = min(self._ready, key=_waiting)
        self._run(connection, _PROBE, [self.key("probe")], (), done)
        return True

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<Link to {self._settings.label}, {state}, {len(self._ready)} connections>"


def _waiting(connection: CommandProtocol) -> tuple[bool, int]:
    return connection.waiting >= MOST_WAITING, connection.waiting


def _operation(command: tuple[Word, ...]) -> str:
    word = command[0]
    return (word.decode() if isinstance(word, bytes) else str(word)).lower()
