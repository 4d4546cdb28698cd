"""A shared circuit of a service that is seldom asked for."""

from __future__ import annotations

from time import monotonic

import pytest_twisted

from rtgateway.core.shared_breaker import SharedBreaker
from rtgateway.testing import RecordingUpstream, RunningGateway, eventually
from rtgateway.testing.redis import RedisServer
from tests.e2e.world import World, get, with_length

__all__: list[str] = []

BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
REQUEST = get("/api/main/x")


async def to_be_probed(
    world: World, redis: RedisServer
) -> tuple[RunningGateway, RecordingUpstream, SharedBreaker]:
    """A gateway whose only instance has failed, has been left alone, and answers nothing yet."""
    upstream = await world.upstream(BROKEN)
    breaker = {"shared": True, "failure_threshold": 1, "success_threshold": 1, "timeout": "100ms"}
    gateway = await world.gateway(
        {"instances": [upstream.url], "circuit_breaker": breaker, "retry": "off"},
        state=redis.url,
    )
    circuit = gateway.service.services["main"].instances[0].breaker
    assert isinstance(circuit, SharedBreaker)
    await eventually(lambda: circuit.joined)
    client = await world.client(gateway, REQUEST)
    assert (await client.answer()).status == 503
    await eventually(lambda: circuit.state == "open")
    upstream.answering = lambda connection, request: None
    await eventually(lambda: monotonic() >= circuit.open_until)
    return gateway, upstream, circuit


@pytest_twisted.ensureDeferred
async def test_the_first_request_after_the_open_time_is_the_probe(
    world: World, redis: RedisServer
) -> None:
    """It waits for the store to say so; who comes seconds after it would find nothing prepared."""
    gateway, upstream, circuit = await to_be_probed(world, redis)
    upstream.answering = lambda connection, request: with_length(b"ok")
    client = await world.client(gateway, REQUEST)
    assert (await client.answer()).status == 200
    await eventually(lambda: circuit.state == "closed")


@pytest_twisted.ensureDeferred
async def test_who_waits_while_another_is_the_probe(world: World, redis: RedisServer) -> None:
    """One asks, all wait for the answer; the instance gets one of them, the others get 503."""
    gateway, upstream, circuit = await to_be_probed(world, redis)
    clients = [await world.client(gateway, REQUEST) for _ in range(5)]
    await eventually(lambda: sum(bool(each.received) for each in clients) == 4)
    (probe,) = (each for each in clients if not each.received)
    for each in clients:
        if each is not probe:
            assert (await each.answer()).status == 503
    assert len(upstream.requests) == 2, "the one that failed, and the probe"
    upstream.connections[-1].send(with_length(b"ok"))
    assert (await probe.answer()).status == 200
    await eventually(lambda: circuit.state == "closed")
