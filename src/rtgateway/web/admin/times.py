"""The time of an answer, by both clocks, so that what one of them said can be told by the other."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic, time
from typing import NamedTuple

__all__ = ["Moment", "iso"]


class Moment(NamedTuple):
    """``now``: monotonic seconds; ``wall``: seconds since the epoch."""

    now: float
    wall: float

    @classmethod
    def current(cls) -> Moment:
        """This one."""
        return cls(monotonic(), time())

    def iso(self, at: float | None = None) -> str:
        """A monotonic time (or this moment) in words; a corrected clock shifts the past along."""
        return iso(self.wall if at is None else self.wall - (self.now - at))


def iso(wall: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    text = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
