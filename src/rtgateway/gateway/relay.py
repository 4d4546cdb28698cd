"""The answer of an instance, on its way to the client.

The head is written anew (framing and hop-by-hop fields are this hop's own, RFC 9110, 7.6.1);
payload is passed on as it comes. An answer that came whole leaves in one write. Backpressure: the
client's connection pauses ``client.source``, which is the `Answer` itself.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rtgateway.core.headers import HOP_BY_HOP, connection_options
from rtgateway.gateway.respond import connection_line, http_date
from rtgateway.upstream.connection import Answer
from rtgateway.wire.body import chunk, last_chunk
from rtgateway.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from rtgateway.core.deadlines import Wheel
    from rtgateway.gateway.exchange import Exchange

__all__ = ["is_event_stream", "relay"]

_NEVER = float("inf")
_WRITTEN_HERE = HOP_BY_HOP | {b"content-length", b"x-request-id"}
_PLAIN_CONNECTION = frozenset([b"", b"keep-alive", b"close", b"Keep-Alive", b"Close"])
_VIA = b"Via: 1.1 rtgateway\r\n"

_status_lines: dict[tuple[int, bytes], bytes] = {}


def is_event_stream(head: ResponseHead) -> bool:
    """Whether an answer is a stream of server-sent events (HTML Standard, 9.2)."""
    return head.content_type[:17].lower() == b"text/event-stream"


async def relay(exchange: Exchange, answer: Answer, heartbeats: Heartbeats | None) -> None:
    """Write ``answer`` to the client of ``exchange``; returns when its end is written.

    :raises UpstreamFailed: the answer broke off; what was promised can't be kept.
    """
    client = exchange.client
    head = answer.head
    body = answer.body
    exchange.status = head.status
    exchange.first_byte = monotonic()
    events = not answer.complete and is_event_stream(head)
    chunked = head.length < 0 and exchange.version == 11 and not exchange.to_head
    if exchange.body is not None and not exchange.body.ended:
        # The rest of the request may never come, and then nothing behind it can be read.
        exchange.keep_alive = False
    if head.length < 0 and exchange.version == 10:
        exchange.keep_alive = False
    lines = _head_lines(exchange, answer, chunked)
    exchange.started_answering = True
    exchange.bytes_out = len(body)
    if answer.complete:
        if chunked:
            body = (chunk(body) if body else b"") + last_chunk(_trailers(exchange, answer))
        lines.append(body)
        client.write(b"".join(lines))
        return
    lines.append(chunk(body) if chunked and body else body)
    client.write(b"".join(lines))
    await _stream(exchange, answer, chunked, heartbeats if events else None, events)


async def _stream(
    exchange: Exchange, answer: Answer, chunked: bool, heartbeats: Heartbeats | None, events: bool
) -> None:
    client = exchange.client
    sink: Stream
    if events:
        exchange.kind = "sse"
        exchange.between_bytes_timeout = _NEVER
        answer.endless()
    if heartbeats is not None and chunked and b"content-encoding" not in _keys(answer.head):
        sink = EventStream(exchange, chunked, answer.body, heartbeats)
    else:
        sink = Stream(exchange, chunked)
    client.source = answer
    if client.blocked:
        answer.pause()
    else:
        answer.resume()
    instance = exchange.chosen
    if events and instance is not None:
        instance.streams += 1
    try:
        last = await answer.stream_to(sink)
    finally:
        client.source = None
        sink.close()
        if events and instance is not None:
            instance.streams -= 1
    exchange.bytes_out += len(last)
    if chunked:
        last = (chunk(last) if last else b"") + last_chunk(_trailers(exchange, answer))
    if last:
        client.write(last)


class Stream:
    """Payload to the client as it comes."""

    __slots__ = ("_chunked", "_exchange", "_write")

    def __init__(self, exchange: Exchange, chunked: bool) -> None:
        self._exchange = exchange
        self._chunked = chunked
        self._write = exchange.client.write

    def payload(self, data: bytes) -> None:
        self._exchange.bytes_out += len(data)
        self._write(chunk(data) if self._chunked else data)

    def close(self) -> None:
        """The stream has ended."""


class Heartbeats:
    """What keeps silent event streams alive through other people's proxies.

    :param interval: seconds of silence after which a comment line is sent.
    """

    __slots__ = ("interval", "wheel")

    def __init__(self, interval: float, wheel: Wheel) -> None:
        self.interval = interval
        self.wheel = wheel


class EventStream(Stream):
    """A stream of events with comments in its silences (HTML Standard, 9.2.6: ``:`` lines)."""

    __slots__ = ("_heartbeats", "_last", "deadline")

    def __init__(
        self, exchange: Exchange, chunked: bool, begun: bytes, heartbeats: Heartbeats
    ) -> None:
        super().__init__(exchange, chunked)
        self._heartbeats = heartbeats
        self._last = begun[-1:]
        now = monotonic()
        self.deadline = now + heartbeats.interval
        heartbeats.wheel.add(self, now)

    def payload(self, data: bytes) -> None:
        super().payload(data)
        self._last = data[-1:]
        self.deadline = monotonic() + self._heartbeats.interval

    def expired(self, now: float) -> None:
        """Silent for a whole interval (called by the sweep)."""
        self.deadline = now + self._heartbeats.interval
        # Only at the start of a line is a comment a comment. Behind a CR an LF may still follow.
        if self._last in (b"", b"\n"):
            self._write(chunk(b":\n"))

    def close(self) -> None:
        self._heartbeats.wheel.discard(self)


def _head_lines(exchange: Exchange, answer: Answer, chunked: bool) -> list[bytes]:
    head = answer.head
    status = _status_lines.get((head.status, head.reason))
    if status is None:
        status = _new_status_line(head)
    lines = [status]
    dropped = _WRITTEN_HERE
    if head.connection not in _PLAIN_CONNECTION:
        dropped = dropped | connection_options([head.connection])
    dated = False
    for key, name, value in head.fields:
        if key not in dropped:
            lines += (name, b": ", value, b"\r\n")
            if key == b"date":
                dated = True
    if not dated:
        lines.append(b"Date: %b\r\n" % http_date())
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif head.announced >= 0:
        lines.append(b"Content-Length: %d\r\n" % head.announced)
    lines += (b"X-Request-Id: ", exchange.request_id, b"\r\n", _VIA)
    if not exchange.keep_alive or exchange.version == 10:
        lines.append(connection_line(exchange))
    lines.append(b"\r\n")
    return lines


def _new_status_line(head: ResponseHead) -> bytes:
    if len(_status_lines) >= 512:
        _status_lines.clear()
    line = b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
    _status_lines[head.status, head.reason] = line
    return line


def _keys(head: ResponseHead) -> frozenset[bytes]:
    return frozenset(key for key, _, _ in head.fields)


def _trailers(exchange: Exchange, answer: Answer) -> list[tuple[bytes, bytes]]:
    return answer.trailers if answer.trailers and exchange.takes_trailers else []
