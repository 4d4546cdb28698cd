"""Who may open a WebSocket: tokens from wherever they come, and until when they hold."""

from __future__ import annotations

import json
from time import monotonic, time
from typing import Any

import pytest
import pytest_twisted

from rtgateway.testing import RunningGateway, WebSocketUpstream, eventually
from rtgateway.testing.websocket import agree
from tests.e2e.sockets.bridged import (
    ask,
    bridge,
    live,
    metric,
    open_socket,
    refused,
    start,
    upstream_of,
)
from tests.e2e.test_auth import AUTH, token
from tests.e2e.world import World

__all__: list[str] = []

PAGE = "Origin: https://app.example"
ROUTE = {
    "path": "/live",
    "service": "main",
    "websocket": {
        "token_query": "access_token",
        "token_cookie": "session",
        "origins": ["https://app.example"],
    },
}


def presented(how: str, bearer: str) -> tuple[str, tuple[str, ...]]:
    """Target and header lines with a token."""
    return {
        "header": ("/live?a=1", (f"Authorization: Bearer {bearer}",)),
        "subprotocol": ("/live?a=1", (f"Sec-WebSocket-Protocol: bearer, {bearer}, chat",)),
        "query": (f"/live?access_token={bearer}&a=1", ()),
        "cookie": ("/live?a=1", (f"Cookie: x=1; session={bearer}; y=2",)),
    }[how]


async def guarded(
    world: World, answer: Any = None, **settings: Any
) -> tuple[RunningGateway, WebSocketUpstream]:
    upstream = await upstream_of(world, answer)
    gateway = await start(world, upstream, auth=AUTH, **{"routes": [ROUTE], **settings})
    return gateway, upstream


@pytest.mark.parametrize("how", ["header", "subprotocol", "query", "cookie"])
@pytest_twisted.ensureDeferred
async def test_a_token(world: World, how: str) -> None:
    """It opens, and but for the header nobody else gets to see it."""
    gateway, upstream = await guarded(world)
    bearer = token()
    target, lines = presented(how, bearer)
    client = await open_socket(world, gateway, target, PAGE, *lines)
    request = upstream.requests[0]
    assert request.startswith(b"GET /live?a=1 HTTP/1.1\r\n")
    assert (bearer.encode() in request) == (how == "header")
    if how == "subprotocol":
        assert b"\r\nSec-WebSocket-Protocol: chat\r\n" in request
    else:
        assert b"Sec-WebSocket-Protocol" not in request
    assert (b"\r\nCookie: x=1; y=2\r\n" in request) == (how == "cookie")
    (socket,) = live(gateway)
    assert socket.identity == "ann"
    for shown in (socket, gateway.service.sockets, gateway.service):
        assert bearer not in repr(shown)
    client.closing(1000)
    await upstream.sockets[0].close_frame()
    client.abort()
    logged = await world.logged(gateway, 2)
    assert bearer not in json.dumps(logged)
    assert (logged[0]["subject"], logged[0]["path"]) == ("ann", "/live")


@pytest.mark.parametrize("how", ["header", "subprotocol", "query", "cookie"])
@pytest.mark.parametrize("wrong", ["nonsense", "expired"])
@pytest_twisted.ensureDeferred
async def test_a_token_that_is_not_good(world: World, how: str, wrong: str) -> None:
    """401 instead of a 101; the instance hears nothing, and the log does not keep it."""
    gateway, upstream = await guarded(world)
    bearer = token(exp=time() - 1) if wrong == "expired" else "nonsense"
    target, lines = presented(how, bearer)
    answer = await refused(world, gateway, target, PAGE, *lines)
    assert answer.status == 401
    assert (answer.header(b"www-authenticate") or b"").startswith(b"Bearer")
    assert upstream.connections == []
    (logged,) = await world.logged(gateway)
    assert bearer not in json.dumps(logged)
    reason = "expired_token" if wrong == "expired" else "invalid_token"
    name = "gateway_websocket_refused_total"
    assert await metric(world, gateway, name, route="/live", reason=reason) == 1


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("/live", ()),
        ("/live", ("Sec-WebSocket-Protocol: bearer",)),
        ("/live", ("Sec-WebSocket-Protocol: chat",)),
        ("/live?token={}", ()),
        ("/live", ("Cookie: other={}",)),
        ("/ws/main?access_token={}", ()),
        ("/ws/main", ("Cookie: session={}",)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_token(world: World, target: str, lines: tuple[str, ...]) -> None:
    """401 before anything else: also where query and cookies are not looked at."""
    gateway, upstream = await guarded(world)
    bearer = token()
    answer = await refused(
        world, gateway, target.format(bearer), PAGE, *(line.format(bearer) for line in lines)
    )
    assert answer.status == 401
    assert upstream.connections == []


@pytest.mark.parametrize(
    ("offered", "passed", "chosen", "answered"),
    [
        ("bearer, {}", None, None, b"bearer"),
        ("Bearer, {}", None, None, b"Bearer"),
        ("bearer, {}, chat", b"chat", "chat", b"chat"),
        ("chat, bearer, {}", b"chat", "chat", b"chat"),
        ("chat, bearer, {}, other", b"chat, other", None, b"bearer"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_pair_of_a_browser(
    world: World, offered: str, passed: bytes | None, chosen: str | None, answered: bytes
) -> None:
    """A browser fails if none of its offers was chosen: then it is ``bearer``."""
    gateway, upstream = await guarded(world, lambda _, request: agree(request, protocol=chosen))
    line = f"Sec-WebSocket-Protocol: {offered.format(token())}"
    client = await open_socket(world, gateway, "/ws/main", line)
    request = upstream.requests[0]
    if passed is None:
        assert b"Sec-WebSocket-Protocol" not in request
    else:
        assert b"\r\nSec-WebSocket-Protocol: " + passed + b"\r\n" in request
    assert client.handshake is not None
    (got,) = client.handshake.all(b"sec-websocket-protocol")
    assert got.lower() == answered.lower()


@pytest_twisted.ensureDeferred
async def test_without_auth_the_pair_is_nobodys(world: World) -> None:
    """It goes to the instance, which may understand it."""
    bridged = await bridge(world, "Sec-WebSocket-Protocol: bearer, abc")
    assert b"\r\nSec-WebSocket-Protocol: bearer, abc\r\n" in bridged.upstream.requests[0]


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_site_with_the_cookie(world: World) -> None:
    """Browsers send cookies with it, so that the origin decides."""
    gateway, upstream = await guarded(world)
    target, lines = presented("cookie", token())
    answer = await refused(world, gateway, target, "Origin: https://evil.example", *lines)
    assert answer.status == 403
    assert upstream.connections == []


# -- until when it holds ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_token_that_expires(world: World) -> None:
    """The WebSocket ends when its token does."""
    gateway, upstream = await guarded(world)
    expires = time() + 2.3
    bearer = token(exp=expires)
    client = await open_socket(world, gateway, "/live", f"Authorization: Bearer {bearer}")
    instance = await upstream.socket()
    assert await client.close_frame() == (4001, "token_expired")
    assert expires - 1.1 <= time() < expires + 3
    assert await instance.close_frame() == (4001, "token_expired")
    client.closing(4001)
    await client.closed()
    line = (await world.logged(gateway, 2))[1]
    assert (line["close_code"], line["close_reason"]) == (4001, "token_expired")
    assert line["closed_by"] == "gateway"


@pytest_twisted.ensureDeferred
async def test_a_token_that_may_expire(world: World) -> None:
    """Switched off, it counts at the handshake only."""
    gateway, upstream = await guarded(world, websocket={"close_at_expiry": False})
    line = f"Authorization: Bearer {token(exp=time() + 1.5)}"
    client = await open_socket(world, gateway, "/ws/main", line)
    began = monotonic()
    await eventually(lambda: monotonic() > began + 2.0)
    assert client.frames == []
    client.text("still here")
    assert (await (await upstream.socket()).frame()).payload == b"still here"


@pytest_twisted.ensureDeferred
async def test_a_token_that_is_revoked(world: World) -> None:
    """All sockets of an identity are closed, and of nobody else."""
    gateway, upstream = await guarded(world)
    bearer = f"Authorization: Bearer {token()}"
    anns = [await open_socket(world, gateway, "/ws/main", bearer) for _ in range(2)]
    other = f"Authorization: Bearer {token(sub='bob')}"
    bob = await open_socket(world, gateway, "/ws/main", other)
    path = "/gateway/websockets?identity=ann&revoked=true"
    status, _ = await ask(world, gateway, path, "DELETE", lines=(bearer,))
    assert status in (200, 202)
    for client in anns:
        assert await client.close_frame() == (4001, "token_revoked")
    assert bob.frames == []
    assert len(upstream.sockets) == 3
