"""WebSockets through a gateway that is a process of its own: signals, environment, memory."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest_twisted

from rtgateway.testing import WebSocketClient, WebSocketUpstream, eventually, soon
from rtgateway.testing.websocket import CLOSE, PING, Frame, WebSocketEnd, echo
from tests.e2e.process import Process

__all__: list[str] = []


@pytest_twisted.async_yield_fixture
async def upstream() -> AsyncIterator[WebSocketUpstream]:
    upstream = await WebSocketUpstream.listening(talk=echo)
    yield upstream
    await upstream.stop()


def polite(end: WebSocketEnd, frame: Frame) -> None:
    """A ``talk`` that answers a Close."""
    if frame.opcode == CLOSE:
        end.send_frame(CLOSE, frame.payload)


async def ready(gateway: Process) -> None:
    """Wait until the gateway answers, without holding up the instance, which is in this process."""

    async def answers() -> bool:
        try:
            client = await WebSocketClient.connect(gateway.port)
        except Exception:
            return False
        client.abort()
        return True

    began = monotonic()
    while not await answers():
        await soon(0.02)
        assert gateway.process.poll() is None, gateway.said
        assert monotonic() < began + 15, gateway.said


@pytest_twisted.ensureDeferred
async def test_sigterm(upstream: WebSocketUpstream, tmp_path: Path) -> None:
    """Everybody is told, a little apart; then the process ends, and the log has all of it."""
    settings = {
        "services": {"main": upstream.url},
        "websocket": {"drain_timeout": "1s"},
        "shutdown": {"grace": "8s"},
    }
    with Process(tmp_path, settings) as gateway:
        await ready(gateway)
        clients = [await WebSocketClient.open(gateway.port, "/ws/main") for _ in range(100)]
        for client in clients:
            client.text("here")
            client.talk = polite
        await eventually(lambda: all(client.frames for client in clients))
        began = monotonic()
        gateway.signal(signal.SIGTERM)
        await eventually(lambda: any(client.frames[1:] for client in clients))
        first = monotonic()
        for client in clients:
            assert await client.close_frame() == (1001, "going_away")
        last = monotonic()
        await eventually(lambda: gateway.process.poll() is not None)
        assert last - first > 0.4
        assert monotonic() - began < 8
        gateway.drained(signal.SIGTERM)
        lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    ends = [line for line in lines if line.get("event") == "websocket_closed"]
    assert len(ends) == 100
    assert {(end["close_code"], end["close_reason"]) for end in ends} == {(1001, "going_away")}


@pytest_twisted.ensureDeferred
async def test_the_environment(upstream: WebSocketUpstream, tmp_path: Path) -> None:
    """Configured as the Real-Time API Gateway is."""
    env = {
        "UPSTREAMS": json.dumps({"main": [f"ws://127.0.0.1:{upstream.port}"]}),
        "WS_PING_INTERVAL_MS": "300",
        "WS_MAX_BUFFERED_BYTES": "20000",
    }
    with Process(tmp_path, env=env) as gateway:
        await ready(gateway)
        client = await WebSocketClient.open(gateway.port, "/ws/main?path=/x")
        await eventually(lambda: PING in {frame.opcode for frame in client.frames})
        client.pause()
        instance = await upstream.socket()
        for _ in range(100):
            instance.binary(bytes(200_000))
        assert await instance.close_frame() == (1013, "backpressure")
        client.abort()


@pytest_twisted.ensureDeferred
async def test_memory_of_a_slow_reader(upstream: WebSocketUpstream, tmp_path: Path) -> None:
    """Measured from outside: 60 MB that nobody takes do not end up in the gateway."""
    with Process(tmp_path, {"services": {"main": upstream.url}}) as gateway:
        await ready(gateway)
        clients = [await WebSocketClient.open(gateway.port, "/ws/main") for _ in range(3)]
        await eventually(lambda: len(upstream.sockets) == 3)
        before = gateway.rss
        for client, instance in zip(clients, upstream.sockets, strict=True):
            client.pause()
            instance.talk = None
            instance.binary(bytes(20_000_000))
        await eventually(lambda: all(each.transport.dataBuffer for each in upstream.sockets))
        most = before

        def settled() -> bool:
            nonlocal most
            most = max(most, gateway.rss)
            return monotonic() > began + 0.5

        began = monotonic()
        await eventually(settled)
        assert most - before < 8_000_000
        for client in clients:
            client.resume()
        await eventually(lambda: all(client.frames for client in clients))
        assert {len(client.frames[0].payload) for client in clients} == {20_000_000}
        for client in clients:
            client.abort()
