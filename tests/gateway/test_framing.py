"""Whatever is forwarded has one framing, and it is the one that was accepted.

Requests and answers go through everything but sockets; what comes out is read by h11, a parser that
knows nothing of ours.
"""

from __future__ import annotations

from typing import Any, cast

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.core.forwarded import TrustedProxies
from rtgateway.errors import GatewayError
from rtgateway.gateway.body import RequestBody
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.relay import relay_whole
from rtgateway.gateway.route import Route
from rtgateway.service import Gateway, make_service
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.connection import Connection
from rtgateway.web.peer import Peer
from rtgateway.wire.body import decoder_for
from rtgateway.wire.http1 import HeadLimits, RequestHead, RequestParser, ResponseParser
from rtgateway.wire.lines import end_to_end
from tests.core.profile import PROPERTY
from tests.wire.messages import answers, requests
from tests.wire.splits import mutated

_NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
_LIMITS = HeadLimits()


class _Client:
    """The connection that a request came on."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def _gateway() -> Gateway:
    settings = {
        "services": {"main": "http://127.0.0.1:1"},
        "routes": [{"path": "/", "service": "main"}],
    }
    return make_service(config.from_dict(settings), Clock(), own_process=False)


class Read:
    """A message as an independent parser reads it."""

    def __init__(self, reader: h11.Connection) -> None:
        self.head: Any = None
        self.payload = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.complete = False
        while not self.complete:
            event = reader.next_event()
            if isinstance(event, h11.Request | h11.Response):
                self.head = event
            elif isinstance(event, h11.Data):
                self.payload += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.trailers = list(event.headers)
                self.complete = True
            elif event in (h11.NEED_DATA, h11.PAUSED):
                break
        self.rest = reader.trailing_data[0]

    def all(self, name: bytes) -> list[bytes]:
        """The values of a field."""
        return [value for key, value in self.head.headers if key == name]


def _request_read(data: bytes) -> Read:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    return Read(reader)


class RequestFramingTests(SynchronousTestCase):
    """From the client's bytes to those for an instance."""

    def setUp(self) -> None:
        self.gateway = _gateway()
        self.peer = Peer("192.0.2.1", b"http", 80, TrustedProxies())

    def _forwarded(self, data: bytes) -> tuple[RequestHead, bytes, bytes, bytes] | None:
        """Head, payload, rest and forwarded bytes of the first request in ``data``.

        None if it is refused, answered here, or not complete.
        """
        try:
            parser = RequestParser(_LIMITS)
            head = parser.feed(data)
            if head is None:
                return None
            exchange = Exchange(cast("Any", _Client()), head, 0.0)
            payload, rest = b"", parser.rest
            if head.length:
                decoder = decoder_for(head.length, 8192)
                payload = decoder.feed(rest)
                if not decoder.done:
                    return None
                rest = decoder.rest
                body = exchange.body = RequestBody(exchange.client, head.length)
                body.received(payload)
                body.finished(end_to_end(decoder.trailers, head.named.get(b"connection")))
        except GatewayError:
            return None
        destination = self.gateway.site.admit(exchange, self.peer)
        if not isinstance(destination, Route):
            return None
        exchange.route = destination
        forwarded = exchange.head_for(destination.service.instances[0])
        if exchange.body is not None:
            body = exchange.body
            forwarded += Connection._framed(payload, True, body.chunked, body.trailers)
        return head, payload, rest, forwarded

    def _check(self, data: bytes) -> bool:
        result = self._forwarded(data)
        if result is None:
            return False
        head, payload, rest, forwarded = result
        read = _request_read(forwarded + _NEXT)
        self.assertEqual((read.head.method, read.payload), (head.method, payload))
        self.assertTrue(read.complete)
        self.assertEqual(read.rest, _NEXT)
        self.assertEqual(len(read.all(b"host")), 1)
        framings = read.all(b"content-length") + read.all(b"transfer-encoding")
        self.assertLessEqual(len(framings), 1)
        for name in (b"keep-alive", b"proxy-connection", b"upgrade", b"trailer"):
            self.assertEqual(read.all(name), [])
        # And who reads the original another way than we do is not the reason for the difference.
        try:
            original = _request_read(data)
        except h11.RemoteProtocolError:
            return True
        if original.complete:
            self.assertEqual((original.payload, original.rest), (payload, rest))
        return True

    @PROPERTY
    @given(mutated(st.builds(lambda first, second: first + second, requests(), requests())))
    def test_any_request(self, data: bytes) -> None:
        """What is accepted is read by the instance as it was read here; nothing else goes out."""
        if data:
            self._check(data)

    def test_the_good_ones_get_through(self) -> None:
        """The property above is not true for want of requests."""
        for fields, body in (
            (b"", b""),
            (b"Content-Length: 0\r\n", b""),
            (b"Content-Length: 05\r\nConnection: content-length\r\n", b"hello"),
            (b"Transfer-Encoding: chunked\r\n", b"5;a\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
            (b"transfer-encoding: CHUNKED\r\nUpgrade: x\r\nConnection: upgrade\r\n", b"0\r\n\r\n"),
            (b"TE: trailers\r\nTrailer: X\r\nProxy-Connection: close\r\n", b""),
        ):
            data = b"PUT /x HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body + _NEXT
            self.assertTrue(self._check(data), data)


class AnswerFramingTests(SynchronousTestCase):
    """From an instance's bytes to those for the client."""

    def _relayed(self, data: bytes, method: bytes) -> tuple[bytes, bytes] | None:
        """Payload of a complete answer and what the client gets; None for any other answer."""
        try:
            parser = ResponseParser(_LIMITS)
            parser.to_head = method == b"HEAD"
            head = parser.feed(data)
            if head is None or head.status < 200 or head.length == -2:
                return None
            decoder = decoder_for(head.length, 8192)
            payload = decoder.feed(parser.rest) if not decoder.done else b""
            if not decoder.done or decoder.rest or (not head.length and parser.rest):
                return None
        except GatewayError:
            return None
        client = _Client()
        request = RequestHead(method, b"/", 11, [])
        exchange = Exchange(cast("Any", client), request, 0.0)
        exchange.request_id = b"1"
        answer = Answer(cast("Any", None), head)
        answer.body, answer.complete, answer.trailers = payload, True, decoder.trailers
        relay_whole(exchange, answer)
        return payload, client.written

    def _check(self, data: bytes, method: bytes) -> bool:
        result = self._relayed(data, method)
        if result is None:
            return False
        payload, written = result
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(written + b"HTTP/1.1 200 Next\r\n\r\n")
        read = Read(reader)
        self.assertTrue(read.complete)
        self.assertEqual(read.payload, payload)
        self.assertEqual(read.rest, b"HTTP/1.1 200 Next\r\n\r\n")
        self.assertEqual(read.all(b"x-request-id"), [b"1"])
        self.assertNotEqual(read.all(b"date"), [])
        framings = read.all(b"content-length") + read.all(b"transfer-encoding")
        self.assertLessEqual(len(framings), 1)
        for name in (b"keep-alive", b"upgrade", b"trailer"):
            self.assertEqual(read.all(name), [])
        return True

    @PROPERTY
    @given(mutated(answers()), st.sampled_from([b"GET", b"HEAD"]))
    def test_any_answer(self, data: bytes, method: bytes) -> None:
        """What is accepted is read by the client as it was read here; the rest is a 502."""
        if data:
            self._check(data, method)

    def test_the_good_ones_get_through(self) -> None:
        """The property above is not true for want of answers."""
        for method, head, body in (
            (b"GET", b"200 OK\r\nContent-Length: 05\r\n", b"hello"),
            (b"GET", b"200 OK\r\nTransfer-Encoding: chunked\r\n", b"5;a\r\nhello\r\n0\r\n\r\n"),
            (b"GET", b"204 None\r\nContent-Length: 0\r\n", b""),
            (b"GET", b"304 Same\r\nContent-Length: 5\r\n", b""),
            (b"HEAD", b"200 OK\r\nContent-Length: 5\r\nKeep-Alive: 1\r\n", b""),
            (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked\r\n", b""),
        ):
            data = b"HTTP/1.1 " + head + b"\r\n" + body
            self.assertTrue(self._check(data, method), data)
