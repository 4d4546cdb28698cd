"""Where the table of raw requests is played: two gateways, two instances, a client at a time."""

from __future__ import annotations

import re

from twisted.internet.error import ConnectionDone

from rtgateway.testing import (
    RawAnswer,
    RawClient,
    RecordingUpstream,
    RunningGateway,
    soon,
    start_gateway,
)
from rtgateway.testing.upstream import RecordedConnection
from tests.e2e.chunks import as_one_chunk
from tests.e2e.raw_requests.row import Row, ask, sent_on
from tests.e2e.raw_requests.sizes import COUNT, LINE, SIZE

__all__ = ["Stage"]

_LIMITS = {
    "request_line": LINE,
    "header_bytes": SIZE,
    "header_count": COUNT,
    "body": 100_000,
    "trailer_bytes": 256,
}

_GENERATED = {
    b"<id>": rb"(?P<id>[0-9a-f]{32})",
    b"<trace>": rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01",
}

_AFTERWARDS = b"GET /x/afterwards HTTP/1.1"


class Stage:
    """See the module. ``main`` is the instance all rows mean, ``other`` one that none may reach."""

    main: RecordingUpstream
    other: RecordingUpstream
    plain: RunningGateway
    trusting: RunningGateway

    async def set_up(self) -> None:
        """Start everything."""
        self.main = await RecordingUpstream.listening(_say_what_was_asked)
        self.other = await RecordingUpstream.listening(_say_what_was_asked)
        settings = {
            "listeners": [
                {"tcp": "127.0.0.1:0"},
                {"tcp": "127.0.0.1:0", "proxy_protocol": True},
            ],
            "services": {
                "main": self.main.url,
                "based": f"{self.main.url}/base/path/",
                "other": self.other.url,
            },
            "routes": [
                {"path": "/x", "service": "main"},
                {"path": "/small", "service": "main", "body_limit": 16},
                {"path": "/hosted", "service": "main", "preserve_host": True},
                {"path": "/cut", "service": "main", "strip_prefix": True},
                {"path": "/reading", "service": "main", "methods": ["GET"]},
                {"path": "/", "service": "main", "host": "all.example"},
                {"path": "/", "service": "other", "host": "other.example"},
            ],
            "limits": _LIMITS,
        }
        self.plain = await start_gateway(settings)
        self.trusting = await start_gateway({**settings, "trusted_proxies": ["127.0.0.0/8"]})

    async def take_down(self) -> None:
        """Stop everything."""
        for part in (self.plain, self.trusting, self.main, self.other):
            await part.stop()

    async def play(self, row: Row, writes: list[bytes]) -> None:
        """Send ``writes`` and hold everything to ``row``."""
        self._forget()
        if row.instance_says is not None:
            says = row.instance_says
            self.main.answering = lambda connection, request: says
        client = await RawClient.connect(self._port(row.listener))
        for write in writes:
            client.send(write)
            await soon()
        answers = await self._answers(client, row)
        same = not row.closed and not row.listener.endswith("proxied")
        await self._afterwards(client, row, same=same)
        *requests, afterwards = [as_one_chunk(request) for request in self.main.requests]
        self._compare(
            afterwards, sent_on(_AFTERWARDS), self._port(row.listener if same else "plain")
        )
        self._check_instances(row, requests, answers)

    async def _answers(self, client: RawClient, row: Row) -> list[RawAnswer]:
        method = b"HEAD" if row.sends[0].startswith(b"HEAD ") else b"GET"
        answers = [await client.answer(to=method) for _ in row.answers]
        assert tuple(answer.status for answer in answers) == row.answers
        said = b"".join(answer.raw for answer in answers)
        for words in row.says:
            assert words in said
        for words in row.says_not:
            assert words not in said
        for answer in answers:
            if answer.status >= 200:
                assert len(answer.all(b"x-request-id")) == 1
        return answers

    async def _afterwards(self, client: RawClient, row: Row, *, same: bool) -> None:
        """A good request: on the same connection if that stays open, else on a new one."""
        self.main.answering = _say_what_was_asked
        if row.closed:
            assert await client.closed() == b""
            assert client.lost is not None
            assert client.lost.check(ConnectionDone)
        if not same:
            client.close()
            client = await RawClient.connect(self._port("plain"))
        client.send(ask(_AFTERWARDS))
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, _AFTERWARDS)
        assert client.received == b""
        client.close()
        await client.closed()

    def _check_instances(self, row: Row, requests: list[bytes], answers: list[RawAnswer]) -> None:
        assert self.other.received == b""
        assert len(requests) == len(row.forwarded), requests
        port = self._port(row.listener)
        ids = [self._compare(*pair, port) for pair in zip(requests, row.forwarded, strict=True)]
        if not row.broken_late:
            for connection in self.main.connections:
                assert connection.received == b"".join(connection.requests)
        if row.instance_says is not None or row.answers != (200,) * len(requests):
            return
        # Each answer is the one to its own request, and they have the same id.
        for answer, request, request_id in zip(answers, requests, ids, strict=True):
            if not request.startswith(b"HEAD"):
                assert answer.body == request.partition(b"\r\n")[0]
            if request_id is not None:
                assert answer.header(b"x-request-id") == request_id

    def _compare(self, request: bytes, template: bytes, port: int) -> bytes | None:
        """Compare byte for byte; returns the request id if that was generated."""
        template = template.replace(b"<port>", b"%d" % port)
        template = template.replace(b"<instance>", b"127.0.0.1:%d" % self.main.port)
        pattern = re.escape(template)
        for name, generated in _GENERATED.items():
            pattern = pattern.replace(name, generated)
        match = re.fullmatch(pattern, request, re.DOTALL)
        if match is None:
            assert request == template
            raise AssertionError("the pattern does not match, but should")
        return match.groupdict().get("id")

    def _port(self, listener: str) -> int:
        gateway = self.trusting if listener.startswith("trusting") else self.plain
        number = 1 if listener.endswith("proxied") else 0
        host = gateway.service.ports[number].getHost()
        return int(getattr(host, "port", 0))

    def _forget(self) -> None:
        for upstream in (self.main, self.other):
            upstream.requests.clear()
            upstream.connections = [each for each in upstream.connections if each.lost is None]
            for connection in upstream.connections:
                connection.received = b""
                connection.requests.clear()


def _say_what_was_asked(connection: RecordedConnection, request: bytes) -> bytes:
    """An answer that can't be taken for the one to another request."""
    line = request.partition(b"\r\n")[0]
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(line)
    return head if line.startswith(b"HEAD ") else head + line
