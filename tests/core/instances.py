"""An instance as balancers see it, and how far a count may be from what chance would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

__all__ = ["Instance", "instances", "too_far"]


@dataclass(eq=False)
class Instance:
    """A `rtgateway.core.balance.Candidate`."""

    id: str = ""
    weight: float = 1.0
    inflight: int = 0
    latency: float = 0.0
    turn: float = 0.0


def instances(*weights: float) -> list[Instance]:
    """One instance per weight: a, b, c, ..."""
    return [Instance(chr(ord("a") + at), weight) for at, weight in enumerate(weights)]


def too_far(counted: Mapping[str, int], shares: Mapping[str, float]) -> str:
    """What is wrong with a sample, or nothing.

    Each count lies within 5 standard deviations of its binomial distribution, and Pearson's
    chi-square within 5 of its own. Samples come from seeded generators: what passes once, passes.
    """
    total = sum(counted.values())
    whole = sum(shares.values())
    chi_square = 0.0
    for name, share in shares.items():
        expected = total * share / whole
        deviation = counted.get(name, 0) - expected
        if abs(deviation) > 5 * sqrt(expected * (1 - share / whole)):
            return f"{name}: {counted.get(name, 0)} of {total}, and not about {expected:.0f}"
        chi_square += deviation**2 / expected if expected else 0.0
    freedom = sum(share > 0 for share in shares.values()) - 1
    if chi_square > freedom + 5 * sqrt(2 * freedom):
        return f"chi-square {chi_square:.1f} at {freedom} degrees of freedom"
    return ""
