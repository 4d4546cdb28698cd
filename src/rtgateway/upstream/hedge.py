"""Two tries at once: the second is made when the first takes unusually long, and the first answer
wins (Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013: hedged requests).

Only for requests without a body on routes that ask for it; used by `Service.forward`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from rtgateway.core.quantile import LatencyQuantile
from rtgateway.core.retry import Hedging
from rtgateway.errors import ClientGone, GatewayError
from rtgateway.net.tasks import Task, Waiter
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.attempt import Attempt
from rtgateway.upstream.call import Call, Patience, Plan

if TYPE_CHECKING:
    from rtgateway.upstream.instance import Instance
    from rtgateway.upstream.service import Service

__all__ = ["Race"]


class Race:
    """The tries of one request that run at the same time.

    :ivar tried: the instances that were asked.
    """

    __slots__ = (
        "_call",
        "_over",
        "_patience",
        "_plan",
        "_running",
        "_service",
        "_tasks",
        "_winner",
        "tried",
    )

    def __init__(self, service: Service, call: Call, plan: Plan, patience: Patience) -> None:
        self._service = service
        self._call = call
        self._plan = plan
        self._patience = patience
        self._winner: Waiter[tuple[Attempt, Answer]] = Waiter()
        self._tasks: list[Task] = []
        self._running = 0
        self._over = False
        self.tried: tuple[Instance, ...] = ()

    async def run(self, first: Attempt, hedging: Hedging) -> tuple[Attempt, Answer]:
        """The first answer, and the attempt that brought it.

        :raises GatewayError: no try has one; the error of the last.
        """
        service, call = self._service, self._call
        quantile = service.quantiles.get(hedging.quantile)
        if quantile is None:
            quantile = service.quantiles[hedging.quantile] = LatencyQuantile(hedging.quantile)
        self._enter(first)
        delay = hedging.delay(quantile.value)
        timer = service.clock.callLater(delay, self._hedge, first)
        try:
            attempt, answer = await self._winner
        finally:
            if timer.active():
                timer.cancel()
            # Give up what still runs: there is a winner, or nobody waits for one any more.
            self._over = True
            for task in self._tasks:
                task.cancel(ClientGone())
        # From the first try on: what hedging saves must not make it seem that all is fast.
        quantile.add(monotonic() - first.started)
        call.chosen = attempt.instance
        return attempt, answer

    def _hedge(self, first: Attempt) -> None:
        """The first try is slow: a second one at another instance, if that is affordable."""
        service = self._service
        if not service.spare(first.instance) or not service.affords(monotonic()):
            return
        try:
            second = service.begin_now(self._call, self._plan.retry, (first.instance,))
        except GatewayError:
            return  # the circuit of the service has opened meanwhile
        service.hedges += 1
        self._enter(second)

    def _enter(self, attempt: Attempt) -> None:
        self._running += 1
        self.tried += (attempt.instance,)
        trying = self._service.attempt(self._call, attempt, self._patience)
        task = Task(self._run(attempt, trying))
        self._tasks.append(task)
        task.step()

    async def _run(self, attempt: Attempt, trying: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await trying
        except Exception as error:
            self._running -= 1
            if not self._over and not self._running:
                self._over = True
                self._winner.fail(error)
            return
        self._running -= 1
        if self._over:
            answer.abandon()
            return
        self._over = True
        self._winner.succeed((attempt, answer))

    def __repr__(self) -> str:
        return f"<Race {self._running} running>"
