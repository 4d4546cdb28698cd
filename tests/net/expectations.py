"""What a protocol may expect of a stream transport, as Twisted's transports fulfil it.

Mixed into a `Wire` by `test_transport_sockets`, for Twisted's transports and for ours: what both
fulfil can't be told apart by a protocol.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
import functools
import socket
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from zope.interface import implementer

from tests.net.loop import Recorder, on_loop
from tests.net.wires import Wire

__all__ = ["SocketExpectations", "StreamExpectations", "TcpExpectations"]

MANY = 4 * 1024 * 1024
"""More bytes than kernel buffers hold."""


def pattern(size: int) -> bytes:
    """Bytes in which nothing can be lost, doubled or moved without notice."""
    return b"".join(struct.pack(">I", n) for n in range(size // 4))


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """Goes on when one direction ends."""

    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")


@implementer(IPushProducer)
class Push:
    """Writes blocks as long as it is not paused, one in each turn of the loop."""

    def __init__(self, test: Wire, consumer: Any, blocks: int, size: int = 32768) -> None:
        self.test, self.consumer, self.left, self.size = test, consumer, blocks, size
        self.events: list[str] = []
        self.running = False
        consumer.registerProducer(self, True)

    def resumeProducing(self) -> None:
        self.events.append("resume")
        self.go()

    def go(self) -> None:
        if not self.running:
            self.running = True
            self.block()

    def block(self) -> None:
        if not self.running:
            return
        if not self.left:
            self.running = False
            self.consumer.unregisterProducer()
            return
        self.left -= 1
        self.consumer.write(bytes([self.left % 256]) * self.size)
        self.test.reactor.callLater(0, self.block)

    def pauseProducing(self) -> None:
        self.events.append("pause")
        self.running = False

    def stopProducing(self) -> None:
        self.events.append("stop")
        self.running = False


@implementer(IPullProducer)
class Pull:
    """Writes a block each time it is asked."""

    def __init__(self, consumer: Any, blocks: list[bytes]) -> None:
        self.consumer, self.blocks = consumer, blocks
        self.asked = 0
        self.stopped = False
        consumer.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.asked += 1
        if self.blocks:
            self.consumer.write(self.blocks.pop(0))
        else:
            self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped = True


class StreamExpectations(Wire):
    """Over plain sockets and over TLS."""

    @on_loop
    async def test_what_is_written_arrives(self) -> None:
        server, client = await self.pair()
        client.to.write(b"ping")
        await self.until(lambda: server.received == b"ping")
        server.to.write(b"pong")
        await self.until(lambda: client.received == b"pong")
        await self.close(server, client)

    @on_loop
    async def test_an_echo_written_inside_dataReceived_arrives(self) -> None:
        server, client = await self.pair()
        server.on_data = lambda data: server.to.write(data)

        def got(size: int) -> bool:
            return client.received == b"e" * size

        for size in (1, 100, 70_000):
            client.parts.clear()
            client.to.write(b"e" * size)
            await self.until(functools.partial(got, size))
        await self.close(server, client)

    @on_loop
    async def test_a_greeting_written_inside_connectionMade_arrives(self) -> None:
        server, client = Recorder(), Recorder()
        server.on_made = lambda: server.to.write(b"hello from the server")
        client.on_made = lambda: client.to.write(b"hello from the client")
        await self.pair(server, client)
        await self.until(lambda: client.received == b"hello from the server")
        await self.until(lambda: server.received == b"hello from the client")
        await self.close(server, client)

    @on_loop
    async def test_more_than_the_kernel_takes_arrives_whole_and_in_order(self) -> None:
        server, client = await self.pair()
        self.narrow(server)
        data = pattern(MANY)
        cuts = [0, 1, 10, 5_000, 70_000, 70_001, 300_000, 2_000_000, MANY]
        for start, end in pairwise(cuts):
            server.to.write(data[start:end])
        await self.until(lambda: client.size >= MANY)
        self.assertTrue(client.received == data)
        await self.close(server, client)

    @on_loop
    async def test_a_slow_reader_gets_everything_in_the_end(self) -> None:
        server, client = await self.pair()
        client.to.pauseProducing()
        data = pattern(MANY)
        for start in range(0, MANY, 100_000):
            server.to.write(data[start : start + 100_000])
            await self.turn()
        self.assertEqual(client.size, 0)
        server.to.write(b"the end")
        client.to.resumeProducing()
        await self.until(lambda: client.size >= MANY + 7)
        self.assertTrue(client.received == data + b"the end")
        await self.close(server, client)

    @on_loop
    async def test_both_sides_may_flood_each_other(self) -> None:
        server, client = await self.pair()
        self.narrow(server)
        self.narrow(client)
        server.to.write(b"s" * MANY)
        client.to.write(b"c" * MANY)
        await self.until(lambda: client.size == MANY and server.size == MANY)
        await self.close(server, client)

    @on_loop
    async def test_writeSequence_keeps_its_place_among_writes(self) -> None:
        server, client = await self.pair()
        self.narrow(server)
        server.to.write(b"a")
        server.to.writeSequence([b"b", b"", b"c" * 200_000])
        server.to.write(b"d")
        server.to.writeSequence([])
        server.to.writeSequence([b"e"])
        expected = b"ab" + b"c" * 200_000 + b"de"
        await self.until(lambda: client.size >= len(expected))
        self.assertTrue(client.received == expected)
        await self.close(server, client)

    @on_loop
    async def test_writing_nothing_does_nothing(self) -> None:
        server, client = await self.pair()
        server.to.write(b"")
        server.to.write(b"x")
        server.to.write(b"")
        await self.until(lambda: client.received == b"x")
        await self.close(server, client)

    @on_loop
    async def test_nothing_arrives_while_reading_is_paused(self) -> None:
        server, client = await self.pair()
        client.to.pauseProducing()
        server.to.write(b"later")
        await self.turn(0.02)
        self.assertEqual(client.size, 0)
        client.to.resumeProducing()
        await self.until(lambda: client.received == b"later")
        await self.close(server, client)

    @on_loop
    async def test_pausing_inside_dataReceived_holds_what_follows(self) -> None:
        server, client = await self.pair()
        client.on_data = lambda _: client.to.pauseProducing()
        server.to.write(b"first")
        await self.until(lambda: client.size == 5)
        server.to.write(b"second")
        await self.turn(0.02)
        self.assertEqual(client.received, b"first")
        client.to.resumeProducing()
        await self.until(lambda: client.received == b"firstsecond")
        await self.close(server, client)

    # -- closing ------------------------------------------------------------------------------

    @on_loop
    async def test_loseConnection_first_sends_everything(self) -> None:
        server, client = await self.pair()
        self.narrow(server)
        data = pattern(MANY)
        server.to.write(data)
        server.to.loseConnection()
        self.assertEqual(server.reasons, [])
        await client.lost
        await server.lost
        self.assertTrue(client.received == data)
        self.assertIs(client.reason, ConnectionDone)
        self.assertIs(server.reason, ConnectionDone)

    @on_loop
    async def test_a_last_word_inside_dataReceived_arrives_before_the_end(self) -> None:
        server, client = await self.pair()

        def bye(_: bytes) -> None:
            server.to.write(b"bye")
            server.to.loseConnection()

        server.on_data = bye
        client.to.write(b"quit")
        await client.lost
        await server.lost
        self.assertEqual(client.received, b"bye")
        self.assertEqual(client.events, ["made", "data", "lost"])
        self.assertEqual(server.events, ["made", "data", "lost"])

    @on_loop
    async def test_connectionLost_never_comes_inside_loseConnection(self) -> None:
        server, client = await self.pair()
        server.to.loseConnection()
        self.assertEqual(server.events, ["made"])
        await server.lost
        await client.lost
        self.assertEqual(server.events, ["made", "lost"])

    @on_loop
    async def test_what_is_written_after_the_end_is_ignored(self) -> None:
        server, client = await self.pair()
        server.to.loseConnection()
        await server.lost
        transport = server.to
        transport.write(b"too late")
        transport.writeSequence([b"too", b"late"])
        transport.loseConnection()
        await client.lost
        await self.turn(0.01)
        self.assertEqual(client.received, b"")
        self.assertEqual(server.events, ["made", "lost"])

    @on_loop
    async def test_closing_twice_is_closing_once(self) -> None:
        server, client = await self.pair()
        server.to.write(b"x" * 300_000)
        server.to.loseConnection()
        server.to.loseConnection()
        await server.lost
        await client.lost
        self.assertEqual(client.size, 300_000)
        self.assertEqual(len(server.reasons), 1)

    @on_loop
    async def test_abortConnection_drops_what_was_not_sent(self) -> None:
        server, client = await self.pair()
        client.to.pauseProducing()
        server.to.write(b"x" * (4 * MANY))
        server.to.abortConnection()
        self.assertEqual(server.events, ["made"])
        server.to.write(b"after the end")
        server.to.abortConnection()
        await server.lost
        self.assertIs(server.reason, self.aborted)
        client.to.resumeProducing()
        await client.lost
        self.assertLess(client.size, 4 * MANY)
        self.assertNotIn(b"after", client.received[-100:])
        self.assertIn(client.reason, self.abrupt)

    @on_loop
    async def test_abortConnection_inside_dataReceived_ends_it_once(self) -> None:
        server, client = await self.pair()
        server.on_data = lambda _: server.to.abortConnection()
        client.to.write(b"a" * 500_000)
        await server.lost
        await client.lost
        self.assertEqual(server.events, ["made", "data", "lost"])
        self.assertIs(server.reason, self.aborted)

    @on_loop
    async def test_an_error_in_dataReceived_is_logged_and_ends_the_connection(self) -> None:
        server, client = await self.pair()

        def fail(_: bytes) -> None:
            raise ArithmeticError("a bug")

        server.on_data = fail
        client.to.write(b"x")
        await server.lost
        await client.lost
        self.assertEqual(len(self.flushLoggedErrors(ArithmeticError)), 1)
        self.assertEqual(len(server.reasons), 1)

    @on_loop
    async def test_an_error_in_connectionLost_is_logged(self) -> None:
        server, client = await self.pair()

        def fail() -> None:
            raise ArithmeticError("a bug")

        server.on_lost = fail
        client.to.loseConnection()
        await client.lost
        await self.until(lambda: server.reasons)
        await self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ArithmeticError)), 1)

    @on_loop
    async def test_a_reset_while_writing_ends_the_connection_once_and_not_inside_write(
        self,
    ) -> None:
        server, client = await self.pair()
        # Bytes that its protocol has not read make the kernel answer the close with a reset.
        client.to.pauseProducing()
        server.to.write(b"unread")
        await self.turn(0.01)
        client.to.abortConnection()
        await client.lost
        inside: list[str] = []

        def write() -> None:
            before = len(server.events)
            server.to.write(b"into the void")
            if len(server.events) != before:
                inside.append("lost inside write")

        for _ in range(50):
            write()
            write()
            await self.turn()
        await server.lost
        self.assertEqual(inside, [])
        self.assertEqual(server.events, ["made", "lost"])
        self.assertIs(server.reason, ConnectionLost)

    # -- producers ----------------------------------------------------------------------------

    @on_loop
    async def test_a_push_producer_is_paused_and_resumed(self) -> None:
        server, client = await self.pair()
        self.narrow(server)
        client.to.pauseProducing()
        producer = Push(self, server.to, blocks=100)
        producer.go()
        await self.until(lambda: "pause" in producer.events)
        self.assertGreater(producer.left, 0)
        client.to.resumeProducing()
        await self.until(lambda: client.size == 100 * 32768)
        self.assertEqual(producer.events[:2], ["pause", "resume"])
        self.assertNotIn("stop", producer.events)
        self.assertTrue(all(a != b for a, b in pairwise(producer.events)), producer.events)
        await self.close(server, client)

    @on_loop
    async def test_a_producer_is_stopped_when_the_connection_is_lost(self) -> None:
        server, client = await self.pair()
        producer = Push(self, server.to, blocks=5)
        client.to.abortConnection()
        await server.lost
        await client.lost
        self.assertEqual(producer.events, ["stop"])

    @on_loop
    async def test_there_is_one_producer_at_a_time(self) -> None:
        server, client = await self.pair()
        Push(self, server.to, blocks=1)
        with self.assertRaises(RuntimeError):
            Push(self, server.to, blocks=1)
        server.to.unregisterProducer()
        again = Push(self, server.to, blocks=1)
        again.go()
        await self.until(lambda: client.size == 32768)
        await self.close(server, client)

    @on_loop
    async def test_a_relay_with_producers_both_ways_loses_nothing(self) -> None:
        front, user = await self.pair()
        back, origin = await self.pair()
        for one, other in ((front, back), (back, front)):
            one.on_data = other.to.write
            one.to.registerProducer(other.to, True)
        user.to.pauseProducing()
        data = pattern(MANY)
        origin.to.write(data)
        user.to.write(data[::-1])
        await self.until(lambda: origin.size == MANY)
        user.to.resumeProducing()
        await self.until(lambda: user.size == MANY)
        self.assertTrue(user.received == data)
        self.assertTrue(origin.received == data[::-1])
        await self.close(front, user, back, origin)


class SocketExpectations(StreamExpectations):
    """Over plain sockets only: Twisted has no half-closed TLS."""

    @on_loop
    async def test_anything_but_bytes_is_refused_before_a_byte_is_sent(self) -> None:
        server, client = await self.pair()
        wrong: list[Callable[[], object]] = [
            lambda: server.to.write("text"),
            lambda: server.to.write(bytearray(b"x")),
            lambda: server.to.write(memoryview(b"x")),
            lambda: server.to.writeSequence([b"x", "text"]),
            lambda: server.to.writeSequence([b"x", bytearray(b"x")]),
        ]
        for write in wrong:
            with self.assertRaises(TypeError):
                write()
        server.to.write(b"sound")
        await self.until(lambda: client.received == b"sound")
        await self.close(server, client)

    @on_loop
    async def test_what_is_written_while_older_bytes_wait_comes_after_them(self) -> None:
        server, client = await self.pair()
        client.to.pauseProducing()
        data = pattern(16 * 1024 * 1024)
        server.to.write(data)
        taken = b""
        for _ in range(3):
            await self.turn(0.02)
            # From here on the kernel has room, and the reactor does not know yet.
            taken += self.socket_of(client).recv(2_000_000)
        server.to.write(b"the end")
        client.to.resumeProducing()
        await self.until(lambda: len(taken) + client.size == len(data) + 7)
        self.assertTrue(taken + client.received == data + b"the end")
        await self.close(server, client)

    @on_loop
    async def test_nothing_is_sent_after_abortConnection(self) -> None:
        server, client = await self.pair()
        server.to.abortConnection()
        server.to.write(b"after the end")
        server.to.writeSequence([b"after", b" the end"])
        await server.lost
        await client.lost
        self.assertEqual(client.received, b"")

    @on_loop
    async def test_closing_still_sends_what_is_written_before_the_loop_goes_on(self) -> None:
        server, client = await self.pair()
        server.to.write(b"one ")
        server.to.loseConnection()
        server.to.write(b"two")
        await client.lost
        await server.lost
        self.assertEqual(client.received, b"one two")

    @on_loop
    async def test_a_pull_producer_is_asked_until_it_is_done(self) -> None:
        server, client = await self.pair()
        self.narrow(server)
        blocks = [bytes([n]) * 50_000 for n in range(40)]
        expected = b"".join(blocks)
        producer = Pull(server.to, blocks)
        await self.until(lambda: client.size == len(expected))
        self.assertTrue(client.received == expected)
        await self.until(lambda: producer.asked == 41)
        server.to.write(b"!")
        await self.until(lambda: client.received[-1:] == b"!")
        await self.close(server, client)

    @on_loop
    async def test_closing_waits_for_a_pull_producer(self) -> None:
        server, client = await self.pair()
        producer = Pull(server.to, [b"x" * 50_000 for _ in range(20)])
        server.to.loseConnection()
        await self.until(lambda: server.reasons and client.reasons)
        self.assertEqual(client.size, 1_000_000)
        self.assertEqual(producer.asked, 21)
        self.assertFalse(producer.stopped)

    @on_loop
    async def test_half_close_lets_the_other_direction_go_on(self) -> None:
        server, client = await self.pair(HalfCloseable(), HalfCloseable())
        self.narrow(client)
        client.to.write(b"q" * 1_000_000)
        client.to.loseWriteConnection()
        client.to.write(b"!")
        await self.until(lambda: "write lost" in client.events)
        await self.until(lambda: "read lost" in server.events)
        self.assertEqual(server.size, 1_000_001)
        client.to.write(b"ignored")
        server.to.write(b"answer")
        await self.until(lambda: client.received == b"answer")
        server.to.loseConnection()
        await server.lost
        await self.until(lambda: "read lost" in client.events)
        client.to.loseConnection()
        await client.lost
        self.assertEqual(server.events, ["made", "data", "read lost", "lost"])
        self.assertEqual(client.events, ["made", "write lost", "data", "read lost", "lost"])

    @on_loop
    async def test_both_halves_closed_is_closed(self) -> None:
        server, client = await self.pair(HalfCloseable(), HalfCloseable())
        client.to.loseWriteConnection()
        await self.until(lambda: "read lost" in server.events)
        server.to.write(b"last")
        server.to.loseWriteConnection()
        await self.until(lambda: "read lost" in client.events)
        self.assertEqual(client.received, b"last")
        await self.close(server, client)
        self.assertEqual(len(server.reasons), 1)
        self.assertEqual(len(client.reasons), 1)

    @on_loop
    async def test_a_protocol_that_knows_no_half_close_loses_the_connection(self) -> None:
        server, client = await self.pair(Recorder(), HalfCloseable())
        client.to.write(b"all")
        client.to.loseWriteConnection()
        await server.lost
        self.assertEqual(server.received, b"all")
        self.assertIs(server.reason, ConnectionDone)
        await self.until(lambda: "read lost" in client.events)
        await self.close(client)

    @on_loop
    async def test_bytes_before_a_reset_are_not_lost_to_it(self) -> None:
        server, client = await self.pair()
        server.to.pauseProducing()
        client.to.write(b"read me")
        linger = struct.pack("ii", 1, 0)
        self.socket_of(client).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.to.loseConnection()
        await client.lost
        server.to.resumeProducing()
        await server.lost
        self.assertEqual(server.received, b"read me" if self.keeps_bytes_after_reset else b"")

    keeps_bytes_after_reset = True

    @on_loop
    async def test_it_says_where_it_comes_from_and_where_it_goes(self) -> None:
        server, client = await self.pair()
        self.assertEqual(client.to.getPeer(), server.to.getHost())
        self.assertIn("Recorder", repr(server.to))
        await self.close(server, client)


class TcpExpectations(SocketExpectations):
    """Over TCP only."""

    @on_loop
    async def test_tcp_options_can_be_set(self) -> None:
        server, client = await self.pair()
        for transport in (server.to, client.to):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
            self.assertTrue(transport.getTcpNoDelay())
            self.assertTrue(transport.getTcpKeepAlive())
        await self.close(server, client)

    @on_loop
    async def test_tls_can_be_started_in_the_middle(self) -> None:
        server, client = await self.pair()
        client.to.write(b"in the clear")
        await self.until(lambda: server.received == b"in the clear")
        server.to.startTLS(self.server_tls())
        client.to.startTLS(self.upstream_tls())
        # Twisted's startTLS gathers small writes by the reactor of the process: write enough.
        client.to.write(b"s" * 100_000)
        await self.until(lambda: server.size == 100_012)
        server.to.write(b"x" * 500_000)
        server.to.loseConnection()
        await client.lost
        await server.lost
        self.assertEqual(client.size, 500_000)
