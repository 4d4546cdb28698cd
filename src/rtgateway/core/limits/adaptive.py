"""Adaptive limits: how much of a limit holds while the gateway, or what is behind it, is loaded."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Adaptive", "AdaptiveSettings"]


class AdaptiveSettings(NamedTuple):
    """When to let in less, and by how much.

    :ivar cpu: share of one processor that this process may use; 0 is off, as with the others.
    :ivar event_loop_delay: seconds by which timers may be late.
    :ivar latency: seconds that answers of services may take.
    :ivar floor: the least factor, above 0.
    :ivar ceiling: the largest, and the one to begin with.
    :ivar decrease: the factor is multiplied by it while anything is above its threshold.
    :ivar increase: is added to it otherwise.
    """

    cpu: float = 0.8
    event_loop_delay: float = 0.1
    latency: float = 0.0
    floor: float = 0.1
    ceiling: float = 1.0
    decrease: float = 0.5
    increase: float = 0.05


class Adaptive:
    """Additive increase, multiplicative decrease: a factor for limits, from samples of load.

    Gateways that share a service come to share it evenly by this rule (Chiu and Jain, "Analysis of
    the increase and decrease algorithms for congestion avoidance", 1989).

    :raises ValueError: settings with which the factor would not stay above 0, or would not move the
        way it should.
    """

    __slots__ = ("_settings", "factor")

    def __init__(self, settings: AdaptiveSettings) -> None:
        if not 0 < settings.floor <= settings.ceiling < math.inf:
            raise ValueError(f"factors from {settings.floor:g} to {settings.ceiling:g}")
        if not (0 < settings.decrease < 1 and 0 < settings.increase < math.inf):
            raise ValueError(f"decrease {settings.decrease:g}, increase {settings.increase:g}")
        self._settings = settings
        self.factor = settings.ceiling

    def sample(self, event_loop_delay: float, cpu: float, latency: float) -> bool:
        """Take the load of the last interval into account.

        :param event_loop_delay: seconds; what is not known is 0, or ``nan``.
        :param cpu: share of one processor.
        :param latency: seconds.
        :return: whether the factor is another one now.
        """
        settings, before = self._settings, self.factor
        if (
            0 < settings.event_loop_delay < event_loop_delay
            or 0 < settings.cpu < cpu
            or 0 < settings.latency < latency
        ):
            self.factor = max(settings.floor, before * settings.decrease)
        else:
            self.factor = min(settings.ceiling, before + settings.increase)
        return self.factor != before

    def __repr__(self) -> str:
        settings = self._settings
        return f"<Adaptive {self.factor:g} of {settings.floor:g} to {settings.ceiling:g}>"
