"""What all algorithms of rate limiting have in common."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Algorithm", "State", "Taken"]

State = float | complex | bytes
"""What is remembered of one key. Its meaning is the algorithm's own.

Not a tuple: the garbage collector would have to look at each of them, which takes it a second of
every full run where there are a million keys; and it is three times as large.
"""


class Taken(NamedTuple):
    """What an algorithm says to one request.

    :ivar wait: 0.0: admitted; else seconds until this cost would be, if nothing else came; ``inf``:
        it never will.
    :ivar remaining: whole units left, after this request if it is admitted.
    :ivar reset: seconds until the whole quota is there again.
    :ivar extra: units given beyond the cost.
    :ivar delay: seconds that an admitted request has to wait for its turn.
    :ivar state: to be remembered if the request is admitted by all that were asked.
    """

    wait: float
    remaining: int
    reset: float
    extra: int
    delay: float
    state: State | None


class Algorithm(Protocol):
    """An algorithm with its numbers. Immutable, and pure: ``now`` is in seconds of any clock.

    :ivar name: as in the configuration.
    :ivar limit: units at once, or in a window.
    :ivar window: seconds in which ``limit`` units come in.
    :ivar rate: units per second in the long run.
    :ivar horizon: seconds without a request after which a state is as good as none.
    :ivar leasable: units may be taken now and spent a little later.
    """

    @property
    def name(self) -> str: ...
    @property
    def limit(self) -> int: ...
    @property
    def window(self) -> float: ...
    @property
    def rate(self) -> float: ...
    @property
    def horizon(self) -> float: ...
    @property
    def leasable(self) -> bool: ...

    def take(self, state: State | None, cost: int, want: int, now: float) -> Taken:
        """Take ``cost`` units, and up to ``want`` more; a cost of 0 only looks."""
        ...

    def give_back(self, state: State | None, units: int, now: float) -> State | None:
        """The state with ``units`` that were taken and not spent."""
        ...

    def scaled(self, factor: float) -> Algorithm:
        """The same with so much of its limit and rate, at least one unit."""
        ...

    def parameters(self) -> tuple[bytes, ...]:
        """For the script of the shared store: the name, then the numbers."""
        ...
