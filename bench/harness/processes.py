"""Child processes that never outlive the run: pinned, in their own process groups, logs kept.

A `Rig` is a context manager that owns a temporary directory and every child started in it.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from harness.machine import TICKS_PER_SECOND, on_core

START_PATIENCE = 20.0  # seconds
STOP_PATIENCE = 3.0
PAGE = os.sysconf("SC_PAGE_SIZE")


class BenchError(Exception):
    """Something could not be started or measured; the text is one sentence for the report."""


@dataclass(frozen=True)
class Usage:
    """What a process group has used so far: seconds in user mode, seconds in the kernel."""

    user: float
    system: float

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.user - other.user, self.system - other.system)

    @property
    def total(self) -> float:
        return self.user + self.system


class Child:
    """One started program: its process group, its log, what it uses."""

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def __repr__(self) -> str:
        code = self.process.poll()
        state = "running" if code is None else f"exited with {code}"
        return f"<Child {self.name} pid {self.process.pid} {state}>"

    def check(self) -> None:
        """Raise BenchError when the program has ended."""
        if self.process.poll() is not None:
            raise BenchError(
                f"{self.name} exited with {self.process.returncode}: {self.complaint()}"
            )

    def complaint(self) -> str:
        """The last line that the program wrote, which is where most say what is wrong."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()]
        return next((line[:200] for line in reversed(lines) if line), "it wrote nothing")

    def ask(self, command: str) -> dict[str, float]:
        """Of a conversation: send one line, wait for its answer; BenchError when it failed."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, float]:
        """The next line of a conversation, a JSON object; BenchError when there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name} ended: {self.complaint()}")
        answer: dict[str, float] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer

    def usage(self) -> Usage:
        user = system = 0
        for fields in self._group():
            user += int(fields[11])
            system += int(fields[12])
        return Usage(user / TICKS_PER_SECOND, system / TICKS_PER_SECOND)

    def resident_bytes(self) -> int:
        return sum(int(fields[21]) * PAGE for fields in self._group())

    def _group(self) -> Iterator[list[str]]:
        """Fields of /proc/PID/stat from the third on, for each process of the group."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    # The second field is the program's name, which may hold spaces and brackets.
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) == self.process.pid:
                        yield fields

    def stop(self) -> None:
        """End the whole group; what does not go when asked is killed."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_PATIENCE)
        self._signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def leave(self) -> None:
        """Wait for the end that the program comes to by itself; kill it when it does not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_PATIENCE)
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class Rig:
    """A temporary directory and the children in it; leaving the context ends and removes all."""

    def __init__(self, ports: Iterator[int]) -> None:
        self._ports = ports
        self._children: list[Child] = []
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))

    def __enter__(self) -> "Rig":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for child in reversed(self._children):
                child.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def port(self) -> int:
        return next(self._ports)

    def subdirectory(self, name: str) -> Path:
        made = self.directory / name
        made.mkdir()
        return made

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        core: int,
        env: Mapping[str, str] | None = None,
        conversation: bool = False,
    ) -> Child:
        """Start `argv` on one core in a group of its own.

        `conversation` connects its standard input and output to us as text; otherwise they are
        empty and the log.
        """
        log = self.directory / f"{name}.log"
        streams: tuple[int | IO[bytes], int | IO[bytes]]
        with log.open("wb") as sink:
            streams = (
                (subprocess.PIPE, subprocess.PIPE) if conversation else (subprocess.DEVNULL, sink)
            )
            process = subprocess.Popen(
                [*on_core(core), *map(str, argv)],
                stdin=streams[0],
                stdout=streams[1],
                stderr=sink,
                env={**os.environ, **(env or {})},
                cwd=self.directory,
                start_new_session=True,
                text=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child


def fetch(
    port: int, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> tuple[int, bytes]:
    """One plain request to 127.0.0.1; returns status and body, raises OSError or HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST" if body else "GET", path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def await_answer(
    child: Child, port: int, path: str, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """The body of the first 200; BenchError when the child ends or stays silent."""
    deadline = time.monotonic() + START_PATIENCE
    trouble = "no answer"
    while time.monotonic() < deadline:
        child.check()
        try:
            status, body = fetch(port, path, headers=dict(headers))
        except (OSError, http.client.HTTPException) as error:
            trouble = str(error) or type(error).__name__
        else:
            if status == 200:
                return body
            trouble = f"status {status}"
        time.sleep(0.05)
    raise BenchError(f"{child.name} does not answer {path}: {trouble}; log: {child.complaint()}")
