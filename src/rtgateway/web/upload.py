"""A request body as it comes from the client: decoded, passed on, and judged by its pace.

A client that is silent for too long is answered 408, and so is one that drips: over every ten
seconds it has to keep up a rate. Neither is asked of a client that is kept from sending.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rtgateway.errors import GatewayError
from rtgateway.gateway.body import RequestBody
from rtgateway.wire.body import decoder_for
from rtgateway.wire.http1 import RequestHead
from rtgateway.wire.lines import end_to_end

if TYPE_CHECKING:
    from rtgateway.web.channel import HTTPChannel

__all__ = ["Upload"]

_NEVER = float("inf")
_RATE_WINDOW = 10.0
"""Seconds over which the rate of a request body is judged."""


class Upload(RequestBody):
    """See the module. Created by `HTTPChannel`, whose deadline it sets until all has come."""

    __slots__ = ("_channel", "_connection", "_decoder", "_heard", "_window", "_window_bytes")

    def __init__(self, channel: HTTPChannel, head: RequestHead, now: float) -> None:
        length = head.length
        super().__init__(channel, length)
        site = channel.site
        self._channel = channel
        self._connection = head.named.get(b"connection")
        self._decoder = decoder_for(length, site.trailer_bytes)
        # What `wait` does, written out: one call less for every body.
        self._heard = self._window = now
        self._window_bytes = 0
        channel.deadline = now + min(site.timeouts.body_idle, _RATE_WINDOW)

    def while_body(self, data: bytes) -> None:
        """More bytes: the state of the channel until the body has come."""
        try:
            self.take(data)
        except GatewayError as error:
            self._channel.break_off(error)

    def take(self, data: bytes) -> None:
        """More of the body, and maybe what is behind it.

        :raises GatewayError: it is malformed, or larger than it may be.
        """
        decoder = self._decoder
        self._window_bytes += len(data)
        self._heard = monotonic()
        payload = decoder.feed(data)
        if not decoder.done:
            if payload:
                self.received(payload)
            return
        self._channel.body_ended(decoder.rest)
        if payload:
            self.received(payload)
        trailers = decoder.trailers
        self.finished(end_to_end(trailers, self._connection) if trailers else trailers)

    # -- its pace ---------------------------------------------------------------------------

    def wait(self, now: float) -> None:
        """The client may send again: from now on its silence counts, and its rate."""
        channel = self._channel
        self._heard = self._window = now
        self._window_bytes = 0
        channel.deadline = now + min(channel.site.timeouts.body_idle, _RATE_WINDOW)

    def judge(self, now: float) -> None:
        """It is time to see whether the client is too slow."""
        channel = self._channel
        timeouts = channel.site.timeouts
        elapsed = now - self._window
        too_slow = elapsed >= _RATE_WINDOW and self._window_bytes < timeouts.body_rate * elapsed
        if now - self._heard >= timeouts.body_idle or too_slow:
            channel.deadline = _NEVER
            channel.break_off(
                GatewayError(408, "timeout", "The request body came too slowly", fault="client")
            )
            return
        if elapsed >= _RATE_WINDOW:
            self._window, self._window_bytes = now, 0
        channel.deadline = min(self._heard + timeouts.body_idle, self._window + _RATE_WINDOW)
