"""How Hypothesis runs here: no time limits, so that a busy machine fails no test.

``RTGATEWAY_TEST_EXAMPLES`` says how many examples a property gets.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["PROPERTY"]

PROPERTY = settings(
    deadline=None,
    max_examples=int(os.environ.get("RTGATEWAY_TEST_EXAMPLES", "200")),
    suppress_health_check=[HealthCheck.too_slow],
)
