"""Durations and sizes as people write them: ``250ms``, ``30s``, ``64KiB``.

A duration is float seconds in Python, a size is int bytes. A bare number is seconds, or bytes.
The models use `Duration`, `PositiveDuration` and `Size`; the reference page and problem messages
write values back with `format_duration` and `format_size`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, WithJsonSchema

from rtgateway.config.section import Allowed, Rule, refused

__all__ = [
    "MAX_DURATION",
    "MAX_SIZE",
    "Duration",
    "PositiveDuration",
    "Size",
    "format_duration",
    "format_size",
    "in_order",
    "parse_duration",
    "parse_size",
]

MAX_DURATION = 365 * 86400.0
"""Longest duration, in seconds: longer ones are typing errors, and timers stay exact below it."""
MAX_SIZE = 1 << 40
"""Largest size, in bytes (1 TiB)."""

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)[ ]?([A-Za-z]{0,3})", re.ASCII)

DURATION_WORDS = "a duration such as 250ms, 30s, 5m or 1h"
SIZE_WORDS = "a size such as 512, 64KiB or 10MiB"


def parse_duration(value: object) -> float:
    """Seconds in ``value``: a number of seconds, or text such as ``250ms`` or ``1.5h``.

    :raises ValueError: when it is neither, negative, or not finite.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            raise ValueError(DURATION_WORDS) from None
    elif isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        unit = match[2] or "s"
        if unit not in _MILLISECONDS:
            raise ValueError(DURATION_WORDS)
        # Divided, because 0.001 has no exact float: 250ms must be 0.25.
        seconds = float(match[1]) * _MILLISECONDS[unit] / 1000
    else:
        raise ValueError(DURATION_WORDS)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(DURATION_WORDS)
    return seconds


def parse_size(value: object) -> int:
    """Bytes in ``value``: a whole number, or text such as ``64KiB`` or ``1.5 MiB``.

    :raises ValueError: when it is neither, negative, or not a whole number of bytes.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        factor = _BYTES.get(match[2].lower())
        if factor is not None:
            if "." not in match[1]:
                return int(match[1]) * factor
            size = float(match[1]) * factor
            if size.is_integer():
                return int(size)
    raise ValueError(SIZE_WORDS)


def format_duration(seconds: float) -> str:
    """``seconds`` in the largest unit that keeps it a whole number: ``1.5`` -> ``1500ms``."""
    for unit in ("d", "h", "m", "s"):
        count = seconds * 1000 / _MILLISECONDS[unit]
        # 60s and 24h are what people write; a single minute or day is not.
        if count.is_integer() and count >= (2 if unit in "dm" else 1):
            return f"{int(count)}{unit}"
    milliseconds = f"{seconds * 1000:.6f}".rstrip("0").rstrip(".")
    return f"{milliseconds}ms" if seconds else "0s"


def format_size(size: int) -> str:
    """``size`` bytes in the largest binary unit that keeps it whole: ``65536`` -> ``64KiB``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _duration(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError:
        raise refused(allowed=DURATION_WORDS) from None


def _size(value: object) -> int:
    try:
        return parse_size(value)
    except ValueError:
        raise refused(allowed=SIZE_WORDS) from None


def in_order(
    values: Mapping[str, Any],
    shorter: str,
    longer: str,
    write: Callable[[Any], str] = format_duration,
) -> Iterator[Rule]:
    """The rule that one key is at most another one; told at the first, which has the line."""
    low, high = values.get(shorter), values.get(longer)
    # What is wrong by itself, or still text, has no order; see `Section.rules`.
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return
    if high < low <= MAX_DURATION:
        allowed = f"at most {longer}, which is {write(high)}"
        yield Rule("", (shorter,), found=write(low), allowed=allowed)


_DURATION_SCHEMA = WithJsonSchema(
    {
        "type": ["number", "string"],
        "pattern": r"^\s*[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)?\s*$|\$\{",
        "examples": ["250ms", "30s", "5m", "1h"],
    }
)
_SIZE_SCHEMA = WithJsonSchema(
    {
        "type": ["integer", "string"],
        "pattern": r"^\s*[0-9]+(\.[0-9]+)? ?([kKmMgG][iI]?[bB]|[bB])?\s*$|\$\{",
        "examples": ["64KiB", "10MiB"],
    }
)

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    Ge(0),
    Le(MAX_DURATION),
    Allowed(DURATION_WORDS, unit="duration"),
    _DURATION_SCHEMA,
]
PositiveDuration = Annotated[
    float,
    BeforeValidator(_duration),
    Gt(0),
    Le(MAX_DURATION),
    Allowed(DURATION_WORDS, unit="duration"),
    _DURATION_SCHEMA,
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    Le(MAX_SIZE),
    Allowed(SIZE_WORDS, unit="size"),
    _SIZE_SCHEMA,
]
