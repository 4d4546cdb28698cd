"""A transport changes hands: from the protocol that has it to another one, for good."""

from __future__ import annotations

from typing import Any

from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["hand_over"]


def hand_over(transport: Any, protocol: Any) -> None:
    """Make ``protocol`` the one that ``transport`` delivers to, and give it that ``transport``.

    The producer that was registered is not any more: it would swallow what is meant for the next
    one. Nothing is called on ``protocol``: it knows that it is connected.
    """
    transport.unregisterProducer()
    protocol.transport = transport
    if isinstance(transport, TLSMemoryBIOProtocol):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
