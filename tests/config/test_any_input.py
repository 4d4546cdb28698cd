"""Whatever is written: a configuration, or problems in words. Never anything else."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import (
    Config,
    ConfigError,
    IpLists,
    Penalties,
    RateLimit,
    Route,
    Service,
    State,
    from_dict,
    from_environment,
    json_schema,
    parse,
    yaml_document,
)
from rtgateway.config.variables import VARIABLES

KEYS = sorted(
    {
        key
        for model in json_schema()["$defs"].values()
        for key in (model["anyOf"][0] if "anyOf" in model else model)["properties"]
    }
    | set(Config.model_fields)
)
WORDS = (
    "http://a",
    "/x/{id}",
    ":80",
    "10.0.0.0/8",
    "5s",
    "1KiB",
    "${A}",
    "${A:-b}",
    "x",
    "",
    "off",
    "5xx",
    "p2c",
    "/health",
    "tcp://a:1",
    "redis://:p@a:1/2",
    "memory",
    "gcra",
    "header:x",
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=9),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=5))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(sorted(Config.model_fields)), values, max_size=5)
services = st.dictionaries(st.sampled_from(sorted(Service.model_fields)), values, max_size=4)
routes = st.dictionaries(st.sampled_from(sorted(Route.model_fields)), values, max_size=5)
limiters = st.dictionaries(st.sampled_from(sorted(RateLimit.model_fields)), values, max_size=6)
shared = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(
            values, st.dictionaries(st.sampled_from(sorted(model.model_fields)), values, max_size=5)
        )
        for name, model in (("state", State), ("penalties", Penalties), ("ip_lists", IpLists))
    },
)


class AnyInput(SynchronousTestCase):
    """Random documents."""

    def check(self, error: ConfigError) -> None:
        """Every problem is one line that says where and what."""
        self.assertTrue(error.problems)
        for problem in error.problems:
            self.assertEqual(len(str(problem).splitlines()), 1, repr(problem))
            self.assertTrue(problem.message or (problem.found and problem.allowed), repr(problem))

    @settings(max_examples=100, deadline=None)
    @given(documents)
    def test_mappings(self, mapping: dict[str, Any]) -> None:
        """A mapping gives a configuration, or problems."""
        try:
            self.assertIsInstance(from_dict(mapping), Config)
        except ConfigError as error:
            self.check(error)

    @settings(max_examples=60, deadline=None)
    @given(services, routes, values)
    def test_sections(self, service: Any, route: Any, check: Any) -> None:
        """So does one that is random only where the deep sections are."""
        mapping = {"services": {"s": service}, "routes": [route], "health_checks": {"c": check}}
        try:
            self.assertIsInstance(from_dict(mapping), Config)
        except ConfigError as error:
            self.check(error)

    @settings(max_examples=60, deadline=None)
    @given(st.dictionaries(keys, limiters, max_size=2), shared)
    def test_shared_sections(self, limits: Any, sections: Any) -> None:
        """And one that is random only where limits are, and what gateways share."""
        mapping = {"services": {"s": "http://s"}, "rate_limits": limits, **sections}
        try:
            self.assertIsInstance(from_dict(mapping), Config)
        except ConfigError as error:
            self.check(error)

    @settings(max_examples=60, deadline=None)
    @given(documents)
    def test_same_through_yaml(self, mapping: dict[str, Any]) -> None:
        """A mapping written as JSON, which is YAML, too, gets as many problems, with lines."""
        text = json.dumps(mapping, allow_nan=False) if _finite(mapping) else "{}"
        try:
            self.assertIsInstance(parse(text, env={"A": "a"}), Config)
        except ConfigError as error:
            self.check(error)
            self.assertTrue(all(problem.line == 1 for problem in error.problems), str(error))

    @settings(max_examples=100, deadline=None)
    @given(st.text(alphabet="ab01 \n\t:-[]{}&*!|>'\"#%,.$=<?\\\x00é", max_size=40))
    def test_text(self, text: str) -> None:
        """Random text is read as YAML, by either parser, and as TOML, or refused in words.

        The parsers need not agree: libyaml takes a tab behind an anchor, PyYAML's own does not.
        """
        for loader in (yaml_document._LOADER, yaml.SafeLoader):
            with mock.patch.object(yaml_document, "_LOADER", loader):
                self.assertIn(self.outcome(text, "yaml"), (True, False))
        self.assertIn(self.outcome(text, "toml"), (True, False))

    @settings(max_examples=100, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([variable.name for variable in VARIABLES]),
            st.one_of(st.sampled_from(WORDS), st.integers().map(str), st.text(max_size=9)),
        )
    )
    def test_environment(self, env: dict[str, str]) -> None:
        """Whatever the variables hold."""
        try:
            self.assertIsInstance(from_environment(env), Config)
        except ConfigError as error:
            self.check(error)

    def outcome(self, text: str, format: Any) -> bool:
        """Whether ``text`` can be read."""
        try:
            parse(text, format=format, env={})
        except ConfigError as error:
            self.check(error)
            return False
        return True

    @settings(max_examples=50, deadline=None)
    @given(st.one_of(values.map(lambda value: json.dumps(value)), st.text(max_size=20)))
    def test_upstreams(self, text: str) -> None:
        """Whatever UPSTREAMS holds."""
        try:
            self.assertIsInstance(from_environment({"UPSTREAMS": text}), Config)
        except ConfigError as error:
            self.check(error)


def _finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
