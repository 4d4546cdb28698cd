"""How WebSockets end: what one side says or suffers, the other one learns."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

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
    WebSocketEnd,
    encode,
)
from tests.e2e.sockets.bridged import Bridged, bridge, connect, live, metric, start, upstream_of
from tests.e2e.world import World, only_instance

__all__: list[str] = []

MASK = b"\x11\x22\x33\x44"

both_ways = pytest.mark.parametrize("way", ["up", "down"])
leaving = pytest.mark.parametrize(
    "leave",
    [lambda end: end.transport.loseConnection(), lambda end: end.abort(), WebSocketEnd.half_close],
    ids=["close", "reset", "half"],
)
Leave = Callable[[Any], None]


def ends(bridged: Bridged, way: str) -> tuple[Any, Any]:
    """Who begins, and the other one."""
    client, instance = bridged.client, bridged.instance
    return (client, instance) if way == "up" else (instance, client)


async def all_over(world: World, bridged: Bridged) -> dict[str, Any]:
    """Everything is gone, nothing is counted any more; the line that the log has of it."""
    await bridged.ended()
    await world.at_rest(bridged.gateway)
    assert only_instance(bridged.gateway).sockets == 0
    assert not bridged.gateway.service.site.channels
    bridged.gateway.service.access_log.flush()
    return (await world.logged(bridged.gateway, 2))[1]


# -- a Close frame of one side ----------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "done"),
        (1001, ""),
        (1003, "no text, please"),
        (1007, "b"),
        (1008, "c"),
        (1009, "d"),
        (1010, "e"),
        (1011, "f"),
        (1012, "g"),
        (1013, "h"),
        (1014, "i"),
        (3000, "library"),
        (4999, "own ✓"),
        (4000, "x" * 123),
    ],
)
@pytest_twisted.ensureDeferred
async def test_codes_and_reasons(world: World, way: str, code: int, reason: str) -> None:
    """They reach the other side as they are, and so does the answer."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    one.closing(code, reason)
    assert await other.close_frame() == (code, reason)
    other.closing(code, reason)
    assert await one.close_frame() == (code, reason)
    bridged.instance.transport.loseConnection()
    line = await all_over(world, bridged)
    assert (line["close_code"], line["close_reason"]) == (code, reason)
    assert line["closed_by"] == ("client" if way == "up" else "upstream")


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_close_without_a_code(world: World, way: str) -> None:
    """The other side learns who it was."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    one.closing()
    expected = (1000, "client_closed" if way == "up" else "upstream_closed")
    assert await other.close_frame() == expected
    other.closing()
    await one.close_frame()
    bridged.instance.transport.loseConnection()
    await all_over(world, bridged)


@both_ways
@pytest_twisted.ensureDeferred
async def test_what_came_before_the_close(world: World, way: str) -> None:
    """All of it arrives first, and nothing of what comes behind (RFC 6455, 5.5.1)."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    one.binary(bytes(1_000_000))
    one.closing(1000, "done")
    one.text("too late")
    assert await other.close_frame() == (1000, "done")
    assert [frame.opcode for frame in other.frames] == [BINARY, CLOSE]
    assert len(other.frames[0].payload) == 1_000_000
    other.closing(1000)
    await one.close_frame()
    await soon(0.05)
    assert len(other.frames) == 2


@both_ways
@pytest_twisted.ensureDeferred
async def test_the_other_side_goes_on_until_it_answers(world: World, way: str) -> None:
    """It may finish what it was sending."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    one.closing(1000)
    await other.close_frame()
    other.text("the rest")
    other.closing(1000)
    await one.close_frame()
    assert [frame.opcode for frame in one.frames] == [TEXT, CLOSE]


@both_ways
@pytest_twisted.ensureDeferred
async def test_both_close_at_once(world: World, way: str) -> None:
    """Each gets one Close frame, and it ends."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    one.closing(4000, "one")
    other.closing(4001, "other")
    await one.close_frame()
    await other.close_frame()
    bridged.instance.transport.loseConnection()
    await all_over(world, bridged)
    for end in (one, other):
        assert [frame.opcode for frame in end.frames] == [CLOSE]


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_close_that_is_not_answered(world: World, way: str) -> None:
    """Nobody is waited for longer than ``close_timeout``."""
    bridged = await bridge(world, websocket={"close_timeout": "200ms"})
    one, other = ends(bridged, way)
    one.closing(1000, "done")
    assert await other.close_frame() == (1000, "done")
    began = monotonic()
    await all_over(world, bridged)
    assert monotonic() - began < 4.0


@pytest_twisted.ensureDeferred
async def test_who_closes_first(world: World) -> None:
    """The client gets the end of its connection with the second Close (RFC 6455, 7.1.1)."""
    bridged = await bridge(world)
    bridged.client.closing(1000)
    await bridged.instance.close_frame()
    bridged.instance.closing(1000)
    await bridged.client.close_frame()
    await eventually(lambda: bridged.client.lost, patience=2.0)


# -- a side is gone without one ---------------------------------------------------------------


@leaving
@pytest_twisted.ensureDeferred
async def test_the_instance_is_gone(world: World, leave: Leave) -> None:
    """A lost connection is an error for the client, not an end."""
    bridged = await bridge(world)
    bridged.instance.binary(bytes(100_000))
    await bridged.client.frame()
    leave(bridged.instance)
    assert await bridged.client.close_frame() == (1011, "upstream_error")
    bridged.client.closing(1011)
    line = await all_over(world, bridged)
    assert line["closed_by"] == "upstream"
    assert line["close_code"] in (1006, 1011)


@leaving
@pytest_twisted.ensureDeferred
async def test_the_client_is_gone(world: World, leave: Leave) -> None:
    """The instance is told."""
    bridged = await bridge(world)
    bridged.client.binary(bytes(100_000))
    await bridged.instance.frame()
    leave(bridged.client)
    assert await bridged.instance.close_frame() == (1001, "client_gone")
    bridged.instance.closing(1001)
    bridged.instance.transport.loseConnection()
    line = await all_over(world, bridged)
    assert line["closed_by"] == "client"


@both_ways
@leaving
@pytest_twisted.ensureDeferred
async def test_gone_in_the_middle_of_a_frame(world: World, way: str, leave: Leave) -> None:
    """What came of it arrives; a Close can't be put into it, so the connection just ends."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    mask = MASK if way == "up" else b""
    half = encode(BINARY, bytes(5000), mask=mask)[:2500]
    one.transport.write(half)
    await eventually(lambda: len(other.wire) == 2500)
    leave(one)
    await eventually(lambda: other.lost)
    assert bytes(other.wire) == half
    await all_over(world, bridged)


@both_ways
@pytest_twisted.ensureDeferred
async def test_gone_between_fragments(world: World, way: str) -> None:
    """Between two frames of a message there is a place for it."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    one.send_frame(TEXT, b"first", fin=False)
    await other.frame()
    one.abort()
    expected = (1001, "client_gone") if way == "up" else (1011, "upstream_error")
    assert await other.close_frame() == expected


@both_ways
@pytest_twisted.ensureDeferred
async def test_everything_sent_before_the_loss_arrives(world: World, way: str) -> None:
    """An end of the connection right behind the data takes none of it."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    for _ in range(40):
        one.binary(bytes(50_000))
    one.transport.loseConnection()
    await other.close_frame()
    assert [frame.opcode for frame in other.frames] == [BINARY] * 40 + [CLOSE]


@both_ways
@pytest_twisted.ensureDeferred
async def test_gone_while_the_other_reads_nothing(world: World, way: str) -> None:
    """Who is not read from can't be seen leaving; it ends all the same, by ``write_stall``."""
    bridged = await bridge(world, timeouts={"write_stall": "300ms"})
    one, other = ends(bridged, way)
    other.pause()
    one.binary(bytes(12_000_000))
    await soon(0.05)
    one.abort()
    await eventually(lambda: not live(bridged.gateway))
    await world.at_rest(bridged.gateway)
    other.resume()
    await eventually(lambda: other.lost)


# -- frames that are none ---------------------------------------------------------------------

BAD = {
    "unmasked or masked": None,
    "rsv1 without deflate": encode(TEXT, b"x", rsv=4, mask=MASK),
    "rsv2": encode(TEXT, b"x", rsv=2, mask=MASK),
    "rsv3": encode(TEXT, b"x", rsv=1, mask=MASK),
    "opcode 3": encode(3, b"x", mask=MASK),
    "opcode 7": encode(7, b"", mask=MASK),
    "opcode 11": encode(11, b"", mask=MASK),
    "opcode 15": encode(15, b"", mask=MASK),
    "fragmented ping": encode(PING, b"", fin=False, mask=MASK),
    "fragmented close": encode(CLOSE, b"", fin=False, mask=MASK),
    "long ping": encode(PING, bytes(126), mask=MASK),
    "long close": encode(CLOSE, b"\x03\xe8" + b"x" * 124, mask=MASK),
    "continuation of nothing": encode(CONTINUATION, b"x", mask=MASK),
    "text in a message": encode(TEXT, b"a", fin=False, mask=MASK) + encode(TEXT, b"b", mask=MASK),
    "length with the top bit": b"\x82\xff\x80" + bytes(7) + MASK,
    "16 bits for a short length": b"\x82\xfe\x00\x05" + MASK + bytes(5),
    "64 bits for a short length": b"\x82\xff" + (200).to_bytes(8, "big") + MASK + bytes(200),
    "close of one byte": encode(CLOSE, b"\x03", mask=MASK),
    "close 999": encode(CLOSE, b"\x03\xe7", mask=MASK),
    "close 1004": encode(CLOSE, b"\x03\xec", mask=MASK),
    "close 1005": encode(CLOSE, b"\x03\xed", mask=MASK),
    "close 1006": encode(CLOSE, b"\x03\xee", mask=MASK),
    "close 1015": encode(CLOSE, b"\x03\xf7", mask=MASK),
    "close 2000": encode(CLOSE, b"\x07\xd0", mask=MASK),
    "close 5000": encode(CLOSE, b"\x13\x88", mask=MASK),
    "close with a reason that is not UTF-8": encode(CLOSE, b"\x03\xe8\xff", mask=MASK),
    "HTTP": b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
}


def unmasked(raw: bytes) -> bytes:
    """The same offence, as an instance commits it: without the mask bit and the mask."""
    if not raw[1] & 0x80:
        return raw
    plain = raw[:1] + bytes((raw[1] & 0x7F,)) + raw[2:]
    at = plain.find(MASK)
    if at < 0:
        return plain
    payload = plain[at + 4 :]
    return plain[:at] + bytes(b ^ MASK[i % 4] for i, b in enumerate(payload))


@both_ways
@pytest.mark.parametrize("offence", BAD)
@pytest_twisted.ensureDeferred
async def test_a_violation(world: World, way: str, offence: str) -> None:
    """Both sides are closed with 1002, and nothing of it reaches the other one."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    raw = BAD[offence]
    if raw is None:
        raw = encode(TEXT, b"x", mask=b"" if way == "up" else MASK)
    elif offence == "text in a message":
        mask = MASK if way == "up" else b""
        raw = encode(TEXT, b"a", fin=False, mask=mask) + encode(TEXT, b"b", mask=mask)
    elif way == "down":
        raw = unmasked(raw)
    one.text("good")
    await other.frame()
    one.transport.write(raw)
    assert await one.close_frame() == (1002, "protocol_error")
    assert await other.close_frame() == (1002, "protocol_error")
    passed = [frame.payload for frame in other.frames if frame.opcode != CLOSE]
    assert passed in ([b"good"], [b"good", b"a"])
    one.transport.loseConnection()
    other.transport.loseConnection()
    line = await all_over(world, bridged)
    assert (line["close_code"], line["close_reason"]) == (1002, "protocol_error")
    labels = {"code": "1002", "reason": "protocol_error", "side": "gateway"}
    labels |= {"route": "/ws/:service", "service": "main"}
    name = "gateway_websocket_closed_total"
    assert await metric(world, bridged.gateway, name, **labels) == 1


@pytest_twisted.ensureDeferred
async def test_garbage_before_the_handshake(world: World) -> None:
    """It is no HTTP, and nobody hears of it."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.send(encode(TEXT, b"hello", mask=MASK) + b"\r\n\r\n")
    assert (await client.answer()).status == 400
    await client.closed()
    assert upstream.connections == []


@pytest_twisted.ensureDeferred
async def test_garbage_right_behind_the_handshake(world: World) -> None:
    """Judged as soon as the WebSocket is there."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main", behind=b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await client.opened()
    assert await client.close_frame() == (1002, "protocol_error")
    assert await (await upstream.socket()).close_frame() == (1002, "protocol_error")


@pytest_twisted.ensureDeferred
async def test_a_ping_is_not_cut_by_a_close_of_the_gateway(world: World) -> None:
    """Control frames may stand between fragments, never inside a frame."""
    bridged = await bridge(world)
    bridged.instance.transport.write(encode(BINARY, bytes(1000))[:500])
    await eventually(lambda: len(bridged.client.wire) == 500)
    (socket,) = live(bridged.gateway)
    socket.close(1000, "closed_by_operator")
    await soon(0.05)
    assert len(bridged.client.wire) == 500, "not in the middle of a frame"
    bridged.instance.transport.write(encode(BINARY, bytes(1000))[500:])
    assert await bridged.client.close_frame() == (1000, "closed_by_operator")
    assert [frame.opcode for frame in bridged.client.frames] == [BINARY, CLOSE]
    assert await bridged.instance.close_frame() == (1000, "closed_by_operator")
    assert PONG not in {frame.opcode for frame in bridged.client.frames}


# -- in the middle of a frame -----------------------------------------------------------------


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_close_of_the_gateway_waits_for_the_end_of_a_frame(world: World, way: str) -> None:
    """The sender is told at once; the receiver when what it was getting is complete."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    raw = encode(BINARY, bytes(1000), mask=MASK if way == "up" else b"")
    one.transport.write(raw[:500])
    await eventually(lambda: len(other.wire) == 500)
    live(bridged.gateway)[0].close(1000, "closed_by_operator")
    assert await one.close_frame() == (1000, "closed_by_operator")
    await soon(0.05)
    assert len(other.wire) == 500
    one.transport.write(raw[500:])
    assert await other.close_frame() == (1000, "closed_by_operator")
    one.transport.write(raw)
    await soon(0.05)
    assert [frame.opcode for frame in other.frames] == [BINARY, CLOSE]


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_frame_that_is_never_finished(world: World, way: str) -> None:
    """Nobody waits for its end longer than ``close_timeout``."""
    bridged = await bridge(world, websocket={"close_timeout": "200ms"})
    one, other = ends(bridged, way)
    one.transport.write(encode(BINARY, bytes(1000), mask=MASK if way == "up" else b"")[:500])
    await eventually(lambda: len(other.wire) == 500)
    live(bridged.gateway)[0].close(1000, "closed_by_operator")
    await one.close_frame()
    await bridged.ended()
    assert len(other.wire) == 500


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_close_against_a_half_sent_frame(world: World, way: str) -> None:
    """Who gets a Close in the middle of its own frame finishes that first."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    raw = encode(BINARY, bytes(1000), mask=MASK if way == "up" else b"")
    one.transport.write(raw[:500])
    await eventually(lambda: len(other.wire) == 500)
    other.closing(4000, "enough")
    assert await one.close_frame() == (4000, "enough")
    one.transport.write(raw[500:])
    one.closing(4000, "enough")
    assert await other.close_frame() == (4000, "enough")
    assert [frame.opcode for frame in other.frames] == [BINARY, CLOSE]
    bridged.instance.transport.loseConnection()
    await all_over(world, bridged)


@both_ways
@pytest_twisted.ensureDeferred
async def test_good_frames_before_a_violation(world: World, way: str) -> None:
    """In one write: what was legal arrives, then the Close."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    mask = MASK if way == "up" else b""
    good = encode(TEXT, b"good", mask=mask) + encode(PING, b"?", mask=mask)
    one.transport.write(good + encode(3, b"bad", mask=mask) + encode(TEXT, b"late", mask=mask))
    assert await other.close_frame() == (1002, "protocol_error")
    assert bytes(other.wire).startswith(good)
    assert [frame.opcode for frame in other.frames] == [TEXT, PING, CLOSE]
    assert await one.close_frame() == (1002, "protocol_error")


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_violation_while_the_other_side_sends(world: World, way: str) -> None:
    """The offender is told between two frames of what it is getting."""
    bridged = await bridge(world)
    one, other = ends(bridged, way)
    raw = encode(BINARY, bytes(1000), mask=MASK if way == "down" else b"")
    other.transport.write(raw[:500])
    await eventually(lambda: len(one.wire) == 500)
    one.transport.write(b"\xff\xff")
    assert await other.close_frame() == (1002, "protocol_error")
    await soon(0.05)
    assert len(one.wire) == 500
    other.transport.write(raw[500:])
    assert await one.close_frame() == (1002, "protocol_error")
    assert [frame.opcode for frame in one.frames] == [BINARY, CLOSE]


@both_ways
@pytest_twisted.ensureDeferred
async def test_closing_who_does_not_read(world: World, way: str) -> None:
    """An order to close does not wait for what will never be read."""
    bridged = await bridge(world, websocket={"close_timeout": "200ms"})
    one, other = ends(bridged, way)
    other.pause()
    one.binary(bytes(12_000_000))
    (socket,) = live(bridged.gateway)
    await eventually(lambda: socket.buffered_in + socket.buffered_out)
    socket.close(1000, "closed_by_operator")
    await eventually(lambda: not live(bridged.gateway))
    await world.at_rest(bridged.gateway)
    assert one.frames[-1].close == (1000, "closed_by_operator")
