"""What a request about WebSockets asks for: which of them, how many, and how to close them.

Some of these requests close all that they mean, so that they are taken strictly (`parameters`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from twisted.web.server import Request

from rtgateway.observe.socket_views import SocketView
from rtgateway.web.admin.parameters import (
    Window,
    address,
    listed,
    parameters,
    true,
    whole,
    wrong,
)

__all__ = ["Closing", "Filters", "readable"]

_FILTERS: dict[str, Callable[[SocketView], str]] = {
    "identity": lambda socket: readable(socket.identity),
    "route": lambda socket: socket.route,
    "service": lambda socket: socket.instance.service,
    "instance": lambda socket: socket.instance.id,
    "ip": lambda socket: socket.client_ip,
}
"""What sockets may be told apart by; ``state`` too, but not when they are to be closed."""
_READ = {**_FILTERS, "state": lambda socket: socket.state}
_WINDOW = ("limit", "after")
_CLOSING = ("code", "reason", "revoked")

_STATES = ("open", "closing")
_MAX_REASON = 123
"""Bytes: a control frame has 125, and two are the code (RFC 6455, 5.5)."""
_CODES = (range(1000, 1004), range(1007, 1015), range(3000, 5000))
"""Those that may be sent: 1004 to 1006 and 1015 may not, 1016 to 2999 mean nothing (RFC 6455, 7.4;
the registry of IANA has 1012 to 1014)."""


class Filters:
    """Which WebSockets are meant: those of which everything that is asked for is true."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self._wanted = dict(wanted)

    @classmethod
    def to_list(cls, request: Request) -> tuple[Filters, Window]:
        """What a GET asks for.

        :raises GatewayError: 400.
        """
        query = parameters(request, *_READ, *_WINDOW)
        window = Window.of(query)
        return cls(_wanted(query, tuple(_READ))), window

    @classmethod
    def to_close(cls, request: Request) -> tuple[Filters, Closing]:
        """What a DELETE asks for; it has to name somebody.

        :raises GatewayError: 400.
        """
        query = parameters(request, *_FILTERS, *_CLOSING)
        wanted = _wanted(query, tuple(_FILTERS))
        if not wanted:
            raise wrong(f"Say which WebSockets: {listed(tuple(_FILTERS))}")
        return cls(wanted), Closing.of(query)

    def match(self, socket: SocketView) -> bool:
        """Whether ``socket`` is meant."""
        return all(_READ[name](socket) == value for name, value in self._wanted.items())

    def __str__(self) -> str:
        """For a log: on one line, whatever was asked for."""
        return ", ".join(f"{name} {value[:128]!a}" for name, value in self._wanted.items())

    def __repr__(self) -> str:
        return f"<Filters {self}>"


class Closing(NamedTuple):
    """What to close with."""

    code: int = 1000
    reason: str = "closed_by_operator"

    @classmethod
    def of_request(cls, request: Request) -> Closing:
        """What the query of a DELETE of one WebSocket says.

        :raises GatewayError: 400.
        """
        return cls.of(parameters(request, *_CLOSING))

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Closing:
        """What a query says.

        :raises GatewayError: 400.
        """
        if true(query, "revoked"):
            if "code" in query or "reason" in query:
                raise wrong("revoked has a code and a reason of its own")
            return cls(4001, "token_revoked")
        code = whole(query["code"]) if "code" in query else cls().code
        if not any(code in codes for codes in _CODES):
            raise wrong("code has to be one of 1000 to 1003, 1007 to 1014, 3000 to 4999")
        reason = query.get("reason", cls().reason)
        if len(reason.encode()) > _MAX_REASON:
            raise wrong(f"reason has to be at most {_MAX_REASON} bytes long")
        return cls(code, reason)

    def __str__(self) -> str:
        """For a log: on one line."""
        return f"{self.code} {self.reason!a}"


def readable(text: str) -> str:
    """``text`` as an answer can hold it; subjects of tokens may have halves of characters."""
    return text.encode(errors="backslashreplace").decode()


def _wanted(query: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    wanted = {name: query[name] for name in names if name in query}
    if wanted.get("state", "open") not in _STATES:
        raise wrong(f"state has to be {' or '.join(_STATES)}")
    if "ip" in wanted:
        wanted["ip"] = address(wanted["ip"])
    return wanted
