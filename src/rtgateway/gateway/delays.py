"""Requests that are held for a while on purpose: a fault, or a turn that has not come."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from rtgateway.errors import ClientGone

__all__ = ["Delays"]


class Delays:
    """See the module.

    :param reactor: for the timers.
    """

    __slots__ = ("_reactor", "_waiting")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: set[Deferred[None]] = set()

    async def wait(self, seconds: float) -> None:
        """Wait.

        :raises ClientGone: the gateway stops meanwhile.
        """
        waiting: Deferred[None] = deferLater(self._reactor, seconds)
        self._waiting.add(waiting)
        try:
            await waiting
        except CancelledError:
            raise ClientGone() from None
        finally:
            self._waiting.discard(waiting)

    def stop(self) -> None:
        """End all of them: their clients are gone, or about to be."""
        for waiting in list(self._waiting):
            waiting.cancel()

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Delays {len(self)} waiting>"
