"""What time does to a WebSocket: silence, pings without an answer, old age."""

from __future__ import annotations

from time import monotonic

import pytest
import pytest_twisted

from rtgateway.testing import eventually, soon
from rtgateway.testing.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocketEnd,
    encode,
)
from tests.e2e.sockets.bridged import ask, bridge, live, metric, open_socket
from tests.e2e.world import World

__all__: list[str] = []

PINGING = {"ping_interval": "250ms", "pong_timeout": "600ms"}


def answers(end: WebSocketEnd, frame: Frame) -> None:
    """A ``talk`` that answers pings."""
    if frame.opcode == PING:
        end.send_frame(PONG, frame.payload)


def pings(end: WebSocketEnd) -> list[Frame]:
    return [frame for frame in end.frames if frame.opcode == PING]


def closes(end: WebSocketEnd) -> list[Frame]:
    return [frame for frame in end.frames if frame.opcode == CLOSE]


# -- silence ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_silence(world: World) -> None:
    """No message either way for ``idle_timeout``; pings are none."""
    bridged = await bridge(world, websocket={"idle_timeout": "500ms"})
    began = monotonic()
    while not closes(bridged.client) and monotonic() < began + 5:
        bridged.client.ping()
        bridged.instance.ping()
        await soon(0.05)
    assert await bridged.client.close_frame() == (1001, "idle_timeout")
    assert await bridged.instance.close_frame() == (1001, "idle_timeout")
    assert monotonic() - began >= 0.45


@pytest.mark.parametrize("way", ["up", "down"])
@pytest_twisted.ensureDeferred
async def test_messages_one_way_are_no_silence(world: World, way: str) -> None:
    """It is enough that one side speaks."""
    bridged = await bridge(world, websocket={"idle_timeout": "700ms"})
    sender = bridged.client if way == "up" else bridged.instance
    for _ in range(12):
        sender.text("still here")
        await soon(0.1)
    assert not closes(bridged.client)


@pytest_twisted.ensureDeferred
async def test_a_slow_message_is_no_silence(world: World) -> None:
    """As long as it comes, however slowly."""
    bridged = await bridge(world, websocket={"idle_timeout": "700ms"})
    raw = encode(BINARY, bytes(100))
    for at in range(0, len(raw), 8):
        bridged.instance.transport.write(raw[at : at + 8])
        await soon(0.1)
    assert (await bridged.client.frame()).payload == bytes(100)
    assert not closes(bridged.client)


# -- pings ------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_clients_are_pinged(world: World) -> None:
    """Their pongs stay with the gateway, which learns how long they took."""
    bridged = await bridge(world, websocket=PINGING)
    bridged.client.talk = answers
    await eventually(lambda: len(pings(bridged.client)) >= 3)
    assert bridged.instance.frames == []
    await eventually(lambda: live(bridged.gateway)[0].rtt is not None)
    assert 0 < live(bridged.gateway)[0].rtt < 5
    _, page = await ask(world, bridged.gateway, "/gateway/websockets")
    assert page["websockets"][0]["rtt"] is not None
    name = "gateway_websocket_ping_rtt_seconds_count"
    assert await metric(world, bridged.gateway, name, route="/ws/:service", side="client") >= 2
    await bridged.still_open()


@pytest_twisted.ensureDeferred
async def test_pings_of_the_sides_meanwhile(world: World) -> None:
    """They pass through, and so do the answers to them."""
    bridged = await bridge(world, websocket=PINGING)
    bridged.client.talk = answers
    for number in range(10):
        bridged.instance.ping(b"own %d" % number)
        frame = await bridged.instance.frame()
        assert (frame.opcode, frame.payload) == (PONG, b"own %d" % number)
        bridged.client.send_frame(PONG, b"unasked")
        assert (await bridged.instance.frame()).payload == b"unasked"
        await soon(0.06)
    assert pings(bridged.client)
    assert len(bridged.instance.frames) == 20


@pytest_twisted.ensureDeferred
async def test_instances_are_pinged_where_that_is_wanted(world: World) -> None:
    """``ping_upstream``; their pongs do not reach the client."""
    bridged = await bridge(world, websocket={**PINGING, "ping_upstream": True})
    bridged.client.talk = bridged.instance.talk = answers
    await eventually(lambda: len(pings(bridged.instance)) >= 2)
    assert all(frame.masked for frame in bridged.instance.frames)
    assert PONG not in {frame.opcode for frame in bridged.client.frames}
    await bridged.still_open()


@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest_twisted.ensureDeferred
async def test_nobody_answers(world: World, side: str) -> None:
    """Whoever is silent for ``pong_timeout`` is gone; the other one is told."""
    bridged = await bridge(world, websocket={**PINGING, "ping_upstream": True})
    if side == "client":
        bridged.instance.talk = answers
        silent, other = bridged.client, bridged.instance
    else:
        bridged.client.talk = answers
        silent, other = bridged.instance, bridged.client  # type: ignore[assignment]
    began = monotonic()
    assert await other.close_frame() == (1001, "ping_timeout")
    assert await silent.close_frame() == (1001, "ping_timeout")
    assert 0.4 < monotonic() - began < 4
    await bridged.ended()


@pytest_twisted.ensureDeferred
async def test_a_client_that_vanished(world: World) -> None:
    """Nothing is read any more, nothing comes: the instance is told, the rest is forgotten."""
    bridged = await bridge(world, websocket=PINGING)
    bridged.client.pause()
    assert await bridged.instance.close_frame() == (1001, "ping_timeout")
    bridged.instance.transport.loseConnection()
    await eventually(lambda: not live(bridged.gateway))


@pytest_twisted.ensureDeferred
async def test_a_foreign_pong_is_no_answer(world: World) -> None:
    """It passes through. Yet whoever sends anything is there."""
    bridged = await bridge(world, websocket=PINGING)
    for _ in range(12):
        bridged.client.send_frame(PONG, b"something else")
        await soon(0.1)
    assert not closes(bridged.client)
    assert len(bridged.instance.frames) == 12


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_altered(world: World) -> None:
    """A pong that only looks like one for the gateway does no harm."""
    bridged = await bridge(world, websocket=PINGING)
    ping = await bridged.client.frame()
    forged = bytes([*ping.payload[:-1], ping.payload[-1] ^ 1])
    bridged.client.send_frame(PONG, forged)
    bridged.client.send_frame(PONG, ping.payload)
    bridged.client.send_frame(PONG, ping.payload)
    bridged.client.talk = answers
    await bridged.still_open()


@pytest_twisted.ensureDeferred
async def test_a_ping_never_cuts_a_frame(world: World) -> None:
    """It waits for the end of the frame, and may stand between two fragments."""
    bridged = await bridge(world, websocket=PINGING)
    client, instance = bridged.client, bridged.instance
    client.talk = answers
    first, second = encode(TEXT, b"x" * 200, fin=False), encode(CONTINUATION, b"y" * 200)
    instance.transport.write(first[:100])
    await soon(0.5)
    assert bytes(client.wire).endswith(first[:100])
    instance.transport.write(first[100:])
    await eventually(lambda: client.frames and client.frames[-1].opcode == PING)
    instance.transport.write(second)
    assert await client.message() == (TEXT, b"x" * 200 + b"y" * 200)
    assert [frame.opcode for frame in client.frames if frame.opcode != PING] == [TEXT, CONTINUATION]
    assert not closes(client)


@pytest_twisted.ensureDeferred
async def test_no_pings(world: World) -> None:
    """Switched off, nobody is asked."""
    bridged = await bridge(world, websocket={"ping_interval": 0, "pong_timeout": "100ms"})
    await soon(0.5)
    assert bridged.client.frames == bridged.instance.frames == []


# -- old age ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_old_age(world: World) -> None:
    """However busy it is."""
    websocket = {"max_lifetime": "600ms", "lifetime_jitter": 0}
    bridged = await bridge(world, websocket=websocket)
    began = monotonic()
    while not closes(bridged.client) and monotonic() < began + 5:
        bridged.client.text("busy")
        bridged.instance.text("busy")
        await soon(0.05)
    assert await bridged.client.close_frame() == (1001, "max_lifetime")
    assert await bridged.instance.close_frame() == (1001, "max_lifetime")
    assert monotonic() - began > 0.5


@pytest_twisted.ensureDeferred
async def test_not_all_at_once(world: World) -> None:
    """With jitter they end at different times, and none later than it may."""
    websocket = {"max_lifetime": "1s", "lifetime_jitter": 0.9}
    bridged = await bridge(world, websocket=websocket)
    others = [await open_socket(world, bridged.gateway) for _ in range(19)]
    clients = [bridged.client, *others]
    ended: dict[int, float] = {}

    def all_closed() -> bool:
        for number, client in enumerate(clients):
            if closes(client):
                ended.setdefault(number, monotonic())
        return len(ended) == len(clients)

    await eventually(all_closed)
    times = sorted(ended.values())
    assert times[-1] - times[0] > 0.2
    assert len({round(each, 1) for each in times}) >= 3
