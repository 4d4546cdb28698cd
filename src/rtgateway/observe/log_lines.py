"""Lines of the access log: an exchange that is over, in, a line of text out.

Never in a line: query strings (tokens travel there), credentials, bodies; of a Referer, what
precedes its query. Everything a client can choose is escaped, so that a line stays one line.

Callers: ``observe.access_log``, once per request. What is the same for many requests,
`outcome_text`, is worked out by ``observe.outcomes``. What ``observe.socket_lines`` tells at the
end of a WebSocket is written in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import gmtime, strftime
from typing import TypeVar

from rtgateway.observe.views import ChosenView, ExchangeView, NamedView

__all__ = [
    "CombinedLines",
    "JsonLines",
    "apache_time",
    "hexed",
    "iso_time",
    "outcome_text",
    "user_name",
]

_MAX_AGENT = 512
"""Bytes of a User-Agent (or Referer) that are told."""

_MAX_OUTCOMES = 64
"""In how many ways a repeated request may come out and still be remembered."""

_MAX_DETAIL = 256
"""Characters of the reason why an instance failed."""

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


class JsonLines:
    """One JSON object per line; times in UTC, durations in microseconds.

    Objects are put together here, at half the price of a JSON encoder. One writes the values that
    come from outside: in ASCII, so that no terminal takes a part of them for a command.
    """

    __slots__ = ("_agents", "_clock", "_day", "_second", "_subjects", "_texts", "_time", "_until")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = 0
        self._day = ""
        self._time = ""
        self._until = 0.0
        self._subjects: _Memo[str] = _Memo(_subject_member)
        self._texts: _Memo[str] = _Memo(json.dumps)
        self._agents: _Memo[bytes] = _Memo(_quoted_bytes)

    def line(self, exchange: ExchangeView, outcome: str) -> str:
        """``exchange`` as a line, with its end. ``outcome``: see `outcome_text`."""
        finished = exchange.finished
        if finished >= self._until:
            self._turn(finished)
        repeats = exchange.repeats
        texts = repeats.log_texts.get(outcome) if repeats is not None else None
        if texts is None:
            texts = self._request(exchange, outcome)
        request, agent = texts
        body = exchange.body
        started = exchange.started
        first_byte = exchange.first_byte
        identity = exchange.identity
        more = "" if identity is None else self._subjects[identity.subject]
        if exchange.error_code or exchange.attempts > 1 or exchange.kind != "http":
            more += self._particulars(exchange)
        # Of request ids only safe characters are kept (core.identifiers): no need to escape them.
        return (
            f'{{"time":"{self._time}","request_id":"{exchange.request_id.decode()}",{request},'
            f'"bytes_in":{body.size if body is not None else 0},"bytes_out":{exchange.bytes_out},'
            f'"first_byte_us":{int((first_byte - started) * 1e6 + 0.5) if first_byte else "null"},'
            f'"duration_us":{int((finished - started) * 1e6 + 0.5)},{agent}{more}}}\n'
        )

    def _request(self, exchange: ExchangeView, outcome: str) -> tuple[str, str]:
        """The members that are the same for requests that are alike: the first ones, the agent."""
        path = exchange.path
        text = _quoted_bytes(path)[1:-1] if path.translate(None, _PLAIN) else path.decode()
        agent = exchange.named.get(b"user-agent", b"")[:_MAX_AGENT]
        texts = (
            f'"client_ip":{self._texts[exchange.client_ip]},{outcome},"path":"{text}"',
            f'"user_agent":{self._agents[agent]}',
        )
        repeats = exchange.repeats
        if repeats is not None and len(repeats.log_texts) < _MAX_OUTCOMES:
            repeats.log_texts[outcome] = texts
        return texts

    def _particulars(self, exchange: ExchangeView) -> str:
        """What most requests don't have."""
        members = ""
        if exchange.service is None and exchange.route is not None:
            # Refused before its service had to do with it.
            members += f',"service":{self._texts[exchange.route.service.name]}'
        if exchange.kind != "http":
            members += f',"kind":{self._texts[exchange.kind]}'
        if exchange.error_code:
            members += f',"error":{self._texts[exchange.error_code]}'
        if exchange.error_detail:
            members += f',"detail":{json.dumps(exchange.error_detail[:_MAX_DETAIL])}'
        if exchange.attempts > 1:
            members += f',"attempts":{exchange.attempts}'
        return members

    def _turn(self, finished: float) -> None:
        """The time of day has changed, by a millisecond at least."""
        self._until = finished + 0.001
        second, fraction = divmod(int(self._clock() * 1000), 1000)
        if second != self._second:
            self._second = second
            self._day = _day(second)
        self._time = f"{self._day}.{fraction:03d}Z"


class CombinedLines:
    """Apache's combined log format; times in UTC."""

    __slots__ = ("_clock", "_second", "_time")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = -1
        self._time = ""

    def line(self, exchange: ExchangeView, outcome: str) -> str:
        """``exchange`` as a line, with its end."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._time = apache_time(second)
        named = exchange.named
        agent = named.get(b"user-agent", b"-")[:_MAX_AGENT]
        referer = named.get(b"referer", b"-").partition(b"?")[0][:_MAX_AGENT]
        identity = exchange.identity
        user = user_name(identity.subject if identity is not None else "")
        return (
            f"{hexed(exchange.client_ip.encode()) or '-'} - {user} "
            f'[{self._time}] "{exchange.method.decode("latin-1") or "-"} '
            f'{hexed(exchange.path) or "-"} HTTP/{"1.0" if exchange.version == 10 else "1.1"}" '
            f'{exchange.status} {exchange.bytes_out} "{hexed(referer)}" "{hexed(agent)}"\n'
        )


def outcome_text(
    method: bytes, status: int, label: str, service: NamedView | None, chosen: ChosenView | None
) -> str:
    """What a JSON line tells of how a request came out: members of an object, without braces."""
    members = {"method": method.decode("latin-1"), "status": status, "route": label}
    if service is not None:
        members["service"] = service.name
    if chosen is not None:
        members["instance"] = chosen.label
    return json.dumps(members, separators=(",", ":"))[1:-1]


def _subject_member(subject: str) -> str:
    return f',"subject":{json.dumps(subject)}'


def _quoted_bytes(value: bytes) -> str:
    # Latin-1 has a character for every byte: a line tells exactly what was sent.
    return json.dumps(value.decode("latin-1"))


def iso_time(wall: float) -> str:
    """A time of day (seconds since the epoch) as JSON lines tell it: ISO 8601, milliseconds."""
    second, fraction = divmod(int(wall * 1000), 1000)
    return f"{_day(second)}.{fraction:03d}Z"


def _day(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))


def apache_time(second: int) -> str:
    """A time of day (seconds since the epoch) as Apache writes it."""
    at = gmtime(second)
    # strftime's month names would follow the locale.
    return strftime(f"%d/{_MONTHS[at.tm_mon - 1]}/%Y:%H:%M:%S +0000", at)


def user_name(subject: str) -> str:
    """The subject of a token as the user of a combined line, ``-`` for none."""
    return hexed(subject.encode(errors="backslashreplace")).replace(" ", "%20") or "-"


def hexed(value: bytes) -> str:
    """``value`` as Apache writes it: ``\\xhh`` for what would break or disguise a line."""
    if not value.translate(None, _PLAIN):
        return value.decode("ascii")
    return "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in value)
