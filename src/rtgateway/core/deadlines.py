"""Deadlines of many things without a timer for each: a hashed timing wheel.

Whoever waits writes its ``deadline`` as a plain attribute, as often as it likes; one sweep calls
`Wheel.advance` on a coarse tick and learns what is late. No code runs here on behalf of items.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Timed", "Wheel"]


class Timed(Protocol):
    """Something that may be late. Found by identity: it must not define equality.

    :ivar deadline: when, in the seconds of a monotonic clock; ``inf`` for never.
    """

    deadline: float

    def expired(self, now: float) -> None:
        """Its deadline has passed (for the sweep to call, not for the wheel)."""
        ...


class Wheel:
    """Items in slots by the tick at which they have to be looked at again.

    An item is looked at when its deadline comes, and at least once in every ``period``. So a
    deadline may be moved *later*, or to ``inf``, at no cost; one that is moved *earlier* is found
    at most ``period`` too late, or in time after `touch`. Each look at an item costs O(1), and
    `advance` looks at each item at most once, however late it is called.

    :param tick: seconds between two calls of `advance`: how late an item may be reported.
    :param period: seconds after which every item has been looked at.
    """

    __slots__ = ("_done", "_home", "_period", "_slots", "_tick")

    def __init__(self, tick: float = 0.1, period: float = 1.0) -> None:
        self._tick = tick
        self._period = period
        # One more for the rounding up of a tick, one more for that of ``period``.
        self._slots: list[dict[Timed, None]] = [{} for _ in range(int(period / tick) + 2)]
        self._home: dict[Timed, dict[Timed, None]] = {}
        self._done = 0

    def add(self, item: Timed, now: float) -> None:
        """Watch ``item`` until it is discarded. Adding it again is the same as `touch`."""
        self.discard(item)
        self._place(item, now)

    def touch(self, item: Timed, now: float) -> None:
        """The deadline of ``item`` may have become earlier. Items not watched are left alone."""
        if item in self._home:
            self.add(item, now)

    def discard(self, item: Timed) -> None:
        """Forget ``item``, at once and entirely; nothing happens if it is not watched."""
        slot = self._home.pop(item, None)
        if slot is not None:
            del slot[item]

    def advance(self, now: float) -> list[Timed]:
        """The items whose deadline has passed.

        They stay watched, and are returned at every tick until their deadline is moved or they are
        discarded. What is done about one may move the deadline of the next, so the sweep compares
        ``deadline`` with ``now`` once more before it calls ``expired``.
        """
        reached = int(now / self._tick)
        slots = self._slots
        size = len(slots)
        late: list[Timed] = []
        due: list[Timed] = []
        for tick in range(max(self._done, reached - size) + 1, reached + 1):
            slot = slots[tick % size]
            due += slot
            slot.clear()
        self._done = max(self._done, reached)
        # Most items are not due for long: they share one slot, which is looked up once.
        horizon = now + self._period
        far = self._slot(horizon)
        home = self._home
        for item in due:
            deadline = item.deadline
            if deadline >= horizon:
                far[item] = None
                home[item] = far
                continue
            if deadline <= now:
                late.append(item)
            self._place(item, now)
        return late

    def _place(self, item: Timed, now: float) -> None:
        slot = self._slot(min(item.deadline, now + self._period))
        slot[item] = None
        self._home[item] = slot

    def _slot(self, look: float) -> dict[Timed, None]:
        # The first tick that is not before ``look``, but never one that has been done.
        tick = max(int(look / self._tick), self._done) + 1
        return self._slots[tick % len(self._slots)]

    def __len__(self) -> int:
        """How many items are watched."""
        return len(self._home)

    def __repr__(self) -> str:
        return f"<Wheel {len(self._home)} items, tick {self._tick} s, period {self._period} s>"
