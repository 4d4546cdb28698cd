"""What is admitted by several gateways, whatever happens on the way to the store and in it.

The bounds are those derived in ``store/limits/shared.py``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtgateway.core.limits import Algorithm, FixedWindow, LeakyBucket, TokenBucket
from rtgateway.store.limits.asked import Outcome
from rtgateway.store.limits.known import Known
from tests.store.limit_model import (
    ALimiter,
    Clock,
    Gateway,
    Gateways,
    Message,
    ModelStore,
    Settings,
    settled,
)

RUN = settings(
    deadline=None,
    max_examples=40,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

HEARTBEAT = 1.0
FORGOTTEN = 5.0
"""Seconds after which a gateway that vanished is no longer counted."""

SETTLE = 5.0
"""Here a beat, a tick and a return may come as late as can be; real ones are quicker."""

ALGORITHMS = st.one_of(
    st.builds(
        TokenBucket,
        st.sampled_from([400, 100, 20, 2]),
        st.sampled_from([100.0, 20.0, 400.0, 1000.0, 1.0]),
    ),
    st.builds(LeakyBucket, st.just(30), st.just(60.0)),
    st.builds(FixedWindow, st.sampled_from([10, 100, 400]), st.sampled_from([0.5, 1.0, 7.0, 60.0])),
)


def excess_of_bucket(
    admitted: Iterable[tuple[float, int]], capacity: float, rate: float, resets: Iterable[float]
) -> float:
    """How much more came in some interval than ``capacity + rate * t``; 0.0 or less: nothing.

    A reset fills the bucket: what was admitted before does not count. At the very time of one,
    nobody knows what came first.
    """
    most = -math.inf
    level = capacity
    at = -math.inf
    for now, units in sorted([*admitted, *((each, 0) for each in resets)]):
        level = capacity if at == -math.inf else min(level + rate * (now - at), capacity)
        level = level - units if units else capacity
        at = now
        most = max(most, -level)
    return most


class Decision:
    """One that was begun. ``spent_at`` is when lease units were reserved for it."""

    def __init__(self, asks: list[Any], local: list[bool], outcome: Any, now: float) -> None:
        self.asks = asks
        self.local = local
        self.outcome = outcome
        self.spent_at = now
        self.message: Message | None = None


class Member:
    """A gateway, and what it has decided."""

    def __init__(self, store: ModelStore, clock: Clock, lease: float) -> None:
        settings = Settings(True, lease, 4.0)
        self.gateway = Gateway(store, clock, Gateways(), settings, SETTLE, settled=False)
        self.gateway.calls.at_once = False
        self.open: list[Decision] = []
        self.spent = {"a": 0, "b": 0}

    @property
    def messages(self) -> list[Message]:
        return self.gateway.calls.messages

    def knowns(self) -> list[Known]:
        return list(self.gateway.limits._keys.held.values())


class GatewaysMachine(RuleBasedStateMachine):
    """Gateways come and go, calls are delayed, executed late, lost; time passes."""

    @initialize(
        a=ALGORITHMS,
        b=ALGORITHMS,
        lease=st.sampled_from([0.2, 1.0]),
        first=st.integers(1, 4),
        rushed=st.booleans(),
    )
    def begin(self, a: Algorithm, b: Algorithm, lease: float, first: int, rushed: bool) -> None:
        self.clock = Clock()
        self.store = ModelStore(self.clock)
        self.lease = lease
        self.limiters = {"a": ALimiter("a", a), "b": ALimiter("b", b)}
        self.members: list[Member] = []
        self.stale: list[Message] = []
        self.gone: list[float] = []
        self.admitted: dict[str, list[tuple[float, int]]] = {"a": [], "b": []}
        self.resets: dict[str, list[float]] = {"a": [], "b": []}
        self.untold: list[tuple[Member, str]] = []
        self.next_beat = self.clock.now + HEARTBEAT
        for _ in range(first):
            self.join()
        self.pass_time(SETTLE + 1.5)
        if rushed:
            self.rush(0.005, ["a", "b"], 5)

    def heartbeat(self) -> None:
        self.gone = [at for at in self.gone if self.clock.now - at < FORGOTTEN]
        for member in self.members:
            member.gateway.gateways.count = len(self.members) + len(self.gone)
            member.gateway.limits.tick(self.clock.now)

    def pass_time(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.next_beat <= end:
            self.clock.now = self.next_beat
            self.next_beat += HEARTBEAT
            self.heartbeat()
        self.clock.now = end

    @precondition(lambda self: len(self.members) < 6)
    @rule()
    def join(self) -> None:
        """The new one knows how many there are; the others learn of it with their next beat."""
        member = Member(self.store, self.clock, self.lease)
        self.members.append(member)
        member.gateway.gateways.count = len(self.members) + len(self.gone)

    @precondition(lambda self: len(self.members) > 1)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        """What it sent may be executed yet. What it had is lost."""
        member = data.draw(st.sampled_from(self.members))
        self.members.remove(member)
        self.gone.append(self.clock.now)
        self.stale += member.messages

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 3.0]))
    def advance(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(data=st.data())
    def tick(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.members)).gateway.limits.tick(self.clock.now)

    @rule(data=st.data(), up=st.booleans())
    def link(self, data: st.DataObject, up: bool) -> None:
        data.draw(st.sampled_from(self.members)).gateway.calls.up = up

    @rule(
        data=st.data(),
        names=st.sampled_from(["a", "b", "ab", "a", "ab"]),
        cost=st.sampled_from([1, 1, 1, 2, 5]),
        times=st.sampled_from([1, 5, 40]),
        pause=st.sampled_from([0.0, 0.001, 0.01]),
        answered=st.booleans(),
    )
    def decide(
        self,
        data: st.DataObject,
        names: str,
        cost: int,
        times: int,
        pause: float,
        answered: bool,
    ) -> None:
        member = data.draw(st.sampled_from(self.members))
        asks = [self.limiters[name].ask(cost=cost) for name in names]
        for _ in range(times):
            self.pass_time(pause)
            self.decide_once(member, asks)
            if answered:
                self.deliver(member)

    def decide_once(self, member: Member, asks: list[Any]) -> None:
        before = {id(k): k.units + k.later for k in member.knowns()}
        sent = len(member.messages)
        outcome = member.gateway.begin(*asks)
        by_name = {k.ask.limiter.name: k for k in member.knowns()}
        local = []
        for ask in asks:
            known = by_name.get(ask.limiter.name)
            fewer = known is not None and known.units + known.later < before.get(id(known), 0)
            local.append(fewer)
        decision = Decision(asks, local, outcome, self.clock.now)
        if isinstance(outcome, Outcome):
            self.close(member, decision)
        else:
            decision.message = member.messages[sent]
            member.open.append(decision)

    def close(self, member: Member, decision: Decision) -> None:
        """Note what was admitted, at the time at which its units were taken."""
        outcome = settled(decision.outcome)
        assert outcome is not None
        if not outcome.admitted:
            return
        assert all(taken is not None and not taken.wait for taken in outcome.taken)
        for ask, local in zip(decision.asks, decision.local, strict=True):
            name = ask.limiter.name
            if local:
                member.spent[name] += ask.cost
                at = decision.spent_at
            else:
                assert decision.message is not None
                at = decision.message.executed_at
            self.admitted[name].append((at, ask.cost))

    def settle(self, member: Member) -> None:
        still = []
        for decision in member.open:
            if settled(decision.outcome) is None:
                still.append(decision)
            else:
                self.close(member, decision)
        member.open = still

    def deliver(self, member: Member) -> None:
        """Everything is executed and answered, but for what is too old: its connection is gone."""
        for message in list(member.messages):
            if self.too_old(message):
                member.messages.remove(message)
                message.fail("timeout")
        member.gateway.calls.deliver()
        self.settle(member)

    @rule(
        pause=st.sampled_from([0.0, 0.002, 0.02]),
        names=st.sampled_from(["a", "b", "ab"]),
        cost=st.sampled_from([1, 4]),
    )
    def rush(self, pause: float, names: Sequence[str], cost: int) -> None:
        """Every gateway is asked at once, many times."""
        asks = [self.limiters[name].ask(cost=cost) for name in names]
        for i in range(40):
            self.pass_time(pause)
            for member in self.members:
                self.decide_once(member, asks)
                self.deliver(member)
                if i % 10 == 0:
                    member.gateway.limits.tick(self.clock.now)

    @rule(names=st.sampled_from(["a", "b", "ab"]), told=st.booleans())
    def reset(self, names: str, told: bool) -> None:
        """The store forgets, and says so; each gateway hears of it now, or later, or never."""
        self.pass_time(1e-6)
        for name in names:
            self.store.states.pop((name, "k"), None)
            self.resets[name].append(self.clock.now)
            self.untold += [(member, name) for member in self.members]
        self.pass_time(1e-6)
        if told:
            self.tell()

    @precondition(lambda self: self.untold)
    @rule()
    def tell(self) -> None:
        for member, name in self.untold:
            member.gateway.limits.forget([(name, "k")])
        self.untold.clear()

    @rule(data=st.data())
    def answer_all(self, data: st.DataObject) -> None:
        self.deliver(data.draw(st.sampled_from(self.members)))

    @rule(
        data=st.data(),
        how=st.sampled_from(["execute", "answer", "timeout", "lost", "drop"]),
    )
    def message(self, data: st.DataObject, how: Any) -> None:
        """One call: executed, answered, given up (and executed later, or never)."""
        members = [each for each in self.members if each.messages]
        if not members:
            return
        member = data.draw(st.sampled_from(members))
        message = data.draw(st.sampled_from(member.messages))
        if self.too_old(message):
            how = "timeout"
        if how == "execute":
            message.execute(self.clock.now)
            return
        member.messages.remove(message)
        if how == "answer":
            message.execute(self.clock.now)
            message.answer()
        else:
            message.fail("lost" if how == "drop" else how)
            # What was given up on may be executed as long as its connection is there.
            if how != "drop":
                self.stale.append(message)
        self.settle(member)

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        """The store executes what nobody waits for any more, or never does."""
        message = data.draw(st.sampled_from(self.stale))
        self.stale.remove(message)
        if not self.too_old(message):
            message.execute(self.clock.now)

    def too_old(self, message: Message) -> bool:
        return self.clock.now - message.sent > 2 * HEARTBEAT

    @invariant()
    def bounded(self) -> None:
        """No interval has more than the limit and what is out in leases, none from the start."""
        for name, limiter in self.limiters.items():
            algorithm = limiter.algorithm
            admitted, resets = self.admitted[name], self.resets[name]
            slack = 1e-3
            if isinstance(algorithm, FixedWindow):
                counts = Counter[float]()
                for at, units in admitted:
                    windows = self.store.windows[name]
                    counts[windows[bisect_right(windows, at)]] += units
                # Each reset begins another window, with what is out in leases of the one before.
                most = algorithm.limit * (1 + 2 * len(resets))
                assert max(counts.values(), default=0) <= most
                continue
            out = min(algorithm.rate * self.lease, algorithm.limit)
            capacity = algorithm.capacity  # type: ignore[attr-defined]
            assert excess_of_bucket(admitted, capacity + out, algorithm.rate, resets) <= slack
            total = sum(units for _, units in admitted)
            if total and not resets:
                passed = self.clock.now - self.store.first[name]
                assert total <= capacity + algorithm.rate * passed + slack

    @invariant()
    def shared_out(self) -> None:
        """No more is out in leases than comes in while they last."""
        for name, limiter in self.limiters.items():
            out = 0
            for member in self.members:
                held = [each for each in member.knowns() if each.ask.limiter.name == name]
                out += sum(each.outstanding for each in held)
            algorithm = limiter.algorithm
            assert out <= min(algorithm.rate * self.lease, algorithm.limit)

    @invariant()
    def conserved(self) -> None:
        """Every unit that was leased was spent, returned or lost once, or is still there."""
        for member in self.members:
            limits = member.gateway.limits
            doubtful = {"a": 0, "b": 0}
            for _, known, units in limits._leases._doubtful:
                doubtful[known.ask.limiter.name] += units
            waiting = {"a": 0, "b": 0}
            for decision in member.open:
                for ask, local in zip(decision.asks, decision.local, strict=True):
                    waiting[ask.limiter.name] += ask.cost * local
            tallies = limits.tallies()
            for known in member.knowns():
                numbers = (known.units, known.later, known.ended, known.away, known.wanted)
                assert min(numbers) >= 0, known
                name = known.ask.limiter.name
                assert known.away >= doubtful[name] + waiting[name]
                # What is away is being returned, or reserved, or both lost and in doubt.
                there = known.units + known.later + known.ended + known.away - doubtful[name]
                tally = tallies[name]
                gone = member.spent[name] + tally.returned + tally.lost
                assert tally.leased == gone + there, (known, tally, member.spent, doubtful)

    def teardown(self) -> None:
        """In the end nothing is left, and the store has counted no less than was admitted."""
        if not hasattr(self, "members"):
            return
        for member in self.members:
            member.gateway.calls.up = True
            self.deliver(member)
        for _ in range(6):
            self.pass_time(1.0)
            for member in self.members:
                member.gateway.limits.tick(self.clock.now)
                self.deliver(member)
        for member in self.members:
            assert not member.open
            assert not member.knowns()
        self.conserved()
        self.bounded()
        for name in self.limiters:
            admitted = sum(units for _, units in self.admitted[name])
            taken, given = self.store.taken.get(name, 0), self.store.given.get(name, 0)
            assert admitted <= taken - given


GatewaysMachine.TestCase.settings = RUN
TestGateways = GatewaysMachine.TestCase
