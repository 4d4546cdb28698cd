"""A gateway as a process of its own, and plain blocking sockets to talk with it.

Nothing here needs the reactor of the tests: the gateway, its instances (threads) and its clients
run beside each other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

__all__ = ["Instance", "Process", "dial", "free_port", "head_of", "read_answer", "until"]

PATIENCE = 15.0
_TWISTD = str(Path(sys.executable).with_name("twistd"))
_PAGE = os.sysconf("SC_PAGESIZE")

T = TypeVar("T")


def interruptible() -> None:
    """Take SIGINT, which what a shell starts in the background inherits as ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """What ``condition`` returns, once that is true."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {patience} s"
        time.sleep(0.01)
    return result


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Process:
    """``twistd -n rtgateway`` (or another command) in a folder of its own.

    :ivar port: where it listens, unless the settings say otherwise.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (_TWISTD, "-n", "--pidfile=", "rtgateway"),
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "access.log"
        command = list(command)
        if settings is not None:
            config = folder / "gateway.yaml"
            defaults = {
                "listeners": [{"tcp": f"127.0.0.1:{self.port}"}],
                "access_log": {"file": str(self.log), "flush": "50ms"},
                "shutdown": {"grace": "10s"},
            }
            config.write_text(yaml.safe_dump({**defaults, **settings}))
            command += ["--config", str(config)]
        else:
            env = {"HOST": "127.0.0.1", "PORT": str(self.port), **(env or {})}
        self._out = (folder / "stdout").open("wb")
        self._err = (folder / "stderr").open("wb")
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            preexec_fn=interruptible,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._err.close()

    def listening(self) -> Process:
        """Wait until it accepts connections."""

        def accepts() -> bool:
            assert self.process.poll() is None, self.said
            with contextlib.suppress(ConnectionRefusedError), dial(self.port):
                return True
            return False

        until(accepts)
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, and all ends well."""
        self.signal(signal.SIGTERM)
        self.drained(signal.SIGTERM)

    def drained(self, number: int) -> None:
        """Wait for its end by a signal: twistd cleans up, and then really ends by it."""
        assert self.ended() == -number
        assert "Traceback" not in self.said, self.said

    def ended(self, patience: float = PATIENCE) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(patience)

    @property
    def said(self) -> str:
        """Everything on standard output and standard error."""
        return self.stdout + self.stderr

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def rss(self) -> int:
        """Resident bytes."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * _PAGE

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Instance:
    """Listens on a free port; every connection is served by ``serve`` in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *exception: object) -> None:
        # A thread that waits in accept wakes up when the socket is shut down, not when it closes.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.append(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._serve(connection)


def dial(port: int) -> socket.socket:
    """A connected socket that waits for nothing longer than `PATIENCE`."""
    connected = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def head_of(connection: socket.socket) -> tuple[bytes, bytes]:
    """A message's head with its blank line, and what came behind it; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of an answer of known length."""
    head, body = head_of(connection)
    length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        more = connection.recv(65536)
        assert more, "the answer is cut off"
        body += more
    return int(head.split(b" ", 2)[1]), body
