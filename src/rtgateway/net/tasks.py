"""Coroutines on the hot path: what drives one, and what one waits for.

``Deferred.fromCoroutine`` and an awaited `Deferred` cost several times what a generator does (the
figures: ``docs/adr/0003-tasks.md``). A `Task` drives a coroutine that awaits a `Waiter`, which is
a slot for one result and nothing else, or an ordinary Deferred, wherever that is what is at hand
(connecting, queueing, a store). Everything runs synchronously, as with Deferreds.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rtgateway.net.log import Logger

__all__ = ["Task", "Waiter"]

T = TypeVar("T")

log = Logger()

_PENDING = object()


class Waiter(Generic[T]):
    """A result that one task waits for. Settled at most once; the task goes on inside that call."""

    __slots__ = ("_error", "_task", "_value")

    def __init__(self) -> None:
        self._task: Task | None = None
        self._error: BaseException | None = None
        self._value: T | object = _PENDING

    def __await__(self) -> Generator[Waiter[T], None, T]:
        if self._value is _PENDING and self._error is None:
            yield self
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def succeed(self, value: T) -> None:
        self._value = value
        task = self._task
        if task is not None:
            self._task = None
            task.step()

    def fail(self, error: BaseException) -> None:
        self._error = error
        task = self._task
        if task is not None:
            self._task = None
            task.step()

    def __repr__(self) -> str:
        settled = self._value is not _PENDING or self._error is not None
        return f"<Waiter {'settled' if settled else 'awaited' if self._task else 'pending'}>"


class Task:
    """A coroutine being driven. It handles its own errors: one that escapes is a bug, logged."""

    __slots__ = ("_coroutine", "_waiting")

    def __init__(self, coroutine: Coroutine[Any, None, None]) -> None:
        self._coroutine = coroutine
        self._waiting: Waiter[Any] | Deferred[Any] | None = None

    def step(self) -> None:
        """Run until the next thing to wait for, or the end."""
        self._waiting = None
        try:
            awaited = self._coroutine.send(None)
        except StopIteration:
            return
        except BaseException:
            log.failure(_ESCAPED)
            return
        self._waiting = awaited
        if type(awaited) is Waiter:
            awaited._task = self
        else:
            cast("Deferred[object]", awaited).addBoth(self._fired, awaited)

    def cancel(self, error: BaseException) -> None:
        """Raise ``error`` where the coroutine waits. Nothing happens to one that does not wait."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if isinstance(waiting, Waiter):
            waiting._task = None
        self._throw(error)
        if isinstance(waiting, Deferred):
            waiting.cancel()

    @property
    def waiting(self) -> bool:
        """Whether the coroutine has been started and has not ended."""
        return self._waiting is not None

    def _throw(self, error: BaseException) -> None:
        try:
            awaited = self._coroutine.throw(error)
        except StopIteration:
            return
        except BaseException:
            log.failure(_ESCAPED)
            return
        self._waiting = awaited
        if type(awaited) is Waiter:
            awaited._task = self
        else:
            cast("Deferred[object]", awaited).addBoth(self._fired, awaited)

    def _fired(self, result: object, deferred: object) -> None:
        # A cancelled wait ends here too, and by then nobody waits for it any more.
        if self._waiting is deferred:
            if isinstance(result, Failure):
                self._waiting = None
                self._throw(result.value or GeneratorExit())
            else:
                self.step()

    def __repr__(self) -> str:
        return f"<Task waiting for {self._waiting!r}>"


_ESCAPED = "An error escaped from a coroutine"
