"""What our transports do beyond Twisted's: bytes leave inside ``write``, and reads grow."""

from __future__ import annotations

# mypy: allow-untyped-calls
import os
import socket

from rtgateway.net.reactor import EpollReactor
from tests.net.loop import on_loop
from tests.net.wires import OurTcp, OurTls, OurUnix


class OptimisticTests(OurTcp):
    reactor_class = EpollReactor

    @on_loop
    async def test_bytes_are_with_the_kernel_when_write_returns(self) -> None:
        server, client = await self.pair()
        await self.turn(0.01)
        server.to.write(b"now")
        self.assertEqual(self.socket_of(client).recv(10), b"now")
        server.to.writeSequence([b"and", b" ", b"now"])
        self.assertEqual(self.socket_of(client).recv(10), b"and now")
        self.assertNotIn(server.to, self.reactor.getWriters())
        await self.close(server, client)

    @on_loop
    async def test_unsent_counts_what_the_kernel_did_not_take(self) -> None:
        server, client = await self.pair()
        client.to.pauseProducing()
        self.assertEqual(server.to.unsent, 0)
        server.to.write(b"x" * 100)
        self.assertEqual(server.to.unsent, 0)
        server.to.write(b"x" * 20_000_000)
        stuck = server.to.unsent
        self.assertGreater(stuck, 0)
        self.assertLess(stuck, 20_000_000)
        server.to.write(b"y" * 1000)
        self.assertEqual(server.to.unsent, stuck + 1000)
        client.to.resumeProducing()
        await self.until(lambda: client.size == 20_001_100)
        self.assertEqual(server.to.unsent, 0)
        await self.close(server, client)

    @on_loop
    async def test_reads_grow_for_a_fast_peer_and_shrink_again(self) -> None:
        server, client = await self.pair()
        client.to.pauseProducing()
        server.to.write(b"x" * 3_000_000)
        await self.turn(0.02)
        client.to.resumeProducing()
        await self.until(lambda: client.size == 3_000_000)
        sizes = [len(part) for part in client.parts]
        self.assertEqual(sizes[0], 64 * 1024)
        self.assertGreater(max(sizes), 64 * 1024)
        self.assertLessEqual(max(sizes), 256 * 1024)
        server.to.write(b"small")
        await self.until(lambda: client.parts[-1][-5:] == b"small")
        self.assertEqual(client.to._read_size, 64 * 1024)
        await self.close(server, client)

    @on_loop
    async def test_accepted_and_outgoing_connections_do_without_nagle(self) -> None:
        server, client = await self.pair()
        self.assertTrue(server.to.getTcpNoDelay())
        self.assertTrue(client.to.getTcpNoDelay())
        await self.close(server, client)


class OptimisticTlsTests(OurTls):
    @on_loop
    async def test_bytes_are_with_the_kernel_when_write_returns(self) -> None:
        server, client = await self.pair()
        await self.turn(0.01)
        server.to.write(b"now")
        self.assertEqual(server.to.unsent, 0)
        self.assertGreater(len(self.socket_of(client).recv(100, socket.MSG_PEEK)), 3)
        await self.until(lambda: client.received == b"now")
        await self.close(server, client)


class OptimisticUnixTests(OurUnix):
    @on_loop
    async def test_file_descriptors_travel_with_the_bytes_written_next(self) -> None:
        server, client = await self.pair()
        await self.turn(0.01)
        client.to.pauseProducing()
        reading, writing = os.pipe()
        server.to.sendFileDescriptor(reading)
        server.to.write(b"here")
        await self.turn(0.01)
        data, descriptors, _, _ = socket.recv_fds(self.socket_of(client), 10, 2)
        self.assertEqual((data, len(descriptors)), (b"h", 1))
        client.to.resumeProducing()
        await self.until(lambda: client.received == b"ere")
        for descriptor in (reading, writing, *descriptors):
            os.close(descriptor)
        await self.close(server, client)

    @on_loop
    async def test_file_descriptors_that_a_peer_sends_are_not_taken(self) -> None:
        server, client = await self.pair()
        before = len(os.listdir("/proc/self/fd"))
        reading, writing = os.pipe()
        socket.send_fds(self.socket_of(client), [b"gift"], [reading])
        os.close(reading)
        await self.until(lambda: server.received == b"gift")
        with self.assertRaises(BrokenPipeError):
            os.write(writing, b"nobody holds the other end")
        os.close(writing)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        await self.close(server, client)
