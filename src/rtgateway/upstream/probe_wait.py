"""Requests that wait to be told whether they may be the probe of a shared circuit.

The permission for a probe is asked for by the request that needs it, and is an answer of the store
away (``core.shared_breaker``). Who has another instance does not wait for it. Who has none would
get a 503, and so would the next one, and every one of a service that is seldom asked: so that one
waits, for as long as an answer may take.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rtgateway.errors import GatewayError

if TYPE_CHECKING:
    from rtgateway.core.retry import RetryPolicy
    from rtgateway.upstream.attempt import Attempt
    from rtgateway.upstream.call import Call
    from rtgateway.upstream.instance import Instance
    from rtgateway.upstream.service import Service

__all__ = ["ProbeWait", "begin_when_told"]

_PATIENCE = 0.1
"""Seconds that a request waits at most."""
_MOST = 1000
"""Requests of one service that wait at once."""


class ProbeWait:
    """Who waits at one service. They all go on whenever something was answered, in order."""

    __slots__ = ("_clock", "_closed", "_timer", "_waiting")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._closed = False
        self._timer: Any = None
        self._waiting: dict[Deferred[None], None] = {}

    def wait(self) -> Deferred[None] | None:
        """Fires with the next answer, or when it is too late; None: too many wait already."""
        if self._closed or len(self._waiting) >= _MOST:
            return None
        if self._timer is None:
            self._timer = self._clock.callLater(_PATIENCE, self._late)
        waiting: Deferred[None] = Deferred(self._leave)
        self._waiting[waiting] = None
        return waiting

    def answered(self) -> None:
        """To be called when it is known whether a probe may begin."""
        if self._timer is not None:
            self._timer.cancel()
            self._late()

    def close(self) -> None:
        """Nobody is to wait any more."""
        self._closed = True
        self.answered()

    def _late(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            # One of them may have cancelled another.
            if not each.called:
                each.callback(None)

    def _leave(self, cancelled: Deferred[None]) -> None:
        self._waiting.pop(cancelled, None)

    def __repr__(self) -> str:
        return f"<ProbeWait {len(self._waiting)} waiting>"


async def begin_when_told(
    service: Service,
    call: Call,
    policy: RetryPolicy,
    tried: tuple[Instance, ...],
    refusal: GatewayError,
) -> Attempt:
    """What `Service.begin_now` could not do, once it is known whether a probe may begin.

    :param refusal: what it said.
    :raises GatewayError: 503, none may, or it was not known in time.
    """
    now = monotonic()
    until = now + _PATIENCE
    while now < until and _undecided(service, now):
        waiting = service.probe_wait.wait()
        if waiting is None:
            break
        await waiting
        try:
            return service.begin_now(call, policy, tried)
        except GatewayError as error:
            refusal = error
        now = monotonic()
    nobody = refusal.code == "no_instance" and not service.members.candidates
    service.balancer_errors["no_instances" if nobody else "selection_failed"] += 1
    raise refusal


def _undecided(service: Service, now: float) -> bool:
    """Whether it is about to be known if there is somebody to ask."""
    if service.breaker is not None and service.breaker.undecided(now):
        return True
    return any(each.breaker.undecided(now) for each in service.instances)
