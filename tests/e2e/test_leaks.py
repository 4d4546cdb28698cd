"""Ten thousand requests later, everything is as it was before."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import pytest_twisted

from rtgateway.testing import RawClient, RecordingUpstream, RunningGateway, eventually, soon
from tests.e2e.world import World, event_stream, get, only_instance, post, with_length

__all__: list[str] = []

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


def objects() -> Counter[str]:
    """How many objects of which type there are, without what is garbage."""
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects())


async def settled(upstream: RecordingUpstream, gateway: RunningGateway) -> Counter[str]:
    """The objects there are when nobody is connected any more."""
    await eventually(lambda: not gateway.service.site.channels)
    upstream.requests.clear()
    upstream.connections[:] = [each for each in upstream.connections if each.lost is None]
    for connection in upstream.connections:
        connection.requests.clear()
        connection.received = b""
    gateway.service.access_log.flush()
    await soon(0.05)
    return objects()


async def pipelined(gateway: RunningGateway, request: bytes, number: int) -> None:
    """``number`` requests on one connection, fifty at a time."""
    client = await RawClient.connect(gateway.port)
    for _ in range(number // 50):
        client.send(request * 50)
        for _ in range(50):
            assert (await client.answer()).status < 500
    client.close()
    await client.closed()


async def one_by_one(gateway: RunningGateway, request: bytes, number: int) -> None:
    """``number`` requests, each on a connection of its own."""
    for _ in range(number):
        client = await RawClient.connect(gateway.port)
        client.send(request)
        await client.answer()
        client.close()
        await client.closed()


async def abandoned(gateway: RunningGateway, request: bytes, number: int) -> None:
    """``number`` clients that leave with a request in flight."""
    for _ in range(number):
        client = await RawClient.connect(gateway.port)
        client.send(request)
        await eventually(lambda: only_instance(gateway).inflight)
        client.abort()
        await eventually(lambda: not only_instance(gateway).inflight)


def assert_not_grown(before: Counter[str], after: Counter[str]) -> None:
    """No kind of object by as much as one for every other request.

    The reactor keeps some cancelled timers (of the tests' own waiting) for a while.
    """
    grown = {name: count for name, count in (after - before).items() if count > 200}
    assert not grown, grown


Play = Callable[[RunningGateway, bytes, int], Awaitable[None]]


@pytest.mark.parametrize(
    ("play", "request_", "answer"),
    [
        (pipelined, get(), with_length(b"ok")),
        (pipelined, post("/api/main/", b"body"), CHUNKED),
        (one_by_one, get("/nowhere"), None),
        (one_by_one, get(), b"HTTP/1.1 200 OK\r\n\r\n"),
        (abandoned, get(), None),
        (abandoned, get(), event_stream()),
    ],
    ids=["pipelined", "bodies", "not found", "until close", "abandoned", "abandoned streams"],
)
@pytest_twisted.ensureDeferred
async def test_nothing_is_left(
    world: World, play: Play, request_: bytes, answer: bytes | None
) -> None:
    """No object of any kind, no connection, no deadline."""
    ends = answer is not None and b"HTTP/1.1 200 OK\r\n\r\n" in answer
    upstream = await world.upstream(answer)
    if ends:
        upstream.answering = lambda connection, request: (
            connection.send(with_length(b"ok", "Connection: close")),  # type: ignore[func-returns-value]
            connection.close(),  # type: ignore[func-returns-value]
        )[1]
    gateway = await world.gateway(upstream)
    await play(gateway, request_, 100)
    before = await settled(upstream, gateway)
    watched = len(gateway.service.wheel)
    await play(gateway, request_, 450)
    assert_not_grown(before, await settled(upstream, gateway))
    assert len(gateway.service.wheel) <= watched
    assert only_instance(gateway).pool.open <= 1


@pytest_twisted.ensureDeferred
async def test_ten_thousand_requests(world: World) -> None:
    """The instance is asked on one connection, and nothing grows."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream)
    await pipelined(gateway, get(), 1000)
    before = await settled(upstream, gateway)
    for _ in range(20):
        await pipelined(gateway, get(), 500)
    assert_not_grown(before, await settled(upstream, gateway))
    assert len(upstream.connections) == 1


@pytest_twisted.ensureDeferred
async def test_an_instance_that_is_not_there(world: World) -> None:
    """Errors leave nothing either."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream)
    await upstream.stop()
    await one_by_one(gateway, get(), 100)
    before = await settled(upstream, gateway)
    await one_by_one(gateway, get(), 450)
    assert_not_grown(before, await settled(upstream, gateway))
    assert only_instance(gateway).pool.open == 0
