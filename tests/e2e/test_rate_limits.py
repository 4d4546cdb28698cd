"""Rate limits as clients see them, in memory and in Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import monotonic, time
from typing import Any

import jwt
import pytest
import pytest_twisted

from rtgateway.testing import RawAnswer, RunningGateway, eventually
from rtgateway.testing.redis import RedisServer
from tests.e2e.world import World, event_stream, get, post, with_length

__all__: list[str] = []

SECRET = "correct horse battery staple, and then some more of it to be long enough"
SLOW = 0.001
"""Units per second: none comes back during a test."""


@pytest.fixture(params=["memory", "redis"])
def state(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the limits are kept."""
    if request.param == "memory":
        yield "memory"
    else:
        yield request.getfixturevalue("redis").url


def bucket(capacity: int, **more: Any) -> dict[str, Any]:
    return {"capacity": capacity, "refill_rate": SLOW, **more}


def bearer(subject: str = "ann", **claims: Any) -> str:
    token = jwt.encode({"sub": subject, "exp": time() + 3600, **claims}, SECRET, "HS256")
    return f"Authorization: Bearer {token}"


async def asked(
    world: World, gateway: RunningGateway, *lines: str, path: str = "/api/main/x"
) -> RawAnswer:
    client = await world.client(gateway, get(path, *lines))
    answer = await client.answer()
    client.close()
    return answer


async def statuses(
    world: World, gateway: RunningGateway, number: int, *lines: str, path: str = "/api/main/x"
) -> list[int]:
    return [(await asked(world, gateway, *lines, path=path)).status for _ in range(number)]


async def limited(world: World, state: str, **limiters: Any) -> RunningGateway:
    upstream = await world.upstream(with_length(b"ok"))
    return await world.gateway(upstream, state=state, rate_limits=limiters)


@pytest_twisted.ensureDeferred
async def test_a_refusal(world: World, state: str) -> None:
    """Both kinds of fields on every answer; 429 with how long to wait; nothing reaches anybody."""
    upstream = await world.upstream(with_length(b"ok"))
    limiters = {"per-client": {"capacity": 2, "refill_rate": 0.1}}
    gateway = await world.gateway(upstream, state=state, rate_limits=limiters)
    first = await asked(world, gateway)
    assert first.status == 200
    assert first.header(b"x-ratelimit-limit") == b"2"
    assert first.header(b"x-ratelimit-remaining") == b"1"
    assert first.header(b"x-ratelimit-reset") == b"10"
    assert first.header(b"ratelimit-policy") == b'"per-client";q=2;w=20'
    assert first.header(b"ratelimit") == b'"per-client";r=1;t=10'
    assert first.header(b"x-ratelimit-mode") is None
    assert (await asked(world, gateway)).header(b"x-ratelimit-remaining") == b"0"
    refused = await asked(world, gateway)
    assert refused.status == 429
    assert refused.header(b"retry-after") == b"10"
    assert refused.header(b"x-ratelimit-remaining") == b"0"
    said = json.loads(refused.body)
    request_id = said.pop("request_id")
    assert refused.header(b"x-request-id") == request_id.encode()
    assert said == {
        "statusCode": 429,
        "error": "Too Many Requests",
        "message": "Rate limit exceeded, retry in 10 seconds",
        "reason": "Rate limit exceeded",
        "retry_after": 10,
    }
    assert len(upstream.requests) == 2
    line = (await world.logged(gateway, 3))[2]
    assert (line["status"], line["error"]) == (429, "rate_limited")


@pytest_twisted.ensureDeferred
async def test_all_or_nothing(world: World, state: str) -> None:
    """What one limiter refuses costs nothing at the others."""
    gateway = await limited(
        world, state, narrow=bucket(1, per="header:x-user"), wide=bucket(3, per="global")
    )
    assert await statuses(world, gateway, 6, "X-User: a") == [200, *[429] * 5]
    assert await statuses(world, gateway, 1, "X-User: b") == [200]
    assert await statuses(world, gateway, 1, "X-User: c") == [200]
    refused = await asked(world, gateway, "X-User: d")
    assert refused.status == 429
    assert refused.header(b"x-ratelimit-limit") == b"3"
    assert refused.header(b"ratelimit-policy") == b'"narrow";q=1;w=1000, "wide";q=3;w=3000'


@pytest_twisted.ensureDeferred
async def test_whom_it_counts(world: World, state: str) -> None:
    """By token, claim and header; who has none of it by address, and so has no way around."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        auth={"jwt": {"secret": SECRET}},
        routes=[
            {"path": "/in", "service": "main", "auth": "required", "name": "in"},
            {"path": "/out", "service": "main", "name": "out"},
            {"path": "/tenants", "service": "main", "auth": "required", "name": "tenants"},
        ],
        rate_limits={
            "users": bucket(2, per="identity", routes=["in"]),
            "headers": bucket(1, per="header:x-tenant", routes=["out"]),
            "claims": bucket(1, per=["claim:tenant", "route"], routes=["tenants"]),
        },
    )
    assert await statuses(world, gateway, 3, bearer("ann"), path="/in") == [200, 200, 429]
    assert await statuses(world, gateway, 1, bearer("bob"), path="/in") == [200]
    assert await statuses(world, gateway, 2, "X-Tenant: a", path="/out") == [200, 429]
    assert await statuses(world, gateway, 1, "X-Tenant: b", path="/out") == [200]
    assert await statuses(world, gateway, 2, path="/out") == [200, 429]
    acme, other = bearer("ann", tenant="acme"), bearer("bob", tenant="acme")
    assert await statuses(world, gateway, 1, acme, path="/tenants") == [200]
    assert await statuses(world, gateway, 1, other, path="/tenants") == [429]
    assert await statuses(world, gateway, 1, bearer("cyd", tenant=7), path="/tenants") == [200]


@pytest_twisted.ensureDeferred
async def test_costs_plans_and_exemptions(world: World, state: str) -> None:
    """POST costs more, a header can't make it cheaper; plans and subjects have their own."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        auth={"required": True, "jwt": {"secret": SECRET}},
        rate_limits={
            "users": bucket(
                4,
                per="identity",
                cost={"default": 2, "header": "X-Cost", "most": 4},
                plans={"claim": "plan", "values": {"gold": {"capacity": 8}}},
                overrides={"eve": {"capacity": 5}},
                exempt={"identities": ["root"], "claims": {"role": "admin"}},
            )
        },
    )
    assert await statuses(world, gateway, 3, bearer("ann")) == [200, 200, 429]
    assert await statuses(world, gateway, 3, bearer("bob"), "X-Cost: 0") == [200, 200, 429]
    assert await statuses(world, gateway, 2, bearer("cyd"), "X-Cost: 99") == [200, 429]
    assert await statuses(world, gateway, 5, bearer("dan", plan="gold")) == [*[200] * 4, 429]
    assert (await asked(world, gateway, bearer("eve"))).header(b"x-ratelimit-limit") == b"5"
    assert await statuses(world, gateway, 6, bearer("root")) == [200] * 6
    assert await statuses(world, gateway, 6, bearer("fay", role=["x", "admin"])) == [200] * 6


@pytest_twisted.ensureDeferred
async def test_bad_tokens_are_limited(world: World, state: str) -> None:
    """Who tries tokens is told 401 as often as its address may ask, and then 429."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        auth={"required": True, "jwt": {"secret": SECRET}},
        rate_limits={"per-client": bucket(2)},
    )
    wrong = "Authorization: Bearer x.y.z"
    assert await statuses(world, gateway, 4, wrong) == [401, 401, 429, 429]


@pytest_twisted.ensureDeferred
async def test_the_address_of_a_stranger(world: World, state: str) -> None:
    """What a stranger says in X-Forwarded-For is no way to another bucket."""
    gateway = await limited(world, state, clients=bucket(2))
    codes = [
        (await asked(world, gateway, f"X-Forwarded-For: 203.0.113.{number}")).status
        for number in range(4)
    ]
    assert codes == [200, 200, 429, 429]


@pytest_twisted.ensureDeferred
async def test_behind_a_trusted_proxy(world: World, state: str) -> None:
    """A proxy that is trusted says who asks: IPv6 by /64, and never by the leftmost hop."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        trusted_proxies="127.0.0.1",
        rate_limits={"clients": bucket(1)},
    )

    async def status(hops: str) -> int:
        return (await asked(world, gateway, f"X-Forwarded-For: {hops}")).status

    assert await status("2001:db8:0:1::1") == 200
    assert await status("2001:db8:0:1:ffff::2") == 429
    assert await status("2001:db8:0:2::1") == 200
    assert await status("198.51.100.1, 203.0.113.9") == 200
    assert await status("198.51.100.2, 203.0.113.9") == 429


@pytest_twisted.ensureDeferred
async def test_where_it_holds(world: World, state: str) -> None:
    """By service, route and method; the gateway's own pages are never limited."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        routes=[{"path": "/free", "service": "main", "name": "free"}],
        rate_limits={
            "api": bucket(1, routes=["/api/:service/*"]),
            "writes": bucket(1, methods=["POST"], per="service"),
        },
    )
    assert await statuses(world, gateway, 2) == [200, 429]
    assert await statuses(world, gateway, 4, path="/free") == [200] * 4
    assert await statuses(world, gateway, 4, path="/healthz") == [200] * 4
    posts = []
    for _ in range(2):
        client = await world.client(
            gateway, b"POST /free HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi"
        )
        posts.append((await client.answer(to=b"POST")).status)
    assert posts == [200, 429]


@pytest_twisted.ensureDeferred
async def test_only_reporting(world: World, state: str) -> None:
    """Nothing is refused or told, and what would have been is counted."""
    gateway = await limited(world, state, trial=bucket(1, report_only=True))
    for _ in range(3):
        answer = await asked(world, gateway)
        assert answer.status == 200
        assert answer.header(b"ratelimit") is None
    decisions = gateway.service.limits.decisions
    await eventually(lambda: decisions.get(("trial", "ip", "reported")) == 2)


@pytest_twisted.ensureDeferred
async def test_a_shaper(world: World, state: str) -> None:
    """Requests leave at the rate; who finds the queue full is refused."""
    gateway = await limited(
        world, state, paced={"algorithm": "shaper", "refill_rate": 10, "queue": 2}
    )
    began = time()
    clients = [await world.client(gateway, get("/api/main/x")) for _ in range(4)]
    answers = [await client.answer() for client in clients]
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 429]
    assert time() - began >= 0.19


@pytest_twisted.ensureDeferred
async def test_streams_and_heads_tell_too(world: World, state: str) -> None:
    """Event streams and requests that are repeated on a connection say what is left."""
    upstream = await world.upstream(event_stream() + b"2\r\nok\r\n0\r\n\r\n")
    gateway = await world.gateway(upstream, state=state, rate_limits={"all": bucket(9)})
    client = await world.client(gateway)
    for left in (8, 7, 6):
        client.send(get("/sse/main/x"))
        answer = await client.answer()
        assert answer.status == 200
        assert answer.header(b"x-ratelimit-remaining") == b"%d" % left


@pytest_twisted.ensureDeferred
async def test_lists(world: World, state: str) -> None:
    """Denied addresses get nothing; listed ones are not limited; changes hold at once."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        trusted_proxies="127.0.0.1",
        ip_lists={"deny": ["203.0.113.0/24"], "allow": ["198.51.100.7"]},
        rate_limits={"clients": bucket(1)},
    )
    denied = await asked(world, gateway, "X-Forwarded-For: 203.0.113.9")
    assert (denied.status, json.loads(denied.body)["message"]) == (
        403,
        "Your address is not allowed here",
    )
    known = "X-Forwarded-For: 198.51.100.7"
    assert await statuses(world, gateway, 3, known) == [200] * 3
    other = "X-Forwarded-For: 192.0.2.1"
    assert await statuses(world, gateway, 1, other) == [200]
    await gateway.service.ip_lists.add("deny", ["192.0.2.0/28"])
    assert await statuses(world, gateway, 1, other) == [403]
    await gateway.service.ip_lists.remove("deny", ["192.0.2.0/28"])
    assert await statuses(world, gateway, 1, other) == [429]


@pytest_twisted.ensureDeferred
async def test_bans(world: World, state: str) -> None:
    """Who is refused too often is banned, whatever is asked for, until the ban is lifted."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        routes=[{"path": "/free", "service": "main", "name": "free"}],
        penalties={"refusals": 3, "window": "1m", "duration": "10m"},
        rate_limits={"clients": bucket(1, routes=["/api/:service/*"])},
    )
    assert await statuses(world, gateway, 4) == [200, 429, 429, 429]
    bans = gateway.service.bans
    await eventually(lambda: len(bans) == 1)
    banned = await asked(world, gateway, path="/free")
    assert banned.status == 429
    assert json.loads(banned.body)["reason"] == "Temporarily banned due to abuse"
    assert 590 <= int(banned.header(b"retry-after") or b"") <= 600
    assert await bans.lift("ip:127.0.0.1")
    assert await statuses(world, gateway, 1, path="/free") == [200]


@pytest_twisted.ensureDeferred
async def test_two_gateways(world: World, redis: RedisServer) -> None:
    """One limit for both, whichever is asked."""
    upstream = await world.upstream(with_length(b"ok"))
    limiters = {"clients": bucket(4)}
    settings: dict[str, Any] = {"state": redis.url, "rate_limits": limiters}
    one = await world.gateway(upstream, **settings)
    two = await world.gateway(upstream, **settings)
    codes = [(await asked(world, (one, two)[number % 2])).status for number in range(6)]
    assert codes == [200] * 4 + [429] * 2


@pytest.mark.parametrize(
    ("rule", "codes"),
    [("local", [200, 200, 429]), ("allow", [200, 200, 200]), ("deny", [503, 503, 503])],
)
@pytest_twisted.ensureDeferred
async def test_without_redis(
    world: World, redis_server: RedisServer, rule: str, codes: list[int]
) -> None:
    """Each policy does what it says, says so, and nobody waits."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=redis_server.url,
        rate_limits={"clients": bucket(2, on_store_failure=rule)},
    )
    assert await statuses(world, gateway, 1) == [200]
    redis_server.kill()
    link = gateway.service.stores.link
    assert link is not None
    await eventually(lambda: not link.up)
    answers = [await asked(world, gateway) for _ in range(3)]
    assert [answer.status for answer in answers] == codes
    assert {answer.header(b"x-ratelimit-mode") for answer in answers} == {b"degraded"}
    health = json.loads((await asked(world, gateway, path="/health")).body)
    assert health["status"] == "degraded"
    assert health["state"]["up"] is False
    redis_server.start()
    await eventually(lambda: link.up)
    answer = await asked(world, gateway)
    assert (answer.status, answer.header(b"x-ratelimit-mode")) == (200, None)


@pytest_twisted.ensureDeferred
async def test_tokens_where_none_is_needed(world: World, state: str) -> None:
    """A limiter that counts by token reads those that are there; a bad one is as good as none."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        auth={"jwt": {"secret": SECRET}},
        rate_limits={"users": bucket(1, per="identity")},
    )
    assert await statuses(world, gateway, 2, bearer("ann")) == [200, 429]
    assert await statuses(world, gateway, 2, bearer("bob")) == [200, 429]
    assert await statuses(world, gateway, 1, "Authorization: Bearer x.y.z") == [200]
    assert await statuses(world, gateway, 1) == [429]


@pytest_twisted.ensureDeferred
async def test_resetting_somebody(world: World, state: str) -> None:
    """All that a subject has taken is forgotten, of combined limits too."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        admin={"open": True},
        rate_limits={"one": bucket(1), "both": bucket(1, per=["ip", "route", "service"])},
    )
    assert await statuses(world, gateway, 2) == [200, 429]
    assert await reset(world, gateway, "ip:127.0.0.1") == 2
    assert await statuses(world, gateway, 2) == [200, 429]
    assert await reset(world, gateway, "ip:192.0.2.1") == 0


@pytest.mark.parametrize(
    ("limiter", "subjects"),
    [
        (
            bucket(1, per=["header:x-tenant", "ip"]),
            ("x-tenant:a", "ip:127.0.0.1", "x-tenant:a|ip:127.0.0.1"),
        ),
        (
            bucket(9, per=["ip", "service"], overrides={"ann": {"capacity": 1}}),
            ("identity:ann", "ip:127.0.0.1", "service:main"),
        ),
    ],
    ids=["mixed", "own"],
)
@pytest_twisted.ensureDeferred
async def test_resetting_by_any_part(
    world: World, state: str, limiter: dict[str, Any], subjects: tuple[str, ...]
) -> None:
    """A key of several things that a client brings is found by each of them, seldom as it may be
    asked for; so is that of somebody with numbers of his own."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        admin={"open": True},
        auth={"required": False, "jwt": {"secret": SECRET}},
        rate_limits={"it": limiter},
    )
    for subject in subjects:
        assert await statuses(world, gateway, 2, "X-Tenant: a", bearer("ann")) == [200, 429]
        assert await reset(world, gateway, subject) == 1, subject
    assert await reset(world, gateway, subjects[0]) == 0


@pytest_twisted.ensureDeferred
async def test_orders_are_heard_by_all_gateways(world: World, redis: RedisServer) -> None:
    """What one is told holds at the other at once, whatever it has leased or refused lately."""
    upstream = await world.upstream(with_length(b"ok"))
    settings: dict[str, Any] = {
        "state": {"url": redis.url, "timeout": "5s"},
        "admin": {"open": True},
        "rate_limits": {"few": bucket(2)},
    }
    one = await world.gateway(upstream, **settings)
    two = await world.gateway(upstream, **settings)
    assert await statuses(world, two, 3) == [200, 200, 429]
    assert await reset(world, one, "ip:127.0.0.1") == 1
    await admitted_soon(world, two)
    assert await statuses(world, two, 2) == [200, 429]
    await ordered(world, one, "PUT", "/gateway/rate-limits/few?persist=true", capacity=3)
    await admitted_soon(world, two)
    assert (await asked(world, one)).status == 429


async def admitted_soon(world: World, gateway: RunningGateway) -> None:
    """A refusal would be remembered for a second: here it is over when others have been told."""
    begun = monotonic()
    while (await asked(world, gateway)).status != 200:
        assert monotonic() - begun < 0.6, "0.1 s, and what a busy machine takes"


async def ordered(
    world: World, gateway: RunningGateway, method: str, path: str, **orders: Any
) -> dict[str, Any]:
    """What the gateway says to an order."""
    request = post(path, json.dumps(orders).encode(), "Content-Type: application/json")
    client = await world.client(gateway, request.replace(b"POST", method.encode(), 1))
    answer = await client.answer(to=method.encode())
    assert answer.status in (200, 201), answer.raw
    said: dict[str, Any] = json.loads(answer.body)
    return said


async def reset(world: World, gateway: RunningGateway, subject: str) -> int:
    """How many limiters knew it."""
    said = await ordered(world, gateway, "POST", "/gateway/rate-limits/reset", subject=subject)
    return int(said["reset"])


@pytest_twisted.ensureDeferred
async def test_what_the_log_says_of_a_refusal(world: World, state: str) -> None:
    """The route and the service that it was for, whoever refused; and of a limiter, its key."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        state=state,
        admin={"open": True},
        rate_limits={"few": bucket(1)},
        routes=[{"path": "/v1", "service": "main", "name": "first"}],
    )
    assert await statuses(world, gateway, 2) == [200, 429]
    await ordered(world, gateway, "POST", "/gateway/bans", subject="ip:127.0.0.1", seconds=60)
    assert (await asked(world, gateway, path="/v1")).status == 429
    await ordered(world, gateway, "POST", "/gateway/ip-lists/deny", networks=["127.0.0.1"])
    assert (await asked(world, gateway, path="/v1")).status == 403
    lines = [line for line in await world.logged(gateway, 6) if line.get("error")]
    assert [(line["error"], line["route"], line["service"]) for line in lines] == [
        ("rate_limited", "/api/:service/*", "main"),
        ("banned", "first", "main"),
        ("ip_denied", "first", "main"),
    ]
    assert lines[0]["detail"] == "few ip:127.0.0.1"
    assert not any("instance" in line for line in lines)
