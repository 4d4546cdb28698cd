"""The models as the Markdown reference in ``docs/``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc

from pydantic.fields import FieldInfo

from rtgateway.config.model import Config
from rtgateway.config.section import Allowed, Section
from rtgateway.config.units import format_duration, format_size
from rtgateway.config.variables import VARIABLES
from rtgateway.config.wording import Kind

__all__ = ["reference_markdown"]

_INTRODUCTION = """\
# Configuration

<!-- Written by rtgateway.config.reference_markdown(). Change the models instead. -->

One file, YAML or (when its name ends in `.toml`) TOML. `rtgateway check FILE` lists everything that
is wrong with it; `rtgateway schema` prints a JSON Schema for editors. A commented example is in
[gateway.example.yaml](gateway.example.yaml). Without a file, the gateway is configured by
[environment variables](#environment-variables).

* **Durations**: `250ms`, `30s`, `5m`, `1h`; a bare number is seconds.
* **Sizes**: `512`, `64KiB`, `10MiB`, `1GiB` (or `64kB`: 64,000); a bare number is bytes.
* **Environment**: text values may hold `${NAME}`, or `${NAME:-default}` for when the variable is
  not set or empty. A variable without default must be set. `$${` stands for the characters `${`.
  In YAML, put quotes around such a value inside `[...]` or `{...}`.
* **Paths** start from the directory of the file.
* **YAML**: true and false are the only booleans (`off` is a word), a key may not be there twice;
  anchors, aliases and `<<` work.
* A key without a value means its default. Unknown keys are refused.
* Files are at most 1 MiB.
"""

_ENVIRONMENT = """\
## Environment variables

Read when no file is given: the variables of the Real-Time API Gateway, and those of the Resilient
API Gateway for limits, circuits and Redis. Request bodies are limited to 1 MiB there, as the former
does. Its variables for caching have no effect. A variable that is empty counts as not set.

| variable | default | meaning |
|---|---|---|
"""


def reference_markdown() -> str:
    """The reference page: a table of keys for every section, in the order of the models."""
    page = _Page()
    parts = [_INTRODUCTION, *page.sections("", Config), _ENVIRONMENT]
    rows = (f"| `{name}` | {default} | {meaning} |\n" for name, default, meaning in VARIABLES)
    return "\n".join(parts) + "".join(rows)


class _Page:
    """The sections of the page. A model that is used in several places is described once."""

    def __init__(self) -> None:
        self._described: dict[type[Section], str] = {}

    def sections(self, path: str, section: type[Section]) -> Iterator[str]:
        """The section at ``path``, and those below it."""
        below = dict(_below(path, section))
        for place, inner in below.values():
            self._described.setdefault(inner, place)
        title = f"`{path}`" if path else "Top level"
        rows = (
            _row(name, field, self._link(path, *below[name]) if name in below else "")
            for name, field in section.model_fields.items()
        )
        table = "| key | default | allowed | meaning |\n|---|---|---|---|\n" + "".join(rows)
        yield f"## {title}\n\n{cleandoc(section.__doc__ or '')}\n\n{table}"
        for place, inner in below.values():
            if self._described[inner] == place:
                yield from self.sections(place, inner)

    def _link(self, path: str, place: str, section: type[Section]) -> str:
        described = self._described[section]
        # The anchors of headings as GitHub makes them.
        anchor = re.sub(r"[^a-z0-9_-]", "", described)
        return f"[see below](#{anchor})" if described == place else f"as [`{described}`](#{anchor})"


def _below(path: str, section: type[Section]) -> Iterator[tuple[str, tuple[str, type[Section]]]]:
    """Keys that hold sections, or lists or mappings of them: with their places, and models."""
    for name, field in section.model_fields.items():
        kind = Kind.of_field(field)
        suffix = ""
        while kind.item is not None:
            suffix += ".<name>" if "dict" in str(kind.type) else "[]"
            kind = kind.item
        if kind.section is not None:
            yield name, (f"{path}.{name}{suffix}".removeprefix("."), kind.section)


def _row(name: str, field: FieldInfo, link: str) -> str:
    kind = Kind.of_field(field)
    cells = (f"`{name}`", _default(field, kind), link or kind.brief, field.description or "")
    return f"| {' | '.join(cells)} |\n"


def _default(field: FieldInfo, kind: Kind) -> str:
    if field.is_required():
        return "required"
    value = field.default
    unit = next((note.unit for note in kind.metadata if isinstance(note, Allowed)), "")
    if value in (None, "", (), {}) or isinstance(value, Section):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if unit == "duration":
        return f"`{format_duration(value)}`"
    if unit == "size":
        return f"`{format_size(value)}`"
    if isinstance(value, tuple):
        items = (getattr(item, "label", item) for item in value)
        return ", ".join(f"`{item}`" for item in items)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
