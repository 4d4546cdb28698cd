"""What a request about WebSockets asks for: which of them, how many, and how to close them.

Queries are taken strictly. A misspelt or empty filter that was passed over would mean more sockets
than were meant, and some of these requests close them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from twisted.web.http import parse_qs
from twisted.web.server import Request

from rtgateway.errors import GatewayError
from rtgateway.observe.socket_views import SocketView
from rtgateway.web.admin.page import refusal

__all__ = ["Closing", "Filters", "Window", "readable"]

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
_MOST = 1000
_USUAL = 100
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
        query = _query(request, (*_READ, *_WINDOW))
        window = Window.of(query)
        return cls(_wanted(query, tuple(_READ))), window

    @classmethod
    def to_close(cls, request: Request) -> tuple[Filters, Closing]:
        """What a DELETE asks for; it has to name somebody.

        :raises GatewayError: 400.
        """
        query = _query(request, (*_FILTERS, *_CLOSING))
        wanted = _wanted(query, tuple(_FILTERS))
        if not wanted:
            raise _wrong(f"Say which WebSockets: {_listed(tuple(_FILTERS))}")
        return cls(wanted), Closing.of(query)

    def match(self, socket: SocketView) -> bool:
        """Whether ``socket`` is meant."""
        return all(_READ[name](socket) == value for name, value in self._wanted.items())

    def __str__(self) -> str:
        """For a log: on one line, whatever was asked for."""
        return ", ".join(f"{name} {value[:128]!a}" for name, value in self._wanted.items())

    def __repr__(self) -> str:
        return f"<Filters {self}>"


class Window(NamedTuple):
    """A part of a list: at most ``limit``, those behind the id ``after``."""

    limit: int = _USUAL
    after: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Window:
        """What a query asks for.

        :raises GatewayError: 400.
        """
        text = query.get("limit", str(_USUAL))
        limit = _whole(text)
        if not 1 <= limit <= _MOST:
            raise _wrong(f"limit has to be a number from 1 to {_MOST}")
        return cls(limit, query.get("after", ""))


class Closing(NamedTuple):
    """What to close with."""

    code: int = 1000
    reason: str = "closed_by_operator"

    @classmethod
    def of_request(cls, request: Request) -> Closing:
        """What the query of a DELETE of one WebSocket says.

        :raises GatewayError: 400.
        """
        return cls.of(_query(request, _CLOSING))

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Closing:
        """What a query says.

        :raises GatewayError: 400.
        """
        revoked = query.get("revoked", "false")
        if revoked not in ("true", "false"):
            raise _wrong("revoked has to be true or false")
        if revoked == "true":
            if "code" in query or "reason" in query:
                raise _wrong("revoked has a code and a reason of its own")
            return cls(4001, "token_revoked")
        code = _whole(query["code"]) if "code" in query else cls().code
        if not any(code in codes for codes in _CODES):
            raise _wrong("code has to be one of 1000 to 1003, 1007 to 1014, 3000 to 4999")
        reason = query.get("reason", cls().reason)
        if len(reason.encode()) > _MAX_REASON:
            raise _wrong(f"reason has to be at most {_MAX_REASON} bytes long")
        return cls(code, reason)

    def __str__(self) -> str:
        """For a log: on one line."""
        return f"{self.code} {self.reason!a}"


def readable(text: str) -> str:
    """``text`` as an answer can hold it; subjects of tokens may have halves of characters."""
    return text.encode(errors="backslashreplace").decode()


def _query(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    """The parameters of ``request``; all of them are known, have a value, and are there once."""
    # Not request.args: it leaves out what has no value.
    text = request.uri.partition(b"?")[2]
    try:
        fields = parse_qs(text, keep_blank_values=True, strict_parsing=True) if text else {}
    except ValueError:
        raise _wrong("The query has to be name=value&name=value") from None
    query: dict[str, str] = {}
    for raw, values in fields.items():
        name = raw.decode("latin-1")
        if name not in known:
            raise _wrong(f"There is no such parameter here; there are {_listed(known)}")
        if len(values) != 1 or not values[0]:
            raise _wrong(f"{name} has to be there once, with a value")
        try:
            query[name] = values[0].decode()
        except UnicodeDecodeError:
            raise _wrong(f"{name} is not UTF-8") from None
    return query


def _wanted(query: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    wanted = {name: query[name] for name in names if name in query}
    if wanted.get("state", "open") not in _STATES:
        raise _wrong(f"state has to be {' or '.join(_STATES)}")
    if "ip" in wanted:
        wanted["ip"] = _address(wanted["ip"])
    return wanted


def _address(text: str) -> str:
    """An address as clients' addresses are written."""
    try:
        address = ip_address(text)
    except ValueError:
        raise _wrong("ip has to be an IP address") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _whole(text: str) -> int:
    """A number that is written with at most five digits; -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _wrong(message: str) -> GatewayError:
    return refusal(400, "bad_request", message)
