"""Keepers of breaker tallies for tests: in memory, in a real Redis, and over a bad line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from rtgateway.store.breakers import Answers, Breakers, Heard, MemoryKeeper, Said
from rtgateway.store.redis.breakers import RedisKeeper
from rtgateway.testing.redis import RedisServer

__all__ = ["BadLine", "Time", "settle", "turns", "within_reach"]


class Time:
    """A clock that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Blocking:
    """As much of a `Link` as a keeper needs; each script is waited for."""

    up = True

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def key(self, *parts: str) -> bytes:
        return ":".join(("{test}", *parts)).encode()

    def subscribe(self, channel: bytes, heard: Callable[[bytes], None]) -> None:
        """Nothing is heard."""

    def on_connected(self, callback: Callable[[], None]) -> None:
        """It is always there."""

    def script(self, script: Any, keys: Sequence[Any], args: Sequence[Any], done: Any) -> None:
        done(self._server.command("EVAL", script.text, len(keys), *keys, *args), None)


def within_reach(server: RedisServer, clock: Callable[[], float]) -> RedisKeeper:
    """A keeper in Redis that answers within the call, and has the time of ``clock``."""
    return RedisKeeper(cast("Any", _Blocking(server)), clock)


class BadLine:
    """Between one gateway and the tallies in memory: what is said waits until a test lets it on."""

    def __init__(self, keeper: MemoryKeeper) -> None:
        self.up = True
        self.asked: list[tuple[str, Sequence[Said], Callable[[Answers], None]]] = []
        self.replies: list[Callable[[], None]] = []
        self.news: list[Callable[[], None]] = []
        self._keeper = keeper

    def ask(self, by: str, said: Sequence[Said], done: Callable[[Answers], None]) -> None:
        """See `Keeper`."""
        if self.up:
            self.asked.append((by, said, done))
        else:
            done(None)

    def listen(self, heard: Heard, connected: Callable[[], None]) -> None:
        """See `Keeper`."""

        def later(name: str, answer: Any) -> None:
            self.news.append(lambda: heard(name, answer))

        self._keeper.listen(later, lambda: None)
        self.connected = connected

    def arrive(self, *, answered: bool = True) -> None:
        """The oldest request gets to the keeper; its answer may get lost."""
        by, said, done = self.asked.pop(0)

        def keep(answers: Answers) -> None:
            self.replies.append(lambda: done(answers if answered else None))

        self._keeper.ask(by, said, keep)

    def lose(self) -> None:
        """The oldest request does not arrive."""
        _, _, done = self.asked.pop(0)
        self.replies.append(lambda: done(None))

    def quick(self) -> None:
        """Everything arrives."""
        while self.asked or self.replies or self.news:
            while self.asked:
                self.arrive()
            while self.news:
                self.news.pop(0)()
            while self.replies:
                self.replies.pop(0)()


def turns(clock: Any, lines: Sequence[BadLine]) -> None:
    """Let the loop turn until nobody has anything to say."""
    for _ in range(20):
        clock.advance(0)
        for line in lines:
            line.quick()


def settle(clock: Any, lines: Sequence[BadLine], gateways: Sequence[Breakers]) -> None:
    """A tick of all, and what comes of it."""
    for each in gateways:
        each.tick(clock.seconds())
    turns(clock, lines)
