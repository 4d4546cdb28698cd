"""Eight gateways on one key, in simulated time: how much of the limit is used, and by whom.

Requests arrive at random (Poisson), and a call takes a millisecond there and one back.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import partial
from itertools import count
from random import Random
from typing import Any, NamedTuple

import pytest

from rtgateway.core.limits import TokenBucket
from rtgateway.net.tasks import Waiter
from rtgateway.store.limits.asked import Outcome
from tests.store.limit_model import ALimiter, Clock, Gateway, Gateways, Message, ModelStore, settled

WAY = 0.001
"""Seconds from a gateway to the store, and back."""


class Result(NamedTuple):
    """``admitted`` by each gateway; ``calls`` to the store and ``decisions`` of all."""

    admitted: list[int]
    calls: int
    decisions: int
    over: float

    @property
    def fairness(self) -> float:
        """Jain's index: 1.0 if all got the same, 1/n if one got everything."""
        squares = sum(each * each for each in self.admitted)
        return sum(self.admitted) ** 2 / (len(self.admitted) * squares)


class Simulation:
    """:param rates: requests per second at each gateway."""

    def __init__(self, limit: float, capacity: float, rates: Sequence[float], seconds: float):
        self.clock = Clock(0.0)
        self.store = ModelStore(self.clock)
        self.random = Random(2026)
        self.limiter = ALimiter("api", TokenBucket(capacity, limit))
        self.rates = rates
        self.seconds = seconds
        self.events: list[tuple[float, int, Any]] = []
        self.number = count()
        self.gateways = [Gateway(self.store, self.clock, Gateways(8), settled=False) for _ in rates]
        self.admitted = [0] * len(rates)
        self.decisions = 0
        self.waiting: list[tuple[int, Outcome | Waiter[Outcome]]] = []

    def at(self, when: float, what: Any) -> None:
        heapq.heappush(self.events, (when, next(self.number), what))

    def run(self) -> Result:
        for i, rate in enumerate(self.rates):
            self.gateways[i].calls.at_once = False
            if rate:
                self.at(self.random.expovariate(rate), partial(self.request, i))
            self.at(0.1, partial(self.tick, i))
        while self.events and self.events[0][0] <= self.seconds:
            self.clock.now, _, what = heapq.heappop(self.events)
            what()
        calls = sum(each.calls.asked for each in self.gateways)
        total = sum(self.admitted)
        limit = self.limiter.algorithm.rate * self.seconds
        return Result(self.admitted, calls, self.decisions, total / limit)

    def request(self, i: int) -> None:
        self.at(self.clock.now + self.random.expovariate(self.rates[i]), partial(self.request, i))
        self.decisions += 1
        outcome = self.gateways[i].begin(self.limiter.ask())
        self.post(i)
        if isinstance(outcome, Outcome):
            self.admitted[i] += outcome.admitted
        else:
            self.waiting.append((i, outcome))

    def post(self, i: int) -> None:
        messages = self.gateways[i].calls.messages
        while messages:
            self.at(self.clock.now + WAY, partial(self.execute, i, messages.pop()))

    def execute(self, i: int, message: Message) -> None:
        message.execute(self.clock.now)
        self.at(self.clock.now + WAY, partial(self.answer, i, message))

    def answer(self, i: int, message: Message) -> None:
        message.answer()
        self.post(i)
        still = []
        for j, waiter in self.waiting:
            outcome = settled(waiter)
            if outcome is None:
                still.append((j, waiter))
            else:
                self.admitted[j] += outcome.admitted
        self.waiting = still

    def tick(self, i: int) -> None:
        self.gateways[i].limits.tick(self.clock.now)
        self.post(i)
        self.at(self.clock.now + 0.1, partial(self.tick, i))


def simulate(limit: float, rates: Sequence[float], seconds: float, settled: bool = False) -> Result:
    """A limit per second, with as much at once."""
    simulation = Simulation(limit, limit, rates, seconds)
    if settled:
        for gateway in simulation.gateways:
            gateway.limits._leases._from = 0.0
    result = simulation.run()
    assert sum(result.admitted) <= limit * seconds + limit
    return result


EVEN = [10.0 / 8] * 8
ONE = [10.0] + [0.0] * 7
STEEP = [10.0 * 2 ** -(i + 1) for i in range(8)]


@pytest.mark.parametrize("limit", [5, 100, 1000])
@pytest.mark.parametrize("shares", [EVEN, ONE, STEEP], ids=["even", "one", "steep"])
def test_limit_is_used(limit: int, shares: Sequence[float]) -> None:
    """Ten times the limit: 95 % of it is admitted at least, and of an even demand all get alike."""
    seconds = 60.0 if limit < 1000 else 6.0
    result = simulate(limit, [limit * each for each in shares], seconds)
    assert result.over >= 0.95
    if shares is EVEN:
        assert result.fairness > 0.9 if limit == 5 else 0.98


def test_big_limit() -> None:
    result = simulate(10_000, [10_000 * each / 4 for each in EVEN], 2.0, settled=True)
    assert result.over >= 0.95
    assert result.fairness > 0.98
    assert result.calls < result.decisions / 4


@pytest.mark.parametrize("part", [0.5, 0.8, 0.95])
def test_nobody_within_the_limit_is_refused(part: float) -> None:
    """Units in leases of others are no reason to refuse, for there is enough at once."""
    result = simulate(200, [200 * part / 8] * 8, 30.0)
    assert sum(result.admitted) >= 0.995 * result.decisions
    assert result.calls < result.decisions / 3
