"""A gateway that may ask Redis, but hears nothing: a user without channels, too many clients."""

from __future__ import annotations

import pytest
import pytest_twisted

from rtgateway.testing import eventually
from rtgateway.testing.redis import RedisServer
from tests.e2e.world import World, get, post, with_length

__all__: list[str] = []


@pytest.mark.xfail(
    strict=True, reason="copies of bans and lists are only read once the subscriptions are in place"
)
@pytest_twisted.ensureDeferred
async def test_bans_that_are_there_hold_though_nothing_is_heard(
    world: World, redis_server: RedisServer
) -> None:
    user = ("deaf", "on", ">pw", "~*", "resetchannels", "+@all")
    redis_server.command("ACL", "SETUSER", *user)
    upstream = await world.upstream(with_length(b"ok"))
    limits = {"one": {"capacity": 100, "refill_rate": 1}}
    first = await world.gateway(
        upstream, state=redis_server.url, rate_limits=limits, admin={"open": True}
    )
    order = post(
        "/gateway/bans",
        b'{"subject": "ip:127.0.0.1", "seconds": 600}',
        "Content-Type: application/json",
    )
    assert (await (await world.client(first, order)).answer()).status == 201
    deaf = await world.gateway(
        upstream, state=redis_server.url_as("deaf", "pw"), rate_limits=limits
    )
    await eventually(lambda: deaf.service.limits.gateways == 2)
    await eventually(lambda: len(deaf.service.bans) == 1, 2.0)
    client = await world.client(deaf, get("/api/main/x"))
    assert (await client.answer()).status == 429
