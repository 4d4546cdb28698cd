"""Leaving in good order: an instance that is drained, a gateway that stops."""

from __future__ import annotations

import json
from time import monotonic
from typing import Any

import pytest
import pytest_twisted

from rtgateway.testing import RunningGateway, WebSocketClient, WebSocketConnection, eventually, soon
from rtgateway.testing.websocket import CLOSE, Frame, WebSocketEnd, agree, echo
from tests.e2e.sockets.bridged import (
    ask,
    bridge,
    connect,
    live,
    metric,
    open_socket,
    start,
    upstream_of,
)
from tests.e2e.world import World, get, with_length

__all__: list[str] = []


def polite(end: WebSocketEnd, frame: Frame) -> None:
    """A ``talk`` that answers a Close."""
    if frame.opcode == CLOSE:
        end.send_frame(CLOSE, frame.payload)


class Leaving:
    """Clients of a gateway, and when each of them was told to go."""

    def __init__(self, clients: list[WebSocketClient]) -> None:
        self.clients = clients
        self.began = monotonic()
        self.times: list[float] = []
        for client in clients:
            client.talk = self._talk

    def _talk(self, end: WebSocketEnd, frame: Frame) -> None:
        if frame.opcode == CLOSE:
            self.times.append(monotonic() - self.began)
        polite(end, frame)

    async def all_told(self) -> list[float]:
        """Wait until all of them were; the times in order."""
        await eventually(lambda: len(self.times) == len(self.clients))
        return sorted(self.times)


async def opened(world: World, gateway: RunningGateway, number: int) -> list[WebSocketClient]:
    return [await open_socket(world, gateway) for _ in range(number)]


def order(gateway: RunningGateway, number: int, draining: bool) -> None:
    """What an operator does with an instance."""
    members = gateway.service.services["main"].members
    members.drain(members.instances[number].id, draining, monotonic())


# -- an instance ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_instance_is_drained(world: World) -> None:
    """Its sockets go one by one, to come back elsewhere; those of others stay."""
    upstreams = [await upstream_of(world, talk=echo) for _ in range(2)]
    gateway = await start(
        world, {"instances": [each.url for each in upstreams]}, websocket={"drain_timeout": "1s"}
    )
    clients = await opened(world, gateway, 40)
    assert [len(each.sockets) for each in upstreams] == [20, 20]
    leaving = Leaving(clients)
    order(gateway, 0, True)
    await eventually(lambda: len(leaving.times) == 20)
    times = sorted(leaving.times)
    assert times[-1] - times[0] > 0.4, "spread, not all at once"
    await eventually(lambda: len(live(gateway)) == 20)
    for end in upstreams[0].sockets:
        assert await end.close_frame() == (1001, "instance_draining")
    told = [client for client in clients if client.frames]
    assert len(told) == 20
    for client in told:
        assert await client.close_frame() == (1012, "instance_draining")
    again = await opened(world, gateway, 5)
    assert len(upstreams[1].sockets) == 25
    again[0].text("hello")
    assert (await again[0].frame()).payload == b"hello"
    await eventually(lambda: next(iter(gateway.service.instances())).inflight == 0)


@pytest_twisted.ensureDeferred
async def test_an_order_is_taken_back(world: World) -> None:
    """Whoever has not been told yet may stay."""
    bridged = await bridge(world, talk=echo, websocket={"drain_timeout": "1h"})
    order(bridged.gateway, 0, True)
    await soon(1.2)
    order(bridged.gateway, 0, False)
    await soon(1.2)
    bridged.client.text("still here")
    assert (await bridged.client.frame()).payload == b"still here"
    (socket,) = live(bridged.gateway)
    assert socket.deadline > monotonic() + 0.1


@pytest_twisted.ensureDeferred
async def test_an_instance_is_removed(world: World) -> None:
    """The same; then it is forgotten."""
    upstreams = [await upstream_of(world, talk=echo) for _ in range(2)]
    gateway = await start(
        world, {"instances": [each.url for each in upstreams]}, websocket={"drain_timeout": "200ms"}
    )
    leaving = Leaving(await opened(world, gateway, 6))
    members = gateway.service.services["main"].members
    members.remove(members.instances[0].id)
    await eventually(lambda: len(leaving.times) == 3)
    await eventually(lambda: not members.leaving)
    assert len(live(gateway)) == 3


@pytest_twisted.ensureDeferred
async def test_requests_are_not_cut_off_with_the_sockets(world: World) -> None:
    """A request that is being served when its instance is drained ends as it would have."""
    upstream = await upstream_of(world)
    upstream.answering = lambda *_: None
    gateway = await start(world, upstream, websocket={"drain_timeout": "100ms"})
    client = await world.client(gateway, get())
    await upstream.request()
    order(gateway, 0, True)
    await soon(1.3)
    upstream.connections[0].send(with_length(b"late"))
    assert (await client.answer()).body == b"late"


# -- the gateway ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_gateway_stops(world: World) -> None:
    """All are told that it is going away, spread over ``drain_timeout``, and it waits for them."""
    upstream = await upstream_of(world, talk=echo)
    gateway = await start(
        world, upstream, shutdown={"grace": "10s"}, websocket={"drain_timeout": "1s"}
    )
    clients = await opened(world, gateway, 40)
    leaving = Leaving(clients)
    stopped = gateway.stop()
    times = await leaving.all_told()
    await stopped
    assert times[-1] - times[0] > 0.4
    assert times[-1] < 4
    quarters = [sum(low <= each < low + 0.25 for each in times) for low in (0, 0.25, 0.5, 0.75)]
    assert max(quarters) < 30, quarters
    assert monotonic() - leaving.began < 8, "no longer than it takes"
    for client in clients:
        assert await client.close_frame() == (1001, "going_away")
    for end in upstream.sockets:
        assert await end.close_frame() == (1001, "going_away")
    assert live(gateway) == []


@pytest_twisted.ensureDeferred
async def test_nothing_new_while_it_stops(world: World) -> None:
    """An upgrade on a connection that is there already is refused."""
    upstream = await upstream_of(world, talk=echo)
    gateway = await start(
        world, upstream, shutdown={"grace": "5s"}, websocket={"drain_timeout": "600ms"}
    )
    leaving = Leaving(await opened(world, gateway, 1))
    waiting = await connect(world, gateway)
    waiting.send(get("/api/main/")[:20])
    await soon(0.1)
    stopped = gateway.stop()
    waiting.send(get("/api/main/")[20:-2])
    waiting.send(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n"
    )
    await waiting.closed()
    assert b" 101 " not in waiting.received.split(b"\r\n")[0]
    await leaving.all_told()
    await stopped


@pytest_twisted.ensureDeferred
async def test_a_handshake_in_flight_while_it_stops(world: World) -> None:
    """It is let through, and told to go at once; nobody is cut off in the middle."""
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(world, upstream, shutdown={"grace": "5s"})
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    request = await upstream.request()
    client.talk = polite
    stopped = gateway.stop()
    connection = upstream.connections[0]
    assert isinstance(connection, WebSocketConnection)
    connection.talk = echo
    connection.send(agree(request))
    await client.opened()
    assert await client.close_frame() == (1001, "going_away")
    await stopped


@pytest.mark.parametrize("how", ["silent", "not reading"])
@pytest_twisted.ensureDeferred
async def test_a_deadline_ends_it(world: World, how: str) -> None:
    """Whoever does not answer, or does not read, keeps nobody from stopping."""
    upstream = await upstream_of(world)
    gateway = await start(
        world,
        upstream,
        shutdown={"grace": "700ms"},
        websocket={"drain_timeout": "10s", "close_timeout": "1h"},
    )
    clients = await opened(world, gateway, 5)
    if how == "not reading":
        for client in clients:
            client.pause()
        for end in upstream.sockets:
            end.binary(bytes(8_000_000))
    await soon(0.1)
    began = monotonic()
    await gateway.stop()
    assert monotonic() - began < 5
    assert live(gateway) == []


@pytest_twisted.ensureDeferred
async def test_how_it_looks_meanwhile(world: World) -> None:
    """``/ws/health`` says it, and balancers stop sending."""
    upstream = await upstream_of(world, talk=echo)
    gateway = await start(world, upstream)
    assert (await ask(world, gateway, "/ws/health"))[1]["status"] == "healthy"
    gateway.service.sockets.drain(0.0)
    status, page = await ask(world, gateway, "/ws/health")
    assert (status, page["status"]) == (503, "draining")
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    answer = await client.answer()
    document: dict[str, Any] = json.loads(answer.body)
    assert (answer.status, document["error"]) == (503, "draining")
    name = "gateway_websocket_refused_total"
    assert await metric(world, gateway, name, route="/ws/:service", reason="draining") == 1


@pytest_twisted.ensureDeferred
async def test_a_farewell_does_not_outlive_the_gateway(world: World) -> None:
    """Who was only told that there is no such service, and does not answer, is cut off."""
    gateway = await start(world, await upstream_of(world))
    client = await open_socket(world, gateway, "/ws/nobody")
    assert await client.close_frame() == (1008, "unknown_service")
    await gateway.stop()
    await eventually(lambda: client.lost, patience=2.0)
    await eventually(lambda: gateway.service.gate.taken == 0)
