"""Moving averages of latency, and the ramp of an instance's weight after it (re)appeared."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["aged", "ewma", "latency_average", "peak_ewma", "ramp"]

_ALPHA = 0.2
"""Weight of the newest sample."""
_AGING = 0.5**0.2
"""What is left of an average after a second without an answer: half of it after five."""
_FORGOTTEN = 0.00005
"""Seconds; an average that has aged below says nothing any more."""
_FIRST_SHARE = 0.1
"""Share of its weight with which an instance starts."""


def ewma(average: float, sample: float, alpha: float = _ALPHA) -> float:
    """An exponentially weighted moving average that has taken ``sample`` in.

    :param average: so far; 0.0 before the first sample, which then counts in full.
    :param alpha: weight of the newest sample, between 0 and 1.
    """
    return average + alpha * (sample - average) if average else sample


def peak_ewma(average: float, sample: float, alpha: float = _ALPHA) -> float:
    """A moving average that believes bad news at once and good news by and by.

    A sample above the average replaces it; one below is taken in as by `ewma`. Source: Finagle's
    ``PeakEwma`` load metric, whose decay is by time; here `aged` adds that part.
    """
    return sample if sample > average else average + alpha * (sample - average)


def latency_average(strategy: str) -> Callable[[float, float], float]:
    """How to average latency for a strategy: what `Candidate.latency` should have been fed by."""
    return peak_ewma if strategy == "p2c" else ewma


def aged(average: float) -> float:
    """An average after one more second without a sample; 0.0, unmeasured, when it is worthless.

    Without it an instance that was slow once, and for that reason gets no requests, would never
    be found to be fast again.
    """
    older = average * _AGING
    return older if older > _FORGOTTEN else 0.0


def ramp(elapsed: float, slow_start: float) -> float:
    """Share of its full weight that an instance has, from 0.1 rising evenly to 1.

    :param elapsed: seconds since it appeared or recovered.
    :param slow_start: seconds until it has its full weight; 0 for at once.
    """
    if elapsed >= slow_start:
        return 1.0
    return _FIRST_SHARE + (1.0 - _FIRST_SHARE) * max(elapsed, 0.0) / slow_start
