"""Where the table of raw answers is played: a gateway, an instance, and whoever comes next."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from rtgateway.testing import (
    RawAnswer,
    RawClient,
    RecordedConnection,
    RecordingUpstream,
    RunningGateway,
    eventually,
    soon,
    start_gateway,
)
from tests.e2e.chunks import as_one_chunk
from tests.e2e.raw_answers.row import BAD, CUT, WHOLE, Row
from tests.e2e.raw_requests.row import ask

__all__ = ["Stage"]

_GENERATED = {
    b"<id>": rb"[0-9a-f]{32}",
    b"<date>": rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT",
}

_END = b"\r\n\r\n"

_TURNS = 3
"""Turns of the reactor in which what one side has written is read by the other."""

_NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


class Stage:
    """See the module."""

    instance: RecordingUpstream
    gateway: RunningGateway

    async def set_up(self) -> None:
        """Start everything."""
        self.instance = await RecordingUpstream.listening()
        self.gateway = await start_gateway(
            {
                "services": {"main": {"instances": [self.instance.url], "retry": {"attempts": 1}}},
                "routes": [
                    {"path": "/x", "service": "main"},
                    {
                        "path": "/slow",
                        "service": "main",
                        "timeouts": {"first_byte": 0.3, "between_bytes": 0.3},
                    },
                ],
                "limits": {
                    "response_header_bytes": 4096,
                    "response_header_count": 40,
                    "trailer_bytes": 256,
                },
            }
        )

    async def take_down(self) -> None:
        """Stop everything."""
        await self.gateway.stop()
        await self.instance.stop()

    async def play(self, row: Row, writes: list[bytes], outcomes: tuple[str, ...]) -> None:
        """Have the instance answer in ``writes``, and hold everything to ``row``."""
        await self._forget()
        asked: Deferred[RecordedConnection] = Deferred()
        self.instance.answering = lambda connection, request: asked.callback(connection)
        client = await RawClient.connect(self.gateway.port)
        client.send(row.asks)
        connection = await asked
        self.instance.answering = _say_what_was_asked
        await self._say(connection, row, writes, client)
        assert await self._outcome(client, row, writes) in outcomes
        if row.later:
            connection.send(row.later)
        await self._next(client)
        assert len(self.instance.requests) == (3 if client.lost is None else 2)
        if row.reused:
            assert self.instance.connections == [connection]
        else:
            await eventually(lambda: connection.lost is not None)
            assert len(connection.requests) == 1
        client.close()
        await client.closed()

    async def _say(
        self, connection: RecordedConnection, row: Row, writes: list[bytes], client: RawClient
    ) -> None:
        for write in writes:
            connection.send(write)
            for _ in range(_TURNS):
                await soon()
        if row.then == "reset":
            if row.outcome == CUT:
                await eventually(lambda: _matches(as_one_chunk(client.received), row.sees))
            connection.abort()
        elif row.then == "close":
            connection.close()

    async def _outcome(self, client: RawClient, row: Row, writes: list[bytes]) -> str:
        """What the client made of it; asserts that it is one of the things it may make of it."""
        answers: list[RawAnswer] = []
        over = await eventually(lambda: _over(client, row, answers))
        if over == CUT:
            # RFC 9112, 8: of a message without its end a client knows that it is incomplete; an
            # old one only if the connection is reset.
            reset = client.lost is not None and not client.lost.check(ConnectionDone)
            assert reset or row.version == b"1.1"
            said = as_one_chunk(client.received)
            if row.outcome == CUT and writes == list(row.says):
                assert _matches(said, row.sees), said
            elif row.sees:
                head = row.sees.partition(_END)[0]
                assert _matches(said.partition(_END)[0], head), said
            return CUT
        final = answers[-1]
        if final.status in (502, 504):
            assert final.status == row.status
            assert final.header(b"content-type") == b"application/json; charset=utf-8"
            return BAD
        said = b"".join(as_one_chunk(answer.raw) for answer in answers)
        assert _matches(said, row.sees), said
        return WHOLE

    async def _next(self, client: RawClient) -> None:
        """The next requests, of somebody else and on the same connection, get their own answers."""
        other = await RawClient.connect(self.gateway.port)
        for each, path in ((other, b"/x/other"), (client, b"/x/same")):
            if each.lost is not None:
                continue
            line = b"GET %b HTTP/1.1" % path
            each.send(ask(line))
            answer = await each.answer()
            assert (answer.status, answer.body) == (200, line)
            assert each.received == b""
        other.close()
        await other.closed()

    async def _forget(self) -> None:
        """Start with no connection to the instance."""
        for connection in self.instance.connections:
            connection.abort()
        pools = [instance.pool for instance in self.gateway.service.instances()]
        await eventually(lambda: not any(pool.open for pool in pools))
        self.instance.connections.clear()
        self.instance.requests.clear()


def _over(client: RawClient, row: Row, answers: list[RawAnswer]) -> str:
    """``whole`` when the final answer is in, ``cut`` when it won't come, else nothing."""
    while (answer := client.take(row.method)) is not None:
        answers.append(answer)
        if answer.status >= 200:
            return WHOLE
    return CUT if client.lost is not None else ""


def _say_what_was_asked(connection: RecordedConnection, request: bytes) -> bytes:
    line = request.partition(b"\r\n")[0]
    return _NEXT % (len(line), line)


def _matches(said: bytes, template: bytes) -> bool:
    pattern = re.escape(template)
    for name, generated in _GENERATED.items():
        pattern = pattern.replace(name, generated)
    return re.fullmatch(pattern, said, re.DOTALL) is not None
