"""Lua scripts: files in ``store/scripts``, known to Redis by their SHA-1."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files

__all__ = ["Script", "load"]


class Script:
    """A script. ``name``: for metrics and errors."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text.encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def __repr__(self) -> str:
        return f"<Script {self.name} {self.sha.decode()[:8]}>"


@cache
def load(name: str) -> Script:
    """The script in ``store/scripts/<name>.lua``."""
    return Script(name, files("rtgateway.store").joinpath("scripts", f"{name}.lua").read_text())
