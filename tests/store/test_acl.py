"""The ACL user of the documentation may do all that the gateway does, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest
import pytest_twisted

from rtgateway import config
from rtgateway.core.breaker_messages import Message, Rules
from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.limits import (
    FixedWindow,
    Gcra,
    LeakyBucket,
    Shaper,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from rtgateway.store.breakers import Said
from rtgateway.store.limits.asked import Ask
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually, soon, the_reactor
from tests.store.limit_cases import Limit

DOCS = Path(__file__).parents[2] / "docs"
PASSWORD = "a-long-random-password"
ALGORITHMS = (
    TokenBucket(10, 1.0),
    Gcra(10, 1.0, 10),
    LeakyBucket(10, 1.0),
    Shaper(10.0, 5),
    FixedWindow(10, 60.0),
    SlidingWindow(10, 60.0),
    SlidingLog(2, 60.0),
)


def _line() -> str:
    """The user, as the documentation has it."""
    line = re.search(r"^ACL SETUSER (.*)$", (DOCS / "state.md").read_text(), re.MULTILINE)
    assert line is not None
    return line[1]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server with that user, and a password for the other one."""
    started = RedisServer(password="other", users=[_line()]).start()
    yield started
    started.kill()
    started.stop()


@pytest_twisted.ensureDeferred
async def test_all_that_is_done(server: RedisServer) -> None:
    from rtgateway.store.redis.bans import RedisBans
    from rtgateway.store.redis.build import RedisStores

    settings = config.from_dict(
        {
            "state": {"url": server.url_as("rtgateway", PASSWORD, db=3), "timeout": 5},
            "penalties": {"refusals": 2},
        }
    )
    stores = RedisStores(settings, the_reactor())
    stores.start(lambda: None)
    link = stores.link
    assert link is not None
    bans = stores.bans
    assert isinstance(bans, RedisBans)
    await eventually(lambda: link.up and bans.replica.in_step)
    await _limits(stores, server)
    await _copies(stores)
    await _breakers(stores)
    await stores.stop()
    assert {key for key in link.failures if key[1] == "refused"} == set()
    assert server.command("ACL", "LOG") == []
    keys = server.command("EVAL", "redis.call('SELECT', 3) return redis.call('KEYS', '*')", 0)
    assert len(keys) > 8
    assert all(key.startswith(b"{rtgateway}:") for key in keys)
    used = re.findall(rb"cmdstat_(\w+)", server.command("INFO", "commandstats"))
    allowed = re.findall(r" \+([a-z]+)", _line())
    assert set(allowed) - {word.decode() for word in used} == set()


@pytest_twisted.ensureDeferred
async def test_nothing_else(server: RedisServer) -> None:
    from rtgateway.store.errors import StoreError
    from rtgateway.store.redis.link import Link

    state = config.State.model_validate({"url": server.url_as("rtgateway", PASSWORD)})
    link = Link(state, the_reactor(), lambda: 0.5)
    link.start()
    await eventually(lambda: link.up)
    refused: tuple[tuple[Any, ...], ...] = (
        ("GET", "other"),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, "other"),
        ("PUBLISH", "other", "x"),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
    )
    for command in refused:
        with pytest.raises(StoreError) as caught:
            await link.ask(*command)
        assert caught.value.reason == "refused", command
    await link.stop()


async def _limits(stores: Any, server: RedisServer) -> None:
    """Every algorithm: admitted, refused, given back, reset."""
    from rtgateway.store.limits.redis import RedisLimits

    asks = [
        Ask(cast("Any", Limit(algorithm.name, algorithm)), algorithm, "ip:192.0.2.7", 1)
        for algorithm in ALGORITHMS
    ]
    redis = RedisLimits(stores.link)
    answers: list[tuple[Any, Any]] = []

    def done(answer: Any, error: Any) -> None:
        answers.append((answer, error))

    for ask in asks:
        for _ in range(3):
            redis.ask([ask], [0], done)
    redis.ask(asks, [1] * len(asks), done)
    redis.give_back([(each.limiter, each.algorithm, each.key, 1) for each in asks], done)
    redis.reset([asks[1].limiter], asks[1].key, done)
    await eventually(lambda: len(answers) == 3 * len(asks) + 3)
    # A log that is asked now and then loses entries while it has others.
    short = SlidingLog(1000, 0.5)
    ask = Ask(cast("Any", Limit("short", short)), short, "ip:192.0.2.7", 1)
    asked = len(answers)
    while b"cmdstat_ltrim" not in server.command("INFO", "commandstats"):
        redis.ask([ask], [0], done)
        asked += 1
        assert asked < 500
        await soon(0.05)
    await eventually(lambda: len(answers) == asked)
    assert {error for _, error in answers} == {None}
    assert await redis.reset_matching([ask.limiter], "ip:", str.isascii) == 1
    # The log of 2 refused one of three, and then held up the whole.
    decisions = [answer for answer, _ in answers if isinstance(answer, list)]
    assert sum(any(each.wait for each in answer) for answer in decisions) == 2


async def _copies(stores: Any) -> None:
    """Bans by refusals and by operators, lists, and limiters."""
    for _ in range(2):
        stores.bans.refused("ip:192.0.2.7")
    await eventually(lambda: _ticked(stores) and len(stores.bans) == 1)
    await stores.bans.ban("identity:alice", 60.0, "tests")
    await stores.bans.lift("ip:192.0.2.7")
    await stores.ip_lists.add("deny", ["192.0.2.0/24"])
    await stores.ip_lists.remove("deny", ["192.0.2.0/24"])
    await stores.ip_lists.add("allow", ["192.0.2.0/24"])
    await stores.changes.set("a", {"capacity": 3}, True)


def _ticked(stores: Any) -> bool:
    stores.tick(monotonic())
    return True


async def _breakers(stores: Any) -> None:
    """Everything that is said of a circuit: it opens, is probed, and closes."""
    from rtgateway.store.redis.breakers import RedisKeeper

    keeper = RedisKeeper(stores.link)
    settings_ = BreakerSettings(failure_threshold=1, success_threshold=1, timeout=0.05, jitter=0.0)
    rules = Rules.of(settings_)
    version = born = 0
    for message in (
        Message("look"),
        Message("report", a=1, b=1, d=1),
        Message("grant", grant="one", a=0.01),
        Message("renew", grant="one"),
        Message("settle", grant="one", a=1.0),
        Message("claim", a=1.0, b=1.0, word="tests"),
        Message("order", word="forced_open"),
    ):
        await soon(0.06)
        answers: list[Any] = []
        said = message._replace(version=version, born=born)
        keeper.ask("here", [Said("users 10.0.0.7:1", rules, 0.5, said)], answers.append)
        await eventually(lambda answers=answers: bool(answers))  # type: ignore[misc]
        assert answers[0] is not None, message
        version, born = answers[0][0].version, answers[0][0].born
    assert answers[0][0].state == "forced_open"
