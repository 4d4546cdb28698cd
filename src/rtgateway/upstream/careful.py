"""The way of requests that take care: limited in time or in their number at once, or hedged.

All others, which are nearly all, go straight through `Service.forward`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rtgateway.errors import GatewayError, UpstreamTimeout
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.call import Call, Patience, Plan
from rtgateway.upstream.hedge import Race
from rtgateway.upstream.retrial import Remaining, Retrial, repeatable

if TYPE_CHECKING:
    from rtgateway.upstream.service import Service

__all__ = ["forward_with_care"]

_NEVER = float("inf")


class _TimeLimit:
    """Ends a call when its time is over, whatever it waits for; the sweep looks at it."""

    __slots__ = ("_call", "deadline")

    def __init__(self, call: Call, deadline: float) -> None:
        self._call = call
        self.deadline = deadline

    def expired(self, now: float) -> None:
        """The time of the whole request is over (called by the sweep)."""
        self.deadline = _NEVER
        self._call.interrupt(UpstreamTimeout("request"))


async def forward_with_care(service: Service, call: Call, plan: Plan) -> Answer:
    """Send ``call`` to an instance as soon as there is room, and to others if that may help.

    :raises GatewayError: 502, 503 or 504.
    """
    if not plan.request:
        return await _forward_within(service, call, plan, plan, _NEVER)
    now = monotonic()
    limit = _TimeLimit(call, now + plan.request)
    service.wheel.add(limit, now)
    try:
        patience = Remaining(plan, plan.request)
        return await _forward_within(service, call, plan, patience, limit.deadline)
    finally:
        service.wheel.discard(limit)


async def _forward_within(
    service: Service, call: Call, plan: Plan, patience: Patience, deadline: float
) -> Answer:
    policy = plan.retry
    attempt = await service.begin(call, policy)
    outcome: Answer | GatewayError
    race: Race | None = None
    try:
        alone = call.body is not None or call.upgrade is not None
        if policy.hedge is not None and not alone and repeatable(call, policy):
            race = Race(service, call, plan, patience)
            attempt, outcome = await race.run(attempt, policy.hedge)
        else:
            outcome = await service.attempt(call, attempt, patience)
        if outcome.head.status not in policy.on.statuses:
            return outcome
    except GatewayError as error:
        if error.fault == "client":
            raise
        outcome = error
    tried = race.tried if race is not None else ()
    return await Retrial(service, call, plan, deadline, tried).run(attempt.instance, outcome)
