"""Happy Eyeballs (RFC 8305): several addresses are tried in a staggered race.

`net.connect` uses it for names with several addresses, so that one which hangs costs a quarter of
a second and not the whole time allowed. Knows nothing of sockets: an attempt is whatever returns
a Deferred that can be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

__all__ = ["ATTEMPT_DELAY", "interleaved", "race"]

T = TypeVar("T")

ATTEMPT_DELAY = 0.25
"""Seconds until the next attempt starts beside those that go on (RFC 8305, 5 and 8)."""


def interleaved(addresses: Sequence[str]) -> list[str]:
    """IP addresses with their families taking turns, beginning with that of the first one.

    RFC 8305, 4. The order is otherwise the resolver's, who knows which family has a route (RFC
    6724): IPv6 comes first wherever it works.
    """
    first = ":" in addresses[0] if addresses else False
    same = [address for address in addresses if (":" in address) is first]
    other = [address for address in addresses if (":" in address) is not first]
    turns = zip_longest(same, other)
    return [address for turn in turns for address in turn if address is not None]


def race(
    attempts: Sequence[Callable[[], Deferred[T]]],
    clock: IReactorTime,
    delay: float = ATTEMPT_DELAY,
) -> Deferred[T]:
    """The result of the first of ``attempts`` to succeed; the others are cancelled.

    The next one starts after ``delay`` seconds, or at once when one has failed.

    :param attempts: at least one; each starts one. They are started in order.
    :return: can be cancelled, which cancels all that are running. Fails like the attempt that
        failed last, once all have failed.
    """
    assert attempts
    return _Race(attempts, clock, delay).start()


class _Race(Generic[T]):
    def __init__(
        self, attempts: Sequence[Callable[[], Deferred[T]]], clock: IReactorTime, delay: float
    ) -> None:
        self._waiting: Iterator[Callable[[], Deferred[T]]] = iter(attempts)
        self._left = len(attempts)
        self._clock = clock
        self._delay = delay
        self._running: list[Deferred[T]] = []
        self._timer: IDelayedCall | None = None
        self._over = False
        self._outcome: Deferred[T] = Deferred(self._cancelled)

    def start(self) -> Deferred[T]:
        self._next()
        return self._outcome

    def _next(self) -> None:
        """Start an attempt, and arrange for the one after it."""
        self._timer = None
        self._left -= 1
        if self._left:
            self._timer = self._clock.callLater(self._delay, self._next)
        try:
            attempt = next(self._waiting)()
        except Exception:
            self._failed(Failure())
            return
        self._running.append(attempt)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _won(self, result: T, winner: Deferred[T]) -> None:
        self._running.remove(winner)
        self._end()
        self._outcome.callback(result)

    def _lost(self, reason: Failure, loser: Deferred[T]) -> None:
        self._running.remove(loser)
        self._failed(reason)

    def _failed(self, reason: Failure) -> None:
        if self._over:
            return
        if self._left:
            if self._timer is not None:
                self._timer.cancel()
            self._next()
        elif not self._running:
            self._over = True
            self._outcome.errback(reason)

    def _cancelled(self, outcome: Deferred[T]) -> None:
        self._end()

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for attempt in list(self._running):
            attempt.cancel()

    def __repr__(self) -> str:
        return f"<race of {len(self._running)} attempts, {self._left} to come>"
