"""Ways around rate limits that clients might try, and what they are told on every kind of answer.

In memory, where nothing hides what a limiter counts; with a real Redis: ``test_store_faults.py``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import Any

import jwt
import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP6ClientEndpoint, UNIXClientEndpoint, connectProtocol

from rtgateway.testing import RawAnswer, RawClient, RunningGateway, eventually
from rtgateway.testing.upstream import RecordedConnection
from rtgateway.testing.waiting import soon, the_reactor, within
from rtgateway.testing.websocket import WebSocketClient, WebSocketUpstream
from tests.e2e.test_leaks import assert_not_grown, one_by_one, pipelined, settled
from tests.e2e.test_rate_limits import SECRET, asked, bearer, bucket, statuses
from tests.e2e.test_retries import service
from tests.e2e.world import World, event_stream, get, post, with_length

__all__: list[str] = []

PATH = "/api/main/x"
AUTH = {"required": True, "jwt": {"secret": SECRET}}


async def limited(world: World, **settings: Any) -> RunningGateway:
    upstream = await world.upstream(with_length(b"ok"))
    return await world.gateway(upstream, **{"rate_limits": {"it": bucket(2)}, **settings})


async def answers(client: RawClient, number: int, to: bytes = b"GET") -> list[RawAnswer]:
    return [await client.answer(to=to) for _ in range(number)]


def left(found: Sequence[RawAnswer]) -> list[int]:
    return [int(each.header(b"x-ratelimit-remaining") or -1) for each in found]


# -- ways around --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        get("http://test/api/main/x"),
        get("/api/main/%78"),
        get("/api/main/x?" + "y" * 500),
        get("/api/main//x"),
        get("/api/main/"),
        get("/api/main"),
        get(PATH, version="1.0"),
        b"GET /api/main/x HTTP/1.0\r\n\r\n",
        b"GET /api/main/x HTTP/1.1\r\nHOST: test.\r\n\r\n",
        b"GET /api/main/x HTTP/1.1\r\nHost: TEST:1234\r\n\r\n",
        get(PATH, "X-Forwarded-For: 192.0.2.1"),
        get(PATH, "Forwarded: for=192.0.2.1"),
        get(PATH, "X-Real-IP: 192.0.2.1"),
        get(PATH, "True-Client-IP: 192.0.2.1", "CF-Connecting-IP: 192.0.2.1"),
        get(PATH, "X-HTTP-Method-Override: OPTIONS"),
        get(PATH, "Connection: X-Forwarded-For, Host"),
        b"HEAD" + get(PATH)[3:],
        b"OPTIONS" + get(PATH)[3:],
        post(PATH, b"body"),
        b"POST" + get(PATH, "Transfer-Encoding: chunked")[3:] + b"0\r\n\r\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_same_client_by_any_other_words(world: World, request_: bytes) -> None:
    gateway = await limited(world, rate_limits={"it": bucket(1, per=["ip", "route"])})
    assert await statuses(world, gateway, 1) == [200]
    client = await world.client(gateway, request_)
    answer = await client.answer(to=request_.split(b" ")[0])
    assert answer.status == 429
    assert answer.header(b"retry-after") == b"1000"


@pytest.mark.parametrize(
    "lines",
    [
        ("x-tenant: a",),
        ("X-TENANT: a",),
        ("X-Tenant:a",),
        ("X-Tenant:  a \t",),
        ("X-Tenant: a", "Connection: X-Tenant"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_same_tenant(world: World, lines: tuple[str, ...]) -> None:
    gateway = await limited(world, rate_limits={"it": bucket(1, per="header:X-Tenant")})
    assert await statuses(world, gateway, 1, "X-Tenant: a") == [200]
    assert await statuses(world, gateway, 1, *lines) == [429]


@pytest_twisted.ensureDeferred
async def test_odd_values(world: World) -> None:
    """They are counted, each for itself, and never an error of the gateway."""
    gateway = await limited(world, rate_limits={"it": bucket(1, per="header:x-tenant")})
    odd = [b"\xff\xfe", b"\xc3\xbc", b"a|b", b"{x}", b"x" * 8000, b"%s%d", b"\\r\\n", b"'\";--"]
    for value in odd:
        client = await world.client(gateway)
        client.send(b"GET /api/main/x HTTP/1.1\r\nHost: test\r\nX-Tenant: %b\r\n\r\n" % value * 2)
        assert [each.status for each in await answers(client, 2)] == [200, 429], value
    for value in (b"a\0b", b"a\rb"):
        client = await world.client(gateway)
        client.send(b"GET /api/main/x HTTP/1.1\r\nHost: test\r\nX-Tenant: %b\r\n\r\n" % value)
        assert (await client.answer()).status == 400


@pytest_twisted.ensureDeferred
async def test_a_path_in_another_spelling(world: World) -> None:
    """A route with a limit is not the only way to a path: who writes it otherwise is on the other
    route, as the other one says, and is counted there."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        routes=[
            {"path": "/", "service": "main", "name": "rest"},
            {"path": "/dear", "service": "main", "name": "dear"},
        ],
        rate_limits={"dear": bucket(1, routes=["dear"]), "all": bucket(3)},
    )
    spellings = ["/dear", "/dear", "/%64ear", "//dear", "/dear/../dear", "/%64ear"]
    codes = [(await asked(world, gateway, path=path)).status for path in spellings]
    assert codes == [200, 429, 200, 200, 400, 429]


# -- what is told -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + with_length(b"ok"), 200),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500),
        ("GET", event_stream() + b"0\r\n\r\n", 200),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest_twisted.ensureDeferred
async def test_on_every_kind_of_answer(
    world: World, method: str, answer: bytes, status: int, version: str
) -> None:
    """The fields are there once, on the last answer and not on those before it."""
    upstream = await world.upstream(answer)
    gateway = await world.gateway(upstream, rate_limits={"it": bucket(9)})
    client = await world.client(gateway)
    for remaining in (8, 7, 6):
        client.send(method.encode() + get(PATH, "Connection: keep-alive", version=version)[3:])
        got = await client.answer(to=method.encode())
        if got.status < 200:
            assert got.header(b"ratelimit") is None
            got = await client.answer(to=method.encode())
        assert got.status == status
        assert got.all(b"x-ratelimit-remaining") == [b"%d" % remaining]
        assert got.all(b"ratelimit") == [b'"it";r=%d;t=%d' % (remaining, (9 - remaining) * 1000)]
        if got.header(b"connection") == b"close":
            await client.closed()
            client = await world.client(gateway)


@pytest_twisted.ensureDeferred
async def test_repeated_requests(world: World) -> None:
    """What is remembered of a connection is never what was left before: answers that came whole,
    refusals between them, and other clients that take from the same."""
    gateway = await limited(world, rate_limits={"it": bucket(30)})
    one, two = await world.client(gateway), await world.client(gateway)
    seen = []
    for number in range(35):
        client = (one, two)[number % 3 == 0]
        client.send(get(PATH))
        seen.append(await client.answer())
    assert left(seen) == [*range(29, -1, -1), *[0] * 5]
    assert [each.status for each in seen] == [200] * 30 + [429] * 5
    assert len({each.header(b"x-request-id") for each in seen}) == 35


@pytest_twisted.ensureDeferred
async def test_pipelined_requests(world: World) -> None:
    """Each is counted, in order; refusals do not end the connection."""
    gateway = await limited(world, rate_limits={"it": bucket(20)})
    client = await world.client(gateway, get(PATH) * 50)
    seen = await answers(client, 50)
    assert [each.status for each in seen] == [200] * 20 + [429] * 30
    assert left(seen) == [*range(19, -1, -1), *[0] * 30]
    assert client.lost is None


@pytest_twisted.ensureDeferred
async def test_fields_that_an_instance_sends(world: World) -> None:
    """Of X-RateLimit there can be one set only: that of the gateway, which counts what it refuses.
    RateLimit fields are lists, and those of the service stay (draft, section 3.5)."""
    theirs = (
        "X-RateLimit-Limit: 7",
        "X-RateLimit-Remaining: 3",
        "X-RateLimit-Reset: 1",
        'RateLimit-Policy: "theirs";q=7;w=60',
        'RateLimit: "theirs";r=3;t=1',
    )
    upstream = await world.upstream(with_length(b"ok", *theirs))
    gateway = await world.gateway(
        upstream,
        rate_limits={"it": bucket(9, routes=["/api/:service/*"])},
        routes=[{"path": "/free", "service": "main", "name": "free"}],
    )
    free = await asked(world, gateway, path="/free")
    assert free.all(b"x-ratelimit-limit") == [b"7"]
    answer = await asked(world, gateway)
    policies = b", ".join(answer.all(b"ratelimit-policy"))
    assert b'"theirs";q=7;w=60' in policies
    assert b'"it";q=9' in policies
    assert answer.all(b"x-ratelimit-limit") == [b"9"]
    assert answer.all(b"x-ratelimit-remaining") == [b"8"]
    assert len(answer.all(b"x-ratelimit-reset")) == 1


@pytest_twisted.ensureDeferred
async def test_429_of_an_instance(world: World) -> None:
    """Passes as it is, with its own Retry-After, and gets nobody banned."""
    busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 77\r\nContent-Length: 2\r\n\r\nno"
    upstream = await world.upstream(busy)
    gateway = await world.gateway(
        upstream,
        rate_limits={"it": bucket(9)},
        penalties={"refusals": 2, "window": "1m", "duration": "1m"},
    )
    seen = [await asked(world, gateway) for _ in range(5)]
    assert [each.header(b"retry-after") for each in seen] == [b"77"] * 5
    assert left(seen) == [8, 7, 6, 5, 4]
    assert not len(gateway.service.bans)


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_refused(world: World) -> None:
    """No 100 Continue, nothing sent on, and the client is told before it has sent it all."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, rate_limits={"it": bucket(1)})
    await asked(world, gateway)
    client = await world.client(gateway)
    client.send(
        b"POST /api/main/x HTTP/1.1\r\nHost: test\r\nContent-Length: 9000000\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    answer = await client.answer(to=b"POST")
    assert (answer.status, answer.header(b"connection")) == (429, b"close")
    await client.closed()
    assert len(upstream.requests) == 1
    assert len(upstream.connections) == 1


@pytest_twisted.ensureDeferred
async def test_who_wants_a_page(world: World) -> None:
    gateway = await limited(world, rate_limits={"it": bucket(1)})
    await asked(world, gateway)
    page = await asked(world, gateway, "Accept: text/html")
    assert (page.status, page.header(b"retry-after")) == (429, b"1000")
    assert page.header(b"content-type") == b"text/html; charset=utf-8"
    assert b"1000 seconds" in page.body
    head = await world.client(gateway, b"HEAD" + get(PATH)[3:])
    refused = await head.answer(to=b"HEAD")
    assert (refused.status, refused.header(b"retry-after")) == (429, b"1000")
    assert head.received == b""


# -- WebSockets ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_websockets(world: World) -> None:
    """An upgrade is a request like any other: told with the 101, or refused before anybody is
    asked; what is said on a socket is not counted."""
    upstream = await WebSocketUpstream.listening()
    world.keep(upstream)
    gateway = await world.gateway(upstream, rate_limits={"it": bucket(2)})
    for remaining in (1, 0):
        socket = await WebSocketClient.open(gateway.port, "/ws/main")
        assert socket.handshake is not None
        assert socket.handshake.all(b"x-ratelimit-remaining") == [b"%d" % remaining]
        assert len(socket.handshake.all(b"ratelimit-policy")) == 1
        for _ in range(5):
            socket.text("hello")
        socket.abort()
    refused = await WebSocketClient.connect(gateway.port)
    refused.upgrade("/ws/main")
    answer = await eventually(refused.take)
    assert (answer.status, answer.header(b"retry-after")) == (429, b"1000")
    assert len(upstream.connections) == 2
    refused.abort()


# -- who asks -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_tokens(world: World) -> None:
    """A token that is remembered for its connection counts each time; once it has expired, its
    client is nobody, and is counted by address."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        auth={"required": True, "jwt": {"secret": SECRET, "leeway": 0}},
        rate_limits={"it": bucket(3, per="identity")},
    )
    claims = {"sub": "ann", "exp": int(time()) + 2}
    mine = f"Authorization: Bearer {jwt.encode(claims, SECRET, 'HS256')}"
    client = await world.client(gateway)
    seen = []
    for _ in range(4):
        client.send(get(PATH, mine))
        seen.append(await client.answer())
    assert left(seen) == [2, 1, 0, 0]
    assert [each.status for each in seen] == [200, 200, 200, 429]
    assert await statuses(world, gateway, 1, bearer("ann")) == [429]

    async def until_expired() -> int:
        while True:
            client.send(get(PATH, mine))
            answer = await client.answer()
            if answer.status != 429:
                return answer.status
            await soon(0.05)

    assert await until_expired() == 401
    assert await statuses(world, gateway, 3, mine) == [401, 401, 429]
    assert await statuses(world, gateway, 1, bearer("bob")) == [200]


@pytest_twisted.ensureDeferred
async def test_tokens_that_nobody_asks_for(world: World) -> None:
    """On a route for everybody a token says who asks; a bad one is as good as none, and no way to
    another share, nor to what is forbidden."""
    gateway = await limited(
        world,
        auth={"required": False, "jwt": {"secret": SECRET}},
        rate_limits={"it": bucket(1, per="identity", exempt={"identities": ["root"]})},
    )
    assert await statuses(world, gateway, 2, bearer("ann")) == [200, 429]
    assert await statuses(world, gateway, 2, bearer("bob")) == [200, 429]
    assert await statuses(world, gateway, 3, bearer("root")) == [200, 200, 200]
    forged = jwt.encode({"sub": "root"}, "another secret that is long enough to be one", "HS256")
    old = jwt.encode({"sub": "root", "exp": 1}, SECRET, "HS256")
    lines = [f"Authorization: Bearer {each}" for each in (forged, old, "x.y.z", "", "\xff")]
    codes = [(await asked(world, gateway, line)).status for line in (*lines, "X-None: 1")]
    assert codes == [200, *[429] * 5]
    client = await world.client(gateway)
    for code in (429, 429):
        client.send(get(PATH, bearer("ann")))
        assert (await client.answer()).status == code


@pytest_twisted.ensureDeferred
async def test_a_websocket_does_not_end_with_a_token_that_nobody_asked_for(world: World) -> None:
    """What a limiter reads for itself changes nothing else of a route."""
    upstream = await WebSocketUpstream.listening()
    world.keep(upstream)
    gateway = await world.gateway(
        upstream,
        auth={"required": False, "jwt": {"secret": SECRET, "leeway": 0}},
        rate_limits={"it": bucket(5, per="identity")},
    )
    token = jwt.encode({"sub": "ann", "exp": int(time()) + 2}, SECRET, "HS256")
    socket = await WebSocketClient.open(gateway.port, "/ws/main", f"Authorization: Bearer {token}")
    await soon(2.5)
    assert socket.lost is None
    assert not socket.frames
    socket.abort()


@pytest_twisted.ensureDeferred
async def test_odd_claims(world: World) -> None:
    gateway = await limited(world, auth=AUTH, rate_limits={"it": bucket(1, per="claim:tenant")})
    odd: list[Any] = [["a"], {"a": 1}, None, 1.5, "", [], True, 10**300, "x" * 3000, "ü|\0\n"]
    for number, tenant in enumerate(odd):
        line = bearer(f"user{number}", tenant=tenant)
        assert await statuses(world, gateway, 2, line) == [200, 429], tenant


@pytest_twisted.ensureDeferred
async def test_lists_and_bans_hold_on_live_connections(world: World) -> None:
    """From the next request on, and no longer than they are there."""
    gateway = await limited(world, rate_limits={"it": bucket(100)})
    service = gateway.service
    client = await world.client(gateway)

    async def status() -> int:
        client.send(get(PATH))
        return (await client.answer()).status

    assert [await status() for _ in range(3)] == [200, 200, 200]
    await service.ip_lists.add("deny", ["127.0.0.0/8"])
    assert [await status() for _ in range(3)] == [403, 403, 403]
    await service.ip_lists.remove("deny", ["127.0.0.0/8"])
    assert [await status() for _ in range(3)] == [200, 200, 200]
    await service.bans.ban("ip:127.0.0.1", 60, "")
    assert [await status() for _ in range(3)] == [429, 429, 429]
    await service.bans.lift("ip:127.0.0.1")
    assert await status() == 200
    assert client.lost is None


@pytest_twisted.ensureDeferred
async def test_a_unix_socket(world: World, tmp_path: Path) -> None:
    """All its clients are one; lists say nothing of who has no address."""
    path = str(tmp_path / "gateway.sock")
    await limited(
        world,
        listeners=[{"unix": path}],
        ip_lists={"deny": ["0.0.0.0/0", "::/0"]},
        rate_limits={"it": bucket(2, exempt={"ips": ["10.0.0.0/8"]})},
    )
    codes = []
    for _ in range(3):
        endpoint = UNIXClientEndpoint(the_reactor(), path)
        client = await within(connectProtocol(endpoint, RawClient()))
        client.send(get(PATH))
        codes.append((await client.answer()).status)
        client.close()
        await client.closed()
    assert codes == [200, 200, 429]


@pytest_twisted.ensureDeferred
async def test_an_ipv6_listener(world: World) -> None:
    """And IPv4 clients of a listener for both are themselves."""
    gateway = await limited(world, listeners=[{"tcp": "[::]:0"}], ip_lists={"deny": ["127.0.0.1"]})
    codes = []
    for _ in range(3):
        endpoint = TCP6ClientEndpoint(the_reactor(), "::1", gateway.port)
        client = await within(connectProtocol(endpoint, RawClient()))
        client.send(get(PATH))
        codes.append((await client.answer()).status)
        client.close()
        await client.closed()
    assert codes == [200, 200, 429]
    assert (await asked(world, gateway)).status in (200, 403)


@pytest_twisted.ensureDeferred
async def test_the_proxy_protocol(world: World) -> None:
    """Whom the proxy speaks for is who is counted: IPv6 by its network, IPv4 in IPv6 as IPv4."""
    gateway = await limited(
        world,
        trusted_proxies="127.0.0.1",
        listeners=[{"tcp": "127.0.0.1:0", "proxy_protocol": True}],
        ip_lists={"deny": ["203.0.113.0/24"]},
    )

    async def status(header: bytes, *lines: str) -> int:
        client = await world.client(gateway, header + get(PATH, *lines))
        answer = await client.answer()
        client.close()
        return answer.status

    def v1(ip: str) -> bytes:
        family = "TCP6" if ":" in ip else "TCP4"
        here = "::1" if ":" in ip else "127.0.0.1"
        return f"PROXY {family} {ip} {here} 1234 80\r\n".encode()

    assert [await status(v1("192.0.2.1")) for _ in range(3)] == [200, 200, 429]
    # Who comes by the proxy is no proxy himself.
    assert await status(v1("192.0.2.1"), "X-Forwarded-For: 192.0.2.2") == 429
    assert [await status(v1(f"2001:db8::{n}")) for n in range(1, 4)] == [200, 200, 429]
    assert await status(v1("2001:db8:0:1::1")) == 200
    assert await status(v1("203.0.113.5")) == 403
    v2 = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(
        ">BBH4s4sHH", 0x21, 0x11, 12, bytes((192, 0, 2, 1)), bytes(4), 1, 2
    )
    assert await status(v2) == 429


# -- once is once -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_retries_and_mirrors_cost_nothing(world: World) -> None:
    """A request is one unit, however often instances are asked."""
    calls = 0

    def flaky(connection: RecordedConnection, request: bytes) -> bytes:
        nonlocal calls
        calls += 1
        if calls % 3:
            return b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        return with_length(b"ok")

    upstream = await world.upstream(flaky)
    shadow = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        services={"main": service(upstream, retry={"attempts": 4}), "shadow": shadow.url},
        routes=[{"path": "/m", "service": "main", "mirror": {"service": "shadow"}, "name": "m"}],
        rate_limits={"it": bucket(9)},
    )
    seen = [await asked(world, gateway, path="/m") for _ in range(3)]
    assert [each.status for each in seen] == [200] * 3
    assert left(seen) == [8, 7, 6]
    assert calls == 9
    await eventually(lambda: len(shadow.requests) == 3)


@pytest_twisted.ensureDeferred
async def test_a_hedge_costs_nothing(world: World) -> None:
    silent, fine = await world.upstream(), await world.upstream(with_length(b"ok"))
    hedge = {"enabled": True, "max_delay": "20ms"}
    gateway = await world.gateway(
        service(silent, fine, retry={"hedge": hedge}), rate_limits={"it": bucket(9)}
    )
    assert left([await asked(world, gateway), await asked(world, gateway)]) == [8, 7]
    assert gateway.service.services["main"].hedges


# -- numbers that change ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_other_numbers_under_load(world: World) -> None:
    """Each answer is by the old numbers or by the new ones, and never an error."""
    gateway = await limited(world, rate_limits={"it": bucket(1000)})
    limits = gateway.service.limits
    client = await world.client(gateway)
    seen: list[RawAnswer] = []
    for capacity in (5, 5000, 7, 30_000, 3):
        client.send(get(PATH) * 60)
        seen += await answers(client, 10)
        await limits.change("it", {"capacity": capacity}, False)
        seen += await answers(client, 50)
    client.send(get(PATH))
    seen += await answers(client, 1)
    told = {int(each.header(b"x-ratelimit-limit") or 0) for each in seen}
    assert told >= {1000, 3}
    assert told <= {1000, 5, 5000, 7, 30_000, 3}
    assert {each.status for each in seen} == {200, 429}
    for each in seen:
        assert left([each])[0] < int(each.header(b"x-ratelimit-limit") or 0)
    await limits.restore("it")
    assert (await asked(world, gateway)).header(b"x-ratelimit-limit") == b"1000"


@pytest_twisted.ensureDeferred
async def test_a_blocked_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adaptive limits give in while the loop is late, say so, and come back."""
    gateway = await limited(
        world,
        rate_limits={
            "it": {
                "algorithm": "adaptive",
                **bucket(100),
                "adaptive": {"floor": 0.1, "cpu": 0, "increase": 1},
            }
        },
    )
    service = gateway.service
    now = 10.0
    for _ in range(8):
        now += 1
        service.limits.tick(now, 30.0, 0.0)
    answer = await asked(world, gateway)
    assert answer.header(b"x-ratelimit-limit") == b"10"
    client = await world.client(gateway, get(PATH) * 12)
    refused = (await answers(client, 12))[-1]
    assert json.loads(refused.body)["reason"].endswith("(adjusted due to high load: 0.10x)")
    service.limits.tick(now + 1, 0.0, 0.0)
    assert (await asked(world, gateway)).header(b"x-ratelimit-limit") == b"100"


# -- what is left -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_of_who_was_refused(world: World) -> None:
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, rate_limits={"it": bucket(1)})
    await pipelined(gateway, get(PATH), 500)
    await one_by_one(gateway, get(PATH), 50)
    before = await settled(upstream, gateway)
    await pipelined(gateway, get(PATH), 1000)
    await one_by_one(gateway, get(PATH), 250)
    assert_not_grown(before, await settled(upstream, gateway))


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_of_who_left_before_his_turn(world: World) -> None:
    """No timer either. Their turns are not given to others, who were told theirs."""
    upstream = await world.upstream(with_length(b"ok"))
    shaper = {"algorithm": "shaper", "refill_rate": 1, "queue": 2000, "per": "header:x-tenant"}
    gateway = await world.gateway(upstream, rate_limits={"it": shaper})
    service = gateway.service

    def waiting() -> int:
        return sum(len(each._delays) for each in service.routing.limits)

    async def leave(number: int) -> None:
        clients = [await RawClient.connect(gateway.port) for _ in range(number)]
        for client in clients:
            client.send(get(PATH, "X-Tenant: a"))
        await eventually(lambda: waiting() >= number - 1)
        for client in clients:
            client.abort()
        await eventually(lambda: not waiting() and not service.site.channels)

    await leave(200)
    before = await settled(upstream, gateway)
    for _ in range(2):
        await leave(200)
    assert_not_grown(before, await settled(upstream, gateway))
    clients = [await world.client(gateway, get(PATH, "X-Tenant: b")) for _ in range(5)]
    await eventually(lambda: waiting() == 4)
    await gateway.stop()
    await eventually(lambda: all(client.lost is not None for client in clients))
    assert not waiting()
