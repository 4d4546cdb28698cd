"""How much somebody may ask for: the stage between knowing who asks and asking a service.

`stage.Limits` is what the pipeline calls. What is counted is kept by ``store.limits``; whom a
limiter counts is said by `keys`, what it costs and who is spared by `limiter`, and what the client
is told by `answers`. See ``docs/rate-limits.md``.
"""

from rtgateway.gateway.limits.access import Access
from rtgateway.gateway.limits.control import Limiters
from rtgateway.gateway.limits.stage import Limits

__all__ = ["Access", "Limiters", "Limits"]
