"""Strategies by the names that the configuration gives them."""

from __future__ import annotations

from collections.abc import Callable

from rtgateway.core.balance.candidate import Balancer
from rtgateway.core.balance.chance import PowerOfTwo, Random
from rtgateway.core.balance.consistent_hash import ConsistentHash
from rtgateway.core.balance.least import LeastConnections, LeastLoad
from rtgateway.core.balance.turns import RoundRobin

__all__ = ["make_balancer"]


def make_balancer(strategy: str, random: Callable[[], float], bound: float = 0.0) -> Balancer:
    """A new balancer.

    :param strategy: as in `Balance.strategy`. ``sticky`` is the choice for those who come without
        a valid cookie: the least loaded.
    :param random: draws from 0 (included) to 1 (excluded).
    :param bound: bounded load of ``consistent_hash``, see there.
    :raises ValueError: there is no such strategy, or no such bound.
    """
    match strategy:
        case "least_load" | "sticky":
            return LeastLoad()
        case "round_robin":
            return RoundRobin()
        case "random":
            return Random(random)
        case "least_connections":
            return LeastConnections()
        case "p2c":
            return PowerOfTwo(random)
        case "consistent_hash":
            return ConsistentHash(bound)
        case _:
            raise ValueError(f"no such strategy: {strategy}")
