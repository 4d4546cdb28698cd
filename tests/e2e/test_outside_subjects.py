"""Subjects of tokens as identity providers write them: operators name them as they are."""

from __future__ import annotations

from time import time

import jwt
import pytest
import pytest_twisted

from rtgateway.testing import RawAnswer, RunningGateway
from tests.e2e.world import World, get, post, with_length

__all__: list[str] = []

SECRET = "correct horse battery staple, and then some more of it to be long enough"


async def asked(world: World, gateway: RunningGateway, subject: str) -> RawAnswer:
    token = jwt.encode({"sub": subject, "exp": time() + 3600}, SECRET, "HS256")
    client = await world.client(gateway, get("/api/main/x", f"Authorization: Bearer {token}"))
    answer = await client.answer()
    client.close()
    return answer


@pytest.mark.parametrize("per", ["identity", ["identity", "service"]])
@pytest.mark.parametrize(
    "subject", ["auth0|5f7c8ec7c33c6c004bbafe82", "https://idp.example/u?id=1", "zoë", "a~b|"]
)
@pytest_twisted.ensureDeferred
async def test_limits_of_any_subject_can_be_reset(
    world: World, subject: str, per: str | list[str]
) -> None:
    upstream = await world.upstream(with_length(b"ok"))
    limiter = {"per": per, "capacity": 1, "refill_rate": 0.001}
    gateway = await world.gateway(
        upstream,
        rate_limits={"per-user": limiter},
        auth={"jwt": {"secret": SECRET}},
        admin={"open": True},
    )
    assert (await asked(world, gateway, subject)).status == 200
    assert (await asked(world, gateway, subject)).status == 429
    order = f'{{"subject": "identity:{subject}"}}'.encode()
    request = post("/gateway/rate-limits/reset", order, "Content-Type: application/json")
    client = await world.client(gateway, request)
    answer = await client.answer()
    assert answer.status == 200, answer.body
    assert b'"reset":1' in answer.body
    assert (await asked(world, gateway, subject)).status == 200
