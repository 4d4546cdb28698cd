"""The way to a WebSocket: who gets a 101, what the instance is asked, what others are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from rtgateway.testing import WebSocketClient, eventually
from rtgateway.testing.websocket import agree
from tests.e2e.sockets.bridged import (
    bridge,
    connect,
    live,
    metric,
    open_socket,
    refused,
    start,
    upstream_of,
)
from tests.e2e.world import World, get, only_instance, with_length

__all__: list[str] = []

ROUTE = {"path": "/live", "service": "main", "websocket": True}
FIELDS = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
REFUSED = "gateway_websocket_refused_total"
KEY = f"Sec-WebSocket-Key: {WebSocketClient.KEY}"


def target_of(request: bytes) -> bytes:
    return request.split(b" ", 2)[1]


# -- what is asked and answered ---------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_the_instance_is_asked(world: World) -> None:
    """A handshake of the gateway's own, with the fields that every request gets."""
    bridged = await bridge(
        world, "Origin: https://app.example", "Cookie: a=b", "X-Request-ID: one", "X-Own: 1"
    )
    request = bridged.upstream.requests[0]
    assert request.startswith(b"GET / HTTP/1.1\r\n")
    lines = request.lower().split(b"\r\n")
    for line in (
        b"connection: upgrade",
        b"upgrade: websocket",
        b"sec-websocket-version: 13",
        b"origin: https://app.example",
        b"cookie: a=b",
        b"x-request-id: one",
        b"x-own: 1",
        b"x-forwarded-for: 127.0.0.1",
        b"x-forwarded-proto: http",
    ):
        assert lines.count(line) == 1, line
    assert WebSocketClient.KEY.encode() not in request, "a key of the gateway's own"
    assert request.count(b"Sec-WebSocket-Key: ") == 1


@pytest_twisted.ensureDeferred
async def test_what_the_client_is_answered(world: World) -> None:
    """The instance's fields, each of them, and the request id."""
    fields = ("Set-Cookie: a=1", "Set-Cookie: b=2", "X-Room: 7", "Keep-Alive: timeout=5")
    bridged = await bridge(
        world, "X-Request-ID: one", answer=lambda _, request: agree(request, *fields)
    )
    answer = bridged.client.handshake
    assert answer is not None
    assert answer.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert answer.all(b"set-cookie") == [b"a=1", b"b=2"]
    assert answer.all(b"x-room") == [b"7"]
    assert answer.all(b"x-request-id") == [b"one"]
    assert [value.lower() for value in answer.all(b"upgrade")] == [b"websocket"]
    assert [value.lower() for value in answer.all(b"connection")] == [b"upgrade"]
    assert len(answer.all(b"sec-websocket-accept")) == 1
    for absent in (b"keep-alive", b"content-length", b"transfer-encoding"):
        assert answer.header(absent) is None, absent


@pytest_twisted.ensureDeferred
async def test_the_client_waits_for_the_instance(world: World) -> None:
    """No 101 before the instance has agreed."""
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    request = await upstream.request()
    assert client.received == b""
    assert only_instance(gateway).inflight == 1
    upstream.connections[0].send(agree(request))
    await client.opened()
    assert only_instance(gateway).inflight == 1, "as long as it is open"
    client.abort()
    await eventually(lambda: only_instance(gateway).inflight == 0)


@pytest_twisted.ensureDeferred
async def test_a_second_request_on_the_connection(world: World) -> None:
    """A WebSocket may follow a request on one connection, of clients and of instances."""

    def both(_: object, request: bytes) -> bytes:
        return agree(request) if b"pgrade: websocket" in request else with_length(b"ok")

    upstream = await upstream_of(world, both)
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.send(get())
    assert (await client.answer()).body == b"ok"
    client.upgrade("/ws/main")
    await client.opened()
    client.text("hello")
    assert (await (await upstream.socket()).frame()).payload == b"hello"
    other = await world.client(gateway, get())
    assert (await other.answer()).status == 200, "the pool goes on without that connection"
    assert only_instance(gateway).pool.open == len(only_instance(gateway).pool.idle)


# -- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/ws/main", b"/"),
        ("/ws/main?", b"/"),
        ("/ws/main?path=", b"/"),
        ("/ws/main?path=/", b"/"),
        ("/ws/main?path=/room/7", b"/room/7"),
        ("/ws/main?path=%2Froom%2F7", b"/room/7"),
        ("/ws/main?path=/room%3Fa%3D1%26b%3D2", b"/room?a=1&b=2"),
        ("/ws/main?path=/room&user=ann&x=%20y", b"/room?user=ann&x=%20y"),
        ("/ws/main?user=ann&path=/room", b"/room?user=ann"),
        ("/ws/main?path=/room%3Fa%3D1&user=ann", b"/room?a=1&user=ann"),
        ("/ws/main?user=ann", b"/?user=ann"),
        ("/ws/main?path=/caf%25C3%25A9", b"/caf%C3%A9"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_path_of_the_built_in_route(world: World, target: str, asked: bytes) -> None:
    """``path`` is the instance's; the other parameters are passed on."""
    bridged = await bridge(world, target=target)
    assert target_of(bridged.upstream.requests[0]) == asked


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/",
        "%2F%2Fevil.example/",
        "/%5Cevil.example/",
        "%5C%5Cevil.example/",
        "/%252Fevil.example/",
        "wss://evil.example/",
        "ws%3A%2F%2Fevil.example%2F",
        "http://evil.example",
        "evil.example",
        "@evil.example/",
        "/../secret",
        "/a/%2E%2E/secret",
        "/a/%252e%252e/secret",
        "/a%0D%0AX-Evil:%201",
        "/a%00",
        "/a%23fragment",
        "/a&path=/b",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_path_that_is_none(world: World, path: str) -> None:
    """400, and no instance hears of it."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream)
    answer = await refused(world, gateway, f"/ws/main?path={path}")
    assert answer.status == 400
    assert json.loads(answer.body)["error"]
    assert upstream.connections == []


@pytest.mark.parametrize(
    "target",
    [
        "/live//evil.example/x",
        "/live/%2Fevil.example/",
        "/live/%5Cevil.example/",
        "/live/%252Fevil.example/",
        "/live/../secret",
        "/live/%2e%2e/secret",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_path_of_a_route_that_leads_elsewhere(world: World, target: str) -> None:
    """The same on a route of one's own."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream, routes=[ROUTE | {"strip_prefix": True}])
    answer = await refused(world, gateway, target)
    assert answer.status in (400, 404)
    assert upstream.connections == []


@pytest.mark.parametrize(
    ("route", "target", "asked"),
    [
        ({}, "/live/room/7?user=ann&user=bob", b"/live/room/7?user=ann&user=bob"),
        ({"strip_prefix": True}, "/live/room/7?a=%20b", b"/room/7?a=%20b"),
        ({"strip_prefix": True}, "/live", b"/"),
        ({}, "/live?path=/x", b"/live?path=/x"),
        ({"websocket": {"idle_timeout": "1h"}}, "/live", b"/live"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_path_of_a_route(
    world: World, route: dict[str, Any], target: str, asked: bytes
) -> None:
    """The request's own, by the same rules as for HTTP."""
    bridged = await bridge(world, target=target, routes=[ROUTE | route])
    assert target_of(bridged.upstream.requests[0]) == asked
    await bridged.still_open()


@pytest_twisted.ensureDeferred
async def test_a_route_with_websockets_serves_http_too(world: World) -> None:
    """What is no handshake is an ordinary request, another protocol's upgrade included."""
    upstream = await upstream_of(world, lambda *_: with_length(b"ok"))
    gateway = await start(world, upstream, routes=[ROUTE])
    for lines in ((), ("Connection: Upgrade", "Upgrade: h2c")):
        client = await world.client(gateway, get("/live", *lines))
        assert (await client.answer()).body == b"ok"
    assert b"h2c" not in upstream.received


@pytest_twisted.ensureDeferred
async def test_a_route_without_websockets(world: World) -> None:
    """The handshake goes up as a plain request: ``Upgrade`` is for one hop (RFC 9110, 7.8)."""
    upstream = await upstream_of(world, lambda *_: with_length(b"ok"))
    gateway = await start(world, upstream)
    answer = await refused(world, gateway, "/api/main/")
    assert answer.status == 200
    assert b"\r\nUpgrade:" not in upstream.requests[0]


@pytest.mark.parametrize("path", ["/ws/nobody", "/ws/nobody?path=/x&a=1", "/ws/nobody/x"])
@pytest_twisted.ensureDeferred
async def test_an_unknown_service(world: World, path: str) -> None:
    """A handshake is answered, so that a browser's page can see the close code; the rest is 404."""
    gateway = await start(world, await upstream_of(world))
    client = await open_socket(world, gateway, path)
    assert await client.close_frame() == (1008, "unknown_service")
    client.closing(1008)
    await client.closed()
    plain = await world.client(gateway, get(path))
    assert (await plain.answer()).status == 404
    assert live(gateway) == []


# -- handshakes that are wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Connection: Upgrade", "Upgrade: websocket", KEY, "Sec-WebSocket-Version: 8"), 426),
        (("Connection: Upgrade", "Upgrade: websocket", KEY, "Sec-WebSocket-Version: 7, 8"), 426),
        (("Connection: Upgrade", "Upgrade: websocket", KEY), 426),
        (("Connection: close", *FIELDS[1:], KEY), 400),
        (FIELDS, 400),
        ((*FIELDS, KEY, KEY), 400),
        ((*FIELDS, "Sec-WebSocket-Key: "), 400),
        ((*FIELDS, "Sec-WebSocket-Key: c2hvcnQ="), 400),
        ((*FIELDS, "Sec-WebSocket-Key: not base64 at all!!!!!!"), 400),
        ((*FIELDS, KEY, "Content-Length: 3"), 400),
        ((*FIELDS, KEY, "Transfer-Encoding: chunked"), 400),
        ((*FIELDS, KEY, "Sec-WebSocket-Protocol: a, a"), 400),
        ((*FIELDS, KEY, "Sec-WebSocket-Protocol: a b"), 400),
        ((*FIELDS, KEY, "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a"), 400),
        ((*FIELDS, KEY, "Sec-WebSocket-Extensions: ;;="), 400),
        (("Connection: Upgrade", "Upgrade: h2c"), 426),
        ((), 426),
    ],
    ids=[
        "version 8",
        "two versions",
        "no version",
        "connection",
        "no key",
        "two keys",
        "empty key",
        "short key",
        "key",
        "body",
        "chunked body",
        "protocol twice",
        "protocol",
        "protocol twice in two lines",
        "extensions",
        "another protocol",
        "no handshake",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_malformed_handshake(world: World, lines: tuple[str, ...], status: int) -> None:
    """Told what is wrong, and with 426 what would be right (RFC 6455, 4.4)."""
    upstream = await upstream_of(world)
    gateway = await start(world, upstream)
    request = get("/ws/main", *lines)
    if "Content-Length: 3" in lines:
        request += b"abc"
    if "Transfer-Encoding: chunked" in lines:
        request += b"0\r\n\r\n"
    client = await world.client(gateway, request)
    answer = await client.answer()
    assert answer.status == status, answer.body
    assert json.loads(answer.body)["error"]
    if status == 426:
        assert answer.header(b"sec-websocket-version") == b"13"
        assert (answer.header(b"upgrade") or b"").lower() == b"websocket"
    assert upstream.connections == []


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS"])
@pytest_twisted.ensureDeferred
async def test_another_method(world: World, method: str) -> None:
    """A handshake is a GET."""
    gateway = await start(world, await upstream_of(world), routes=[ROUTE])
    request = get("/live", *FIELDS, KEY).replace(b"GET", method.encode())
    client = await world.client(gateway, request)
    answer = await client.answer(to=method.encode())
    assert (answer.status, answer.header(b"allow")) == (405, b"GET")


@pytest.mark.parametrize("target", ["/ws/main", "/live"])
@pytest_twisted.ensureDeferred
async def test_http_1_0(world: World, target: str) -> None:
    """There is no upgrade in it (RFC 6455, 4.1)."""
    gateway = await start(world, await upstream_of(world), routes=[ROUTE])
    client = await world.client(gateway, get(target, *FIELDS, KEY, version="1.0"))
    answer = await client.answer()
    assert answer.status in (400, 426)
    if target == "/ws/main":
        assert answer.header(b"sec-websocket-version") == b"13"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("HTTPS://App.Example:443", True),
        ("https://a.sub.example", True),
        ("null", False),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example.evil.example", False),
        ("https://evilsub.example", False),
        (None, True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_origins(world: World, origin: str | None, allowed: bool) -> None:
    """With a list only pages of these; who sends none is no browser."""
    upstream = await upstream_of(world)
    websocket = {"origins": ["https://app.example", "https://*.sub.example"]}
    gateway = await start(world, upstream, routes=[ROUTE | {"websocket": websocket}])
    lines = [f"Origin: {origin}"] if origin else []
    client = await connect(world, gateway)
    client.upgrade("/live", *lines)
    if allowed:
        await client.opened()
    else:
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["error"]) == (403, "Forbidden")
        assert upstream.connections == []
        assert (
            await metric(world, gateway, REFUSED, route="/live", reason="origin_not_allowed") == 1
        )


# -- instances that refuse --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("401 Unauthorized", 401),
        ("403 Forbidden", 403),
        ("404 Not Found", 404),
        ("426 Upgrade Required", 426),
        ("500 Internal Server Error", 500),
        ("302 Found", 302),
        ("200 OK", 200),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_refusal_reaches_the_client(world: World, first: str, status: int) -> None:
    """With its own status, fields and body, and the connection can go on."""
    refusal = (
        f"HTTP/1.1 {first}\r\nContent-Length: 4\r\nX-Why: because\r\n"
        "WWW-Authenticate: Bearer\r\nLocation: /elsewhere\r\n\r\nno! "
    ).encode()
    upstream = await upstream_of(world, lambda *_: refusal)
    gateway = await start(world, upstream, services={"main": {"instances": [upstream.url]}})
    client = await connect(world, gateway)
    for _ in range(2):
        client.upgrade("/ws/main")
        answer = await client.answer()
        assert (answer.status, answer.body) == (status, b"no! ")
        assert answer.header(b"x-why") == b"because"
        assert answer.header(b"www-authenticate") == b"Bearer"
    line = (await world.logged(gateway, 2))[0]
    assert line["status"] == status
    assert live(gateway) == []


@pytest_twisted.ensureDeferred
async def test_a_chunked_refusal(world: World) -> None:
    """Relayed like every answer."""
    refusal = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nnever\r\n0\r\n\r\n"
    gateway = await start(world, await upstream_of(world, lambda *_: refusal))
    answer = await refused(world, gateway)
    assert (answer.status, answer.body) == (403, b"never")


def spoiled(what: str, instead: str) -> Any:
    return lambda _, request: agree(request).replace(what.encode(), instead.encode())


@pytest.mark.parametrize(
    "answer",
    [
        spoiled("Accept: ", "Accept: x"),
        spoiled("Sec-WebSocket-Accept", "X-Accept"),
        spoiled("Upgrade: websocket", "Upgrade: h2c"),
        spoiled("Connection: Upgrade", "Connection: close"),
        lambda _, request: agree(request, protocol="unasked"),
        lambda _, request: agree(request, extensions="permessage-deflate"),
        lambda _, request: agree(request, extensions="x-unknown"),
        lambda _, request: b"nothing like HTTP\r\n\r\n",
    ],
    ids=[
        "accept",
        "no accept",
        "upgrade",
        "connection",
        "protocol",
        "extension",
        "unknown extension",
        "garbage",
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_agreement_that_is_none(world: World, answer: Any) -> None:
    """502; the client never gets a 101 that does not hold."""
    upstream = await upstream_of(world, answer)
    service = {"instances": [upstream.url], "retry": {"attempts": 1}}
    gateway = await start(world, service)
    got = await refused(world, gateway)
    assert (got.status, json.loads(got.body)["error"]) == (502, "upstream_invalid")
    await eventually(lambda: upstream.connections[0].lost)
    await world.at_rest(gateway)
    assert live(gateway) == []


@pytest_twisted.ensureDeferred
async def test_a_101_that_nobody_asked_for(world: World) -> None:
    """An instance can't make a WebSocket of a plain request."""
    upstream = await upstream_of(world, lambda _, request: agree(request))
    gateway = await start(world, {"instances": [upstream.url], "retry": {"attempts": 1}})
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 502


# -- instances that can't be reached ----------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_another_instance_is_tried(world: World) -> None:
    """One refuses the connection, one answers 503: the third gets the WebSocket."""
    broken = await upstream_of(world, lambda *_: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    gone = await upstream_of(world)
    url = gone.url
    await gone.stop()
    good = await upstream_of(world)
    gateway = await start(
        world,
        {
            "instances": [url, broken.url, good.url],
            "balance": "round_robin",
            "retry": {"attempts": 3, "base_delay": "1ms", "on": [503, "connect"]},
        },
    )
    clients = [await open_socket(world, gateway) for _ in range(3)]
    await eventually(lambda: len(good.sockets) == 3)
    clients[0].text("hello")
    assert (await good.sockets[0].frame()).payload == b"hello"


@pytest_twisted.ensureDeferred
async def test_nobody_is_there(world: World) -> None:
    """The client is told as every client is."""
    upstream = await upstream_of(world)
    gateway = await start(world, {"instances": [upstream.url], "retry": "off"})
    await upstream.stop()
    answer = await refused(world, gateway)
    assert answer.status == 502
    assert json.loads(answer.body)["error"] == "upstream_unavailable"


@pytest_twisted.ensureDeferred
async def test_an_instance_that_does_not_answer(world: World) -> None:
    """504 when its time is over."""
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(
        world, {"instances": [upstream.url], "retry": "off"}, timeouts={"first_byte": "200ms"}
    )
    answer = await refused(world, gateway)
    assert answer.status == 504
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_before_the_answer(world: World) -> None:
    """The handshake with the instance is given up."""
    upstream = await upstream_of(world, lambda *_: b"")
    gateway = await start(world, upstream)
    client = await connect(world, gateway)
    client.upgrade("/ws/main")
    await upstream.request()
    client.abort()
    await eventually(lambda: upstream.connections[0].lost)
    await world.at_rest(gateway)
    (line,) = await world.logged(gateway)
    assert (line["status"], line["error"]) == (499, "client_gone")


@pytest_twisted.ensureDeferred
async def test_failures_open_the_circuit(world: World) -> None:
    """Handshakes count as requests do."""
    upstream = await upstream_of(world, lambda *_: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    gateway = await start(world, {"instances": [upstream.url], "retry": "off"})
    for _ in range(5):
        assert (await refused(world, gateway)).status == 500
    assert (await refused(world, gateway)).status == 503
    assert len(upstream.requests) == 5


@pytest_twisted.ensureDeferred
async def test_live_sockets_weigh_in_the_balance(world: World) -> None:
    """Who has fewer sockets gets the next one."""
    first, second = await upstream_of(world), await upstream_of(world)
    gateway = await start(
        world, {"instances": [first.url, second.url], "balance": "least_connections"}
    )
    clients = [await open_socket(world, gateway) for _ in range(10)]
    await eventually(lambda: len(first.sockets) + len(second.sockets) == 10)
    assert (len(first.sockets), len(second.sockets)) == (5, 5)
    instances = list(gateway.service.instances())
    assert [each.inflight for each in instances] == [5, 5]
    for client in clients:
        client.abort()
    await eventually(lambda: not any(each.inflight for each in instances))


@pytest_twisted.ensureDeferred
async def test_the_cookie_of_a_sticky_session(world: World) -> None:
    """It comes with the 101, and leads the next handshake to the same instance."""
    upstreams = [await upstream_of(world) for _ in range(3)]
    gateway = await start(
        world,
        {
            "instances": [each.url for each in upstreams],
            "balance": {"strategy": "sticky", "cookie": "lb"},
        },
    )
    client = await open_socket(world, gateway)
    assert client.handshake is not None
    (cookie,) = client.handshake.all(b"set-cookie")
    assert cookie.startswith(b"lb=")
    value = cookie.split(b";")[0].decode()
    (chosen,) = [each for each in upstreams if each.sockets]
    for number in range(2, 5):
        again = await open_socket(world, gateway, "/ws/main", f"Cookie: {value}")
        assert again.handshake is not None
        assert again.handshake.all(b"set-cookie") == []
        assert len(chosen.sockets) == number
