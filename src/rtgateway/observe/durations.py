"""Histograms of durations, as plain lists: the count of each bucket, then the sum of seconds.

Counting is on the path of every request (`observe.telemetry` writes it out); all else happens when
somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

__all__ = [
    "BOUNDS",
    "BRIEF",
    "BRIEF_BOUNDS",
    "BUCKETS",
    "SUM",
    "count_of",
    "new_histogram",
    "quantile",
    "total",
]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, inclusive; one more bucket, without a bound, comes behind them."""

BOUNDS = list(BUCKETS)
"""The same for `bisect.bisect_left`, which gives the index of a duration's bucket."""

BRIEF = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0)
"""Other bounds for what takes no time to speak of, such as a store's answers. They are as many, so
that their histograms have the same shape; which bounds a histogram has, one has to know."""

BRIEF_BOUNDS = list(BRIEF)
"""The same for `bisect.bisect_left`."""

SUM = len(BUCKETS) + 1
"""Where the sum of seconds is."""


def new_histogram() -> list[float]:
    """A histogram of nothing. Counts are not cumulated."""
    return [0] * (SUM + 1)


def count_of(histogram: Sequence[float]) -> int:
    """How many durations are in it."""
    return int(sum(histogram[:SUM]))


def total(histograms: Iterable[Sequence[float]]) -> list[float]:
    """All of them in one."""
    return list(map(sum, zip(*histograms, strict=True))) or new_histogram()


def quantile(histogram: Sequence[float], q: float) -> float | None:
    """The duration (seconds) that a share of ``q`` does not exceed; None without durations.

    Within a bucket they are taken to be spread evenly, as Prometheus' ``histogram_quantile`` does;
    beyond the last bound nothing is known but that bound.
    """
    cumulated = list(accumulate(histogram[:SUM]))
    rank = q * cumulated[-1]
    if not cumulated[-1]:
        return None
    index = next(index for index, count in enumerate(cumulated) if count >= rank and count)
    if index == len(BUCKETS):
        return BUCKETS[-1]
    lower = BUCKETS[index - 1] if index else 0.0
    below = cumulated[index - 1] if index else 0
    return lower + (BUCKETS[index] - lower) * (rank - below) / histogram[index]
