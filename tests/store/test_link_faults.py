"""What calls get, and how soon, while Redis is refused, killed, stopped, restarted or slow."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted

from rtgateway.store.errors import StoreError
from rtgateway.store.redis.script import Script
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually, soon, the_reactor, within
from tests.store.conftest import MakeLink

if TYPE_CHECKING:
    from rtgateway.store.redis.link import Link

INCREASE = Script("increase", "return redis.call('INCR', KEYS[1])")
SLACK = 1.0
"""Seconds by which a busy machine may be late."""


class Calls:
    """Calls of one link, and what came of each: the reply or a reason, and after how long."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.made = 0
        self.outcomes: dict[int, Any] = {}
        self.longest = 0.0

    def make(self, count: int = 1) -> None:
        for number in range(self.made, self.made + count):
            self.made += 1
            self._make(number)

    def _make(self, number: int) -> None:
        began = the_reactor().seconds()

        def done(reply: Any, error: StoreError | None) -> None:
            assert number not in self.outcomes, "called twice"
            self.outcomes[number] = reply if error is None else error.reason
            self.longest = max(self.longest, the_reactor().seconds() - began)

        self.link.call(("ECHO", number), done)

    async def over(self) -> Counter[str]:
        """How many got which reason, or ``ok`` for their own reply."""
        await eventually(lambda: len(self.outcomes) == self.made)
        return Counter(
            "ok" if outcome == b"%d" % number else outcome
            for number, outcome in self.outcomes.items()
        )


def names_of(server: RedisServer) -> set[str]:
    """The connections of gateways that a server knows."""
    lines = server.cli("CLIENT", "LIST").splitlines()
    return {line.partition(" ")[0] for line in lines if "name=rtgateway" in line}


async def back_within(link: Link, seconds: float) -> None:
    began = the_reactor().seconds()
    await eventually(lambda: link.up)
    assert the_reactor().seconds() - began < seconds + SLACK


@pytest_twisted.ensureDeferred
async def test_refused(redis_server: RedisServer, make_link: MakeLink, logged: list[str]) -> None:
    redis_server.kill()
    link = make_link(redis_server)
    await eventually(lambda: [line for line in logged if "Connection refused" in line])
    await soon(0.5)
    calls = Calls(link)
    calls.make(3)
    assert calls.outcomes == {0: "down", 1: "down", 2: "down"}
    assert link.failures == {("echo", "down"): 3}
    assert link.failing_since > 0.0
    assert len([line for line in logged if "Connection refused" in line]) == 1
    with pytest.raises(StoreError, match="Connection refused"):
        await link.ask("PING")
    redis_server.start()
    await back_within(link, 2.0)
    assert link.failing_since == 0.0
    assert await link.ask("PING") == b"PONG"


@pytest_twisted.ensureDeferred
async def test_killed_with_calls_in_flight(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server, timeout="5s")
    await eventually(lambda: link.up)
    redis_server.pause()
    calls = Calls(link)
    calls.make(300)
    assert not calls.outcomes
    redis_server.kill()
    assert await calls.over() == {"lost": 300}
    assert link.failures[("echo", "lost")] == 300
    assert calls.longest < SLACK
    await eventually(lambda: not link.up)
    redis_server.start()
    await back_within(link, 2.0)


@pytest_twisted.ensureDeferred
async def test_one_connection_lost_is_not_the_end(redis: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis, connections=2)
    await eventually(lambda: len(names_of(redis)) == 2)
    await eventually(lambda: link.up)
    victim = min(names_of(redis)).removeprefix("id=")
    assert redis.cli("CLIENT", "KILL", "ID", victim) == "1"
    calls = Calls(link)
    while len(calls.outcomes) < 50 or len(names_of(redis)) < 2:
        calls.make()
        await soon()
        assert link.up
    counted = await calls.over()
    assert counted["lost"] <= 2
    assert counted["ok"] >= 48
    assert set(counted) <= {"lost", "ok"}


@pytest_twisted.ensureDeferred
async def test_stopped_for_a_moment(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server)
    await eventually(lambda: link.up)
    await eventually(lambda: len(names_of(redis_server)) == 2)
    connections = names_of(redis_server)
    calls = Calls(link)
    redis_server.pause()
    calls.make(64)
    assert await calls.over() == {"timeout": 64}
    assert 0.045 < calls.longest < 0.05 + SLACK
    assert not link.up
    # By now nothing is sent, and nothing waits.
    calls.make(1000)
    assert len(calls.outcomes) == 1064
    await soon(0.5)
    redis_server.resume()
    await back_within(link, 2.0)
    after = Calls(link)
    after.make(64)
    assert await after.over() == {"ok": 64}
    assert names_of(redis_server) == connections


@pytest_twisted.ensureDeferred
async def test_stopped_with_one_call_after_the_other(
    redis_server: RedisServer, make_link: MakeLink
) -> None:
    link = make_link(redis_server, connections=2)
    await eventually(lambda: len(names_of(redis_server)) == 2)
    await eventually(lambda: link.up)
    redis_server.pause()
    # On each connection more than one, when a late reply is waited for there.
    for _ in range(6):
        calls = Calls(link)
        calls.make()
        await calls.over()
        assert calls.longest < 0.05 + SLACK
    assert not link.up


@pytest_twisted.ensureDeferred
async def test_stopped_until_connections_are_given_up(
    redis_server: RedisServer, make_link: MakeLink, logged: list[str]
) -> None:
    link = make_link(redis_server)
    heard: list[bytes] = []
    link.subscribe(b"events", heard.append)
    await eventually(lambda: link.up)
    redis_server.pause()
    calls = Calls(link)
    calls.make(3)
    assert await calls.over() == {"timeout": 3}
    began = the_reactor().seconds()
    while the_reactor().seconds() - began < 3.5:
        calls.make()
        await soon(0.01)
    assert not link.up
    assert set(calls.outcomes.values()) == {"timeout", "down"}
    assert any("no answer" in line or "nothing came in time" in line for line in logged)
    redis_server.resume()
    await back_within(link, 2.0)
    await eventually(lambda: redis_server.cli("PUBSUB", "NUMSUB", "events") == "events\n1")
    await link.ask("PUBLISH", b"events", b"x")
    await eventually(lambda: heard == [b"x"])


@pytest_twisted.ensureDeferred
async def test_restarted(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server)
    heard: list[bytes] = []
    connected: list[bool] = []
    link.on_connected(lambda: connected.append(link.up))
    for channel in (b"a", b"b"):
        link.subscribe(channel, heard.append)
    await eventually(lambda: connected)
    assert await link.run(INCREASE, [b"n"], []) == 1
    redis_server.restart()
    await eventually(lambda: len(connected) > 1 and link.up)
    assert all(connected)
    # Scripts and data are gone; all who ask at once are answered, and the text is sent once.
    answers = [link.run(INCREASE, [b"n"], []) for _ in range(200)]
    assert [await within(answer) for answer in answers] == list(range(1, 201))
    commands = redis_server.cli("INFO", "commandstats")
    assert "cmdstat_eval:calls=1," in commands
    for channel in (b"a", b"b"):
        assert await link.ask("PUBLISH", channel, channel) == 1
    await eventually(lambda: heard == [b"a", b"b"])


@pytest_twisted.ensureDeferred
async def test_scripts_flushed_between(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server)
    await eventually(lambda: link.up)
    for expected in range(1, 4):
        redis_server.cli("SCRIPT", "FLUSH")
        assert await link.run(INCREASE, [b"n"], []) == expected


@pytest_twisted.ensureDeferred
async def test_slow_for_a_while(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server, connections=1)
    await eventually(lambda: link.up)
    connections = names_of(redis_server)
    redis_server.cli("CLIENT", "PAUSE", 300)
    calls = Calls(link)
    calls.make(10)
    assert await calls.over() == {"timeout": 10}
    assert calls.longest < 0.05 + SLACK
    await back_within(link, 2.0)
    again = Calls(link)
    again.make(10)
    # Late replies have come before these, on the same connection.
    assert await again.over() == {"ok": 10}
    assert names_of(redis_server) == connections


@pytest_twisted.ensureDeferred
async def test_replies_find_their_calls_on_a_slow_server(
    redis_server: RedisServer, make_link: MakeLink
) -> None:
    link = make_link(redis_server, timeout="15ms", connections=2)
    await eventually(lambda: link.up)
    calls = Calls(link)
    for turn in range(60):
        if turn % 6 == 0:
            asleep = link.ask("DEBUG", "SLEEP", 0.008 * (1 + turn % 5), timeout=5.0)
            asleep.addErrback(lambda failure: failure.trap(StoreError))
        calls.make(5)
        await soon(0.004)
    counted = await calls.over()
    assert set(counted) <= {"ok", "timeout", "down"}


@pytest_twisted.ensureDeferred
async def test_a_long_wait_where_it_is_asked_for(
    redis_server: RedisServer, make_link: MakeLink
) -> None:
    link = make_link(redis_server)
    await eventually(lambda: link.up)
    assert await link.ask("DEBUG", "SLEEP", 0.15, timeout=10.0) == b"OK"
    with pytest.raises(StoreError) as caught:
        await link.ask("DEBUG", "SLEEP", 0.3, timeout=0.01)
    assert caught.value.reason == "timeout"


@pytest_twisted.ensureDeferred
async def test_cancelled_questions(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server, timeout="5s", connections=1)
    await eventually(lambda: link.up)
    redis_server.pause()
    asked = [link.ask("ECHO", n, timeout=None if n % 2 else 5.0) for n in range(10)]
    for each in asked[::3]:
        each.addErrback(lambda failure: b"cancelled")
        each.cancel()
    redis_server.resume()
    answers = [await within(each) for each in asked]
    assert answers == [b"%d" % n if n % 3 else b"cancelled" for n in range(10)]


@pytest_twisted.ensureDeferred
async def test_too_many_in_flight(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server, connections=2, timeout="10s")
    await eventually(lambda: len(names_of(redis_server)) == 2)
    await eventually(lambda: link.up and "2 connections" in repr(link))
    redis_server.pause()
    calls = Calls(link)
    calls.make(2100)
    assert list(calls.outcomes.values()) == ["busy"] * 52
    redis_server.resume()
    assert await calls.over() == {"busy": 52, "ok": 2048}


@pytest_twisted.ensureDeferred
async def test_errors_are_answers(
    redis_server: RedisServer, make_link: MakeLink, logged: list[str]
) -> None:
    link = make_link(redis_server)
    await eventually(lambda: link.up)
    await link.ask("SET", "text", "a")
    for _ in range(5):
        with pytest.raises(StoreError, match="not an integer") as caught:
            await link.ask("INCR", "text")
        assert caught.value.reason == "refused"
    assert link.up
    assert link.failures == {("incr", "refused"): 5}
    assert len([line for line in logged if "refuses incr" in line]) == 1


@pytest_twisted.ensureDeferred
async def test_stopped_with_calls_in_flight(redis_server: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis_server, timeout="5s")
    link.subscribe(b"events", lambda payload: None)
    await eventually(lambda: link.up)
    redis_server.pause()
    calls = Calls(link)
    calls.make(10)
    await within(link.stop())
    assert await calls.over() == {"lost": 10}
    calls.make()
    assert calls.outcomes[10] == "down"
    redis_server.resume()
    await eventually(lambda: not names_of(redis_server))


@pytest_twisted.ensureDeferred
async def test_what_fails_when_it_is_answered_harms_nobody_else(
    redis: RedisServer, make_link: MakeLink, logged: list[str]
) -> None:
    link = make_link(redis, connections=1)
    await eventually(lambda: link.up)

    def bad(reply: Any, error: StoreError | None) -> None:
        raise RuntimeError("a bug")

    link.call(("PING",), bad)
    assert await link.ask("ECHO", "x") == b"x"
    assert [line for line in logged if "What waited for" in line]
