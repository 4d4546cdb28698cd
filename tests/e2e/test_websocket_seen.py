"""What operators see of WebSockets, and what they can do about them."""

from __future__ import annotations

import re

import pytest
import pytest_twisted

from rtgateway.testing import eventually
from rtgateway.testing.websocket import CLOSE, agree
from tests.e2e.sockets.bridged import ask, bridge, live, metric, open_socket, start, upstream_of
from tests.e2e.test_auth import AUTH, token
from tests.e2e.world import World, get, only_instance

__all__: list[str] = []

LIST = "/gateway/websockets"
COMBINED = re.compile(
    r'^127\.0\.0\.1 - \S+ \[[^]]+\] "(?P<request>[^"]*)" (?P<status>\d+) \d+ "[^"]*" "(?P<end>.*)"$'
)


# -- the log ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_two_lines(world: World) -> None:
    """One when it opens, one when it is over; no payload and no query in them."""
    bridged = await bridge(world, "X-Request-ID: one", target="/ws/main?path=/room&key=hidden")
    bridged.client.text("secret words")
    bridged.client.binary(bytes(1000))
    await bridged.instance.message()
    await bridged.instance.message()
    bridged.instance.text("answer")
    await bridged.client.message()
    (first,) = await world.logged(bridged.gateway)
    assert (first["status"], first["kind"], first["request_id"]) == (101, "websocket", "one")
    assert (first["method"], first["route"], first["service"]) == ("GET", "/ws/:service", "main")
    bridged.client.closing(4000, 'tired "of" it\n')
    await bridged.instance.close_frame()
    bridged.instance.closing(4000)
    bridged.instance.transport.loseConnection()
    await bridged.ended()
    (_, last) = await world.logged(bridged.gateway, 2)
    assert last["event"] == "websocket_closed"
    assert (last["request_id"], last["client_ip"]) == ("one", "127.0.0.1")
    assert (last["route"], last["service"]) == ("/ws/:service", "main")
    assert last["instance"] == bridged.upstream.url
    assert (last["close_code"], last["close_reason"]) == (4000, 'tired "of" it\n')
    assert last["closed_by"] == "client"
    assert (last["messages_in"], last["messages_out"]) == (2, 1)
    assert last["bytes_in"] == len(bridged.instance.wire)
    sent = sum(len(frame.raw) for frame in bridged.client.frames)
    assert last["bytes_out"] == sent
    assert 0 < last["duration_us"] < 60e6
    assert "secret" not in str(last)
    assert "hidden" not in str((first, last))


@pytest_twisted.ensureDeferred
async def test_the_combined_format(world: World) -> None:
    """Two lines as other programs take them."""
    log = world.folder / "combined.log"
    settings = {"file": str(log), "format": "combined", "flush": "50ms"}
    bridged = await bridge(world, access_log=settings)
    bridged.client.closing(4000, 'a"b')
    await bridged.instance.close_frame()
    bridged.client.abort()
    bridged.instance.abort()
    await eventually(lambda: log.exists() and log.read_text().count("\n") == 2)
    first, last = (COMBINED.match(line) for line in log.read_text().splitlines())
    assert first is not None
    assert last is not None
    assert (first["request"], first["status"]) == ("GET /ws/main HTTP/1.1", "101")
    assert last["request"].startswith("CLOSE /ws/main")
    assert "code=4000 by=client" in last["end"]


# -- numbers ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_metrics(world: World) -> None:
    """Gauges while they are open, counters of what has been."""
    bridged = await bridge(world)
    gateway, route = bridged.gateway, {"route": "/ws/:service"}
    service = {**route, "service": "main"}
    other = await open_socket(world, gateway)
    assert await metric(world, gateway, "gateway_websocket_connections") == 2
    instance = {"service": "main", "instance": bridged.upstream.url}
    assert await metric(world, gateway, "gateway_websocket_instance_connections", **instance) == 2
    assert await metric(world, gateway, "gateway_websocket_opened_total", **service) == 2
    for _ in range(3):
        bridged.client.text("up")
    bridged.instance.text("down")
    await bridged.client.frame()
    await eventually(lambda: len(bridged.instance.frames) == 3)
    for direction, messages, size in (("in", 3, 24), ("out", 1, 6)):
        labels = {**route, "direction": direction}
        name = "gateway_websocket_messages_total"
        assert await metric(world, gateway, name, **labels) == messages
        assert await metric(world, gateway, "gateway_websocket_bytes_total", **labels) == size
    name = "gateway_websocket_handshake_duration_seconds_count"
    assert await metric(world, gateway, name, **route) == 2
    other.abort()
    bridged.client.closing(4321)
    await bridged.instance.close_frame()
    for end in bridged.upstream.sockets:
        end.abort()
    bridged.client.abort()
    await eventually(lambda: not live(gateway))
    name = "gateway_websocket_closed_total"
    ends = {**service, "side": "client", "reason": ""}
    assert await metric(world, gateway, name, **ends, code="4xxx") == 1
    assert await metric(world, gateway, name, **ends, code="1006") == 1
    assert await metric(world, gateway, "gateway_websocket_connections") == 0
    name = "gateway_websocket_messages_total"
    assert await metric(world, gateway, name, **route, direction="in") == 3
    assert only_instance(gateway).inflight == 0


@pytest_twisted.ensureDeferred
async def test_statistics(world: World) -> None:
    """In ``/admin/stats`` as well, and requests in flight are told from sockets."""
    bridged = await bridge(world)
    await open_socket(world, bridged.gateway)
    _, page = await ask(world, bridged.gateway, "/admin/stats")
    assert page["connections"]["ws"] == 2
    (details,) = page["services"]["main"]["upstreamDetails"]
    assert details["inflight"] == {"http": 0, "sse": 0, "ws": 2}


@pytest_twisted.ensureDeferred
async def test_the_page_of_health(world: World) -> None:
    """Open to everybody, and without any address."""
    bridged = await bridge(world, auth={**AUTH, "required": True}, target="/open", routes=[OPEN])
    client = await world.client(bridged.gateway, get("/ws/health"))
    answer = await client.answer()
    assert answer.status == 200
    assert b'"active_connections":1' in answer.body
    assert b"127.0.0.1" not in answer.body


OPEN = {"path": "/open", "service": "main", "auth": "none", "websocket": True}


# -- the list ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_one_of_them(world: World) -> None:
    """Everything there is to know about it."""
    bridged = await bridge(
        world,
        "X-Request-ID: one",
        f"Authorization: Bearer {token()}",
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Extensions: permessage-deflate",
        target="/ws/main?path=/room&key=hidden",
        answer=lambda _, request: agree(request, protocol="chat", extensions="permessage-deflate"),
        auth=AUTH,
    )
    bridged.client.text("hello")
    await bridged.instance.frame()
    lines = (f"Authorization: Bearer {token()}",)
    _, page = await ask(world, bridged.gateway, LIST, lines=lines)
    assert page["total"] == 1
    (one,) = page["websockets"]
    for key, value in {
        "request_id": "one",
        "state": "open",
        "client_ip": "127.0.0.1",
        "identity": "ann",
        "route": "/ws/:service",
        "service": "main",
        "subprotocol": "chat",
        "compressed": True,
        "received": {"messages": 1, "frames": 1, "bytes": 11},
        "sent": {"messages": 0, "frames": 0, "bytes": 0},
        "buffered": {"in": 0, "out": 0},
        "close": None,
    }.items():
        assert one[key] == value, key
    assert 0 <= one["age"] < 60
    assert "hidden" not in str(one)
    status, again = await ask(world, bridged.gateway, f"{LIST}/{one['id']}", lines=lines)
    assert (status, again["id"]) == (200, one["id"])
    assert (await ask(world, bridged.gateway, f"{LIST}/{one['id']}"))[0] == 401
    assert (await ask(world, bridged.gateway, f"{LIST}/none", lines=lines))[0] == 404


@pytest_twisted.ensureDeferred
async def test_page_by_page(world: World) -> None:
    """Each of them once, and filters choose."""
    upstreams = [await upstream_of(world) for _ in range(2)]
    gateway = await start(
        world,
        {"instances": [each.url for each in upstreams]},
        trusted_proxies=["127.0.0.1"],
        admin={"open": True},
    )
    for number in range(10):
        line = f"X-Forwarded-For: 192.0.2.{number % 2}"
        await open_socket(world, gateway, "/ws/main", line)
    seen: list[str] = []
    query = "?limit=3"
    while query:
        _, page = await ask(world, gateway, LIST + query)
        assert page["total"] == 10
        seen += [each["id"] for each in page["websockets"]]
        query = f"?limit=3&after={page['next']}" if page["next"] else ""
    assert len(seen) == len(set(seen)) == 10
    for filters, number in (
        ("ip=192.0.2.1", 5),
        ("ip=192.0.2.7", 0),
        ("service=main&state=open", 10),
        ("state=closing", 0),
        (f"instance=127.0.0.1:{upstreams[0].port}", 5),
        ("route=/ws/:service&ip=192.0.2.0", 5),
        ("identity=ann", 0),
    ):
        _, page = await ask(world, gateway, f"{LIST}?{filters}")
        assert page["total"] == number, filters
    for wrong in ("limit=0", "limit=1001", "nothing=1", "state=old"):
        assert (await ask(world, gateway, f"{LIST}?{wrong}"))[0] == 400


# -- closing them -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (1000, "closed_by_operator")),
        ("?code=4123&reason=enough", (4123, "enough")),
        ("?revoked=true", (4001, "token_revoked")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_closing_one(world: World, query: str, expected: tuple[int, str]) -> None:
    """Both sides are told, others are left alone."""
    bridged = await bridge(world)
    other = await open_socket(world, bridged.gateway)
    (one, _) = live(bridged.gateway)
    status, _ = await ask(world, bridged.gateway, f"{LIST}/{one.id}{query}", "DELETE")
    assert status == 202
    assert await bridged.client.close_frame() == expected
    assert await bridged.instance.close_frame() == expected
    _, page = await ask(world, bridged.gateway, f"{LIST}?state=closing")
    assert [each["id"] for each in page["websockets"]] == [one.id]
    assert page["websockets"][0]["close"]["by"] == "gateway"
    for end in (bridged.client, bridged.instance):
        end.closing(expected[0])
    bridged.instance.transport.loseConnection()
    await eventually(lambda: len(live(bridged.gateway)) == 1)
    assert other.frames == []


@pytest_twisted.ensureDeferred
async def test_closing_many(world: World) -> None:
    """All of an instance; never all by mistake."""
    upstreams = [await upstream_of(world) for _ in range(2)]
    gateway = await start(world, {"instances": [each.url for each in upstreams]})
    clients = [await open_socket(world, gateway) for _ in range(6)]
    for wrong in ("", "?instance=", "?code=1000", "?state=open", "?identity=a&identity=b"):
        assert (await ask(world, gateway, LIST + wrong, "DELETE"))[0] == 400
    assert (await ask(world, gateway, f"{LIST}?identity=nobody", "DELETE"))[1]["closing"] == 0
    for code in (1004, 1005, 1006, 1015, 2000, 5000):
        query = f"?service=main&code={code}"
        assert (await ask(world, gateway, LIST + query, "DELETE"))[0] == 400
    query = f"?instance=127.0.0.1:{upstreams[0].port}&code=1012&reason=moved"
    status, page = await ask(world, gateway, LIST + query, "DELETE")
    assert (status, page["closing"]) == (202, 3)
    await eventually(lambda: sum(bool(each.frames) for each in clients) == 3)
    for client in clients:
        assert [frame.close for frame in client.frames] in ([], [(1012, "moved")])
    assert all(each.frames[0].opcode == CLOSE for each in upstreams[0].sockets)
    assert not any(each.frames for each in upstreams[1].sockets)


@pytest_twisted.ensureDeferred
async def test_who_may_not(world: World) -> None:
    """A page of another site can't close anything, nor can anybody from elsewhere."""
    bridged = await bridge(world, trusted_proxies=["127.0.0.1"])
    (one,) = live(bridged.gateway)
    for line in ("Origin: https://evil.example", "X-Forwarded-For: 192.0.2.1"):
        for path in (f"{LIST}/{one.id}", f"{LIST}?service=main"):
            status, _ = await ask(world, bridged.gateway, path, "DELETE", lines=(line,))
            assert status == 403
    await bridged.still_open()
