"""Limits, bans and IP lists of running gateways, over their own listeners."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rtgateway.testing import RunningGateway, eventually
from rtgateway.testing.redis import RedisServer
from tests.e2e.world import World, get, with_length
from tests.web.test_admin_sockets import ask

LIMITS = {"per-ip": {"capacity": 2, "refill_rate": 0.001}}
PAGE = "/gateway/rate-limits"


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """What the test starts, and its end."""
    made = World(tmp_path)
    yield made
    await made.end()


@pytest.fixture(params=["memory", "redis"])
def state(request: pytest.FixtureRequest) -> str:
    """Where the state is: in memory, or in a server that was just emptied."""
    if request.param == "memory":
        return "memory"
    server: RedisServer = request.getfixturevalue("redis")
    return server.url


async def a_gateway(world: World, state: object, **config: Any) -> RunningGateway:
    upstream = await world.upstream(with_length(b"ok"))
    return await world.gateway(upstream, state=state, rate_limits=LIMITS, **config)


async def status_of(world: World, gateway: RunningGateway, path: str = "/api/main/") -> int:
    """What a request gets."""
    client = await world.client(gateway, get(path, "Connection: close"))
    return int((await client.answer()).head.split()[1])


async def metrics_of(world: World, gateway: RunningGateway) -> str:
    client = await world.client(gateway, get("/metrics", "Connection: close"))
    return (await client.answer()).body.decode()


@pytest_twisted.ensureDeferred
async def test_a_limit_is_seen_changed_and_reset(world: World, state: str) -> None:
    """What a key has left, other numbers, and a subject that starts anew."""
    gateway = await a_gateway(world, state)
    assert [await status_of(world, gateway) for _ in range(3)] == [200, 200, 429]
    status, shown = await ask(world, gateway, f"GET {PAGE}")
    assert (status, shown["configured_limiters"]) == (200, ["per-ip"])
    assert shown["mode"] == ("memory" if state == "memory" else "redis")
    assert (shown["configs"]["per-ip"]["capacity"], shown["degraded"]) == (2, False)

    status, changed = await ask(world, gateway, f"PUT {PAGE}/per-ip", {"capacity": 0})
    assert (status, changed["error"]) == (400, "bad_request")
    status, changed = await ask(world, gateway, f"PUT {PAGE}/per-ip", {"capacity": 5})
    assert (status, changed["capacity"], changed["configured"]) == (200, 5, {"capacity": 2})
    status, one = await ask(world, gateway, f"GET {PAGE}/per-ip")
    assert (status, one["changed"], one["decisions"]["refused"]) == (200, True, 1)
    status, restored = await ask(world, gateway, f"DELETE {PAGE}/per-ip")
    assert (status, restored["capacity"], restored["changed"]) == (200, 2, False)

    status, reset = await ask(world, gateway, f"POST {PAGE}/reset", {"subject": "ip:127.0.0.1"})
    assert (status, reset) == (200, {"subject": "ip:127.0.0.1", "reset": 1})
    assert [await status_of(world, gateway) for _ in range(3)] == [200, 200, 429]
    text = await metrics_of(world, gateway)
    of = 'limiter="per-ip",level="ip",outcome='
    assert f'gateway_rate_limit_decisions_total{{{of}"admitted"}} 4\n' in text
    assert f'gateway_rate_limit_decisions_total{{{of}"refused"}} 2\n' in text
    exceeded = '{service="main",user_type="anonymous"} 2\n'
    assert f"gateway_rate_limit_exceeded_total{exceeded}" in text
    assert ("gateway_store_up 1\n" in text) == (state != "memory")


@pytest_twisted.ensureDeferred
async def test_a_client_is_banned_and_freed(world: World, state: str) -> None:
    """429 until the ban is lifted."""
    gateway = await a_gateway(world, state)
    body = {"subject": "ip:127.0.0.1", "seconds": 60, "reason": "enough"}
    status, _ = await ask(world, gateway, "POST /gateway/bans", body)
    assert status == 201
    assert await status_of(world, gateway) == 429
    _, listed = await ask(world, gateway, "GET /gateway/bans")
    (ban,) = listed["bans"]
    assert (ban["subject"], ban["reason"], ban["strikes"]) == ("ip:127.0.0.1", "enough", 0)
    line = "DELETE /gateway/bans?subject=ip:127.0.0.1"
    assert (await ask(world, gateway, line))[0] == 200
    assert (await ask(world, gateway, line))[0] == 404
    assert await status_of(world, gateway) == 200


@pytest_twisted.ensureDeferred
async def test_networks_are_listed_and_forgotten(world: World, state: str) -> None:
    """403 for who is on the list; what is configured stays there."""
    gateway = await a_gateway(world, state, ip_lists={"deny": ["198.51.100.0/24"]})
    path = "/gateway/ip-lists/deny"
    status, added = await ask(world, gateway, f"POST {path}", {"networks": ["127.0.0.0/8"]})
    assert (status, added) == (200, {"list": "deny", "added": 1, "total": 2})
    assert await status_of(world, gateway) == 403
    _, both = await ask(world, gateway, "GET /gateway/ip-lists?ip=127.0.0.1")
    assert (both["deny"]["configured"], both["verdict"]) == (1, "deny")
    networks = {"networks": ["127.0.0.0/8", "198.51.100.0/24"]}
    assert (await ask(world, gateway, f"DELETE {path}", networks))[0] == 409
    networks = {"networks": ["127.0.0.0/8"]}
    status, removed = await ask(world, gateway, f"DELETE {path}", networks)
    assert (status, removed) == (200, {"list": "deny", "removed": 1, "total": 1})
    assert await status_of(world, gateway) == 200


@pytest_twisted.ensureDeferred
async def test_a_change_that_is_kept(world: World, redis: RedisServer) -> None:
    """Holds at a gateway that starts later; in memory there is nothing to keep it in."""
    first = await a_gateway(world, redis.url)
    line = f"PUT {PAGE}/per-ip?persist=true"
    status, changed = await ask(world, first, line, {"capacity": 9})
    assert (status, changed["persisted"]) == (200, True)
    second = await a_gateway(world, redis.url)
    await eventually(lambda: second.service.limits.limiters["per-ip"].changed)
    _, one = await ask(world, second, f"GET {PAGE}/per-ip")
    assert (one["capacity"], one["changed"], one["persisted"]) == (9, True, True)
    alone = await a_gateway(world, "memory")
    assert (await ask(world, alone, line, {"capacity": 9}))[0] == 409


@pytest_twisted.ensureDeferred
async def test_what_one_gateway_is_told_others_know(world: World, redis: RedisServer) -> None:
    """Bans, lists, and subjects that start anew."""
    first, second = [await a_gateway(world, redis.url) for _ in range(2)]
    await eventually(lambda: first.service.limits.gateways == second.service.limits.gateways == 2)
    assert [await status_of(world, second) for _ in range(3)] == [200, 200, 429]
    _, reset = await ask(world, first, f"POST {PAGE}/reset", {"subject": "ip:127.0.0.1"})
    assert reset["reset"] == 1
    # It need not ask at once who was refused just now.
    started = monotonic()
    while await status_of(world, second) == 429:
        assert monotonic() - started < 10.0
        await deferLater(second.service.reactor, 0.1)

    await ask(world, first, "POST /gateway/bans", {"subject": "ip:192.0.2.1", "seconds": 60})
    await eventually(lambda: len(second.service.bans))
    _, listed = await ask(world, second, "GET /gateway/bans")
    assert [each["subject"] for each in listed["bans"]] == ["ip:192.0.2.1"]

    networks = {"networks": ["127.0.0.0/8"]}
    await ask(world, first, "POST /gateway/ip-lists/deny", networks)
    await eventually(lambda: second.service.ip_lists.verdict("127.0.0.1") == "deny")
    assert await status_of(world, second) == 403
    await ask(world, second, "DELETE /gateway/ip-lists/deny", networks)
    await eventually(lambda: not first.service.ip_lists.verdict("127.0.0.1"))


@pytest_twisted.ensureDeferred
async def test_a_store_that_hangs(world: World, redis_server: RedisServer) -> None:
    """Changes get 503 in time; what can be seen is seen, and health says what is wrong."""
    gateway = await a_gateway(world, redis_server.url)
    assert (await ask(world, gateway, "GET /health"))[1]["state"]["up"]
    redis_server.pause()
    try:
        body = {"subject": "ip:192.0.2.1", "seconds": 60}
        status, refused = await ask(world, gateway, f"PUT {PAGE}/per-ip?persist=true", {"burst": 1})
        assert status == 400
        status, refused = await ask(
            world, gateway, f"PUT {PAGE}/per-ip?persist=true", {"capacity": 1}
        )
        assert (status, refused["error"]) == (503, "store_unavailable")
        status, _ = await ask(world, gateway, f"GET {PAGE}")
        assert status == 200
        for _ in range(3):
            await ask(world, gateway, "POST /gateway/bans", body)
        status, health = await ask(world, gateway, "GET /health")
        assert (status, health["status"], health["state"]["up"]) == (200, "degraded", False)
        since = datetime.fromisoformat(health["state"]["degraded_since"]).timestamp()
        assert -1.0 < time() - since < 30.0
        assert "gateway_store_up 0\n" in await metrics_of(world, gateway)
    finally:
        redis_server.resume()


@pytest_twisted.ensureDeferred
async def test_a_store_that_never_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 after two seconds; 499 for who leaves before, and nobody waits for the answer then."""
    gateway = await a_gateway(world, "memory")
    waits: list[Deferred[bool]] = []

    def lift(subject: str) -> Deferred[bool]:
        waits.append(Deferred())
        return waits[-1]

    monkeypatch.setattr(gateway.service.stores.bans, "lift", lift)
    line = "DELETE /gateway/bans?subject=ip:192.0.2.1"
    request = f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    client = await world.client(gateway, request)
    await eventually(lambda: waits)
    client.abort()
    assert (await world.logged(gateway))[0]["status"] == 499
    assert waits[0].called

    started = monotonic()
    status, refused = await ask(world, gateway, line)
    assert (status, refused["error"], waits[1].called) == (503, "store_unavailable", True)
    assert monotonic() - started > 1.9
