"""What happens to a request whose first try came to nothing.

One `Retrial` belongs to one such request; requests without trouble never see this module. Which
tries are worth it follows `core.retry.RetryPolicy`; nothing is tried again once a byte of an
answer has gone to the client, for then the request has left `Service.forward`.
"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from rtgateway.core.retry import RetryPolicy, retry_after_seconds
from rtgateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.call import Call, Patience, Plan

if TYPE_CHECKING:
    from rtgateway.upstream.instance import Instance
    from rtgateway.upstream.service import Service

__all__ = ["Remaining", "Retrial", "repeatable"]

_NEVER = float("inf")
_STOP = -1.0


class Remaining:
    """A `Patience` that ends when the time of the whole request does."""

    __slots__ = ("between_bytes", "connect", "first_byte")

    def __init__(self, plan: Patience, seconds: float) -> None:
        self.connect = min(plan.connect, seconds)
        self.first_byte = min(plan.first_byte, seconds)
        self.between_bytes = plan.between_bytes


def repeatable(call: Call, policy: RetryPolicy) -> bool:
    """Whether doing ``call`` twice is the same as once (RFC 9110, 9.2.2), as far as configured."""
    if call.method in policy.methods:
        return True
    return policy.idempotency_key and bool(call.values(b"idempotency-key"))


class Retrial:
    """See the module.

    :param deadline: monotonic seconds after which the request has no time left.
    :param tried: instances that were asked beside the one whose outcome it is (hedging).
    """

    __slots__ = ("_call", "_deadline", "_failure", "_held", "_plan", "_service", "_tried")

    def __init__(
        self,
        service: Service,
        call: Call,
        plan: Plan,
        deadline: float,
        tried: tuple[Instance, ...] = (),
    ) -> None:
        self._service = service
        self._call = call
        self._plan = plan
        self._deadline = deadline
        self._tried = tried
        # The last answer of an instance, kept (and its reading paused) until there is a better one.
        self._held: tuple[Answer, Instance] | None = None
        self._failure: GatewayError | None = None

    async def run(self, instance: Instance, outcome: Answer | GatewayError) -> Answer:
        """Try again for as long as it may help.

        :param outcome: of the first try, at ``instance``.
        :return: the first good answer, else the last one that an instance gave.
        :raises GatewayError: no instance gave any; the last failure.
        """
        call, service, policy = self._call, self._service, self._plan.retry
        final: Answer | None = None
        try:
            while (delay := self._after(instance, outcome)) >= 0:
                if delay:
                    try:
                        await deferLater(service.clock, delay)
                    except UpstreamTimeout:
                        break  # the time of the request is over
                number = call.attempts + 1
                try:
                    attempt = await service.begin(call, policy, self._tried)
                except GatewayError as error:
                    if error.fault == "client":
                        raise
                    break  # nobody can be asked in time: what came before says more
                service.retries[number] = service.retries.get(number, 0) + 1
                instance = attempt.instance
                stale = isinstance(self._failure, UpstreamFailed) and self._failure.reused
                try:
                    outcome = await service.attempt(call, attempt, self._patience(), fresh=stale)
                except GatewayError as error:
                    if error.fault == "client":
                        raise
                    outcome = error
                else:
                    if outcome.head.status not in policy.on.statuses:
                        final = outcome
                        return final
            if self._held is None:
                assert self._failure is not None
                raise self._failure from None
            final, call.chosen = self._held
            return final
        finally:
            if self._held is not None and self._held[0] is not final:
                self._held[0].abandon()

    def _after(self, instance: Instance, outcome: Answer | GatewayError) -> float:
        """Take in the outcome of a try; seconds to wait before the next, or below 0 for none."""
        self._tried += (instance,)
        if isinstance(outcome, Answer):
            if self._held is not None:
                self._held[0].abandon()
            self._held, self._failure = (outcome, instance), None
            delay = self._after_answer(outcome)
        else:
            self._failure = outcome
            delay = self._after_failure(outcome)
        now = monotonic()
        if delay < 0 or now + delay >= self._deadline:
            return _STOP
        return delay if self._service.affords(now) else _STOP

    def _after_failure(self, error: GatewayError) -> float:
        policy, call = self._plan.retry, self._call
        if not error.retryable or (call.body is not None and not call.body.repeatable):
            return _STOP
        if not isinstance(error, UpstreamFailed | UpstreamTimeout):
            # No connection to be had at this one. Nothing was sent, and others may have room.
            other = call.attempts < policy.attempts and self._service.has_other(self._tried)
            return 0.0 if other else _STOP
        # Without a connection nothing was sent: that is safe to repeat whatever the method.
        if error.kind != "connect" and not repeatable(call, policy):
            return _STOP
        if error.reused and call.attempts < max(2, policy.attempts):
            # RFC 9112, 9.3.1: the instance may have closed an idle connection as it was used.
            return 0.0
        if call.attempts >= policy.attempts or not policy.on.kind(error.kind):
            return _STOP
        return self._backoff()

    def _after_answer(self, answer: Answer) -> float:
        policy, call = self._plan.retry, self._call
        body = call.body
        if call.attempts >= policy.attempts or not repeatable(call, policy):
            return _STOP
        if body is not None and not body.repeatable:
            return _STOP
        if not answer.complete and self._service.full:
            # What is held has the place that the next try would wait for.
            return _STOP
        delay = self._backoff()
        wanted = answer.head.named.get(b"retry-after")
        if wanted is not None and not self._service.has_other(self._tried):
            seconds = retry_after_seconds(wanted, time())
            if seconds is not None:
                return _STOP if seconds > policy.retry_after else max(delay, seconds)
        return delay

    def _backoff(self) -> float:
        return self._plan.retry.backoff(self._call.attempts, self._service.random)

    def _patience(self) -> Patience:
        if self._deadline == _NEVER:
            return self._plan
        return Remaining(self._plan, max(0.0, self._deadline - monotonic()))

    def __repr__(self) -> str:
        return f"<Retrial after {len(self._tried)} tries>"
