"""Connections to instances: made in time or not at all, with a reason that can be acted on."""

from __future__ import annotations

# mypy: allow-untyped-calls
import socket
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from zope.interface import implementer

from rtgateway.config import Listener, Tls, UpstreamTls
from rtgateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from rtgateway.net.connect import connect, connect_unix
from rtgateway.net.gate import Gate
from rtgateway.net.listen import listen
from rtgateway.net.reactor import EpollReactor
from rtgateway.net.tls import client_tls
from rtgateway.net.transport import Client, UnixClient
from tests.net.loop import Recorder, on_loop
from tests.net.wires import OurTcp


@implementer(IHostnameResolver, IHostResolution)
class Names:
    """A resolver that knows what it is told, and may never answer."""

    name = "names"

    def __init__(self, **known: list[str]) -> None:
        self.known = known
        self.waiting: list[tuple[IResolutionReceiver, str]] = []

    def resolveHostName(
        self, resolutionReceiver: Any, hostName: str, *more: object, **others: object
    ) -> Any:
        resolutionReceiver.resolutionBegan(self)
        self.waiting.append((resolutionReceiver, hostName))
        if hostName != "silent":
            self.answer()
        return self

    def answer(self) -> None:
        receiver, name = self.waiting.pop()
        for host in self.known.get(name, []):
            kind = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(kind("TCP", host, 0))
        receiver.resolutionComplete()

    def cancel(self) -> None:
        raise NotImplementedError


class ConnectTestCase(OurTcp):
    reactor_class = EpollReactor

    def names(self, **known: list[str]) -> Names:
        names = Names(**known)
        self.reactor.installNameResolver(names)
        return names

    def listening(self, host: str = "127.0.0.1") -> tuple[socket.socket, int]:
        """A socket that accepts nobody by itself."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, 0), family=family)
        self.addCleanup(listening.close)
        return listening, listening.getsockname()[1]

    async def accepted(self, listening: socket.socket) -> socket.socket:
        """The connection that the reactor is about to make."""
        listening.setblocking(False)
        found: list[socket.socket] = []

        def arrived() -> bool:
            try:
                found.append(listening.accept()[0])
            except BlockingIOError:
                return False
            return True

        await self.until(arrived)
        return found[0]

    def unused(self) -> int:
        """A port on which nobody listens."""
        listening, port = self.listening()
        listening.close()
        return port

    def full(self) -> int:
        """A port that answers no more connection attempts."""
        listening = socket.socket()
        self.addCleanup(listening.close)
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        port: int = listening.getsockname()[1]
        return port

    def to(self, port: int, host: str = "127.0.0.1", **more: Any) -> Deferred[Recorder]:
        self.client = Recorder()
        more.setdefault("timeout", 5)
        return connect(host, port, self.client, reactor=self.reactor, **more)

    async def fails(self, connecting: Deferred[Any]) -> Any:
        with self.assertRaises(GatewayError) as caught:
            await connecting
        self.assertTrue(caught.exception.retryable)
        self.assertEqual(self.client.events, [])
        return caught.exception


class TcpTests(ConnectTestCase):
    @on_loop
    async def test_the_protocol_is_connected_by_our_transport(self) -> None:
        listening, port = self.listening()
        client = await self.to(port)
        self.assertIs(client, self.client)
        self.assertEqual(client.events, ["made"])
        self.assertIs(type(client.transport), Client)
        accepted, _ = listening.accept()
        accepted.send(b"hi")
        await self.until(lambda: client.received == b"hi")
        accepted.close()
        await client.lost

    @on_loop
    async def test_ipv6(self) -> None:
        _, port = self.listening("::1")
        client = await self.to(port, "::1")
        self.assertEqual(client.to.getPeer().host, "::1")
        await self.close(client)

    @on_loop
    async def test_nobody_listens(self) -> None:
        port = self.unused()
        failed = await self.fails(self.to(port))
        self.assertIsInstance(failed, UpstreamFailed)
        self.assertEqual(failed.detail, f"127.0.0.1:{port}: Connection refused")

    @on_loop
    async def test_nobody_answers_in_time(self) -> None:
        failed = await self.fails(self.to(self.full(), timeout=0.1))
        self.assertIsInstance(failed, UpstreamTimeout)
        self.assertEqual(failed.phase, "connect")

    @on_loop
    async def test_an_attempt_can_be_cancelled(self) -> None:
        connecting = self.to(self.full())
        await self.turn(0.01)
        connecting.cancel()
        with self.assertRaises(CancelledError):
            await connecting
        self.assertEqual(self.client.events, [])

    @on_loop
    async def test_cancelling_comes_too_late_for_a_connection(self) -> None:
        _, port = self.listening()
        connecting = self.to(port)
        client = await connecting
        connecting.cancel()
        await self.turn(0.01)
        self.assertEqual(client.events, ["made"])
        await self.close(client)

    @on_loop
    async def test_a_reactor_without_file_descriptors_connects_its_own_way(self) -> None:
        memory = MemoryReactor()

        class Foreign:
            seconds = self.reactor.seconds
            callLater = self.reactor.callLater

            def __conform__(self, interface: object) -> object:
                return memory

        foreign: Any = Foreign()
        connecting = connect("127.0.0.1", 80, Recorder(), timeout=5, reactor=foreign)
        self.assertEqual(memory.tcpClients[0][:2], ("127.0.0.1", 80))
        memory.connectors[0].stopConnecting = lambda: None
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)


class NameTests(ConnectTestCase):
    @on_loop
    async def test_localhost_is_found_by_the_system(self) -> None:
        _, port = self.listening()
        client = await self.to(port, "localhost")
        await self.close(client)

    @on_loop
    async def test_addresses_are_tried_in_order_until_one_answers(self) -> None:
        _, port = self.listening("127.0.0.2")
        self.names(service=["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3"])
        client = await self.to(port, "service")
        self.assertEqual(client.to.getPeer().host, "127.0.0.2")
        await self.close(client)

    @on_loop
    async def test_an_address_that_hangs_leaves_time_for_the_next(self) -> None:
        port = self.full()
        other = socket.create_server(("127.0.0.2", port))
        self.addCleanup(other.close)
        self.names(service=["127.0.0.1", "127.0.0.2"])
        client = await self.to(port, "service", timeout=0.6)
        self.assertEqual(client.to.getPeer().host, "127.0.0.2")
        await self.close(client)

    def hanging_at(self, *hosts: str) -> int:
        """A port that answers no connection attempts at the first host, and all at the others."""
        port = self.full()
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            other = socket.create_server((host, port), family=family)
            self.addCleanup(other.close)
        return port

    @on_loop
    async def test_the_other_family_is_next_when_the_first_hangs(self) -> None:
        port = self.hanging_at("127.0.0.2", "::1")
        self.names(service=["127.0.0.1", "127.0.0.2", "::1"])
        started = self.reactor.seconds()
        client = await self.to(port, "service", timeout=9)
        self.assertEqual(client.to.getPeer().host, "::1")
        self.assertLess(self.reactor.seconds() - started, 2)
        await self.close(client)

    @on_loop
    async def test_nobody_answers_at_any_address(self) -> None:
        port = self.full()
        self.names(service=["127.0.0.1"] + [f"127.0.0.1{number}" for number in range(9)])
        # Refused at the others, and no time left for the one that hangs.
        failed = await self.fails(self.to(port, "service", timeout=0.2))
        self.assertIsInstance(failed, UpstreamTimeout)

    @on_loop
    async def test_a_race_can_be_cancelled(self) -> None:
        port = self.full()
        self.names(service=["127.0.0.1", "127.0.0.2", "127.0.0.1"])
        connecting = self.to(port, "service")
        await self.turn(0.05)
        connecting.cancel()
        with self.assertRaises(CancelledError):
            await connecting
        self.assertEqual(self.client.events, [])

    @on_loop
    async def test_no_more_than_eight_addresses_are_tried(self) -> None:
        _, port = self.listening("127.0.0.20")
        self.names(service=[f"127.0.0.{number}" for number in range(10, 21)])
        failed = await self.fails(self.to(port, "service"))
        self.assertEqual(failed.detail, f"127.0.0.17:{port}: Connection refused")

    @on_loop
    async def test_the_last_reason_is_told(self) -> None:
        port = self.unused()
        self.names(service=["127.0.0.1", "::1"])
        failed = await self.fails(self.to(port, "service"))
        self.assertEqual(failed.detail, f"[::1]:{port}: Connection refused")

    @on_loop
    async def test_a_name_that_does_not_exist(self) -> None:
        self.names()
        failed = await self.fails(self.to(80, "nowhere"))
        self.assertEqual(failed.detail, "nowhere: no such name")

    @on_loop
    async def test_a_resolver_that_never_answers(self) -> None:
        names = self.names()
        failed = await self.fails(self.to(80, "silent", timeout=0.05))
        self.assertIsInstance(failed, UpstreamTimeout)
        names.answer()
        self.assertEqual(self.client.events, [])

    @on_loop
    async def test_cancelled_while_resolving(self) -> None:
        names = self.names()
        connecting = self.to(80, "silent")
        connecting.cancel()
        with self.assertRaises(CancelledError):
            await connecting
        names.answer()
        self.assertEqual(self.client.events, [])


class UnixTests(ConnectTestCase):
    @on_loop
    async def test_a_unix_socket(self) -> None:
        path = self.temporary("s")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            client = await connect_unix(path, Recorder(), timeout=5, reactor=self.reactor)
            self.assertIs(type(client.transport), UnixClient)
            await self.close(client)

    @on_loop
    async def test_no_unix_socket(self) -> None:
        path = self.temporary("s")
        self.client = Recorder()
        failed = await self.fails(connect_unix(path, self.client, timeout=5, reactor=self.reactor))
        self.assertEqual(failed.detail, f"{path}: No such file or directory")


class TlsTests(ConnectTestCase):
    secure = True

    def serving(self) -> tuple[Recorder, Any]:
        """A server for gateway.test."""
        server = Recorder()
        tls = Tls(certificates=(self.files("gateway.test"),))
        listener = Listener(tcp="127.0.0.1:0", tls=tls)
        factory: Factory = self.factory(server)
        return server, listen(listener, factory, self.reactor, Gate(9, 9))

    def trusting(self, host: str = "gateway.test", **settings: Any) -> Any:
        return client_tls(UpstreamTls(ca=self.ca_file(), **settings), host)

    @on_loop
    async def test_the_protocol_is_connected_after_the_handshake(self) -> None:
        server, port = self.serving()
        client = await self.to(port.getHost().port, tls=self.trusting())
        self.assertEqual(client.events, ["made"])
        self.assertEqual(client.to.negotiatedProtocol, b"http/1.1")
        self.assertIs(type(client.to.transport), Client)
        client.to.write(b"secret")
        await self.until(lambda: server.received == b"secret")
        await self.close(client, server)
        await port.stopListening()

    @on_loop
    async def test_the_name_in_the_settings_is_the_one_that_counts(self) -> None:
        server, port = self.serving()
        tls = self.trusting("10.0.0.1", server_name="gateway.test")
        client = await self.to(port.getHost().port, tls=tls)
        await self.until(lambda: self.established(server))
        self.assertEqual(server.to.server_name, "gateway.test")
        await self.close(client, server)
        await port.stopListening()

    @on_loop
    async def test_the_handshake_belongs_to_the_race(self) -> None:
        """An address that accepts and is silent loses; its connection ends."""
        server, port = self.serving()
        silent = socket.create_server(("127.0.0.2", port.getHost().port))
        self.addCleanup(silent.close)
        self.names(service=["127.0.0.2", "127.0.0.1"])
        client = await self.to(port.getHost().port, "service", tls=self.trusting())
        self.assertEqual(client.events, ["made"])
        self.assertEqual(client.to.getPeer().host, "127.0.0.1")
        accepted = await self.accepted(silent)
        self.addCleanup(accepted.close)
        accepted.setblocking(False)

        def reset() -> bool:
            try:
                return not accepted.recv(4096)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        await self.until(reset)
        await self.close(client, server)
        await port.stopListening()

    @on_loop
    async def test_a_bad_certificate_gives_way_to_the_next_address(self) -> None:
        """Whoever can't prove its name at once is no reason to give up."""
        server, port = self.serving()
        other = Recorder()
        tls = Tls(certificates=(self.files("other.test"),))
        listener = Listener(tcp=f"127.0.0.2:{port.getHost().port}", tls=tls)
        bad: Any = listen(listener, self.factory(other), self.reactor, Gate(9, 9))
        self.names(service=["127.0.0.2", "127.0.0.1"])
        client = await self.to(port.getHost().port, "service", tls=self.trusting())
        self.assertEqual(client.to.getPeer().host, "127.0.0.1")
        await other.lost
        await self.close(client, server)
        await port.stopListening()
        await bad.stopListening()

    async def refused(self, tls: Any) -> str:
        server, port = self.serving()
        failed = await self.fails(self.to(port.getHost().port, tls=tls))
        self.assertIsInstance(failed, UpstreamFailed)
        await server.lost
        await port.stopListening()
        detail: str = failed.detail
        return detail.partition(": ")[2]

    @on_loop
    async def test_a_certificate_for_another_name(self) -> None:
        reason = await self.refused(self.trusting("other.test"))
        self.assertEqual(reason, "the certificate is not for this name")

    @on_loop
    async def test_an_unknown_authority(self) -> None:
        reason = await self.refused(client_tls(UpstreamTls(), "gateway.test"))
        self.assertEqual(reason, "TLS: certificate verify failed")

    @on_loop
    async def test_without_verification_anybody_will_do(self) -> None:
        server, port = self.serving()
        for name, seen in (("other.test", "other.test"), ("10.0.0.1", "")):
            tls = client_tls(UpstreamTls(verify=False), name)
            client = await self.to(port.getHost().port, tls=tls)
            await self.until(lambda: server.transport and self.established(server))
            self.assertEqual(server.to.server_name, seen)
            await self.close(client, server)
            server.reasons.clear()
            server.lost = Deferred()
        await port.stopListening()

    @on_loop
    async def test_somebody_who_does_not_speak_tls(self) -> None:
        listening, port = self.listening()
        connecting = self.to(port, tls=self.trusting())
        accepted = await self.accepted(listening)
        accepted.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        failed = await self.fails(connecting)
        self.assertIn("TLS: ", failed.detail)
        accepted.close()

    @on_loop
    async def test_somebody_who_hangs_up_during_the_handshake(self) -> None:
        listening, port = self.listening()
        connecting = self.to(port, tls=self.trusting())
        accepted = await self.accepted(listening)
        await self.turn(0.01)
        accepted.close()
        failed = await self.fails(connecting)
        self.assertIsInstance(failed, UpstreamFailed)

    @on_loop
    async def test_a_handshake_that_is_not_finished_in_time(self) -> None:
        _, port = self.listening()
        failed = await self.fails(self.to(port, tls=self.trusting(), timeout=0.1))
        self.assertIsInstance(failed, UpstreamTimeout)
        await self.until(lambda: not self.reactor.getWriters())
        await self.turn()

    @on_loop
    async def test_cancelled_during_the_handshake(self) -> None:
        _, port = self.listening()
        connecting = self.to(port, tls=self.trusting())
        await self.turn(0.02)
        connecting.cancel()
        with self.assertRaises(CancelledError):
            await connecting
        await self.turn()
        self.assertEqual(self.client.events, [])

    @on_loop
    async def test_tls_over_a_unix_socket(self) -> None:
        path = self.temporary("s")
        server = Recorder()
        tls = Tls(certificates=(self.files("gateway.test"),))
        listener = Listener(unix=Path(path), tls=tls)
        port: Any = listen(listener, self.factory(server), self.reactor, Gate(9, 9))
        connecting = connect_unix(
            path, Recorder(), timeout=5, reactor=self.reactor, tls=self.trusting()
        )
        client = await connecting
        client.to.write(b"secret")
        await self.until(lambda: server.received == b"secret")
        await self.close(client, server)
        await port.stopListening()
