"""A request whose first try comes to nothing: asked again elsewhere, or not, never too often."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any

import pytest
import pytest_twisted

from rtgateway.testing import (
    RecordedConnection,
    RecordingUpstream,
    RunningGateway,
    eventually,
    soon,
)
from tests.e2e.world import World, get, post, with_length

__all__: list[str] = []

QUICK = {"base_delay": "1ms", "max_delay": "5ms"}
NO_BREAKER = {"circuit_breaker": {"enabled": False}, "outliers": {"enabled": False}}
IN_TURN = {"balance": {"strategy": "round_robin", "slow_start": 0}}
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


def service(
    *upstreams: RecordingUpstream | str, retry: Mapping[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    """The settings of a service that asks its instances in turn, in this order."""
    return {
        "instances": [each if isinstance(each, str) else each.url for each in upstreams],
        "retry": {**QUICK, **(retry or {})},
        **NO_BREAKER,
        **IN_TURN,
        **settings,
    }


async def gateway_for(
    world: World, *upstreams: RecordingUpstream | str, retry: Any = None, **settings: Any
) -> RunningGateway:
    """A gateway that names instances and attempts on its answers."""
    return await world.gateway(service(*upstreams, retry=retry), proxy_headers=True, **settings)


def reset(connection: RecordedConnection, request: bytes) -> None:
    """Answers every request by a reset."""
    connection.abort()


def attempts(answer: Any) -> int:
    """How many tries an answer says there were."""
    return int(answer.header(b"x-proxy-attempts") or 0)


@pytest.fixture
def refusing() -> Iterator[str]:
    """The URL of an instance that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


# -- what is asked again ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_status_of_the_gateway_kind(world: World) -> None:
    """A 503 of one instance is not the client's business while another can answer."""
    busy, fine = await world.upstream(BUSY), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, busy, fine)
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, answer.body, attempts(answer)) == (200, b"ok", 2)
    assert answer.header(b"x-proxy-instance") == fine.url.removeprefix("http://").encode()
    assert (len(busy.requests), len(fine.requests)) == (1, 1)
    (line,) = await world.logged(gateway)
    assert (line["status"], line["attempts"]) == (200, 2)
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_what_is_not_safe_to_repeat(world: World) -> None:
    """A POST may have been carried out: its answer is the answer, whatever it is."""
    busy, fine = await world.upstream(BUSY), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, busy, fine)
    client = await world.client(gateway, post("/api/main/", b"pay"))
    answer = await client.answer()
    assert (answer.status, answer.body, attempts(answer)) == (503, b"busy", 1)
    assert not fine.requests


@pytest_twisted.ensureDeferred
async def test_an_idempotency_key(world: World) -> None:
    """The client says that once and twice are the same; the body is sent again as it was."""
    body = bytes(range(256)) * 40
    busy, fine = await world.upstream(BUSY), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, busy, fine)
    client = await world.client(gateway, post("/api/main/", body, "Idempotency-Key: 1"))
    answer = await client.answer()
    assert (answer.status, attempts(answer)) == (200, 2)
    assert fine.requests[0].endswith(b"\r\n\r\n" + body)
    assert busy.requests[0].endswith(b"\r\n\r\n" + body)


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_not_kept(world: World) -> None:
    """Larger than body_limit: it is gone with the first try."""
    busy, fine = await world.upstream(BUSY), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, busy, fine, retry={"body_limit": 100})
    client = await world.client(gateway, post("/api/main/", b"x" * 101, "Idempotency-Key: 1"))
    assert (await client.answer()).status == 503
    client.send(post("/api/main/", b"x" * 100, "Idempotency-Key: 2"))
    await client.answer()  # by the one that is fine, whose turn it is
    client.send(post("/api/main/", b"x" * 100, "Idempotency-Key: 3"))
    assert (await client.answer()).status == 200
    assert [len(each.requests) for each in (busy, fine)] == [2, 2]


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_is_sent_again(world: World) -> None:
    """What has come of it so far, and then the rest as it comes."""
    first = await world.upstream(reset)
    second = await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, first, second)
    client = await world.client(
        gateway, b"PUT /api/main/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    client.send(b"5\r\nhello\r\n")
    connection = await first.connection()
    await eventually(lambda: connection.received.endswith(b"5\r\nhello\r\n"))
    connection.abort()
    other = await second.connection()
    await eventually(lambda: other.received.endswith(b"5\r\nhello\r\n"))
    client.send(b"6\r\n world\r\n0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert second.requests[0].endswith(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")


@pytest.mark.parametrize("request_bytes", [get(), post("/api/main/", b"pay")])
@pytest_twisted.ensureDeferred
async def test_no_connection(world: World, refusing: str, request_bytes: bytes) -> None:
    """Nothing has been sent, so that any request may go elsewhere."""
    fine = await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, refusing, fine)
    client = await world.client(gateway, request_bytes)
    answer = await client.answer()
    assert (answer.status, attempts(answer)) == (200, 2)
    assert len(fine.requests) == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"), [(get(), 200), (post("/api/main/", b"pay"), 502)]
)
@pytest_twisted.ensureDeferred
async def test_a_reset_before_the_answer(world: World, request_bytes: bytes, status: int) -> None:
    """The request may have been carried out: only what is idempotent goes elsewhere."""
    broken, fine = await world.upstream(reset), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, broken, fine)
    client = await world.client(gateway, request_bytes)
    assert (await client.answer()).status == status
    assert len(fine.requests) == (status == 200)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_has_begun(world: World) -> None:
    """A byte of it is enough: it is not asked for again."""

    def half(connection: RecordedConnection, request: bytes) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-")
        connection.close()

    broken, fine = await world.upstream(half), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, broken, fine)
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 502
    assert not fine.requests


@pytest_twisted.ensureDeferred
async def test_an_answer_cut_off_is_truncated(world: World) -> None:
    """Its head is out, so that the client sees it cut off; nobody else is asked."""

    def half(connection: RecordedConnection, request: bytes) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.close()

    broken, fine = await world.upstream(half), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, broken, fine)
    client = await world.client(gateway, get())
    assert (await client.closed()).endswith(b"\r\n\r\nhalf")
    assert not fine.requests
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_no_answer_in_time(world: World) -> None:
    """The limit is one try's; the next has its own."""
    silent, fine = await world.upstream(), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, silent, fine, timeouts={"first_byte": "100ms"})
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, attempts(answer)) == (200, 2)
    connection = await silent.connection()
    await eventually(lambda: connection.lost is not None)


# -- what the client gets in the end --------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_last_answer_is_passed_on(world: World, refusing: str) -> None:
    """When nothing helps, the client gets what an instance said, not an error of our own."""
    busy = await world.upstream(BUSY)
    gateway = await gateway_for(world, busy, refusing)
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, answer.body, attempts(answer)) == (503, b"busy", 3)
    assert answer.header(b"x-proxy-instance") == busy.url.removeprefix("http://").encode()
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_kept_waiting(world: World, refusing: str) -> None:
    """Of an answer that streams, the rest waits at the instance until it is known to be wanted."""
    large = b"y" * 300_000

    def stream(connection: RecordedConnection, request: bytes) -> list[bytes]:
        return [b"HTTP/1.1 503 Busy\r\nContent-Length: 300000\r\n\r\n", large]

    busy, fine = await world.upstream(stream), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, busy, refusing)
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, answer.body) == (503, large)
    await world.at_rest(gateway)
    gateway = await gateway_for(world, busy, fine)
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 200
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_another_instance_as_long_as_there_is_one(world: World) -> None:
    """With three of them no one is asked twice; with one, that one."""
    upstreams = [await world.upstream(BUSY) for _ in range(3)]
    gateway = await gateway_for(world, *upstreams)
    client = await world.client(gateway, get())
    assert attempts(await client.answer()) == 3
    assert [len(each.requests) for each in upstreams] == [1, 1, 1]
    alone = await world.upstream(BUSY)
    gateway = await gateway_for(world, alone)
    client = await world.client(gateway, get())
    assert attempts(await client.answer()) == 3
    assert len(alone.requests) == 3


@pytest.mark.parametrize(
    ("retry", "status", "expected"),
    [({"attempts": 1}, 503, 1), ({"on": ["connect"]}, 503, 1), ({"on": ["5xx"]}, 500, 3)],
    ids=["off", "connect only", "any 5xx"],
)
@pytest_twisted.ensureDeferred
async def test_what_is_configured(
    world: World, retry: dict[str, Any], status: int, expected: int
) -> None:
    """How often, and for what."""
    upstream = await world.upstream(b"HTTP/1.1 %d Bad\r\nContent-Length: 0\r\n\r\n" % status)
    gateway = await gateway_for(world, upstream, retry=retry)
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, attempts(answer)) == (status, expected)
    assert len(upstream.requests) == expected


@pytest_twisted.ensureDeferred
async def test_a_route_of_its_own_mind(world: World) -> None:
    """What a route says about retries replaces what its service says."""
    upstream = await world.upstream(BUSY)
    gateway = await gateway_for(
        world,
        upstream,
        routes=[{"path": "/once", "service": "main", "retry": {"attempts": 1}}],
    )
    client = await world.client(gateway, get("/once") + get("/api/main/"))
    assert attempts(await client.answer()) == 1
    assert attempts(await client.answer()) == 3


# -- when ------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_retry_after(world: World) -> None:
    """Waited for where there is nobody else to ask; too long a wait is passed on at once."""

    def later(connection: RecordedConnection, request: bytes) -> bytes:
        if len(connection.upstream.requests) > 1:
            return with_length(b"ok")
        return b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

    upstream = await world.upstream(later)
    gateway = await gateway_for(world, upstream)
    began = monotonic()
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 200
    assert monotonic() - began >= 0.95
    upstream = await world.upstream(
        b"HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"
    )
    gateway = await gateway_for(world, upstream)
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, answer.header(b"retry-after"), attempts(answer)) == (503, b"60", 1)


@pytest_twisted.ensureDeferred
async def test_the_time_of_the_whole_request(world: World) -> None:
    """All tries together: what is left of it bounds the next one."""
    silent = [await world.upstream() for _ in range(3)]
    gateway = await gateway_for(
        world, *silent, timeouts={"first_byte": "400ms", "request": "600ms"}
    )
    began = monotonic()
    client = await world.client(gateway, get())
    answer = await client.answer()
    took = monotonic() - began
    assert (answer.status, attempts(answer)) == (504, 2)
    assert 0.55 <= took < 1.6
    await world.at_rest(gateway)


@pytest.mark.parametrize(
    "settings", [{"concurrency": {"limit": 1}}, {"pool": {"connections": 1}}], ids=["room", "pool"]
)
@pytest_twisted.ensureDeferred
async def test_the_time_of_the_whole_request_in_a_queue(
    world: World, settings: dict[str, Any]
) -> None:
    """Waiting for a place is part of it, and nobody's failure."""
    silent = await world.upstream()
    gateway = await world.gateway(
        {"instances": [silent.url], **settings},
        timeouts={"request": "1s"},
        routes=[{"path": "/first", "service": "main", "timeouts": {"request": 0}}],
    )
    first = await world.client(gateway, get("/first"))
    await silent.request()
    began = monotonic()
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 504
    assert 0.95 <= monotonic() - began < 2.5
    silent.connections[0].send(with_length(b"ok"))
    assert (await first.answer()).status == 200
    await world.at_rest(gateway)
    (instance,) = gateway.service.instances()
    assert instance.breaker.stats().failed_calls == 0


@pytest_twisted.ensureDeferred
async def test_the_time_of_the_whole_request_in_a_slow_upload(world: World) -> None:
    """The body's way is part of it."""
    silent = await world.upstream()
    gateway = await gateway_for(world, silent, timeouts={"request": "500ms"})
    client = await world.client(
        gateway, b"PUT /api/main/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
    )
    began = monotonic()
    assert (await client.answer()).status == 504
    assert 0.45 <= monotonic() - began < 2
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_the_answer_of_an_instance_says_more_than_our_own(world: World) -> None:
    """The next try finds no connection: the client gets the 503 that it had, not ours."""
    busy, full = await world.upstream(BUSY), await world.upstream()
    pool = {"connections": 1, "queue": 0}
    gateway = await world.gateway(service(full, busy, pool=pool), proxy_headers=True)
    first = await world.client(gateway, get())
    await full.request()
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, answer.body, attempts(answer)) == (503, b"busy", 2)
    full.connections[0].send(with_length(b"ok"))
    assert (await first.answer()).status == 200
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_the_budget(world: World) -> None:
    """Without a budget nothing is tried again, and it is counted."""
    busy, fine = await world.upstream(BUSY), await world.upstream(with_length(b"ok"))
    gateway = await gateway_for(world, busy, fine, retry={"budget": {"ratio": 0, "per_second": 0}})
    client = await world.client(gateway, get())
    assert (await client.answer()).status == 503
    assert gateway.service.services["main"].budget_refusals == 1
    assert not fine.requests


@pytest_twisted.ensureDeferred
async def test_the_client_leaves_between_two_tries(world: World) -> None:
    """Nobody waits for the next one any more."""
    busy, fine = await world.upstream(BUSY), await world.upstream(with_length(b"ok"))
    slow = {"base_delay": "1h", "max_delay": "1h"}
    gateway = await gateway_for(world, busy, fine, retry=slow)
    client = await world.client(gateway, get())
    await busy.request()
    await eventually(lambda: gateway.service.services["main"].inflight == 0)
    await soon(0.01)
    client.abort()
    (line,) = await world.logged(gateway)
    assert line["status"] == 499
    assert not fine.requests
    await world.at_rest(gateway)


# -- hedging ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_hedging(world: World) -> None:
    """The second try is made while the first is out, its answer wins, and the first is given up."""
    silent, fine = await world.upstream(), await world.upstream(with_length(b"ok"))
    hedge = {"enabled": True, "max_delay": "50ms"}
    gateway = await gateway_for(world, silent, fine, retry={"hedge": hedge})
    client = await world.client(gateway, get())
    answer = await client.answer()
    assert (answer.status, attempts(answer)) == (200, 2)
    assert answer.header(b"x-proxy-instance") == fine.url.removeprefix("http://").encode()
    connection = await silent.connection()
    await eventually(lambda: connection.lost is not None)
    assert gateway.service.services["main"].hedges == 1
    await world.at_rest(gateway)


@pytest_twisted.ensureDeferred
async def test_hedging_leaves_other_requests_alone(world: World) -> None:
    """One that changes something is never sent twice."""
    silent, fine = await world.upstream(), await world.upstream(with_length(b"ok"))
    hedge = {"enabled": True, "max_delay": "5ms"}
    gateway = await gateway_for(world, silent, fine, retry={"hedge": hedge})
    client = await world.client(gateway, post("/api/main/", b"pay"))
    connection = await silent.connection()
    await eventually(lambda: connection.requests)
    await soon(0.1)
    assert not fine.requests
    connection.send(with_length(b"paid"))
    assert (await client.answer()).body == b"paid"


@pytest_twisted.ensureDeferred
async def test_the_client_leaves_while_two_tries_are_out(world: World) -> None:
    """Both are given up."""
    silent = [await world.upstream(), await world.upstream()]
    hedge = {"enabled": True, "max_delay": "20ms"}
    gateway = await gateway_for(world, *silent, retry={"hedge": hedge})
    client = await world.client(gateway, get())
    connections = [await each.connection() for each in silent]
    await eventually(lambda: all(each.requests for each in connections))
    client.abort()
    await eventually(lambda: all(each.lost is not None for each in connections))
    await world.at_rest(gateway)
    breakers = [each.breaker.stats() for each in gateway.service.instances()]
    assert [each.failed_calls for each in breakers] == [0, 0]
