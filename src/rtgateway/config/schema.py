"""The models as a JSON Schema, for editors that complete and check configuration files."""

from __future__ import annotations

from typing import Any

from rtgateway.config.model import Config
from rtgateway.config.section import Switchable

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a configuration file, ``${NAME}`` allowed for in values."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rtgateway configuration",
    }
    body = Config.model_json_schema()
    _name_bounds(body)
    _allow_substitution(body)
    _allow_shorthands(body["$defs"])
    return {**body, **schema}


def _allow_shorthands(models: dict[str, Any]) -> None:
    """What `Section.spelled_out` of these models takes in place of a mapping."""
    url = {"type": "string", "examples": ["http://localhost:3001"]}
    instances = {"type": "array", "items": {"$ref": "#/$defs/Instance"}}
    address = {"type": ["string", "integer"], "examples": [":8080"]}
    path = {"type": "string", "examples": ["/health"]}
    check = {"type": "string", "examples": ["http://localhost:9200/", "tcp://localhost:6379"]}
    file = {"type": "string", "examples": ["instances.yaml"]}
    state = {"type": "string", "examples": ["redis://localhost:6379/0", "memory"]}
    cost = {"type": ["integer", "string"], "pattern": r"^[0-9]+$|\$\{"}
    strategies = models["Balance"]["properties"]["strategy"]["anyOf"]
    switch = {"anyOf": [{"enum": ["on", "off", True, False]}, _SUBSTITUTED_TEXT]}
    others: dict[str, list[dict[str, Any]]] = {
        "Instance": [url],
        "Service": [url, instances],
        "Listener": [address],
        "Balance": [{"anyOf": strategies}],
        "Retry": [switch],
        "HealthCheck": [path, {"const": True}],
        "DependencyCheck": [check],
        "FileDiscovery": [file],
        "State": [state],
        "Cost": [cost],
    }
    others |= {model.__name__: [switch] for model in Switchable.__subclasses__()}
    others["CircuitBreaker"].append({"const": "shared"})
    for name, shorthands in others.items():
        models[name] = {"anyOf": [models[name], *shorthands]}
    models["Route"]["properties"]["websocket"]["anyOf"].append(switch)
    service = models["Service"]["anyOf"][0]["properties"]
    description = service["instances"]["description"]
    service["instances"] = {"anyOf": [service["instances"], url], "description": description}


_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum"}


def _name_bounds(schema: Any) -> None:
    """Call bounds behind a validator what JSON Schema calls them; pydantic leaves them as is."""
    if isinstance(schema, list):
        for item in schema:
            _name_bounds(item)
    elif isinstance(schema, dict):
        for item in list(schema.values()):
            _name_bounds(item)
        for name, standard in _BOUNDS.items():
            if isinstance(bound := schema.get(name), int | float):
                schema.setdefault(standard, bound)
                del schema[name]


_SUBSTITUTED = r"\$\{"
_SUBSTITUTED_TEXT = {"type": "string", "pattern": _SUBSTITUTED}


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
    if schema.get("type") in ("integer", "number", "boolean"):
        schema["type"] = [schema["type"], "string"]
        schema["pattern"] = _SUBSTITUTED
    elif isinstance(choices := schema.pop("enum", None), list):
        schema["anyOf"] = [{"enum": choices}, dict(_SUBSTITUTED_TEXT)]
        schema.pop("type", None)
    elif schema.get("type") == "array" and (words := _word_types(schema["items"])):
        schema["type"] = ["array", *words]


def _word_types(items: dict[str, Any]) -> list[str]:
    """Types of the items of a list that may also be given as one text, or one number."""
    types: list[str] = []
    for kind in items.get("anyOf", [items]):
        given = kind.get("type", ())
        types += [given] if isinstance(given, str) else given
    return list(dict.fromkeys(types)) if "string" in types else []
