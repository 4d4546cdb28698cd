"""The thread that writes the access log, on real files, pipes and FIFOs."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe import log_writer
from rtgateway.observe.log_writer import LogWriter


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread, ten seconds at most."""
    deadline = monotonic() + 10
    while not condition():
        assert monotonic() < deadline, "it did not happen within ten seconds"
        sleep(0.002)


def read_all(fd: int) -> bytes:
    """Everything up to the end of the stream."""
    pieces = []
    while piece := os.read(fd, 65536):
        pieces.append(piece)
    os.close(fd)
    return b"".join(pieces)


class FileTests(SynchronousTestCase):
    """A regular file."""

    def setUp(self) -> None:
        # Not mktemp(): under pytest that is a directory in the working directory, which stays.
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name) / "log"
        self.directory.mkdir()
        self.path = self.directory / "access.log"

    def start(self) -> LogWriter:
        writer = LogWriter(self.path)
        writer.start()
        self.addCleanup(writer.close)
        return writer

    def test_lines_are_appended(self) -> None:
        """What was in the file stays; closing writes what was waiting."""
        self.path.write_bytes(b"old\n")
        writer = self.start()
        writer.write(b"one\n", 1)
        writer.write(b"two\nthree\n", 2)
        writer.close()
        self.assertEqual(self.path.read_bytes(), b"old\none\ntwo\nthree\n")
        self.assertEqual((writer.dropped, writer.error), (0, ""))
        self.assertIn("closed 0 bytes pending 0 lines dropped", repr(writer))

    def test_a_new_file_is_not_for_everybody(self) -> None:
        """Addresses of clients are in it."""
        self.start()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode) & 0o137, 0)

    def test_a_file_that_can_not_be_opened_is_told_at_the_start(self) -> None:
        """Not when the first line is lost."""
        writer = LogWriter(self.directory / "missing" / "access.log")
        self.assertRaises(FileNotFoundError, writer.start)
        writer.close()

    def test_rotation(self) -> None:
        """Lines from before go to the old file, those behind it to the new one."""
        writer = self.start()
        writer.write(b"before\n", 1)
        old = self.path.rename(self.directory / "access.log.1")
        writer.reopen()
        writer.write(b"after\n", 1)
        writer.close()
        self.assertEqual((old.read_bytes(), self.path.read_bytes()), (b"before\n", b"after\n"))

    def test_rotation_that_fails_keeps_the_old_file(self) -> None:
        """A directory that is gone costs no line."""
        writer = self.start()
        os.rename(self.directory, f"{self.directory}.moved")
        writer.reopen()
        until(lambda: writer.error != "")
        self.assertEqual(writer.error, "No such file or directory")
        writer.write(b"line\n", 1)
        writer.close()
        moved = Path(f"{self.directory}.moved") / "access.log"
        self.assertEqual((moved.read_bytes(), writer.dropped), (b"line\n", 0))

    def test_a_full_disk_is_counted(self) -> None:
        """Nothing is raised, the lines are lost, and the reason can be read."""
        self.path = Path("/dev/full")
        writer = self.start()
        writer.write(b"one\ntwo\n", 2)
        writer.close()
        self.assertEqual((writer.dropped, writer.error), (2, "No space left on device"))


class StandardOutputTests(SynchronousTestCase):
    """Standard output is a pipe that somebody else holds as well."""

    def setUp(self) -> None:
        self.reader, self.stdout = os.pipe()
        self.addCleanup(self.close_stdout)
        self.patch(log_writer, "_STDOUT", self.stdout)

    def close_stdout(self) -> None:
        if self.stdout >= 0:
            os.close(self.stdout)
            self.stdout = -1

    def start(self, max_pending: int = 1 << 20) -> LogWriter:
        writer = LogWriter(None, max_pending=max_pending)
        writer.start()
        return writer

    def test_lines_come_out(self) -> None:
        """And go on to come out where somebody closes standard output."""
        writer = self.start()
        self.close_stdout()
        writer.write(b"line\n", 1)
        writer.reopen()
        writer.close()
        self.assertEqual(read_all(self.reader), b"line\n")

    def test_nobody_reads(self) -> None:
        """Writing returns at once, memory is bounded, what is too much is counted."""
        writer = self.start(max_pending=300_000)
        thread = writer._thread
        assert thread is not None
        started = monotonic()
        for _ in range(10):
            writer.write(b"x" * 99_999 + b"\n", 1)
        self.assertEqual(writer.dropped, 7)
        writer.close(timeout=0.05)
        self.assertLess(monotonic() - started, 2)
        self.assertEqual(writer.dropped, 10)
        self.close_stdout()
        # The thread sits in its first write until there is room, and gives up the rest.
        self.assertTrue(thread.is_alive())
        read_all(self.reader)
        thread.join(10)
        self.assertFalse(thread.is_alive())

    def test_it_stays_blocking_for_others(self) -> None:
        """Whoever started us writes there too, and does not expect EAGAIN."""
        writer = self.start()
        self.assertTrue(os.get_blocking(self.stdout))
        writer.close()
        os.close(self.reader)

    def test_others_made_it_non_blocking(self) -> None:
        """Everything arrives all the same, in order."""
        os.set_blocking(self.stdout, False)
        fcntl.fcntl(self.stdout, fcntl.F_SETPIPE_SZ, 4096)
        writer = self.start()
        self.close_stdout()
        lines = b"".join(b"%d\n" % number for number in range(20_000))
        writer.write(lines, 20_000)
        writer._queue.put("stop")
        self.assertEqual(read_all(self.reader), lines)
        writer.close()
        self.assertEqual(writer.dropped, 0)

    def test_the_reader_is_gone(self) -> None:
        """Lines are lost and counted; the gateway lives."""
        writer = self.start()
        os.close(self.reader)
        writer.write(b"line\n", 1)
        writer.close()
        self.assertEqual((writer.dropped, writer.error), (1, "Broken pipe"))


class FifoTests(SynchronousTestCase):
    """A FIFO that a log shipper reads."""

    def setUp(self) -> None:
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.path = Path(temporary.name) / "access.fifo"
        os.mkfifo(self.path)

    def open_reader(self) -> int:
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(fd, True)
        return fd

    def test_without_a_reader_the_start_fails(self) -> None:
        """Instead of waiting for one for ever."""
        self.assertRaises(OSError, LogWriter(self.path).start)

    def test_a_reader_that_comes_back_finds_whole_lines(self) -> None:
        """Half a line that was written before is ended before the next one."""
        reader = self.open_reader()
        writer = LogWriter(self.path)
        writer.start()
        writer.write(b"x" * 500_000 + b"\n", 1)
        os.read(reader, 1)
        os.close(reader)
        until(lambda: writer.dropped == 1)
        reader = self.open_reader()
        writer.write(b"next\n", 1)
        found = b""
        while not found.endswith(b"next\n"):
            found += os.read(reader, 65536)
        self.assertEqual(found[-7:], b"x\nnext\n")
        writer.close()
        os.close(reader)
        self.assertEqual((writer.dropped, writer.error), (1, ""))
