"""One connection that is opened again whenever it has ended."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.protocol import CommandProtocol

__all__ = ["Line"]

log = Logger()

_FIRST, _LONGEST = 0.05, 1.0
"""Seconds between attempts."""
_GOOD = 1.0
"""Seconds that a connection has to stand to count as one; else the next attempt is a later one."""

C = TypeVar("C", bound=CommandProtocol)


class Line(Generic[C]):
    """See the module.

    :param open: opens a connection, or fails with `StoreError`.
    :param ready: gets it; ``failed``: gets why there was none.
    :param random: for jitter; 0 <= x < 1.
    """

    __slots__ = (
        "_attempts",
        "_failed",
        "_open",
        "_opening",
        "_random",
        "_reactor",
        "_ready",
        "_since",
        "_stopped",
        "_timer",
        "connection",
    )

    def __init__(
        self,
        open: Callable[[], Deferred[C]],
        ready: Callable[[C], None],
        failed: Callable[[str], None],
        reactor: Any,
        random: Callable[[], float],
    ) -> None:
        self._open = open
        self._ready = ready
        self._failed = failed
        self._reactor = reactor
        self._random = random
        self._attempts = 0
        self._since = 0.0
        self._opening: Deferred[C] | None = None
        self._timer: Any = None
        self._stopped = False
        self.connection: C | None = None

    def start(self) -> None:
        """Open it, and keep it open."""
        self._timer = None
        if self._stopped:
            return
        opening = self._opening = self._open()
        opening.addCallbacks(self._opened, self._not_opened)
        opening.addErrback(lambda failure: log.failure("A connection to Redis failed", failure))

    def _opened(self, connection: C) -> None:
        self._opening = None
        if self._stopped:
            connection.abort("stopped")
            return
        if connection.ended:
            self._failed("the connection ended at once")
            self._again()
            return
        self._since = monotonic()
        self.connection = connection
        self._ready(connection)

    def _not_opened(self, failure: Failure) -> None:
        self._opening = None
        if isinstance(failure.value, StoreError):
            why = failure.value.detail
        elif failure.check(CancelledError):
            why = "cancelled"
        else:
            log.failure("A connection to Redis could not be opened", failure)
            why = failure.getErrorMessage()
        if not self._stopped:
            self._failed(why)
            self._again()

    def lost(self) -> None:
        """To be called when the connection has ended."""
        self.connection = None
        if self._stopped:
            return
        if monotonic() - self._since >= _GOOD:
            self._attempts = 0
        self._again()

    def _again(self) -> None:
        pause = min(_LONGEST, _FIRST * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 16)
        pause *= 0.5 + 0.5 * self._random()
        self._timer = self._reactor.callLater(pause, self.start)

    def stop(self) -> Deferred[None]:
        """Close it and open no other; fires when it is closed."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._opening is not None:
            self._opening.cancel()
        connection = self.connection
        if connection is None:
            return succeed(None)
        gone = connection.gone()
        connection.abort("stopped")
        return gone

    def __repr__(self) -> str:
        return f"<Line {self.connection or 'without a connection'}>"
