"""Listeners: clear refusals, limits that hold, Unix sockets, systemd, no descriptors left."""

from __future__ import annotations

# mypy: allow-untyped-calls
import os
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.address import UNIXAddress
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Listener
from rtgateway.net.gate import Gate
from rtgateway.net.listen import ListenError, listen
from rtgateway.net.reactor import EpollReactor
from tests.net.loop import LoopTestCase, Recorder, on_loop

ACTIVATE = """
import os, sys
number, program = sys.argv[1:]
os.dup2(int(number), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.executable, [sys.executable, "-c", program])
"""
"""What systemd does between fork and exec."""


class Recorders(Factory):
    """Keeps the protocols that it builds."""

    noisy = False

    def __init__(self) -> None:
        self.built: list[Recorder] = []

    def buildProtocol(self, addr: object) -> Recorder:
        self.built.append(Recorder())
        return self.built[-1]


class ListenTestCase(LoopTestCase):
    reactor_class = EpollReactor

    def open(self, listener: Listener, gate: Gate | None = None, **more: Any) -> Any:
        self.gate = gate or Gate(100, 100)
        self.factory = Recorders()
        return listen(listener, self.factory, self.reactor, self.gate, **more)

    def tcp(self, gate: Gate | None = None) -> Any:
        return self.open(Listener(tcp="127.0.0.1:0"), gate)

    def client(self, port: Any) -> socket.socket:
        """A client that has connected, whether or not it was accepted."""
        host = port.getHost()
        if isinstance(host, UNIXAddress):
            client = socket.socket(socket.AF_UNIX)
            client.connect(os.fsdecode(host.name or b""))
        else:
            client = socket.create_connection((host.host, host.port))
        client.setblocking(False)
        self.addCleanup(client.close)
        return client

    def refused(self, listener: Listener, **more: Any) -> str:
        with self.assertRaises(ListenError) as caught:
            self.open(listener, **more)
        return str(caught.exception)

    async def closed_by_server(self, client: socket.socket) -> None:
        def at_end() -> bool:
            try:
                return client.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        await self.until(at_end)

    async def shut(self, port: Any) -> None:
        """Close the port and every connection."""
        closing = port.stopListening()
        if closing is not None:
            await closing
        for protocol in self.factory.built:
            if protocol.transport is not None and not protocol.reasons:
                protocol.to.abortConnection()
                await protocol.lost


class TcpTests(ListenTestCase):
    @on_loop
    async def test_clients_are_served(self) -> None:
        port = self.tcp()
        client = self.client(port)
        client.send(b"hello")
        await self.until(lambda: self.factory.built and self.factory.built[0].received == b"hello")
        self.assertEqual(self.factory.built[0].to.getPeer().port, client.getsockname()[1])
        await self.shut(port)
        self.assertEqual(self.gate.taken, 0)

    @on_loop
    async def test_ipv6(self) -> None:
        port = self.open(Listener(tcp="[::1]:0"))
        client = self.client(port)
        await self.until(lambda: self.factory.built and self.factory.built[0].transport)
        self.assertEqual(self.factory.built[0].to.getPeer().host, "::1")
        self.assertEqual(port.getHost().host, "::1")
        client.close()
        await self.shut(port)

    @on_loop
    async def test_a_taken_port(self) -> None:
        port = self.tcp()
        number = port.getHost().port
        message = self.refused(Listener(tcp=f"127.0.0.1:{number}"))
        self.assertEqual(message, f"port {number} on 127.0.0.1 is taken")
        await self.shut(port)

    @on_loop
    async def test_an_address_of_another_machine(self) -> None:
        message = self.refused(Listener(tcp="192.0.2.1:0"))
        self.assertEqual(message, "192.0.2.1 is not an address of this machine")

    @on_loop
    async def test_a_privileged_port(self) -> None:
        denied = PermissionError(13, "Permission denied")
        with mock.patch("socket.socket.bind", side_effect=denied):
            message = self.refused(Listener(tcp="127.0.0.1:80"))
        self.assertIn("port 80 on 127.0.0.1 needs privileges", message)

    @on_loop
    async def test_any_other_refusal_of_the_system(self) -> None:
        odd = OSError(5, "Input/output error")
        with mock.patch("socket.socket.listen", side_effect=odd):
            message = self.refused(Listener(tcp="127.0.0.1:0"))
        self.assertEqual(message, "port 0 on 127.0.0.1 can't be listened on: Input/output error")

    @on_loop
    async def test_a_name_that_is_no_address(self) -> None:
        message = self.refused(Listener(tcp="no-such-host.invalid:80"))
        self.assertIn("no-such-host.invalid is no address to listen on", message)

    @on_loop
    async def test_a_closed_port_accepts_nobody_and_lets_the_connected_go_on(self) -> None:
        port = self.tcp()
        client = self.client(port)
        await self.until(lambda: self.factory.built and self.factory.built[0].transport)
        where = port.getHost()
        await port.stopListening()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((where.host, where.port))
        client.send(b"still here")
        await self.until(lambda: self.factory.built[0].received == b"still here")
        await self.shut(port)

    @on_loop
    async def test_a_factory_may_decline(self) -> None:
        port = self.tcp()
        self.factory.buildProtocol = lambda _: None  # type: ignore[method-assign, assignment, return-value]
        await self.closed_by_server(self.client(port))
        self.assertEqual(self.gate.taken, 0)
        await self.shut(port)

    @on_loop
    async def test_an_error_while_setting_up_costs_only_that_connection(self) -> None:
        port = self.tcp()
        build = self.factory.buildProtocol

        def fail(*_: object) -> Recorder:
            raise ArithmeticError("a bug")

        def build_broken(addr: object) -> Recorder:
            recorder = build(addr)
            recorder.on_made = fail
            return recorder

        ways: list[Callable[[object], Recorder]] = [fail, build_broken]
        for broken in ways:
            self.factory.buildProtocol = broken  # type: ignore[method-assign, assignment]
            await self.closed_by_server(self.client(port))
            await self.until(lambda: self.gate.taken == 0)
        self.assertEqual(len(self.flushLoggedErrors(ArithmeticError)), 2)
        self.factory.buildProtocol = build  # type: ignore[method-assign]
        self.client(port).send(b"fine")
        await self.until(lambda: self.factory.built[-1].received == b"fine")
        await self.shut(port)

    @on_loop
    async def test_a_reactor_without_file_descriptors_listens_its_own_way(self) -> None:
        reactor = MemoryReactor()
        foreign: Any = _Foreign(reactor)
        listen(Listener(tcp="127.0.0.1:8080"), Recorders(), foreign, Gate(1, 1))
        self.assertEqual(reactor.tcpServers[0][0], 8080)
        with self.assertRaises(ListenError):
            listen(Listener(unix=Path("/tmp/x")), Recorders(), foreign, Gate(1, 1))


class LimitTests(ListenTestCase):
    @on_loop
    async def test_at_the_limit_clients_wait_until_somebody_leaves(self) -> None:
        port = self.tcp(Gate(2, 100))
        clients = [self.client(port) for _ in range(4)]
        await self.until(lambda: len(self.factory.built) == 2)
        await self.turn(0.02)
        self.assertEqual(len(self.factory.built), 2)
        self.assertNotIn(port, self.reactor.getReaders())
        clients[0].close()
        await self.until(lambda: len(self.factory.built) == 3)
        await self.turn(0.02)
        self.assertEqual(len(self.factory.built), 3)
        clients[1].close()
        clients[2].close()
        await self.until(lambda: len(self.factory.built) == 4)
        await self.shut(port)
        self.assertEqual(self.gate.taken, 0)

    @on_loop
    async def test_one_limit_holds_for_all_ports(self) -> None:
        first = self.tcp(Gate(1, 100))
        second: Any = listen(Listener(tcp="127.0.0.1:0"), self.factory, self.reactor, self.gate)
        client = self.client(first)
        await self.until(lambda: len(self.factory.built) == 1)
        self.client(second)
        await self.turn(0.02)
        self.assertEqual(len(self.factory.built), 1)
        client.close()
        await self.until(lambda: len(self.factory.built) == 2)
        await second.stopListening()
        await self.shut(first)

    @on_loop
    async def test_a_port_opened_at_the_limit_waits_too(self) -> None:
        first = self.tcp(Gate(1, 100))
        client = self.client(first)
        await self.until(lambda: len(self.factory.built) == 1)
        second: Any = listen(Listener(tcp="127.0.0.1:0"), self.factory, self.reactor, self.gate)
        self.client(second)
        await self.turn(0.02)
        self.assertEqual(len(self.factory.built), 1)
        client.close()
        await self.until(lambda: len(self.factory.built) == 2)
        await second.stopListening()
        await self.shut(first)

    @on_loop
    async def test_an_address_with_too_many_connections_is_closed_at_once(self) -> None:
        port = self.tcp(Gate(100, 2))
        clients = [self.client(port) for _ in range(3)]
        await self.closed_by_server(clients[2])
        self.assertEqual(len(self.factory.built), 2)
        clients[0].close()
        await self.until(lambda: self.gate.taken == 1)
        self.client(port)
        await self.until(lambda: len(self.factory.built) == 3)
        await self.shut(port)

    @on_loop
    async def test_an_aborted_connection_gives_its_place_back_once(self) -> None:
        port = self.tcp(Gate(100, 100))
        self.client(port)
        await self.until(lambda: self.factory.built and self.factory.built[0].transport)
        protocol = self.factory.built[0]
        protocol.to.abortConnection()
        await protocol.lost
        protocol.to.connectionLost(protocol.reasons[0])
        self.assertEqual(self.gate.taken, 0)
        await self.shut(port)


class ExhaustionTests(SynchronousTestCase):
    def test_without_file_descriptors_it_rests_and_then_serves_who_waited(self) -> None:
        """Neither a crash nor a busy loop nor a dropped client; one warning for each second."""
        program = textwrap.dedent(
            """
            import os, resource, socket, sys, time
            from twisted.internet.protocol import Factory, Protocol
            from twisted.logger import globalLogBeginner, formatEvent
            from rtgateway.config import Listener
            from rtgateway.net.gate import Gate
            from rtgateway.net.listen import listen
            from rtgateway.net.reactor import EpollReactor
            warnings = []
            globalLogBeginner.beginLoggingTo(
                [lambda event: warnings.append(formatEvent(event))
                 if event["log_namespace"] == "rtgateway.net.port" else None],
                redirectStandardIO=False, discardBuffer=True)
            reactor = EpollReactor()
            made = []
            class Made(Protocol):
                def connectionMade(self):
                    made.append(self)
            port = listen(Listener(tcp="127.0.0.1:0"), Factory.forProtocol(Made), reactor,
                          Gate(1000, 1000))
            waiting = [socket.create_connection(("127.0.0.1", port.getHost().port))
                       for _ in range(6)]
            highest = max(int(n) for n in os.listdir("/proc/self/fd"))
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, hard))
            def later():
                print("accepted", len(made), "warnings", len(warnings), flush=True)
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 100, hard))
                reactor.callLater(1.2, last)
            def last():
                print("accepted", len(made), "of", len(waiting), flush=True)
                print("busy" if time.process_time() - started > 1 else "idle")
                print(warnings[0])
                reactor.stop()
            started = time.process_time()
            reactor.callLater(0.5, later)
            reactor.run()
            """
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
        )
        self.assertEqual(done.stderr, "")
        first, second, load, warning = done.stdout.splitlines()
        self.assertRegex(first, "accepted [123] warnings 1")
        self.assertEqual(second, "accepted 6 of 6")
        self.assertEqual(load, "idle")
        self.assertRegex(warning, r"Cannot accept connections on \d+ for 1.0 s: Too many open")


class AcceptErrorTests(ListenTestCase):
    @on_loop
    async def test_a_client_that_gave_up_before_it_was_accepted_is_nobodys_problem(self) -> None:
        port = self.tcp()
        real = port.socket
        errors = [ConnectionAbortedError(103, "Software caused connection abort")]

        class Aborts:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def accept(self) -> Any:
                if errors:
                    raise errors.pop()
                return real.accept()

        port.socket = Aborts()
        self.client(port)
        await self.until(lambda: self.factory.built and self.factory.built[0].transport)
        self.assertEqual(errors, [])
        port.socket = real
        await self.shut(port)

    @on_loop
    async def test_a_resting_port_can_be_closed(self) -> None:
        port = self.tcp()
        port._rest(OSError(24, "Too many open files"))
        self.assertNotIn(port, self.reactor.getReaders())
        self.gate.admit("192.0.2.1")
        self.gate.leave("192.0.2.1")
        self.assertNotIn(port, self.reactor.getReaders())
        await self.shut(port)


class UnixTests(ListenTestCase):
    def at(self, path: str, **more: Any) -> Listener:
        return Listener(unix=Path(path), **more)

    @on_loop
    async def test_the_socket_has_its_mode_and_goes_with_the_port(self) -> None:
        path = self.temporary("s")
        port = self.open(self.at(path, mode="0620"))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o620)
        self.assertEqual(port.getHost(), UNIXAddress(os.fsencode(path)))
        self.client(port).send(b"hi")
        await self.until(lambda: self.factory.built and self.factory.built[0].received == b"hi")
        await self.shut(port)
        self.assertFalse(os.path.lexists(path))

    @on_loop
    async def test_a_socket_left_behind_is_replaced(self) -> None:
        path = self.temporary("s")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
            left.listen()
        port = self.open(self.at(path))
        self.client(port)
        await self.until(lambda: self.factory.built)
        await self.shut(port)

    @on_loop
    async def test_a_socket_in_use_is_not_taken(self) -> None:
        path = self.temporary("s")
        port = self.open(self.at(path))
        message = self.refused(self.at(path))
        self.assertEqual(message, f"Unix socket {path} is in use by another process")
        await self.shut(port)

    @on_loop
    async def test_a_file_is_not_replaced(self) -> None:
        path = self.temporary("precious")
        Path(path).write_text("data")
        message = self.refused(self.at(path))
        self.assertEqual(message, f"{path} exists and is not a socket")
        self.assertEqual(Path(path).read_text(), "data")

    @on_loop
    async def test_a_path_that_can_not_be_bound(self) -> None:
        path = self.temporary("x" * 120)
        self.assertIn(f"Unix socket {path} can't be listened on: ", self.refused(self.at(path)))
        path = self.temporary("s")
        listener, folder = self.at(path), Path(path).parent
        folder.rmdir()
        self.assertIn("can't be listened on: No such file or directory", self.refused(listener))
        folder.write_text("no folder any more")
        self.assertIn("can't be listened on: Not a directory", self.refused(listener))
        folder.unlink()
        folder.mkdir()

    @on_loop
    async def test_the_socket_of_a_successor_stays(self) -> None:
        path = self.temporary("s")
        port = self.open(self.at(path))
        os.rename(path, path + ".old")
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(path)
            await self.shut(port)
            self.assertTrue(os.path.lexists(path))

    @on_loop
    async def test_a_socket_that_somebody_removed_is_no_problem_at_the_end(self) -> None:
        path = self.temporary("s")
        port = self.open(self.at(path))
        os.unlink(path)
        await self.shut(port)


class SystemdTests(ListenTestCase):
    def test_a_process_serves_on_the_socket_that_it_was_started_with(self) -> None:
        program = textwrap.dedent(
            """
            from twisted.internet.protocol import Factory, Protocol
            from rtgateway.config import Listener
            from rtgateway.net.gate import Gate
            from rtgateway.net.listen import listen
            from rtgateway.net.reactor import EpollReactor
            reactor = EpollReactor()
            class Greets(Protocol):
                def connectionMade(self):
                    self.transport.write(b"activated")
                    self.transport.loseConnection()
                    self.factory.port.stopListening()
                def connectionLost(self, reason):
                    reactor.callLater(0, reactor.stop)
            factory = Factory.forProtocol(Greets)
            factory.port = listen(Listener(systemd="web"), factory, reactor, Gate(9, 9))
            reactor.run()
            """
        )
        families: list[tuple[socket.AddressFamily, Any]] = [
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_UNIX, self.temporary("s")),
        ]
        for family, address in families:
            with socket.socket(family) as listening, socket.socket(family) as client:
                listening.bind(address)
                listening.listen()
                # The socket listens before the process that serves on it exists.
                client.settimeout(20)
                client.connect(listening.getsockname())
                number = listening.fileno()
                done = subprocess.run(
                    [sys.executable, "-c", ACTIVATE, str(number), program],
                    pass_fds=(number,),
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(client.recv(100), b"activated")
                if family == socket.AF_UNIX:
                    self.assertTrue(os.path.exists(address), "it belongs to systemd")
                # Whoever passed it may go on with it.
                with socket.socket(family) as another:
                    another.connect(listening.getsockname())

    @on_loop
    async def test_a_socket_that_was_not_passed(self) -> None:
        message = self.refused(Listener(systemd="web"), environ={})
        self.assertEqual(message, "systemd passed no socket named 'web' (passed: none)")


class _Foreign:
    """A reactor that knows no file descriptors."""

    def __init__(self, reactor: MemoryReactor) -> None:
        self.listenTCP = reactor.listenTCP

    def __conform__(self, interface: object) -> object:
        return self
