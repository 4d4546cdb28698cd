"""Penalties: who is refused too often is banned for a while, and for longer each time.

Pure: the time is an argument. ``store/scripts/penalise.lua`` does the same operations in the same
order, so that both come to the same numbers.

Callers: ``store.bans``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["MOST_STRIKES", "Penalty", "Record"]

MOST_STRIKES = 1000
"""More bans in a row than these are not told apart."""


class Record(NamedTuple):
    """What is remembered of somebody who was refused.

    :ivar ends: when the window ends that counts.
    :ivar refusals: in it.
    :ivar strikes: bans so far.
    :ivar forget_at: when they are forgotten.
    """

    ends: float
    refusals: int
    strikes: int
    forget_at: float

    @property
    def useful_until(self) -> float:
        """When this is as good as nothing."""
        return max(self.ends, self.forget_at)


_NOTHING = Record(-math.inf, 0, 0, -math.inf)


class Penalty:
    """The rule. A window begins with the first refusal after the last one ended.

    :param refusals: so many within ``window`` seconds are a strike; at least 1.
    :param duration: seconds of the first ban; the next is ``factor`` times as long, and so on up to
        ``max_duration`` seconds.
    :param factor: at least 1.
    :param memory: seconds after the end of a ban until it is as if there had been none.
    :raises ValueError: one of them makes no sense.
    """

    __slots__ = ("duration", "factor", "max_duration", "memory", "refusals", "window")

    def __init__(
        self,
        refusals: int,
        window: float,
        duration: float,
        factor: float = 1.0,
        max_duration: float = 86400.0,
        memory: float = 86400.0,
    ) -> None:
        if refusals < 1 or not 1 <= factor < math.inf:
            raise ValueError(f"a penalty after {refusals} refusals, {factor:g} times as long")
        if not (0 < window < math.inf and 0 < duration < math.inf and 0 <= memory < math.inf):
            raise ValueError(f"a penalty of {duration:g} s within {window:g} s, kept {memory:g} s")
        if not duration <= max_duration < math.inf:
            raise ValueError(f"a penalty of {duration:g} s, but {max_duration:g} s at most")
        self.refusals = refusals
        self.window = window
        self.duration = duration
        self.factor = factor
        self.max_duration = max_duration
        self.memory = memory

    def seconds(self, strikes: int) -> float:
        """How long to ban somebody who was banned ``strikes`` times before."""
        seconds = self.duration
        if self.factor > 1:
            for _ in range(strikes):
                if seconds >= self.max_duration:
                    break
                seconds *= self.factor
        return min(seconds, self.max_duration)

    def count(self, record: Record | None, refusals: int, now: float) -> tuple[Record, float]:
        """Somebody was refused ``refusals`` times. Not to be called of those who are banned.

        :param record: what is remembered of them, if anything.
        :param now: seconds of any clock. One that steps back makes no window longer.
        :return: what to remember, and for how many seconds to ban, 0.0: not at all.
        """
        ends, total, strikes, forget_at = record or _NOTHING
        if now >= ends or ends - now > self.window:
            ends = now + self.window
            total = 0
        if now >= forget_at or forget_at - now > self.max_duration + self.memory:
            strikes = 0
            forget_at = now
        total += refusals
        if total < self.refusals:
            return Record(ends, total, strikes, forget_at), 0.0
        seconds = self.seconds(strikes)
        forget_at = now + seconds + self.memory
        return Record(now, 0, min(strikes + 1, MOST_STRIKES), forget_at), seconds

    @property
    def reason(self) -> str:
        """Why somebody is banned, in words."""
        return f"{self.refusals} refusals within {self.window:g} s"

    def parameters(self) -> tuple[bytes, ...]:
        """For the script, in the order of the constructor."""
        numbers = (
            self.refusals,
            self.window,
            self.duration,
            self.factor,
            self.max_duration,
            self.memory,
        )
        return tuple(b"%.17g" % number for number in numbers)

    def __repr__(self) -> str:
        return (
            f"<Penalty after {self.refusals} in {self.window:g} s: {self.duration:g} s,"
            f" times {self.factor:g} up to {self.max_duration:g} s>"
        )
