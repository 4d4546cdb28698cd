"""Instances that do worse than the others: which to eject, and for how long.

A breaker judges an instance by itself; here it is compared with those that serve the same
requests. If all fail alike, the cause is elsewhere (a database, the requests), and ejecting one
would only put its load on the others. ``upstream`` counts a `Sample` for each instance and
interval, asks `low_success`, and keeps an `Ejection` in each instance.

After Envoy's outlier detection by success rate
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier), with one
difference: an instance is compared with the *others*. Were it itself part of the mean and the
deviation, then of n instances none could be farther from the mean than ``sqrt(n - 1)`` deviations:
of three, a bad one would never be 1.9 away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import sqrt
from typing import NamedTuple

from rtgateway import config

__all__ = ["Ejection", "OutlierSettings", "Sample", "low_success", "may_eject"]

_ROUNDING = 1e-9
"""Differences up to this come from floating point, not from instances."""


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """What `config.Outliers` says, with the same names and defaults; durations in seconds."""

    enabled: bool = True
    consecutive_errors: int = 5
    interval: float = 10.0
    base_ejection: float = 30.0
    max_ejection: float = 300.0
    max_ejection_share: float = 0.5
    minimum_calls: int = 50
    success_rate: bool = True
    deviations: float = 1.9
    margin: float = 0.2

    @classmethod
    def from_config(cls, section: config.Outliers) -> OutlierSettings:
        """The settings that ``section`` has."""
        return cls(**{field.name: getattr(section, field.name) for field in fields(cls)})


class Sample(NamedTuple):
    """What an instance did in an interval: calls with a verdict, and how many of them failed."""

    calls: int
    failures: int


def low_success(samples: Sequence[Sample], settings: OutlierSettings) -> list[int]:
    """Indexes of the samples whose success rate is too low, the lowest first.

    Too low: below the mean of the others by more than ``deviations`` times their standard
    deviation, and by more than ``margin``. Samples with fewer than ``minimum_calls`` are neither
    judged nor compared with, and a sample alone is compared with nothing. Costs O(n).
    """
    if not (settings.enabled and settings.success_rate):
        return []
    least = max(settings.minimum_calls, 1)
    rates = [
        (1.0 - sample.failures / sample.calls, index)
        for index, sample in enumerate(samples)
        if sample.calls >= least
    ]
    others = len(rates) - 1
    if others < 1:
        return []
    total = sum(rate for rate, _ in rates)
    squares = sum(rate * rate for rate, _ in rates)
    low = []
    for rate, index in rates:
        mean = (total - rate) / others
        # A variance of 0 may come out as less.
        variance = max((squares - rate * rate) / others - mean * mean, 0.0)
        if mean - rate > max(settings.deviations * sqrt(variance), settings.margin) + _ROUNDING:
            low.append((rate, index))
    return [index for _, index in sorted(low)]


def may_eject(total: int, ejected: int, share: float) -> bool:
    """Whether one more of ``total`` instances may be ejected when ``ejected`` are.

    At most ``share`` of them, but at least one of several; the only one never.
    """
    # 0.29 * 100 is less than 29.
    return total > 1 and ejected < max(1, int(total * share + _ROUNDING))


class Ejection:
    """Whether an instance is ejected, since when it keeps happening, and how long it lasts.

    The n-th ejection lasts n times ``base_ejection``, at most ``max_ejection``; each ``interval``
    without one takes one off the count.

    :ivar until: end of the last ejection, in monotonic seconds; 0 if there was none.
    :ivar count: the n of the last ejection.
    :ivar reason: of the last ejection, in words.
    """

    __slots__ = ("_settings", "count", "reason", "until")

    def __init__(self, settings: OutlierSettings) -> None:
        self._settings = settings
        self.until = 0.0
        self.count = 0
        self.reason = ""

    def active(self, now: float) -> bool:
        """Whether the instance is ejected."""
        return now < self.until

    def eject(self, now: float, reason: str) -> bool:
        """Eject the instance; False, and nothing changes, if it is ejected already.

        That happens when calls that had begun before fail as well: they are no new reason.
        """
        if self.active(now):
            return False
        settings = self._settings
        quiet = int((now - self.until) / settings.interval)
        self.count = max(self.count - quiet, 0) + 1
        self.until = now + min(settings.base_ejection * self.count, settings.max_ejection)
        self.reason = reason
        return True

    def end(self, now: float) -> None:
        """Let the instance back in before its time. The count stays."""
        self.until = min(self.until, now)

    def __repr__(self) -> str:
        return f"<Ejection until {self.until:.3f} count={self.count} {self.reason!r}>"
