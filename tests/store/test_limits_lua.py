"""The scripts and the algorithms in Python say the same, to the last bit, whatever is asked."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgateway.core.limits import (
    Algorithm,
    FixedWindow,
    SlidingLog,
    SlidingWindow,
    State,
    Taken,
    TokenBucket,
)
from rtgateway.store.limits.asked import Ask
from rtgateway.store.limits.redis import RedisLimits
from rtgateway.testing.redis import RedisServer
from tests.store.limit_cases import (
    ALGORITHMS,
    NOW,
    PAUSES,
    TEN,
    BlockingLink,
    Lasting,
    Limit,
    algorithms,
)

__all__: list[str] = []

LIMIT = Limit("twin", TokenBucket(1, 1))
"""Its algorithm is that of each ask."""

TRACES = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class Step(NamedTuple):
    """A call: after ``pause`` seconds, with the quota of this number."""

    pause: float
    quota: int
    cost: int
    want: int
    back: bool
    """``want`` units are given back; nothing is taken."""


STEPS = st.lists(
    st.builds(
        Step,
        PAUSES,
        st.integers(0, 2),
        st.one_of(st.sampled_from([0, 1, 1, 1]), st.integers(0, 50)),
        st.one_of(st.just(0), st.integers(0, 50)),
        st.integers(0, 4).map(lambda n: n == 0),
    ),
    max_size=25,
)


class Twins:
    """Redis and, beside it, the same keys in a dict decided by the algorithms in Python."""

    def __init__(self, link: BlockingLink) -> None:
        link.command("FLUSHDB")
        self.link = link
        self.now = NOW
        self.limits = RedisLimits(cast(Any, link), lambda: self.now)
        self.states: dict[str, State | None] = {}
        # The algorithm that asked last.
        self.kinds: dict[str, str] = {}

    def take(self, asked: Sequence[tuple[Algorithm, str, int, int]]) -> list[Taken]:
        """Both are asked for (algorithm, key, cost, want), and have to agree."""
        states = dict(self.states)
        takes = []
        for algorithm, key, cost, want in asked:
            takes.append(algorithm.take(states.get(key), cost, want, self.now))
            if not takes[-1].wait:
                states[key] = takes[-1].state
        if any(take.wait for take in takes):
            takes = [
                take
                if take.wait
                else asked[i][0].take(self.states.get(asked[i][1]), 0, 0, self.now)
                for i, take in enumerate(takes)
            ]
        else:
            self.states = states
        self.kinds |= {key: algorithm.name for algorithm, key, _, _ in asked}
        expected = [take._replace(state=None) for take in takes]
        asks = [Ask(LIMIT, Lasting(algorithm), key, cost) for algorithm, key, cost, _ in asked]
        answers: list[Any] = []
        self.limits.ask(asks, [each[3] for each in asked], lambda *answer: answers.append(answer))
        assert answers == [(expected, None)]
        self.check()
        return expected

    def give_back(self, algorithm: Algorithm, key: str, units: int) -> None:
        """Both get ``units`` back."""
        self.kinds[key] = algorithm.name
        self.states[key] = algorithm.give_back(self.states.get(key), units, self.now)
        answers: list[Any] = []
        item = (LIMIT, Lasting(algorithm), key, units)
        self.limits.give_back([item], lambda *answer: answers.append(answer))
        assert answers in ([(0, None)], [(1, None)])
        self.check()

    def check(self) -> None:
        """The same is remembered."""
        for key, state in self.states.items():
            assert self.stored(key) == state

    def stored(self, key: str) -> State | None:
        """What Redis has of a key, as Python would have it."""
        whole = self.link.key("limit", LIMIT.name, key)
        if self.link.command("TYPE", whole) == b"list":
            times = [float(at) for at in self.link.command("LRANGE", whole, 0, -1)]
            return struct.pack("d" * len(times), *times)
        value = self.link.command("GET", whole)
        if value is None:
            return None
        numbers = [float(number) for number in value.split()]
        if self.kinds[key] == "sliding_window":
            start, previous, current = numbers
            if max(previous, current) < 2**26:
                return complex(start, previous * 2**26 + current)
            return struct.pack("3d", start, previous, current)
        return complex(*numbers) if len(numbers) > 1 else numbers[0]


@pytest.fixture
def link(redis: RedisServer) -> Iterator[BlockingLink]:
    link = BlockingLink(redis)
    yield link
    link.close()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_one_key(name: str, link: BlockingLink) -> None:
    """Costs, wants and times at random, quotas that change, units given back."""

    @TRACES
    @given(st.lists(ALGORITHMS[name], min_size=3, max_size=3), STEPS)
    def run(quotas: list[Algorithm], steps: list[Step]) -> None:
        twins = Twins(link)
        for step in steps:
            twins.now += step.pause
            quota = quotas[step.quota]
            if step.back:
                twins.give_back(quota, "k", step.want)
            else:
                twins.take([(quota, "k", step.cost, step.want)])

    run()


@pytest.mark.parametrize("kind", [FixedWindow, SlidingWindow])
def test_large_counts(kind: Callable[[int, float], Algorithm], link: BlockingLink) -> None:
    """Two of them that do not fit into one float, too."""
    units = st.one_of(st.just(0), st.integers(1, 3), st.integers(0, 10**9))

    @TRACES
    @given(st.lists(st.tuples(st.floats(0, 15), units, units, st.booleans()), max_size=15))
    def run(calls: list[tuple[float, int, int, bool]]) -> None:
        twins = Twins(link)
        algorithm = kind(10**9, 10.0)
        for pause, cost, want, back in calls:
            twins.now += pause
            twins.take([(algorithm, "k", cost, want)])
            if back:
                twins.give_back(algorithm, "k", want)

    run()


def test_one_key_twice(link: BlockingLink) -> None:
    """Several asks about one key take of it one after the other, or nothing of it."""
    asks = st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 9)), min_size=1, max_size=4
    )

    @TRACES
    @given(
        st.lists(algorithms, min_size=2, max_size=2), st.lists(st.tuples(PAUSES, asks), max_size=20)
    )
    def run(quotas: list[Algorithm], steps: list[tuple[float, list[tuple[int, int, int]]]]) -> None:
        twins = Twins(link)
        for pause, asked in steps:
            twins.now += pause
            twins.take([(quotas[n], f"k{n}", cost, want) for n, cost, want in asked])

    run()


def test_nothing_counts(link: BlockingLink) -> None:
    """A window in which all was given back needs no time, wherever the clock goes."""
    twins = Twins(link)
    window = SlidingWindow(10, 10.0)
    twins.take([(window, "k", 1, 4)])
    twins.give_back(window, "k", 5)
    for step in (-5.0, 5.0, 5.0):
        twins.now += step
        [taken] = twins.take([(window, "k", 0, 0)])
        assert taken[:3] == (0.0, 10, 0.0)


def test_several_keys(link: BlockingLink) -> None:
    """All of them admit, or nothing is written for any."""
    costs = st.lists(st.integers(0, 8), min_size=5, max_size=5)

    @TRACES
    @given(
        st.lists(algorithms, min_size=1, max_size=5),
        st.lists(st.tuples(PAUSES, costs, st.integers(0, 9)), max_size=20),
    )
    def run(asked: list[Algorithm], steps: list[tuple[float, list[int], int]]) -> None:
        twins = Twins(link)
        for pause, costs, want in steps:
            twins.now += pause
            twins.take([(each, f"k{i}", costs[i], want) for i, each in enumerate(asked)])

    run()


def test_long_logs(link: BlockingLink) -> None:
    """As many units as a log may hold, all at once and one by one."""
    log = SlidingLog(1000, 10.0)
    for cost in (1000, 7):
        twins = Twins(link)
        for _ in range(300):
            twins.take([(log, "k", cost, 0)])
            twins.now += 0.05


@pytest.mark.parametrize("old", ALGORITHMS)
@pytest.mark.parametrize("new", ALGORITHMS)
def test_another_algorithm(old: str, new: str, link: BlockingLink) -> None:
    """What another kind of algorithm left of a key counts as none, and is replaced."""
    twins = Twins(link)
    before, after = TEN[old], TEN[new]
    twins.take([(before, "k", 3, 0)])
    taken: list[Any] = []
    ask = Ask(LIMIT, Lasting(after), "k", 1)
    twins.limits.give_back([(LIMIT, Lasting(after), "k", 0)], lambda *_: None)
    twins.limits.ask([ask], [0], lambda *answer: taken.append(answer))
    schedules = {"token_bucket", "leaky_bucket", "gcra", "shaper"}
    same = old == new or {old, new} <= schedules
    assert taken[0][0][0].remaining == (6 if same else 9)
    assert link.command("PTTL", link.key("limit", "twin", "k")) > 0
    twins.kinds["k"] = new
    twins.states["k"] = twins.stored("k")
    twins.take([(after, "k", 2, 0)])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_expiry(name: str, link: BlockingLink) -> None:
    """A key is forgotten after the horizon of its algorithm, counted from the last unit taken."""
    algorithm = TEN[name]
    limits = RedisLimits(cast(Any, link))
    key = link.key("limit", "twin", "k")
    horizon = {"fixed_window": 60_000, "sliding_window": 120_000, "sliding_log": 60_000}
    full = horizon.get(name, 10_000)

    def ask(cost: int) -> bool:
        answers: list[Any] = []
        limits.ask([Ask(LIMIT, algorithm, "k", cost)], [0], lambda *each: answers.append(each[0]))
        return not answers[0][0].wait

    def left() -> int:
        milliseconds: int = link.command("PTTL", key)
        return milliseconds

    assert ask(0)
    assert left() == -2, "a look leaves nothing"
    assert ask(4)
    assert full - 2000 < left() <= full + 1
    link.command("PEXPIRE", key, 5000)
    assert ask(4)
    assert full - 2000 < left() <= full + 1
    link.command("PEXPIRE", key, 5000)
    assert not ask(4)
    assert ask(0)
    assert left() <= 5000, "neither a refusal nor a look lets it last longer"
    limits.give_back([(LIMIT, algorithm, "k", 2)], lambda *_: None)
    assert (left() > 5000) == (name not in ("shaper", "sliding_log"))


def test_expired(link: BlockingLink) -> None:
    """It is gone then."""
    limits = RedisLimits(cast(Any, link))
    limits.ask([Ask(LIMIT, TokenBucket(1, 50), "k", 1)], [0], lambda *_: None)
    deadline = time.monotonic() + 10
    while link.command("EXISTS", link.key("limit", "twin", "k")):
        assert time.monotonic() < deadline
    assert link.command("DBSIZE") == 0


def test_time(link: BlockingLink) -> None:
    """It is that of the server, since a day in 2025."""

    def now() -> float:
        seconds, micros = link.command("TIME")
        return int(seconds) - 1_750_000_000 + int(micros) / 1e6

    before = now()
    ask = Ask(LIMIT, FixedWindow(5, 100.0), "k", 1)
    RedisLimits(cast(Any, link)).ask([ask], [0], lambda *_: None)
    ends, count = map(float, link.command("GET", link.key("limit", "twin", "k")).split())
    assert before <= ends - 100.0 <= now()
    assert count == 1
