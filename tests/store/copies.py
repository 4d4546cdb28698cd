"""What tests of copied state have in common: a link that blocks, a time that is made up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from rtgateway.store.errors import StoreError
from rtgateway.store.redis.script import Script
from rtgateway.testing.waiting import eventually
from tests.store.limit_cases import BlockingLink

__all__ = ["SyncLink", "Time", "in_step", "now"]


class Time:
    """A time that goes on when it is told to, for a gateway and for Redis."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds + 1_795_000_000.0

    def of_redis(self) -> bytes:
        return b"%.17g" % (self.seconds + 45_000_000.0)


class SyncLink(BlockingLink):
    """A link whose Deferreds have fired. It hears nothing but what it is told in replies.

    :ivar deaf: whether it says so, too.
    """

    deaf = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connected: list[Callable[[], None]] = []

    def script(
        self,
        script: Script,
        keys: Sequence[Any],
        args: Sequence[Any],
        done: Callable[[Any, StoreError | None], None],
    ) -> None:
        super().script(script, keys, args, done)

    def key(self, *parts: str | bytes) -> bytes:
        encoded = (part.encode() if isinstance(part, str) else part for part in parts)
        return b":".join((b"{test}", *encoded))

    def run(
        self,
        script: Script,
        keys: Sequence[Any],
        args: Sequence[Any],
        timeout: float | None = None,
    ) -> Deferred[Any]:
        answers: list[tuple[Any, StoreError | None]] = []
        self.script(script, keys, args, lambda reply, error: answers.append((reply, error)))
        ((reply, error),) = answers
        return succeed(reply) if error is None else fail(error)

    def subscribe(self, channel: bytes, heard: Callable[[bytes], None]) -> None:
        pass

    def on_connected(self, callback: Callable[[], None]) -> None:
        self._connected.append(callback)

    def connected(self) -> None:
        for callback in self._connected:
            callback()


class _Twin(Protocol):
    @property
    def replica(self) -> Any: ...


async def in_step(*twins: _Twin) -> None:
    """Wait until each of them has read its state."""
    for twin in twins:
        await eventually(lambda twin=twin: twin.replica.in_step)  # type: ignore[misc]


def now(answer: Awaitable[Any]) -> Any:
    """The result of a Deferred that has fired."""
    results: list[Any] = []
    assert isinstance(answer, Deferred)
    answer.addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result
