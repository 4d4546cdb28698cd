"""The pages and the schema that are made from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Config, json_schema, load, reference_markdown

DOCS = Path(__file__).parents[2] / "docs"


def sections(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The top level, and every model below."""
    yield schema
    for model in schema["$defs"].values():
        yield model["anyOf"][0] if "anyOf" in model else model


class Example(SynchronousTestCase):
    """``docs/gateway.example.yaml``."""

    def test_loads(self) -> None:
        """The example is accepted as it is."""
        config = load(DOCS / "gateway.example.yaml", env={})
        self.assertEqual(list(config.services), ["billing", "search", "users"])
        self.assertEqual(config.routes[0].name, "profiles")
        self.assertEqual(config.listeners, Config().listeners)

    def test_complete(self) -> None:
        """Every section is in it, and every key, if only in a comment."""
        text = (DOCS / "gateway.example.yaml").read_text()
        for model in sections(json_schema()):
            for key in model["properties"]:
                self.assertRegex(text, rf"\b{key}:", f"{key} is missing")

    def test_defaults(self) -> None:
        """What the example says about defaults is true: these sections are as if left out."""
        config = load(DOCS / "gateway.example.yaml", env={})
        for name in ("auth", "limits", "timeouts", "connections", "access_log", "admin"):
            self.assertEqual(getattr(config, name), getattr(Config(), name), name)
        for name in ("pressure", "shutdown", "tracing", "environment", "log_level"):
            self.assertEqual(getattr(config, name), getattr(Config(), name), name)
        self.assertEqual(config.services["users"].pool, config.services["billing"].pool)


class Reference(SynchronousTestCase):
    """``docs/configuration.md``."""

    def test_up_to_date(self) -> None:
        """The page is what the models say: write ``reference_markdown()`` to it after a change."""
        committed = (DOCS / "configuration.md").read_text()
        self.assertEqual(committed, reference_markdown())

    def test_tables(self) -> None:
        """Every key has a row of four cells with a description."""
        page = reference_markdown()
        keys = page.partition("## Environment variables")[0]
        rows = re.findall(r"^\| `.*$", keys, re.MULTILINE)
        properties = [key for model in sections(json_schema()) for key in model["properties"]]
        self.assertEqual(len(rows), len(properties))
        for row in rows:
            cells = [cell.strip() for cell in row.strip("| ").split(" | ")]
            self.assertEqual(len(cells), 4, row)
            self.assertTrue(cells[3].endswith((".", "?")), row)
        self.assertIn("| `connect` | `5s` | a duration, more than 0 |", page)
        self.assertIn("| `body` | `10MiB` | a size |", page)


class Schema(SynchronousTestCase):
    """The JSON Schema for editors."""

    def test_closed(self) -> None:
        """No section takes unknown keys; every key is described."""
        for model in sections(json_schema()):
            self.assertFalse(model["additionalProperties"])
            for key, field in model["properties"].items():
                # A section described by the same words as its model has a reference only.
                self.assertTrue(field.get("description") or "$ref" in field, key)

    def test_is_json(self) -> None:
        """It can be written to a file, and every reference in it leads somewhere."""
        schema = json_schema()
        for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)):
            self.assertIn(name, schema["$defs"])
        self.assertEqual(schema["$schema"], "https://json-schema.org/draft/2020-12/schema")

    def test_shorthands(self) -> None:
        """Editors accept a bare URL, a bare address, text with ``${``, and units."""
        models = json_schema()["$defs"]
        self.assertIn("string", [kind.get("type") for kind in models["Instance"]["anyOf"]])
        self.assertIn("array", [kind.get("type") for kind in models["Service"]["anyOf"]])
        self.assertIn("integer", models["Listener"]["anyOf"][1]["type"])
        per_ip = models["Connections"]["properties"]["per_ip"]
        self.assertEqual(per_ip["type"], ["integer", "string"])
        self.assertRegex("${PER_IP}", per_ip["pattern"])
        connect = models["Timeouts"]["properties"]["connect"]
        for text in ("250ms", "1.5h", "5", "${CONNECT}"):
            self.assertRegex(text, connect["pattern"])
        body = models["Limits"]["properties"]["body"]
        for text in ("64KiB", "64kB", "10 MiB", "512"):
            self.assertRegex(text, body["pattern"])
