"""Other ways in than TCP with HTTP/1.1: Unix sockets, and HTTP/1.0."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol

from rtgateway.testing import RawClient, RecordedConnection, eventually, soon
from rtgateway.testing.waiting import the_reactor, within
from tests.e2e.world import World, get, with_length

__all__: list[str] = []


async def dial(path: Path, request: bytes = b"") -> RawClient:
    endpoint = UNIXClientEndpoint(the_reactor(), str(path))
    client: RawClient = await within(connectProtocol(endpoint, UnixClient()))
    client.send(request)
    return client


class UnixClient(RawClient):
    """Has no Nagle to switch off."""

    def connectionMade(self) -> None:
        """Nothing to do."""


@pytest_twisted.ensureDeferred
async def test_a_unix_socket(world: World, tmp_path: Path) -> None:
    """With its permissions; keep-alive; the client has no address. Gone when the gateway is."""
    path = tmp_path / "gateway.sock"
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, listeners=[{"unix": str(path), "mode": "0600"}])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client = await dial(path, get() + get())
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    (line, _) = await world.logged(gateway, 2)
    assert line["client_ip"] == ""
    assert b"\r\nX-Forwarded-Proto: http\r\n" in upstream.requests[0]
    client.close()
    await gateway.stop()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_admin_pages_over_a_unix_socket(world: World, tmp_path: Path) -> None:
    """Refused: who speaks there may be a proxy, and speak for anybody."""
    path = tmp_path / "gateway.sock"
    await world.gateway(await world.upstream(), listeners=[{"unix": str(path)}])
    client = await dial(path, get("/admin/stats") + get("/healthz"))
    assert [(await client.answer()).status for _ in range(2)] == [403, 200]
    client.close()


@pytest_twisted.ensureDeferred
async def test_several_listeners(world: World, tmp_path: Path) -> None:
    """All lead to the same gateway."""
    path = tmp_path / "gateway.sock"
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        listeners=[{"tcp": "127.0.0.1:0"}, {"tcp": "127.0.0.1:0"}, {"unix": str(path)}],
    )
    clients = [
        await RawClient.connect(gateway.service.ports[0].getHost().port),  # type: ignore[attr-defined]
        await RawClient.connect(gateway.service.ports[1].getHost().port),  # type: ignore[attr-defined]
        await dial(path),
    ]
    for client in clients:
        client.send(get())
        assert (await client.answer()).status == 200
    assert len(gateway.service.site.channels) == 3
    assert len(upstream.connections) == 1
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("lines", "stays"), [((), False), (("Connection: keep-alive",), True)], ids=["plain", "kept"]
)
@pytest_twisted.ensureDeferred
async def test_http_1_0(world: World, lines: tuple[str, ...], stays: bool) -> None:
    """Closed after the answer unless the client asked for more (RFC 9112, 9.3)."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get("/api/main/", *lines, version="1.0"))
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.header(b"connection") == (b"keep-alive" if stays else b"close")
    assert upstream.requests[0].startswith(b"GET / HTTP/1.1\r\n")
    assert b"\r\nVia: 1.0 rtgateway\r\n" in upstream.requests[0]
    if stays:
        client.send(get(version="1.0"))
        await client.answer()
    await client.closed()
    assert upstream.connections[0].lost is None


@pytest.mark.parametrize("whole", [True, False])
@pytest_twisted.ensureDeferred
async def test_chunks_to_http_1_0(world: World, whole: bool) -> None:
    """Unwrapped; the end of the connection is the end of the body, a reset is its break."""

    def answer(connection: RecordedConnection, request: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

    upstream = await world.upstream(answer)
    gateway = await world.gateway(upstream)
    client = await world.client(gateway, get(version="1.0"))
    await eventually(lambda: client.received.endswith(b"\r\n\r\nhello"))
    if whole:
        upstream.connections[0].send(b"0\r\n\r\n")
    else:
        upstream.connections[0].close()
    await client.closed()
    assert b"chunked" not in client.received
    assert client.lost is not None
    assert ("non-clean" in client.lost.getErrorMessage()) is not whole


@pytest_twisted.ensureDeferred
async def test_a_head_that_is_on_its_way_when_the_gateway_stops(world: World) -> None:
    """It is answered, and its connection closed; one that says nothing is closed at once."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, shutdown={"grace": "5s"})
    idle = await world.client(gateway)
    client = await world.client(gateway, get()[:20])
    await eventually(lambda: len(gateway.service.site.channels) == 2)
    await soon(0.05)
    stopped = gateway.stop()
    await idle.closed()
    client.send(get()[20:])
    answer = await client.answer()
    assert (answer.status, answer.header(b"connection")) == (200, b"close")
    await client.closed()
    await stopped
