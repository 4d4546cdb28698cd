"""The settings of a circuit breaker, as plain attributes for `core.breaker`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rtgateway import config

__all__ = ["BreakerSettings"]


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """What `config.CircuitBreaker` says, with the same names and defaults; durations in seconds.

    :ivar window_calls: length of a window that counts calls; 0 if it is time-based.
    :ivar window_seconds: length of a time-based window; 0 if it counts calls.
    """

    enabled: bool = True
    failure_threshold: int = 5
    success_threshold: int = 2
    timeout: float = 30.0
    max_timeout: float = 300.0
    timeout_factor: float = 2.0
    jitter: float = 0.1
    window_calls: int = 100
    window_seconds: float = 0.0
    minimum_calls: int = 20
    failure_rate_threshold: float = 0.5
    slow_call_duration: float = 5.0
    slow_call_rate_threshold: float = 0.0
    half_open_calls: int = 1

    @classmethod
    def from_config(cls, section: config.CircuitBreaker) -> BreakerSettings:
        """The settings that ``section`` has."""
        return cls(**{field.name: getattr(section, field.name) for field in fields(cls)})
