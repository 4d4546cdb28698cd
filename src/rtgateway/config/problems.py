"""What is wrong with a configuration, said so that it can be fixed: where, what, what instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["ConfigError", "Problem", "key_path", "show"]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_~-]+", re.ASCII)
_USERINFO = re.compile(r"//[^/?#\s]*@")
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to fix.

    :ivar file: the file's name as it was given, or what stands in its place.
    :ivar line: counted from 1; None where there are no lines (a dict, the environment).
    :ivar key: such as ``services.users.instances[0].url``; empty for the document as a whole.
    :ivar message: a sentence that stands alone, or empty when ``found`` and ``allowed`` say all.
    :ivar found: what is there, never a secret; empty when the message says it.
    :ivar allowed: what may be there, in words; empty when the message says it.
    """

    file: str
    line: int | None
    key: str
    message: str
    found: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        found = f"found {self.found}" if self.found else ""
        allowed = f"allowed: {self.allowed}" if self.allowed else ""
        what = "; ".join(part for part in (self.message, found, allowed) if part)
        return ": ".join(part for part in (where, self.key, what) if part)


class ConfigError(Exception):
    """A configuration that can't be used, with everything that is wrong with it.

    :ivar problems: at least one; sorted by line.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0)
        self.problems: tuple[Problem, ...] = tuple(ordered)
        super().__init__("\n".join(map(str, self.problems)))


def key_path(loc: Sequence[str | int]) -> str:
    """``("a", "b.c", 0)`` as ``a."b.c"[0]``."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            name = part if _PLAIN_KEY.fullmatch(part) else show(part)
            path += f".{name}" if path else name
    return path


def show(value: object) -> str:
    """``value`` for a message: short, on one line, without passwords in URLs."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_one_line(_USERINFO.sub("//***@", value))}"'
    if isinstance(value, int | float):
        return str(value) if abs(value) < 1e18 else "a huge number"
    if isinstance(value, Sequence):
        return "a list" if value else "an empty list"
    return "a mapping" if hasattr(value, "keys") else f"a {type(value).__name__}"


def _one_line(text: str) -> str:
    cut = text[:_LONGEST]
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in cut)
    return line if len(text) <= _LONGEST else f"{line}..."
