"""A decision that the shared store was asked about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rtgateway.core.limits import Taken
from rtgateway.net.tasks import Waiter
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.asked import Ask, Outcome
from rtgateway.store.limits.known import Known, Reserved

__all__ = ["Decides", "RemoteDecision"]


class Decides(Protocol):
    """Those who asked: `store.limits.shared.SharedLimits`."""

    def answered(self, call: RemoteDecision, taken: Sequence[Taken]) -> Outcome: ...
    def without(
        self, asks: Sequence[Ask], reserved: Sequence[Reserved | None], sent: float
    ) -> Outcome: ...


class RemoteDecision:
    """A decision that Redis was asked about.

    :ivar reserved: for each ask what a lease gave, if one did.
    :ivar others: the rest, with what is known of them and the units wanted as a lease.
    :ivar sent: when.
    """

    __slots__ = ("_limits", "_waiter", "asks", "others", "outcome", "reserved", "sent")

    def __init__(
        self,
        limits: Decides,
        asks: Sequence[Ask],
        reserved: Sequence[Reserved | None],
        others: Sequence[tuple[Ask, Known | None, int]],
        sent: float,
    ) -> None:
        self._limits = limits
        self._waiter: Waiter[Outcome] | None = None
        self.asks = asks
        self.reserved = reserved
        self.others = others
        self.outcome: Outcome | None = None
        self.sent = sent

    def wait(self) -> Waiter[Outcome]:
        self._waiter = Waiter()
        return self._waiter

    def answered(self, taken: Sequence[Taken] | None, error: StoreError | None) -> None:
        """The answer, or none. Decisions that Redis does not answer are made without it."""
        for _, known, want in self.others:
            if known is not None:
                known.wanted -= want
        for each in self.reserved:
            if each is not None:
                each[0].away -= each[1]
        limits = self._limits
        if taken is None:
            self.outcome = limits.without(self.asks, self.reserved, self.sent)
        else:
            self.outcome = limits.answered(self, taken)
        if self._waiter is not None:
            self._waiter.succeed(self.outcome)

    def __repr__(self) -> str:
        state = "open" if self.outcome is None else repr(self.outcome)
        return f"<RemoteDecision for {len(self.others)} of {len(self.asks)}: {state}>"
