"""A raw client and a raw instance, and a gateway between them that they should not notice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rtgateway.testing import (
    RawAnswer,
    RunningGateway,
    WebSocketClient,
    WebSocketConnection,
    WebSocketUpstream,
    eventually,
)
from rtgateway.testing.websocket import Frame, WebSocketEnd
from tests.e2e.world import World, get

__all__ = [
    "Bridged",
    "ask",
    "bridge",
    "connect",
    "live",
    "metric",
    "open_socket",
    "refused",
    "start",
    "upstream_of",
]

TARGET = "/ws/main"

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Bridged(NamedTuple):
    """A WebSocket through a gateway, seen from all sides."""

    client: WebSocketClient
    instance: WebSocketConnection
    gateway: RunningGateway
    upstream: WebSocketUpstream

    async def ended(self) -> None:
        """Wait until both connections are gone, and the gateway has forgotten the socket."""
        await eventually(lambda: self.client.lost and self.instance.lost)
        await eventually(lambda: not live(self.gateway))

    async def still_open(self) -> None:
        """Something gets through both ways."""
        for sender, receiver in ((self.client, self.instance), (self.instance, self.client)):
            sender.text("still open")
            while (await receiver.frame()).payload != b"still open":
                pass


def live(gateway: RunningGateway) -> list[Any]:
    """The WebSockets a gateway has."""
    return list(gateway.service.sockets.live.values())


async def start(world: World, upstream: Any, **settings: Any) -> RunningGateway:
    """A gateway that waits less long for the answer to a Close."""
    short = {"close_timeout": "500ms", **settings.pop("websocket", {})}
    return await world.gateway(upstream, websocket=short, **settings)


async def upstream_of(
    world: World,
    answer: Any = None,
    talk: Callable[[WebSocketEnd, Frame], object] | None = None,
) -> WebSocketUpstream:
    """An instance that is stopped in the end."""
    upstream = await WebSocketUpstream.listening(answer, talk=talk)
    world.keep(upstream)
    return upstream


async def connect(world: World, gateway: RunningGateway) -> WebSocketClient:
    """A client that has sent nothing yet."""
    client = await WebSocketClient.connect(gateway.port)
    world._clients.append(client)
    return client


async def open_socket(
    world: World, gateway: RunningGateway, target: str = TARGET, *lines: str
) -> WebSocketClient:
    """A client whose handshake is done."""
    client = await connect(world, gateway)
    client.upgrade(target, *lines)
    await client.opened()
    return client


async def refused(
    world: World, gateway: RunningGateway, target: str = TARGET, *lines: str
) -> RawAnswer:
    """The answer to a handshake that fails."""
    client = await connect(world, gateway)
    client.upgrade(target, *lines)
    answer = await client.answer()
    assert answer.status != 101
    return answer


async def bridge(
    world: World,
    *lines: str,
    target: str = TARGET,
    answer: Any = None,
    talk: Callable[[WebSocketEnd, Frame], object] | None = None,
    **settings: Any,
) -> Bridged:
    """An instance, a gateway with ``settings`` and a client, connected."""
    upstream = await upstream_of(world, answer, talk)
    gateway = await start(world, upstream, **settings)
    client = await open_socket(world, gateway, target, *lines)
    return Bridged(client, await upstream.socket(), gateway, upstream)


async def ask(
    world: World,
    gateway: RunningGateway,
    path: str,
    method: str = "GET",
    lines: Sequence[str] = (),
) -> tuple[int, Any]:
    """Status and JSON of one of the gateway's own pages."""
    host = f"Host: 127.0.0.1:{gateway.port}".encode()
    request = get(path, *lines).replace(b"GET", method.encode(), 1).replace(b"Host: test", host, 1)
    client = await world.client(gateway, request)
    answer = await client.answer()
    client.close()
    return answer.status, json.loads(answer.body) if answer.body else None


async def metric(world: World, gateway: RunningGateway, name: str, **labels: str) -> float:
    """A sample at ``/metrics``; 0 if it is not there."""
    client = await world.client(gateway, get("/metrics"))
    page = (await client.answer()).body.decode()
    client.close()
    for found, text, value in _SAMPLE.findall(page):
        if found == name and dict(_LABEL.findall(text)) == labels:
            return float(value)
    return 0.0
