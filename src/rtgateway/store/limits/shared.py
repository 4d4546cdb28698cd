"""Limits that all gateways share, decided here where that can be: leases, refusals, failures.

In front of `redis`, which holds the counts. A decision is made at once, without Redis, if a lease
has the units for each limiter asked, or if a limiter has refused as much lately and is known to do
so still. Everything else is one call. A limiter's key that is asked for often gets more units with
its answer than it needs, a *lease*: of no more than what comes in within ``d`` seconds (at most
one), to be spent here within ``l`` seconds (three times ``d``).

**What is guaranteed.** Let one key have ``C`` units at once and ``r`` per second, shared by ``n``
gateways that hold ``d`` seconds' worth at most. An admission counts from when its units were taken:
in Redis for a request that asked it, and here for one that was decided by lease.

1. *From a fresh key* at most ``C + r t`` are admitted in ``t`` seconds, as without leases: a unit
   is taken in Redis before it is spent, and comes back only if it never will be.
2. *In any* ``t`` *seconds* at most ``C + r t + r d``. Consider what is in the bucket, and with it
   every unit that was leased and is neither spent nor lost: that sum grows by no more than ``r``
   per second (the bucket fills), is not changed by leasing and returning, and falls by one with
   each admission. It is at most ``C`` and what is out in leases at the start, and at least 0 at the
   end. No gateway holds more than ``min(r d, C) / n`` units of a key (`most_leased`): in leases,
   reserved, asked for, or on their way back. So at most ``r d`` are out.
3. *For windows* the same: at most what the algorithm itself admits in ``t`` seconds, and ``r d``
   with ``r = limit / window``. Units of a fixed window are good for nothing after its end: none is
   spent or returned then, so that each window admits its limit and no more.

The sum in 2 needs every gateway that leases to be known to the others; that a gateway is counted
that does not lease does no harm. So one that is new, or was cut off, does not lease until all have
learnt of it (``settle``) and the leases have ended that they had before, and one that vanishes is
counted for longer than its leases last. Where counts are wrong nevertheless, ``r d`` is the sum of
``r d / (the count that each knows)``, and 1 holds as it is. Seconds are those of Redis, whose clock
fills the bucket; leases are measured by the monotonic clock of their gateway, from before Redis was
asked, and no time is ever sent.

**Where less is admitted.** A decision that was not answered in time may have been counted in Redis;
it is decided as if Redis were down, and its units are lost, with the lease it asked for. So are
leases of a gateway that dies, and those that end while Redis is down. A unit whose return was not
answered counts as held until it cannot arrive any more. While a refusal is remembered (at most a
second) units may come back unseen.

**Without Redis** the failure rule of each limiter holds (`degraded`), and leases are spent while
they last. What is admitted then is in addition to the above: Redis does not learn of it.

**A reset** gives a key a fresh bucket, and what was admitted before counts not. It adds at most
``C`` to the sum in 2, and nothing to what is out: from then on at most ``C + r t + r d`` are
admitted, and in an interval with ``m`` resets ``m C`` more. All gateways are told (within 0.1 s),
and forget leases and refusals. Those units are lost, and so are those granted before that come
later. Who can't be told, as it is just connecting, goes on for ``l`` seconds at most.

**Other numbers** end the leases of the former ones at each gateway that learns of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from rtgateway.core.lease import Demand
from rtgateway.core.limits import Taken
from rtgateway.net.tasks import Task, Waiter
from rtgateway.store.errors import StoreError
from rtgateway.store.limits.asked import Ask, Limiter, Outcome
from rtgateway.store.limits.degraded import Counted, Degraded
from rtgateway.store.limits.keys import Keys
from rtgateway.store.limits.known import Known, Reserved, Tally, as_known, merged
from rtgateway.store.limits.leases import Leases, LeaseSettings, Reachable, Shared
from rtgateway.store.limits.memory import MemoryLimits
from rtgateway.store.limits.redis import Reset
from rtgateway.store.limits.remote import RemoteDecision

__all__ = ["SharedLimits"]

_SETTLE = 2.0
"""Seconds in which every gateway has learnt of a new one: two heartbeats."""

_outcome = tuple.__new__


class SharedLimits:
    """Limits of all gateways, as fast as those of one where that is possible.

    :param redis: asked for what is not known here.
    :param local: limits in memory for limiters with ``on_failure: local``; used for nothing else.
    :param link: whether Redis may be asked.
    :param settings: of leases.
    :param clock: seconds, monotonic.
    :param settle: see `Leases`; two heartbeats.
    :ivar degraded_seconds: for how long Redis did not answer.
    :ivar degraded: whether it does not now, or lately failed to.
    """

    __slots__ = (
        "_clock",
        "_degraded",
        "_failed",
        "_keys",
        "_leases",
        "_link",
        "_local",
        "_redis",
        "_ticked",
        "_was_up",
        "degraded",
        "degraded_seconds",
    )

    def __init__(
        self,
        redis: Shared,
        local: MemoryLimits,
        link: Reachable,
        gateways: Counted,
        settings: LeaseSettings,
        clock: Callable[[], float] = monotonic,
        settle: float = _SETTLE,
    ) -> None:
        self._redis = redis
        self._local = local
        self._link = link
        self._clock = clock
        self._keys = Keys()
        self._degraded = degraded = Degraded(local, gateways)
        self._leases = Leases(self._keys, redis, link, gateways, degraded, settings, clock, settle)
        self._was_up = True
        self._failed = False
        self._ticked = clock()
        self.degraded = False
        self.degraded_seconds = 0.0

    def decide(self, asks: Sequence[Ask]) -> Outcome | Waiter[Outcome]:
        """See `LimitStore.decide`."""
        now = self._clock()
        if len(asks) == 1:
            ask = asks[0]
            known = self._keys.held.get((ask.limiter.name, ask.key))
            # What comes below does the same, at three times the price.
            if known is not None and now < known.end and known.low < known.units - ask.cost:
                return self._one_by_lease(known, ask.cost, now)
            if known is None and not self._link.up:
                self._was_up = False
                self._failed = True
                return self._degraded.decide(asks)
        seen = self._keys.seen
        reserved: list[Reserved | None] = []
        missing = False
        for ask in asks:
            known = seen(ask, now)
            cost = ask.cost
            end = known.spend(cost, now) if known is not None else 0.0
            if end:
                reserved.append((known, cost, end))  # type: ignore[arg-type]
                continue
            if (
                known is not None
                and now < known.refused_until
                and cost >= known.refused_cost
                and known.ask.algorithm is ask.algorithm
            ):
                self._restore(reserved, now, now)
                return self._refused(asks, ask, known, now)
            reserved.append(None)
            missing = True
        if not missing:
            return self._by_lease(asks, reserved, now)
        if not self._link.up:
            self._was_up = False
            return self.without(asks, reserved, now)
        if not self._was_up:
            self._was_up = True
            self._leases.interrupted(now)
        return self._ask(asks, reserved, now)

    def reset(self, limiters: Sequence[Limiter], key: str) -> Waiter[int]:
        """See `LimitStore.reset`. Without Redis, what is known here is forgotten all the same."""
        waiter: Waiter[int] = Waiter()
        resets = [(limiter.name, key) for limiter in limiters]
        self.forget(resets)

        def answered(count: int | None, error: StoreError | None) -> None:
            # What was asked meanwhile was answered from before.
            self.forget(resets)
            waiter.succeed(-1 if count is None else count)

        self._redis.reset(limiters, key, answered)
        return waiter

    def reset_matching(
        self, limiters: Sequence[Limiter], part: str, about: Callable[[str], bool]
    ) -> Waiter[int]:
        """See `LimitStore.reset_matching`, and `reset`."""
        waiter: Waiter[int] = Waiter()

        async def reset() -> None:
            await self._local.reset_matching(limiters, part, about)
            try:
                waiter.succeed(await self._redis.reset_matching(limiters, part, about))
            except StoreError:
                waiter.succeed(-1)

        Task(reset()).step()
        return waiter

    def forget(self, resets: Sequence[Reset]) -> None:
        """Redis has forgotten what these keys had taken: leases and refusals are of before."""
        now = self._clock()
        for name, key in resets:
            self._keys.reset((name, key), now)
            self._local.forget(name, key)

    def changed(self, limiter: Limiter) -> None:
        """See `LimitStore.changed`: leases and refusals are of the numbers before."""
        self._keys.change(limiter.name, self._clock())

    def tick(self, now: float) -> None:
        """See `LimitStore.tick`."""
        up = self._link.up
        if not up:
            self._was_up = False
        elif not self._was_up:
            self._was_up = True
            self._leases.interrupted(now)
        self.degraded = not up or self._failed
        self._failed = False
        if self.degraded:
            self.degraded_seconds += now - self._ticked
        self._ticked = now
        self._leases.tick(now)
        self._local.tick(now)

    def surrender(self) -> None:
        """Give back all leases, and take none any more: the gateway stops."""
        self._leases.surrender(self._clock())

    def tallies(self) -> dict[str, Tally]:
        """What happened at each limiter since the start."""
        return self._keys.tallies()

    def live_leases(self) -> dict[str, int]:
        """How many keys of each limiter are decided by lease now."""
        return self._leases.live(self._clock())

    def _one_by_lease(self, known: Known, cost: int, now: float) -> Outcome:
        known.units -= cost
        known.spent_at = now
        known.seen += cost
        if known.seen >= Demand.MANY or now - known.began >= Demand.DUE:
            known.turn(now)
        known.tally.local += 1
        if now >= known.due:
            self._leases.renew(known, known.ask, now)
        return _outcome(Outcome, (True, (as_known(known, now),), 0.0, False))

    def _by_lease(
        self, asks: Sequence[Ask], reserved: Sequence[Reserved | None], now: float
    ) -> Outcome:
        taken = []
        for ask, each in zip(asks, reserved, strict=True):
            known = each[0]  # type: ignore[index]
            known.tally.local += 1
            taken.append(as_known(known, now))
            if known.units <= known.low or now >= known.due:
                self._leases.renew(known, ask, now)
        return Outcome(True, taken)

    def _refused(self, asks: Sequence[Ask], by: Ask, known: Known, now: float) -> Outcome:
        """One limiter is known to refuse still. What the others would have said is not asked."""
        known.tally.local += 1
        taken: list[Taken | None] = []
        for ask in asks:
            other = self._keys.find((ask.limiter.name, ask.key))
            if other is None:
                taken.append(Taken(0.0, ask.algorithm.limit, 0.0, 0, 0.0, None))
            else:
                taken.append(as_known(other, now))
            if ask is by:
                wait = max(known.refused_until, known.refused_end) - now
                taken[-1] = as_known(known, now)._replace(wait=wait)
        return Outcome(False, taken)

    def _ask(
        self, asks: Sequence[Ask], reserved: list[Reserved | None], now: float
    ) -> Outcome | Waiter[Outcome]:
        """One call for all that was not reserved."""
        others: list[tuple[Ask, Known | None, int]] = []
        for ask, each in zip(asks, reserved, strict=True):
            if each is not None:
                known, cost, _ = each
                known.away += cost
                continue
            want = 0
            found = self._keys.find((ask.limiter.name, ask.key))
            if found is not None and ask.cost:
                want = self._leases.wanted(found, ask, now)
                found.wanted += want
            others.append((ask, found, want))
        call = RemoteDecision(self, asks, reserved, others, now)
        self._redis.ask(
            [ask for ask, _, _ in others], [want for _, _, want in others], call.answered
        )
        return call.outcome or call.wait()

    def answered(self, call: RemoteDecision, taken: Sequence[Taken]) -> Outcome:
        """Redis said something to what it was asked."""
        admitted = True
        delay = 0.0
        for each in taken:
            if each.wait:
                admitted = False
            elif each.delay > delay:
                delay = each.delay
        for (ask, known, _), each in zip(call.others, taken, strict=True):
            if known is None and each.wait and call.sent > self._keys.since:
                known = self._keys.add(ask, call.sent)
            if known is not None:
                granted = ask.cost + each.extra if admitted else 0
                self._leases.learn(known, ask, each, call.sent, granted)
        now = self._clock()
        if not admitted:
            self._restore(call.reserved, call.sent, now)
        if len(call.others) == len(call.asks):
            return Outcome(admitted, taken, delay if admitted else 0.0)
        return Outcome(admitted, merged(call.reserved, taken, now), delay if admitted else 0.0)

    def without(
        self, asks: Sequence[Ask], reserved: Sequence[Reserved | None], sent: float
    ) -> Outcome:
        """Redis does not answer: what no lease decides is decided by the rule of its limiter."""
        self._failed = True
        now = self._clock()
        others = [ask for ask, each in zip(asks, reserved, strict=True) if each is None]
        for ask in others:
            known = self._keys.find((ask.limiter.name, ask.key))
            if known is not None and known.debt:
                self._degraded.charge(known, ask, 0)
        outcome = self._degraded.decide(others)
        if len(others) == len(asks):
            return outcome
        if not outcome.admitted:
            self._restore(reserved, sent, now)
        return outcome._replace(taken=merged(reserved, outcome.taken, now))

    def _restore(self, reserved: Sequence[Reserved | None], taken: float, now: float) -> None:
        for each in reserved:
            if each is not None:
                known, cost, end = each
                known.restore(cost, end, taken, now)

    def __repr__(self) -> str:
        state = "degraded" if self.degraded else "up"
        return f"<SharedLimits {state}, {self._keys!r}, {self._leases!r}>"
