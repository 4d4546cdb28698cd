"""Secrets in the configuration, or in files that it names: long enough, and never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from rtgateway.config.section import refused

__all__ = ["long_enough", "long_enough_inside", "read_secret", "secret_words"]

_MAX_SECRET_FILE = 64 * 1024


def secret_words(length: int) -> str:
    """What is allowed where a secret has at least ``length`` characters."""
    return f"a secret of at least {length} characters" if length > 1 else "a secret, not empty"


def long_enough(length: int) -> Callable[[SecretStr], SecretStr]:
    """Validator of secrets with at least ``length`` characters."""

    def validate(value: SecretStr) -> SecretStr:
        _check_length(value.get_secret_value(), length)
        return value

    return validate


def long_enough_inside(length: int) -> Callable[[Path], Path]:
    """Validator of files that hold a secret with at least ``length`` characters."""

    def validate(path: Path) -> Path:
        try:
            secret = read_secret(path)
        except (OSError, UnicodeDecodeError):
            message = f"{path} does not hold text"
            raise refused(message=message, allowed=secret_words(length)) from None
        _check_length(secret, length)
        return path

    return validate


def read_secret(path: Path) -> str:
    """The secret in a file; a line break at its end comes from the editor, not from the writer."""
    with path.open("rb") as file:
        return file.read(_MAX_SECRET_FILE).decode().rstrip("\r\n")


def _check_length(secret: str, length: int) -> None:
    if len(secret) < length:
        found = f"a secret of {len(secret)} characters"
        raise refused(found=found, allowed=secret_words(length))
