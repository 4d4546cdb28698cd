"""Which instance is asked, and which is left alone: breakers, weights, draining, limits."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest_twisted

from rtgateway.testing import RecordedConnection, eventually, soon
from tests.e2e.world import World, event_stream, get, only_instance, with_length

__all__: list[str] = []

BAD = b"HTTP/1.1 500 Bad\r\nContent-Length: 3\r\n\r\nbad"
OFF = {"enabled": False}


def breaker(**settings: Any) -> dict[str, Any]:
    """Opens after two failures in a row, for a moment."""
    return {"failure_threshold": 2, "success_threshold": 1, "jitter": 0, **settings}


async def ask(world: World, gateway: Any, *lines: str, path: str = "/api/main/") -> Any:
    """One request on a connection of its own."""
    client = await world.client(gateway, get(path, *lines))
    answer = await client.answer()
    client.close()
    return answer


# -- circuits --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_circuit_opens_and_closes(world: World) -> None:
    """Two failures, and nothing more is sent; then one probe, and all is well."""
    upstream = await world.upstream(BAD)
    gateway = await world.gateway(
        {"instances": [upstream.url], "circuit_breaker": breaker(timeout="300ms")}
    )
    for _ in range(2):
        answer = await ask(world, gateway)
        assert (answer.status, answer.body) == (500, b"bad")
    refused = await ask(world, gateway)
    assert refused.status == 503
    assert refused.header(b"retry-after") == b"1"
    assert b'"error":"no_instance"' in refused.body
    assert len(upstream.requests) == 2
    instance = only_instance(gateway)
    assert instance.available(monotonic()).reason.startswith("circuit open for 0.")
    upstream.answering = lambda connection, request: with_length(b"ok")
    await eventually(lambda: instance.available(monotonic()).ok)
    assert (await ask(world, gateway)).status == 200
    assert instance.breaker.state == "closed"
    reasons = [change.reason for change in instance.breaker.changes]
    assert reasons[0] == "2 failures in a row"
    assert [change.new for change in instance.breaker.changes] == ["open", "half_open", "closed"]


@pytest_twisted.ensureDeferred
async def test_one_probe_at_a_time(world: World) -> None:
    """While it is out, others are told so; a client that leaves gives its place back."""
    upstream = await world.upstream(BAD)
    gateway = await world.gateway(
        {"instances": [upstream.url], "circuit_breaker": breaker(timeout="50ms")}
    )
    instance = only_instance(gateway)
    for _ in range(2):
        await ask(world, gateway)
    upstream.answering = lambda connection, request: None
    await eventually(lambda: instance.available(monotonic()).ok)
    probe = await world.client(gateway, get())
    await eventually(lambda: len(upstream.requests) == 3)
    assert (await ask(world, gateway)).status == 503
    assert len(upstream.requests) == 3
    probe.abort()
    await eventually(lambda: instance.breaker.probes == 0)
    probe = await world.client(gateway, get())
    await eventually(lambda: len(upstream.requests) == 4)
    upstream.connections[-1].send(with_length(b"ok"))
    assert (await probe.answer()).status == 200
    assert instance.breaker.state == "closed"


@pytest_twisted.ensureDeferred
async def test_a_body_cut_off_is_a_failure(world: World) -> None:
    """The head was fine, but the instance did not keep its promise."""

    def half(connection: RecordedConnection, request: bytes) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.close()

    upstream = await world.upstream(half)
    gateway = await world.gateway(
        {"instances": [upstream.url], "circuit_breaker": breaker(timeout="1h", max_timeout="1h")}
    )
    for _ in range(2):
        client = await world.client(gateway, get())
        await client.closed()
    assert only_instance(gateway).breaker.state == "open"
    assert (await ask(world, gateway)).status == 503


@pytest_twisted.ensureDeferred
async def test_who_leaves_is_nobody_s_failure(world: World) -> None:
    """Before the answer, and in the middle of it."""
    upstream = await world.upstream()
    gateway = await world.gateway({"instances": [upstream.url], "circuit_breaker": breaker()})
    early = await world.client(gateway, get())
    await upstream.request()
    early.abort()
    await world.at_rest(gateway)
    late = await world.client(gateway, get())
    await upstream.request(1)
    upstream.connections[-1].send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    await eventually(lambda: late.received)
    late.abort()
    await world.at_rest(gateway)
    assert only_instance(gateway).breaker.stats().failed_calls == 0


@pytest_twisted.ensureDeferred
async def test_a_stream_of_events_is_judged_by_its_head(world: World) -> None:
    """It may go on for days: a probe that is one closes the circuit as it begins."""
    upstream = await world.upstream(BAD)
    gateway = await world.gateway(
        {"instances": [upstream.url], "circuit_breaker": breaker(timeout="50ms")}
    )
    instance = only_instance(gateway)
    for _ in range(2):
        await ask(world, gateway)
    upstream.answering = lambda connection, request: event_stream() + b"3\r\n:\n\n\r\n"
    await eventually(lambda: instance.available(monotonic()).ok)
    client = await world.client(gateway, get("/sse/main/"))
    await eventually(lambda: b":\n\n" in client.received)
    assert instance.breaker.state == "closed"
    assert (instance.inflight, instance.streams) == (1, 1)
    client.abort()
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_operators_decide(world: World) -> None:
    """Forced open, disabled, reset."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway({"instances": [upstream.url], "circuit_breaker": breaker()})
    instance = only_instance(gateway)
    instance.breaker.force_open(monotonic())
    assert (await ask(world, gateway)).status == 503
    assert instance.available(monotonic()).reason == "circuit forced open"
    instance.breaker.disable(monotonic())
    upstream.answering = lambda connection, request: BAD
    for _ in range(4):
        assert (await ask(world, gateway)).status == 500
    instance.breaker.reset(monotonic())
    for _ in range(2):
        await ask(world, gateway)
    assert instance.breaker.state == "open"


@pytest_twisted.ensureDeferred
async def test_the_circuit_of_a_service(world: World) -> None:
    """Failures of all instances together open it."""
    upstreams = [await world.upstream(BAD), await world.upstream(BAD)]
    gateway = await world.gateway(
        {
            "instances": [each.url for each in upstreams],
            "circuit_breaker": OFF,
            "outliers": OFF,
            "balance": "round_robin",
            "service_breaker": breaker(timeout="1h", max_timeout="1h"),
        }
    )
    assert [(await ask(world, gateway)).status for _ in range(3)] == [500, 500, 503]
    assert [len(each.requests) for each in upstreams] == [1, 1]
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_panic(world: World) -> None:
    """Too few are left: all are asked rather than none."""
    upstreams = [await world.upstream(BAD), await world.upstream(BAD)]
    gateway = await world.gateway(
        {
            "instances": [each.url for each in upstreams],
            "circuit_breaker": breaker(timeout="1h", max_timeout="1h"),
            "balance": {"strategy": "round_robin", "panic_threshold": 0.6},
        }
    )
    for _ in range(6):
        assert (await ask(world, gateway)).status == 500
    assert gateway.service.services["main"].panicking
    assert len(upstreams[0].requests) + len(upstreams[1].requests) == 6
    await world.at_rest(gateway)


# -- who is asked ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_backups(world: World) -> None:
    """Asked when no other can be, and no longer."""
    first, backup = await world.upstream(with_length(b"1")), await world.upstream(with_length(b"2"))
    gateway = await world.gateway(
        {"instances": [first.url, {"url": backup.url, "backup": True}], "balance": "round_robin"}
    )
    service = gateway.service.services["main"]
    assert [(await ask(world, gateway)).body for _ in range(3)] == [b"1", b"1", b"1"]
    service.members.drain(service.instances[0].id, True, monotonic())
    assert (await ask(world, gateway)).body == b"2"
    service.members.drain(service.instances[0].id, False, monotonic())
    assert (await ask(world, gateway)).body == b"1"


@pytest_twisted.ensureDeferred
async def test_draining(world: World) -> None:
    """Nothing new; what is there goes on to its end, and then the instance can go."""
    slow, other = await world.upstream(), await world.upstream(with_length(b"other"))
    gateway = await world.gateway({"instances": [slow.url, other.url], "balance": "round_robin"})
    service = gateway.service.services["main"]
    client = await world.client(gateway, get())
    connection = await slow.connection()
    await eventually(lambda: connection.requests)
    leaving = service.members.remove(service.instances[0].id)
    assert [(await ask(world, gateway)).body for _ in range(3)] == [b"other"] * 3
    assert (leaving.inflight, service.members.leaving) == (1, (leaving,))
    service.members.tick(monotonic())
    assert connection.lost is None
    connection.send(with_length(b"late"))
    assert (await client.answer()).body == b"late"
    await eventually(lambda: leaving.inflight == 0)
    service.members.tick(monotonic())
    assert service.members.leaving == ()
    await eventually(lambda: connection.lost is not None)


@pytest_twisted.ensureDeferred
async def test_weights_change_as_it_runs(world: World) -> None:
    """Down to none: that one is asked no more."""
    upstreams = [await world.upstream(with_length(b"%d" % n)) for n in range(2)]
    gateway = await world.gateway(
        {"instances": [each.url for each in upstreams], "balance": "round_robin"}
    )
    service = gateway.service.services["main"]
    service.members.reweigh(service.instances[1].id, 3)
    bodies = [(await ask(world, gateway)).body for _ in range(8)]
    assert (bodies.count(b"0"), bodies.count(b"1")) == (2, 6)
    service.members.reweigh(service.instances[1].id, 0)
    assert {(await ask(world, gateway)).body for _ in range(3)} == {b"0"}
    assert service.instances[1].available(monotonic()).reason == "weight 0"


@pytest_twisted.ensureDeferred
async def test_a_sticky_client(world: World) -> None:
    """It comes back to the instance whose cookie it brings, until that is gone."""
    upstreams = [await world.upstream(with_length(b"%d" % n)) for n in range(2)]
    gateway = await world.gateway(
        {"instances": [each.url for each in upstreams], "balance": "sticky"}
    )
    service = gateway.service.services["main"]
    first = await ask(world, gateway)
    cookie = first.header(b"set-cookie").decode().partition(";")[0]
    assert cookie.startswith("rtgateway_instance=")
    for _ in range(3):
        again = await ask(world, gateway, f"Cookie: a=b; {cookie}")
        assert (again.body, again.header(b"set-cookie")) == (first.body, None)
    service.members.drain(service.instances[int(first.body)].id, True, monotonic())
    moved = await ask(world, gateway, f"Cookie: {cookie}")
    assert moved.body != first.body
    assert moved.header(b"set-cookie") not in (None, first.header(b"set-cookie"))
    forged = await ask(world, gateway, "Cookie: rtgateway_instance=127.0.0.1")
    assert forged.header(b"set-cookie") is not None


@pytest_twisted.ensureDeferred
async def test_a_consistent_hash(world: World) -> None:
    """The same key, the same instance."""
    upstreams = [await world.upstream(with_length(b"%d" % n)) for n in range(3)]
    balance = {"strategy": "consistent_hash", "hash": "header:X-User"}
    gateway = await world.gateway(
        {"instances": [each.url for each in upstreams], "balance": balance}
    )
    where = {}
    for user in range(12):
        where[user] = (await ask(world, gateway, f"X-User: {user}")).body
    assert len(set(where.values())) > 1
    for user in range(12):
        assert (await ask(world, gateway, f"x-user: {user}")).body == where[user]


# -- how many at once ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_limit_and_its_queue(world: World) -> None:
    """One at a time, one in the queue, the third is turned away."""
    upstream = await world.upstream()
    gateway = await world.gateway(
        {"instances": [upstream.url], "concurrency": {"limit": 1, "queue": 1}}
    )
    first = await world.client(gateway, get())
    await upstream.request()
    second = await world.client(gateway, get())
    room = gateway.service.services["main"].room
    assert room is not None
    await eventually(lambda: room.waiting == 1)
    third = await ask(world, gateway)
    assert (third.status, third.header(b"retry-after")) == (503, b"1")
    upstream.connections[0].send(with_length(b"1"))
    assert (await first.answer()).body == b"1"
    await upstream.request(1)
    upstream.connections[0].send(with_length(b"2"))
    assert (await second.answer()).body == b"2"
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_waiting_for_a_place_has_an_end(world: World) -> None:
    """503 when the queue's patience is over; a client that leaves leaves the queue."""
    upstream = await world.upstream()
    limits = {"per_instance": 1, "queue_timeout": "200ms"}
    gateway = await world.gateway({"instances": [upstream.url], "concurrency": limits})
    first = await world.client(gateway, get())
    await upstream.request()
    room = gateway.service.services["main"].room
    assert room is not None
    gone = await world.client(gateway, get())
    await eventually(lambda: room.waiting == 1)
    gone.abort()
    await eventually(lambda: room.waiting == 0)
    assert (await ask(world, gateway)).status == 503
    assert len(upstream.requests) == 1
    upstream.connections[0].send(with_length(b"1"))
    assert (await first.answer()).status == 200
    await soon()
    await world.at_rest(gateway)
