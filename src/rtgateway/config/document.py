"""A configuration document: its data, and where each value came from.

Made by `yaml_document`, `toml_document` and `environment`; read by `explain`, which turns what the
models refuse into problems with their places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rtgateway.config.problems import Problem, key_path

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "Document", "Loc"]

Loc = tuple[str | int, ...]
"""Where a value is: keys of mappings and indexes of lists, from the outside in."""

MAX_BYTES = 1 << 20
"""Largest document. Thousands of routes fit; a wrong file (a log, a disk) does not."""
MAX_DEPTH = 32
"""Deepest nesting; the models need eight levels."""
MAX_VALUES = 100_000
"""Most values, aliases followed: ten lines of YAML can name a billion of them."""


@dataclass(slots=True)
class Document:
    """Data with places. ``spell`` writes a place as the reader of the problem knows it."""

    name: str
    data: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    substituted: dict[Loc, str] = field(default_factory=dict)
    missing: set[Loc] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    spell: Callable[[Loc], str] = key_path

    def written(self, loc: Loc) -> Loc:
        """``loc`` as far as the document has it.

        The models know places that a shorthand leaves out: ``users: [a, b]`` is
        ``users.instances[0]`` to them, and ``users[0]`` here.
        """
        value: Any = self.data
        steps: list[str | int] = []
        for part in loc:
            is_list = isinstance(value, list | tuple)
            if is_list and isinstance(part, str):
                continue
            if not (isinstance(value, Mapping) and part in value) and not (
                is_list and isinstance(part, int) and part < len(value)
            ):
                break
            value = value[part]
            steps.append(part)
        return tuple(steps)

    def value(self, loc: Loc, default: object) -> object:
        """What the document says at ``loc``, or ``default`` where it doesn't have it."""
        value: Any = self.data
        if self.written(loc) != loc:
            return default
        for part in loc:
            value = value[part]
        return value

    def line(self, loc: Loc) -> int | None:
        """The line of ``loc``, or of the nearest thing around it that has one."""
        loc = self.written(loc)
        return next((self.lines[at] for at in _outwards(loc) if at in self.lines), None)

    def source_text(self, loc: Loc) -> str | None:
        """The text with ``${NAME}`` that the value at ``loc`` came from."""
        loc = self.written(loc)
        return next((self.substituted[at] for at in _outwards(loc) if at in self.substituted), None)

    def is_missing(self, loc: Loc) -> bool:
        """Whether ``loc`` is, or is part of, a value that is not to be judged any further."""
        return any(at in self.missing for at in _outwards(self.written(loc)))

    def report(
        self, loc: Loc, message: str, *, line: int | None = None, found: str = "", allowed: str = ""
    ) -> None:
        """Add a problem at ``loc``, on ``line`` when it is not the line of ``loc``."""
        where = self.line(loc) if line is None else line
        self.problems.append(Problem(self.name, where, self.spell(loc), message, found, allowed))


def _outwards(loc: Loc) -> Iterator[Loc]:
    return (loc[:length] for length in range(len(loc), -1, -1))
