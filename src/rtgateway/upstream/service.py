"""A service: pick an instance, send the request, and try again elsewhere when that may help.

`Service.forward` is the way of every request. Which instances there are is the business of
`upstream.members`; what an attempt means for its instance, that of `upstream.attempt`; what to do
when one fails, that of `upstream.retrial`; limits and hedging, that of `upstream.careful`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from rtgateway import config
from rtgateway.core.affinity import AffinityCookie
from rtgateway.core.balance import Balancer
from rtgateway.core.breaker import Breaker
from rtgateway.core.concurrency import GradientLimit
from rtgateway.core.deadlines import Wheel
from rtgateway.core.quantile import LatencyQuantile
from rtgateway.core.retry import Conditions, RetryBudget, RetryPolicy
from rtgateway.errors import GatewayError
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.attempt import Attempt, SocketAttempt
from rtgateway.upstream.call import Call, Patience, Plan
from rtgateway.upstream.careful import forward_with_care
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.members import Make, Members
from rtgateway.upstream.mirrored import Mirrored, count
from rtgateway.upstream.probe_wait import ProbeWait, begin_when_told
from rtgateway.upstream.retrial import Retrial
from rtgateway.upstream.selection import Selection
from rtgateway.upstream.waiting_room import WaitingRoom

if TYPE_CHECKING:
    from rtgateway.upstream.discovery import Discovery, Found

__all__ = ["Service"]

_NEVER = float("inf")


class Service:
    """Instances that answer the same requests.

    :param make: makes the instance for what was found; ``on_leave``: told of each that is removed.
    :param key: what consistent hashing looks at in a request; None for other strategies.
    :param affinity: the cookie that names a request's instance; None unless ``sticky``.
    :param breaker: one for the service as a whole, None for none.
    :ivar quantiles: of its latencies, one for each that routes with hedging ask for.
    :ivar plain: nothing but its instances has to know of a request.
    :ivar failure_on: what its breaker counts as a failure.
    :ivar inflight: requests and streams that are with its instances; not WebSockets that are open.
    :ivar requests: how many there have been; ``retries``: tries beyond the first, by their number;
        ``hedges``: second tries made while the first still ran.
    :ivar budget_refusals: tries that the retry budget did not allow.
    :ivar balancer_errors: requests for which there was no instance, by reason.
    """

    def __init__(
        self,
        name: str,
        settings: config.Service,
        balancer: Balancer,
        *,
        make: Make,
        on_leave: Callable[[Instance], None],
        clock: IReactorTime,
        wheel: Wheel,
        random: Callable[[], float],
        key: Callable[[Call], bytes] | None = None,
        affinity: AffinityCookie | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        failure_on = settings.service_breaker.failure_on if settings.service_breaker else ()
        self.failure_on = Conditions(failure_on)
        self.name = name
        self.settings = settings
        self.clock = clock
        self.wheel = wheel
        self.random = random
        self.breaker = breaker
        self.members = Members(name, settings, make, on_leave)
        self.discovery: Discovery | None = None
        self.mirrors: list[Mirrored] = []
        self.inflight = 0
        self.requests = 0
        self.retries: dict[int, int] = {}
        self.hedges = 0
        self.budget_refusals = 0
        self.balancer_errors = {"no_instances": 0, "selection_failed": 0}
        budget = settings.retry.budget
        self.budget = RetryBudget(budget) if budget.enabled else None
        self._balancer = balancer
        self._sticky = affinity is not None
        self.quantiles: dict[float, LatencyQuantile] = {}
        limits = settings.concurrency
        limited = bool(limits.per_instance)
        self._selection = Selection(self.members, balancer, key, affinity, limited)
        self._limit = limits.limit
        self.gradient = _gradient(limits)
        self.room = self._waiting_room(limits)
        self.plain = self.room is None and breaker is None
        self.probe_wait = ProbeWait(clock)

    def _waiting_room(self, limits: config.Concurrency) -> WaitingRoom | None:
        if not (limits.limit or limits.per_instance or limits.adaptive):
            return None
        return WaitingRoom(limits.queue, limits.queue_timeout, self._has_room, self.wheel)

    # -- what it looks like -------------------------------------------------------------------

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that belong to it now."""
        return self.members.instances

    @property
    def leaving(self) -> tuple[Instance, ...]:
        """Those that were removed and are still busy."""
        return self.members.leaving

    @property
    def panicking(self) -> bool:
        """Whether all instances are asked because too few are available."""
        return self.members.panicking

    @property
    def limit(self) -> int:
        """Most requests in flight at once; 0 for any number."""
        return self.gradient.limit if self.gradient is not None else self._limit

    def available(self, now: float) -> list[Instance]:
        """The instances that may be asked now."""
        return [each for each in self.instances if each.available(now).ok]

    @property
    def mirrored(self) -> dict[str, int]:
        """Copies of other services' requests, by what became of them."""
        return count(self.mirrors)

    # -- what an operator does; an unknown id is a KeyError -----------------------------------

    def find(self, id: str) -> Instance:
        """The instance of this id."""
        return self.members.find(id)

    def add(self, found: Found) -> Instance:
        """Take in a new instance.

        :raises ValueError: it belongs already, or there are too many.
        """
        return self.members.add(found, "admin", monotonic())

    def remove(self, id: str) -> Instance:
        """Send nothing more to an instance, and forget it once it is empty."""
        return self.members.remove(id)

    def reweigh(self, id: str, weight: int) -> Instance:
        """Give an instance another weight; 0 takes it out of use."""
        return self.members.reweigh(id, weight)

    def drain(self, id: str) -> Instance:
        """Send nothing new to an instance."""
        return self.members.drain(id, True, monotonic())

    def undrain(self, id: str) -> Instance:
        """Let an instance take requests again."""
        return self.members.drain(id, False, monotonic())

    # -- the way of a request -----------------------------------------------------------------

    async def forward(self, call: Call, plan: Plan) -> Answer:
        """Send ``call`` to an instance, and to others if that fails in a way that allows it.

        :raises GatewayError: 502, 503 or 504.
        """
        self.requests += 1
        policy = plan.retry
        if self.room is not None or policy.hedge is not None or plan.request:
            answer = await forward_with_care(self, call, plan)
        else:
            try:
                attempt = self.begin_now(call, policy)
            except GatewayError as error:
                attempt = await begin_when_told(self, call, policy, (), error)
            try:
                # What `attempt` does, written out: one coroutine less for nearly every request.
                connection = attempt.take() or await attempt.connect(plan)
                head = call.head_for(attempt.instance)
                answer = await connection.ask(call, head, plan, attempt.asked)
            except BaseException as error:
                attempt.failed(error)
                if not isinstance(error, GatewayError) or error.fault == "client":
                    raise
                answer = await Retrial(self, call, plan, _NEVER).run(attempt.instance, error)
            else:
                attempt.answered(answer, answer.came)
                status = answer.head.status
                if status >= 400 and status in policy.on.statuses:
                    answer = await Retrial(self, call, plan, _NEVER).run(attempt.instance, answer)
        if self._sticky:
            self._selection.stick(call)
        return answer

    async def begin(
        self, call: Call, policy: RetryPolicy, tried: tuple[Instance, ...] = ()
    ) -> Attempt:
        """Wait for a place if there is a limit; pick an instance, if possible none of ``tried``.

        :raises GatewayError: 503, there is none, or no place became free in time.
        """
        if self.room is not None:
            waiting = self.room.full_or_wait(monotonic())
            if waiting is not None:
                await waiting
        try:
            return self.begin_now(call, policy, tried)
        except GatewayError as error:
            return await begin_when_told(self, call, policy, tried, error)

    def begin_now(
        self, call: Call, policy: RetryPolicy, tried: tuple[Instance, ...] = ()
    ) -> Attempt:
        """The same without waiting for anything."""
        now = monotonic()
        members = self.members
        if now >= members.look_again:
            members.refresh(now)
        if self.breaker is not None and not self.breaker.ready(now):
            raise self._nobody(now, "circuit_open", f"The circuit of service {self.name} is open")
        candidates = members.candidates
        if tried or members.special or self._selection.needed or call.upgrade is not None:
            instance = self._selection.pick(call, policy, tried, now)
        elif candidates:
            instance = self._balancer.pick(candidates)
        else:
            instance = None
        if instance is None:
            message = f"No instance is available for service: {self.name}"
            raise self._nobody(now, "no_instance", message)
        call.chosen = instance
        call.attempts += 1
        kind = Attempt if call.upgrade is None else SocketAttempt
        return kind(self, instance, now)

    async def attempt(
        self, call: Call, attempt: Attempt, patience: Patience, *, fresh: bool = False
    ) -> Answer:
        """Send ``call`` to the instance of ``attempt`` and wait for the head of its answer.

        The attempt is over when the answer is, or is abandoned.

        :param fresh: on a connection that nobody has used.
        :raises GatewayError: there is no answer; the attempt is over.
        """
        try:
            connection = None if fresh else attempt.take()
            if connection is None:
                connection = await attempt.connect(patience, fresh=fresh)
            head = call.head_for(attempt.instance)
            answer = await connection.ask(call, head, patience, attempt.asked)
        except BaseException as error:
            attempt.failed(error)
            raise
        attempt.answered(answer, answer.came)
        return answer

    # -- what is worth another try ------------------------------------------------------------

    def affords(self, now: float) -> bool:
        """Charge the retry budget for another try, if it has that much."""
        if self.budget is None or self.budget.withdraw(now, self.requests):
            return True
        self.budget_refusals += 1
        return False

    def has_other(self, tried: tuple[Instance, ...]) -> bool:
        """Whether another instance than these may be asked, a backup included."""
        return self._selection.spare(tried) or self._selection.backup(tried)

    def spare(self, busy: Instance) -> bool:
        """Whether another instance may be asked as well, at the same time."""
        return self._has_room() and self._selection.spare((busy,))

    @property
    def full(self) -> bool:
        """Whether another try would have to wait for a place."""
        return self.room is not None and not self._has_room()

    def _has_room(self) -> bool:
        now = monotonic()
        if now >= self.members.look_again:
            # Else one would be let in to find that the only one with room is not there any more.
            self.members.refresh(now)
        limit = self.limit
        return (not limit or self.inflight < limit) and self._selection.has_room(now)

    def _nobody(self, now: float, code: str, message: str) -> GatewayError:
        if self.breaker is not None and code == "circuit_open":
            wait = self.breaker.open_until - now
        else:
            wait = self.members.soonest(now)
        seconds = b"%d" % min(3600, max(1, ceil(wait))) if wait < _NEVER else b"60"
        return GatewayError(503, code, message, headers=((b"Retry-After", seconds),))

    # -- as time passes -----------------------------------------------------------------------

    def listen(self, now: float) -> None:
        """What can't wait for a second: who has fallen silent, and room that time has made."""
        members = self.members
        members.listen(now)
        if self.room is not None and self.room.waiting and now >= members.look_again:
            members.refresh(now)
            self.room.wake()

    # -- once a second ------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """What is not worth doing for each request."""
        self.members.tick(now)
        if self.budget is not None:
            self.budget.deposit(now, self.requests)
        if self.room is not None:
            # An instance that is new, or available again, is room for those who wait.
            self.members.refresh(now)
            self.room.wake()

    def close(self) -> None:
        """Nobody is served any more."""
        if self.discovery is not None:
            self.discovery.stop()
        if self.room is not None:
            self.room.close()
        self.probe_wait.close()
        for instance in (*self.instances, *self.leaving):
            instance.pool.close()

    def __repr__(self) -> str:
        return f"<Service {self.name} {self.members!r}>"


def _gradient(limits: config.Concurrency) -> GradientLimit | None:
    if not limits.adaptive:
        return None
    lowest, highest = limits.min_limit, limits.max_limit
    return GradientLimit(lowest, highest, limits.limit or lowest)
