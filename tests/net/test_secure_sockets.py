"""TLS to clients, record by record: a client that decides itself which bytes it sends when."""

from __future__ import annotations

# mypy: allow-untyped-calls
import contextlib
import functools
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, INegotiated, IPushProducer, ISSLTransport
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import SkipTest

from rtgateway.config import Listener, Tls
from rtgateway.net import secure
from rtgateway.net.connect import connect, connect_unix
from rtgateway.net.gate import Gate
from rtgateway.net.listen import listen
from rtgateway.net.reactor import EpollReactor
from tests.net import expectations as expected
from tests.net import wires
from tests.net.loop import Recorder, on_loop
from tests.net.wires import OurTls, authority

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@functools.cache
def client_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """One for all clients: a session belongs to it."""
    context = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
    context.minimum_version = context.maximum_version = version
    return context


class Client:
    """A TLS client over a plain connection. Nothing is sent that a test does not send."""

    def __init__(self, plain: Recorder, version: ssl.TLSVersion, name: str) -> None:
        self.plain = plain
        context = client_context(version)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.heard = b""
        self.shaken = self.goodbye = False

    def hello(self) -> bytes:
        """The first flight."""
        return self.step()

    def step(self) -> bytes:
        """Take what came, go on with the handshake; what is to be sent."""
        self._take()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.shaken = True
        return self._outgoing.read()

    def seal(self, data: bytes) -> bytes:
        """Records with some data in them."""
        self.tls.write(data)
        return self._outgoing.read()

    def close_notify(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def listen(self) -> bytes:
        """All that the server has said so far."""
        self._take()
        try:
            while not self.goodbye:
                part = self.tls.read(65536)
                self.heard += part
                self.goodbye = not part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.goodbye = True
        return self.heard

    def _take(self) -> None:
        for part in self.plain.parts:
            self._incoming.write(part)
        self.plain.parts.clear()

    def send(self, data: bytes) -> None:
        self.plain.to.write(data)


class SecureTestCase(OurTls):
    reactor_class = EpollReactor
    version = V1_3

    async def dialled(self, name: str = "gateway.test", *, chunk: int = 0) -> Client:
        """A client whose TCP connection stands, on a server in ``self.server``."""
        self.server = Recorder()
        port = self.serve(self.factory(self.server))
        plain = Recorder()
        await connect("127.0.0.1", port.getHost().port, plain, timeout=5, reactor=self.reactor)
        await self.until(lambda: self.server.transport is not None)
        await port.stopListening()
        return Client(plain, self.version, name)

    async def shaken(self, session: ssl.SSLSession | None = None) -> Client:
        """A client whose handshake is done, on both sides."""
        client = await self.dialled()
        if session is not None:
            client.tls.session = session
        client.send(client.hello())

        def done() -> bool:
            if client.plain.parts:
                client.send(client.step())
            # Before TLS 1.3 the server has the last word, and is done before it has been heard.
            return client.shaken and bool(self.server.to.established)

        await self.until(done)
        return client

    def has_heard(self, client: Client, size: int) -> bool:
        return len(client.listen()) >= size

    async def over(self, client: Client) -> None:
        await self.close(self.server, client.plain)


class RecordTests(SecureTestCase):
    """TLS 1.3."""

    @on_loop
    async def test_the_protocol_sees_what_kind_of_transport_it_is(self) -> None:
        client = await self.dialled()
        transport = self.server.to
        for interface in (ISSLTransport, INegotiated, IConsumer, IPushProducer):
            self.assertTrue(interface.providedBy(transport), interface)
        self.assertIsNone(transport.negotiatedProtocol)
        self.assertIn("waiting for a hello", repr(transport))
        await self.over(client)
        self.assertIn("over", repr(transport))

    @on_loop
    async def test_a_hello_in_pieces_is_one_hello(self) -> None:
        client = await self.dialled()
        for byte in client.hello():
            client.send(bytes([byte]))
            await self.turn()
        await self.until(lambda: client.plain.parts)
        client.send(client.step())
        await self.until(lambda: self.server.to.established)
        self.assertEqual(self.server.to.server_name, "gateway.test")
        await self.over(client)

    @on_loop
    async def test_a_request_that_comes_with_the_end_of_the_handshake_is_read(self) -> None:
        client = await self.dialled()
        client.send(client.hello())
        last = b""

        def ready() -> bool:
            nonlocal last
            flight = client.step() if client.plain.parts else b""
            try:
                last = flight + client.seal(b"at once")
            except ssl.SSLError:
                client.send(flight)
                return False
            return True

        await self.until(ready)
        client.send(last)
        await self.until(lambda: self.server.received == b"at once")
        await self.over(client)

    @on_loop
    async def test_half_a_record_waits_for_the_other_half(self) -> None:
        client = await self.shaken()
        record = client.seal(b"in two halves")
        for cut in (3, 7, len(record) - 1):
            client.send(record[:cut])
            await self.turn(0.005)
            self.assertEqual(self.server.received, b"")
            client.send(record[cut:])
            await self.until(lambda: self.server.received == b"in two halves")
            self.server.parts.clear()
            record = client.seal(b"in two halves")
        await self.over(client)

    @on_loop
    async def test_many_records_in_one_read_are_one_delivery(self) -> None:
        client = await self.shaken()
        client.send(b"".join(client.seal(b"%d," % n) for n in range(100)))
        expected = b"".join(b"%d," % n for n in range(100))
        await self.until(lambda: self.server.received == expected)
        self.assertEqual(len(self.server.parts), 1)
        await self.over(client)

    @on_loop
    async def test_no_exception_is_raised_for_a_message_each_way(self) -> None:
        """It would cost more than the cryptography."""
        client = await self.shaken()
        records = self.server.to._records
        spy = mock.Mock(wraps=records._tls)
        records._tls = spy
        self.server.on_data = lambda _: self.server.to.write(b"pong")
        client.send(client.seal(b"ping"))
        await self.until(lambda: client.listen() == b"pong")
        self.assertEqual([call[0] for call in spy.method_calls], ["read", "write"])
        await self.over(client)

    @on_loop
    async def test_large_messages_take_records_of_any_number(self) -> None:
        client = await self.shaken()
        for size in (16_383, 16_384, 16_385, 65_536, 65_537, 1_000_000):
            data = expected.pattern(size + 4)[:size]
            self.server.on_data = lambda part: self.server.to.write(part)
            client.send(client.seal(data))
            await self.until(functools.partial(self.has_heard, client, size))
            self.assertTrue(client.heard == data)
            client.heard = b""
        await self.over(client)

    @on_loop
    async def test_a_session_is_resumed(self) -> None:
        first = await self.shaken()
        # The name's context has the keys of the tickets: it has to be the same one.
        certificates = self.server.to._certificates
        self.server.to.write(b"tickets come before this")
        await self.until(lambda: first.listen())
        session = first.tls.session
        self.assertIsNotNone(session)
        await self.over(first)
        with mock.patch.object(
            wires, "listen", functools.partial(listen, certificates=certificates)
        ):
            again = await self.shaken(session)
        self.assertTrue(again.tls.session_reused)
        again.send(again.seal(b"resumed"))
        await self.until(lambda: self.server.received == b"resumed")
        await self.over(again)

    # -- the end ------------------------------------------------------------------------------

    @on_loop
    async def test_a_close_notify_is_a_clean_end_and_is_answered(self) -> None:
        client = await self.shaken()
        client.send(client.seal(b"last") + client.close_notify())
        await self.server.lost
        self.assertEqual(self.server.received, b"last")
        self.assertIs(self.server.reason, ConnectionDone)
        await client.plain.lost
        client.listen()
        self.assertTrue(client.goodbye)

    @on_loop
    async def test_an_end_without_a_close_notify_may_be_an_attack(self) -> None:
        client = await self.shaken()
        client.send(client.seal(b"whole") + client.seal(b"cut off")[:10])
        client.plain.to.loseConnection()
        await self.server.lost
        self.assertEqual(self.server.received, b"whole")
        self.assertIs(self.server.reason, ConnectionLost)
        self.assertIn("close_notify", str(self.server.reasons[0].value))
        await client.plain.lost

    @on_loop
    async def test_closing_says_goodbye_and_waits_for_the_answer(self) -> None:
        client = await self.shaken()
        self.server.to.write(b"bye")
        self.server.to.loseConnection()
        await self.until(lambda: client.listen() == b"bye" and client.goodbye)
        await self.turn(0.01)
        self.assertEqual((self.server.reasons, client.plain.reasons), ([], []))
        # What it was still sending is read, so that the kernel does not reset the connection.
        client.send(client.seal(b"too late") + client.close_notify())
        await self.server.lost
        await client.plain.lost
        self.assertEqual(self.server.received, b"")
        self.assertIs(self.server.reason, ConnectionDone)
        self.assertIs(client.plain.reason, ConnectionDone)

    @on_loop
    async def test_a_client_that_answers_a_goodbye_by_hanging_up_is_no_attacker(self) -> None:
        client = await self.shaken()
        self.server.to.loseConnection()
        await self.until(lambda: client.listen() == b"" and client.goodbye)
        client.plain.to.loseConnection()
        await self.server.lost
        self.assertIs(self.server.reason, ConnectionDone)
        await client.plain.lost

    @on_loop
    async def test_a_client_that_never_answers_a_goodbye_is_not_waited_for(self) -> None:
        client = await self.shaken()
        with mock.patch.object(secure, "_PATIENCE", 0.02):
            self.server.to.loseConnection()
            await self.server.lost
        self.assertIs(self.server.reason, ConnectionDone)
        await client.plain.lost
        self.assertIs(client.plain.reason, ConnectionDone)

    @on_loop
    async def test_a_client_that_does_not_take_the_last_answer_is_cut_off(self) -> None:
        client = await self.shaken()
        client.plain.to.pauseProducing()
        with mock.patch.object(secure, "_PATIENCE", 0.05):
            self.server.to.write(b"x" * 20_000_000)
            self.server.to.loseConnection()
            await self.server.lost
        self.assertIs(self.server.reason, ConnectionAborted)
        client.plain.to.resumeProducing()
        await client.plain.lost

    @on_loop
    async def test_closing_while_paused_ends_too(self) -> None:
        client = await self.shaken()
        self.server.to.pauseProducing()
        self.server.to.loseConnection()
        await self.until(lambda: client.listen() == b"" and client.goodbye)
        client.send(client.close_notify())
        await self.server.lost
        self.assertIs(self.server.reason, ConnectionDone)
        await client.plain.lost

    @on_loop
    async def test_closing_before_the_handshake_closes_at_once(self) -> None:
        client = await self.dialled()
        self.server.to.loseConnection()
        await self.server.lost
        await client.plain.lost
        self.assertIs(client.plain.reason, ConnectionDone)

    @on_loop
    async def test_what_was_written_before_the_handshake_is_sent_before_the_end(self) -> None:
        client = await self.dialled()
        producer = expected.Push(self, self.server.to, blocks=1)
        self.server.to.write(b"early ")
        self.assertEqual(producer.events, ["pause"])
        self.server.to.unregisterProducer()
        self.server.to.write(b"words")
        self.server.to.loseConnection()
        self.server.to.write(b"not these")
        client.send(client.hello())

        def done() -> bool:
            if client.plain.parts and not client.goodbye:
                client.send(client.step())
                try:
                    client.listen()
                except ssl.SSLError:
                    return False
            return client.goodbye

        await self.until(done)
        self.assertEqual(client.heard, b"early words")
        client.send(client.close_notify())
        await self.server.lost
        await client.plain.lost

    @on_loop
    async def test_nothing_is_left_to_do_for_a_lost_connection(self) -> None:
        client = await self.shaken()
        client.send(client.close_notify())
        await self.server.lost
        transport = self.server.to
        transport.loseConnection()
        transport.abortConnection()
        transport.resumeProducing()
        transport.pauseProducing()
        transport.unregisterProducer()
        late = expected.Push(self, transport, blocks=1)
        self.assertEqual(late.events, ["stop"])
        await client.plain.lost

    @on_loop
    async def test_a_paused_producer_does_not_keep_what_the_client_has_ended(self) -> None:
        client = await self.shaken()
        client.plain.to.pauseProducing()
        producer = expected.Push(self, self.server.to, blocks=1000)
        producer.go()
        await self.until(lambda: "pause" in producer.events)
        client.send(client.close_notify())
        await self.until(lambda: "stop" in producer.events)
        client.plain.to.resumeProducing()
        await self.server.lost
        self.assertEqual(producer.events, ["pause", "stop"])
        self.assertIs(self.server.reason, ConnectionDone)
        await client.plain.lost

    # -- peers that misbehave -----------------------------------------------------------------

    @on_loop
    async def test_a_record_that_was_tampered_with_ends_the_connection(self) -> None:
        client = await self.shaken()
        record = bytearray(client.seal(b"untouched"))
        record[-1] ^= 1
        client.send(client.seal(b"") + bytes(record))
        await self.server.lost
        self.assertEqual(self.server.received, b"")
        self.assertIs(self.server.reason, ConnectionLost)
        await client.plain.lost
        with self.assertRaises(ssl.SSLError) as caught:
            client.listen()
        self.assertIn("ALERT", str(caught.exception))

    @on_loop
    async def test_what_is_no_tls_is_turned_away_quietly(self) -> None:
        hello = (await self.dialled()).hello()
        await self.close(self.server)
        for sent in (
            b"G",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
            b"\x16\x03\x01\x00\x01\x01" * 20,
            hello[:5] + hello[5:40] + b"\xff" * (len(hello) - 40),
            b"\x80\x2e\x01\x03\x01",
        ):
            client = await self.dialled()
            client.send(sent)
            client.plain.to.loseWriteConnection()
            await self.server.lost
            self.assertEqual(self.server.received, b"")
            self.assertIs(self.server.reason, ConnectionLost, sent)
            await self.over(client)

    @on_loop
    async def test_a_server_name_that_is_not_ascii_gets_the_default(self) -> None:
        client = await self.dialled()
        hello = client.hello().replace(b"gateway.test", b"g\xc3\xa4teway.tst")
        client.send(hello)
        await self.until(lambda: len(b"".join(client.plain.parts)) > 300)
        self.assertEqual(self.server.to.server_name, "g\ufffd\ufffdteway.tst")
        await self.over(client)

    @on_loop
    async def test_who_makes_tls_talk_and_does_not_listen_is_cut_off(self) -> None:
        """Key updates, refused renegotiations: each has an answer, which would wait to be sent."""
        client = await self.shaken()
        client.plain.to.pauseProducing()
        answers = self.server.to._records = mock.Mock(wraps=self.server.to._records, trouble=None)
        answers.ended = False
        answers.decrypt.side_effect = lambda data: b""
        answers.answer.side_effect = lambda: b"a" * 10_000
        sent = 0
        while not self.server.reasons:
            client.send(b"another")
            sent += 1
            await self.turn(0.001)
        self.assertIs(self.server.reason, ConnectionAborted)
        self.assertGreater(sent, 5)
        client.plain.to.resumeProducing()
        await client.plain.lost

    @on_loop
    async def test_a_big_answer_to_a_slow_reader_is_not_encrypted_ahead(self) -> None:
        """A producer is held back, so that what waits stays small."""
        client = await self.shaken()
        client.plain.to.pauseProducing()
        producer = expected.Push(self, self.server.to, blocks=2000, size=65536)
        producer.go()
        await self.until(lambda: "pause" in producer.events)
        await self.turn(0.02)
        self.assertLess(self.server.to.unsent, 200_000)
        self.assertEqual(self.server.to._records.answer(), b"")
        self.assertGreater(producer.left, 1000)
        await self.over(client)


class OldRecordTests(RecordTests):
    """TLS 1.2."""

    version = V1_2


class PullTests(SecureTestCase):
    """Twisted's TLS needs the reactor of the process for these; ours has the TCP transport's."""

    test_a_pull_producer = (
        expected.SocketExpectations.test_a_pull_producer_is_asked_until_it_is_done
    )
    test_closing = expected.SocketExpectations.test_closing_waits_for_a_pull_producer

    @on_loop
    async def test_a_pull_producer_waits_for_the_handshake(self) -> None:
        client = await self.dialled()
        blocks = [b"one", b"two", b"three"]
        expected.Pull(self.server.to, blocks)
        client.send(client.hello())

        def done() -> bool:
            if client.plain.parts:
                client.send(client.step())
                try:
                    client.listen()
                except ssl.SSLError:
                    return False
            return client.heard == b"onetwothree"

        await self.until(done)
        await self.over(client)


class ForeignClientTests(SecureTestCase):
    """What only another implementation's client does at will: ``openssl s_client``."""

    def talk(self, number: int, *said: bytes) -> None:
        """Say some lines, each after an answer to the one before has come."""
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{number}", "-tls1_3"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            try:
                for line, answer in zip(said[::2], said[1::2], strict=True):
                    client.stdin.write(line)
                    client.stdin.flush()
                    while (heard := client.stdout.readline()) != answer:
                        assert heard, f"no {answer!r}"
            finally:
                client.kill()

    @on_loop
    async def test_keys_are_changed_when_the_client_wants_it(self) -> None:
        """RFC 8446, 4.6.3: K asks the server to change its key too, k does not."""
        if shutil.which("openssl") is None:
            raise SkipTest("there is no openssl command")
        self.server = Recorder()
        self.server.on_data = lambda data: self.server.to.write(data)
        port = self.serve(self.factory(self.server))
        update = b"KEYUPDATE\n"
        lines = [b"one\n", b"one\n", b"K\n", update, b"two\n", b"two\n"]
        lines += [b"k\n", update, b"three\n", b"three\n"]
        pool = self.reactor.getThreadPool()
        number = port.getHost().port
        await deferToThreadPool(self.reactor, pool, self.talk, number, *lines)
        await self.server.lost
        self.assertEqual(self.server.received, b"one\ntwo\nthree\n")
        await port.stopListening()


class UnixTlsTests(SecureTestCase):
    @on_loop
    async def test_tls_on_a_unix_socket(self) -> None:
        path = self.temporary("s")
        tls = Tls(certificates=(self.files("gateway.test"),))
        self.server = Recorder()
        listener = Listener(unix=Path(path), tls=tls)
        port: Any = listen(listener, self.factory(self.server), self.reactor, Gate(9, 9))
        user = Recorder()
        await connect_unix(path, user, timeout=5, reactor=self.reactor, tls=self.upstream_tls())
        user.to.write(b"hello")
        await self.until(lambda: self.server.received == b"hello")
        await self.close(self.server, user)
        await port.stopListening()
