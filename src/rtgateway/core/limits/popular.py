"""The keys that are asked for most, without counting all of them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Popular", "Seen"]


class Seen(NamedTuple):
    """One key.

    :ivar weight: how often it was seen, at most.
    :ivar error: by how much that may be too high.
    """

    key: str
    weight: int
    error: int


class Popular:
    """The heaviest of any number of keys, by a fixed number of counters (Space-Saving).

    Whoever is not counted yet takes the smallest counter over, with what it stands at as the error
    (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data
    streams", 2005). So no count is too low, none is too high by more than ``total / size``, and
    each key heavier than that is among the counted.

    :param size: number of counters; the bound of what is remembered.
    :raises ValueError: it is not above 0.
    """

    __slots__ = ("_at", "_counted", "_least", "_size", "total")

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise ValueError(f"{size} counters")
        self._size = size
        self._counted: dict[str, tuple[int, int]] = {}
        # Keys by their count, oldest first: dicts, as sets in the order of insertion.
        self._at: dict[int, dict[str, None]] = {}
        self._least = 0
        self.total = 0

    def add(self, key: str, weight: int = 1) -> None:
        """Count a key; ``weight`` of 0 or less counts nothing."""
        if weight <= 0:
            return
        self.total += weight
        known = self._counted.get(key)
        if known is not None:
            count, error = known
            self._leave(key, count)
        elif len(self._counted) < self._size:
            count = error = 0
        else:
            count = error = self._smallest()
            evicted = next(iter(self._at[count]))
            self._leave(evicted, count)
            del self._counted[evicted]
        count += weight
        self._counted[key] = count, error
        self._at.setdefault(count, {})[key] = None
        if count < self._least:
            self._least = count

    def top(self, number: int) -> list[Seen]:
        """The heaviest, heaviest first."""
        order = sorted(self._counted.items(), key=lambda item: (-item[1][0], item[1][1], item[0]))
        return [Seen(key, count, error) for key, (count, error) in order[:number]]

    def halve(self) -> None:
        """Let what was long ago count less: all counts by half, and those of none forgotten."""
        halved = {key: (c // 2, e // 2) for key, (c, e) in self._counted.items() if c > 1}
        self._counted = halved
        self._at = {}
        for key, (count, _) in halved.items():
            self._at.setdefault(count, {})[key] = None
        self._least = 0
        self.total //= 2

    def _leave(self, key: str, count: int) -> None:
        keys = self._at[count]
        del keys[key]
        if not keys:
            del self._at[count]

    def _smallest(self) -> int:
        at = self._at
        # The next one is near where the light keys are many, and anywhere where they are few.
        for count in range(self._least, self._least + 8):
            if count in at:
                break
        else:
            count = min(at)
        self._least = count
        return count

    def __len__(self) -> int:
        return len(self._counted)

    def __repr__(self) -> str:
        return f"<Popular {len(self)} of {self._size} keys, {self.total} seen>"
