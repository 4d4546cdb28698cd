"""Which sites may open WebSockets: the Origin of an upgrade against a list (RFC 6455, 10.2).

Pure and bounded: what a client sends is compared, never trusted to be an origin. Caller: ``ws``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address

__all__ = ["Origins"]

_LONGEST = 512
"""Bytes of an Origin that are looked at: scheme, a name of 253 bytes (RFC 1035, 2.3.4), port."""

# RFC 6454, 6.2 and 7.1: one origin in ASCII, and nothing behind it. The name is labels, so that no
# other sign can stand before a suffix that is allowed.
_ORIGIN = re.compile(
    rb"([a-z][a-z0-9+.-]*)://([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_NULL = b"null"

_Site = tuple[bytes, int]
"""Scheme and port."""


class Origins:
    """See the module.

    :param patterns: ``https://app.example.com``; ``https://*.example.com`` for all names below,
        one label or more; each with a port if it is not the scheme's own; ``null``, which browsers
        send where they keep the origin to themselves.
    :raises ValueError: one is nothing of that kind.
    """

    __slots__ = ("_below", "_exact", "_null")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[tuple[_Site, bytes]] = set()
        self._below: dict[_Site, set[bytes]] = {}
        self._null = False
        for pattern in patterns:
            self._add(pattern)

    def _add(self, pattern: str) -> None:
        text = pattern.encode("ascii", "replace")
        if text == _NULL:
            self._null = True
            return
        found = _parse(text.replace(b"://*.", b"://", 1))
        if found is None:
            raise ValueError(f"{pattern!r} is not an origin")
        site, host = found
        if b"://*." in text:
            self._below.setdefault(site, set()).add(host)
        else:
            self._exact.add(found)

    def allows(self, origin: bytes) -> bool:
        """Whether ``origin``, the value of an Origin field, is in the list. Never raises."""
        if origin == _NULL:
            return self._null
        found = _parse(origin)
        if found is None:
            return False
        if found in self._exact:
            return True
        site, host = found
        suffixes = self._below.get(site)
        if suffixes is None:
            return False
        # As many steps as the name has labels, however long the list is.
        _, dot, host = host.partition(b".")
        while dot:
            if host in suffixes:
                return True
            _, dot, host = host.partition(b".")
        return False

    def __repr__(self) -> str:
        below = sum(map(len, self._below.values()))
        return f"<Origins {len(self._exact) + below + self._null}>"


def _parse(origin: bytes) -> tuple[_Site, bytes] | None:
    """Scheme, port and host; 0 is the port of a scheme that has none of its own."""
    if len(origin) > _LONGEST:
        return None
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    if host.startswith(b"["):
        try:
            # In one spelling; in brackets still, so that it is no name.
            host = b"[%b]" % str(IPv6Address(host[1:-1].decode("ascii"))).encode()
        except ValueError:
            return None
    return (scheme, int(port) if port else _DEFAULT_PORTS.get(scheme, 0)), host
