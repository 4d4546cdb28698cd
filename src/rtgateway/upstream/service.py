"""A service: pick an instance, borrow a connection, send; once more on a connection gone stale."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from rtgateway.core.balance import Balancer
from rtgateway.errors import GatewayError, UpstreamFailed
from rtgateway.upstream.call import Call
from rtgateway.upstream.connection import Answer, Connection
from rtgateway.upstream.instance import Instance

__all__ = ["Service"]


class Service:
    """Instances that answer the same requests."""

    def __init__(
        self, name: str, instances: Sequence[Instance], balancer: Balancer[Instance]
    ) -> None:
        self.name = name
        self.instances = tuple(instances)
        self._balancer = balancer

    async def forward(self, call: Call) -> Answer:
        """Send ``call`` to an instance.

        The instance is left on ``call`` with its in-flight count raised; whoever called gives it
        back with `finished`, whatever happens.

        :raises GatewayError: 502, 503 or 504.
        """
        instance = self._balancer.pick(self.instances)
        if instance is None:
            raise GatewayError(
                503, "no_instance", f"No instance is available for service: {self.name}"
            )
        call.chosen = instance
        instance.inflight += 1
        started = monotonic()
        pool = instance.pool
        connection = pool.take(started)
        if connection is None:
            connection = await pool.borrow(call.connect_timeout, started)
        try:
            answer = await self._ask(connection, call, instance, started)
        except UpstreamFailed as error:
            # RFC 9112, 9.3.1: an instance may close an idle connection at any time, also in the
            # moment in which it is used again.
            if not (error.reused and error.retryable and _repeatable(call)):
                raise
            connection = await pool.borrow(call.connect_timeout, monotonic())
            answer = await self._ask(connection, call, instance, monotonic())
        instance.answered(monotonic() - started)
        return answer

    async def _ask(
        self, connection: Connection, call: Call, instance: Instance, now: float
    ) -> Answer:
        try:
            return await connection.ask(call, call.head_for(instance), now)
        except UpstreamFailed:
            raise
        except BaseException:
            connection.abort()
            raise

    @staticmethod
    def finished(instance: Instance) -> None:
        """The call to ``instance`` is over."""
        instance.inflight -= 1

    def __repr__(self) -> str:
        return f"<Service {self.name} {len(self.instances)} instances>"


def _repeatable(call: Call) -> bool:
    return call.repeatable and (call.body is None or call.body.repeatable)
