"""Redis behind Sentinels: found, lost, and found again where they say it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import pytest_twisted
from hiredis import ReplyError
from twisted.logger import capturedLogs, formatEvent

from rtgateway.store.errors import StoreError
from rtgateway.store.redis.script import Script
from rtgateway.testing.redis import RedisServer, StartRedis, Watched
from rtgateway.testing.waiting import eventually, soon, the_reactor
from tests.store.conftest import MakeLink
from tests.store.links import port_of

INCREASE = Script("increase", "return redis.call('INCR', KEYS[1])")


class Three(NamedTuple):
    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    def settings(self, **more: Any) -> dict[str, Any]:
        nodes = [f"127.0.0.1:{self.sentinel.port}"]
        return {"sentinel": {"nodes": nodes, "master": "limits"}, **more}

    def master_port(self) -> str:
        """Where the Sentinel says that the master is."""
        return self.sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "limits").split()[1]


async def three(
    start_redis: StartRedis, password: str | None = None, own: str | None = None
) -> Three:
    """A master, a replica that follows it, and a Sentinel that knows both."""
    master = start_redis(password=password)
    replica = start_redis(replica_of=master, password=password)
    await eventually(lambda: "state=online" in master.cli("INFO", "replication"))
    sentinel = start_redis(sentinel=Watched("limits", master), password=own)
    await eventually(lambda: str(replica.port) in sentinel.cli("SENTINEL", "REPLICAS", "limits"))
    return Three(master, replica, sentinel)


def told_to_fail_over(sentinel: RedisServer) -> bool:
    """A Sentinel does not until it knows well enough how the replica fares."""
    try:
        return sentinel.cli("SENTINEL", "FAILOVER", "limits") == "OK"
    except ReplyError:
        return False


@pytest_twisted.ensureDeferred
async def test_the_master_dies(start_redis: StartRedis, make_link: MakeLink) -> None:
    servers = await three(start_redis, password="geheim", own="auch geheim")
    settings = servers.settings(password="geheim")
    settings["sentinel"]["password"] = "auch geheim"
    link = make_link(None, **settings)
    connected: list[bool] = []
    heard: list[bytes] = []
    link.on_connected(lambda: connected.append(link.up))
    link.subscribe(link.key("events"), heard.append)
    await eventually(lambda: connected)
    assert await port_of(link) == servers.master.port
    assert await link.run(INCREASE, [link.key("n")], []) == 1
    await link.ask("WAIT", 1, 5000, timeout=6.0)
    servers.master.kill()
    await eventually(lambda: not link.up)
    with pytest.raises(StoreError):
        await link.ask("PING")
    await eventually(lambda: servers.master_port() == str(servers.replica.port))
    began = the_reactor().seconds()
    await eventually(lambda: link.up and len(connected) > 1)
    assert the_reactor().seconds() - began < 3.0
    assert await port_of(link) == servers.replica.port
    # What was known there is known here, but for the scripts.
    assert await link.run(INCREASE, [link.key("n")], []) == 2
    assert await link.ask("PUBLISH", link.key("events"), b"x") == 1
    await eventually(lambda: heard == [b"x"])
    assert "geheim" not in repr(link) + repr(link._opening)


@pytest_twisted.ensureDeferred
async def test_the_master_hangs(start_redis: StartRedis, make_link: MakeLink) -> None:
    servers = await three(start_redis)
    link = make_link(None, **servers.settings())
    await eventually(lambda: link.up)
    servers.master.pause()
    for _ in range(3):
        with pytest.raises(StoreError) as caught:
            await link.ask("PING")
        assert caught.value.reason == "timeout"
    await eventually(lambda: link.up)
    assert await port_of(link) == servers.replica.port
    # It comes back, and believes to be the master until it is told otherwise.
    servers.master.resume()
    for _ in range(20):
        assert await port_of(link) == servers.replica.port
        await soon(0.01)


@pytest_twisted.ensureDeferred
async def test_another_one_becomes_the_master(start_redis: StartRedis, make_link: MakeLink) -> None:
    servers = await three(start_redis)
    with capturedLogs() as events:
        link = make_link(None, **servers.settings())
        await eventually(lambda: link.up)
        await eventually(lambda: told_to_fail_over(servers.sentinel))
        await eventually(lambda: servers.master_port() == str(servers.replica.port))
        # The old one is there, and is told some time later that it is a replica.
        await eventually(lambda: link._ready and link._ready[0].where[1] == servers.replica.port)
        await eventually(lambda: link.up)
    named = [line for line in map(formatEvent, events) if " are at " in line]
    assert [line.rpartition(":")[2] for line in named] == [
        str(servers.master.port),
        str(servers.replica.port),
    ]
    assert await port_of(link) == servers.replica.port
    assert await link.run(INCREASE, [b"n"], []) == 1


@pytest_twisted.ensureDeferred
async def test_sentinels_that_are_of_no_use(
    start_redis: StartRedis, make_link: MakeLink, redis: RedisServer
) -> None:
    refuses, hangs, wrong = (
        start_redis(),
        start_redis(),
        start_redis(sentinel=Watched("other", redis)),
    )
    good = start_redis(sentinel=Watched("limits", redis))
    refuses.kill()
    hangs.pause()
    nodes = [f"127.0.0.1:{server.port}" for server in (refuses, hangs, wrong)]
    settings = {"connections": 1, "connect_timeout": "300ms"}
    lost = make_link(None, sentinel={"nodes": nodes, "master": "limits"}, **settings)
    await eventually(lambda: "no sentinel knows" in repr(lost._watch))
    nodes.append(f"127.0.0.1:{good.port}")
    link = make_link(None, sentinel={"nodes": nodes, "master": "limits"}, **settings)
    await eventually(lambda: link.up)
    # The one that knew is asked first from now on.
    assert link._opening._sentinels[0] == ("127.0.0.1", good.port)
    assert await port_of(link) == redis.port
