"""What an end-to-end test starts: instances, gateways, clients. All of it is stopped afterwards.

A `World` also looks at what is left behind: no request in flight, no connection to an instance,
no client, and no error in the log that the test did not expect.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher

from rtgateway.testing import (
    RawClient,
    RecordedConnection,
    RecordingUpstream,
    RunningGateway,
    eventually,
    start_gateway,
)
from rtgateway.upstream.instance import Instance

__all__ = ["World", "event_stream", "get", "only_instance", "post", "with_length"]

Answer = bytes | Sequence[bytes] | None
Answering = Callable[[RecordedConnection, bytes], Answer]


def get(path: str = "/api/main/", *lines: str, version: str = "1.1") -> bytes:
    """A GET request."""
    return _head(f"GET {path} HTTP/{version}", lines)


def post(path: str, body: bytes, *lines: str) -> bytes:
    """A POST request of known length."""
    return _head(f"POST {path} HTTP/1.1", (f"Content-Length: {len(body)}", *lines)) + body


def with_length(body: bytes, *lines: str) -> bytes:
    """An answer of known length."""
    head = "\r\n".join(("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "", ""))
    return head.encode() + body


def event_stream(*lines: str) -> bytes:
    """The head of a chunked stream of events."""
    kind = ("Content-Type: text/event-stream", "Transfer-Encoding: chunked")
    return "\r\n".join(("HTTP/1.1 200 OK", *kind, *lines, "", "")).encode()


def _head(first: str, lines: Sequence[str]) -> bytes:
    return "\r\n".join((first, "Host: test", *lines, "", "")).encode()


class World:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._gateways: list[RunningGateway] = []
        self._upstreams: list[RecordingUpstream] = []
        self._clients: list[RawClient] = []
        self._logs: dict[RunningGateway, Path] = {}
        self._errors: list[str] = []
        globalLogPublisher.addObserver(cast(ILogObserver, self._observe))

    async def upstream(self, answer: Answer | Answering = None) -> RecordingUpstream:
        """An instance; unless told otherwise it answers nothing by itself."""
        upstream = await RecordingUpstream.listening(answer)
        self.keep(upstream)
        return upstream

    def keep(self, upstream: RecordingUpstream) -> None:
        """Stop this one too in the end."""
        self._upstreams.append(upstream)

    async def gateway(
        self, main: RecordingUpstream | str | Mapping[str, Any], **settings: Any
    ) -> RunningGateway:
        """A gateway in front of a service ``main``: its one instance, or all its settings."""
        log = self.folder / f"access-{len(self._gateways)}.log"
        service = main.url if isinstance(main, RecordingUpstream) else main
        gateway = await start_gateway(
            {
                "services": {"main": service},
                "access_log": {"file": str(log), "flush": "50ms"},
                "shutdown": {"grace": 0},
                **settings,
            }
        )
        self._gateways.append(gateway)
        self._logs[gateway] = log
        return gateway

    async def client(self, gateway: RunningGateway, request: bytes = b"") -> RawClient:
        """A client that has sent ``request``."""
        client = await RawClient.connect(gateway.port)
        self._clients.append(client)
        if request:
            client.send(request)
        return client

    async def logged(self, gateway: RunningGateway, number: int = 1) -> list[dict[str, Any]]:
        """The first lines of the access log, waiting for that many."""
        path = self._logs[gateway]

        def lines() -> list[dict[str, Any]] | None:
            complete = path.read_text().split("\n")[:-1] if path.exists() else []
            return [json.loads(line) for line in complete] if len(complete) >= number else None

        return await eventually(lines)

    async def at_rest(self, gateway: RunningGateway) -> None:
        """Wait until no request is in flight and no connection to an instance is lent."""
        await eventually(
            lambda: all(
                (each.inflight, each.streams, each.pool.waiting) == (0, 0, 0)
                and each.pool.open == len(each.pool.idle)
                for each in gateway.service.instances()
            )
        )

    async def end(self) -> None:
        """Stop everything, and see that nothing is left."""
        for client in self._clients:
            if client.lost is None:
                client.abort()
        for gateway in self._gateways:
            if gateway.service.running:
                await gateway.stop()
            await self.at_rest(gateway)
            assert not gateway.service.site.channels
            assert [each.pool.open for each in gateway.service.instances()] == [
                0 for _ in gateway.service.instances()
            ]
        for upstream in self._upstreams:
            await upstream.stop()
        gc.collect()  # a Deferred tells of a failure that nobody took when it goes
        globalLogPublisher.removeObserver(cast(ILogObserver, self._observe))
        assert not self._errors, "\n".join(self._errors)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            trace = failure.getTraceback() if failure is not None else ""
            self._errors.append(f"{formatEvent(event)}\n{trace}")


def only_instance(gateway: RunningGateway) -> Instance:
    """The instance of a gateway that has one."""
    (instance,) = gateway.service.instances()
    return instance
