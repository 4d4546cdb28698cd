"""Header lines, taken apart once.

Clients and instances say the same lines again and again. A `LineTable` remembers what a line
means and how it is passed on, so that a head costs a dictionary look-up for each of its lines. It
may only be asked about lines that llhttp has accepted: a token, a colon, a value without CR, LF
and NUL.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from rtgateway.core.headers import connection_options

__all__ = ["Field", "Line", "LineTable", "end_to_end", "line_field", "named_fields", "passed_on"]

Field = tuple[bytes, bytes, bytes]
"""Lower-cased name, name, value."""

Line = tuple[Field, bytes, tuple[bytes, bytes] | None]
"""A field; the line as it is passed on, empty if it is not; name and value if it is to be known
by its name."""

line_field = itemgetter(0)
_line_passed_on = itemgetter(1)
_line_named = itemgetter(2)

_MAX_LINES = 4096
_MAX_LENGTH = 192
"""Bytes of the longest line that is remembered: at most 2 MiB or so in all."""


class LineTable(dict[bytes, Line]):
    """See the module.

    :param dropped: lower-cased names of fields that are never passed on as they are.
    :param named: those that steer the gateway.
    :param unkept: those that may hold a secret; they are taken apart each time.
    """

    __slots__ = ("_dropped", "_named", "_unkept")

    def __init__(
        self, *, dropped: frozenset[bytes], named: frozenset[bytes], unkept: frozenset[bytes]
    ) -> None:
        super().__init__()
        self._dropped = dropped
        self._named = named
        self._unkept = unkept

    def __missing__(self, line: bytes) -> Line:
        name, _, value = line.partition(b":")
        key = name.lower()
        value = value.strip(b" \t")
        passed_on = b"" if key in self._dropped else b"%b: %b\r\n" % (name, value)
        named = (key, value) if key in self._named else None
        known = ((key, name, value), passed_on, named)
        if len(line) <= _MAX_LENGTH and key not in self._unkept:
            if len(self) >= _MAX_LINES:
                self.clear()
            self[line] = known
        return known

    def __repr__(self) -> str:
        return f"<LineTable {len(self)} lines>"


def named_fields(lines: Iterable[Line]) -> dict[bytes, bytes]:
    """The values of the fields that are known by their names.

    One that stands twice is joined by a comma (RFC 9110, 5.3), which is what none of those may
    hold that must not stand twice.
    """
    pairs = [pair for pair in map(_line_named, lines) if pair]
    named = dict(pairs)
    if len(named) != len(pairs):
        for name in named:
            named[name] = b", ".join(value for key, value in pairs if key == name)
    return named


_PLAIN_CONNECTION = frozenset([None, b"keep-alive", b"close", b"Keep-Alive", b"Close"])
"""Connection values that name no field."""


def passed_on(lines: list[Line], connection: bytes | None) -> bytes:
    """The lines that go on, without those that belong to this hop (RFC 9110, 7.6.1)."""
    if connection in _PLAIN_CONNECTION:
        return b"".join(map(_line_passed_on, lines))
    listed = connection_options([connection or b""])
    return b"".join(line[1] for line in lines if line[0][0] not in listed)


def end_to_end(
    trailers: list[tuple[bytes, bytes]], connection: bytes | None
) -> list[tuple[bytes, bytes]]:
    """``trailers`` without those that belong to this hop (RFC 9110, 7.6.1)."""
    if not trailers or connection in _PLAIN_CONNECTION:
        return trailers
    listed = connection_options([connection or b""])
    return [field for field in trailers if field[0].lower() not in listed]
