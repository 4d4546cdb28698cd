"""Buckets: token bucket, GCRA, leaky bucket, and the shaper.

All four are one virtual schedule. What is remembered of a key is one time, ``full_at``: when its
tokens will all be there again, its bucket will have leaked empty, or its next request is due, which
are three names for the same (ATM Forum, "Traffic Management Specification 4.1", 1999, section
4.4.2, shows that leaky bucket and GCRA admit the same). Units are taken by moving it ahead.

The Lua twin does the same operations in the same order, so that both agree to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from rtgateway.core.limits.algorithm import State, Taken

__all__ = ["Gcra", "LeakyBucket", "Shaper", "TokenBucket"]

_SLACK = 1e-7
"""Seconds by which a unit may be early: what a wait loses when it is added to a time.

Times of the shared store are multiples of 7.5e-9 s.
"""

_ROUNDING = 1e-6
"""Units, so that 4.9999999999 are five whole ones."""

_taken = tuple.__new__


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The virtual schedule: ``capacity`` units at once, ``rate`` units per second.

    :ivar span: seconds from empty to full; a ``full_at`` is at most so far ahead.
    """

    capacity: float = field(init=False)
    rate: float = field(init=False)
    span: float = field(init=False, repr=False, compare=False)
    limit: int = field(init=False, repr=False, compare=False)
    window: float = field(init=False, repr=False, compare=False)
    horizon: float = field(init=False, repr=False, compare=False)

    name: ClassVar[str]
    leasable: ClassVar[bool] = True

    def _fill(self, capacity: float, rate: float) -> None:
        if not (1 <= capacity < math.inf and 0 < rate < math.inf):
            raise ValueError(f"{self.name}: {capacity:g} units at once, {rate:g} per second")
        span = capacity / rate
        for key, value in (
            ("capacity", float(capacity)),
            ("rate", float(rate)),
            ("span", span),
            ("limit", math.floor(capacity + _ROUNDING)),
            ("window", span),
            ("horizon", span),
        ):
            object.__setattr__(self, key, value)

    def take(self, state: State | None, cost: int, want: int, now: float) -> Taken:
        """See `Algorithm.take`. The extra units count as remaining."""
        rate, span = self.rate, self.span
        if state is None:
            ahead = 0.0
        else:
            ahead = state - now  # type: ignore[operator,assignment]
            # Twice as far ahead as can be: the clock was set back, or the quota is another one.
            # A smaller step is waited out: it costs nobody more than a span, and forgives nothing.
            if ahead < 0.0 or ahead > 2.0 * span:
                ahead = 0.0
        after = ahead + cost / rate
        wait = after - span
        if wait > _SLACK and cost:
            return self._refused(state, cost, ahead, wait)
        left = int((span - after) * rate + _ROUNDING)
        if left < 0:
            left = 0
        if want:
            extra = want if want < left else left
            if cost or extra:
                state = now + after + extra / rate
            return _taken(Taken, (0.0, left, after, extra, 0.0, state))
        if cost:
            state = now + after
        return _taken(Taken, (0.0, left, after, 0, 0.0, state))

    def _refused(self, state: State | None, cost: int, ahead: float, wait: float) -> Taken:
        rate, span = self.rate, self.span
        if cost / rate - span > _SLACK:
            wait = math.inf
        left = int((span - ahead) * rate + _ROUNDING)
        return _taken(Taken, (wait, left if left > 0 else 0, ahead, 0, 0.0, state))

    def give_back(self, state: State | None, units: int, now: float) -> State | None:
        """See `Algorithm.give_back`. A bucket is never more than full."""
        if state is None:
            return None
        back: float = state - units / self.rate  # type: ignore[operator,assignment]
        return back if back > now else now

    def parameters(self) -> tuple[bytes, ...]:
        """The name, capacity and rate (a shaper's capacity is its queue and the one served)."""
        return self.name.encode(), b"%.17g" % self.capacity, b"%.17g" % self.rate

    def _factor(self, factor: float) -> float:
        """Such that a unit is left, and the span is what it was."""
        return max(factor, 1.0 / self.capacity)


@dataclass(frozen=True, slots=True, init=False)
class TokenBucket(_Schedule):
    """Holds ``capacity`` tokens, full at first, and gets ``refill_rate`` per second.

    :raises ValueError: less than one token, or a rate that is not above 0.
    """

    name = "token_bucket"

    def __init__(self, capacity: float, refill_rate: float) -> None:
        self._fill(capacity, refill_rate)

    def scaled(self, factor: float) -> TokenBucket:
        factor = self._factor(factor)
        return TokenBucket(max(1.0, self.capacity * factor), self.rate * factor)


@dataclass(frozen=True, slots=True, init=False)
class LeakyBucket(_Schedule):
    """Leaky bucket as a meter: a request pours its cost in, what would overflow is refused.

    :param leak_rate: units per second that leak out.
    :raises ValueError: less than one unit, or a rate that is not above 0.
    """

    name = "leaky_bucket"

    def __init__(self, capacity: float, leak_rate: float) -> None:
        self._fill(capacity, leak_rate)

    def scaled(self, factor: float) -> LeakyBucket:
        factor = self._factor(factor)
        return LeakyBucket(max(1.0, self.capacity * factor), self.rate * factor)


@dataclass(frozen=True, slots=True, init=False)
class Gcra(_Schedule):
    """Generic cell rate algorithm: ``limit`` units in ``window`` seconds, ``burst`` at once.

    What clients are told of is the burst, and the seconds in which so much comes in, for no more
    than that is ever left.

    :param burst: ``limit`` where it is None; 1 spaces requests evenly.
    :raises ValueError: less than one unit at once, or a window or limit that is not above 0.
    """

    name = "gcra"

    def __init__(self, limit: float, window: float, burst: float | None = None) -> None:
        if not (0 < window < math.inf):
            raise ValueError(f"gcra: a window of {window:g} s")
        self._fill(limit if burst is None else burst, limit / window)

    def scaled(self, factor: float) -> Gcra:
        factor = self._factor(factor)
        return Gcra(self.rate * factor, 1.0, max(1.0, self.capacity * factor))


@dataclass(frozen=True, slots=True, init=False)
class Shaper(_Schedule):
    """Leaky bucket as a queue: requests go on at ``rate`` per second, the others wait their turn.

    The queue is a schedule: `Taken.delay` says when a request's turn is, and nothing can be given
    back, for those behind have been told theirs.

    :param queue: units that may wait; with 0 whatever is early is refused.
    :raises ValueError: a rate that is not above 0, or a queue below 0.
    """

    name = "shaper"
    leasable = False

    def __init__(self, rate: float, queue: int) -> None:
        self._fill(queue + 1, rate)

    def take(self, state: State | None, cost: int, want: int, now: float) -> Taken:
        """See `Algorithm.take`. There is nothing extra, and a look has nothing to wait for."""
        rate, span = self.rate, self.span
        if state is None:
            ahead = 0.0
        else:
            ahead = state - now  # type: ignore[operator,assignment]
            if ahead < 0.0 or ahead > 2.0 * span:
                ahead = 0.0
        after = ahead + cost / rate
        wait = after - span
        if wait > _SLACK and cost:
            return self._refused(state, cost, ahead, wait)
        left = int((span - after) * rate + _ROUNDING)
        if left < 0:
            left = 0
        if not cost:
            return _taken(Taken, (0.0, left, after, 0, 0.0, state))
        return _taken(Taken, (0.0, left, after, 0, ahead, now + after))

    def give_back(self, state: State | None, units: int, now: float) -> State | None:
        """Nothing is."""
        return state

    def scaled(self, factor: float) -> Shaper:
        factor = self._factor(factor)
        shaper = Shaper(self.rate * factor, 0)
        shaper._fill(max(1.0, self.capacity * factor), self.rate * factor)
        return shaper
