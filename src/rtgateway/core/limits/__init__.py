"""Rate limiting, pure: the algorithms, and the table of what they remember."""

from rtgateway.core.limits.adaptive import Adaptive, AdaptiveSettings
from rtgateway.core.limits.algorithm import Algorithm, State, Taken
from rtgateway.core.limits.log import MOST_LOGGED, SlidingLog
from rtgateway.core.limits.popular import Popular
from rtgateway.core.limits.schedule import Gcra, LeakyBucket, Shaper, TokenBucket
from rtgateway.core.limits.table import KeyTable
from rtgateway.core.limits.windows import FixedWindow, SlidingWindow

__all__ = [
    "MOST_LOGGED",
    "Adaptive",
    "AdaptiveSettings",
    "Algorithm",
    "FixedWindow",
    "Gcra",
    "KeyTable",
    "LeakyBucket",
    "Popular",
    "Shaper",
    "SlidingLog",
    "SlidingWindow",
    "State",
    "Taken",
    "TokenBucket",
]
