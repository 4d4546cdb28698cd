"""Real peers on both ends: Autobahn, the ``websockets`` library, and a page in a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from rtgateway.testing import RecordedConnection, RunningGateway, eventually
from rtgateway.testing.waiting import the_reactor, within
from tests.e2e.sockets import websockets_client, websockets_server
from tests.e2e.sockets.bridged import live, start
from tests.e2e.sockets.page import page
from tests.e2e.test_auth import AUTH, token
from tests.e2e.world import World, with_length

__all__: list[str] = []

WEBSOCKETS_SEES = {
    "subprotocol": "chat",
    "text": True,
    "empty": True,
    "binary": True,
    "large": True,
    "compressible": True,
    "fragments": "part 0 part 1 part 2 part 3 part 4 ",
    "pinged": True,
    "in order": True,
    "closed": [4000, "all seen"],
}


# -- Autobahn, in this reactor ----------------------------------------------------------------


class Echo(WebSocketServerProtocol):  # type: ignore[misc, unused-ignore]
    """An instance."""

    def onConnect(self, request: Any) -> str | None:
        return "chat" if "chat" in request.protocols else None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if payload.startswith(b"close "):
            _, code, reason = payload.decode().split(" ", 2)
            self.sendClose(int(code), reason)
        else:
            self.sendMessage(payload, isBinary)


class Client(WebSocketClientProtocol):  # type: ignore[misc, unused-ignore]
    """A client that keeps what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bytes, bool]] = []
        self.pongs: list[bytes] = []
        self.response: Any = None
        self.ready = False
        self.ended: tuple[bool, int | None, str | None] | None = None

    def onConnect(self, response: Any) -> None:
        self.response = response

    def onOpen(self) -> None:
        self.ready = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.seen.append((payload, isBinary))

    def onPong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.ended = (wasClean, code, reason)


class Autobahn:
    """An instance of Autobahn's, as `World.keep` wants it."""

    def __init__(self, *, deflate: bool) -> None:
        factory = WebSocketServerFactory(protocols=["chat"], reactor=the_reactor())
        factory.protocol = Echo
        factory.noisy = False

        def accept(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
            for offer in offers:
                if deflate and isinstance(offer, PerMessageDeflateOffer):
                    return PerMessageDeflateOfferAccept(offer)
            return None

        factory.setProtocolOptions(perMessageCompressionAccept=accept)
        self._port = the_reactor().listenTCP(0, factory, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}"

    def stop(self) -> Deferred[Any]:
        stopped: Deferred[Any] = self._port.stopListening()
        return stopped


async def autobahn_client(gateway: RunningGateway, *, deflate: bool) -> Client:
    factory = WebSocketClientFactory(
        f"ws://127.0.0.1:{gateway.port}/ws/main", protocols=["chat"], reactor=the_reactor()
    )

    def accept(response: object) -> PerMessageDeflateResponseAccept | None:
        if isinstance(response, PerMessageDeflateResponse):
            return PerMessageDeflateResponseAccept(response)
        return None

    offers = [PerMessageDeflateOffer()] if deflate else []
    factory.setProtocolOptions(
        perMessageCompressionOffers=offers, perMessageCompressionAccept=accept
    )
    client = Client()
    client.factory = factory
    endpoint = TCP4ClientEndpoint(the_reactor(), "127.0.0.1", gateway.port)
    await within(connectProtocol(endpoint, client))
    await eventually(lambda: client.ready)
    return client


@pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "plain"])
@pytest_twisted.ensureDeferred
async def test_autobahn(world: World, deflate: bool) -> None:
    """On both ends, with and without compression between them."""
    instance = Autobahn(deflate=deflate)
    world.keep(instance)  # type: ignore[arg-type]
    gateway = await start(world, instance.url)
    client = await autobahn_client(gateway, deflate=deflate)
    assert client.response.protocol == "chat"
    (one,) = live(gateway)
    assert one.compressed == deflate
    expected: list[tuple[bytes, bool]] = [
        ("grüße 👋".encode(), False),
        (b"", False),
        (bytes(range(256)), True),
        (os.urandom(1 << 20), True),
        (b"the same again " * 20_000, False),
    ]
    for payload, binary in expected:
        client.sendMessage(payload, binary)
    client.sendMessage(b"in fragments " * 100, False, fragmentSize=100)
    client.sendPing(b"ping of its own")
    await eventually(lambda: len(client.seen) == len(expected) + 1)
    assert client.seen == [*expected, (b"in fragments " * 100, False)]
    await eventually(lambda: client.pongs)
    assert client.pongs == [b"ping of its own"]
    client.sendClose(4000, "all seen")
    await eventually(lambda: client.ended)
    assert client.ended == (True, 1000, None), "its own answer to every Close"
    await eventually(lambda: not live(gateway))
    assert (await world.logged(gateway, 2))[1]["close_code"] == 4000
    again = await autobahn_client(gateway, deflate=deflate)
    again.sendMessage(b"close 4321 because of you")
    await eventually(lambda: again.ended)
    assert again.ended == (True, 4321, "because of you")


@pytest_twisted.ensureDeferred
async def test_many_of_autobahns(world: World) -> None:
    """Each has its own conversation."""
    instance = Autobahn(deflate=True)
    world.keep(instance)  # type: ignore[arg-type]
    gateway = await start(world, instance.url)
    clients = [await autobahn_client(gateway, deflate=True) for _ in range(20)]
    for turn in range(20):
        for number, client in enumerate(clients):
            client.sendMessage(b"%d of %d" % (turn, number))
    for number, client in enumerate(clients):
        await eventually(lambda client=client: len(client.seen) == 20)  # type: ignore[misc]
        assert client.seen == [(b"%d of %d" % (turn, number), False) for turn in range(20)]
        client.sendClose(1000)
    await eventually(lambda: not live(gateway))


# -- websockets, on asyncio, in processes of their own -----------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts programs that are ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str | Path, output: Path | None = None) -> subprocess.Popen[bytes]:
        with (output or tmp_path / "output").open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


Run = Callable[..., "subprocess.Popen[bytes]"]


async def websockets_instance(run: Run, folder: Path) -> str:
    """The URL of an instance of the library's."""
    port = folder / "port"
    process = run(sys.executable, str(websockets_server.__file__), port)
    await eventually(lambda: port.exists() or process.poll() is not None)
    return f"http://127.0.0.1:{port.read_text()}"


async def websockets_report(run: Run, folder: Path, url: str) -> Any:
    """What a client of the library sees there."""
    output = folder / "report"
    process = run(sys.executable, str(websockets_client.__file__), url, output=output)
    await eventually(lambda: process.poll() is not None, patience=30)
    assert process.returncode == 0, output.read_text()
    return json.loads(output.read_text())


@pytest_twisted.ensureDeferred
async def test_websockets_on_both_ends(world: World, tmp_path: Path, run: Run) -> None:
    """Everything it knows gets through."""
    gateway = await start(world, await websockets_instance(run, tmp_path))
    seen = await websockets_report(run, tmp_path, f"ws://127.0.0.1:{gateway.port}/ws/main")
    assert seen == {
        "deflate": {**WEBSOCKETS_SEES, "extensions": ["permessage-deflate"]},
        "plain": {**WEBSOCKETS_SEES, "extensions": []},
        "told": [4321, "because of you"],
    }
    await eventually(lambda: not live(gateway))
    lines = await world.logged(gateway, 6)
    ends = [line["close_code"] for line in lines if "close_code" in line]
    assert ends == [4000, 4000, 4321]


@pytest_twisted.ensureDeferred
async def test_websockets_and_autobahn(world: World, tmp_path: Path, run: Run) -> None:
    """A client of one library, an instance of the other, and the other way round."""
    instance = Autobahn(deflate=True)
    world.keep(instance)  # type: ignore[arg-type]
    gateway = await start(world, instance.url)
    seen = await websockets_report(run, tmp_path, f"ws://127.0.0.1:{gateway.port}/ws/main")
    deflate = {**WEBSOCKETS_SEES, "extensions": ["permessage-deflate"]}
    assert seen["deflate"] == {**deflate, "closed": [1000, ""]}
    assert seen["told"] == [4321, "because of you"]
    other = await start(world, await websockets_instance(run, tmp_path))
    client = await autobahn_client(other, deflate=True)
    client.sendMessage(b"the same again " * 20_000)
    client.sendMessage(bytes(300_000), True, fragmentSize=10_000)
    await eventually(lambda: len(client.seen) == 2)
    assert client.seen == [(b"the same again " * 20_000, False), (bytes(300_000), True)]
    client.sendMessage(b"close 4321 because of you")
    await eventually(lambda: client.ended)
    assert client.ended == (True, 4321, "because of you")


# -- a browser --------------------------------------------------------------------------------


def browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for found in map(shutil.which, names) if found), None)


@pytest.mark.skipif(browser() is None, reason="no Chromium here: see docs/dependencies.md")
@pytest_twisted.ensureDeferred
async def test_a_page_in_a_browser(world: World, tmp_path: Path, run: Run) -> None:
    """Its token is in the subprotocols, as there is no other place; and it sees close codes."""
    reports: list[Any] = []

    def site(_: RecordedConnection, request: bytes) -> bytes:
        if request.startswith(b"POST /page/report "):
            reports.append(json.loads(request.partition(b"\r\n\r\n")[2]))
            return with_length(b"thanks")
        return with_length(page(token()), "Content-Type: text/html; charset=utf-8")

    gateway = await start(
        world,
        {},
        services={
            "site": (await world.upstream(site)).url,
            "main": await websockets_instance(run, tmp_path),
        },
        auth=AUTH,
        routes=[
            {"path": "/live", "service": "main", "websocket": True},
            {"path": "/page", "service": "site", "auth": "none"},
        ],
    )
    program = browser()
    assert program is not None
    run(
        program,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"{gateway.url}/page",
        output=tmp_path / "browser",
    )
    await eventually(lambda: reports, patience=60)
    (seen,) = reports
    extensions = seen.pop("extensions")
    assert extensions.startswith("permessage-deflate")
    assert seen == {
        "protocol": "bearer",
        "text": "grüße 👋",
        "binary": True,
        "compressible": True,
        "order": True,
        "closed": [4000, "all seen", True],
        "told": [4321, "because of you", True],
        "no token": [1006, "", False],
        "bad token": [1006, "", False],
        "unknown service": [1008, "unknown_service", True],
    }
