"""The models as a JSON Schema for editors and as the Markdown reference in ``docs/``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from rtgateway.config.environment import VARIABLES
from rtgateway.config.model import Config
from rtgateway.config.section import Allowed, Section
from rtgateway.config.units import format_duration, format_size
from rtgateway.config.wording import Kind

__all__ = ["json_schema", "reference_markdown"]

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

Read when no file is given: the variables of the Real-Time API Gateway. Request bodies are limited
to 1 MiB there, as it does. Its variables for rate limits, caching and WebSocket have no effect.

| variable | default | meaning |
|---|---|---|
"""


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a configuration file, ``${NAME}`` allowed for in values."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rtgateway configuration",
    }
    body = Config.model_json_schema()
    _allow_substitution(body)
    _allow_shorthands(body["$defs"])
    return {**body, **schema}


def _allow_shorthands(models: dict[str, Any]) -> None:
    """What `Section.spelled_out` of these models takes in place of a mapping."""
    url = {"type": "string", "examples": ["http://localhost:3001"]}
    instances = {"type": "array", "items": {"$ref": "#/$defs/Instance"}}
    address = {"type": ["string", "integer"], "examples": [":8080"]}
    for name, others in (
        ("Instance", [url]),
        ("Service", [url, instances]),
        ("Listener", [address]),
    ):
        models[name] = {"anyOf": [models[name], *others]}
    service = models["Service"]["anyOf"][0]["properties"]
    description = service["instances"]["description"]
    service["instances"] = {"anyOf": [service["instances"], url], "description": description}


_SUBSTITUTED = r"\$\{"


def _allow_substitution(schema: Any) -> None:
    """Let numbers, booleans and choices also be text with ``${``, and lists of words text."""
    if isinstance(schema, list):
        for item in schema:
            _allow_substitution(item)
        return
    if not isinstance(schema, dict):
        return
    for item in list(schema.values()):
        _allow_substitution(item)
    if schema.get("type") in ("integer", "boolean"):
        schema["type"] = [schema["type"], "string"]
        schema["pattern"] = _SUBSTITUTED
    elif isinstance(choices := schema.pop("enum", None), list):
        schema["anyOf"] = [{"enum": choices}, {"type": "string", "pattern": _SUBSTITUTED}]
        schema.pop("type", None)
    elif schema.get("type") == "array" and schema["items"].get("type") == "string":
        schema["type"] = ["array", "string"]


def reference_markdown() -> str:
    """The reference page: a table of keys for every section, in the order of the models."""
    parts = [_INTRODUCTION, *_sections("", Kind(Config)), _ENVIRONMENT]
    rows = (f"| `{name}` | {default} | {meaning} |\n" for name, default, meaning in VARIABLES)
    return "\n".join(parts) + "".join(rows)


def _sections(path: str, kind: Kind) -> Iterator[str]:
    section = kind.section
    assert section is not None
    title = f"`{path}`" if path else "Top level"
    yield f"## {title}\n\n{_doc(section)}\n\n{_table(section)}"
    for name, field in section.model_fields.items():
        below = Kind.of_field(field)
        suffix = ""
        while below.item is not None:
            suffix += ".<name>" if "dict" in str(below.type) else "[]"
            below = below.item
        if below.section is not None:
            yield from _sections(f"{path}.{name}{suffix}".removeprefix("."), below)


def _doc(section: type[Section]) -> str:
    return (section.__doc__ or "").strip()


def _table(section: type[Section]) -> str:
    rows = "".join(_row(name, field) for name, field in section.model_fields.items())
    return f"| key | default | allowed | meaning |\n|---|---|---|---|\n{rows}"


def _row(name: str, field: FieldInfo) -> str:
    kind = Kind.of_field(field)
    words = "see below" if kind.section or (kind.item and kind.item.section) else kind.brief
    meaning = field.description or ""
    return f"| `{name}` | {_default(field, kind)} | {words} | {meaning} |\n"


def _default(field: FieldInfo, kind: Kind) -> str:
    if field.is_required():
        return "required"
    value = field.default
    unit = next((note.unit for note in kind.metadata if isinstance(note, Allowed)), "")
    if value is None or value == () or value == {} or isinstance(value, Section):
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
    return f"`{value}`"
