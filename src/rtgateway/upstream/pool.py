"""The connections to one instance: reused last-in first-out, bounded, a queue behind the bound.

The mutable state is ``idle``, ``open``, ``_dialling`` and ``_queue``; ``open`` counts connections
being made, lent and idle. A connection is in ``idle`` or lent, never both. `take` is the hot path
and never waits; `borrow` returns a Deferred.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rtgateway.config import Pool as PoolConfig
from rtgateway.core.deadlines import Wheel
from rtgateway.errors import GatewayError

if TYPE_CHECKING:
    from rtgateway.upstream.connection import Connection

__all__ = ["Pool"]

_NEVER = float("inf")

Connect = Callable[["Pool", float], "Deferred[Connection]"]


class Pool:
    """See the module.

    :param connect: makes a new connection for this pool within the given seconds.
    :ivar deadline: when the call that waits longest must be told that there is no connection.
    """

    def __init__(self, settings: PoolConfig, connect: Connect, wheel: Wheel) -> None:
        self._settings = settings
        # Looked up here, because models are slow to read: these are asked at every request.
        self._max_idle = settings.idle
        self._idle_timeout = settings.idle_timeout
        self._connect = connect
        self._wheel = wheel
        self.idle: list[Connection] = []
        self.open = 0
        self._queue: deque[tuple[float, float, Deferred[Connection]]] = deque()
        # Who waits for a connection that is being made, and its making; the oldest first.
        self._dialling: dict[Deferred[Connection], Deferred[Any]] = {}
        self._closed = False
        self.deadline = _NEVER
        wheel.add(self, monotonic())

    def take(self) -> Connection | None:
        """An idle connection, the last used first, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
            connection.close()
        return None

    def borrow(self, timeout: float, now: float, *, fresh: bool = False) -> Deferred[Connection]:
        """A connection: a new one, once there is room for one, or one that comes back sooner.

        :param timeout: seconds for connecting; waiting for room has its own bound.
        :param fresh: one that nobody has used, if there is room to make one.
        The Deferred can be cancelled. It fails with `UpstreamFailed`, `UpstreamTimeout`, or a
        503 `GatewayError` when the queue is full or its deadline passes.
        """
        if self.open >= self._settings.connections and self.idle:
            self.idle[0].close()
        if self.open < self._settings.connections:
            if fresh:
                return self._open(timeout)
            wanted: Deferred[Connection] = Deferred(self._give_up)
            self._dialling[wanted] = dial = self._open(timeout)
            dial.addBoth(self._dialled, wanted)
            return wanted
        if len(self._queue) >= self._settings.queue:
            return fail(_no_room("Too many requests are waiting for this service"))
        deferred: Deferred[Connection] = Deferred(self._dequeue)
        deadline = now + self._settings.queue_timeout
        self._queue.append((deadline, timeout, deferred))
        if self.deadline == _NEVER:
            self.deadline = deadline
            self._wheel.touch(self, now)
        return deferred

    def release(self, connection: Connection, now: float) -> None:
        """Take back a connection that can serve another request."""
        idle = self.idle
        if self._dialling:
            # Sooner than the one being made for it, which will be idle or somebody else's then:
            # handshakes that take longer than requests must not pile up (Go's http.Transport).
            wanted = next(iter(self._dialling))
            del self._dialling[wanted]
            wanted.callback(connection)
        elif self._queue:
            _, _, deferred = self._queue.popleft()
            self._arm()
            deferred.callback(connection)
        elif len(idle) < self._max_idle and not self._closed:
            connection.deadline = now + self._idle_timeout
            idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: Connection) -> None:
        """A connection is gone or about to go; there may be room for a waiting call."""
        if connection in self.idle:
            self.idle.remove(connection)
        self._one_less()

    def hurry(self, connection: Connection, now: float) -> None:
        """Its deadline comes before the sweep would look at it again."""
        self._wheel.touch(connection, now)

    def ended(self, connection: Connection) -> None:
        """A connection is closed; it has no deadline any more."""
        self._wheel.discard(connection)

    def expired(self, now: float) -> None:
        """The first in the queue has waited too long (called by the sweep)."""
        queue = self._queue
        late = []
        while queue and queue[0][0] <= now:
            late.append(queue.popleft()[2])
        self._arm()
        for deferred in late:
            deferred.errback(_no_room("No connection to the service became free in time"))

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        self._closed = True
        for connection in list(self.idle):
            connection.close()
        self._wheel.discard(self)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def _open(self, timeout: float) -> Deferred[Connection]:
        self.open += 1
        deferred = self._connect(self, timeout)

        def failed(failure: Failure) -> Failure:
            self._one_less()
            return failure

        def made(connection: Connection) -> Connection:
            self._wheel.add(connection, monotonic())
            return connection

        return deferred.addCallbacks(made, failed)

    def _dialled(self, made: Connection | Failure, wanted: Deferred[Connection]) -> None:
        if self._dialling.pop(wanted, None) is not None:
            wanted.callback(made)
        elif not isinstance(made, Failure):  # who wanted it has another one, or has left
            self.release(made, monotonic())

    def _give_up(self, wanted: Deferred[Connection]) -> None:
        dial = self._dialling.pop(wanted, None)
        if dial is not None:
            dial.cancel()

    def _one_less(self) -> None:
        self.open -= 1
        if self._queue and self.open < self._settings.connections:
            _, timeout, deferred = self._queue.popleft()
            self._arm()
            self._open(timeout).addBoth(self._hand_over, deferred)

    def _hand_over(self, made: Connection | Failure, deferred: Deferred[Connection]) -> None:
        if not deferred.called:
            deferred.callback(made)
        elif not isinstance(made, Failure):  # cancelled while its connection was being made
            self.release(made, monotonic())

    def _dequeue(self, cancelled: Deferred[Connection]) -> None:
        self._queue = deque(entry for entry in self._queue if entry[2] is not cancelled)
        self._arm()

    def _arm(self) -> None:
        self.deadline = self._queue[0][0] if self._queue else _NEVER

    def __repr__(self) -> str:
        return f"<Pool {self.open} open {len(self.idle)} idle {len(self._queue)} waiting>"


def _no_room(message: str) -> GatewayError:
    headers = ((b"Retry-After", b"1"),)
    # Nothing has been sent: another instance may have room.
    return GatewayError(
        503, "upstream_busy", message, fault="gateway", retryable=True, headers=headers
    )
