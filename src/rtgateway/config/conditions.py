"""What can go wrong with a request to an instance, and which statuses are meant, as words.

``failure_on`` of a circuit breaker and ``on`` of retries are lists of conditions; health checks
expect statuses. Both are normalised to text: ``503`` stays, ``5XX`` is ``5xx``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from rtgateway.config.section import Allowed, refused
from rtgateway.config.values import one_or_many

__all__ = ["FAILURE_KINDS", "FailureConditions", "RetryConditions", "Statuses"]

FAILURE_KINDS = ("connect", "reset", "timeout", "invalid")
"""No connection; one that ended before the answer did; no answer in time; not valid HTTP."""

_KIND_WORDS = ", ".join(FAILURE_KINDS)
_FAILURE_WORDS = f"one of {_KIND_WORDS}, 429, a status from 500 to 599, or 5xx"
_RETRY_WORDS = f"one of {_KIND_WORDS}, a status from 400 to 599, 4xx or 5xx"
_STATUS_WORDS = "a status from 200 to 599, or a class such as 2xx"
_STATUS = r"[2-5](?:[0-9]{2}|xx)"


def _word(value: Any) -> str:
    """``value`` in lower case; a number as its digits; nothing for what can't be a condition."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    # Python refuses to write numbers of thousands of digits; no status has more than three.
    return value.strip().lower() if isinstance(value, str) else f"{min(max(value, -1), 1000)}"


def _one_of(pattern: str, words: str) -> Callable[[Any], str]:
    allowed = re.compile(pattern, re.ASCII)

    def validate(value: Any) -> str:
        if not allowed.fullmatch(word := _word(value)):
            raise refused(allowed=words)
        return word

    return validate


def _several(value: Any) -> Any:
    """Text with commas, or a single number, as a list."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return one_or_many(value)


def _schema(pattern: str, *examples: str | int) -> WithJsonSchema:
    # JSON Schema looks at the digits of numbers by bounds only.
    text = {"type": "string", "pattern": rf"^\s*({pattern})\s*$|\$\{{"}
    number = {"type": "integer", "minimum": 200, "maximum": 599}
    return WithJsonSchema({"anyOf": [text, number], "examples": list(examples)})


_KINDS = "|".join(FAILURE_KINDS)
_FAILURE = rf"{_KINDS}|429|5[0-9]{{2}}|5xx"
_RETRY = rf"{_KINDS}|[45][0-9]{{2}}|[45]xx"

_FailureCondition = Annotated[
    str,
    BeforeValidator(_one_of(_FAILURE, _FAILURE_WORDS)),
    Allowed(_FAILURE_WORDS),
    _schema(_FAILURE, "5xx", "connect"),
]
_RetryCondition = Annotated[
    str,
    BeforeValidator(_one_of(_RETRY, _RETRY_WORDS)),
    Allowed(_RETRY_WORDS),
    _schema(_RETRY, "connect", 503),
]
_Status = Annotated[
    str,
    BeforeValidator(_one_of(_STATUS, _STATUS_WORDS)),
    Allowed(_STATUS_WORDS),
    _schema(_STATUS, "2xx", 200),
]

FailureConditions = Annotated[tuple[_FailureCondition, ...], BeforeValidator(_several)]
"""What counts against an instance. Never a client's own mistake: of 4xx only 429."""
RetryConditions = Annotated[tuple[_RetryCondition, ...], BeforeValidator(_several)]
"""What is worth another try."""
Statuses = Annotated[tuple[_Status, ...], BeforeValidator(_several)]
"""Statuses, and classes of them, that are fine."""
