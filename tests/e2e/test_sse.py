"""Streams of server-sent events, wherever they are routed."""

from __future__ import annotations

import re
from time import monotonic

import pytest
import pytest_twisted

from rtgateway.testing import RawClient, RecordedConnection, RunningGateway, eventually, soon
from tests.e2e.world import World, event_stream, get, only_instance

__all__: list[str] = []

EVENT = b"id: 17\nevent: tick\ndata: 0123456789abcdef\n\n"
"""About forty bytes, as most events are."""

ROUTES = [{"path": "/events", "service": "main"}]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def events(client: RawClient) -> bytes:
    """The payload that has come so far, out of its chunks."""
    rest = client.received.partition(b"\r\n\r\n")[2]
    payload = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        payload += rest[:length]
        rest = rest[length + 2 :]
    return payload


async def arrived(client: RawClient, payload: bytes) -> None:
    """Wait until ``payload`` is what has come."""
    await eventually(lambda: events(client) == payload)


async def metric(world: World, gateway: RunningGateway, name: str) -> float:
    """A sample at ``/metrics``."""
    client = await world.client(gateway, get("/metrics"))
    page = (await client.answer()).body.decode()
    client.close()
    match = re.search(rf"^{re.escape(name)} ([0-9.]+)$", page, re.MULTILINE)
    assert match, f"{name} is not in {page}"
    return float(match[1])


@pytest.mark.parametrize("path", ["/sse/main/ticks", "/api/main/ticks", "/events/ticks"])
@pytest_twisted.ensureDeferred
async def test_everything_is_passed_on_at_once(world: World, path: str) -> None:
    """The head before the first event, then each event by itself, as soon as it is there."""
    upstream = await world.upstream(event_stream("Cache-Control: no-cache"))
    gateway = await world.gateway(upstream, routes=ROUTES)
    client = await world.client(gateway, get(path, "Accept: text/event-stream"))
    await eventually(lambda: b"\r\n\r\n" in client.received)
    head, _, rest = client.received.partition(b"\r\n\r\n")
    assert rest == b""
    assert b"\r\nContent-Type: text/event-stream\r\n" in head
    assert b"\r\nCache-Control: no-cache\r\n" in head
    assert b"Content-Encoding" not in head
    (connection,) = upstream.connections
    for number in range(1, 21):
        sent = monotonic()
        connection.send(chunk(EVENT))
        await arrived(client, EVENT * number)
        assert monotonic() - sent < 0.5
    connection.send(b"0\r\n\r\n")
    answer = await client.answer()
    assert answer.body == EVENT * 20
    (line,) = await world.logged(gateway)
    assert (line["kind"], line["status"], line["bytes_out"]) == ("sse", 200, len(EVENT) * 20)


@pytest.mark.parametrize(
    ("kind", "coding"),
    [
        ("text/event-stream", "chunked"),
        ("Text/Event-Stream; charset=utf-8", "chunked"),
        ("text/event-stream", "none"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_it_is_known_by_its_content_type(world: World, kind: str, coding: str) -> None:
    """In any case, with parameters, with whatever framing."""
    framing = "Transfer-Encoding: chunked" if coding == "chunked" else "X-Framing: none"
    upstream = await world.upstream(
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode()
    )
    gateway = await world.gateway(upstream, timeouts={"between_bytes": "200ms"})
    client = await world.client(gateway, get())
    await eventually(lambda: only_instance(gateway).streams == 1)
    await soon(0.6)
    (connection,) = upstream.connections
    connection.send(chunk(EVENT) if coding == "chunked" else EVENT)
    await arrived(client, EVENT)


@pytest_twisted.ensureDeferred
async def test_an_html_page_is_not_one(world: World) -> None:
    """Only what says that it is a stream of events is treated as one."""
    upstream = await world.upstream(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    gateway = await world.gateway(upstream, timeouts={"between_bytes": "200ms"})
    client = await world.client(gateway, get("/sse/main/"))
    await client.closed()
    assert only_instance(gateway).streams == 0


@pytest_twisted.ensureDeferred
async def test_resuming(world: World) -> None:
    """``Last-Event-ID`` goes to the instance, and so do its query and its cookies."""
    upstream = await world.upstream(event_stream() + b"0\r\n\r\n")
    gateway = await world.gateway(upstream)
    client = await world.client(
        gateway, get("/sse/main/t?from=a%20b&from=c", "Last-Event-ID: 16", "Cookie: a=b")
    )
    await client.answer()
    (request,) = upstream.requests
    assert request.startswith(b"GET /t?from=a%20b&from=c HTTP/1.1\r\n")
    assert b"\r\nLast-Event-ID: 16\r\n" in request
    assert b"\r\nCookie: a=b\r\n" in request


@pytest_twisted.ensureDeferred
async def test_a_client_of_http_1_0(world: World) -> None:
    """It gets the same events without chunks, until the connection ends."""
    upstream = await world.upstream(event_stream())
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get("/sse/main/", version="1.0"))
    await eventually(lambda: b"\r\n\r\n" in client.received)
    assert b"chunked" not in client.received
    upstream.connections[0].send(chunk(EVENT))
    await eventually(lambda: client.received.endswith(b"\r\n\r\n" + EVENT))
    upstream.connections[0].send(b"0\r\n\r\n")
    await client.closed()
    assert client.received.endswith(b"\r\n\r\n" + EVENT)


@pytest_twisted.ensureDeferred
async def test_streams_are_counted_while_they_are_open(world: World) -> None:
    """On the instance, in the metrics, and zero afterwards, however they end."""
    upstream = await world.upstream(event_stream())
    gateway = await world.gateway(upstream)
    instance = only_instance(gateway)
    clients = [await world.client(gateway, get("/sse/main/")) for _ in range(3)]
    await eventually(lambda: instance.streams == 3)
    assert await metric(world, gateway, "gateway_sse_connections") == 3
    assert await metric(world, gateway, 'gateway_requests_in_flight{service="main"}') == 3
    # One client leaves, one instance ends, one instance dies.
    clients[0].abort()
    of_first, *others = upstream.connections
    await eventually(lambda: of_first.lost)
    others[0].send(b"0\r\n\r\n")
    others[1].abort()
    await eventually(lambda: instance.streams == 0)
    assert await metric(world, gateway, "gateway_sse_connections") == 0
    assert await metric(world, gateway, 'gateway_requests_in_flight{service="main"}') == 0
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_an_instance_that_dies_is_seen(world: World) -> None:
    """The stream breaks off without a clean end, so that the client connects again."""
    upstream = await world.upstream((event_stream(), chunk(EVENT)))
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get("/sse/main/"))
    await arrived(client, EVENT)
    upstream.connections[0].abort()
    await client.closed()
    assert client.received.endswith(chunk(EVENT)), "no last chunk"


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_does_not_fill_the_gateway(world: World) -> None:
    """Events wait with the instance while the client takes none."""
    upstream = await world.upstream(event_stream())
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get("/sse/main/"))
    await eventually(lambda: only_instance(gateway).streams == 1)
    client.pause()
    (connection,) = upstream.connections
    for _ in range(400):
        connection.send(chunk(b"data: " + bytes(65536) + b"\n\n"))
    (channel,) = gateway.service.site.channels
    await eventually(lambda: channel.blocked)
    await soon(0.2)
    assert channel.transport.unsent < 1 << 20
    assert len(connection.transport.dataBuffer) + connection.transport._tempDataLen > 1 << 20


# -- heartbeats -------------------------------------------------------------------------------

HEARTBEAT = {"sse": {"heartbeat": "200ms"}}


async def streaming(
    world: World, *lines: str, **settings: object
) -> tuple[RawClient, RecordedConnection]:
    upstream = await world.upstream(event_stream(*lines))
    gateway = await world.gateway(upstream, **settings)
    client = await world.client(gateway, get("/sse/main/"))
    await eventually(lambda: only_instance(gateway).streams == 1)
    return client, upstream.connections[0]


@pytest_twisted.ensureDeferred
async def test_none_unless_configured(world: World) -> None:
    """Nothing is put into a stream that nobody asked for."""
    client, connection = await streaming(world)
    connection.send(chunk(EVENT))
    await soon(0.6)
    assert events(client) == EVENT


@pytest_twisted.ensureDeferred
async def test_a_comment_in_silence(world: World) -> None:
    """Before the first event as well as between two; no comment while events come."""
    client, connection = await streaming(world, **HEARTBEAT)
    await eventually(lambda: events(client).startswith(b":\n"))
    for _ in range(10):
        connection.send(chunk(EVENT))
        await soon(0.05)
    await eventually(lambda: events(client).endswith(EVENT * 10))
    await eventually(lambda: events(client).endswith(EVENT + b":\n:\n"))
    assert events(client).replace(b":\n", b"") == (EVENT * 10).replace(b":\n", b"")


@pytest.mark.parametrize("begun", [b"data: half", b"data: half\r", b"\xef\xbb\xbf", b"data"])
@pytest_twisted.ensureDeferred
async def test_no_comment_inside_a_line(world: World, begun: bytes) -> None:
    """A colon there would be data; behind a CR an LF may follow."""
    client, connection = await streaming(world, **HEARTBEAT)
    connection.send(chunk(begun))
    await eventually(lambda: events(client).endswith(begun))
    before = events(client)
    await soon(0.6)
    assert events(client) == before
    connection.send(chunk(b"\n\n"))
    await eventually(lambda: events(client) == before + b"\n\n:\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_comment_at_the_start_of_a_line(world: World, end: bytes) -> None:
    """Also in the middle of an event, which it does not end (HTML Standard, 9.2.6)."""
    client, connection = await streaming(world, **HEARTBEAT)
    connection.send(chunk(b"data: one" + end))
    await eventually(lambda: events(client).endswith(b"data: one" + end + b":\n"))


@pytest_twisted.ensureDeferred
async def test_line_ends_of_every_kind_are_untouched(world: World) -> None:
    """CR, LF and CRLF all end lines (HTML Standard, 9.2.5), and pass as they are."""
    mixed = b"data: 1\r\rdata: 2\n\ndata: 3\r\n\r\n:comment\rretry: 5\r\r"
    client, connection = await streaming(world, **HEARTBEAT)
    await eventually(lambda: events(client).endswith(b":\n"))
    for byte in mixed:
        connection.send(chunk(bytes([byte])))
    await eventually(lambda: events(client).replace(b":\n", b"") == mixed)
    await soon(0.6)
    assert events(client).endswith(mixed)


@pytest_twisted.ensureDeferred
async def test_no_comment_in_a_compressed_stream(world: World) -> None:
    """It would break the compression. What the instance has compressed stays so."""
    client, connection = await streaming(world, "Content-Encoding: gzip", **HEARTBEAT)
    connection.send(chunk(b"\x1f\x8b\x08\n"))
    await soon(0.6)
    assert b"\r\nContent-Encoding: gzip\r\n" in client.received
    assert events(client) == b"\x1f\x8b\x08\n"


@pytest_twisted.ensureDeferred
async def test_no_comment_in_a_stream_of_known_length(world: World) -> None:
    """It would not fit."""
    upstream = await world.upstream(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 88\r\n\r\n" + EVENT
    )
    gateway = await world.gateway(upstream, **HEARTBEAT)
    client = await world.client(gateway, get("/sse/main/"))
    await eventually(lambda: client.received.endswith(EVENT))
    await soon(0.6)
    assert client.received.endswith(b"\r\n\r\n" + EVENT)


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_gets_no_more_comments(world: World) -> None:
    """Nothing of a stream stays in the sweep."""
    upstream = await world.upstream(event_stream())
    gateway = await world.gateway(upstream, **HEARTBEAT)
    before = len(gateway.service.wheel)
    client = await world.client(gateway, get("/sse/main/"))
    await eventually(lambda: b":\n" in client.received)
    client.close()
    await eventually(lambda: upstream.connections[0].lost)
    await eventually(lambda: len(gateway.service.wheel) == before)
