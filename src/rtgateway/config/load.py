"""Files, text and dicts into a `Config`. YAML unless the name ends in ``.toml``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rtgateway.config.document import MAX_BYTES, Document
from rtgateway.config.explain import validated
from rtgateway.config.model import Config
from rtgateway.config.problems import ConfigError, Problem
from rtgateway.config.substitution import substitute
from rtgateway.config.toml_document import read_toml
from rtgateway.config.units import format_size
from rtgateway.config.values import BASE_DIRECTORY
from rtgateway.config.yaml_document import read_yaml

__all__ = ["from_dict", "load", "parse"]

Format = Literal["yaml", "toml"]


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a file. Relative paths inside start from the file's directory.

    :raises ConfigError: when the file can't be read, and for everything wrong inside.
    """
    path = Path(path)
    text = _read(path)
    kind: Format = "toml" if path.suffix.lower() == ".toml" else "yaml"
    return parse(text, name=str(path), format=kind, env=env, base=path.parent)


def parse(
    text: str,
    *,
    name: str = "<string>",
    format: Format = "yaml",
    env: Mapping[str, str] = os.environ,
    base: str | Path = "",
) -> Config:
    """The configuration in ``text``; ``name`` is what problems call it.

    Relative paths inside start from ``base``, or else from the current directory.

    :raises ConfigError: for everything that is wrong with it, all at once.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError([_too_large(name)])
    document = read_toml(text, name) if format == "toml" else read_yaml(text, name)
    if document.data is None and document.problems:
        raise ConfigError(document.problems)
    substitute(document, env)
    return validated(document, {BASE_DIRECTORY: str(base)}, Config)


def from_dict(mapping: Mapping[str, Any]) -> Config:
    """The configuration in a mapping, shaped like a file; without ``${NAME}`` substitution.

    :raises ConfigError: for everything that is wrong with it, all at once.
    """
    return validated(Document("<dict>", mapping), {}, Config)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # One byte more than allowed: a device or a growing file must not be read to its end.
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError([Problem(str(path), None, "", f"can't be read: {reason}")]) from None
    if len(content) > MAX_BYTES:
        raise ConfigError([_too_large(str(path))])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(str(path), line, "", "not UTF-8 text")]) from None


def _too_large(name: str) -> Problem:
    return Problem(name, None, "", "too large", allowed=f"at most {format_size(MAX_BYTES)}")
