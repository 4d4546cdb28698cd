"""What is asked of a store of rate limits, and what it answers.

A decision asks several limiters at once, each about one key. It admits or refuses as a whole:
nothing is consumed anywhere unless all of them admit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from rtgateway.core.limits import Algorithm, Taken
from rtgateway.net.tasks import Waiter

__all__ = ["Ask", "LimitStore", "Limiter", "OnFailure", "Outcome", "Usage"]

OnFailure = Literal["allow", "deny", "local"]


class Limiter(Protocol):
    """A limiter of the configuration, as far as stores have to know it.

    :ivar name: unique; part of its keys.
    :ivar algorithm: how it decides for those who have nothing of their own.
    :ivar on_failure: what holds while a shared store does not answer.
    :ivar leases: whether keys that are asked for often may be decided by leases.
    """

    name: str
    algorithm: Algorithm
    on_failure: OnFailure
    leases: bool


class Ask(NamedTuple):
    """One limiter of a decision.

    :ivar algorithm: what decides: the limiter's own, or that of a plan, or one scaled by load.
    :ivar key: whom it is about, such as ``ip:203.0.113.7``; 256 bytes at most.
    :ivar cost: units, 0 or more; 0 only looks.
    """

    limiter: Limiter
    algorithm: Algorithm
    key: str
    cost: int


class Outcome(NamedTuple):
    """What came of a decision.

    :ivar admitted: as a whole.
    :ivar taken: what each limiter says, in the order asked. Where the whole is refused, nothing was
        taken, and a limiter that would have admitted has a ``wait`` of 0. A limiter that the store
        did not answer for has None where its ``on_failure`` is ``allow`` or ``deny``.
    :ivar delay: seconds that an admitted request has to wait (shapers), else 0.0.
    :ivar degraded: a shared store did not answer, and at least one limiter was decided without it.
    """

    admitted: bool
    taken: Sequence[Taken | None]
    delay: float = 0.0
    degraded: bool = False


class Usage(NamedTuple):
    """What one key has left: see `core.limits.Taken`."""

    key: str
    limit: int
    remaining: int
    reset: float


class LimitStore(Protocol):
    """Both twins, and what stands in front of them. No method raises."""

    def decide(self, asks: Sequence[Ask]) -> Outcome | Waiter[Outcome]:
        """Take ``cost`` units of each key, or none of any."""
        ...

    def reset(self, limiters: Sequence[Limiter], key: str) -> Waiter[int]:
        """Forget what ``key`` has taken of each limiter; how many knew it, -1 without an answer."""
        ...

    def reset_matching(
        self, limiters: Sequence[Limiter], part: str, about: Callable[[str], bool]
    ) -> Waiter[int]:
        """Forget what all keys have taken that have ``part`` in them and are ``about`` it.

        :return: how many there were; -1: there may be more.
        """
        ...

    def changed(self, limiter: Limiter) -> None:
        """It has other numbers now. What was taken stays taken."""
        ...

    def tick(self, now: float) -> None:
        """Called every 100 ms with monotonic seconds: forget, return, renew."""
        ...
