"""Faults on purpose: some of a route's requests are delayed, or refused, to rehearse real ones.

Built once per route from ``routes[].faults``; called by ``gateway.shaping``. A client sees in
``X-Fault-Injected`` that it was the gateway, and what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rtgateway.errors import GatewayError
from rtgateway.gateway.delays import Delays

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

    __slots__ = ("_delays", "_header", "_random", "_settings", "aborted", "delayed")

    def __init__(self, settings: config.Faults, random: Callable[[], float], reactor: Any) -> None:
        self._settings = settings
        self._header = settings.header.lower().encode() if settings.header else b""
        self._random = random
        self._delays = Delays(reactor)
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
            await self._delays.wait(settings.delay)
        if aborts:
            assert settings.abort is not None
            self.aborted += 1
            raise GatewayError(
                settings.abort,
                "fault_injected",
                "This request was refused on purpose",
                headers=((b"X-Fault-Injected", b"abort"),),
            )

    def stop(self) -> None:
        """End all delays: their clients are gone, or about to be."""
        self._delays.stop()

    def __repr__(self) -> str:
        return f"<FaultInjection {len(self._delays)} waiting>"
