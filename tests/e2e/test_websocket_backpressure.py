"""Who reads slowly slows down the other side, and costs the gateway little memory."""

from __future__ import annotations

import tracemalloc

import pytest
import pytest_twisted

from rtgateway.testing import eventually, soon
from rtgateway.testing.websocket import BINARY, CLOSE, PING, PONG, Frame, Talk, WebSocketEnd
from tests.e2e.sockets.bridged import Bridged, bridge, live
from tests.e2e.world import World

__all__: list[str] = []

both_ways = pytest.mark.parametrize("way", ["up", "down"])
SIZE = 200_000
COUNT = 150
"""More than the kernel holds on its own."""


def ends(bridged: Bridged, way: str) -> tuple[WebSocketEnd, WebSocketEnd]:
    client, instance = bridged.client, bridged.instance
    return (client, instance) if way == "up" else (instance, client)


def waits(end: WebSocketEnd) -> int:
    """Bytes that could not be sent yet."""
    return int(len(end.transport.dataBuffer) + end.transport._tempDataLen)


def buffered(bridged: Bridged, way: str) -> int:
    """Bytes in the gateway that one side does not take."""
    (socket,) = live(bridged.gateway)
    amount: int = socket.buffered_in if way == "up" else socket.buffered_out
    return amount


async def stuck(bridged: Bridged, way: str) -> None:
    """One side reads nothing, and the other one has sent until nobody takes more."""
    sender, receiver = ends(bridged, way)
    receiver.pause()
    for _ in range(COUNT):
        sender.binary(bytes(SIZE))
    await eventually(lambda: buffered(bridged, way))
    left = -1
    while left != (left := waits(sender)):
        await soon(0.1)
    assert left > SIZE * COUNT / 4, "most of it waits with the sender"


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_slow_reader(world: World, way: str) -> None:
    """The sender waits; the gateway holds no more than it may; then all of it arrives."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    await stuck(bridged, way)
    assert 0 < buffered(bridged, way) <= 512 * 1024
    receiver.resume()
    await eventually(lambda: len(receiver.frames) == COUNT)
    assert {(frame.opcode, len(frame.payload)) for frame in receiver.frames} == {(BINARY, SIZE)}
    await eventually(lambda: buffered(bridged, way) == 0)
    await bridged.still_open()
    assert sender.frames[0].payload == b"still open"


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_message_larger_than_any_buffer(world: World, way: str) -> None:
    """It streams through: the gateway never holds it."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    sender.binary(bytes(60_000_000))
    most = 0

    def all_of_it() -> bool:
        nonlocal most
        most = max(most, buffered(bridged, way))
        return len(receiver.wire) > 60_000_000

    await eventually(all_of_it)
    assert most <= 512 * 1024


@pytest_twisted.ensureDeferred
async def test_memory(world: World) -> None:
    """Measured: what the process allocates while 30 MB wait is what the two ends hold."""
    bridged = await bridge(world)
    bridged.client.pause()
    parts = [bytes(SIZE)] * COUNT
    tracemalloc.start()
    try:
        for part in parts:
            bridged.instance.binary(part)
        await eventually(lambda: buffered(bridged, "down"))
        await soon(0.2)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    ours = snapshot.filter_traces(
        [
            tracemalloc.Filter(True, "*/rtgateway/ws/*"),
            tracemalloc.Filter(True, "*/rtgateway/wire/*"),
        ]
    )
    assert sum(each.size for each in ours.statistics("filename")) < 100_000
    assert buffered(bridged, "down") <= 512 * 1024
    bridged.client.abort()


@both_ways
@pytest_twisted.ensureDeferred
async def test_the_other_way_is_not_held_up(world: World, way: str) -> None:
    """Who does not read can still send."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    await stuck(bridged, way)
    receiver.text("I am busy")
    assert (await sender.frame()).payload == b"I am busy"
    receiver.ping(b"?")
    assert (await sender.frame()).opcode == PING


@both_ways
@pytest_twisted.ensureDeferred
async def test_too_much_is_buffered(world: World, way: str) -> None:
    """The slow side is closed, and the other one learns why."""
    bridged = await bridge(world, websocket={"max_buffered": 16384, "close_timeout": "300ms"})
    sender, receiver = ends(bridged, way)
    receiver.pause()
    for _ in range(COUNT):
        sender.binary(bytes(SIZE))
    assert await sender.close_frame() == (1013, "backpressure")
    sender.abort()
    await eventually(lambda: not live(bridged.gateway))
    receiver.resume()
    await eventually(lambda: receiver.lost)
    line = (await world.logged(bridged.gateway, 2))[1]
    assert (line["close_code"], line["close_reason"]) == (1013, "backpressure")


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_side_that_takes_nothing_at_all(world: World, way: str) -> None:
    """Closed after ``timeouts.write_stall``, however little is buffered."""
    bridged = await bridge(
        world, timeouts={"write_stall": "400ms"}, websocket={"close_timeout": "300ms"}
    )
    sender, receiver = ends(bridged, way)
    receiver.pause()
    for _ in range(COUNT):
        sender.binary(bytes(SIZE))
    assert await sender.close_frame() == (1013, "backpressure")
    receiver.abort()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_not_a_dead_one(world: World) -> None:
    """Who takes a little now and then is left alone, also with pings that wait behind it all."""
    bridged = await bridge(
        world,
        timeouts={"write_stall": "600ms"},
        websocket={"ping_interval": "300ms", "pong_timeout": "200ms"},
    )
    client, instance = bridged.client, bridged.instance

    def little(end: WebSocketEnd, frame: Frame) -> None:
        pong(end, frame)
        if len(end.frames) % 4 == 0:
            end.pause()

    client.talk = little
    client.pause()
    for _ in range(COUNT):
        instance.binary(bytes(SIZE))
    await eventually(lambda: buffered(bridged, "down"))
    for _ in range(12):
        await soon(0.1)
        client.resume()
    client.talk = pong
    await soon(0.1)
    client.resume()
    await eventually(lambda: sum(frame.opcode == BINARY for frame in client.frames) == COUNT)
    assert CLOSE not in {frame.opcode for frame in client.frames}


@pytest_twisted.ensureDeferred
async def test_two_slow_readers(world: World) -> None:
    """Each at its own pace: the progress of one is not measured by that of the other."""
    bridged = await bridge(world, timeouts={"write_stall": "500ms"})

    def after(number: int) -> Talk:
        def talk(end: WebSocketEnd, frame: Frame) -> None:
            if len(end.frames) % number == 0:
                end.pause()

        return talk

    both = (bridged.client, bridged.instance)
    for end, number in zip(both, (10, 2), strict=True):
        end.talk = after(number)
        end.pause()
    for _ in range(COUNT):
        for end in both:
            end.binary(bytes(SIZE))
    for _ in range(12):
        await soon(0.15)
        for end in both:
            end.resume()
    for end in both:
        assert 10 < len(end.frames) <= COUNT
        assert CLOSE not in {frame.opcode for frame in end.frames}
        end.abort()


def pong(end: WebSocketEnd, frame: Frame) -> None:
    """A ``talk`` that answers pings."""
    if frame.opcode == PING:
        end.send_frame(PONG, frame.payload)


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_close_waits_its_turn(world: World, way: str) -> None:
    """Behind what is buffered, so that nothing is lost of what was sent before."""
    bridged = await bridge(world)
    sender, receiver = ends(bridged, way)
    await stuck(bridged, way)
    sender.closing(1000, "all sent")
    await soon(0.1)
    receiver.resume()
    assert await receiver.close_frame() == (1000, "all sent")
    assert len(receiver.frames) == COUNT + 1
