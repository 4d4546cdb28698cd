"""Commands, scripts and messages on a link to a Redis that is well."""

from __future__ import annotations

import pytest_twisted

from rtgateway.store.redis.script import Script
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually
from tests.store.conftest import MakeLink

ADD = Script("add", "return {redis.call('INCRBY', KEYS[1], ARGV[1]), 'x'}")


@pytest_twisted.ensureDeferred
async def test_commands_and_scripts_are_answered(redis: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis)
    assert not link.up
    await eventually(lambda: link.up)
    assert await link.ask("SET", link.key("a", b"b"), 1.5) == b"OK"
    assert await link.ask(b"GET", b"{rtgateway}:a:b") == b"1.5"
    assert await link.run(ADD, [b"{rtgateway}:n"], [5]) == [5, b"x"]
    assert await link.run(ADD, [b"{rtgateway}:n"], [5], timeout=1.0) == [10, b"x"]


@pytest_twisted.ensureDeferred
async def test_messages_are_heard(redis: RedisServer, make_link: MakeLink) -> None:
    link, other = make_link(redis), make_link(redis)
    heard: list[bytes] = []
    connected: list[bool] = []
    link.on_connected(lambda: connected.append(link.up))
    link.subscribe(link.key("events"), heard.append)
    await eventually(lambda: connected and other.up)
    assert await other.publish(link.key("events"), b"hello") == 1
    await eventually(lambda: heard == [b"hello"])
    assert connected == [True]
