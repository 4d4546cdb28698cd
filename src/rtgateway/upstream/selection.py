"""Picking with care: by a key, by a cookie, under limits, away from what has been tried.

`Service` asks here whenever more than load decides; what is left is balanced as ever.
"""

from __future__ import annotations

from collections.abc import Callable

from rtgateway.core.affinity import AffinityCookie
from rtgateway.core.balance import Balancer
from rtgateway.core.retry import RetryPolicy
from rtgateway.upstream.call import Call
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.members import Members
from rtgateway.upstream.retrial import repeatable

__all__ = ["Selection"]

_MAX_MARKS = 4096
_PROBE_PATIENCE = 2.0
"""Seconds that a half-open circuit waits for a request that can be repeated."""


class Selection:
    """See the module.

    :param key: what consistent hashing looks at in a request; None for other strategies.
    :param affinity: the cookie that names a request's instance; None unless ``sticky``.
    :param limited: instances have a limit of requests in flight.
    :ivar needed: load alone never decides.
    """

    __slots__ = ("_affinity", "_balancer", "_key", "_limited", "_marks", "_members", "needed")

    def __init__(
        self,
        members: Members,
        balancer: Balancer,
        key: Callable[[Call], bytes] | None,
        affinity: AffinityCookie | None,
        limited: bool,
    ) -> None:
        self._members = members
        self._balancer = balancer
        self._key = key
        self._affinity = affinity
        self._limited = limited
        self._marks: dict[str, str] = {}
        self.needed = key is not None or affinity is not None or limited

    def pick(
        self, call: Call, policy: RetryPolicy, tried: tuple[Instance, ...], now: float
    ) -> Instance | None:
        """The instance for ``call``; one of ``tried`` only if there is no other."""
        able = self._members.candidates
        most = call.upgrade.per_instance if call.upgrade is not None else 0
        if self._limited or most:
            able = tuple(each for each in able if not self._full(each, most))
        fresh = able
        if tried:
            fresh = tuple(each for each in able if each not in tried)
            if not fresh:
                # All others have failed this request, whatever they do for the next.
                reserve = self._members.reserve
                fresh = tuple(x for x in reserve if x not in tried and not self._full(x, most))
        for each in self._members.probing:
            if each not in tried and each.breaker.ready(now) and not self._full(each, most):
                # A probe may well fail: better with a request that can be made again.
                last = call.attempts > 0 and call.attempts + 1 >= policy.attempts
                again = repeatable(call, policy) and not last
                if again or not fresh or _overdue(each, now):
                    return each
        able = fresh or able
        if self._members.silent and not repeatable(call, policy):
            able = tuple(each for each in able if each not in self._members.silent) or able
        if not able:
            return None
        if self._affinity is not None:
            mark = self._brought(call, self._affinity)
            for each in able if mark is not None else ():
                if self._mark(each, self._affinity) == mark:
                    return each
        return self._balancer.pick(able, self._key(call) if self._key is not None else b"")

    def has_room(self, now: float) -> bool:
        """Whether some instance takes another request; who has none at all is told so at once."""
        members = self._members
        if not self._limited or not members.candidates or self.spare(()):
            return True
        # Else one that has recovered would never be found to have, while the others are busy.
        return any(not self._full(each) and each.breaker.ready(now) for each in members.probing)

    def spare(self, busy: tuple[Instance, ...]) -> bool:
        """Whether a candidate other than these takes another request."""
        return any(each not in busy and not self._full(each) for each in self._members.candidates)

    def backup(self, tried: tuple[Instance, ...]) -> bool:
        """Whether a backup other than these is there for a request that all others have failed."""
        return any(each not in tried and not self._full(each) for each in self._members.reserve)

    def _full(self, instance: Instance, most: int = 0) -> bool:
        """Whether it takes no more requests, or has ``most`` WebSockets (0: any number)."""
        if most and instance.sockets >= most:
            return True
        return self._limited and instance.inflight - instance.bridged >= instance.limit

    def stick(self, call: Call) -> None:
        """Have the client come back to the instance that answered."""
        affinity, chosen = self._affinity, call.chosen
        if affinity is None or chosen is None:
            return
        if self._brought(call, affinity) != self._mark(chosen, affinity):
            cookie = affinity.issue(chosen.id, secure=call.secure)
            call.answer_lines += b"Set-Cookie: %b\r\n" % cookie

    @staticmethod
    def _brought(call: Call, affinity: AffinityCookie) -> str | None:
        return affinity.read(b"; ".join(call.values(b"cookie")))

    def _mark(self, instance: Instance, affinity: AffinityCookie) -> str:
        # A keyed hash takes microseconds, and candidates are looked at one by one.
        mark = self._marks.get(instance.id)
        if mark is None:
            if len(self._marks) >= _MAX_MARKS:
                self._marks.clear()
            mark = self._marks[instance.id] = affinity.mark(instance.id)
        return mark

    def __repr__(self) -> str:
        return f"<Selection by {self._balancer!r}>"


def _overdue(instance: Instance, now: float) -> bool:
    """Whether a probe has been wanted for so long that any request will do."""
    breaker = instance.breaker
    return now - (breaker.open_until or breaker.since) > _PROBE_PATIENCE
