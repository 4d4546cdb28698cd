"""How many clients may be connected: in all, and from one address.

One `Gate` counts for all ports (`net.port`). When it is full they stop accepting, so that further
clients wait in the kernel's backlog; a client that has too many connections already is closed at
once, before anything is allocated for it.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Protocol

__all__ = ["Gate", "Pausable", "network_of"]

_UNCOUNTED = ""
"""The place of connections that have no limit by address."""


class Pausable(Protocol):
    """A port, as the gate knows it."""

    def pauseProducing(self) -> object:
        """Stop accepting."""

    def resumeProducing(self) -> object:
        """Accept again."""


def _nobody(ip: str) -> bool:
    return False


class Gate:
    """See the module.

    An IPv6 client is known by its /64 network, which is what one site, often one machine, has to
    pick addresses from.

    :param total: connections of all clients together; at least 1.
    :param per_ip: connections of one client address; at least 1.
    :param exempt: tells whether an address is not limited, such as a trusted proxy's: it stands
        for many clients.
    :ivar shut: nobody comes in until it is opened, and clients wait in the kernel's backlog.
    """

    __slots__ = ("_by_ip", "_exempt", "_per_ip", "_ports", "_total", "refused", "shut", "taken")

    def __init__(self, total: int, per_ip: int, exempt: Callable[[str], bool] = _nobody) -> None:
        self._total = total
        self._per_ip = per_ip
        self._exempt = exempt
        self._by_ip: dict[str, int] = {}
        self._ports: set[Pausable] = set()
        self.taken = 0
        self.refused = 0
        self.shut = False

    @property
    def full(self) -> bool:
        """Whether nobody else may come in."""
        return self.shut or self.taken >= self._total

    def admit(self, ip: str) -> str | None:
        """Take a place for a client; an empty ``ip`` is a Unix socket's.

        :return: what `leave` wants back, or None: this address has had enough.
        """
        place = _UNCOUNTED if not ip or self._exempt(ip) else network_of(ip)
        if place:
            count = self._by_ip.get(place, 0)
            if count >= self._per_ip:
                self.refused += 1
                return None
            self._by_ip[place] = count + 1
        self.taken += 1
        if self.full:
            for port in self._ports:
                port.pauseProducing()
        return place

    def leave(self, place: str) -> None:
        """Give a place back; ports that waited for one accept again."""
        if place:
            count = self._by_ip[place] - 1
            if count:
                self._by_ip[place] = count
            else:
                del self._by_ip[place]
        was_full = self.full
        self.taken -= 1
        if was_full and not self.full:
            self._resume()

    def open(self) -> None:
        """Let clients in, if it was shut."""
        was_shut, self.shut = self.shut, False
        if was_shut and not self.full:
            self._resume()

    def _resume(self) -> None:
        for port in self._ports:
            port.resumeProducing()

    def add(self, port: Pausable) -> None:
        """Govern ``port`` from now on."""
        self._ports.add(port)

    def remove(self, port: Pausable) -> None:
        """``port`` closes."""
        self._ports.discard(port)

    def __repr__(self) -> str:
        return f"<Gate {self.taken} of {self._total} places taken, {self.refused} refused>"


def network_of(ip: str) -> str:
    """What an address is counted as: itself, or its /64 network if it is IPv6."""
    if ":" not in ip:
        return ip
    address = IPv6Address(ip)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(IPv6Address(int(address) >> 64 << 64))
