"""Both handshakes, alone and against whole Autobahn connections.

The latter is what would notice that Autobahn decides another way than it did: the gateway uses
parts of it that are not documented.
"""

from __future__ import annotations

import gc
import re
import sys
from typing import Any

from autobahn.twisted import websocket as autobahn
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponseAccept,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtgateway.errors import GatewayError, UpstreamFailed
from rtgateway.wire.http1 import HeadLimits, ResponseHead, ResponseParser
from rtgateway.ws import handshake
from rtgateway.ws.handshake import Agreed, passed_down
from rtgateway.ws.upgrade import Terms, Upgrade, read_upgrade
from tests.core.profile import PROPERTY
from tests.wire.splits import mutated
from tests.ws.asking import KEY, accept_of, answer, ask, exchange_of, sent_key, upgrade_of

_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
_OFFERS = ask(b"Sec-WebSocket-Protocol: chat, mqtt", _DEFLATE)

_ANSWER = (
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: 1\r\n"
    b"Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: chat\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n\r\n"
)


def _extensions(value: bytes) -> bytes:
    return b"Sec-WebSocket-Extensions: " + value


class VerifyTests(SynchronousTestCase):
    """What an instance may say."""

    def verified(self, *more: bytes, offers: bytes = _OFFERS, **other: bytes) -> Agreed:
        _, upgrade = upgrade_of(offers)
        return upgrade.verify(answer(upgrade, *more, **other))

    def test_agreed(self) -> None:
        for more, agreed in (
            ((), Agreed()),
            ((b"Sec-WebSocket-Protocol: mqtt",), Agreed("mqtt")),
            ((b"Sec-WebSocket-Protocol:",), Agreed()),
            ((b"sec-websocket-extensions:",), Agreed()),
            ((b"Server: caf\xe9\x85", b"Set-Cookie: a=\xff"), Agreed()),
            ((b"X: Sec-WebSocket-Accept: x",), Agreed()),
            ((b"Connection: keep-alive",), Agreed()),
        ):
            self.assertEqual(self.verified(*more), agreed)

    def test_spellings(self) -> None:
        for drop, line in (
            (b"Upgrade", b"UPGRADE: WebSocket"),
            (b"Connection", b"connection: keep-alive, UPGRADE"),
        ):
            self.assertEqual(self.verified(line, drop=drop), Agreed())
        self.assertEqual(self.verified(first=b"HTTP/1.1 101 caf\xe9"), Agreed())
        self.assertEqual(self.verified(first=b"HTTP/1.1 101"), Agreed())

    def test_compressed(self) -> None:
        """The instance's words are kept to the letter."""
        for value in (
            b"permessage-deflate",
            b"Permessage-Deflate",
            b"permessage-deflate;server_no_context_takeover ; client_max_window_bits=10",
            b'permessage-deflate; client_max_window_bits="15"',
            b"permessage-deflate; server_max_window_bits=8; client_max_window_bits=8",
        ):
            agreed = self.verified(_extensions(value), b"Sec-WebSocket-Protocol: chat")
            self.assertEqual(agreed, Agreed("chat", value, compressed=True))

    def test_refused(self) -> None:
        _, upgrade = upgrade_of(_OFFERS)
        right = b"Sec-WebSocket-Accept: "
        rows: list[tuple[str, tuple[bytes, ...], dict[str, Any]]] = [
            ("HTTP/1.0", (), {"first": b"HTTP/1.0 101 x"}),
            ("another status", (), {"first": b"HTTP/1.1 200 OK"}),
            ("no Upgrade", (), {"drop": b"Upgrade"}),
            ("another Upgrade", (b"Upgrade: h2c",), {"drop": b"Upgrade"}),
            ("several", (b"Upgrade: WebSocket, foo",), {"drop": b"Upgrade"}),
            ("Upgrade twice", (b"Upgrade: websocket",), {}),
            ("no Connection", (), {"drop": b"Connection"}),
            ("another Connection", (b"Connection: close",), {"drop": b"Connection"}),
            ("no accept", (), {"drop": b"Sec-WebSocket-Accept"}),
            ("an empty accept", (right,), {"drop": b"Sec-"}),
            ("for the client's key", (right + accept_of(KEY),), {"drop": b"Sec-"}),
            ("accept in lower case", (right + b"s3pplmbitxaq9kygzzhzrbk+xoo=",), {"drop": b"Sec-"}),
            ("accept twice", (right + b"x",), {}),
            ("beyond ASCII", (right + b"caf\xe9",), {"drop": b"Sec-"}),
            ("a line end of Autobahn's", (right + b"x\x85X: y",), {"drop": b"Sec-"}),
            ("not offered", (b"Sec-WebSocket-Protocol: soap",), {}),
            ("in another case", (b"Sec-WebSocket-Protocol: Chat",), {}),
            ("two subprotocols", (b"Sec-WebSocket-Protocol: chat, mqtt",), {}),
            ("in two fields", tuple(b"Sec-WebSocket-Protocol: " + p for p in (b"a", b"b")), {}),
            ("another extension", (_extensions(b"x-webkit-deflate-frame"),), {}),
            ("another compression", (_extensions(b"permessage-bzip2"),), {}),
            ("twice", (_extensions(b"permessage-deflate, permessage-deflate"),), {}),
            ("extensions twice", (_extensions(b"permessage-deflate"),) * 2, {}),
            ("a parameter", (_extensions(b"permessage-deflate; x=1"),), {}),
            ("a parameter twice", (_extensions(b"permessage-deflate" + b"; x" * 2),), {}),
        ]
        rows += [
            (f"a window of {bits!r}", (_extensions(_window(bits)),), {})
            for bits in (b"7", b"16", b"x", b"", b"08")
        ]
        for name, more, other in rows:
            failure = self.assertRaises(UpstreamFailed, self.verified, *more, **other)
            self.assertEqual((failure.kind, failure.code), ("invalid", "upstream_invalid"), name)
            self.assertEqual((failure.status, failure.retryable), (502, False), name)
            self.assertRegex(failure.detail, "^its WebSocket handshake is not valid: .", name)
            self.assertLess(len(failure.detail), 300)
        self.assertEqual(upgrade.verify(answer(upgrade)), Agreed())

    def test_nothing_offered(self) -> None:
        for more in (_extensions(b"permessage-deflate"), b"Sec-WebSocket-Protocol: chat"):
            self.assertRaises(UpstreamFailed, self.verified, more, offers=ask())

    def test_the_pair_is_not_offered(self) -> None:
        """An instance that names what the gateway took out has not read what it was sent."""
        _, upgrade = upgrade_of(ask(b"Sec-WebSocket-Protocol: bearer, a"), _AUTH)
        for name in (b"bearer", b"a"):
            head = answer(upgrade, b"Sec-WebSocket-Protocol: " + name)
            self.assertRaises(UpstreamFailed, upgrade.verify, head)

    def test_long_words(self) -> None:
        """What an instance says is not kept at any length."""
        failure = self.assertRaises(
            UpstreamFailed, self.verified, b"Sec-WebSocket-Protocol: " + b"x" * 9000
        )
        self.assertLess(len(failure.detail), 300)

    @PROPERTY
    @given(mutated(st.just(_ANSWER)))
    def test_any_answer(self, data: bytes) -> None:
        """One with mistakes is the instance's failure, unless nothing that counts is touched."""
        _, upgrade = upgrade_of(_OFFERS)
        accept = accept_of(sent_key(upgrade))
        try:
            head = ResponseParser(HeadLimits()).feed(data.replace(b"ACCEPT", accept))
            if head is None:
                return
            agreed = upgrade.verify(head)
        except UpstreamFailed as failure:
            self.assertEqual(failure.kind, "invalid")
            return
        values = {key: value for key, _, value in head.fields}
        self.assertEqual(values[b"upgrade"].lower(), b"websocket")
        self.assertIn(b"upgrade", values[b"connection"].lower().split(b","))
        self.assertEqual(values[b"sec-websocket-accept"], accept)
        self.assertEqual(
            values.get(b"sec-websocket-protocol", b""), (agreed.protocol or "").encode()
        )
        self.assertEqual(values.get(b"sec-websocket-extensions", b""), agreed.extensions)


def _window(bits: bytes) -> bytes:
    return b"permessage-deflate; server_max_window_bits=" + bits


_AUTH = Terms(takes_token=True)


class AcceptTests(SynchronousTestCase):
    """What the client is told."""

    def test_plain(self) -> None:
        """RFC 6455, 1.3, has this key and its answer."""
        _, upgrade = upgrade_of(ask())
        self.assertEqual(
            upgrade.accept(Agreed(), [(b"X-Request-Id", b"r-1")]),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Request-Id: r-1\r\n\r\n",
        )

    def test_headers_to_the_letter(self) -> None:
        """Fields stay in their order, bytes stay bytes, and nothing is added."""
        _, upgrade = upgrade_of(ask())
        headers = [
            (b"Set-Cookie", b"a=\xff\xfe"),
            (b"X-A", b"caf\xc3\xa9 \x85"),
            (b"set-cookie", b"b=2"),
            (b"Set-Cookie", b"c=3"),
        ]
        plain = upgrade.accept(Agreed(), [])
        self.assertNotIn(b"Server", plain)
        lines = b"".join(b"%b: %b\r\n" % field for field in headers)
        self.assertEqual(upgrade.accept(Agreed(), headers), plain[:-2] + lines + b"\r\n")

    def test_agreed(self) -> None:
        value = b"Permessage-Deflate ;server_max_window_bits=8;  client_no_context_takeover"
        _, upgrade = upgrade_of(_OFFERS)
        written = upgrade.accept(Agreed("mqtt", value, compressed=True), [])
        self.assertIn(b"\r\nSec-WebSocket-Protocol: mqtt\r\n", written)
        self.assertIn(b"\r\nSec-WebSocket-Extensions: %b\r\n" % value, written)

    def test_bearer(self) -> None:
        """Who offered the pair is told of the scheme, as it was spelt, if of nothing else."""
        _, upgrade = upgrade_of(ask(b"Sec-WebSocket-Protocol: chat, BeareR, a"), _AUTH)
        for agreed, told in ((Agreed(), b"BeareR"), (Agreed("chat"), b"chat")):
            written = upgrade.accept(agreed, [])
            self.assertEqual(re.findall(rb"Sec-WebSocket-Protocol: (.*)\r\n", written), [told])

    def test_passed_down(self) -> None:
        """What of the instance's answer is the client's to know."""
        _, upgrade = upgrade_of(_OFFERS)
        head = answer(
            upgrade,
            b"Server: caf\xe9",
            b"Set-Cookie: a=1",
            b"Content-Length: 0",
            b"X-Hop: 1",
            b"Keep-Alive: timeout=5",
            b"Connection: x-hop",
            b"X-Request-Id: theirs",
            b"Sec-WebSocket-Protocol: chat",
            b"set-cookie: b=2",
        )
        self.assertEqual(
            passed_down(head),
            [(b"Server", b"caf\xe9"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2")],
        )


class QuietTests(SynchronousTestCase):
    """Handshakes leave nothing behind."""

    def test_no_log(self) -> None:
        """Not one event, whatever the level, for what succeeds or fails."""
        events: list[LogEvent] = []

        @implementer(ILogObserver)
        def observer(event: LogEvent) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self._both()
        self.assertEqual(events, [])

    def test_no_garbage(self) -> None:
        """Nothing waits for the collector, and nothing is kept."""
        self._both()
        # (A parser of heads and llhttp's refer to each other, so that these are made before.)
        exchanges = [exchange_of(_OFFERS) for _ in range(20)]
        _, other = upgrade_of(_OFFERS)
        agreed, refused = answer(other, b"X: 1"), answer(other, b"Upgrade: x")
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for exchange in exchanges:
            upgrade = read_upgrade(exchange, _AUTH)
            assert upgrade is not None
            other.accept(other.verify(agreed), passed_down(agreed))
            self._fails(other, refused)
        self.assertEqual(gc.collect(), 0)
        made_for_one = handshake._Client, handshake._Server
        kept = [one for one in gc.get_objects() if type(one) in made_for_one]
        self.assertEqual(kept, [])

    def _both(self) -> None:
        _, upgrade = upgrade_of(_OFFERS)
        head = answer(upgrade, _extensions(b"permessage-deflate"), b"Sec-WebSocket-Protocol: chat")
        upgrade.accept(upgrade.verify(head), passed_down(head))
        self._fails(upgrade, answer(upgrade, drop=b"Upgrade"))
        self._fails(upgrade, answer(upgrade, b"Upgrade: x"))

    def _fails(self, upgrade: Upgrade, head: ResponseHead) -> None:
        try:
            upgrade.verify(head)
        except UpstreamFailed:
            return
        self.fail("it was verified")

    def test_no_reactor(self) -> None:
        """No timer, and no reactor that somebody did not choose."""
        before = "twisted.internet.reactor" in sys.modules
        self._both()
        self.assertEqual("twisted.internet.reactor" in sys.modules, before)


# -- whole Autobahn connections ---------------------------------------------------------------


class _Transport(StringTransport):
    """One that is told of producers that are none, as real ones are."""

    def unregisterProducer(self) -> None: ...


class _Server:
    """An instance that is Autobahn."""

    protocol: Any

    def __init__(self, protocols: list[str], deflate: bool) -> None:
        factory = autobahn.WebSocketServerFactory(protocols=protocols, reactor=Clock())
        factory.setProtocolOptions(
            openHandshakeTimeout=0,
            autoPingInterval=0,
            perMessageCompressionAccept=_take_deflate if deflate else None,
        )

        class Protocol(autobahn.WebSocketServerProtocol):
            def onConnect(self, request: Any) -> str | None:
                return next((name for name in request.protocols if name in protocols), None)

        factory.protocol = Protocol
        self.protocol = factory.buildProtocol(None)
        self.transport = _Transport()
        self.protocol.makeConnection(self.transport)

    def answer(self, request: bytes) -> bytes:
        self.protocol.dataReceived(request)
        return bytes(self.transport.value())


def _take_deflate(offers: list[Any]) -> PerMessageDeflateOfferAccept | None:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


class _Client:
    """A client that is Autobahn."""

    protocol: Any

    def __init__(self, protocols: list[str], deflate: bool) -> None:
        factory = autobahn.WebSocketClientFactory(
            "ws://a.example/chat?x=1", protocols=protocols, reactor=Clock()
        )
        factory.setProtocolOptions(
            openHandshakeTimeout=0,
            perMessageCompressionOffers=[PerMessageDeflateOffer()] if deflate else [],
            perMessageCompressionAccept=PerMessageDeflateResponseAccept,
        )
        factory.protocol = autobahn.WebSocketClientProtocol
        self.protocol = factory.buildProtocol(None)
        self.transport = _Transport()
        self.protocol.makeConnection(self.transport)

    @property
    def request(self) -> bytes:
        return bytes(self.transport.value())

    def takes(self, data: bytes) -> bool:
        self.protocol.dataReceived(data)
        return bool(self.protocol.state == self.protocol.STATE_OPEN)


def _sent_on(upgrade: Upgrade, more: bytes = b"") -> bytes:
    return b"GET /chat HTTP/1.1\r\nHost: b.example\r\n%b%b\r\n" % (more, upgrade.lines)


class AutobahnTests(SynchronousTestCase):
    """The gateway between a client and an instance that are whole Autobahn connections."""

    def _between(
        self, client: _Client, server: _Server, terms: Terms | None = None
    ) -> tuple[Agreed, bytes]:
        exchange, upgrade = upgrade_of(client.request, terms)
        head = ResponseParser(HeadLimits()).feed(
            server.answer(_sent_on(upgrade, exchange.head.passed_on))
        )
        assert head is not None
        self.assertEqual(head.status, 101)
        agreed = upgrade.verify(head)
        written = upgrade.accept(agreed, [*passed_down(head), (b"X-A", b"a")])
        self.assertTrue(client.takes(written), written)
        return agreed, written

    def test_all_that_can_be_agreed(self) -> None:
        for offered, known, selected in (
            ([], [], None),
            (["chat", "mqtt"], ["mqtt"], "mqtt"),
            (["chat"], ["mqtt"], None),
        ):
            for offers in (False, True):
                for takes in (False, True):
                    client, server = _Client(offered, offers), _Server(known, takes)
                    agreed, written = self._between(client, server)
                    self.assertEqual(agreed.protocol, selected)
                    self.assertEqual(client.protocol.websocket_protocol_in_use, selected)
                    self.assertEqual(agreed.compressed, offers and takes)
                    inflates = client.protocol._perMessageCompress is not None
                    self.assertEqual(inflates, offers and takes)
                    self.assertEqual(b"Extensions" in written, offers and takes)
                    self.assertIn(b"\r\nServer: AutobahnPython", written)

    def test_bearer(self) -> None:
        client, server = _Client(["bearer", "a.b.c"], False), _Server([], False)
        agreed, _ = self._between(client, server, _AUTH)
        self.assertEqual(agreed, Agreed())
        self.assertEqual(client.protocol.websocket_protocol_in_use, "bearer")

    def test_same_words(self) -> None:
        """Our 101 is, but for its Server field, what a whole connection says."""
        for request in (ask(), ask(b"Sec-WebSocket-Protocol: chat"), _OFFERS):
            said = _Server(["chat"], True).answer(request)
            said = re.sub(rb"Server: .*\r\n", b"", said)
            head = ResponseParser(HeadLimits()).feed(said)
            assert head is not None
            values = {key: value for key, _, value in head.fields}
            extensions = values.get(b"sec-websocket-extensions", b"")
            protocol = values.get(b"sec-websocket-protocol", b"").decode() or None
            _, upgrade = upgrade_of(request)
            agreed = Agreed(protocol, extensions, bool(extensions))
            self.assertEqual(upgrade.accept(agreed, []), said)

    @PROPERTY
    @given(mutated(st.just(ask(b"Sec-WebSocket-Protocol: chat, mqtt"))))
    def test_what_is_taken_autobahn_takes(self, request: bytes) -> None:
        """Of requests with mistakes, none is taken that a whole Autobahn server would refuse."""
        try:
            exchange = exchange_of(request)
            if read_upgrade(exchange, Terms()) is None:
                return
        except (GatewayError, AssertionError, IndexError):
            return
        # (RFC 9112, 2.2: empty lines in front are nothing.)
        said = _Server([], False).answer(request.lstrip(b"\r\n"))
        if not said.startswith(b"HTTP/1.1 101 "):
            self.assertRegex(said, _STRICTER)


# RFC 9110, 5.6.1.2: empty elements of a list are none. Hosts and targets are the site's to judge.
_STRICTER = re.compile(
    rb'HTTP/1\.1 400 (duplicate protocol ""|.*HTTP Host header|.*fragment|.*could not parse)'
)
