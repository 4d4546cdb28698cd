"""Splits, mirrors and faults as clients and services see them, on real sockets."""

from __future__ import annotations

import pytest_twisted

from rtgateway.core.routes import Match
from rtgateway.gateway.mirror import Mirror
from rtgateway.testing import (
    RecordedConnection,
    RecordingUpstream,
    RunningGateway,
    eventually,
    soon,
)
from tests.e2e.world import World, event_stream, get, post, with_length

__all__: list[str] = []

MARK = b"\r\nX-Rtgateway-Mirror: 1\r\n"


async def shaped(
    world: World, main: RecordingUpstream, other: RecordingUpstream | str, **route: object
) -> RunningGateway:
    """A gateway whose one route goes to ``main``, with these settings; ``other`` stands beside."""
    url = other if isinstance(other, str) else other.url
    return await world.gateway(
        main,
        services={"main": main.url, "other": {"instances": url, "timeouts": {"connect": "2s"}}},
        routes=[{"path": "/", "service": "main", **route}],
    )


def mirror_of(gateway: RunningGateway) -> Mirror:
    """The mirror of the gateway's one route."""
    match = gateway.service.routing.table.match(b"test", b"GET", b"/")
    assert isinstance(match, Match)
    assert match.target.shaping is not None
    mirror = match.target.shaping.mirror
    assert mirror is not None
    return mirror


# -- split ------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_choice_is_kept(world: World) -> None:
    """A client without a cookie gets one, with the answer of the service that it names."""
    main, other = await world.upstream(), await world.upstream(with_length(b"other"))
    split = {"to": [{"service": "other", "share": 1}], "cookie": "version"}
    gateway = await shaped(world, main, other, split=split)
    client = await world.client(gateway, get("/"))
    answer = await client.answer()
    assert answer.body == b"other"
    assert answer.header(b"set-cookie") == b"version=other; Path=/; HttpOnly; SameSite=Lax"
    client.send(get("/", "Cookie: version=other"))
    answer = await client.answer()
    assert (answer.body, answer.header(b"set-cookie")) == (b"other", None)


@pytest_twisted.ensureDeferred
async def test_a_canary_for_testers(world: World) -> None:
    """Without a share, a service is there for those who name it, by header or by cookie."""
    main = await world.upstream(with_length(b"main"))
    other = await world.upstream(with_length(b"other"))
    split = {
        "to": [{"service": "other", "share": 0}],
        "header": "X-Version",
        "cookie": "version",
    }
    gateway = await shaped(world, main, other, split=split)
    client = await world.client(gateway)
    for line, body in (
        ("X-Version: other", b"other"),
        ("Cookie: version=other", b"other"),
        ("X-Version: main\r\nCookie: version=other", b"main"),
        ("X-Version: nobody\r\nCookie: version=nobody", b"main"),
        ("X-Other: 1", b"main"),
    ):
        client.send(get("/", line))
        assert (await client.answer()).body == body, line


@pytest_twisted.ensureDeferred
async def test_the_body_goes_where_its_head_goes(world: World) -> None:
    main, other = await world.upstream(), await world.upstream(with_length(b"other"))
    gateway = await shaped(world, main, other, split={"to": [{"service": "other", "share": 1}]})
    client = await world.client(gateway, post("/", b"hello"))
    assert (await client.answer()).body == b"other"
    assert other.requests[0].endswith(b"\r\n\r\nhello")
    assert main.requests == []


# -- mirror -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_copy(world: World) -> None:
    """The other service gets what the first gets, and a mark; its answer goes nowhere."""
    main = await world.upstream(with_length(b"main"))
    other = await world.upstream(with_length(b"other"))
    gateway = await shaped(world, main, other, mirror={"service": "other"})
    client = await world.client(gateway)
    chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 1\r\n\r\n"
    for number, request in enumerate(
        (
            get("/a?b", "Cookie: c=d"),
            post("/a", b"hello"),
            b"PUT / HTTP/1.1\r\nHost: test\r\n" + chunks,
        )
    ):
        client.send(request)
        assert (await client.answer()).body == b"main"
        copy = (await other.request(number)).replace(MARK, b"\r\n")
        original = main.requests[number].replace(main.url[7:].encode(), other.url[7:].encode())
        # How a body is cut into chunks is for each hop to say.
        parts = (b"3\r\none\r\n3\r\ntwo\r\n", b"6\r\nonetwo\r\n")
        assert copy == original.replace(*parts), copy
        assert MARK in other.requests[number]
    await world.at_rest(gateway)
    mirror = mirror_of(gateway)
    assert (mirror.sent, mirror.failed, mirror.in_flight) == (3, 0, 0)
    assert client.received == b""


@pytest_twisted.ensureDeferred
async def test_a_service_that_does_not_answer(world: World) -> None:
    """Nobody waits for it; beyond the limit nothing more is sent there."""
    main, silent = await world.upstream(with_length(b"main")), await world.upstream()
    gateway = await shaped(world, main, silent, mirror={"service": "other", "in_flight": 2})
    client = await world.client(gateway)
    for _ in range(4):
        client.send(get("/"))
        assert (await client.answer()).body == b"main"
        await soon()
    mirror = mirror_of(gateway)
    assert (mirror.sent, mirror.dropped, mirror.in_flight) == (2, 2, 2)
    await gateway.stop()
    assert mirror.in_flight == 0


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_not_there(world: World) -> None:
    """Clients notice nothing, and the log neither."""
    main, gone = await world.upstream(with_length(b"main")), await world.upstream()
    await gone.stop()
    gateway = await shaped(world, main, "http://127.0.0.1:9", mirror={"service": "other"})
    client = await world.client(gateway, get("/"))
    assert (await client.answer()).body == b"main"
    mirror = mirror_of(gateway)
    await eventually(lambda: mirror.failed == 1)
    assert mirror.in_flight == 0


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_in_the_middle(world: World) -> None:
    """Half a request is not mirrored, and its place is free again."""
    main, other = await world.upstream(), await world.upstream()
    gateway = await shaped(world, main, other, mirror={"service": "other"})
    client = await world.client(gateway, post("/", b"hello")[:-1])
    await eventually(lambda: main.received.endswith(b"hell"))
    mirror = mirror_of(gateway)
    assert mirror.in_flight == 1
    client.abort()
    await eventually(lambda: mirror.skipped == 1)
    assert (mirror.in_flight, other.connections) == (0, [])


@pytest_twisted.ensureDeferred
async def test_a_large_body(world: World) -> None:
    """The first service gets all of it at its own pace; the other one nothing."""
    main = await world.upstream(with_length(b"main"))
    other = await world.upstream()
    gateway = await shaped(world, main, other, mirror={"service": "other", "body_limit": "1KiB"})
    client = await world.client(gateway, post("/", bytes(1 << 20)))
    assert (await client.answer()).body == b"main"
    mirror = mirror_of(gateway)
    assert (mirror.skipped, mirror.in_flight, other.connections) == (1, 0, [])


@pytest_twisted.ensureDeferred
async def test_answers_without_an_end(world: World) -> None:
    """A stream is left as it begins, what is long after a mebibyte; neither is a failure."""
    main = await world.upstream(with_length(b"main"))

    def answer(connection: RecordedConnection, request: bytes) -> bytes:
        if b"/stream" in request:
            return event_stream() + b"3\r\n:\n\n\r\n"
        return b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + bytes(3 << 20)

    other = await world.upstream(answer)
    gateway = await shaped(world, main, other, mirror={"service": "other"})
    client = await world.client(gateway)
    for number, path in enumerate(("/stream", "/long")):
        client.send(get(path))
        assert (await client.answer()).body == b"main"
        connection = await other.connection(number)
        await eventually(lambda connection=connection: connection.lost is not None)  # type: ignore[misc]
    mirror = mirror_of(gateway)
    assert (mirror.sent, mirror.failed, mirror.in_flight) == (2, 0, 0)
    await world.at_rest(gateway)


# -- faults -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_refused_on_purpose(world: World) -> None:
    """Who asks for the drill gets it, and is told; nobody else does, and no instance is asked."""
    main, other = await world.upstream(with_length(b"main")), await world.upstream()
    faults = {"abort": 503, "header": "X-Drill"}
    gateway = await shaped(world, main, other, faults=faults)
    client = await world.client(gateway, get("/", "X-Drill: 1"))
    answer = await client.answer()
    assert (answer.status, answer.header(b"x-fault-injected")) == (503, b"abort")
    assert b'"fault_injected"' in answer.body
    assert main.requests == []
    client.send(get("/"))
    assert (await client.answer()).body == b"main"
    first, _ = await world.logged(gateway, 2)
    assert (first["status"], first["error"]) == (503, "fault_injected")


@pytest_twisted.ensureDeferred
async def test_delayed_on_purpose(world: World) -> None:
    """The answer comes later, and says why."""
    main, other = await world.upstream(with_length(b"main")), await world.upstream()
    gateway = await shaped(world, main, other, faults={"delay": "50ms"})
    client = await world.client(gateway, get("/"))
    answer = await client.answer()
    assert (answer.body, answer.header(b"x-fault-injected")) == (b"main", b"delay")
    (line,) = await world.logged(gateway)
    assert line["duration_us"] >= 49_000


@pytest_twisted.ensureDeferred
async def test_the_client_leaves_during_a_delay(world: World) -> None:
    """It has left: 499, at once, and no instance is asked."""
    main, other = await world.upstream(), await world.upstream()
    gateway = await shaped(world, main, other, faults={"delay": "1h"})
    client = await world.client(gateway, get("/"))
    await eventually(lambda: any(channel.exchange for channel in gateway.service.site.channels))
    client.close()
    (line,) = await world.logged(gateway)
    assert (line["status"], line["error"]) == (499, "client_gone")
    assert main.connections == []


@pytest_twisted.ensureDeferred
async def test_a_delay_nobody_waits_for_at_the_end(world: World) -> None:
    """A request that would be finished without its client does not outlive the gateway."""
    main, other = await world.upstream(), await world.upstream()
    gateway = await shaped(world, main, other, faults={"delay": "1h"}, on_disconnect="finish")
    client = await world.client(gateway, get("/"))
    await eventually(lambda: any(channel.exchange for channel in gateway.service.site.channels))
    client.close()
    await eventually(lambda: not gateway.service.site.channels)
    await gateway.stop()
    (line,) = await world.logged(gateway)
    assert line["status"] == 499
