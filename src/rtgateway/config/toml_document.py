"""TOML into a `Document`: values by tomllib, lines by a scanner of our own.

tomllib says nothing about where a value was. The scanner runs only over text that tomllib has
accepted, so that it may take the grammar for granted and just follow keys, tables and brackets.
"""

from __future__ import annotations

import re
import tomllib

from rtgateway.config.document import MAX_DEPTH, Document, Loc

__all__ = ["read_toml"]

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
# A multi-line string may end in up to two quotes of its own before the three that close it.
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"""(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''(?!')", re.DOTALL)
_OTHER = re.compile(r"[^,\]}#\n]+")
_VALUES = (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL, _OTHER)


def read_toml(text: str, name: str) -> Document:
    """The document in ``text``; what is wrong with it is in its ``problems``."""
    document = Document(name)
    try:
        document.data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line = _plainer(str(error), text)
        document.report((), message, line=line)
        return document
    except RecursionError:
        document.report((), f"nested more than {MAX_DEPTH} levels deep")
        return document
    except ValueError:
        # int() refuses thousands of digits, and tomllib lets that through.
        document.report((), "not valid TOML: a number with too many digits")
        return document
    if _too_deep(document.data):
        document.report((), f"nested more than {MAX_DEPTH} levels deep")
        document.data = None
        return document
    document.lines[()] = 1
    _Scanner(text.replace("\r\n", "\n"), document.lines).document()
    return document


def _plainer(message: str, text: str) -> tuple[str, int]:
    place = _PLACE.search(message)
    line = int(place[1]) if place and place[1] else text.count("\n") + 1
    message = _PLACE.sub("", message)
    if message.startswith(("Cannot overwrite", "Cannot declare")):
        return "a key or table is there twice", line
    return f"not valid TOML: {message}", line


def _too_deep(root: object) -> bool:
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level = below
    return bool(level)


class _Scanner:
    """Walks through valid TOML and notes the line of every key and item."""

    def __init__(self, text: str, lines: dict[Loc, int]) -> None:
        self.text = text
        self.lines = lines
        self.at = 0
        self.line = 1
        self.tables: dict[Loc, int] = {}

    def document(self) -> None:
        """The whole text: key/value pairs, under the table header above them."""
        table: Loc = ()
        while self._skip():
            if self._here("[["):
                table = self._header(2)
                index = self.tables.get(table, -1) + 1
                self.tables[table] = index
                table = (*table, index)
                self.lines[table] = self.line
            elif self._here("["):
                table = self._header(1)
            else:
                self._pair(table)

    def _header(self, brackets: int) -> Loc:
        self._take(brackets)
        loc: Loc = ()
        for key in self._keys():
            # [a.b] below [[a]] is inside the last item of a.
            if loc in self.tables:
                loc = (*loc, self.tables[loc])
            loc = (*loc, key)
            self.lines.setdefault(loc, self.line)
        self._take(brackets)
        return loc

    def _pair(self, table: Loc) -> None:
        loc = table
        for key in self._keys():
            loc = (*loc, key)
            self.lines.setdefault(loc, self.line)
        self._take(1)
        self._value(loc)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip()
            if self._here('"'):
                keys.append(_unquoted(self._match(_BASIC)))
            elif self._here("'"):
                keys.append(self._match(_LITERAL)[1:-1])
            else:
                keys.append(self._match(_BARE_KEY))
            self._skip()
            if not self._here("."):
                return keys
            self._take(1)

    def _value(self, loc: Loc) -> None:
        self._skip()
        if self._here("["):
            self._take(1)
            index = 0
            while self._skip() and not self._here("]"):
                self.lines[(*loc, index)] = self.line
                self._value((*loc, index))
                index += 1
                self._comma()
            self._take(1)
        elif self._here("{"):
            self._take(1)
            while self._skip() and not self._here("}"):
                self._pair(loc)
                self._comma()
            self._take(1)
        else:
            for pattern in _VALUES:
                if pattern.match(self.text, self.at):
                    self._match(pattern)
                    return

    def _comma(self) -> None:
        self._skip()
        if self._here(","):
            self._take(1)

    def _here(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def _take(self, count: int) -> None:
        self.at += count

    def _skip(self) -> bool:
        """Pass over blanks, line ends and comments; whether anything follows."""
        self._match(_SPACE)
        return self.at < len(self.text)

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        assert match is not None, "tomllib accepted what the scanner can't follow"
        self.at = match.end()
        self.line += match[0].count("\n")
        return match[0]


def _unquoted(text: str) -> str:
    value = tomllib.loads(f"key = {text}")["key"]
    assert isinstance(value, str)
    return value
