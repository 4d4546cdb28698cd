"""What a balancer is, and what it knows of the instances it chooses among."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

__all__ = ["Balancer", "C", "Candidate"]


class Candidate(Protocol):
    """An instance, as balancers see it."""

    turn: float
    """What smooth weighted turns owe it, in units of weight; written by balancers alone, 0 at
    first."""

    @property
    def id(self) -> str:
        """Its name, the same in every process and after every restart."""
        ...

    @property
    def weight(self) -> float:
        """Its share of the traffic relative to the others', > 0; a fraction while it starts."""
        ...

    @property
    def inflight(self) -> int:
        """Requests, streams and upgraded connections in progress."""
        ...

    @property
    def latency(self) -> float:
        """Seconds until the head of its answers, as a moving average; 0 until measured."""
        ...


C = TypeVar("C", bound=Candidate)


class Balancer(Protocol):
    """A way to choose."""

    def pick(self, candidates: Sequence[C], key: bytes = b"") -> C:
        """One of ``candidates``.

        :param candidates: at least one, all available, each of a weight above 0.
        :param key: what requests have in common that should meet the same instance; empty if
            this one has nothing of the kind. Looked at by `ConsistentHash` only.
        """
        ...
