"""How many gateways share one state. Here: a gateway with a state of its own is alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, succeed

__all__ = ["Alone", "KnownGateways"]


class KnownGateways(Protocol):
    """Both twins.

    ``count``: 1 or more, as last known. ``names``: sorted; maybe not all of many.
    """

    @property
    def count(self) -> int: ...
    @property
    def names(self) -> Sequence[str]: ...
    def start(self) -> None: ...
    def stop(self) -> Deferred[None]: ...


class Alone:
    """One gateway, this one."""

    __slots__ = ("names",)

    count = 1

    def __init__(self, name: str = "") -> None:
        self.names: Sequence[str] = (name,)

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> Deferred[None]:
        """Nothing to do."""
        return succeed(None)

    def __repr__(self) -> str:
        return "<Alone>"
