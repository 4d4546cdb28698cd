"""WebSocket traffic: the echo upstream, and the clients of load/sockets that talk to it."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from harness.gateway import SOCKET_PATH
from harness.load import Outcome
from harness.machine import Cores
from harness.processes import BenchError, Child, Rig, await_answer
from harness.proxies import BUILD, Running
from harness.rounds import Entrant

SOCKETS = BUILD / "sockets"
ONE_PROCESSOR = {"GOMAXPROCS": "1"}


@dataclass(frozen=True)
class Traffic:
    """What the clients do. `rate` 0: each sends a message when the one before is back."""

    size: int = 64
    text: bool = False
    connections: int = 64
    rate: float = 0.0
    handshakes: bool = False  # no messages: connections are opened and closed
    path: str = SOCKET_PATH

    def arguments(self, seconds: float) -> list[str]:
        mode = "handshake" if self.handshakes else "steady" if self.rate else "echo"
        words = [mode, "-path", self.path, "-connections", str(self.connections)]
        words += ["-size", str(self.size), "-seconds", f"{seconds:g}"]
        if self.rate:
            words += ["-rate", f"{self.rate:.0f}"]
        return [*words, "-text"] if self.text else words


def start_echo(rig: Rig, cores: Cores) -> str:
    """Start the upstream, which sends every message back; its host:port."""
    if not SOCKETS.exists():
        raise BenchError("load/sockets is not built: run make bench-setup with Go installed")
    port = rig.port()
    address = f"127.0.0.1:{port}"
    argv: list[str | Path] = [SOCKETS, "serve", "-listen", address]
    child = rig.start("echo", argv, core=cores.load, env=ONE_PROCESSOR)
    await_answer(child, port, "/")
    return address


class Clients:
    """The clients of one entrant: a process for each measurement, connected before it begins."""

    _numbers = itertools.count(1)

    def __init__(self, rig: Rig, cores: Cores, address: str, traffic: Traffic) -> None:
        self._rig = rig
        self._cores = cores
        self._address = address
        self._traffic = traffic
        self._child: Child | None = None

    def __repr__(self) -> str:
        return f"<Clients of {self._address} {self._traffic} {self._child}>"

    def entrant(self, label: str, running: Running | None) -> Entrant:
        return Entrant(label, running, self.measure, self.prepare, self.finish)

    def prepare(self, seconds: float) -> None:
        """Start them and wait until all are connected."""
        self._child = self._rig.start(
            f"clients-{next(self._numbers)}",
            [SOCKETS, *self._traffic.arguments(seconds), "-address", self._address],
            core=self._cores.load,
            env=ONE_PROCESSOR,
            conversation=True,
        )
        self._child.hear()

    def measure(self, seconds: float) -> Outcome:
        """Give the word, wait for what they found; `requests` are messages that came back."""
        assert self._child is not None
        try:
            result = self._child.ask("go")
        except BenchError:
            self._child.stop()
            raise
        return Outcome(
            requests=int(result["messages"] + result["missing"]),
            seconds=result["seconds"],
            bytes=int(result["bytes"]),
            errors=int(result["missing"]),
            p50=result["p50"],
            p99=result["p99"],
            p999=result["p999"],
        )

    def finish(self) -> None:
        """Let them say goodbye on every connection, so that whoever is next has the core alone."""
        if self._child is not None:
            self._child.leave()


class Crowd:
    """Many clients that stay connected and answer pings, one program for all of a proxy's."""

    def __init__(self, rig: Rig, cores: Cores) -> None:
        self._child = rig.start(
            "crowd", [SOCKETS, "idle"], core=cores.load, env=ONE_PROCESSOR, conversation=True
        )

    def __repr__(self) -> str:
        return f"<Crowd {self._child}>"

    def open(self, address: str, count: int, *, tls: bool = False) -> None:
        """Connect `count` more and send one message on each of all that are open."""
        self._child.ask(f"open {address} {SOCKET_PATH} {count} {'tls' if tls else 'plain'}")
        self._child.ask("echo")

    def pings(self) -> int:
        """How many pings came so far; BenchError when a connection was lost."""
        status = self._child.ask("status")
        if status["lost"]:
            raise BenchError(f"{status['lost']} connections were closed by the proxy")
        return int(status["pings"])

    def close(self) -> None:
        self._child.ask("close")
