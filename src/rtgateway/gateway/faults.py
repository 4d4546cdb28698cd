"""Faults on purpose: some of a route's requests are delayed, or refused, to rehearse real ones.

Built once per route from ``routes[].faults``; called by ``gateway.shaping``. A client sees in
``X-Fault-Injected`` that it was the gateway, and what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from rtgateway.errors import ClientGone, GatewayError

if TYPE_CHECKING:
    from rtgateway import config
    from rtgateway.gateway.exchange import Exchange

__all__ = ["FaultInjection"]


class FaultInjection:
    """See the module.

    Whether a request is delayed and whether it is refused are drawn independently, in this order;
    one may be both, and is then refused after the delay.

    :param random: gives ``0 <= x < 1``.
    :param reactor: for the timers of delays.
    :ivar delayed: how many requests were.
    :ivar aborted: how many requests were.
    """

    __slots__ = ("_header", "_random", "_reactor", "_settings", "_waiting", "aborted", "delayed")

    def __init__(self, settings: config.Faults, random: Callable[[], float], reactor: Any) -> None:
        self._settings = settings
        self._header = settings.header.lower().encode() if settings.header else b""
        self._random = random
        self._reactor = reactor
        self._waiting: set[Deferred[None]] = set()
        self.delayed = 0
        self.aborted = 0

    async def inject(self, exchange: Exchange) -> None:
        """Do to ``exchange`` what chance says.

        :raises GatewayError: the configured status, code ``fault_injected``.
        :raises ClientGone: the gateway stops while the request is delayed.
        """
        if self._header and not exchange.values(self._header):
            return
        settings, random = self._settings, self._random
        delays = settings.delay > 0 and random() < settings.delay_share
        aborts = settings.abort is not None and random() < settings.abort_share
        if delays:
            self.delayed += 1
            exchange.answer_lines += b"X-Fault-Injected: delay\r\n"
            await self._delay(settings.delay)
        if aborts:
            assert settings.abort is not None
            self.aborted += 1
            raise GatewayError(
                settings.abort,
                "fault_injected",
                "This request was refused on purpose",
                headers=((b"X-Fault-Injected", b"abort"),),
            )

    async def _delay(self, seconds: float) -> None:
        waiting: Deferred[None] = deferLater(self._reactor, seconds)
        self._waiting.add(waiting)
        try:
            await waiting
        except CancelledError:
            raise ClientGone() from None
        finally:
            self._waiting.discard(waiting)

    def stop(self) -> None:
        """End all delays: their clients are gone, or about to be."""
        for waiting in list(self._waiting):
            waiting.cancel()

    def __repr__(self) -> str:
        return f"<FaultInjection {len(self._waiting)} waiting>"
