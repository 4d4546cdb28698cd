"""Test cases that say what is wrong with a configuration."""

from __future__ import annotations

import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Config, ConfigError, Problem, from_dict, parse

__all__ = ["ConfigTestCase", "TextTestCase"]


class ConfigTestCase(SynchronousTestCase):
    """Says what is wrong with a mapping."""

    def temporary_file(self) -> Path:
        """A path to write to, gone after the test."""
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return Path(directory.name, "file")

    def problems(self, mapping: dict[str, Any]) -> list[str]:
        """The problems' texts, without the name of the document."""
        with self.assertRaises(ConfigError) as caught:
            from_dict(mapping)
        return [str(problem).removeprefix("<dict>: ") for problem in caught.exception.problems]

    def assert_problem(self, mapping: dict[str, Any], *expected: str) -> None:
        """``mapping`` has exactly the ``expected`` problems."""
        self.assertEqual(self.problems(mapping), list(expected))


class TextTestCase(SynchronousTestCase):
    """Parses indented text."""

    format = "yaml"

    def parse(self, text: str, **env: str) -> Config:
        """The configuration in ``text``, with ``env`` as the environment."""
        kind = "toml" if self.format == "toml" else "yaml"
        body = textwrap.dedent(text).lstrip("\n")
        return parse(body, name="gateway", format=kind, env=env)  # type: ignore[arg-type]

    def problems(self, text: str, **env: str) -> tuple[Problem, ...]:
        """What is wrong with ``text``."""
        with self.assertRaises(ConfigError) as caught:
            self.parse(text, **env)
        error: ConfigError = caught.exception
        self.assertEqual(str(error), "\n".join(str(problem) for problem in error.problems))
        return error.problems

    def assert_problems(self, text: str, *expected: str, **env: str) -> None:
        """``text`` has exactly the ``expected`` problems, in the order of lines."""
        self.assertEqual([str(problem) for problem in self.problems(text, **env)], list(expected))
