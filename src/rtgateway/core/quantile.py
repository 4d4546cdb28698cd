"""A quantile of latencies as they are now, at the cost of a counter.

Asked by hedging: a try that takes longer than most is slow.
"""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["LatencyQuantile"]

_GAMMA = 1.08
"""The bounds of a bucket, one by the other: its middle is within 4 % of all that is in it."""

_BOUNDS = [50e-6 * _GAMMA**power for power in range(200)]
"""Upper bounds in seconds, to 225 s. What is less or more counts as the least or the most."""

_ENOUGH = 20
_WINDOW = 500
_STALE = 25


class LatencyQuantile:
    """One quantile of the last five hundred to a thousand latencies.

    A histogram of buckets whose bounds grow by a constant factor, so that the *relative* error has
    a bound, here 4 % (Masson, Rim and Lee, "DDSketch", VLDB 2019). After every five hundred all
    counts are halved, so that old latencies fade. Memory is bounded: 201 counts.

    :param quantile: 0.95 for the latency that 5 % of the requests exceed.
    """

    __slots__ = ("_computed_at", "_counts", "_faded", "_left", "_quantile", "_value")

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._counts = [0.0] * (len(_BOUNDS) + 1)
        self._faded = 0.0
        self._left = _WINDOW
        self._value: float | None = None
        self._computed_at = _WINDOW + _STALE

    def add(self, seconds: float) -> None:
        """Count a latency."""
        self._counts[bisect_left(_BOUNDS, seconds)] += 1.0
        self._left -= 1
        if not self._left:
            self._fade()

    @property
    def value(self) -> float | None:
        """Seconds; None before 20 latencies were counted.

        Computed anew once 25 more have been counted.
        """
        if self._computed_at - self._left >= _STALE:
            total = self._faded + _WINDOW - self._left
            if total >= _ENOUGH:
                self._value = self._compute(total)
                self._computed_at = self._left
        return self._value

    def _fade(self) -> None:
        self._counts = [count * 0.5 for count in self._counts]
        self._faded = sum(self._counts)
        self._left = _WINDOW
        self._computed_at += _WINDOW

    def _compute(self, total: float) -> float:
        # From the top: quantiles that are asked for are high ones.
        beyond = total * (1.0 - self._quantile)
        index = len(_BOUNDS)
        above = self._counts[index]
        while above <= beyond and index > 0:
            index -= 1
            above += self._counts[index]
        if index == len(_BOUNDS):
            return _BOUNDS[-1]
        # The point from which both bounds are equally far, relative to themselves.
        return 2.0 * _BOUNDS[index] / (1.0 + _GAMMA)

    def __repr__(self) -> str:
        value = self.value
        shown = "not known yet" if value is None else f"{value * 1000:.1f} ms"
        return f"<LatencyQuantile {self._quantile}: {shown}>"
