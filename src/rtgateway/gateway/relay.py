"""The answer of an instance, on its way to the client.

The head is written anew (framing and hop-by-hop fields are this hop's own, RFC 9110, 7.6.1);
payload is passed on as it comes. An answer that came whole leaves in one write. Backpressure: the
client's connection pauses ``client.source``, which is the `Answer` itself.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rtgateway.gateway.exchange import VIA, Exchange
from rtgateway.gateway.limits.answers import QUOTA_LINES
from rtgateway.gateway.respond import connection_line, http_date
from rtgateway.upstream.answer import Answer
from rtgateway.wire.body import chunk, last_chunk
from rtgateway.wire.http1 import QUOTA_FIELDS, ResponseHead
from rtgateway.wire.lines import end_to_end

if TYPE_CHECKING:
    from rtgateway.core.deadlines import Wheel

__all__ = ["Heartbeats", "is_event_stream", "relay_stream", "relay_whole"]

_NEVER = float("inf")


def is_event_stream(head: ResponseHead) -> bool:
    """Whether an answer is a stream of server-sent events (HTML Standard, 9.2)."""
    return head.named.get(b"content-type", b"")[:17].lower() == b"text/event-stream"


def relay_whole(exchange: Exchange, answer: Answer) -> None:
    """Write an answer that has come whole, in one go."""
    chunked = _begin(exchange, answer)
    body = answer.body
    if chunked:
        body = (chunk(body) if body else b"") + last_chunk(_trailers(exchange, answer))
    exchange.client.write(_message(exchange, answer.head, chunked, body))


async def relay_stream(exchange: Exchange, answer: Answer, heartbeats: Heartbeats | None) -> None:
    """Write an answer as it comes; returns when its end is written.

    :raises UpstreamFailed: the answer broke off; what was promised can't be kept.
    """
    client, body = exchange.client, answer.body
    chunked = _begin(exchange, answer)
    first = chunk(body) if chunked and body else body
    client.write(_message(exchange, answer.head, chunked, first))
    events = is_event_stream(answer.head)
    if events:
        exchange.kind = "sse"
        answer.endless()
    sink = Stream(exchange, chunked)
    # Comments can't be slipped into what is compressed, nor into what has a length.
    open_text = chunked and b"content-encoding" not in answer.head.named
    if events and heartbeats is not None and open_text:
        sink = EventStream(exchange, chunked, body, heartbeats)
    last = await _pass_on(exchange, answer, sink, events)
    exchange.bytes_out += len(last)
    if chunked:
        last = (chunk(last) if last else b"") + last_chunk(_trailers(exchange, answer))
    if last:
        client.write(last)


async def _pass_on(exchange: Exchange, answer: Answer, sink: Stream, events: bool) -> bytes:
    """Hand payload on until its end; the last of it."""
    client, instance = exchange.client, exchange.chosen
    client.source = answer
    if client.blocked:
        answer.pause()
    else:
        answer.resume()
    if instance is not None:
        instance.streams += events
    try:
        return await answer.stream_to(sink)
    finally:
        client.source = None
        sink.close()
        if instance is not None:
            instance.streams -= events


def _begin(exchange: Exchange, answer: Answer) -> bool:
    """Take down what the client is told; whether it is told in chunks."""
    head = answer.head
    exchange.status = head.status
    exchange.first_byte = answer.came
    exchange.started_answering = True
    exchange.bytes_out = len(answer.body)
    if exchange.body is not None and not exchange.body.ended:
        # The rest of the request may never come, and then nothing behind it can be read.
        exchange.keep_alive = False
    if head.length >= 0:
        return False
    if exchange.version == 11:
        return True
    exchange.keep_alive = False
    return False


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


def _message(exchange: Exchange, head: ResponseHead, chunked: bool, payload: bytes) -> bytes:
    """The head for the client, and the first of the payload, framed."""
    # For most clients nothing differs from one exchange to the next but the request id and what is
    # left of their limits, which stands behind it.
    alike = exchange.keep_alive and exchange.version == 11 and not exchange.answer_lines
    parts = head.memo
    quota = exchange.quota
    if quota and not QUOTA_FIELDS.isdisjoint(head.named) and quota.startswith(QUOTA_LINES):
        # Of two values of one of these fields nobody knows which one is meant.
        parts = _around_the_id(exchange, head, chunked, head.without(QUOTA_FIELDS))
    elif parts is None or not alike:
        parts = _around_the_id(exchange, head, chunked, head.passed_on)
        if alike and b"date" in head.named:
            head.memo = parts
    return b"".join((parts[0], exchange.request_id, quota, parts[1], payload))


def _around_the_id(
    exchange: Exchange, head: ResponseHead, chunked: bool, passed_on: bytes
) -> tuple[bytes, bytes]:
    """What the head says in front of the request id, and behind it."""
    length = head.announced
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    else:
        framing = b"Content-Length: %d\r\n" % length if length >= 0 else b""
    if b"date" not in head.named:
        framing += b"Date: %b\r\n" % http_date()
    if not exchange.keep_alive or exchange.version == 10:
        framing += connection_line(exchange)
    framing += exchange.answer_lines
    return (
        b"%b%bX-Request-Id: " % (passed_on, framing),
        b"\r\n%b\r\n" % VIA[head.version],
    )


def _trailers(exchange: Exchange, answer: Answer) -> list[tuple[bytes, bytes]]:
    if not answer.trailers or not exchange.takes_trailers:
        return []
    return end_to_end(list(answer.trailers), answer.head.named.get(b"connection"))
