"""Clients: requests at a constant rate, whatever becomes of them, and a word on each of them.

An open loop, as real clients are one: who waits for an answer does not keep others from asking. It
begins slowly, because many at once at a gateway that has no connection yet are another story. Four
of five requests are a GET, one is a POST, drawn by lot. Runs in an asyncio event loop.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from time import monotonic
from typing import cast

from tests.e2e.faults.instance import BODY

__all__ = ["GET", "POST", "Load", "Tally", "Trouble", "burst"]

GET, POST = "GET", "POST"
_POSTS = 0.2
_TICK = 0.002
_CLIENTS = 16
_MOST_CLIENTS = 512
_PATIENCE = 40.0
"""Seconds after which a client says that there was no answer."""
_PAYLOAD = b'{"order": 7}'


@dataclass(frozen=True)
class Trouble:
    """A request that a client was not happy with.

    :ivar at: when it was sent, in monotonic seconds; ``seconds``: how long it took.
    :ivar what: the status, ``truncated``, or what happened in place of an answer.
    :ivar instance: who answered it, as the gateway says, and at which try.
    """

    method: str
    at: float
    seconds: float
    what: str
    instance: str = ""


@dataclass
class Tally:
    """What clients saw.

    :ivar sent: requests, by method.
    :ivar latencies: seconds of the good ones, counted from when they were due.
    """

    sent: Counter[str] = field(default_factory=Counter)
    troubles: list[Trouble] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def errors(self, method: str) -> int:
        """Requests without a good answer, except those that were cut off in the middle of one."""
        return sum(each.method == method and each.what != "truncated" for each in self.troubles)

    def truncated(self, since: float = 0.0) -> int:
        """Answers that were cut off, of those sent after ``since``."""
        return sum(each.what == "truncated" and each.at > since for each in self.troubles)

    def quantile(self, share: float) -> float:
        """Seconds, of the good answers; 0 if there is none."""
        latencies = sorted(self.latencies)
        return latencies[int(share * (len(latencies) - 1))] if latencies else 0.0


class _Client(asyncio.Protocol):
    """A keep-alive connection with at most one request on it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._method = ""
        self._due = self._sent = 0.0
        self._data = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, method: str, due: float) -> None:
        self._method, self._due, self._sent, self._data = method, due, monotonic(), b""
        self._transport.write(self._load.requests[method])

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or not self._method:
            return
        head, body = self._data[:end].lower(), self._data[end + 4 :]
        length = int(_field(head, b"content-length") or b"0")
        if len(body) < length:
            return
        status = head[9:12].decode()
        what = status if status != "200" else "" if body == BODY else "another body"
        self._over(what, head)
        if _field(head, b"connection") == b"close":
            self.close()
        if not self.closed:
            self._load.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._method:
            head, end, _ = self._data.partition(b"\r\n\r\n")
            self._over("truncated" if end else "no answer, connection closed", head.lower())
        self._load.gone(self)

    def give_up(self) -> None:
        if self._method:
            self._over("no answer in time", b"")
        self.close()

    def close(self) -> None:
        self.closed = True
        self._transport.abort()

    def _over(self, what: str, head: bytes) -> None:
        method, self._method = self._method, ""
        tally, now = self._load.tally, monotonic()
        if not what:
            tally.latencies.append(now - self._due)
            return
        instance = _field(head, b"x-proxy-instance") + b" #" + _field(head, b"x-proxy-attempts")
        trouble = Trouble(method, self._sent, now - self._sent, what, instance.decode())
        tally.troubles.append(trouble)


class Load:
    """See the module. Use `start`, and `stop` before looking at ``tally`` for good.

    :param rate: requests per second, once ``ramp`` seconds are over.
    """

    def __init__(self, port: int, path: str, rate: float, ramp: float = 0.0, seed: int = 7) -> None:
        head = f"{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        length = f"Content-Length: {len(_PAYLOAD)}\r\n\r\n"
        self.requests = {
            GET: f"GET {head}\r\n".encode(),
            POST: f"POST {head}{length}".encode() + _PAYLOAD,
        }
        self.tally = Tally()
        self._port = port
        self._rate = rate
        self._ramp = ramp
        self._lots = random.Random(seed)
        self._idle: list[_Client] = []
        self._clients: set[_Client] = set()
        self._waiting: deque[tuple[str, float]] = deque()
        self._dialling = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect the first clients, and begin."""
        for _ in range(_CLIENTS):
            self._idle.append(await self._dial())
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> Tally:
        """Send nothing more, wait for what is out, and hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        deadline = monotonic() + _PATIENCE
        while self.busy and monotonic() < deadline:
            await asyncio.sleep(0.01)
        for client in list(self._clients):
            client.give_up()
        await asyncio.sleep(0.01)
        return self.tally

    @property
    def busy(self) -> int:
        """Requests that are on their way."""
        return len(self._clients) - len(self._idle) + len(self._waiting) + self._dialling

    async def _run(self) -> None:
        begun, sent = monotonic(), 0
        while True:
            now = monotonic() - begun
            while (due := self._due(sent)) <= now:
                sent += 1
                method = POST if self._lots.random() < _POSTS else GET
                self.tally.sent[method] += 1
                self.ask(method, begun + due)
            await asyncio.sleep(_TICK)

    def _due(self, number: int) -> float:
        """Seconds from the beginning until this request: the rate rises evenly, and then stays."""
        steady = self._rate * self._ramp / 2
        if number < steady:
            return math.sqrt(2 * number * self._ramp / self._rate)
        return self._ramp + (number - steady) / self._rate

    def ask(self, method: str, due: float) -> None:
        """Send a request on a connection that is free, or on a new one."""
        while self._idle:
            client = self._idle.pop()
            if not client.closed:
                client.send(method, due)
                return
        self._waiting.append((method, due))
        if len(self._clients) + self._dialling < _MOST_CLIENTS:
            self._dialling += 1
            asyncio.create_task(self._one_more())  # noqa: RUF006 - counted in _dialling

    async def _one_more(self) -> None:
        try:
            client = await self._dial()
        except OSError as error:
            method, due = self._waiting.popleft()
            trouble = Trouble(method, due, monotonic() - due, f"not connected: {error}")
            self.tally.troubles.append(trouble)
        else:
            self.idle(client)
        finally:
            self._dialling -= 1

    async def _dial(self) -> _Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._port)
        self._clients.add(client)
        return client

    def idle(self, client: _Client) -> None:
        """A connection is free."""
        if self._waiting:
            client.send(*self._waiting.popleft())
        else:
            self._idle.append(client)

    def gone(self, client: _Client) -> None:
        """A connection has ended."""
        self._clients.discard(client)
        if client in self._idle:
            self._idle.remove(client)


class _Closed(Load):
    """A closed loop: each of its connections asks again as soon as it has its answer."""

    def idle(self, client: _Client) -> None:
        method = POST if self._lots.random() < _POSTS else GET
        client.send(method, monotonic())


async def burst(port: int, path: str, seconds: float, connections: int = 64) -> float:
    """Good answers per second when ``connections`` clients ask as fast as they are answered."""
    load = _Closed(port, path, 0.0)
    for _ in range(connections):
        load.idle(await load._dial())
    await asyncio.sleep(0.5)
    before, begun = len(load.tally.latencies), monotonic()
    await asyncio.sleep(seconds)
    rate = (len(load.tally.latencies) - before) / (monotonic() - begun)
    for client in list(load._clients):
        client.close()
    await asyncio.sleep(0.05)
    return rate


def _field(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()
