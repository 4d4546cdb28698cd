"""Lines of the access log: an exchange that is over, in, a line of text out.

Never in a line: query strings (tokens travel there), credentials, bodies; of a Referer, what
precedes its query. Everything a client can choose is escaped, so that a line stays one line.

Callers: ``observe.access_log``, once per request.
"""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime, strftime
from typing import TypeVar

import orjson

from rtgateway.observe.views import ExchangeView

__all__ = ["CombinedLines", "JsonLines"]

_MAX_AGENT = 512
"""Bytes of a User-Agent (or Referer) that are told."""

_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

K = TypeVar("K")


class _Memo(dict[K, str]):
    """Texts for values that come again and again; forgets all of them when there are too many."""

    __slots__ = ("_text",)

    def __init__(self, text: Callable[[K], str]) -> None:
        self._text = text

    def __missing__(self, key: K) -> str:
        if len(self) >= 1024:
            self.clear()
        text = self[key] = self._text(key)
        return text


# Method, status, label of the address, service, label of the instance.
_Outcome = tuple[bytes, int, str, str, str]


class JsonLines:
    """One JSON object per line; times in UTC, durations in microseconds.

    The members that every line has are put together here, at half the price of a JSON encoder;
    one does the rest, and writes all values that come from outside.
    """

    __slots__ = ("_addresses", "_agents", "_clock", "_outcomes", "_time", "_until")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._time = ""
        self._until = 0.0
        self._outcomes: _Memo[_Outcome] = _Memo(_outcome)
        self._addresses: _Memo[str] = _Memo(_quoted)
        self._agents: _Memo[bytes] = _Memo(_quoted_bytes)

    def line(self, exchange: ExchangeView) -> str:
        """``exchange`` as a line, with its end."""
        finished = exchange.finished
        if finished >= self._until:
            self._turn(finished)
        agent = b""
        for name, _, value in exchange.headers:
            if name == b"user-agent":
                agent = value[:_MAX_AGENT]
                break
        path = exchange.path
        text = _quoted_bytes(path)[1:-1] if path.translate(None, _PLAIN) else path.decode()
        body = exchange.body
        started = exchange.started
        first_byte = exchange.first_byte
        route = exchange.route
        chosen = exchange.chosen
        outcome = (
            exchange.method,
            exchange.status,
            exchange.label,
            route.service.name if route is not None else "",
            chosen.label if chosen is not None else "",
        )
        rest = ""
        if exchange.error_code or exchange.identity is not None or exchange.kind != "http":
            rest = _particulars(exchange)
        # Of request ids only safe characters are kept (core.identifiers): no need to escape them.
        return (
            f'{{"time":"{self._time}","request_id":"{exchange.request_id.decode()}",'
            f'"client_ip":{self._addresses[exchange.client_ip]},{self._outcomes[outcome]},'
            f'"path":"{text}","bytes_in":{body.size if body is not None else 0},'
            f'"bytes_out":{exchange.bytes_out},'
            f'"first_byte_us":{int((first_byte - started) * 1e6) if first_byte else "null"},'
            f'"duration_us":{int((finished - started) * 1e6)},'
            f'"user_agent":{self._agents[agent]}{rest}}}\n'
        )

    def _turn(self, finished: float) -> None:
        """The time of day has changed, by a millisecond at least."""
        self._until = finished + 0.001
        second, fraction = divmod(int(self._clock() * 1000), 1000)
        self._time = f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(second))}.{fraction:03d}Z"


class CombinedLines:
    """Apache's combined log format; times in UTC."""

    __slots__ = ("_clock", "_second", "_time")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = -1
        self._time = ""

    def line(self, exchange: ExchangeView) -> str:
        """``exchange`` as a line, with its end."""
        second = int(self._clock())
        if second != self._second:
            self._turn(second)
        agent = referer = b"-"
        for name, _, value in exchange.headers:
            if name == b"user-agent":
                agent = value[:_MAX_AGENT]
            elif name == b"referer":
                referer = value.partition(b"?")[0][:_MAX_AGENT]
        identity = exchange.identity
        user = _hexed(identity.subject.encode()) if identity is not None else ""
        return (
            f"{_hexed(exchange.client_ip.encode()) or '-'} - {user.replace(' ', '%20') or '-'} "
            f'[{self._time}] "{exchange.method.decode("latin-1") or "-"} '
            f'{_hexed(exchange.path) or "-"} HTTP/{"1.0" if exchange.version == 10 else "1.1"}" '
            f'{exchange.status} {exchange.bytes_out} "{_hexed(referer)}" "{_hexed(agent)}"\n'
        )

    def _turn(self, second: int) -> None:
        at = gmtime(second)
        # strftime's month names would follow the locale.
        month = _MONTHS[at.tm_mon - 1]
        self._second = second
        self._time = strftime(f"%d/{month}/%Y:%H:%M:%S +0000", at)


def _outcome(outcome: _Outcome) -> str:
    method, status, route, service, instance = outcome
    members: dict[str, str | int] = {"method": method.decode("latin-1"), "status": status}
    origin = {"route": route, "service": service, "instance": instance}
    return _members(members | {key: value for key, value in origin.items() if value})


def _particulars(exchange: ExchangeView) -> str:
    """What most requests don't have."""
    values: dict[str, str | int] = {}
    if exchange.kind != "http":
        values["kind"] = exchange.kind
    if exchange.identity is not None:
        values["subject"] = exchange.identity.subject
    if exchange.error_code:
        values["error"] = exchange.error_code
    return f",{_members(values)}"


def _members(values: dict[str, str | int]) -> str:
    return orjson.dumps(values)[1:-1].decode()


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()


def _quoted_bytes(value: bytes) -> str:
    # Latin-1 has a character for every byte: a line tells exactly what was sent.
    return orjson.dumps(value.decode("latin-1")).decode()


def _hexed(value: bytes) -> str:
    """``value`` as Apache writes it: ``\\xhh`` for what would break or disguise a line."""
    if not value.translate(None, _PLAIN):
        return value.decode("ascii")
    return "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in value)
