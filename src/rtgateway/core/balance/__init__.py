"""Which instance answers a request: one strategy per class, and what they measure by.

A balancer sees instances only through `Candidate`. Load, latency and turns belong to the instance
and not to the balancer, so that they survive a change of the configuration or of the strategy.
Callers: ``upstream.service``, once per try; ``service`` makes one balancer per service.
"""

from __future__ import annotations

from rtgateway.core.balance.averages import aged, ewma, latency_average, peak_ewma, ramp
from rtgateway.core.balance.candidate import Balancer, Candidate
from rtgateway.core.balance.chance import PowerOfTwo, Random
from rtgateway.core.balance.consistent_hash import ConsistentHash
from rtgateway.core.balance.least import LeastConnections, LeastLoad
from rtgateway.core.balance.strategy import make_balancer
from rtgateway.core.balance.turns import RoundRobin

__all__ = [
    "Balancer",
    "Candidate",
    "ConsistentHash",
    "LeastConnections",
    "LeastLoad",
    "PowerOfTwo",
    "Random",
    "RoundRobin",
    "aged",
    "ewma",
    "latency_average",
    "make_balancer",
    "peak_ewma",
    "ramp",
]
