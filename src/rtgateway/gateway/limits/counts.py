"""What came of decisions, counted for metrics; labels are those of the configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rtgateway.store.limits.asked import Ask, Outcome

__all__ = ["Counts"]


class Counts:
    """See the module.

    :param levels: what each limiter counts by, by its name.
    :ivar decisions: by limiter, level and outcome.
    :ivar exceeded: refused requests by service, and ``user`` or ``anonymous``.
    """

    __slots__ = ("_admitted", "_levels", "decisions", "exceeded")

    def __init__(self, levels: dict[str, str]) -> None:
        self._levels = levels
        self._admitted = {name: (name, level, "admitted") for name, level in levels.items()}
        self.decisions: dict[tuple[str, str, str], int] = defaultdict(int)
        self.exceeded: dict[tuple[str, str], int] = defaultdict(int)

    def decided(self, name: str, outcome: str) -> None:
        """A limiter has decided, or had nothing to decide."""
        self.decisions[name, self._levels[name], outcome] += 1

    def outcome(self, asks: Sequence[Ask], outcome: Outcome) -> None:
        """All that were asked have decided."""
        decisions = self.decisions
        for ask, taken in zip(asks, outcome.taken, strict=True):
            limiter = ask.limiter
            if taken is None:
                failed = "failed_closed" if limiter.on_failure == "deny" else "failed_open"
                self.decided(limiter.name, failed)
            elif taken.wait:
                self.decided(limiter.name, "refused")
            else:
                decisions[self._admitted[limiter.name]] += 1

    def reported(self, ask: Ask, outcome: Outcome) -> None:
        """A limiter that only reports has decided."""
        self.decided(ask.limiter.name, "admitted" if outcome.admitted else "reported")

    def exceeded_by(self, service: str, known: bool) -> None:
        """A request was refused."""
        self.exceeded[service, "user" if known else "anonymous"] += 1

    def __repr__(self) -> str:
        return f"<Counts {len(self.decisions)} kinds of decisions>"
