"""The processes of a drama: three instances, a name server, and the gateway in front of them.

The instances have one port on three addresses of this machine, so that a name can stand for them
and no client's port can ever be in the way of one that comes back. Everything waits without
blocking the event loop, in which the load runs.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import trustme

from tests.e2e.faults.board import Board, Fault
from tests.e2e.faults.names import NAME
from tests.e2e.process import Process

__all__ = ["DEFAULTS", "QUICK", "SERVICES", "Child", "Stage", "configuration", "until"]

ROOT = Path(__file__).resolve().parents[3]
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
SERVICES = ("plain", "secure", "named")
"""The same instances, asked over HTTP, over TLS, and found by a name."""
LINGER = 1.3
"""Seconds that an instance goes on after it was told to end: two health checks and a bit."""
PATIENCE = 10.0
_Ports = tuple[int, int, int, int]

_HEALTH = {"interval": "500ms", "timeout": "300ms", "rise": 1, "fall": 2}
_BREAKER = {
    "failure_threshold": 5,
    "success_threshold": 5,
    "timeout": "1s",
    "max_timeout": "2s",
    "window_size": 20,
    "minimum_calls": 10,
    "failure_rate_threshold": 0.3,
    "slow_call_duration": "500ms",
    "slow_call_rate_threshold": 0.8,
}
QUICK: dict[str, Any] = {
    "balance": {"strategy": "least_load", "slow_start": "1s", "panic_threshold": 0.3},
    "retry": {"on": ["connect", "reset", "timeout", "5xx"]},
    "timeouts": {"connect": "1s", "first_byte": "1500ms", "between_bytes": "1s"},
    "health": _HEALTH,
    "circuit_breaker": _BREAKER,
    "outliers": {"interval": "2s", "base_ejection": "1s", "max_ejection": "2s"},
}
"""Settings of a service that finds out soon, and forgives soon."""
DEFAULTS: dict[str, Any] = {"health": {}, "retry": QUICK["retry"]}
"""The gateway's own; but it is told where to ask for health, and that a 500 may be tried again."""


def configuration(
    ports: _Ports, ca: Path, services: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The gateway's.

    :param ports: of the instances, of the same over TLS, of the name server, and its own.
    :param settings: of each service.
    """
    plain, secure, names, own = ports
    dns = {"name": NAME, "port": plain, "resolvers": [f"{HOSTS[0]}:{names}"], "timeout": "500ms"}
    forms: dict[str, dict[str, Any]] = {
        "plain": {"instances": [f"http://{host}:{plain}" for host in HOSTS]},
        "secure": {
            "instances": [f"https://{host}:{secure}" for host in HOSTS],
            "tls": {"ca": str(ca)},
        },
        "named": {"discovery": {"dns": {**dns, "min_ttl": "500ms", "max_ttl": "1s"}}},
    }
    return {
        "listeners": [{"tcp": f"127.0.0.1:{own}"}],
        "services": {name: {**settings, **forms[name]} for name in services},
        "connections": {"total": 16000, "per_ip": 16000},
        "proxy_headers": True,
    }


async def until(condition: Callable[[], Any], patience: float = PATIENCE) -> float:
    """Wait until ``condition`` (perhaps to be awaited) is true; the monotonic second it was.

    :raises TimeoutError: it did not become true.
    """
    deadline = monotonic() + patience
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return monotonic()
        if monotonic() > deadline:
            raise TimeoutError(f"not true within {patience} s")
        await asyncio.sleep(0.02)


class Child:
    """A process with a board that listens somewhere."""

    def __init__(self, name: str, module: str, at: tuple[str, int], folder: Path) -> None:
        self.name = name
        self.at = at
        self.path = folder / f"{name}.board"
        self.board = Board(self.path)
        self.prefix: tuple[str, ...] = ()
        self._module = module
        self._said = (folder / f"{name}.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *words: object) -> None:
        """Start it; ``words`` are the program's arguments."""
        command = [sys.executable, "-m", self._module, *map(str, words)]
        self._process = subprocess.Popen(
            [*self.prefix, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
        )

    async def listening(self) -> None:
        """Wait until it accepts connections."""
        await until(self._accepts)

    def _accepts(self) -> bool:
        assert self.running, f"{self!r} ended by itself"
        with suppress(OSError), socket.create_connection(self.at, 0.2):
            return True
        return False

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def ended(self) -> None:
        """Wait for its end."""
        await until(lambda: not self.running)

    def kill(self) -> None:
        """End it at once, and for good."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        self.kill()
        self._said.close()
        self.board.close()

    def __repr__(self) -> str:
        return f"<Child {self.name} {'running' if self.running else 'ended'} {self.board!r}>"


class Stage:
    """See the module.

    :param settings: of every service.
    :param cores: numbers of the cores for the gateway and for the instances; None for any.
    :ivar folder: where they write; ``service``: under which name the instances are asked.
    """

    def __init__(
        self,
        folder: Path,
        services: Sequence[str] = SERVICES,
        cores: tuple[int, int] | None = None,
        settings: Mapping[str, Any] = QUICK,
    ) -> None:
        self.service = services[0]
        self._certificates(folder)
        self._ports = plain, _, names, own = _free_ports()
        self.folder = folder
        # What the gateway does about a fault at its defaults takes most of a minute.
        self.patience = PATIENCE if settings is QUICK else 90.0
        module = "tests.e2e.faults.instance"
        self.instances = [
            Child(f"instance-{number}", module, (host, plain), folder)
            for number, host in enumerate(HOSTS)
        ]
        self.names = Child("names", "tests.e2e.faults.names", (HOSTS[0], names), folder)
        self.children = [*self.instances, self.names] if "named" in services else self.instances
        if cores is not None:
            for child in self.children:
                child.prefix = ("taskset", "--cpu-list", str(cores[1]))
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "rtgateway"]
        if cores is not None:
            command = ["taskset", "--cpu-list", str(cores[0]), *command]
        for child in self.children:
            self.start(child)
        configured = configuration(self._ports, folder / "ca.pem", services, settings)
        self.gateway = Process(folder, configured, command=command)
        self.gateway.port = own

    def _certificates(self, folder: Path) -> None:
        """One that the gateway trusts, and one that is for somebody else, by somebody else."""
        trusted, other = trustme.CA(), trustme.CA()
        trusted.cert_pem.write_to_path(str(folder / "ca.pem"))
        for name, issued in (
            ("good", trusted.issue_cert(*HOSTS)),
            ("bad", other.issue_cert("elsewhere.test")),
        ):
            (folder / f"{name}.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())

    def start(self, child: Child) -> None:
        """Start an instance, or the name server (again)."""
        plain, secure, names, _ = self._ports
        if child is self.names:
            child.start(child.at[0], names, child.path, *HOSTS)
            return
        files = (self.folder / f"{name}.pem" for name in ("good", "bad"))
        child.start(child.at[0], plain, secure, child.path, *files, LINGER)

    async def ready(self) -> None:
        """Wait until everything runs and the gateway asks all instances."""
        for child in self.instances:
            await child.listening()
        await until(self._answers)
        await until(self.all_in)

    def _answers(self) -> bool:
        assert self.gateway.process.poll() is None, self.gateway.said
        return "Listening on" in self.gateway.said

    def close(self) -> None:
        self.gateway.__exit__()
        for child in {*self.children, self.names}:
            child.close()

    async def mend(self) -> None:
        """Whatever has happened: back to the beginning, nothing held against anybody."""
        for child in self.children:
            child.board.fault = Fault.NONE
            child.signal(signal.SIGCONT)
            if not child.running:
                self.start(child)
        for child in self.instances:
            await child.listening()
        await self.ask("/gateway/circuit-breakers/reset", "POST")
        await until(self.all_in)

    # -- what the gateway says --------------------------------------------------------------------

    async def ask(self, path: str, method: str = "GET") -> Any:
        """A page of the gateway's own: its JSON, or its text."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        length = "Content-Length: 0\r\n" if method == "POST" else ""
        request = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}Connection: close\r\n\r\n"
        )
        writer.write(request.encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        assert head[9:12] == b"200", (path, head, body)
        return json.loads(body) if b"application/json" in head else body.decode()

    async def look(self) -> dict[str, Any]:
        """What the gateway knows of the service."""
        document: dict[str, Any] = await self.ask(f"/gateway/services/{self.service}")
        return document

    async def retries(self) -> int:
        """Tries beyond the first, so far."""
        return sum((await self.look())["retries"].values())

    async def out(self, child: Child) -> bool:
        """Whether the gateway sends an instance nothing, save probes."""
        return not self._in(await self.look(), child)

    async def into(self, child: Child) -> bool:
        """Whether the gateway sends an instance requests like any other."""
        return self._in(await self.look(), child)

    async def all_in(self) -> bool:
        """Whether it does so for all of them."""
        document = await self.look()
        return all(self._in(document, child) for child in self.instances)

    @staticmethod
    def _in(document: dict[str, Any], child: Child) -> bool:
        for each in document["instances"]:
            if each["id"].startswith(f"{child.at[0]}:"):
                return bool(each["available"] and each["circuit"]["state"] == "closed")
        return False

    async def left_over(self) -> list[str]:
        """What is not as it was before anybody asked; waits a while for it to go away."""
        found: list[str] = []

        async def at_rest() -> bool:
            found[:] = await self._left_over()
            return not found

        with suppress(TimeoutError):
            await until(at_rest, 5.0)
        return found

    async def _left_over(self) -> list[str]:
        document = await self.look()
        found = []
        if document["waiting"]:
            found.append(f"{document['waiting']} requests wait")
        found += [f"{each['id']} is leaving" for each in document["leaving"]]
        for each in document["instances"]:
            connections = each["connections"]
            busy = connections["open"] - connections["idle"]
            state = (sum(each["inflight"].values()), busy, connections["waiting"])
            probes = each["circuit"]["probes"]
            if state != (0, 0, 0) or probes:
                found.append(f"{each['id']}: {state} in flight, busy, waiting; {probes} probes")
        metrics = await self.ask("/metrics")
        clients = next(
            line for line in metrics.splitlines() if line.startswith("gateway_connections ")
        )
        if float(clients.split()[1]) != 1:  # the one that asks
            found.append(clients)
        return found

    @property
    def received(self) -> int:
        """Requests that all instances together have received."""
        return sum(child.board.received for child in self.instances)

    def __repr__(self) -> str:
        return f"<Stage {self.service} {self.children!r}>"


def _free_ports() -> _Ports:
    """Ports that are free on all addresses, below those that the kernel gives to clients."""
    found: list[int] = []
    start = 20000 + random.SystemRandom().randrange(8000)
    for port in range(start, 32000):
        with suppress(OSError):
            for host in ("127.0.0.1", *HOSTS):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(type=kind) as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind((host, port))
            found.append(port)
        if len(found) == 4:
            return found[0], found[1], found[2], found[3]
    raise OSError("no free ports")
