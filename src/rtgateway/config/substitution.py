"""``${NAME}`` and ``${NAME:-default}`` in text values; ``$${`` is a ``${`` that stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rtgateway.config.document import Document, Loc
from rtgateway.config.problems import show

__all__ = ["substitute"]

_PLACE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?", re.ASCII)
_WORDS = '"${NAME}", "${NAME:-default}", or "$${" for the characters themselves'


def substitute(document: Document, env: Mapping[str, str]) -> None:
    """Replace what text values of ``document`` take from ``env``; keys are left alone.

    As in a shell, the default also stands in for a variable that is empty. A variable that is not
    set and has no default is reported, and its value is left as it was, marked as missing.
    """
    document.data = _replaced(document, env, document.data, ())


def _replaced(document: Document, env: Mapping[str, str], value: Any, loc: Loc) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(document, env, item, (*loc, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(document, env, item, (*loc, index)) for index, item in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        return _replaced_text(document, env, value, loc)
    return value


def _replaced_text(document: Document, env: Mapping[str, str], text: str, loc: Loc) -> str:
    parts: list[str] = []
    end = 0
    for match in _PLACE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        name, default = match.groups()
        if match[0] == "$${":
            parts.append("${")
            continue
        if name is None:
            # What follows may be part of a secret: only the fact is told.
            document.report(loc, "", found='a "${" without a name and a "}"', allowed=_WORDS)
            document.missing.add(loc)
            return text
        document.substituted[loc] = text
        given = env.get(name)
        if given is None and default is None:
            message = f"the environment variable {name} is not set, and has no default"
            document.report(loc, message, allowed=f"{show('${' + name + ':-default}')}")
            document.missing.add(loc)
            continue
        parts.append(given or (default if default is not None else given) or "")
    return text if loc in document.missing else "".join(parts) + text[end:]
