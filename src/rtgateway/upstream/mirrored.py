"""What a service knows of the copies that others' requests are to it: how many there were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Mirrored", "count"]


class Mirrored(Protocol):
    """Counts of the copies that one route sends here; `gateway.mirror.Mirror` has this shape."""

    @property
    def sent(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def failed(self) -> int: ...


def count(mirrors: Iterable[Mirrored]) -> dict[str, int]:
    """The copies of all routes, by what became of them."""
    counts = {"sent": 0, "dropped": 0, "skipped": 0, "failed": 0}
    for each in mirrors:
        counts["sent"] += each.sent
        counts["dropped"] += each.dropped
        counts["skipped"] += each.skipped
        counts["failed"] += each.failed
    return counts
