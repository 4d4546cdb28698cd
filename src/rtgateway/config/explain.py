"""What the models refuse, in plain words and with its place in the document."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rtgateway.config.document import Document, Loc
from rtgateway.config.problems import ConfigError, show
from rtgateway.config.section import REFUSED, Section
from rtgateway.config.wording import Kind, kind_at

__all__ = ["validated"]

_Model = TypeVar("_Model", bound=Section)

_NAME = "[key]"
"""Where pydantic says that a name in a mapping is."""


def validated(document: Document, context: Mapping[str, Any], model: type[_Model]) -> _Model:
    """The configuration, or the part of it, that ``document`` describes.

    :raises ConfigError: with the document's own problems and everything the models refuse.
    """
    section: _Model | None = None
    try:
        section = model.model_validate(
            {} if document.data is None else document.data, context=dict(context)
        )
    except ValidationError as error:
        for line in error.errors(include_url=False):
            # What could not be substituted has been reported as such; its value means nothing.
            if not document.is_missing(line["loc"]):
                _report(document, line, model)
    if section is None or document.problems:
        raise ConfigError(document.problems)
    return section


def _report(document: Document, error: ErrorDetails, model: type[Section]) -> None:
    loc: Loc = error["loc"]
    kind = kind_at(model, loc)
    if error["type"] == "extra_forbidden":
        document.report(
            loc[:-1], _unknown_key(str(loc[-1]), kind_at(model, loc[:-1])), line=document.line(loc)
        )
    elif loc[-1:] == (_NAME,):
        # Not the value that a mapping has for a name, but the name itself.
        found = f"the name {show(str(loc[-2]))}"
        document.report(loc[:-1], "", found=found, allowed=error.get("ctx", {}).get("allowed", ""))
    elif error["type"] == "missing":
        document.report(loc, "is missing", allowed=kind.words if kind else "")
    elif error["type"] == REFUSED:
        context = error.get("ctx", {})
        allowed = context["allowed"]
        # The validator knows its type's words; the field may narrow them by bounds.
        if kind is not None and kind.uses(allowed):
            allowed = kind.words
        found = context["found"] or ("" if context["message"] else _found(document, error, kind))
        document.report(loc, context["message"], found=found, allowed=allowed)
    else:
        allowed = kind.words if kind is not None else error["msg"]
        if error["type"] == "too_short":
            allowed = f"{allowed}, at least one"
        elif error["type"] == "too_long":
            allowed = f"{allowed}, at most {error['ctx']['max_length']} of them"
        elif error["type"] == "string_too_long" and kind is not None and kind.base_words:
            allowed = f"{allowed}, at most {error['ctx']['max_length']} characters"
        document.report(loc, "", found=_found(document, error, kind), allowed=allowed)


def _unknown_key(key: str, kind: Kind | None) -> str:
    known = list(kind.section.model_fields) if kind is not None and kind.section is not None else []
    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1)
    hint = f"did you mean {show(near[0])}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {show(key)}; {hint}"


def _found(document: Document, error: ErrorDetails, kind: Kind | None) -> str:
    """What is there, unless it is or may be a secret."""
    value = document.value(error["loc"], error["input"])
    source = document.source_text(error["loc"])
    if kind is None or kind.is_secret:
        return "something else"
    if not kind.is_scalar and isinstance(value, str):
        # Text in place of a section may be the secret that belongs inside.
        return "text" if value else "empty text"
    if source is not None:
        return f"{show(source)} (its value is not shown)"
    return show(value)
