"""What holds while the shared store does not answer: what each limiter's ``on_failure`` says.

``local`` is the same limit enforced in this process, with this gateway's part of it: limit and rate
divided by the last known number of gateways. What the store granted for keys asked for often counts
as taken of that part, so that a call that fails now and then gives nobody more than his part. In
``t`` seconds without the store, ``n`` gateways admit at most what the limit admits in ``t`` seconds
(and a unit for each gateway whose part would be less than one), in addition to what the store did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rtgateway.core.limits import Algorithm, Taken
from rtgateway.store.limits.asked import Ask, Outcome
from rtgateway.store.limits.known import Known
from rtgateway.store.limits.memory import MemoryLimits

__all__ = ["Counted", "Degraded"]

_MOST_SCALED = 4096

_ask = _outcome = tuple.__new__


class Counted(Protocol):
    """How many gateways there are, as far as known."""

    @property
    def count(self) -> int: ...


class Degraded:
    """Decides without the store, at once.

    :param local: limits in memory, for nothing but this.
    """

    __slots__ = ("_gateways", "_local", "_scaled", "_scaled_for")

    def __init__(self, local: MemoryLimits, gateways: Counted) -> None:
        self._local = local
        self._gateways = gateways
        # By identity: a hash of the numbers costs more than the decision. It is held, so that no
        # other algorithm takes its place.
        self._scaled: dict[int, tuple[Algorithm, Algorithm]] = {}
        self._scaled_for = 1

    def decide(self, asks: Sequence[Ask]) -> Outcome:
        """Take the cost of all that are ``local``, or of none."""
        if len(asks) == 1 and asks[0].limiter.on_failure == "local":
            limiter, algorithm, key, cost = asks[0]
            each = self._local.decide((_ask(Ask, (limiter, self._part(algorithm), key, cost)),))
            return _outcome(Outcome, (each[0], each[1], each[2], True))
        local: list[Ask] = []
        denied = False
        for ask in asks:
            on_failure = ask.limiter.on_failure
            if on_failure == "local":
                limiter, algorithm, key, cost = ask
                local.append(Ask(limiter, self._part(algorithm), key, cost))
            elif on_failure == "deny":
                denied = True
        if not local:
            return Outcome(not denied, [None] * len(asks), 0.0, True)
        if denied:
            local = [ask._replace(cost=0) for ask in local]
        outcome = self._local.decide(local)
        if len(local) == len(asks):
            return Outcome(outcome.admitted, outcome.taken, outcome.delay, True)
        rest = iter(outcome.taken)
        taken: list[Taken | None] = [
            next(rest) if ask.limiter.on_failure == "local" else None for ask in asks
        ]
        if denied:
            return Outcome(False, taken, 0.0, True)
        return Outcome(outcome.admitted, taken, outcome.delay, True)

    def charge(self, known: Known, ask: Ask, units: int) -> None:
        """The store granted these units to this gateway: they are taken of its part.

        What is more than is left of that is a debt, no larger than all of it.
        """
        due = units + known.debt
        if ask.limiter.on_failure != "local" or not due:
            return
        part = self._part(ask.algorithm)
        ask = Ask(ask.limiter, part, ask.key, due)
        taken = self._local.decide((ask,)).taken[0]
        if taken is not None and taken.wait:
            if taken.remaining:
                self._local.decide((ask._replace(cost=taken.remaining),))
            due = min(due - taken.remaining, part.limit)
        else:
            due = 0
        known.debt = due

    def _part(self, algorithm: Algorithm) -> Algorithm:
        """This gateway's part of a limit."""
        count = max(self._gateways.count, 1)
        if count == 1:
            return algorithm
        if count != self._scaled_for or len(self._scaled) >= _MOST_SCALED:
            self._scaled.clear()
            self._scaled_for = count
        known = self._scaled.get(id(algorithm))
        if known is None:
            known = self._scaled[id(algorithm)] = (algorithm, algorithm.scaled(1.0 / count))
        return known[1]

    def __repr__(self) -> str:
        return f"<Degraded 1/{self._gateways.count} of {self._local!r}>"
