"""The grants that one gateway has for probes of a circuit that it shares.

A grant is asked for, kept for the next call, goes out with a probe, and is given back with what
came of that. Here is where each of them is, so that none gets lost on any way out.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from rtgateway.core.breaker_messages import Message
from rtgateway.core.breaker_tally import GRANT

__all__ = ["Grant", "Grants"]

_HELD = 1.0
"""Seconds that a grant waits for a call, from when it was asked for."""
_RENEWED = GRANT / 3
"""Seconds after which a probe that goes on renews its grant."""


class Grant(NamedTuple):
    """``version``: of the half-open time; ``until``: to be used, or renewed; monotonic seconds."""

    name: str
    version: int
    until: float


class Grants:
    """See the module.

    :param gateway: the word for this gateway.
    :ivar asking: the one that is being asked for.
    :ivar held: those that wait for a call.
    :ivar used: those of probes, by permit; the probes of one permit are all alike.
    :ivar returning: what the store still has to be told of those given back.
    """

    __slots__ = ("_asked_at", "_count", "_gateway", "asking", "held", "returning", "used")

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._count = 0
        self._asked_at = 0.0
        self.asking = ""
        self.held: deque[Grant] = deque()
        self.used: dict[int, deque[Grant]] = {}
        self.returning: deque[Message] = deque()

    @property
    def any(self) -> bool:
        """Whether the store may think that this gateway has one."""
        return bool(self.asking or self.held or self.used or self.returning)

    def ask(self, version: int, sooner: float, now: float) -> Message:
        """The question for a new one."""
        self._count += 1
        self._asked_at = now
        self.asking = f"{self._gateway}:{self._count}"
        return Message("grant", version, 0, self.asking, sooner)

    def arrived(self, name: str, version: int, now: float, *, wanted: bool) -> bool:
        """It was granted; False: too late, or not ``wanted`` any more, and it goes back."""
        grant = Grant(name, version, self._asked_at + _HELD)
        if wanted and now < grant.until:
            self.held.append(grant)
            return True
        self._give_back(grant, 0)
        return False

    def lost(self, message: Message) -> None:
        """A message got no answer. It may have arrived or not."""
        if message.op == "settle":
            self.returning.append(message)
        elif message.op == "grant":
            self.asking = ""
            self.returning.append(Message("settle", 0, 0, message.grant))

    def ready(self, now: float) -> bool:
        """Whether a call may have one."""
        return bool(self.held) and now < self.held[0].until

    def use(self, permit: int) -> None:
        """The probe of this permit takes one that is held."""
        grant = self.held.popleft()
        renewed = grant._replace(until=grant.until - _HELD + _RENEWED)
        self.used.setdefault(permit, deque()).append(renewed)

    def done(self, permit: int, verdict: int, reason: str = "") -> bool:
        """The probe of this permit has ended (see "settle"); False if it had no grant."""
        grants = self.used.get(permit)
        if not grants:
            return False
        grant = grants.popleft()
        if not grants:
            del self.used[permit]
        self._give_back(grant, verdict, reason)
        return True

    def drop_held(self, now: float | None = None) -> None:
        """Give back those that no call has come for in time; without ``now`` all that are held."""
        while self.held and (now is None or now >= self.held[0].until):
            self._give_back(self.held.popleft(), 0)

    def void(self) -> None:
        """Give back all, without a verdict."""
        self.drop_held()
        for grants in self.used.values():
            for grant in grants:
                self._give_back(grant, 0)
        self.used.clear()

    def renewals(self, now: float, most: int) -> list[Message]:
        """For probes that take long."""
        said: list[Message] = []
        for grants in self.used.values():
            for at, grant in enumerate(grants):
                if now >= grant.until and len(said) < most:
                    grants[at] = grant._replace(until=now + _RENEWED)
                    said.append(Message("renew", 0, 0, grant.name))
        return said

    def returned(self, most: int) -> list[Message]:
        """What is to be said of those given back; not again, unless it is `lost`."""
        return [self.returning.popleft() for _ in range(min(len(self.returning), most))]

    def _give_back(self, grant: Grant, verdict: int, reason: str = "") -> None:
        self.returning.append(
            Message("settle", grant.version, 0, grant.name, float(verdict), word=reason)
        )

    def __repr__(self) -> str:
        used = sum(map(len, self.used.values()))
        return f"<Grants {len(self.held)} held, {used} used, {len(self.returning)} to return>"
