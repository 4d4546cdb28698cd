"""The Prometheus text format 0.0.4, written directly.

prometheus_client's own writer takes 0.1 to 0.2 s for 1,000 histograms, in which the event loop
would stand still; this takes a few milliseconds. Callers: ``observe.metrics`` and what it collects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from rtgateway.observe.durations import BUCKETS, SUM

__all__ = ["Sample", "family", "histogram_family"]

Sample = tuple[Sequence[str], float]
"""Values of the labels, and the value."""


def family(
    name: str,
    kind: Literal["counter", "gauge"],
    help: str,
    labels: Sequence[str],
    samples: Iterable[Sample],
) -> str:
    """One metric, with its samples.

    :param name: of a counter with its ``_total``.
    :param help: a plain sentence: no backslash, one line.
    """
    lines = [_title(name, kind, help)]
    for values, value in samples:
        text = _labels(labels, values)
        lines.append(f"{name}{{{text}}} {value!r}\n" if text else f"{name} {value!r}\n")
    return "".join(lines)


def histogram_family(
    name: str,
    help: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], Sequence[float]]],
    bounds: Sequence[float] = BUCKETS,
) -> str:
    """One metric of histograms as in `observe.durations`, all of them with these ``bounds``."""
    limits = [*map(repr, bounds), "+Inf"]
    lines = [_title(name, "histogram", help)]
    for values, histogram in samples:
        text = _labels(labels, values)
        bucket = f'{name}_bucket{{{text},le="'
        cumulated = list(accumulate(histogram[:SUM]))
        lines += [
            f'{bucket}{limit}"}} {count}\n' for limit, count in zip(limits, cumulated, strict=True)
        ]
        lines.append(
            f"{name}_sum{{{text}}} {histogram[SUM]!r}\n{name}_count{{{text}}} {cumulated[-1]}\n"
        )
    return "".join(lines)


def _title(name: str, kind: str, help: str) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(map(_label, names, values))


# The same labels come in many metrics, and in every scrape.
@lru_cache(maxsize=4096)
def _label(name: str, value: str) -> str:
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{value}"'
