"""Whole gateways and the places where their Redis may be: limits are shared wherever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme

from rtgateway.testing import eventually
from rtgateway.testing.redis import RedisServer, StartRedis, Watched, speaks_tls
from tests.e2e.faulty import SLACK, Load, degraded, eventually_new, left, limited, link_of
from tests.e2e.test_rate_limits import asked, bucket
from tests.e2e.world import World

__all__: list[str] = []

SECRET = "p@ss/word"
ALLOWED = "~{rtgateway}:* resetchannels &{rtgateway}:* +@all -@dangerous +role"

Place = Callable[[StartRedis, Path], dict[str, Any]]


def over_tls(start_redis: StartRedis, folder: Path) -> dict[str, Any]:
    """Both sides show a certificate."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    names = {"redis": "127.0.0.1", "gateway": "gateway.test"}
    for file, name in names.items():
        leaf = authority.issue_cert(name)
        leaf.cert_chain_pems[0].write_to_path(folder / f"{file}.pem")
        leaf.private_key_pem.write_to_path(folder / f"{file}.key")
    server = start_redis(
        tls=(folder / "redis.pem", folder / "redis.key", folder / "ca.pem"),
        options=["tls-auth-clients yes"],
    )
    files = {"ca": "ca.pem", "certificate": "gateway.pem", "key": "gateway.key"}
    return {"url": server.url, "tls": {key: str(folder / file) for key, file in files.items()}}


def as_a_user(start_redis: StartRedis, folder: Path) -> dict[str, Any]:
    """Of its own, with a password in a file; nobody else may do anything."""
    (folder / "password").write_text(SECRET + "\n")
    server = start_redis(
        password="nobody knows",
        users=[f"gateway on >{SECRET} {ALLOWED}"],
    )
    url = f"redis://127.0.0.1:{server.port}"
    return {"url": url, "username": "gateway", "password_file": str(folder / "password")}


def at_a_socket(start_redis: StartRedis, folder: Path) -> dict[str, Any]:
    """On the same machine, in a database of its own."""
    return {"url": f"{start_redis().unix_url}?db=3"}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(
            over_tls,
            marks=pytest.mark.skipif(not speaks_tls(), reason="the server was built without TLS"),
        ),
        as_a_user,
        at_a_socket,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_place(world: World, start_redis: StartRedis, tmp_path: Path, place: Place) -> None:
    """Two gateways have one limit, and one list of bans."""
    state = {**place(start_redis, tmp_path), "timeout": "5s", "connect_timeout": "5s"}
    one = await limited(world, state, rate_limits={"it": bucket(5)})
    two = await limited(world, state, rate_limits={"it": bucket(5)})
    answers = [await asked(world, (one, two)[number % 2]) for number in range(7)]
    assert [each.status for each in answers] == [200] * 5 + [429] * 2
    assert not any(map(degraded, answers))
    health = json.loads((await asked(world, one, path="/health")).body)
    assert (health["status"], health["state"]["up"]) == ("ok", True)
    await one.service.bans.ban("ip:192.0.2.1", 600, "")
    await eventually(lambda: len(two.service.bans) == 1)


# -- three Sentinels ------------------------------------------------------------------------------


ELECTION = 20.0
"""Seconds; Sentinels that all want to be the one who acts try again after some."""


async def replicated(start_redis: StartRedis) -> tuple[RedisServer, dict[str, Any]]:
    """A master with a replica, and the settings that name three Sentinels who agree on them."""
    master = start_redis()
    replica = start_redis(replica_of=master)
    await eventually(lambda: "state=online" in master.cli("INFO", "replication"))
    sentinels = [start_redis(sentinel=Watched("limits", master, quorum=2)) for _ in range(3)]
    for each in sentinels:
        await eventually(partial(_knows_all, each, replica))
    nodes = [f"127.0.0.1:{each.port}" for each in sentinels]
    return master, {"nodes": nodes, "master": "limits"}


def _knows_all(sentinel: RedisServer, replica: RedisServer) -> bool:
    others = sentinel.command("SENTINEL", "SENTINELS", "limits")
    return len(others) == 2 and str(replica.port) in sentinel.cli("SENTINEL", "REPLICAS", "limits")


@pytest_twisted.ensureDeferred
async def test_a_failover(world: World, start_redis: StartRedis) -> None:
    """Two of three Sentinels agree that the master is gone. All the while everybody is answered, at
    first by each gateway for itself, and then by both together again."""
    master, sentinel = await replicated(start_redis)
    state = {"sentinel": sentinel, "timeout": "1s", "connect_timeout": "5s", "leases": "off"}
    limits = {"it": bucket(20_000)}
    one, two = both = [await limited(world, state, rate_limits=limits) for _ in range(2)]
    load = Load(world, one, 4).begin()
    await load.more()
    master.kill()
    await eventually(lambda: not any(link_of(each).up for each in both))
    assert all(map(degraded, await eventually_new(load)))
    await eventually(lambda: all(link_of(each).up for each in both), ELECTION)
    assert not any(map(degraded, (await eventually_new(load))[-5:]))
    assert await load.end() == {200: len(load.answers)}
    assert load.slowest < 1.0 + SLACK
    counts = [left(await asked(world, (one, two)[number % 2])) for number in range(6)]
    assert counts == list(range(counts[0], counts[0] - 6, -1))
