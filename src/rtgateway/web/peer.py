"""Whom a connection comes from."""

from __future__ import annotations

from rtgateway.core.forwarded import Received, TrustedProxies, forwarding_block, resolve
from rtgateway.gateway.exchange import Exchange

__all__ = ["Peer"]


class Peer:
    """Whom a connection comes from, and what the next hop is told about it.

    :ivar ip: the address in text, "" for a Unix socket.
    :ivar trusted: whether it is one of the configured proxies, and is believed.
    """

    __slots__ = ("_block", "_host", "_port", "_proxies", "_scheme", "ip", "trusted")

    def __init__(self, ip: str, scheme: bytes, port: int, proxies: TrustedProxies) -> None:
        self.ip = ip
        self.trusted = proxies.trusts(ip)
        self._proxies = proxies
        self._scheme = scheme
        self._port = port
        self._host = b"?"
        self._block = b""

    def introduce(self, exchange: Exchange) -> None:
        """Tell the next hop for whom ``exchange`` is made, and the gateway too."""
        host = exchange.host
        if self.trusted:
            received = Received(exchange.headers)
            exchange.client_ip = resolve(
                self.ip, received.addresses, received.forwarded, self._proxies
            ).client
            exchange.forwarding = forwarding_block(
                self.ip, self._scheme, host, self._port, received
            )
            return
        if host != self._host:
            self._host = host
            self._block = forwarding_block(self.ip, self._scheme, host, self._port)
        exchange.client_ip = self.ip
        exchange.forwarding = self._block

    def __repr__(self) -> str:
        return f"<Peer {self.ip or 'unix'}{' trusted' if self.trusted else ''}>"
