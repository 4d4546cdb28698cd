"""A service: pick an instance, borrow a connection, send; once more on a connection gone stale."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from rtgateway.core.balance import Balancer
from rtgateway.errors import GatewayError, UpstreamFailed
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.call import Call, Patience
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

    async def forward(self, call: Call, patience: Patience) -> Answer:
        """Send ``call`` to an instance.

        The instance is left on ``call`` with its in-flight count raised; whoever called lowers it
        when the answer is over, whatever happens.

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
        connection = pool.take()
        asked = started
        if connection is None:
            connection = await pool.borrow(patience.connect, started)
            asked = monotonic()
        try:
            answer = await connection.ask(call, call.head_for(instance), patience, asked)
        except UpstreamFailed as error:
            # RFC 9112, 9.3.1: an instance may close an idle connection at any time, also in the
            # moment in which it is used again.
            if not (error.reused and error.retryable and _repeatable(call)):
                raise
            answer = await self._once_more(call, instance, patience)
        except BaseException:
            connection.abort()
            raise
        instance.answered(monotonic() - started)
        return answer

    @staticmethod
    async def _once_more(call: Call, instance: Instance, patience: Patience) -> Answer:
        """Send ``call`` on a connection that nobody has used."""
        connection = await instance.pool.borrow(patience.connect, monotonic())
        try:
            return await connection.ask(call, call.head_for(instance), patience, monotonic())
        except BaseException:
            connection.abort()
            raise

    def __repr__(self) -> str:
        return f"<Service {self.name} {len(self.instances)} instances>"


def _repeatable(call: Call) -> bool:
    return call.repeatable and (call.body is None or call.body.repeatable)
