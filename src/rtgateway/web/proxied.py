"""What a proxy says before the first request, on a listener with ``proxy_protocol``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtgateway.errors import BadRequest
from rtgateway.wire.proxy_protocol import ProxyHeader

if TYPE_CHECKING:
    from rtgateway.web.channel import HTTPChannel

__all__ = ["ProxyPreface"]


class ProxyPreface:
    """Takes the PROXY header of one channel, and tells it who its peer is."""

    __slots__ = ("_channel", "_header")

    def __init__(self, channel: HTTPChannel) -> None:
        self._channel = channel
        self._header = ProxyHeader()

    def proxied(self, data: bytes) -> None:
        """Bytes of the header: the state of the channel until it is complete."""
        channel = self._channel
        try:
            said = self._header.feed(data)
            if said is None:
                return
            channel.peer = channel.edge.proxied_peer(channel.peer, said)
        except BadRequest as error:
            channel.refuse(error)
            return
        channel.begin_http(said.rest)
