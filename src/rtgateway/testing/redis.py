"""Redis servers for tests: real ones, which can be killed, stopped, restarted and slowed down.

A server (which one: `redis_binary`) keeps nothing on disk, listens on a free port of 127.0.0.1 and
on a Unix socket in a directory of its own, and dies with the process that started it where
``setpriv`` is there.

Everything here blocks, for some 10 ms; a command that gets no answer fails after `PATIENCE`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import hiredis

from rtgateway.testing.redis_binary import major_version, server_binary, speaks_tls

__all__ = [
    "RedisServer",
    "StartRedis",
    "Watched",
    "major_version",
    "server_binary",
    "speaks_tls",
]

_Word = str | bytes | int | float

PATIENCE = 10.0
"""Seconds after which a server or a command has failed."""


class Watched(NamedTuple):
    """What a Sentinel watches. ``down_after``: milliseconds of silence."""

    name: str
    master: RedisServer
    quorum: int = 1
    down_after: int = 300


class RedisServer:
    """A server, not started yet.

    :param password: of the user ``default``.
    :param users: lines for ``user``, such as ``gateway on >secret ~* &* +@all``.
    :param tls: files of a certificate, its key and the authority; the port then speaks TLS only,
        and takes clients without a certificate unless ``options`` say otherwise.
    :param replica_of: a server that was started.
    :param sentinel: be a Sentinel, watching this.
    :param options: more lines for the configuration file.
    :ivar port: stays the same over restarts.
    :ivar unix: the path of the Unix socket.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        users: Sequence[str] = (),
        tls: tuple[Path | str, Path | str, Path | str] | None = None,
        replica_of: RedisServer | None = None,
        sentinel: Watched | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.port = _free_port()
        self.password = password
        self.options = list(options)
        self._users = users
        self._tls = tls
        self._replica_of = replica_of
        self._sentinel = sentinel
        self._directory: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def unix(self) -> str:
        assert self._directory is not None, "not started"
        return f"{self._directory}/redis.sock"

    @property
    def url(self) -> str:
        """As user ``default``."""
        return self.url_as("", self.password or "")

    def url_as(self, user: str, password: str, db: int = 0) -> str:
        """The URL for a user."""
        scheme = "rediss" if self._tls else "redis"
        who = f"{quote(user, '')}:{quote(password, '')}@" if user or password else ""
        return f"{scheme}://{who}127.0.0.1:{self.port}/{db}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.unix}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said, for the message of a test that fails."""
        assert self._directory is not None, "not started"
        return Path(self._directory, "log").read_text(errors="replace")

    # -- its life -----------------------------------------------------------------------------

    def start(self) -> RedisServer:
        """Start it and wait until it answers, be it only that it is loading."""
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="redis-")
        configuration = Path(self._directory, "redis.conf")
        if self._sentinel is None or not configuration.exists():
            # A Sentinel keeps what it knows in its file.
            configuration.write_text("\n".join(self._lines()) + "\n")
        command = [server_binary(), str(configuration)]
        if self._sentinel is not None:
            command.append("--sentinel")
        if die_with_us := shutil.which("setpriv"):
            command[:0] = [die_with_us, "--pdeathsig", "KILL", "--"]
        with open(f"{self._directory}/log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._await_answer()
        return self

    def stop(self) -> None:
        """End it in good order, and forget its directory."""
        self._end(signal.SIGTERM)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self) -> None:
        """End it at once, as a crash would; `start` starts it again on the same port."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill and start: the same port, no data, no scripts."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: the kernel takes connections and bytes, nobody answers. Over on return."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(PATIENCE / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)

    def _await_answer(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.command("PING")
            except (ConnectionError, FileNotFoundError):
                if not self.running or time.monotonic() > deadline:
                    log = self.log
                    self.stop()
                    raise AssertionError(f"the Redis server did not start:\n{log}") from None
                time.sleep(0.002)
            except hiredis.ReplyError:
                return
            else:
                return

    # -- asking it ----------------------------------------------------------------------------

    def command(self, *words: _Word) -> Any:
        """The reply to one command, on a connection of its own: bytes, int, list or None.

        :raises hiredis.ReplyError: an error reply.
        """
        with self._connected() as connection:
            reader = hiredis.Reader()
            commands: list[tuple[_Word, ...]] = [words]
            if self.password is not None and words[0] != "AUTH":
                commands.insert(0, ("AUTH", self.password))
            reply = None
            for command in commands:
                connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
                while (reply := reader.gets()) is False:
                    data = connection.recv(65536)
                    if not data:
                        raise ConnectionResetError("the server closed the connection")
                    reader.feed(data)
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
        return reply

    def cli(self, *words: _Word) -> str:
        """The same as text: nothing for None, a line for each element of a list."""
        return _as_text(self.command(*words))

    def _connected(self) -> socket.socket:
        # A Sentinel listens on no Unix socket, and TLS may be spoken on the port.
        if self._sentinel is not None:
            plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            return _secured(plain, *self._tls[:2]) if self._tls is not None else plain
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(self.unix)
        except OSError:
            connection.close()
            raise
        return connection

    # -- its configuration --------------------------------------------------------------------

    def _lines(self) -> list[str]:
        lines = [f"dir {self._directory}", "bind 127.0.0.1"]
        if self._tls is not None:
            certificate, key, authority = self._tls
            lines += [
                "port 0",
                f"tls-port {self.port}",
                f"tls-cert-file {certificate}",
                f"tls-key-file {key}",
                f"tls-ca-cert-file {authority}",
                "tls-auth-clients no",
            ]
        else:
            lines.append(f"port {self.port}")
        if self._sentinel is not None:
            return [*lines, *self._watching(self._sentinel), *self.options]
        lines += [
            f"unixsocket {self.unix}",
            'save ""',
            "appendonly no",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
        ]
        if major_version() >= 7:
            lines.append("enable-debug-command yes")
        if self.password is not None:
            lines.append(f'requirepass "{self.password}"')
        lines += [f"user {user}" for user in self._users]
        if self._replica_of is not None:
            lines.append(f"replicaof 127.0.0.1 {self._replica_of.port}")
            if self._replica_of.password is not None:
                lines.append(f'masterauth "{self._replica_of.password}"')
        return lines + self.options

    def _watching(self, watched: Watched) -> list[str]:
        name, master, quorum, down_after = watched
        lines = [
            f"sentinel monitor {name} 127.0.0.1 {master.port} {quorum}",
            f"sentinel down-after-milliseconds {name} {down_after}",
            f"sentinel failover-timeout {name} 2000",
            f"sentinel parallel-syncs {name} 1",
        ]
        if master.password is not None:
            lines.append(f'sentinel auth-pass {name} "{master.password}"')
        if self.password is not None:
            lines.append(f'requirepass "{self.password}"')
        return lines

    def __repr__(self) -> str:
        kind = "Sentinel" if self._sentinel is not None else "RedisServer"
        return f"<{kind} on {self.port}, {'running' if self.running else 'not running'}>"


StartRedis = Callable[..., RedisServer]
"""Starts a server of these arguments."""


def _secured(plain: socket.socket, certificate: Path | str, key: Path | str) -> socket.socket:
    """TLS, to ourselves."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    return context.wrap_socket(plain)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_text(reply: object) -> str:
    if reply is None:
        return ""
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    if isinstance(reply, list):
        return "\n".join(map(_as_text, reply))
    return str(reply)
