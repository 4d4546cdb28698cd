"""A gateway that may ask Redis, but hears nothing: a user without channels, too many clients."""

from __future__ import annotations

import json

import pytest_twisted

from rtgateway.testing import eventually
from rtgateway.testing.redis import RedisServer
from tests.e2e.world import World, get, post, with_length

__all__: list[str] = []


@pytest_twisted.ensureDeferred
async def test_bans_hold_though_nothing_is_heard(world: World, redis_server: RedisServer) -> None:
    """Those that are there at the start, and those that come; and the operator is told."""
    user = ("deaf", "on", ">pw", "~*", "resetchannels", "+@all")
    redis_server.command("ACL", "SETUSER", *user)
    upstream = await world.upstream(with_length(b"ok"))
    limits = {"one": {"capacity": 100, "refill_rate": 1}}
    first = await world.gateway(
        upstream, state=redis_server.url, rate_limits=limits, admin={"open": True}
    )

    async def ban(subject: str) -> None:
        body = json.dumps({"subject": subject, "seconds": 600}).encode()
        order = post("/gateway/bans", body, "Content-Type: application/json")
        assert (await (await world.client(first, order)).answer()).status == 201

    await ban("ip:127.0.0.1")
    deaf = await world.gateway(
        upstream, state=redis_server.url_as("deaf", "pw"), rate_limits=limits
    )
    bans = deaf.service.bans
    await eventually(lambda: len(bans) == 1, 3.0)
    client = await world.client(deaf, get("/api/main/x"))
    assert (await client.answer()).status == 429
    await ban("ip:192.0.2.1")
    await eventually(lambda: len(bans) == 2, 3.0)

    client = await world.client(deaf, get("/health"))
    health = json.loads((await client.answer()).body)
    assert health["status"] == "degraded"
    assert health["state"]["up"] is True
    assert health["state"]["news"] is False
    client = await world.client(deaf, get("/metrics"))
    assert b"\ngateway_store_news 0\n" in (await client.answer()).body

    redis_server.command("ACL", "SETUSER", "deaf", "allchannels")
    store = deaf.service.store
    assert store is not None
    await eventually(lambda: not store.deaf, 3.0)
    client = await world.client(deaf, get("/health"))
    assert "news" not in json.loads((await client.answer()).body)["state"]
