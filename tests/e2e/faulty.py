"""Gateways whose Redis may fail, and the load on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from rtgateway.store.errors import StoreError
from rtgateway.testing import RawAnswer, RunningGateway, eventually
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import soon
from tests.e2e.test_rate_limits import bucket
from tests.e2e.world import World, get, with_length

__all__ = [
    "ALL",
    "PATH",
    "SLACK",
    "Load",
    "degraded",
    "eventually_new",
    "hasty",
    "left",
    "limited",
    "link_of",
    "patient",
    "patiently",
    "ready",
]

PATH = "/api/main/x"
SLACK = 2.0
"""Seconds that a busy machine may add to everything."""

ALL = 1000.0
"""Units per second that are enough for a test."""


def patient(server: RedisServer, **more: Any) -> dict[str, Any]:
    """State in a Redis that is waited for, because the machine may be busy."""
    return {"url": server.url, "timeout": "5s", "connect_timeout": "5s", **more}


def hasty(server: RedisServer, **more: Any) -> dict[str, Any]:
    """As configured by default, but for how long a gateway waits for Redis when it starts."""
    return {"url": server.url, "connect_timeout": "5s", **more}


async def limited(world: World, state: Any, **settings: Any) -> RunningGateway:
    upstream = await world.upstream(with_length(b"ok"))
    more = {"rate_limits": {"it": bucket(1000)}, **settings}
    gateway = await world.gateway(upstream, state=state, **more)
    await ready(gateway)
    return gateway


async def ready(gateway: RunningGateway) -> None:
    """Wait until it is connected to Redis, for the first time."""
    await eventually(lambda: link_of(gateway).up and not gateway.service.gate.shut)


def link_of(gateway: RunningGateway) -> Any:
    link = gateway.service.stores.link
    assert link is not None
    return link


def left(answer: RawAnswer) -> int:
    return int(answer.header(b"x-ratelimit-remaining") or -1)


def degraded(answer: RawAnswer) -> bool:
    return answer.header(b"x-ratelimit-mode") == b"degraded"


class Load:
    """Clients that ask one request after the other, each on a connection of its own.

    :ivar answers: of all of them; ``slowest``: seconds until one was answered.
    """

    def __init__(self, world: World, gateway: RunningGateway, clients: int) -> None:
        self.answers: list[RawAnswer] = []
        self.slowest = 0.0
        self._going = True
        self._world = world
        self._gateway = gateway
        self._done = 0
        self._clients = clients

    async def _ask(self) -> None:
        client = await self._world.client(self._gateway)
        while self._going:
            began = monotonic()
            client.send(get(PATH))
            self.answers.append(await client.answer())
            self.slowest = max(self.slowest, monotonic() - began)
            await soon(0.002)
        client.close()
        self._done += 1

    def begin(self) -> Load:
        self._waiting = DeferredList(
            [Deferred.fromCoroutine(self._ask()) for _ in range(self._clients)],
            fireOnOneErrback=True,
            consumeErrors=True,
        )
        return self

    async def end(self) -> Counter[int]:
        self._going = False
        await self._waiting
        assert self._done == self._clients
        return Counter(each.status for each in self.answers)

    async def more(self, number: int = 20) -> list[RawAnswer]:
        """So many more answers."""
        before = len(self.answers)
        await eventually(lambda: len(self.answers) >= before + number)
        return self.answers[before:]


async def patiently(change: Callable[[], Deferred[Any]]) -> None:
    """Try until Redis answers."""
    deadline = monotonic() + 2.0 + SLACK
    while True:
        try:
            await change()
            return
        except StoreError:
            assert monotonic() < deadline
            await soon(0.05)


async def eventually_new(load: Load) -> list[RawAnswer]:
    """Answers to requests that were not under way before."""
    await load.more(16)
    return await load.more(20)
