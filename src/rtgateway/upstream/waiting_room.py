"""Where requests wait while their service serves as many as it may: a bounded queue.

A concurrency limit says how many may be with the instances at once; `Service` asks `full_or_wait`
before it picks one and calls `wake` whenever one is done. The mutable state is ``_queue``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from twisted.internet.defer import Deferred, fail

from rtgateway.core.deadlines import Wheel
from rtgateway.errors import GatewayError

__all__ = ["WaitingRoom"]

_NEVER = float("inf")


class WaitingRoom:
    """See the module.

    :param size: how many may wait.
    :param patience: seconds that each waits at most.
    :param has_room: whether one more may go on; asked before each one that is let in.
    :ivar deadline: when the one that waits longest must be told that it was too long.
    :ivar refused: how many got a 503 here.
    """

    __slots__ = (
        "_has_room",
        "_patience",
        "_queue",
        "_size",
        "_waking",
        "_wheel",
        "deadline",
        "refused",
    )

    def __init__(
        self, size: int, patience: float, has_room: Callable[[], bool], wheel: Wheel
    ) -> None:
        self._size = size
        self._patience = patience
        self._has_room = has_room
        self._wheel = wheel
        # Who waits, until when. In order, and anybody can leave it at once.
        self._queue: OrderedDict[Deferred[None], float] = OrderedDict()
        self._waking = False
        self.deadline = _NEVER
        self.refused = 0
        wheel.add(self, monotonic())

    def full_or_wait(self, now: float) -> Deferred[None] | None:
        """None: go on, there is room. Else a Deferred that fires when there is.

        Whoever goes on, or is called back, takes its place before anybody else is asked. Who comes
        while others wait goes behind them: if there is room, they are let in first. The Deferred
        can be cancelled. It fails with a 503 `GatewayError`, at once if too many wait already, or
        when its patience is over.

        :param now: monotonic seconds.
        """
        queue = self._queue
        if queue:
            self.wake()
        if not queue and self._has_room():
            return None
        if len(queue) >= self._size:
            self.refused += 1
            return fail(_overloaded("Too many requests are waiting for this service"))
        deferred: Deferred[None] = Deferred(self._leave)
        queue[deferred] = deadline = now + self._patience
        if self.deadline == _NEVER:
            self.deadline = deadline
            self._wheel.touch(self, now)
        return deferred

    def wake(self) -> None:
        """Let in as many as there is room for, in order. Call it whenever a place became free."""
        if not self._queue or self._waking:
            # One that is let in and done at once calls this again: the loop below goes on, at the
            # same depth of the stack however many wait.
            return
        self._waking = True
        try:
            while self._queue and self._has_room():
                deferred, _ = self._queue.popitem(last=False)
                self._arm()
                deferred.callback(None)
        finally:
            self._waking = False

    def expired(self, now: float) -> None:
        """The first in the queue have waited too long (called by the sweep)."""
        queue = self._queue
        late = []
        while queue and next(iter(queue.values())) <= now:
            late.append(queue.popitem(last=False)[0])
        self._arm()
        self._refuse(late, "The service has no room for more requests")

    def close(self) -> None:
        """Refuse those who wait, and from now on whoever would have to wait."""
        self._size = 0
        self._wheel.discard(self)
        waiting = list(self._queue)
        self._queue.clear()
        self._arm()
        self._refuse(waiting, "The service is going away")

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def _refuse(self, waiting: list[Deferred[None]], message: str) -> None:
        self.refused += len(waiting)
        for deferred in waiting:
            # One of them may have cancelled another.
            if not deferred.called:
                deferred.errback(_overloaded(message))

    def _leave(self, cancelled: Deferred[None]) -> None:
        self._queue.pop(cancelled, None)
        self._arm()

    def _arm(self) -> None:
        self.deadline = next(iter(self._queue.values()), _NEVER)

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self._queue)} of {self._size} waiting {self.refused} refused>"


def _overloaded(message: str) -> GatewayError:
    return GatewayError(503, "overloaded", message, headers=((b"Retry-After", b"1"),))
