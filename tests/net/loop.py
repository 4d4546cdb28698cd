"""Tests on real sockets, each on a reactor of its own.

Twisted's and ours are both run this way, so that one test can hold them to the same expectation.
A test that leaves a socket or a timer behind fails.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

__all__ = ["LoopTestCase", "Recorder", "on_loop"]

LONG = 10.0
"""Seconds after which a test has hung."""

S = TypeVar("S", bound="LoopTestCase")


def on_loop(test: Callable[[S], Coroutine[Any, Any, None]]) -> Callable[[S], None]:
    """Run an asynchronous test to its end on ``self.reactor``, made for it."""

    @functools.wraps(test)
    def run(self: S) -> None:
        self.drive(test(self))

    return run


class LoopTestCase(SynchronousTestCase):
    """Has ``self.reactor`` while an `on_loop` test runs."""

    reactor_class: Callable[[], ReactorBase] = EPollReactor
    reactor: Any

    def drive(self, test: Coroutine[Any, Any, None]) -> None:
        reactor: Any = self.reactor_class()
        self.reactor = reactor
        idle = set(reactor.getReaders())
        outcome: list[object] = []

        def ended(result: object) -> None:
            outcome.append(result)
            reactor.stop()

        def start() -> None:
            running = Deferred.fromCoroutine(test)
            running.addTimeout(LONG, reactor)
            running.addBoth(ended)

        reactor.callWhenRunning(start)
        left: list[object] = []
        # Before the reactor itself closes what is open.
        reactor.addSystemEventTrigger(
            "before", "shutdown", lambda: left.extend(self._left_behind(idle))
        )
        reactor.run(installSignalHandlers=False)
        for reader in reactor.removeAll() + list(reactor._internalReaders):
            reader.connectionLost(Failure(ConnectionError("the test is over")))
        reactor._poller.close()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        self.assertEqual(left, [])

    def _left_behind(self, idle: set[object]) -> list[object]:
        selectables = set(self.reactor.getReaders()) | set(self.reactor.getWriters())
        internal = idle | self.reactor._internalReaders
        timers = [call for call in self.reactor.getDelayedCalls() if call.active()]
        return [*(selectables - internal), *timers]

    def turn(self, seconds: float = 0.0) -> Deferred[None]:
        """Let the reactor go round once, or for some time."""
        return deferLater(self.reactor, seconds, lambda: None)

    async def until(self, true: Callable[[], object]) -> None:
        """Go round until something is true."""
        deadline = self.reactor.seconds() + LONG / 2
        while not true():
            if self.reactor.seconds() > deadline:
                self.fail(f"never: {true}")
            await self.turn(0.001)

    def temporary(self, name: str) -> str:
        """A path that does not exist, short enough for a Unix socket."""
        folder = tempfile.mkdtemp(prefix="net")
        self.addCleanup(shutil.rmtree, folder)
        return os.path.join(folder, name)


class Recorder(Protocol):
    """Keeps what it gets and what happens to it, in order."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.events: list[str] = []
        self.reasons: list[Failure] = []
        self.lost: Deferred[None] = Deferred()
        self.on_made: Callable[[], object] = _nothing
        self.on_data: Callable[[bytes], object] = _nothing
        self.on_lost: Callable[[], object] = _nothing

    def connectionMade(self) -> None:
        self.events.append("made")
        self.on_made()

    def dataReceived(self, data: bytes) -> None:
        if self.events[-1] != "data":
            self.events.append("data")
        self.parts.append(data)
        self.size += len(data)
        self.on_data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.reasons.append(reason)
        self.on_lost()
        if not self.lost.called:
            self.lost.callback(None)

    @property
    def received(self) -> bytes:
        return b"".join(self.parts)

    @property
    def to(self) -> Any:
        """The transport, by whatever interface a test needs."""
        return self.transport

    @property
    def reason(self) -> type[BaseException]:
        """Why the connection was lost."""
        (reason,) = self.reasons
        return cast("type[BaseException]", reason.type)


def _nothing(*_: object) -> None:
    return None
