"""The pages and the schema that are made from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import (
    Adaptive,
    Config,
    DnsDiscovery,
    HealthCheck,
    environment,
    json_schema,
    load,
    reference_markdown,
)

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
        self.assertEqual(list(config.services), ["billing", "search", "users", "sessions"])
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
        for name in ("pressure", "shutdown", "tracing", "environment", "log_level", "websocket"):
            self.assertEqual(getattr(config, name), getattr(Config(), name), name)
        for name in ("penalties", "ip_lists"):
            self.assertEqual(getattr(config, name), getattr(Config(), name), name)
        self.assertEqual(config.state.label, "memory")
        shown = config.state.model_copy(update={"url": None})
        self.assertEqual(repr(shown), repr(Config().state))
        limiters = config.rate_limits
        self.assertEqual(list(limiters), ["per-address", "searches", "exports", "everything"])
        self.assertEqual(limiters["everything"].adaptive, Adaptive())
        users, billing = config.services["users"], config.services["billing"]
        for name in ("pool", "balance", "retry", "circuit_breaker", "outliers", "concurrency"):
            self.assertEqual(getattr(users, name), getattr(billing, name), name)
        self.assertEqual(users.health, HealthCheck())
        discovery = config.services["sessions"].discovery
        assert discovery is not None
        self.assertEqual(discovery.dns, DnsDiscovery(name="sessions.internal", port=3000))
        self.assertEqual(config.proxy_headers, Config().proxy_headers)


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
        self.assertIn("| `bound` | `1.25` | 0, or a number from 1 to 100 |", page)
        self.assertIn("| `factor` | `2` | a number from 1 to 100 |", page)
        self.assertIn("| `headers` |  | a mapping of names to text |", page)
        self.assertIn("| `refill_rate` |  | a number, more than 0, at most 1000000 |", page)

    def test_variables(self) -> None:
        """Every variable that is read has a row."""
        page = reference_markdown().partition("## Environment variables")[2]
        source = (Path(environment.__file__)).read_text()
        for name in set(re.findall(r'"([A-Z][A-Z_]{3,})"', source)) - {"CIRCUIT_BREAKER_"}:
            known = (f"| `{name}` |", f"| `CIRCUIT_BREAKER_{name}` |")
            self.assertTrue(any(row in page for row in known), name)

    def test_sections(self) -> None:
        """A section is described once; links to it lead to its heading."""
        page = reference_markdown()
        headings = re.findall(r"^## `(.*)`$", page, re.MULTILINE)
        self.assertEqual(len(headings), len(set(headings)))
        self.assertEqual(len(headings), len(json_schema()["$defs"]))
        anchors = {re.sub(r"[^a-z0-9_-]", "", heading) for heading in headings}
        links = set(re.findall(r"\(#([^)]*)\)", page)) - {"environment-variables"}
        self.assertEqual(links, anchors)
        breaker = "[`services.<name>.circuit_breaker`](#servicesnamecircuit_breaker)"
        self.assertIn(f"| `service_breaker` |  | as {breaker} |", page)
        self.assertIn("| `retry` |  | as [`services.<name>.retry`](#servicesnameretry) |", page)


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

    def test_shorthands_of_resilience(self) -> None:
        """Editors accept switches, names of strategies, paths, and URLs of checks."""
        models = json_schema()["$defs"]
        for name in ("CircuitBreaker", "Outliers", "Budget", "Hedge", "Retry"):
            switch = models[name]["anyOf"][1]["anyOf"][0]
            self.assertEqual(switch, {"enum": ["on", "off", True, False]}, name)
        self.assertEqual(models["CircuitBreaker"]["anyOf"][2], {"const": "shared"})
        self.assertIn("p2c", models["Balance"]["anyOf"][1]["anyOf"][0]["enum"])
        route = models["Route"]["properties"]["websocket"]["anyOf"]
        self.assertEqual(route[0], {"$ref": "#/$defs/WebSocket"})
        self.assertIn(True, route[-1]["anyOf"][0]["enum"])
        for name in ("HealthCheck", "DependencyCheck", "FileDiscovery"):
            self.assertEqual(models[name]["anyOf"][1]["type"], "string", name)

    def test_shorthands_of_limits(self) -> None:
        """Editors accept a URL for the state, a number for a cost, switches, and text for lists."""
        models = json_schema()["$defs"]
        self.assertIn("memory", models["State"]["anyOf"][1]["examples"])
        self.assertEqual(models["Cost"]["anyOf"][1]["type"], ["integer", "string"])
        for name in ("Penalties", "Leases", "RedisTls"):
            switch = models[name]["anyOf"][1]["anyOf"][0]
            self.assertEqual(switch, {"enum": ["on", "off", True, False]}, name)
        tls = models["State"]["anyOf"][0]["properties"]["tls"]["anyOf"]
        self.assertEqual(tls[0], {"$ref": "#/$defs/RedisTls"})
        limiter = models["RateLimit"]["properties"]
        self.assertEqual(limiter["per"]["type"], ["array", "string"])
        self.assertIn("gcra", limiter["algorithm"]["anyOf"][0]["enum"])
        self.assertEqual(limiter["overrides"]["additionalProperties"], {"$ref": "#/$defs/Quota"})

    def test_conditions(self) -> None:
        """Conditions are words and statuses; one will do, and several with commas."""
        properties = json_schema()["$defs"]["Retry"]["anyOf"][0]["properties"]
        condition = properties["on"]
        self.assertEqual(condition["type"], ["array", "string", "integer"])
        text, number = condition["items"]["anyOf"]
        for word in ("connect", "503", "5xx", "${ON}"):
            self.assertRegex(word, text["pattern"])
        self.assertNotRegex("200", text["pattern"])
        self.assertEqual(number["type"][0], "integer")
        window = json_schema()["$defs"]["CircuitBreaker"]["anyOf"][0]["properties"]["window_size"]
        self.assertRegex("30s", window["anyOf"][1]["pattern"])
        factor = properties["factor"]
        self.assertEqual((factor["type"], factor["minimum"]), (["number", "string"], 1))

    def test_bounds(self) -> None:
        """Bounds have the names that JSON Schema knows."""
        share = json_schema()["$defs"]["Mirror"]["properties"]["share"]
        self.assertEqual((share["minimum"], share["maximum"]), (0, 1))
        port = json_schema()["$defs"]["DnsDiscovery"]["properties"]["port"]["anyOf"][0]
        self.assertEqual((port["minimum"], port["maximum"]), (1, 65535))
        self.assertNotRegex(json.dumps(json_schema()), r'"(ge|le|gt)": [0-9]')
