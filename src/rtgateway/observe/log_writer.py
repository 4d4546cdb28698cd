"""Where the access log goes: a file or standard output, written by a thread of its own.

A pipe nobody reads, a terminal that was stopped with ^S, a disk that stalls: `os.write` then
blocks, and must not block the event loop. Making the descriptor non-blocking is no way out: for
regular files it changes nothing, and standard output is shared with the process that started us,
which would find its own writes failing. So whole batches are handed to a thread. What it has not
written is bounded; beyond the bound batches are dropped, and counted.

The event loop calls `write`, `reopen` and `close`; none of them takes a lock.
"""

from __future__ import annotations

import os
import select
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Final

__all__ = ["LogWriter"]

MAX_PENDING = 8 * 1024 * 1024
"""Bytes that may wait for the thread."""

_LOOK_UP = 500
"""Milliseconds after which a thread that waits for room looks whether it is to go on."""

_STDOUT = 1
_REOPEN: Final = "reopen"
_STOP: Final = "stop"


class LogWriter:
    """See the module.

    :param path: the file to append to; None is standard output.
    :ivar dropped: lines that were not written, for whatever reason.
    :ivar error: why the last write or `reopen` failed; empty when it worked.
    """

    def __init__(self, path: Path | None, *, max_pending: int = MAX_PENDING) -> None:
        self._path = path
        self._max_pending = max_pending
        self._queue: SimpleQueue[tuple[bytes, int] | str] = SimpleQueue()
        self._thread: Thread | None = None
        self._fd = -1
        self._abandoned = False
        self._torn = False
        # Each number has one writer, so that no lock is needed: the event loop's, the thread's.
        self._bytes_taken = self._lines_taken = self._lines_refused = 0
        self._bytes_done = self._lines_done = self._lines_failed = 0
        self.error = ""

    # -- the event loop's side ----------------------------------------------------------------

    def start(self) -> None:
        """Open the file and start the thread (call it after forking: threads don't survive that).

        :raises OSError: the file can't be opened for writing.
        """
        self._fd = self._open()
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, batch: bytes, lines: int) -> None:
        """Have ``batch`` written soon, unless too much is waiting already. Never blocks."""
        if self._bytes_taken - self._bytes_done + len(batch) > self._max_pending:
            self._lines_refused += lines
            return
        self._bytes_taken += len(batch)
        self._lines_taken += lines
        self._queue.put((batch, lines))

    def reopen(self) -> None:
        """Open the file anew, behind everything handed over so far (it has been rotated)."""
        if self._path is not None:
            self._queue.put(_REOPEN)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is waiting and end. Blocks for ``timeout`` seconds at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._queue.put(_STOP)
        thread.join(timeout)
        if thread.is_alive():
            self._abandoned = True
            self._lines_refused += self._lines_taken - self._lines_done

    @property
    def dropped(self) -> int:
        return self._lines_refused + self._lines_failed

    # -- the thread's side ----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._abandoned and (item := self._queue.get()) is not _STOP:
                if isinstance(item, str):
                    self._reopen()
                    continue
                batch, lines = item
                self._write(batch, lines)
                self._bytes_done += len(batch)
                self._lines_done += lines
        finally:
            os.close(self._fd)

    def _write(self, batch: bytes, lines: int) -> None:
        # A write that failed half-way has left half a line; the next one starts on its own.
        rest = memoryview(b"\n" + batch if self._torn else batch)
        begun = len(rest)
        try:
            while rest and not self._abandoned:
                rest = rest[self._write_some(rest) :]
        except OSError as error:
            self._lines_failed += lines
            self._torn = self._torn or len(rest) < begun
            self.error = error.strerror or str(error)
        else:
            self._torn = False
            self.error = ""

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            # Somebody made the shared description non-blocking, or it is a FIFO of ours.
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll(_LOOK_UP)
            return 0

    def _reopen(self) -> None:
        try:
            fd = self._open()
        except OSError as error:
            # Lines go on to the old file: it is better than nowhere.
            self.error = error.strerror or str(error)
            return
        old, self._fd = self._fd, fd
        self._torn = False
        os.close(old)

    def _open(self) -> int:
        if self._path is None:
            # A copy of our own: whoever closes standard output does not close the log.
            return os.dup(_STDOUT)
        # O_NONBLOCK is for FIFOs only, and for opening one that nobody reads: an error instead of
        # waiting for ever. The description is ours alone, unlike that of standard output.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(self._path, flags, 0o640)

    def __repr__(self) -> str:
        pending = self._bytes_taken - self._bytes_done
        where = self._path or "standard output"
        state = self.error or ("open" if self._thread is not None else "closed")
        return f"<LogWriter {where} {state} {pending} bytes pending {self.dropped} lines dropped>"
