"""Looks after connections to Redis that are not used, and after where the master is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from hiredis import pack_command
from twisted.internet.defer import CancelledError, Deferred

from rtgateway.store.errors import StoreError
from rtgateway.store.redis.calls import Call
from rtgateway.store.redis.opening import Opening, Place
from rtgateway.store.redis.protocol import CommandProtocol

__all__ = ["Upkeep"]

_EVERY = 1.0
"""Seconds."""
_PING = pack_command(("PING",))


class Upkeep:
    """See the module.

    :param ready: the connections, as they come and go.
    :param found: gets where the sentinels say that the master is; None if nobody knows of any.
    :param timeout: seconds for the answer to a PING.
    """

    __slots__ = ("_asking", "_found", "_opening", "_reactor", "_ready", "_timeout", "_timer")

    def __init__(
        self,
        ready: Sequence[CommandProtocol],
        opening: Opening,
        found: Callable[[Place | None], None],
        timeout: float,
        reactor: Any,
    ) -> None:
        self._ready = ready
        self._opening = opening
        self._found = found
        self._timeout = timeout
        self._reactor = reactor
        self._timer: Any = None
        self._asking: Deferred[None] | None = None

    def start(self) -> None:
        """Look every second from now on."""
        self._timer = self._reactor.callLater(_EVERY, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asking is not None:
            self._asking.addErrback(lambda failure: failure.trap(CancelledError)).cancel()

    def _look(self) -> None:
        self._timer = self._reactor.callLater(_EVERY, self._look)
        # A connection on which nothing is said may be dead; and so may Redis.
        for connection in tuple(self._ready):
            if not connection.waiting:
                now = monotonic()
                connection.send_timed(Call("ping", now, now + self._timeout, _ignored), _PING)
        if self._asking is None or self._asking.called:
            # A master that was replaced may learn it some 10 s later.
            self._asking = self._opening.master().addCallback(self._found)

    def __repr__(self) -> str:
        return f"<Upkeep of {len(self._ready)} connections>"


def _ignored(reply: Any, error: StoreError | None) -> None:
    """Connections tell how they fare; nothing else is asked for."""
