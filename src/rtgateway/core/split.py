"""A weighted choice between a default and some alternatives: canary releases.

Pure: chance is an argument. ``gateway.shaping`` chooses between services.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

__all__ = ["Split"]

T = TypeVar("T")


class Split(Generic[T]):
    """See the module.

    Choices are independent of each other. So a changed share moves nobody who keeps an earlier
    choice, and holds for everybody else from the next choice on.

    :param default: name and value of what gets the rest.
    :param shares: name, value and share of each alternative. Shares are 0 to 1 and together at
        most 1. One with a share of 0 is never chosen, but can be `named`.
    :param random: gives ``0 <= x < 1``.
    """

    __slots__ = ("_bounds", "_by_name", "_random", "_values")

    def __init__(
        self,
        default: tuple[str, T],
        shares: Sequence[tuple[str, T, float]],
        random: Callable[[], float],
    ) -> None:
        self._random = random
        self._bounds = list(accumulate(share for _, _, share in shares))
        self._values = [value for _, value, _ in shares] + [default[1]]
        self._by_name = {name.encode(): value for name, value, _ in shares}
        self._by_name.setdefault(default[0].encode(), default[1])

    def choose(self) -> T:
        """One of the values, by chance."""
        # Behind all bounds that are not above the number drawn; so a share of 0 is passed over.
        return self._values[bisect_right(self._bounds, self._random())]

    def named(self, name: bytes) -> T | None:
        """The value of this name, in exactly this spelling; None if there is none."""
        return self._by_name.get(name)

    def __repr__(self) -> str:
        return f"<Split {len(self._values)} ways>"
