"""Commands, scripts and messages on a link to a Redis that is well."""

from __future__ import annotations

import gc
from functools import partial
from weakref import ref

import pytest_twisted

from rtgateway.observe.durations import SUM, count_of
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
    assert await other.ask("PUBLISH", link.key("events"), b"hello") == 1
    await eventually(lambda: heard == [b"hello"])
    assert connected == [True]


@pytest_twisted.ensureDeferred
async def test_channels_may_come_later_and_have_many_listeners(
    redis: RedisServer, make_link: MakeLink
) -> None:
    link = make_link(redis)
    heard: list[tuple[str, bytes]] = []
    connected: list[int] = []
    link.on_connected(lambda: connected.append(len(connected)))
    await eventually(lambda: connected == [0])

    def hear(name: str, payload: bytes) -> None:
        heard.append((name, payload))

    def bad(payload: bytes) -> None:
        raise RuntimeError("a bug")

    for name in ("a", "b"):
        link.subscribe(b"first", partial(hear, name))
        link.subscribe(b"first", bad)
    await eventually(lambda: connected == [0, 1])
    # Now there is a connection already.
    link.subscribe(b"second", partial(hear, "c"))
    await eventually(lambda: connected == [0, 1, 2])
    await link.ask("PUBLISH", b"first", b"1")
    await link.ask("PUBLISH", b"second", b"2")
    await eventually(lambda: len(heard) == 3)
    assert heard == [("a", b"1"), ("b", b"1"), ("c", b"2")]


@pytest_twisted.ensureDeferred
async def test_what_is_measured(redis: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis)
    await eventually(lambda: link.up)
    for _ in range(3):
        await link.run(ADD, [link.key("n")], [1])
    await link.ask("GET", "a")
    assert set(link.durations) == {"add", "get"}
    assert count_of(link.durations["add"]) == 3
    assert 0 < link.durations["add"][SUM] < 3
    assert link.failures == {}
    assert redis.url.partition("@")[2] in repr(link)


@pytest_twisted.ensureDeferred
async def test_no_connection_is_kept_by_anything(redis: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis, connections=1)
    await eventually(lambda: link.up)
    connection = ref(link._ready[0])
    gc.collect()
    gc.disable()
    try:
        redis.cli("CLIENT", "KILL", "TYPE", "normal")
        # It is gone without a search for cycles: connections may come and go for a long time.
        await eventually(lambda: connection() is None)
    finally:
        gc.enable()
