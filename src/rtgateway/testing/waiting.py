"""Waiting in tests: for a condition, with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

__all__ = ["eventually", "soon", "the_reactor"]

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which a wait has failed."""


def the_reactor() -> Any:
    """The reactor of the running test; installed by the test runner, so not imported earlier."""
    from twisted.internet import reactor

    return reactor


async def soon(seconds: float = 0.0) -> None:
    """Let the reactor turn for ``seconds``."""
    await deferLater(the_reactor(), seconds)


async def eventually(condition: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """What ``condition`` returns, once that is true.

    :raises AssertionError: it did not become true in time; says what the condition shows.
    """
    clock: IReactorTime = the_reactor()
    deadline = clock.seconds() + patience
    pause = 0.0
    while True:
        result = condition()
        if result:
            return result
        if clock.seconds() > deadline:
            raise AssertionError(f"not true within {patience} s: {condition!r} gives {result!r}")
        await soon(pause)
        # At first every turn of the reactor, so that what happens at once is seen at once.
        pause = min(pause + 0.0002, 0.005)


def within(deferred: Deferred[T], patience: float = PATIENCE) -> Deferred[T]:
    """``deferred``, failing with TimeoutError when it takes too long."""
    return deferred.addTimeout(patience, the_reactor())
