"""Administration of a running gateway, over its own listener."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from rtgateway.testing import RunningGateway, WebSocketClient, WebSocketUpstream, eventually
from rtgateway.testing.websocket import echo
from tests.e2e.world import World, get, with_length


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """What the test starts, and its end."""
    made = World(tmp_path)
    yield made
    await made.end()


async def ask(
    world: World, gateway: RunningGateway, line: str, body: object = None, *fields: str
) -> tuple[int, Any]:
    """Status and document of an answer. ``line``: method and path."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{line} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *fields]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    client = await world.client(gateway, "\r\n".join((*lines, "", "")).encode() + content)
    answer = await client.answer()
    return int(answer.head.split()[1]), json.loads(answer.body)


async def served_by(world: World, gateway: RunningGateway, times: int = 8) -> set[bytes]:
    """The bodies of some answers, each on a connection of its own."""
    bodies = set()
    for _ in range(times):
        client = await world.client(gateway, get("/api/main/", "Connection: close"))
        bodies.add((await client.answer()).body)
    return bodies


@pytest_twisted.ensureDeferred
async def test_instances_come_and_go(world: World) -> None:
    """One is added and gets requests; drained and removed, it gets none, and nobody notices."""
    first = await world.upstream(with_length(b"first"))
    second = await world.upstream(with_length(b"second"))
    gateway = await world.gateway({"instances": [first.url], "balance": "round_robin"})
    assert await served_by(world, gateway) == {b"first"}

    status, added = await ask(
        world, gateway, "POST /gateway/services/main/instances", {"url": second.url, "weight": 1000}
    )
    assert status == 201
    query = f"?instance={added['id']}"
    assert await served_by(world, gateway) >= {b"second"}

    status, drained = await ask(world, gateway, f"POST /gateway/services/main/drain{query}")
    assert (status, drained["empty"]) == (202, True)
    assert await served_by(world, gateway) == {b"first"}
    status, _ = await ask(world, gateway, f"POST /gateway/services/main/undrain{query}")
    assert status == 202
    assert await served_by(world, gateway) >= {b"second"}

    status, _ = await ask(world, gateway, f"DELETE /gateway/services/main/instances{query}")
    assert status == 202
    assert await served_by(world, gateway) == {b"first"}
    _, service = await ask(world, gateway, "GET /gateway/services/main")
    assert added["id"] not in [each["id"] for each in service["instances"]]


@pytest_twisted.ensureDeferred
async def test_a_circuit_is_opened_and_reset(world: World) -> None:
    """Forced open, the only instance gets nothing; reset, all is well again."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway({"instances": [upstream.url], "critical": True})
    status, _ = await ask(world, gateway, "POST /gateway/circuit-breakers/main/force_open")
    assert status == 200
    status, _ = await ask(world, gateway, "GET /api/main/")
    assert (status, upstream.connections) == (503, [])
    status, document = await ask(world, gateway, "GET /readyz")
    assert (status, document["reasons"]) == (503, ["service main is unavailable"])
    status, _ = await ask(world, gateway, "POST /gateway/circuit-breakers/reset")
    assert status == 200
    assert await served_by(world, gateway, 1) == {b"ok"}


@pytest_twisted.ensureDeferred
async def test_a_web_page_can_not_act_for_an_operator(world: World) -> None:
    """403 to a change with somebody else's Origin; nothing has changed."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream)
    path = "POST /gateway/circuit-breakers/force_open"
    status, _ = await ask(world, gateway, path, None, "Origin: http://evil.example")
    assert status == 403
    assert await served_by(world, gateway, 1) == {b"ok"}


@pytest.mark.parametrize(
    "line",
    [
        "GET /gateway/stats",
        "POST /gateway/circuit-breakers/reset",
        "GET /gateway/websockets",
        "DELETE /gateway/websockets/ws-1",
    ],
)
@pytest_twisted.ensureDeferred
async def test_administration_needs_a_token_where_there_are_tokens(world: World, line: str) -> None:
    """From this machine, too."""
    upstream = await world.upstream(with_length(b"ok"))
    auth = {"required": True, "jwt": {"secret": "0123456789abcdef0123456789abcdef"}}
    gateway = await world.gateway(upstream, auth=auth)
    status, _ = await ask(world, gateway, line)
    assert status == 401


@pytest_twisted.ensureDeferred
async def test_a_scrape_of_a_running_gateway(world: World) -> None:
    """Requests are found by service and instance, pages by their path."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream)
    await served_by(world, gateway, 3)
    await ask(world, gateway, "GET /gateway/services/main")
    client = await world.client(gateway, get("/metrics", "Connection: close"))
    text = (await client.answer()).body.decode()
    requests = f'{{service="main",method="GET",status="200",instance="{upstream.url}"}} 3\n'
    assert "proxy_requests_total" + requests in text
    assert 'proxy_instances_available{service="main"} 1\n' in text
    assert 'route="/gateway/services/main",status_code="200"' in text


@pytest_twisted.ensureDeferred
async def test_pages_about_websockets(world: World) -> None:
    """Health is told to everybody; closing is for operators, and has to say whom it means."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream)
    status, health = await ask(world, gateway, "GET /ws/health")
    assert (status, health["status"], health["active_connections"]) == (200, "healthy", 0)
    status, listed = await ask(world, gateway, "GET /gateway/websockets?state=open")
    assert (status, listed) == (200, {"total": 0, "next": None, "websockets": []})
    status, _ = await ask(world, gateway, "DELETE /gateway/websockets?identity=ann")
    assert status == 202
    status, _ = await ask(world, gateway, "DELETE /gateway/websockets?identity=ann&instance")
    assert status == 400
    status, _ = await ask(world, gateway, "DELETE /gateway/websockets/ws-1")
    assert status == 404
    line = "DELETE /gateway/websockets?identity=ann"
    status, _ = await ask(world, gateway, line, None, "Origin: http://evil.example")
    assert status == 403
    client = await world.client(gateway, get("/metrics", "Connection: close"))
    text = (await client.answer()).body.decode()
    assert "\ngateway_websocket_connections 0\n" in text
    assert 'route="/gateway/websockets/:id",status_code="404"' in text


@pytest_twisted.ensureDeferred
async def test_websockets_are_seen_and_closed(world: World) -> None:
    """Two of them: one by its id, the other because of where it is."""
    upstream = await WebSocketUpstream.listening(talk=echo)
    world.keep(upstream)
    gateway = await world.gateway(upstream)
    clients = [await WebSocketClient.open(gateway.port, "/ws/main?path=/a&b=c") for _ in "ab"]
    clients[0].text("hello")
    await clients[0].frame()

    _, first = await ask(world, gateway, "GET /gateway/websockets?limit=1")
    (shown,) = first["websockets"]
    assert (first["total"], first["next"], shown["path"]) == (2, shown["id"], "/ws/main")
    assert (shown["client_ip"], shown["service"], shown["state"]) == ("127.0.0.1", "main", "open")
    assert shown["received"]["messages"] == shown["sent"]["messages"] == 1
    _, second = await ask(world, gateway, f"GET /gateway/websockets?after={first['next']}")
    assert [each["state"] for each in second["websockets"]] == ["open"]
    _, stats = await ask(world, gateway, "GET /admin/stats")
    assert stats["connections"]["ws"] == 2
    (details,) = stats["services"]["main"]["upstreamDetails"]
    assert details["inflight"] == {"http": 0, "sse": 0, "ws": 2}

    line = f"DELETE /gateway/websockets/{shown['id']}?code=4000&reason=enough"
    status, closing = await ask(world, gateway, line)
    assert (status, closing["close"]["by"]) == (202, "gateway")
    assert await clients[0].close_frame() == (4000, "enough")
    line = f"DELETE /gateway/websockets?instance={shown['instance']}&revoked=true"
    status, closing = await ask(world, gateway, line)
    assert status == 202
    assert await clients[1].close_frame() == (4001, "token_revoked")
    for client in clients:
        client.closing(1000)
    await eventually(lambda: not gateway.service.sockets.live)
    scrape = await world.client(gateway, get("/metrics", "Connection: close"))
    text = (await scrape.answer()).body.decode()
    of = 'route="/ws/:service",service="main"'
    by = 'side="gateway",reason='
    assert f"gateway_websocket_opened_total{{{of}}} 2\n" in text
    assert f'gateway_websocket_closed_total{{{of},code="4001",{by}"token_revoked"}} 1\n' in text
    for client in clients:
        client.transport.loseConnection()
