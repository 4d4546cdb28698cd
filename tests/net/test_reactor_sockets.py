"""Our reactor serves events, logs errors and disconnects as Twisted's does."""

from __future__ import annotations

# mypy: allow-untyped-calls
import os
import subprocess
import sys
import time
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionFdescWentAway, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.net.reactor import EpollReactor
from tests.net.loop import LoopTestCase, on_loop


class Pipe(FileDescriptor):
    """The reading end of a pipe."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.number, self.other = os.pipe()
        self.reasons: list[Failure] = []
        self.outcome: object = None
        self.prefix: object = "a pipe"
        self.reads = 0

    def fileno(self) -> int:
        return self.number

    def doRead(self) -> Any:
        self.reads += 1
        os.read(self.number, 100)
        if isinstance(self.outcome, type):
            raise self.outcome("a bug")
        return self.outcome

    def connectionLost(self, reason: Failure) -> None:
        self.reasons.append(reason)

    def logPrefix(self) -> Any:
        if isinstance(self.prefix, Exception):
            raise self.prefix
        return self.prefix

    def end(self) -> None:
        for descriptor in (self.number, self.other):
            os.close(descriptor)


class TwistedReactorTests(LoopTestCase):
    """Twisted's epoll reactor."""

    reactor_class = EPollReactor

    def pipe(self) -> Pipe:
        pipe = Pipe(self.reactor)
        self.reactor.addReader(pipe)
        return pipe

    @on_loop
    async def test_readable_is_read(self) -> None:
        pipe = self.pipe()
        for n in range(3):
            os.write(pipe.other, b"x")
            await self.until(lambda n=n: pipe.reads == n + 1)  # type: ignore[misc]
        self.reactor.removeReader(pipe)
        self.assertEqual(pipe.reasons, [])
        pipe.end()

    @on_loop
    async def test_an_error_is_logged_and_ends_the_descriptor(self) -> None:
        pipe = self.pipe()
        pipe.outcome = ArithmeticError
        os.write(pipe.other, b"x")
        await self.until(lambda: pipe.reasons)
        self.assertEqual(pipe.reasons[0].type, ArithmeticError)
        self.assertEqual(len(self.flushLoggedErrors(ArithmeticError)), 1)
        self.assertNotIn(pipe, self.reactor.getReaders())
        pipe.end()

    @on_loop
    async def test_a_broken_log_prefix_hides_no_error(self) -> None:
        pipe = self.pipe()
        pipe.outcome, pipe.prefix = ArithmeticError, ValueError("no prefix")
        os.write(pipe.other, b"x")
        await self.until(lambda: pipe.reasons)
        self.assertEqual(len(self.flushLoggedErrors(ArithmeticError)), 1)
        self.flushLoggedErrors(ValueError)
        pipe.end()

    @on_loop
    async def test_what_doRead_returns_is_why_the_descriptor_is_lost(self) -> None:
        pipe = self.pipe()
        pipe.outcome = ConnectionLost()
        os.write(pipe.other, b"x")
        await self.until(lambda: pipe.reasons)
        self.assertEqual(pipe.reasons[0].type, ConnectionLost)
        pipe.end()

    @on_loop
    async def test_a_descriptor_that_went_away_is_lost(self) -> None:
        pipe = self.pipe()
        os.write(pipe.other, b"x")
        number, pipe.number = pipe.number, -1
        await self.until(lambda: pipe.reasons)
        self.assertEqual(pipe.reasons[0].type, ConnectionFdescWentAway)
        self.assertEqual(pipe.reads, 0)
        pipe.number = number
        pipe.end()

    @on_loop
    async def test_a_hang_up_is_the_end(self) -> None:
        pipe = self.pipe()
        os.close(pipe.other)
        await self.until(lambda: pipe.reasons)
        os.close(pipe.number)

    @on_loop
    async def test_a_descriptor_removed_by_an_earlier_event_is_left_alone(self) -> None:
        one, two = self.pipe(), self.pipe()

        class Removes:
            def __init__(self, mine: Pipe, other: Pipe) -> None:
                self.mine, self.other = mine, other

            def __call__(self) -> None:
                self.mine.reads += 1
                self.mine.reactor.removeReader(self.mine)
                self.mine.reactor.removeReader(self.other)

        one.doRead = Removes(one, two)  # type: ignore[method-assign]
        two.doRead = Removes(two, one)  # type: ignore[method-assign]
        os.write(one.other, b"x")
        os.write(two.other, b"x")
        await self.until(lambda: one.reads + two.reads)
        await self.turn(0.01)
        self.assertEqual(one.reads + two.reads, 1)
        one.end()
        two.end()

    @on_loop
    async def test_timers_and_threads_work(self) -> None:
        from twisted.internet.threads import deferToThreadPool

        found = await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), lambda: 42)
        self.assertEqual(found, 42)
        before = self.reactor.seconds()
        await self.turn(0.02)
        self.assertGreaterEqual(self.reactor.seconds() - before, 0.02)


class ReactorTests(TwistedReactorTests):
    """Ours."""

    reactor_class = EpollReactor


class InstallTests(SynchronousTestCase):
    def run_python(self, program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.strip()

    def test_it_becomes_the_reactor_of_the_process(self) -> None:
        said = self.run_python(
            "from rtgateway.net.reactor import install\n"
            "print(install())\n"
            "from twisted.internet import reactor\n"
            "print(type(reactor).__module__)\n"
            "reactor.callLater(0, reactor.stop)\n"
            "reactor.run()\n"
            "print('ran')"
        )
        self.assertEqual(said.split(), ["True", "rtgateway.net.reactor", "ran"])

    def test_a_reactor_that_is_there_already_stays(self) -> None:
        said = self.run_python(
            "from twisted.internet import selectreactor\n"
            "selectreactor.install()\n"
            "from rtgateway.net.reactor import install\n"
            "print(install())\n"
            "from twisted.internet import reactor\n"
            "print(type(reactor).__name__)"
        )
        self.assertEqual(said.split(), ["False", "SelectReactor"])


class ClockTests(SynchronousTestCase):
    """What timers go by."""

    def test_setting_the_clock(self) -> None:
        """They go by a clock that nobody can set."""
        before = time.monotonic()
        self.assertTrue(before <= EpollReactor.seconds() <= time.monotonic())
