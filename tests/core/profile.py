"""How Hypothesis runs here: no time limits, so that a busy machine fails no test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["PROPERTY"]

PROPERTY = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
