"""WebSockets over TLS on both sides, and over IPv6."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate as TrustRoot
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS

from rtgateway.testing import RunningGateway, WebSocketClient, WebSocketUpstream, eventually, soon
from rtgateway.testing.waiting import the_reactor
from rtgateway.testing.websocket import BINARY, TEXT, Frame, agree, echo, encode
from tests.e2e.sockets.bridged import Bridged, live, start
from tests.e2e.test_tls import authority, ca_file, files, issued, secure
from tests.e2e.world import World, only_instance

__all__: list[str] = []

NAME = "localhost"


async def secure_upstream(world: World, **settings: Any) -> WebSocketUpstream:
    """An instance that speaks TLS."""
    upstream = WebSocketUpstream(**settings)
    world.keep(upstream)
    leaf = issued(NAME)
    options = CertificateOptions(
        # pyOpenSSL takes cryptography's objects, and deprecates its own that Twisted declares.
        privateKey=cast("Any", load_pem_private_key(leaf.private_key_pem.bytes(), None)),
        certificate=cast("Any", load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())),
        acceptableProtocols=[b"http/1.1"],
    )
    upstream._listening = the_reactor().listenSSL(0, upstream, options, interface="127.0.0.1")
    return upstream


async def dial(world: World, gateway: RunningGateway) -> WebSocketClient:
    """A client over TLS that has asked for a WebSocket."""
    options = optionsForClientTLS(NAME, trustRoot=TrustRoot.loadPEM(authority().cert_pem.bytes()))
    plain = TCP4ClientEndpoint(the_reactor(), "127.0.0.1", gateway.port)
    client = await WebSocketClient.connect(0, wrapClientTLS(options, plain))
    world._clients.append(client)
    client.upgrade("/ws/main")
    await client.opened()
    return client


async def bridged(world: World, folder: Path, **settings: Any) -> Bridged:
    """wss in, wss out: the instance's URL says ``wss``."""
    upstream = await secure_upstream(world)
    url = f"wss://{NAME}:{upstream.port}"
    service = {"instances": [url], "tls": {"ca": ca_file(folder)}}
    gateway = await start(world, service, **secure(files(folder, NAME)), **settings)
    client = await dial(world, gateway)
    return Bridged(client, await upstream.socket(), gateway, upstream)


@pytest_twisted.ensureDeferred
async def test_tls_on_both_sides(world: World, tmp_path: Path) -> None:
    """Messages of any size, control frames, fragments, and the end."""
    pair = await bridged(world, tmp_path)
    assert b"\r\nX-Forwarded-Proto: https\r\n" in pair.upstream.requests[0]
    sent = pair.client.text("up") + pair.client.ping(b"?") + pair.client.binary(bytes(3_000_000))
    await eventually(lambda: bytes(pair.instance.wire) == sent)
    sent = pair.instance.send_frame(TEXT, b"a", fin=False) + pair.instance.send_frame(0, b"b")
    sent += pair.instance.binary(bytes(3_000_000))
    await eventually(lambda: bytes(pair.client.wire) == sent)
    pair.client.closing(4000, "over")
    assert await pair.instance.close_frame() == (4000, "over")
    pair.instance.closing(4000)
    await pair.client.close_frame()
    pair.instance.transport.loseConnection()
    await pair.ended()
    await world.at_rest(pair.gateway)


@pytest_twisted.ensureDeferred
async def test_frames_behind_the_handshake(world: World, tmp_path: Path) -> None:
    """Of the instance's, in the record of its 101."""
    upstream = await secure_upstream(
        world, answer=lambda _, request: agree(request) + encode(TEXT, b"at once"), talk=echo
    )
    service = {"instances": [f"https://{NAME}:{upstream.port}"], "tls": {"ca": ca_file(tmp_path)}}
    gateway = await start(world, service, **secure(files(tmp_path, NAME)))
    client = await dial(world, gateway)
    assert (await client.frame()).payload == b"at once"
    await client.drip(encode(TEXT, b"byte by byte", mask=b"abcd"))
    assert (await client.frame()).payload == b"byte by byte"


@pytest.mark.parametrize("way", ["up", "down"])
@pytest_twisted.ensureDeferred
async def test_a_slow_reader(world: World, tmp_path: Path, way: str) -> None:
    """Backpressure works through TLS, and memory stays bounded."""
    pair = await bridged(world, tmp_path)
    sender, receiver = pair.client, pair.instance
    if way == "down":
        sender, receiver = receiver, sender  # type: ignore[assignment]
    receiver.pause()
    for _ in range(100):
        sender.binary(bytes(200_000))
    (one,) = live(pair.gateway)
    await eventually(lambda: one.buffered_in + one.buffered_out)
    await soon(0.3)
    assert one.buffered_in + one.buffered_out < 1_500_000
    receiver.resume()
    await eventually(lambda: len(receiver.frames) == 100)
    assert {(frame.opcode, len(frame.payload)) for frame in receiver.frames} == {(BINARY, 200_000)}
    await pair.still_open()


@pytest.mark.parametrize("side", ["client", "instance"])
@pytest.mark.parametrize("how", ["reset", "closed", "cut"])
@pytest_twisted.ensureDeferred
async def test_a_side_is_gone(world: World, tmp_path: Path, side: str, how: str) -> None:
    """With or without TLS's own goodbye."""
    pair = await bridged(world, tmp_path)
    one, other = pair.client, pair.instance
    if side == "instance":
        one, other = other, one  # type: ignore[assignment]
    if how == "reset":
        one.abort()
    elif how == "closed":
        one.transport.loseConnection()
    else:
        one.transport.transport.loseConnection()
    expected = (1001, "client_gone") if side == "client" else (1011, "upstream_error")
    assert await other.close_frame() == expected
    other.transport.loseConnection()
    await pair.ended()
    await world.at_rest(pair.gateway)


@pytest_twisted.ensureDeferred
async def test_an_instance_that_can_not_prove_its_name(world: World, tmp_path: Path) -> None:
    """It gets no handshake, and the client no WebSocket."""
    upstream = await secure_upstream(world)
    service = {
        "instances": [f"wss://127.0.0.1:{upstream.port}"],
        "tls": {"ca": ca_file(tmp_path)},
        "retry": "off",
    }
    gateway = await start(world, service)
    client = await WebSocketClient.connect(gateway.port)
    world._clients.append(client)
    client.upgrade("/ws/main")
    assert (await client.answer()).status == 502
    assert upstream.requests == []


@pytest_twisted.ensureDeferred
async def test_the_gateway_stops(world: World, tmp_path: Path) -> None:
    """A Close frame through TLS, then an end of both."""
    pair = await bridged(world, tmp_path, shutdown={"grace": "5s"})

    def polite(end: Any, frame: Frame) -> None:
        end.send_frame(frame.opcode, frame.payload)

    pair.client.talk = polite
    pair.instance.talk = echo
    stopped = pair.gateway.stop()
    # drain_timeout is 10 s, and grace 5 s.
    pair.gateway.service.sockets.drain(0.0)
    assert await pair.client.close_frame() == (1001, "going_away")
    await stopped
    assert only_instance(pair.gateway).pool.open == 0


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest_twisted.ensureDeferred
async def test_ipv6(world: World) -> None:
    """On both sides, ``ws://`` in the instance's URL."""
    upstream = WebSocketUpstream(talk=echo)
    world.keep(upstream)
    upstream._listening = the_reactor().listenTCP(0, upstream, interface="::1")
    gateway = await start(
        world,
        {"instances": [f"ws://[::1]:{upstream.port}"]},
        listeners=[{"tcp": "[::1]:0"}],
        websocket={"per_ip": 1},
    )
    endpoint = TCP6ClientEndpoint(the_reactor(), "::1", gateway.port)
    client = await WebSocketClient.connect(0, endpoint)
    world._clients.append(client)
    client.upgrade("/ws/main?path=/x")
    await client.opened()
    client.text("over six")
    assert (await client.frame()).payload == b"over six"
    (one,) = live(gateway)
    assert one.client_ip == "::1"
    again = await WebSocketClient.connect(0, endpoint)
    world._clients.append(again)
    again.upgrade("/ws/main")
    assert (await again.answer()).status == 429
