"""A command on its way, and what is measured of all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from rtgateway.observe.durations import BRIEF_BOUNDS, SUM, new_histogram
from rtgateway.store.errors import Reason, StoreError
from rtgateway.store.redis.script import Script

__all__ = ["Call", "Done", "Measures", "Word", "answer_of"]

Word = bytes | str | int | float
Done = Callable[[Any, StoreError | None], None]
"""Gets the reply and None, or None and what went wrong; called once."""


class Call:
    """One command.

    :ivar operation: for metrics: the name of the script, or the command.
    :ivar deadline: monotonic seconds.
    :ivar done: None once it has been called, or nobody wants to know any more.
    :ivar script: what is run, with ``keys`` and ``arguments``; None for other commands.
    :ivar attempts: how often the script was said to be unknown.
    """

    __slots__ = (
        "arguments",
        "attempts",
        "deadline",
        "done",
        "keys",
        "operation",
        "script",
        "started",
    )

    def __init__(
        self,
        operation: str,
        started: float,
        deadline: float,
        done: Done | None,
        script: Script | None = None,
        keys: Sequence[Word] = (),
        arguments: Sequence[Word] = (),
    ) -> None:
        self.operation = operation
        self.started = started
        self.deadline = deadline
        self.done = done
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.attempts = 0

    def __repr__(self) -> str:
        return f"<Call {self.operation}{'' if self.done is not None else ', over'}>"


def answer_of(ask: Callable[[Done], None]) -> Deferred[Any]:
    """What ``ask`` is answered, for those who have time to wait; cancellable."""
    # Cancelled without a canceller, it takes one more result silently.
    answer: Deferred[Any] = Deferred()

    def done(reply: Any, error: StoreError | None) -> None:
        if error is not None:
            answer.errback(error)
        else:
            answer.callback(reply)

    ask(done)
    return answer


class Measures:
    """What became of all calls.

    :ivar durations: histograms with the bounds `observe.durations.BRIEF` by operation; of answers
        that came in time.
    :ivar failures: by operation and reason.
    """

    __slots__ = ("durations", "failures")

    def __init__(self) -> None:
        self.durations: dict[str, list[float]] = {}
        self.failures: dict[tuple[str, str], int] = {}

    def took(self, operation: str, seconds: float) -> None:
        """An answer came in time."""
        histogram = self.durations.get(operation)
        if histogram is None:
            histogram = self.durations[operation] = new_histogram()
        histogram[bisect_left(BRIEF_BOUNDS, seconds)] += 1
        histogram[SUM] += seconds

    def failed(self, operation: str, reason: Reason) -> None:
        """None did, or an error."""
        key = (operation, reason)
        self.failures[key] = self.failures.get(key, 0) + 1

    def __repr__(self) -> str:
        return f"<Measures of {', '.join(self.durations) or 'nothing'}>"
