"""A Redis for the gateways under test, on the load core: it is somebody else's work, too."""

import shutil
import socket
import time
from dataclasses import dataclass

from harness.machine import Cores
from harness.processes import BenchError, Child, Rig

PATIENCE = 5.0


@dataclass(frozen=True)
class Redis:
    child: Child
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def calls(self, command: str) -> int:
        """How often it was told this by clients."""
        lines = self.say("INFO", "commandstats").splitlines()
        found = (line for line in lines if line.startswith(f"cmdstat_{command}:calls="))
        return int(next(found, "=0,").partition("=")[2].partition(",")[0])

    def say(self, *words: str) -> str:
        """One command on a connection of its own; the reply as it comes, if it is a short one."""
        parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall("".join(parts).encode())
            return connection.recv(65536).decode()


def start_redis(rig: Rig, cores: Cores, port: int = 0) -> Redis:
    """Start it and wait until it listens; BenchError where there is none."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        raise BenchError("redis-server is not installed: run make bench-setup")
    port = port or rig.port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    child = rig.start("redis", [binary, *options], core=cores.load)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        child.check()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return Redis(child, port)
    raise BenchError(f"redis-server does not listen: {child.complaint()}")
