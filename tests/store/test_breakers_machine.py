"""Shared breakers of three gateways under every order of events that Hypothesis finds.

Calls begin and end at all of them; what they say to the store, its answers and its announcements
come late, in any order between gateways, or not at all. In the wilder half of the runs the store
is out of reach of some, forgets everything, and operators interfere.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock

from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.shared_breaker import SharedBreaker
from rtgateway.store.breakers import Breakers, MemoryKeeper
from tests.store.breaker_keepers import BadLine, settle, turns

NAME = "service instance"
GATEWAYS = st.integers(0, 2)
SETTINGS = st.builds(
    BreakerSettings,
    failure_threshold=st.sampled_from([1, 2]),
    success_threshold=st.integers(1, 2),
    timeout=st.sampled_from([1.0, 4.0]),
    max_timeout=st.just(6.0),
    jitter=st.sampled_from([0.0, 0.5]),
    window_calls=st.integers(1, 6),
    minimum_calls=st.integers(1, 4),
    half_open_calls=st.integers(1, 3),
)


class Probe:
    """A call that is out, with its permit."""

    def __init__(self, gateway: int, permit: int, begun: float, *, granted: bool) -> None:
        self.gateway = gateway
        self.permit = permit
        self.begun = begun
        self.granted = granted


class Gateways(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.keeper = MemoryKeeper(self.clock.seconds)
        self.lines = [BadLine(self.keeper) for _ in range(3)]
        self.calls: list[Probe] = []
        self.gateways: list[Breakers] = []
        self.breakers: list[SharedBreaker] = []
        self.wild = False

    @initialize(chosen=SETTINGS, wild=st.booleans(), jitter=st.sampled_from([0.0, 0.9]))
    def begin(self, chosen: BreakerSettings, wild: bool, jitter: float) -> None:
        self.settings = chosen
        self.wild = wild
        for number, line in enumerate(self.lines):
            gateway = Breakers(
                line, self.clock, f"gateway{number}", lambda: jitter, self.clock.seconds
            )
            self.gateways.append(gateway)
            self.breakers.append(gateway.breaker(NAME, chosen, lambda change: None))
        turns(self.clock, self.lines)
        assert all(each.joined for each in self.breakers)

    # -- calls ------------------------------------------------------------------------------------

    @rule(at=GATEWAYS, count=st.integers(1, 3))
    def calls_begin(self, at: int, count: int) -> None:
        breaker, now = self.breakers[at], self.clock.seconds()
        for _ in range(count):
            if breaker.ready(now):
                permit = breaker.acquire(now)
                granted = breaker.joined and breaker.state == "half_open"
                self.calls.append(Probe(at, permit, now, granted=granted))
        self.clock.advance(0)

    @rule(ends=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["good", "failed", "left"]))))
    def calls_end(self, ends: list[tuple[int, str]]) -> None:
        for index, result in ends:
            if self.calls:
                self.end(self.calls.pop(index % len(self.calls)), result)
        self.clock.advance(0)

    @rule(at=GATEWAYS)
    def calls_fail(self, at: int) -> None:
        """Enough of them to open the circuit."""
        breaker, now = self.breakers[at], self.clock.seconds()
        for _ in range(3):
            if breaker.state == "closed":
                breaker.record(breaker.acquire(now), now, 0.1, True)
        self.clock.advance(0)

    @rule(at=GATEWAYS, all_arrives=st.booleans())
    def all_want_to_probe(self, at: int, all_arrives: bool) -> None:
        """An open circuit has rested, and there are requests everywhere."""
        self.calls_fail(at)
        if all_arrives:
            settle(self.clock, self.lines, self.gateways)
        if self.keeper.tallies and self.keeper.tallies[NAME].state == "open":
            self.time_passes(self.settings.timeout)
        for breaker in self.breakers:
            breaker.ready(self.clock.seconds())
        if all_arrives:
            turns(self.clock, self.lines)
        self.clock.advance(0)
        if all_arrives:
            for number in range(3):
                self.calls_begin(number, 1)

    def end(self, call: Probe, result: str) -> None:
        breaker, now = self.breakers[call.gateway], self.clock.seconds()
        if result == "left":
            breaker.release(call.permit, now)
        else:
            breaker.record(call.permit, now, 0.1, result == "failed")

    # -- the line ---------------------------------------------------------------------------------

    @rule(at=GATEWAYS, lost=st.sampled_from(["", "", "", "on the way", "on the way back"]))
    def a_request_arrives(self, at: int, lost: str) -> None:
        line = self.lines[at]
        if line.asked and lost == "on the way":
            line.lose()
        elif line.asked:
            line.arrive(answered=not lost)

    @rule(at=GATEWAYS)
    def an_answer_arrives(self, at: int) -> None:
        if self.lines[at].replies:
            self.lines[at].replies.pop(0)()
        self.clock.advance(0)

    @rule(at=GATEWAYS, lost=st.sampled_from([False, False, False, True]))
    def news_arrives(self, at: int, lost: bool) -> None:
        if self.lines[at].news:
            news = self.lines[at].news.pop(0)
            if not lost:
                news()

    @rule(at=GATEWAYS)
    def all_is_well_for_a_while(self, at: int) -> None:
        self.gateways[at].tick(self.clock.seconds())
        turns(self.clock, [self.lines[at]])

    @rule(at=GATEWAYS)
    def tick(self, at: int) -> None:
        self.gateways[at].tick(self.clock.seconds())

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        for call in [each for each in self.calls if each.begun + 20 < self.clock.seconds()]:
            # No call takes longer than a grant that nobody could renew.
            self.calls.remove(call)
            self.end(call, "failed")
        self.clock.advance(seconds)

    # -- in the wild ------------------------------------------------------------------------------

    @precondition(lambda self: self.wild)
    @rule(at=GATEWAYS, up=st.booleans())
    def the_store_goes_or_comes(self, at: int, up: bool) -> None:
        self.lines[at].up = up
        while not up and self.lines[at].asked:
            self.lines[at].lose()

    @precondition(lambda self: self.wild)
    @rule()
    def the_store_forgets(self) -> None:
        self.keeper.tallies.clear()

    @precondition(lambda self: self.wild)
    @rule(at=GATEWAYS, what=st.sampled_from(["reset", "force_open", "disable"]))
    def an_operator_interferes(self, at: int, what: str) -> None:
        getattr(self.breakers[at], what)(self.clock.seconds())

    # -- what holds -------------------------------------------------------------------------------

    @invariant()
    def never_too_many_probes(self) -> None:
        """Of all gateways together, as long as they have one store."""
        if not self.wild and self.gateways:
            probes = sum(each.granted for each in self.calls)
            now = self.clock.seconds()
            held = sum(now < x.until for each in self.breakers for x in each._grants.held)
            assert probes + held <= self.settings.half_open_calls

    @invariant()
    def no_grant_is_used_twice(self) -> None:
        names = [
            grant.name
            for breaker in self.breakers
            for grants in (breaker._grants.held, *breaker._grants.used.values())
            for grant in grants
        ]
        assert len(names) == len(set(names))

    def teardown(self) -> None:
        """With the store in reach they agree; every slot is free; a good instance comes back."""
        if not self.gateways:
            return
        for call in self.calls:
            self.end(call, "left")
        for line in self.lines:
            line.up = True
        for seconds in (0.3, 0.3, 5.0, 0.3, 0.3, 0.3):
            self.clock.advance(seconds)
            settle(self.clock, self.lines, self.gateways)
        tally = self.keeper.tallies[NAME]
        for breaker in self.breakers:
            assert breaker.joined
            assert (breaker.state, breaker.version) == (tally.state, tally.version)
            assert not breaker.probes
            assert not breaker.occupied
        self.clock.advance(31.0)
        self.recovers()

    def recovers(self) -> None:
        breaker = self.breakers[0]
        if breaker.state in ("forced_open", "disabled"):
            breaker.reset(self.clock.seconds())
        for _ in range(self.settings.success_threshold):
            settle(self.clock, self.lines, self.gateways)
            if not breaker.ready(self.clock.seconds()):
                self.clock.advance(0.2)
                breaker.ready(self.clock.seconds())
                settle(self.clock, self.lines, self.gateways)
            now = self.clock.seconds()
            breaker.record(breaker.acquire(now), now, 0.1, False)
        settle(self.clock, self.lines, self.gateways)
        assert {each.state for each in self.breakers} == {"closed"}
        assert not self.keeper.tallies[NAME].grants


def test_any_order_of_events() -> None:
    """No probe too many, no slot lost, and all agree in the end."""
    run_state_machine_as_test(
        Gateways,
        settings=settings(
            deadline=None,
            max_examples=150,
            stateful_step_count=50,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
