"""TLS on both sides: certificates by name for clients, verified names of instances."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import Certificate as TrustRoot
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS

from rtgateway.testing import RawClient, RecordingUpstream, RunningGateway, eventually, soon
from rtgateway.testing.waiting import the_reactor, within
from tests.e2e.world import World, event_stream, get, only_instance, post, with_length

__all__: list[str] = []


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def issued(*names: str) -> trustme.LeafCert:
    return authority().issue_cert(*names)


def files(folder: Path, *names: str) -> dict[str, str]:
    """A certificate for these names, as a listener is configured with it."""
    certificate, key = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    issued(*names).private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued(*names).cert_chain_pems))
    return {"certificate": str(certificate), "key": str(key)}


def ca_file(folder: Path, ca: trustme.CA | None = None) -> str:
    path = folder / "ca.pem"
    (ca or authority()).cert_pem.write_to_path(path)
    return str(path)


def secure(*certificates: dict[str, str]) -> dict[str, Any]:
    """The settings of a gateway that listens with TLS."""
    return {"listeners": [{"tcp": "127.0.0.1:0", "tls": {"certificates": list(certificates)}}]}


async def dial(gateway: RunningGateway, name: str, request: bytes = b"") -> RawClient:
    """A client over TLS, once its handshake is done; it verifies that the gateway is ``name``."""
    trust = TrustRoot.loadPEM(authority().cert_pem.bytes())
    options = optionsForClientTLS(name, trustRoot=trust)
    plain = TCP4ClientEndpoint(the_reactor(), "127.0.0.1", gateway.port)
    client: RawClient = await within(connectProtocol(wrapClientTLS(options, plain), RawClient()))
    client.send(request)
    return client


async def instance_with_tls(world: World, answer: Any, *names: str) -> RecordingUpstream:
    """An instance that speaks TLS on localhost, with a certificate for ``names``."""
    upstream = RecordingUpstream(answer)
    world.keep(upstream)
    leaf = issued(*names)
    options = CertificateOptions(
        # pyOpenSSL takes cryptography's objects, and deprecates its own that Twisted declares.
        privateKey=cast("Any", load_pem_private_key(leaf.private_key_pem.bytes(), None)),
        certificate=cast("Any", load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())),
        acceptableProtocols=[b"http/1.1"],
    )
    upstream._listening = the_reactor().listenSSL(0, upstream, options, interface="127.0.0.1")
    return upstream


# -- clients ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_requests_over_tls(world: World, tmp_path: Path) -> None:
    """Keep-alive, pipelining, and the instance learns that it was https."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, **secure(files(tmp_path, "api.example.com")))
    client = await dial(gateway, "api.example.com", get() * 3)
    assert [(await client.answer()).body for _ in range(3)] == [b"ok"] * 3
    client.send(post("/api/main/", b"body"))
    assert (await client.answer()).status == 200
    assert b"\r\nX-Forwarded-Proto: https\r\n" in upstream.requests[0]
    assert len(upstream.connections) == 1
    client.abort()


@pytest.mark.parametrize("name", ["one.example", "two.example", "any.wild.example"])
@pytest_twisted.ensureDeferred
async def test_the_certificate_follows_the_name(world: World, tmp_path: Path, name: str) -> None:
    """One listener, several certificates (RFC 6066, 3): the client verifies the one it gets."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream,
        **secure(
            files(tmp_path, "one.example"),
            files(tmp_path, "two.example"),
            files(tmp_path, "*.wild.example"),
        ),
    )
    client = await dial(gateway, name, get())
    assert (await client.answer()).status == 200
    client.abort()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest_twisted.ensureDeferred
async def test_the_end_of_a_connection(world: World, tmp_path: Path, version: str) -> None:
    """After ``Connection: close`` it is closed at once, and says so (RFC 8446, 6.1)."""
    upstream = await world.upstream(with_length(bytes(3_000_000)))
    gateway = await world.gateway(upstream, **secure(files(tmp_path, "one.example")))
    client = await dial(gateway, "one.example", get("/api/main/", "Connection: close"))
    assert len((await client.answer()).body) == 3_000_000
    await eventually(lambda: client.lost is not None, patience=1.0)
    assert client.lost is not None
    assert client.lost.check(ConnectionDone), client.lost
    await eventually(lambda: not gateway.service.site.channels)


@pytest_twisted.ensureDeferred
async def test_a_refused_upload(world: World, tmp_path: Path) -> None:
    """The client gets its answer although it is still sending."""
    upstream = await world.upstream()
    gateway = await world.gateway(
        upstream, limits={"body": 1000}, **secure(files(tmp_path, "one.example"))
    )
    client = await dial(gateway, "one.example", post("/api/main/", bytes(200_000)))
    assert (await client.answer()).status == 413
    await client.closed()


@pytest_twisted.ensureDeferred
async def test_closing_idle_connections(world: World, tmp_path: Path) -> None:
    """Keep-alive over, or the gateway is going: a clean end, at once."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        upstream, timeouts={"keep_alive": "200ms"}, **secure(files(tmp_path, "one.example"))
    )
    client = await dial(gateway, "one.example", get())
    await client.answer()
    await client.closed()
    assert client.lost is not None
    assert client.lost.check(ConnectionDone), client.lost


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_never_comes(world: World, tmp_path: Path) -> None:
    """Closed when a head should have come."""
    gateway = await world.gateway(
        await world.upstream(),
        timeouts={"head": "300ms"},
        **secure(files(tmp_path, "one.example")),
    )
    client = await world.client(gateway)
    await client.closed()
    await eventually(lambda: not gateway.service.site.channels)


@pytest_twisted.ensureDeferred
async def test_plain_http_to_a_tls_port(world: World, tmp_path: Path) -> None:
    """Closed, and nothing of it reaches an instance."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, **secure(files(tmp_path, "one.example")))
    client = await world.client(gateway, get())
    await client.closed()
    assert upstream.connections == []


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_over_tls(world: World, tmp_path: Path) -> None:
    """The answer waits with the instance; then all of it comes."""
    size = 24 << 20
    upstream = await world.upstream(with_length(bytes(size)))
    gateway = await world.gateway(upstream, **secure(files(tmp_path, "one.example")))
    client = await dial(gateway, "one.example", get())
    await eventually(lambda: client.received)
    client.pause()
    (channel,) = gateway.service.site.channels
    await eventually(lambda: channel.blocked)
    await soon(0.2)
    assert channel.transport.unsent < 1_000_000
    instance = upstream.connections[0].transport
    assert len(instance.dataBuffer) + instance._tempDataLen > size // 4
    client.resume()
    taken = 0

    def all_of_it() -> bool:
        nonlocal taken
        taken += len(client.received)
        client.received = b""
        return taken > size

    await eventually(all_of_it)
    client.abort()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_whose_connection_ends(world: World, tmp_path: Path) -> None:
    """Slow is not stalled: it gets everything, and a clean end."""
    size = 12 << 20
    upstream = await world.upstream(with_length(bytes(size)))
    gateway = await world.gateway(
        upstream, timeouts={"write_stall": "1s"}, **secure(files(tmp_path, "one.example"))
    )
    client = await dial(gateway, "one.example", get("/api/main/", "Connection: close"))
    await eventually(lambda: client.received)
    for _ in range(60):
        client.pause()
        await soon(0.05)
        client.resume()
        await soon()
    await client.closed()
    assert client.lost is not None
    assert client.lost.check(ConnectionDone), client.lost
    assert len((await client.answer()).body) == size


@pytest_twisted.ensureDeferred
async def test_events_over_tls(world: World, tmp_path: Path) -> None:
    """Each at once; a client that leaves is noticed."""
    upstream = await world.upstream(event_stream())
    gateway = await world.gateway(upstream, **secure(files(tmp_path, "one.example")))
    client = await dial(gateway, "one.example", get("/sse/main/"))
    await eventually(lambda: b"\r\n\r\n" in client.received)
    for number in range(5):
        upstream.connections[0].send(b"9\r\ndata: %d\n\n\r\n" % number)
        expected = b"data: %d\n\n\r\n" % number
        await eventually(functools.partial(_ends_with, client, expected), patience=1.0)
    client.close()
    await eventually(lambda: upstream.connections[0].lost)


def _ends_with(client: RawClient, expected: bytes) -> bool:
    return client.received.endswith(expected)


# -- instances --------------------------------------------------------------------------------


async def asked(
    world: World, url: str, tls: dict[str, Any], request: bytes | None = None
) -> tuple[RunningGateway, int]:
    """A gateway in front of ``url``, and the status of a first answer through it."""
    gateway = await world.gateway({"instances": [url], "tls": tls})
    client = await world.client(gateway, request or get("/api/main/x?y=1"))
    return gateway, (await client.answer()).status


@pytest_twisted.ensureDeferred
async def test_an_instance_over_tls(world: World, tmp_path: Path) -> None:
    """Verified against our own authority; its path is kept in front of every request's."""
    upstream = await instance_with_tls(world, with_length(b"ok"), "localhost")
    url = f"https://localhost:{upstream.port}/base/path"
    gateway, status = await asked(world, url, {"ca": ca_file(tmp_path)})
    assert status == 200
    assert upstream.requests[0].startswith(b"GET /base/path/x?y=1 HTTP/1.1\r\n")
    assert b"\r\nHost: localhost:%d\r\n" % upstream.port in upstream.requests[0]
    client = await world.client(gateway, get() + post("/api/main/", b"body"))
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert len(upstream.connections) == 1, "the connection is reused"


@pytest.mark.parametrize(
    ("names", "tls", "status"),
    [
        (("other.example",), {}, 502),
        (("other.example",), {"server_name": "other.example"}, 200),
        (("other.example",), {"verify": False}, 200),
        (("localhost",), {"ca": None}, 502),
    ],
    ids=["wrong name", "another name", "unverified", "unknown authority"],
)
@pytest_twisted.ensureDeferred
async def test_verification(
    world: World, tmp_path: Path, names: tuple[str, ...], tls: dict[str, Any], status: int
) -> None:
    """An instance that can't prove its name gets no request."""
    upstream = await instance_with_tls(world, with_length(b"ok"), *names)
    settings = {"ca": ca_file(tmp_path), **tls}
    gateway, got = await asked(world, f"https://localhost:{upstream.port}", settings)
    assert got == status
    if status == 502:
        assert upstream.requests == []
        await eventually(lambda: only_instance(gateway).pool.open == 0)
        await eventually(lambda: all(each.lost for each in upstream.connections))


@pytest_twisted.ensureDeferred
async def test_an_instance_with_plain_http_where_tls_is_expected(world: World) -> None:
    """502, and it gets nothing it could take for a request."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(
        {
            "instances": [f"https://localhost:{upstream.port}"],
            "tls": {"verify": False},
            "retry": {"attempts": 1},
        }
    )
    client = await world.client(gateway, get())
    (await upstream.connection()).send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert (await client.answer()).status == 502
    assert upstream.requests == []


@pytest_twisted.ensureDeferred
async def test_an_instance_that_closes_after_each_answer(world: World) -> None:
    """Nothing of its connections stays, although it waits for us to close them."""
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    upstream = await instance_with_tls(world, answer, "localhost")
    gateway, status = await asked(world, f"https://localhost:{upstream.port}", {"verify": False})
    assert status == 200
    await eventually(lambda: upstream.connections[0].lost, patience=1.0)
    lost = upstream.connections[0].lost
    assert lost is not None
    assert lost.check(ConnectionDone), "closed as TLS wants it"
    assert only_instance(gateway).pool.open == 0


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_over_tls(world: World) -> None:
    """It ends when its time is over."""
    upstream = await instance_with_tls(world, with_length(b"ok"), "localhost")
    service = {
        "instances": [f"https://localhost:{upstream.port}"],
        "tls": {"verify": False},
        "pool": {"idle_timeout": "200ms"},
    }
    gateway = await world.gateway(service)
    client = await world.client(gateway, get())
    await client.answer()
    await eventually(lambda: upstream.connections[0].lost, patience=3.0)
    assert only_instance(gateway).pool.open == 0


@pytest.mark.parametrize("clean", [True, False], ids=["with goodbye", "without"])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_the_end_of_the_connection_ends(world: World, clean: bool) -> None:
    """Whole only if TLS says so: a cut connection does not look like an end (RFC 9112, 9.8)."""
    upstream = await instance_with_tls(world, b"HTTP/1.1 200 OK\r\n\r\nhello", "localhost")
    gateway = await world.gateway(
        {"instances": [f"https://localhost:{upstream.port}"], "tls": {"verify": False}}
    )
    client = await world.client(gateway, get())
    await eventually(lambda: b"hello" in client.received)
    if clean:
        upstream.connections[0].close()
        assert (await client.answer()).body == b"hello"
    else:
        # The socket ends well; the TLS on it does not.
        upstream.connections[0].transport.transport.loseConnection()
        await client.closed()
        assert client.received.endswith(b"5\r\nhello\r\n")


@pytest_twisted.ensureDeferred
async def test_a_large_exchange_over_tls(world: World) -> None:
    """Bodies of several MiB, both ways at once."""
    size = 6 << 20
    upstream = await instance_with_tls(world, with_length(bytes(size)), "localhost")
    gateway = await world.gateway(
        {"instances": [f"https://localhost:{upstream.port}"], "tls": {"verify": False}}
    )
    client = await world.client(gateway, post("/api/main/", bytes(size)))
    assert len((await client.answer()).body) == size
    assert len(upstream.requests[0]) > size
    await world.at_rest(gateway)
