"""Whatever both sides do, in whatever order: bytes arrive as sent, and nothing is left."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytest_twisted

from rtgateway.testing import RunningGateway, WebSocketClient, WebSocketUpstream, eventually, soon
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
from tests.e2e.sockets.bridged import bridge, live, open_socket, start, upstream_of
from tests.e2e.test_auth import AUTH, token
from tests.e2e.world import World, only_instance

__all__: list[str] = []

OURS = b"rtgw"
"""What pings of the gateway begin with."""


def conversation(chance: random.Random, *, masked: bool) -> list[bytes]:
    """Legal frames of any kind and size, up to some 100 KiB."""
    frames, inside = [], False
    for _ in range(chance.randrange(10, 60)):
        mask = chance.randbytes(4) if masked else b""
        kind = chance.random()
        if kind < 0.2:
            frames.append(encode(PING, chance.randbytes(chance.randrange(126)), mask=mask))
        elif kind < 0.3:
            frames.append(encode(PONG, chance.randbytes(chance.randrange(126)), mask=mask))
        else:
            size = chance.choice((0, 1, 5, 125, 126, 127, 1000, 65535, 65536))
            opcode = CONTINUATION if inside else chance.choice((TEXT, BINARY))
            inside = chance.random() < 0.4
            frames.append(encode(opcode, chance.randbytes(size), fin=not inside, mask=mask))
    return frames


class Speaker:
    """Sends frames in pieces of any size, and answers pings of the gateway between two frames."""

    def __init__(self, end: WebSocketEnd, frames: list[bytes]) -> None:
        self.end = end
        self.frames = frames
        self.sent = b""
        self.rest = b""
        self.answered = 0

    def speak(self, chance: random.Random) -> bool:
        """Send a little more, if there is more."""
        if not self.rest:
            self.answer()
            some = chance.randrange(1, 6)
            self.rest, self.frames = b"".join(self.frames[:some]), self.frames[some:]
        size = chance.choice((1, 2, 3, 7, 100, 3000, 100_000))
        piece, self.rest = self.rest[:size], self.rest[size:]
        self.sent += piece
        self.end.transport.write(piece)
        return bool(self.rest or self.frames)

    def answer(self) -> None:
        """Only where a frame may begin."""
        asked = [each for each in self.end.frames if each.opcode == PING and ours(each)]
        for frame in asked[self.answered :]:
            self.end.send_frame(PONG, frame.payload)
        self.answered = len(asked)


def ours(frame: Frame) -> bool:
    return frame.payload[:4] == OURS


def without_pings(end: WebSocketEnd) -> bytes:
    """What came from the other side: all but the pings of the gateway."""
    frames = end.frames
    return b"".join(each.raw for each in frames if each.opcode != PING or not ours(each))


@pytest.mark.parametrize("seed", range(6))
@pytest_twisted.ensureDeferred
async def test_any_frames_in_any_pieces(world: World, seed: int) -> None:
    """Both ways at once, while the gateway pings both sides."""
    chance = random.Random(seed)
    bridged = await bridge(
        world,
        websocket={"ping_interval": "40ms", "pong_timeout": "30s", "ping_upstream": True},
    )
    client, instance = bridged.client, bridged.instance
    up = Speaker(client, conversation(chance, masked=True))
    down = Speaker(instance, conversation(chance, masked=False))
    speaking = [up, down]
    while speaking:
        speaker = chance.choice(speaking)
        if not speaker.speak(chance):
            speaking.remove(speaker)
        if chance.random() < 0.5:
            await soon(chance.choice((0, 0, 0.002, 0.01)))
    await eventually(lambda: len(without_pings(instance)) >= len(up.sent))
    await eventually(lambda: len(without_pings(client)) >= len(down.sent))
    assert without_pings(instance) == up.sent
    assert without_pings(client) == down.sent


# -- any handshake ------------------------------------------------------------------------------

HANDSHAKE = (
    b"GET /ws/main?a=1&access_token=TOKEN&path=/x HTTP/1.1",
    b"Host: test",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
    b"Sec-WebSocket-Protocol: chat, bearer, TOKEN, x",
    b'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12, x; a="b"',
    b"Origin: https://app.example",
    b"Cookie: a=b; session=TOKEN; c=d",
)
PIECES = (
    *(b', ; = " \t \x00 \xff % \\ ? & : \xe9 \n'.split(b" ")),
    *(b"%2F // websocket Upgrade 13 bearer ,, permessage-deflate null 0".split(b" ")),
    b" ",
    b"\r\n ",
    b"a" * 300,
)


def spoiled(chance: random.Random, head: Sequence[bytes]) -> bytes:
    """A head with one to three mistakes in it."""
    lines = list(head)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(lines))
        line = lines[at]
        place, kind = chance.randrange(len(line) + 1), chance.randrange(6)
        if kind == 0:
            lines.insert(chance.randrange(1, len(lines) + 1), line)
        elif kind == 1 and at:
            del lines[at]
        elif kind == 2:
            lines[at] = line[:place]
        elif kind == 3:
            lines[at] = line.swapcase()
        else:
            lines[at] = line[:place] + chance.choice(PIECES) + line[place:]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_any_handshake(world: World, seed: int) -> None:
    """Accepted, or refused as the client's mistake; never one of the gateway's."""
    chance = random.Random(seed)
    terms = {"token_query": "access_token", "token_cookie": "session"}
    upstream = await upstream_of(world)
    gateway = await start(
        world, upstream, auth=AUTH, websocket={**terms, "origins": ["https://app.example"]}
    )
    tokens = (token().encode(), b"nonsense")
    seen: Counter[int] = Counter()
    for _ in range(100):
        client = await WebSocketClient.connect(gateway.port)
        bearer = chance.choices(tokens, (3, 1))[0]
        client.send(spoiled(chance, [line.replace(b"TOKEN", bearer) for line in HANDSHAKE]))
        answer = await eventually(lambda client=client: client.handshake or client.take())  # type: ignore[misc]
        seen[answer.status] += 1
        client.abort()
    assert seen[101] > 5
    assert sum(seen.values()) == 100
    # 501 and 505: that is no method, no version.
    assert all(status in (101, 501, 505) or 400 <= status < 500 for status in seen), seen
    for end in upstream.sockets:
        end.abort()
    await nothing_left(world, gateway)


# -- any order of events ------------------------------------------------------------------------

Act = Callable[[Any], object]

ACTS: tuple[Act, ...] = (
    lambda end: end.text("words"),
    lambda end: end.binary(bytes(100_000)),
    lambda end: end.send_frame(TEXT, b"begin", fin=False),
    lambda end: end.transport.write(encode(BINARY, bytes(1000), mask=b"abcd")[:300]),
    lambda end: end.ping(b"?"),
    lambda end: end.closing(1000, "done"),
    lambda end: end.closing(),
    lambda end: end.transport.loseConnection(),
    lambda end: end.abort(),
    lambda end: end.half_close(),
    lambda end: end.pause(),
    lambda end: end.resume(),
    lambda end: end.transport.write(b"\xff garbage"),
)


async def one(gateway: RunningGateway, upstream: WebSocketUpstream, seed: int) -> None:
    """A client and its instance do things, at random."""
    chance = random.Random(seed)
    client = await WebSocketClient.connect(gateway.port)
    client.upgrade("/ws/main")
    if chance.random() < 0.7:
        await client.opened()
    for _ in range(chance.randrange(8)):
        instances = [each for each in upstream.sockets if not each.lost]
        end: Any = chance.choice((client, *instances[-1:]))
        if end.lost is None:
            chance.choice(ACTS)(end)
        for _ in range(chance.randrange(4)):
            await soon()
    if client.lost is None:
        client.abort()


@pytest.mark.parametrize("seed", range(4))
@pytest_twisted.ensureDeferred
async def test_any_order_of_events(world: World, seed: int) -> None:
    """No place, permit, connection or deadline is kept, and nothing is logged as an error."""
    upstream = await upstream_of(world)
    gateway = await start(
        world,
        upstream,
        timeouts={"write_stall": "300ms"},
        websocket={"close_timeout": "100ms", "connections": 1000, "per_ip": 1000},
        connections={"total": 1000},
    )
    for number in range(60):
        await one(gateway, upstream, seed * 1000 + number)
    await nothing_left(world, gateway)
    assert sum(gateway.service.sockets.opened.values()) > 30
    await eventually(lambda: all(each.lost for each in upstream.connections if not stalled(each)))


def stalled(end: Any) -> bool:
    """Who reads nothing does not learn that its connection is gone."""
    return end.transport is not None and end not in end.transport.reactor.getReaders()


async def nothing_left(world: World, gateway: RunningGateway) -> None:
    """Wait until the gateway is as it was before."""
    sockets = gateway.service.sockets
    await eventually(lambda: not live(gateway))
    await world.at_rest(gateway)
    await eventually(lambda: not gateway.service.site.channels)
    assert only_instance(gateway).sockets == 0
    assert only_instance(gateway).streams == 0
    assert (sockets._per_route, sockets._per_ip, sockets._per_identity) == ({}, {}, {})
    await eventually(lambda: gateway.service.gate.taken == 0)
    assert sum(sockets.opened.values()) == sum(sockets.closed.values())


@pytest_twisted.ensureDeferred
async def test_many_at_once(world: World) -> None:
    """Three hundred are open; all are counted, and all are gone in the end."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream, websocket={"drain_timeout": "200ms"})
    clients = [await open_socket(world, gateway) for _ in range(300)]
    await eventually(lambda: len(upstream.sockets) == 300)
    assert len(live(gateway)) == only_instance(gateway).sockets == 300
    for number, client in enumerate(clients):
        client.text(str(number))
    await eventually(lambda: sum(len(each.frames) for each in upstream.sockets) == 300)
    for client in clients:
        client.closing(1001)
    for end in upstream.sockets:
        assert (await end.close_frame())[0] == 1001
        end.send_frame(CLOSE, b"")
        end.transport.loseConnection()
    await eventually(lambda: all(client.lost for client in clients))
    await nothing_left(world, gateway)
