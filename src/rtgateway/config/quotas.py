"""How much a limiter lets pass: the numbers of its algorithm, for everybody or for some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from annotated_types import Ge, Gt, Le
from pydantic import Field, PrivateAttr, ValidationError

from rtgateway.config.section import Rule, Section
from rtgateway.config.units import MAX_DURATION, PositiveDuration, format_duration
from rtgateway.config.values import Count, Number

__all__ = ["NUMBERS", "AlgorithmName", "Numbers", "Quota", "number_rules"]

AlgorithmName = Literal[
    "token_bucket",
    "sliding_window",
    "sliding_log",
    "leaky_bucket",
    "shaper",
    "gcra",
    "fixed_window",
    "adaptive",
]

NUMBERS = ("capacity", "refill_rate", "limit", "window", "burst", "queue")
_BUCKET = ("capacity", "refill_rate")
_WINDOW = ("limit", "window")
_KEYS = {
    "token_bucket": _BUCKET,
    "adaptive": _BUCKET,
    "leaky_bucket": _BUCKET,
    "shaper": ("refill_rate", "queue"),
    "gcra": (*_WINDOW, "burst"),
    "sliding_window": _WINDOW,
    "sliding_log": _WINDOW,
    "fixed_window": _WINDOW,
}
"""The keys of each algorithm, all needed but ``burst``."""

_MOST = 1_000_000_000
_FASTEST = 1_000_000
"""Units per second; a unit of time is then still a hundred times what a clock can tell apart."""
_LONGEST_LOG = 1000
"""One entry for each unit; more is what the other windows are for."""
_MINUTE = 60.0


class Numbers(NamedTuple):
    """What holds, with defaults filled in; what the algorithm has no use for is 0.

    :ivar algorithm: as configured; ``adaptive`` is a token bucket.
    :ivar refill_rate: units per second; of a leaky bucket and of a shaper, what leaks.
    :ivar window: seconds.
    """

    algorithm: AlgorithmName
    capacity: int = 0
    refill_rate: float = 0.0
    limit: int = 0
    window: float = 0.0
    burst: int = 0
    queue: int = 0

    @property
    def at_once(self) -> int:
        """Units that may come at the same time, and so the largest cost that is ever admitted."""
        match self.algorithm:
            case "shaper":
                return self.queue + 1
            case "gcra":
                return self.burst
            case "sliding_window" | "sliding_log" | "fixed_window":
                return self.limit
        return self.capacity

    @property
    def rate(self) -> float:
        """Units per second in the long run."""
        if "limit" in _KEYS[self.algorithm]:
            return self.limit / self.window if self.window else 0.0
        return self.refill_rate


class Quota(Section):
    """How much, for some: the numbers that differ from those of the limiter."""

    capacity: Annotated[Count, Ge(1), Le(_MOST)] | None = Field(
        default=None,
        description="Units that may come at once (`token_bucket`, `leaky_bucket`, `adaptive`).",
    )
    refill_rate: Annotated[Number, Gt(0), Le(_FASTEST)] | None = Field(
        default=None,
        description="Units per second that come back, leak, or leave the queue (the same three, "
        "and `shaper`).",
    )
    limit: Annotated[Count, Ge(1), Le(_MOST)] | None = Field(
        default=None,
        description="Units in a window (`gcra`, `sliding_window`, `sliding_log`: at most 1000, "
        "`fixed_window`).",
    )
    window: PositiveDuration | None = Field(
        default=None, description="Length of the window (the same four)."
    )
    burst: Annotated[Count, Ge(1), Le(_MOST)] | None = Field(
        default=None, description="Units that may come at once (`gcra`). Left out: `limit`."
    )
    queue: Annotated[Count, Le(_MOST)] | None = Field(
        default=None, description="Units that may wait for their turn (`shaper`)."
    )
    requests_per_minute: Annotated[Count, Ge(1), Le(_MOST)] | None = Field(
        default=None,
        description="So many, in place of `capacity` and `refill_rate`, or of `limit` and "
        "`window`; a `shaper` needs `queue` besides.",
    )

    _numbers: Numbers = PrivateAttr(default=Numbers("token_bucket"))

    @property
    def numbers(self) -> Numbers:
        """What holds, those of the limiter included where nothing else is said."""
        return self._numbers

    @property
    def own(self) -> dict[str, Any]:
        """The numbers that are there, by their keys."""
        keys = (*NUMBERS, "requests_per_minute")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}

    def settle(self, algorithm: AlgorithmName, *base: Mapping[str, Any]) -> Self:
        """Take what is not said here from ``base``, the limiter's own numbers."""
        self._numbers = resolve(algorithm, *base, self.own)
        return self

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """A rate is said in one way."""
        if values.get("requests_per_minute") is None:
            return
        for key in ("capacity", "refill_rate", "limit", "window"):
            if values.get(key) is not None:
                yield Rule("requests_per_minute says it, too", (key,), allowed="one of them")


def expanded(algorithm: AlgorithmName, own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` with ``requests_per_minute`` as the numbers that it stands for."""
    numbers = {key: value for key, value in own.items() if key in NUMBERS}
    per_minute = own.get("requests_per_minute")
    if per_minute is not None:
        keys = _KEYS[algorithm]
        short = {
            "capacity": per_minute,
            "refill_rate": per_minute / _MINUTE,
            "limit": per_minute,
            "window": _MINUTE,
        }
        numbers = {key: value for key, value in short.items() if key in keys} | numbers
    return numbers


def resolve(algorithm: AlgorithmName, *layers: Mapping[str, Any]) -> Numbers:
    """What holds when each of ``layers`` goes before those in front of it."""
    given: dict[str, Any] = {}
    for layer in layers:
        given |= expanded(algorithm, layer)
    keys = _KEYS[algorithm]
    if "burst" in keys:
        given.setdefault("burst", given.get("limit", 0))
    return Numbers(algorithm, **{key: given[key] for key in keys if key in given})


def number_rules(
    algorithm: AlgorithmName, own: Mapping[str, Any], *base: Mapping[str, Any]
) -> Iterator[Rule]:
    """Whether ``own`` fits the algorithm, and is complete with what ``base`` has."""
    keys = _KEYS[algorithm]
    foreign = [key for key in NUMBERS if key in own and key not in keys]
    for key in foreign:
        yield Rule(f"not a key of {algorithm}", (key,), allowed=_and(keys))
    numbers = resolve(algorithm, *base, own)
    missing = [key for key in keys if not getattr(numbers, key)]
    if "queue" in missing and any("queue" in layer for layer in (*base, own)):
        missing.remove("queue")
    if "burst" in missing:
        missing.remove("burst")
    if missing and not base:
        yield Rule(f"{algorithm} without {_and(missing)}", (), allowed=_needed(keys))
    if not missing:
        yield from _bounds(numbers, own)


def _bounds(numbers: Numbers, own: Mapping[str, Any]) -> Iterator[Rule]:
    """Neither faster than a clock, nor slower than anybody waits; told at what was said last."""

    def key(*names: str) -> tuple[str, ...]:
        return next(((name,) for name in (*names, "requests_per_minute") if name in own), ())

    if numbers.algorithm == "sliding_log" and numbers.limit > _LONGEST_LOG:
        allowed = f"at most {_LONGEST_LOG}, or sliding_window"
        yield Rule("", key("limit"), f"a log of {numbers.limit}", allowed)
    if numbers.rate > _FASTEST:
        found = f"{numbers.rate:.0f} per second"
        yield Rule("", key("limit", "window"), found, f"at most {_FASTEST} per second")
    units = max(numbers.at_once, 1)
    if units > numbers.rate * MAX_DURATION * (1 + 1e-9):
        found = f"{units} units, but {numbers.rate:g} per second"
        allowed = f"so many that they are back within {format_duration(MAX_DURATION)}"
        yield Rule("", key("capacity", "queue", "burst", "refill_rate"), found, allowed)


def _needed(keys: tuple[str, ...]) -> str:
    needed = [key for key in keys if key != "burst"]
    short = " and queue" if "queue" in keys else ""
    return f"{_and(needed)}, or requests_per_minute{short}"


def _and(words: list[str] | tuple[str, ...]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def settled_quota(section: object) -> Quota | None:
    """A quota that may not be validated yet; None when it is not valid by itself."""
    if isinstance(section, Quota):
        return section
    if not isinstance(section, Mapping):
        return None
    keys = Quota.model_fields
    try:
        return Quota.model_validate({key: section[key] for key in keys if key in section})
    except ValidationError:
        return None


def is_algorithm(name: object) -> bool:
    """Whether ``name`` is that of an algorithm."""
    return isinstance(name, str) and name in get_args(AlgorithmName)
