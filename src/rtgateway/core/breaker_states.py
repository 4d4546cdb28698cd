"""What can be seen of a circuit breaker: its state, its changes, what it has counted."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["BreakerStats", "State", "StateChange"]

State = Literal["closed", "open", "half_open", "forced_open", "disabled"]


class StateChange(NamedTuple):
    """``at``: monotonic seconds; ``reason``: in words, for logs and people."""

    old: State
    new: State
    at: float
    reason: str


class BreakerStats(NamedTuple):
    """Calls with a verdict: in all, except ``failure_rate``, which is that of the window.

    ``last_failure`` and ``last_success`` are monotonic seconds, ``average_duration`` is in seconds.
    A time-based window is as it was at the end of the last call.
    """

    total_calls: int
    failed_calls: int
    successful_calls: int
    slow_calls: int
    failure_rate: float
    consecutive_failures: int
    consecutive_successes: int
    last_failure: float | None
    last_success: float | None
    average_duration: float
