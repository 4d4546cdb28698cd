"""What a WebSocket may be: how large its frames, how fast its client, how many of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

import pytest
import pytest_twisted

from rtgateway.testing import RunningGateway, eventually
from rtgateway.testing.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocketEnd,
    agree,
    encode,
)
from tests.e2e.sockets.bridged import (
    Bridged,
    bridge,
    live,
    open_socket,
    refused,
    start,
    upstream_of,
)
from tests.e2e.test_auth import AUTH, token
from tests.e2e.world import World, only_instance, with_length

__all__: list[str] = []

both_ways = pytest.mark.parametrize("way", ["up", "down"])
MASK = b"\x11\x22\x33\x44"


def ends(bridged: Bridged, way: str) -> tuple[WebSocketEnd, WebSocketEnd]:
    client, instance = bridged.client, bridged.instance
    return (client, instance) if way == "up" else (instance, client)


# -- sizes ------------------------------------------------------------------------------------


@both_ways
@pytest_twisted.ensureDeferred
async def test_the_largest_frame(world: World, way: str) -> None:
    """It passes; one byte more does not, and is judged by its head."""
    bridged = await bridge(world, websocket={"max_frame": 1000})
    one, other = ends(bridged, way)
    raw = one.binary(bytes(1000))
    await eventually(lambda: bytes(other.wire) == raw)
    mask = MASK if one.masks else b""
    one.transport.write(encode(BINARY, bytes(1001), mask=mask)[: 4 + len(mask)])
    assert await one.close_frame() == (1009, "frame_too_big")
    assert await other.close_frame() == (1009, "frame_too_big")
    assert [frame.opcode for frame in other.frames] == [BINARY, CLOSE]


@both_ways
@pytest_twisted.ensureDeferred
async def test_the_largest_message(world: World, way: str) -> None:
    """All its frames together; control frames between them don't count."""
    bridged = await bridge(world, websocket={"max_message": 1000})
    one, other = ends(bridged, way)
    one.send_frame(BINARY, bytes(600), fin=False)
    one.ping(bytes(125))
    one.send_frame(CONTINUATION, bytes(400))
    one.binary(bytes(1000))
    one.send_frame(BINARY, bytes(600), fin=False)
    one.send_frame(CONTINUATION, bytes(401))
    assert await one.close_frame() == (1009, "message_too_big")
    assert await other.close_frame() == (1009, "message_too_big")
    passed = [(frame.opcode, len(frame.payload)) for frame in other.frames[:-1]]
    whole = [(BINARY, 600), (PING, 125), (CONTINUATION, 400), (BINARY, 1000)]
    assert passed in (whole, [*whole, (BINARY, 600)])


@pytest_twisted.ensureDeferred
async def test_control_frames_are_never_too_large(world: World) -> None:
    """They have a limit of their own."""
    bridged = await bridge(world, websocket={"max_frame": 10, "max_message": 10})
    bridged.client.ping(bytes(125))
    assert (await bridged.instance.frame()).payload == bytes(125)


# -- rates ------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_too_many_messages(world: World) -> None:
    """The burst passes, then it is closed."""
    bridged = await bridge(world, websocket={"messages_per_second": 1, "message_burst": 5})
    for number in range(5):
        bridged.client.text(str(number))
        await bridged.instance.frame()
    assert bridged.client.frames == []
    for _ in range(10):
        bridged.client.text("too many")
    assert await bridged.client.close_frame() == (1008, "rate_limit")
    assert await bridged.instance.close_frame() == (1008, "rate_limit")
    assert len(bridged.instance.frames) <= 5 + 10 + 1


@pytest_twisted.ensureDeferred
async def test_too_many_bytes(world: World) -> None:
    """The same by bytes, in however few messages."""
    bridged = await bridge(world, websocket={"bytes_per_second": 10_000, "byte_burst": 20_000})
    bridged.client.binary(bytes(15_000))
    assert len((await bridged.instance.frame()).payload) == 15_000
    bridged.client.binary(bytes(150_000))
    assert await bridged.client.close_frame() == (1008, "rate_limit")


@pytest_twisted.ensureDeferred
async def test_the_instance_may_send_as_much_as_it_likes(world: World) -> None:
    """Rates are for clients."""
    bridged = await bridge(world, websocket={"messages_per_second": 1, "bytes_per_second": 1000})
    for _ in range(100):
        bridged.instance.binary(bytes(1000))
    await eventually(lambda: len(bridged.client.frames) == 100)


@pytest.mark.parametrize(
    "limits",
    [
        {"messages_per_second": 20, "message_burst": 5},
        {"bytes_per_second": 2000, "byte_burst": 500},
    ],
    ids=["messages", "bytes"],
)
@pytest_twisted.ensureDeferred
async def test_too_much_is_read_later(world: World, limits: Mapping[str, int]) -> None:
    """With ``pause`` nothing is lost, only late, and the rate holds."""
    bridged = await bridge(world, websocket={**limits, "over_rate": "pause"})
    for _ in range(20):
        bridged.client.binary(bytes(94))
    await eventually(lambda: len(bridged.instance.frames) == 20)
    began = monotonic()
    bridged.client.text("the next one")
    await eventually(lambda: len(bridged.instance.frames) == 21)
    assert monotonic() - began > 0.4
    assert bridged.client.frames == []
    await bridged.still_open()


@pytest_twisted.ensureDeferred
async def test_a_paused_client_can_leave(world: World) -> None:
    """A client that is not read from gets what comes for it, and is missed when it goes."""
    limits = {"messages_per_second": 0.1, "message_burst": 1, "over_rate": "pause"}
    bridged = await bridge(world, websocket={**limits, "close_timeout": "300ms"})
    for _ in range(3):
        bridged.client.text("fast")
    await bridged.instance.frame()
    bridged.instance.text("all the same")
    assert (await bridged.client.frame()).payload == b"all the same"
    (socket,) = live(bridged.gateway)
    socket.close(1000, "closed_by_operator")
    assert await bridged.client.close_frame() == (1000, "closed_by_operator")
    bridged.client.abort()
    bridged.instance.transport.loseConnection()
    await bridged.ended()


@pytest_twisted.ensureDeferred
async def test_pings_under_a_limit(world: World) -> None:
    """They are no messages."""
    bridged = await bridge(world, websocket={"messages_per_second": 0.1, "message_burst": 1})
    for _ in range(20):
        bridged.client.ping(b"?")
        await bridged.instance.frame()
        bridged.instance.send_frame(PONG, b"?")
        await bridged.client.frame()
    assert len(bridged.client.frames) == 20


# -- numbers ----------------------------------------------------------------------------------


async def no_more(
    world: World, gateway: RunningGateway, target: str = "/ws/main", *lines: str
) -> tuple[int, str]:
    """Status and error of a handshake that is refused, and that no instance hears of."""
    before = only_instance(gateway).inflight
    answer = await refused(world, gateway, target, *lines)
    assert only_instance(gateway).inflight == before
    assert int(answer.header(b"retry-after") or b"0") > 0
    document: dict[str, Any] = json.loads(answer.body)
    return answer.status, document["error"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("connections", (503, "too_many_websockets")),
        ("per_ip", (429, "too_many_websockets_per_ip")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_how_many(world: World, limit: str, expected: tuple[int, str]) -> None:
    """Open ones count, and one that is gone makes room."""
    gateway = await start(world, await upstream_of(world), websocket={limit: 2})
    first, _ = [await open_socket(world, gateway) for _ in range(2)]
    assert await no_more(world, gateway) == expected
    first.abort()
    await eventually(lambda: len(live(gateway)) == 1)
    await open_socket(world, gateway)
    assert await no_more(world, gateway) == expected


@pytest_twisted.ensureDeferred
async def test_how_many_of_an_address_behind_a_proxy(world: World) -> None:
    """It is the client's, and for IPv6 its network."""
    gateway = await start(
        world, await upstream_of(world), websocket={"per_ip": 1}, trusted_proxies=["127.0.0.1"]
    )
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"):
        await open_socket(world, gateway, "/ws/main", f"X-Forwarded-For: {address}")
    for address in ("192.0.2.1", "2001:db8:0:1::2"):
        status, _ = await no_more(world, gateway, "/ws/main", f"X-Forwarded-For: {address}")
        assert status == 429


@pytest_twisted.ensureDeferred
async def test_how_many_of_an_identity(world: World) -> None:
    """By the subject of the token, whichever token it is."""
    gateway = await start(world, await upstream_of(world), auth=AUTH, websocket={"per_identity": 1})
    ann, again, bob = (
        f"Authorization: Bearer {token(sub=sub, jti=str(number))}"
        for number, sub in enumerate(("ann", "ann", "bob"))
    )
    await open_socket(world, gateway, "/ws/main", ann)
    expected = (429, "too_many_websockets_per_identity")
    assert await no_more(world, gateway, "/ws/main", again) == expected
    await open_socket(world, gateway, "/ws/main", bob)


@pytest_twisted.ensureDeferred
async def test_how_many_of_an_instance(world: World) -> None:
    """The next one gets it; when all are full there is none."""
    upstreams = [await upstream_of(world) for _ in range(2)]
    gateway = await start(
        world, {"instances": [each.url for each in upstreams]}, websocket={"per_instance": 2}
    )
    clients = [await open_socket(world, gateway) for _ in range(4)]
    assert [len(each.sockets) for each in upstreams] == [2, 2]
    answer = await refused(world, gateway)
    assert answer.status == 503
    clients[0].abort()
    await eventually(lambda: len(live(gateway)) == 3)
    await open_socket(world, gateway)


@pytest_twisted.ensureDeferred
async def test_routes_count_for_themselves(world: World) -> None:
    """And each has the limits it names."""
    routes = [
        {"path": "/one", "service": "main", "websocket": {"connections": 1}},
        {"path": "/two", "service": "main", "websocket": True},
    ]
    gateway = await start(
        world, await upstream_of(world), routes=routes, websocket={"connections": 2}
    )
    await open_socket(world, gateway, "/one")
    for _ in range(2):
        await open_socket(world, gateway, "/two")
    for target in ("/one", "/two"):
        assert (await no_more(world, gateway, target))[0] == 503


@pytest_twisted.ensureDeferred
async def test_places_of_handshakes_that_fail(world: World) -> None:
    """They are given back, however it fails."""
    answers: list[Any] = [
        lambda _, request: agree(request).replace(b"Accept: ", b"Accept: x"),
        lambda *_: b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        lambda *_: with_length(b"ok"),
        lambda *_: b"nonsense\r\n\r\n",
    ]
    upstream = await upstream_of(world, lambda *args: answers[0](*args))
    service = {"instances": [upstream.url], "retry": "off", "circuit_breaker": "off"}
    gateway = await start(world, service, websocket={"connections": 1, "per_ip": 1})
    while answers:
        await refused(world, gateway)
        answers.pop(0)
    upstream.answering = lambda _, request: agree(request)
    client = await open_socket(world, gateway)
    client.send_frame(TEXT, b"in")
    assert (await upstream.sockets[-1].frame()).payload == b"in"
