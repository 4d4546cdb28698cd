"""WebSockets among everything else a gateway does: pools, limits, retries, shaping, listeners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import UNIXClientEndpoint

from rtgateway.testing import WebSocketClient, eventually, soon
from rtgateway.testing.waiting import the_reactor
from rtgateway.testing.websocket import BINARY, CLOSE, TEXT, agree, echo, encode
from tests.e2e.sockets.bridged import (
    bridge,
    connect,
    live,
    open_socket,
    refused,
    start,
    upstream_of,
)
from tests.e2e.test_auth import AUTH, token
from tests.e2e.world import World, get, only_instance, with_length

__all__: list[str] = []

MASK = b"\x11\x22\x33\x44"


def asked_for(request: bytes) -> bool:
    return b"\r\nUpgrade: websocket\r\n" in request


# -- time and place of requests ---------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_deadlines_of_requests_are_over(world: World) -> None:
    """A WebSocket that is silent for longer than any request may be is left alone."""
    short = ("head", "keep_alive", "body_idle", "between_bytes", "first_byte", "write_stall")
    timeouts = dict.fromkeys(short, "200ms")
    bridged = await bridge(world, timeouts={**timeouts, "request": "300ms"})
    await soon(1.0)
    await bridged.still_open()


@pytest_twisted.ensureDeferred
async def test_sockets_are_not_connections_of_the_pool(world: World) -> None:
    """There may be more of them than the pool may have, and requests still get through."""
    upstream = await upstream_of(
        world, lambda _, request: agree(request) if asked_for(request) else with_length(b"ok")
    )
    service = {"instances": [upstream.url], "pool": {"connections": 2, "queue_timeout": "500ms"}}
    gateway = await start(world, service)
    for _ in range(5):
        await open_socket(world, gateway)
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 200
    assert len(live(gateway)) == 5
    assert only_instance(gateway).sockets == 5


@pytest_twisted.ensureDeferred
async def test_sockets_count_as_connections_of_clients(world: World) -> None:
    """Until they are gone."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream, connections={"total": 3})
    clients = [await open_socket(world, gateway) for _ in range(3)]
    fourth = await connect(world, gateway)
    fourth.upgrade("/ws/main")
    await soon(0.1)
    assert fourth.received == b"", "not even accepted"
    clients[0].abort()
    upstream.sockets[0].abort()
    await fourth.opened()


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_instance_has_closed(world: World) -> None:
    """The handshake is asked again on a fresh one, as every GET is."""

    def dies_at_second(connection: Any, request: bytes) -> bytes | None:
        if len(connection.requests) > 1:
            connection.close()
            return None
        return agree(request) if asked_for(request) else with_length(b"ok")

    upstream = await upstream_of(world, dies_at_second)
    gateway = await start(world, {"instances": [upstream.url], "retry": "off"})
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 200
    await open_socket(world, gateway)
    assert len(upstream.connections) == 2


@pytest_twisted.ensureDeferred
async def test_pipelined_behind_a_request(world: World) -> None:
    """Request, handshake and frame in one write: one after the other."""
    upstream = await upstream_of(
        world, lambda _, request: agree(request) if asked_for(request) else with_length(b"ok")
    )
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.send(get() + get("/healthz"))
    client.upgrade("/ws/main", behind=encode(TEXT, b"early", mask=MASK))
    assert (await client.answer()).body == b"ok"
    assert (await client.answer()).body == b'{"ok":true}'
    await client.opened()
    assert (await (await upstream.socket()).frame()).payload == b"early"


# -- odd answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
@pytest_twisted.ensureDeferred
async def test_a_101_has_no_body(world: World, line: str) -> None:
    """Whatever it says (RFC 9110, 15.2; RFC 9112, 6.3): frames follow, or it is no agreement."""
    upstream = await upstream_of(
        world, lambda _, request: agree(request, line) + encode(TEXT, b"hello")
    )
    gateway = await start(world, {"instances": [upstream.url], "retry": "off"})
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    await eventually(lambda: client.handshake or client.received)
    if client.handshake is None:
        assert (await client.answer()).status == 502
    else:
        assert (await client.frame()).payload == b"hello"
        assert client.handshake.header(line.partition(":")[0].lower().encode()) is None


@pytest_twisted.ensureDeferred
async def test_hints_before_the_101(world: World) -> None:
    """Other answers of 1xx may come first (RFC 9110, 15.2)."""
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    request = await upstream.request()
    connection = upstream.connections[0]
    connection.transport.write(hint)
    await soon(0.05)
    connection.send(agree(request))
    await eventually(lambda: b"101 " in client.received or client.handshake)
    if client.handshake is None:
        assert client.received.startswith(b"HTTP/1.1 103 ")


@pytest.mark.parametrize(
    "twice",
    [
        ("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"),
        ("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: other"),
        ("Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",),
        ("Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate",),
        ("Sec-WebSocket-Extensions: permessage-deflate; nonsense",),
        ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99",),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_101_that_says_too_much(world: World, twice: tuple[str, ...]) -> None:
    """What two parties could read differently is no agreement."""
    upstream = await upstream_of(world, lambda _, request: agree(request, *twice))
    gateway = await start(world, {"instances": [upstream.url], "retry": "off"})
    offers = ("Sec-WebSocket-Protocol: chat, other", "Sec-WebSocket-Extensions: permessage-deflate")
    answer = await refused(world, gateway, "/ws/main", *offers)
    assert answer.status == 502


@pytest_twisted.ensureDeferred
async def test_much_behind_the_101(world: World) -> None:
    """All of it arrives, at a client that is slow to read."""
    raw = b"".join(encode(BINARY, bytes(100_000)) for _ in range(60))
    upstream = await upstream_of(world, lambda _, request: agree(request) + raw)
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    await client.opened()
    client.pause()
    await soon(0.2)
    client.resume()
    await eventually(lambda: len(client.wire) == len(raw))
    assert bytes(client.wire) == raw


@pytest.mark.parametrize("end", ["close", "loss", "frame and loss"])
@pytest_twisted.ensureDeferred
async def test_over_as_soon_as_it_is_open(world: World, end: str) -> None:
    """The instance agrees and ends it in one write: the client sees both."""

    def over(connection: Any, request: bytes) -> bytes | None:
        connection.send(
            {
                "close": agree(request) + encode(CLOSE, b"\x0f\xa1enough"),
                "loss": agree(request),
                "frame and loss": agree(request) + encode(TEXT, b"last words"),
            }[end]
        )
        if end != "close":
            connection.close()
        return None

    gateway = await start(world, await upstream_of(world, over))
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    await client.opened()
    expected = (4001, "enough") if end == "close" else (1011, "upstream_error")
    assert await client.close_frame() == expected
    assert [frame.opcode for frame in client.frames] == (
        [TEXT, CLOSE] if end == "frame and loss" else [CLOSE]
    )
    client.closing(1000)
    await eventually(lambda: not live(gateway))
    await world.at_rest(gateway)


@pytest.mark.parametrize("how", ["close frame", "half", "reset"])
@pytest_twisted.ensureDeferred
async def test_the_client_ends_it_with_its_handshake(world: World, how: str) -> None:
    """All at once; nothing is left of it."""
    upstream = await upstream_of(world, talk=echo)
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    frames = encode(TEXT, b"all of it", mask=MASK) + encode(CLOSE, b"\x03\xe8", mask=MASK)
    client.upgrade("/ws/main", behind=frames)
    if how == "half":
        client.half_close()
    elif how == "reset":
        await upstream.request()
        client.abort()
    if how == "close frame":
        await client.opened()
        assert await client.close_frame() == (1000, "")
        assert client.frames[0].payload == b"all of it"
    await eventually(lambda: client.lost)
    await eventually(lambda: not live(gateway))
    await world.at_rest(gateway)
    assert not gateway.service.site.channels


# -- odd requests -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 0",),
        ("Connection: keep-alive",),
        ("Upgrade: h2c",),
        ("Keep-Alive: timeout=5", "TE: trailers"),
        ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, bbf-usp-protocol",),
    ],
)
@pytest_twisted.ensureDeferred
async def test_lines_that_clients_add(world: World, lines: tuple[str, ...]) -> None:
    """They do no harm, and what is for one hop stays there."""
    bridged = await bridge(world, *lines)
    request = bridged.upstream.requests[0].lower().rstrip(b"\r\n")
    fields = [line.split(b": ", 1) for line in request.split(b"\r\n")[1:]]
    names = [name for name, _ in fields]
    assert not {b"keep-alive", b"te", b"content-length"}.intersection(names)
    assert [value for name, value in fields if name == b"connection"] == [b"upgrade"]
    assert [value for name, value in fields if name == b"upgrade"] == [b"websocket"]
    extensions = [value for name, value in fields if name == b"sec-websocket-extensions"]
    assert b"bbf" not in b",".join(extensions)
    await bridged.still_open()


@pytest.mark.parametrize(
    "head",
    [
        "GET /ws/main HTTP/1.1|Host: test|Connection: keep-alive, Upgrade|Upgrade: websocket",
        "GET /ws/main HTTP/1.1|host: test|connection: UPGRADE|upgrade: WebSocket",
        "GET /ws/main HTTP/1.1|Host: test|Connection: a|Connection: upgrade|Upgrade: websocket",
        "GET http://test/ws/main HTTP/1.1|Host: test|Connection: Upgrade|Upgrade: websocket",
        "GET /ws/main HTTP/1.1|Host: test|Connection: Upgrade|Upgrade: h2c, websocket",
    ],
    ids=["Firefox", "any case", "two lines", "absolute", "a choice"],
)
@pytest_twisted.ensureDeferred
async def test_forms_of_a_handshake(world: World, head: str) -> None:
    """What a client may write is understood."""
    upstream = await upstream_of(world, talk=echo)
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    key = f"|sec-websocket-key: {WebSocketClient.KEY}|sec-websocket-version: 13||"
    client.send((head + key).replace("|", "\r\n").encode())
    await client.opened()
    client.text("hello")
    assert (await client.frame()).payload == b"hello"


@pytest_twisted.ensureDeferred
async def test_the_path_of_an_instance(world: World) -> None:
    """It stands in front of every other."""
    upstream = await upstream_of(world)
    gateway = await start(world, f"ws://127.0.0.1:{upstream.port}/base")
    await open_socket(world, gateway, "/ws/main?path=/room%3Fa%3D1")
    assert upstream.requests[0].startswith(b"GET /base/room?a=1 HTTP/1.1\r\n")


GUARDED: dict[str, Any] = {"auth": AUTH, "websocket": {"token_query": "access_token"}}


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/ws/main?path=/x&access_token={}", b"/x"),
        ("/ws/main?access_token={}&path=/x&b=1", b"/x?b=1"),
        ("/ws/main?a=1&access_token={}", b"/?a=1"),
        ("/ws/main?path=/x%3Fc%3D2&access_token={}&b=1", b"/x?c=2&b=1"),
        ("/ws/main?access%5Ftoken={}", b"/"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_tokens_in_the_query(world: World, target: str, asked: bytes) -> None:
    """Taken out wherever it stands, however it is written."""
    bearer = token()
    written = bearer.replace(".", "%2E")
    bridged = await bridge(world, target=target.format(written), **GUARDED)
    assert bridged.upstream.requests[0].split(b" ")[1] == asked
    assert bearer.encode() not in bridged.upstream.requests[0]
    assert bearer not in json.dumps(await world.logged(bridged.gateway))


@pytest_twisted.ensureDeferred
async def test_a_token_in_two_places(world: World) -> None:
    """The field counts; the other one is not passed on all the same."""
    bearer, other = token(), token(sub="bob")
    bridged = await bridge(
        world,
        f"Authorization: Bearer {bearer}",
        f"Sec-WebSocket-Protocol: bearer, {other}",
        target=f"/ws/main?access_token={other}",
        **GUARDED,
    )
    assert other.encode() not in bridged.upstream.requests[0]
    assert live(bridged.gateway)[0].identity == "ann"


@pytest_twisted.ensureDeferred
async def test_two_tokens_in_the_query(world: World) -> None:
    """Nobody can tell which one counts."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream, **GUARDED)
    target = f"/ws/main?access_token={token()}&access_token={token(sub='bob')}"
    answer = await refused(world, gateway, target)
    assert answer.status in (400, 401)
    assert upstream.connections == []


# -- shaping, hedging, limits -----------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_route_with_a_mirror(world: World) -> None:
    """A WebSocket is not copied."""
    upstream, copies = await upstream_of(world), await upstream_of(world)
    gateway = await start(
        world,
        {},
        services={"main": upstream.url, "copies": copies.url},
        routes=[
            {
                "path": "/live",
                "service": "main",
                "websocket": True,
                "mirror": {"service": "copies", "share": 1.0},
            }
        ],
    )
    client = await open_socket(world, gateway, "/live")
    client.text("once")
    assert (await (await upstream.socket()).frame()).payload == b"once"
    await soon(0.1)
    assert copies.sockets == []
    assert not any(asked_for(request) for request in copies.requests)


@pytest_twisted.ensureDeferred
async def test_a_route_that_is_split(world: World) -> None:
    """The handshake goes where the split says, and the client learns it."""
    upstream, other = await upstream_of(world), await upstream_of(world)
    gateway = await start(
        world,
        {},
        services={"main": upstream.url, "next": other.url},
        routes=[
            {
                "path": "/live",
                "service": "main",
                "websocket": True,
                "split": {
                    "to": [{"service": "next", "share": 1.0}],
                    "cookie": "version",
                },
            }
        ],
    )
    client = await open_socket(world, gateway, "/live")
    assert len(other.sockets) == 1
    assert client.handshake is not None
    (cookie,) = client.handshake.all(b"set-cookie")
    assert cookie.startswith(b"version=next")
    assert live(gateway)[0].instance.service == "next"


@pytest_twisted.ensureDeferred
async def test_handshakes_are_not_hedged(world: World) -> None:
    """Two instances would have a session begun for one client."""
    slow = [await upstream_of(world, lambda *_: b"") for _ in range(2)]
    hedge = {"enabled": True, "min_delay": "10ms", "max_delay": "20ms"}
    service = {"instances": [each.url for each in slow], "retry": {"hedge": hedge}}
    gateway = await start(world, service)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    await soon(0.2)
    (connection,) = slow[0].connections + slow[1].connections
    connection.send(agree(connection.requests[0]))
    await client.opened()


@pytest_twisted.ensureDeferred
async def test_names_of_instances(world: World) -> None:
    """With ``proxy_headers`` the 101 says who it was."""
    bridged = await bridge(world, proxy_headers=True)
    answer = bridged.client.handshake
    assert answer is not None
    assert answer.header(b"x-proxy-service") == b"main"
    assert answer.header(b"x-proxy-attempts") == b"1"


# -- other listeners --------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_unix_socket(world: World, tmp_path: Path) -> None:
    """Clients may come that way."""
    upstream = await upstream_of(world, talk=echo)
    path = tmp_path / "gateway.sock"
    gateway = await start(world, upstream, listeners=[{"unix": str(path)}])
    client = await WebSocketClient.connect(0, UNIXClientEndpoint(the_reactor(), str(path)))
    world._clients.append(client)
    client.upgrade("/ws/main")
    await client.opened()
    client.binary(bytes(500_000))
    frame = await client.frame()
    assert (frame.opcode, len(frame.payload)) == (BINARY, 500_000)
    client.closing(1000)
    await client.close_frame()
    await eventually(lambda: not live(gateway))


@pytest_twisted.ensureDeferred
async def test_behind_the_proxy_protocol(world: World) -> None:
    """The client's address is the one that it names."""
    upstream = await upstream_of(world, talk=echo)
    gateway = await start(
        world,
        upstream,
        listeners=[{"tcp": "127.0.0.1:0", "proxy_protocol": True}],
        trusted_proxies=["127.0.0.1"],
    )
    client = await connect(world, gateway)
    client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n")
    client.upgrade("/ws/main", behind=encode(TEXT, b"early", mask=MASK))
    await client.opened()
    assert (await client.frame()).payload == b"early"
    assert live(gateway)[0].client_ip == "192.0.2.7"
