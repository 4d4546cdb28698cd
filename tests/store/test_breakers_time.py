"""Shared breakers over lines that a test holds in its hand, in time that it sets."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.shared_breaker import SharedBreaker
from rtgateway.store.breakers import Breakers, MemoryKeeper
from tests.store.breaker_keepers import BadLine, turns

NAME = "users a:1"


class World:
    """Gateways with one keeper, each over a line of its own."""

    def __init__(self, gateways: int = 3, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.keeper = MemoryKeeper(self.clock.seconds)
        self.lines = [BadLine(self.keeper) for _ in range(gateways)]
        given: dict[str, Any] = {"failure_threshold": 3, "timeout": 10.0, "jitter": 0.0}
        self.settings = BreakerSettings(**{**given, **settings})
        self.gateways = [
            Breakers(line, self.clock, f"gateway{number}", lambda: 0.0, self.clock.seconds)
            for number, line in enumerate(self.lines)
        ]
        self.breakers: list[SharedBreaker] = [
            each.breaker(NAME, self.settings, lambda change: None) for each in self.gateways
        ]
        turns(self.clock, self.lines)

    def call(self, at: int, *, failed: bool = False, times: int = 1) -> None:
        now = self.clock.seconds()
        for _ in range(times):
            breaker = self.breakers[at]
            breaker.record(breaker.acquire(now), now, 0.01, failed)

    def probe(self, at: int) -> int:
        """A permit, once there is a grant."""
        assert not self.breakers[at].ready(self.clock.seconds())
        turns(self.clock, self.lines)
        return self.breakers[at].acquire(self.clock.seconds())

    def open(self) -> None:
        self.call(0, failed=True, times=3)
        turns(self.clock, self.lines)
        assert self.states == {"open"}

    def pass_time(self, seconds: float, *, ticks: bool = True) -> None:
        """With a tick of all every 100 ms."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(0.1, end - self.clock.seconds()))
            for gateway in self.gateways if ticks else ():
                gateway.tick(self.clock.seconds())
            turns(self.clock, self.lines)

    def cut(self, *which: int) -> None:
        for at in which or range(len(self.lines)):
            self.lines[at].up = False
        self.pass_time(0.1)

    def mend(self) -> None:
        for line in self.lines:
            line.up = True

    @property
    def states(self) -> set[str]:
        return {each.state for each in self.breakers}

    @property
    def joined(self) -> bool:
        return all(each.joined for each in self.breakers)


def test_good_calls_cost_one_message_each_100_ms() -> None:
    """All breakers of a gateway in one; none where nothing happens, until it is time to look."""
    world = World(1)
    line, gateway = world.lines[0], world.gateways[0]
    second = gateway.breaker("users b:1", world.settings, lambda change: None)
    turns(world.clock, world.lines)
    for breaker in (world.breakers[0], second):
        for _ in range(100):
            breaker.record(breaker.acquire(1000.0), 1000.0, 0.01, False)
    world.clock.advance(0.1)
    assert not line.asked
    gateway.tick(world.clock.seconds())
    ((_, said, _),) = line.asked
    assert [each.message.op for each in said] == ["report", "report"]
    assert [each.message.a for each in said] == [100, 100]
    line.quick()
    for _ in range(45):
        world.clock.advance(0.1)
        gateway.tick(world.clock.seconds())
        assert not line.asked
    world.clock.advance(0.5)
    gateway.tick(world.clock.seconds())
    ((_, said, _),) = line.asked
    assert [each.message.op for each in said] == ["look", "look"]


def test_failures_are_told_in_the_next_turn() -> None:
    """Those of one turn together."""
    world = World(1)
    world.call(0)
    world.call(0, failed=True, times=2)
    assert not world.lines[0].asked
    world.clock.advance(0)
    ((_, said, _),) = world.lines[0].asked
    (message,) = [each.message for each in said]
    assert (message.a, message.b, message.d) == (3, 2, 2)


def test_one_gateway_does_not_convict_it() -> None:
    """While others have good calls, the network of the one may be to blame."""
    world = World(minimum_calls=4)
    for _ in range(20):
        world.call(1)
        world.pass_time(0.1)
        world.call(0, failed=True, times=3)
        turns(world.clock, world.lines)
    assert world.states == {"closed"}
    world.pass_time(0.3)
    world.call(0, failed=True, times=3)
    turns(world.clock, world.lines)
    assert world.states == {"open"}


def test_alone_it_is_a_breaker() -> None:
    """Without the store it opens, probes and closes by itself, and grants are its own."""
    world = World(success_threshold=1)
    world.cut(0)
    world.call(0, failed=True, times=3)
    assert [each.state for each in world.breakers] == ["open", "closed", "closed"]
    world.pass_time(10.0)
    world.call(0)
    assert world.states == {"closed"}
    assert world.breakers[0].mode == "alone"


def test_answers_that_stay_away() -> None:
    """Three times in a row, though the line is up: it is alone until one comes."""
    world = World(1)
    for _ in range(3):
        world.call(0, failed=True)
        world.clock.advance(0)
        world.lines[0].lose()
        assert world.breakers[0].joined
        world.lines[0].quick()
        world.clock.advance(0)
        while world.lines[0].asked:
            world.lines[0].lose()
            world.lines[0].quick()
    assert not world.breakers[0].joined
    world.call(0, failed=True)
    assert world.breakers[0].state == "open"


def test_an_open_circuit_of_one_against_good_calls_of_another() -> None:
    """Who opened it alone while the store was away closes it again; nobody else notices."""
    world = World()
    world.cut()
    world.call(0, failed=True, times=3)
    assert world.breakers[0].state == "open"
    world.mend()
    for _ in range(6):
        world.call(1)
        world.pass_time(0.1)
    assert world.joined
    assert world.states == {"closed"}
    assert not world.breakers[1].changes


def test_an_open_circuit_of_one_that_nobody_contradicts() -> None:
    """After 250 ms it is open everywhere, for as long as it would have been."""
    world = World()
    world.cut()
    world.call(0, failed=True, times=3)
    world.pass_time(4.0)
    world.mend()
    world.pass_time(0.6)
    assert world.joined
    assert world.states == {"open"}
    assert [len(each.changes) for each in world.breakers] == [1, 1, 1]
    for breaker in world.breakers:
        assert 1009.9 < breaker.open_until < 1010.8


def test_two_that_opened_it_are_believed_at_once() -> None:
    world = World()
    world.cut()
    world.call(0, failed=True, times=3)
    world.call(1, failed=True, times=3)
    world.mend()
    world.pass_time(0.2)
    assert world.joined
    assert world.states == {"open"}


def test_who_was_away_has_no_say() -> None:
    """What the others have decided meanwhile is right."""
    world = World(success_threshold=1)
    world.open()
    world.cut(0)
    world.pass_time(10.0)
    permit = world.probe(1)
    world.breakers[1].record(permit, world.clock.seconds(), 0.01, False)
    turns(world.clock, world.lines)
    assert [each.state for each in world.breakers] == ["open", "closed", "closed"]
    world.mend()
    world.pass_time(0.1)
    assert world.states == {"closed"}
    assert len(world.breakers[1].changes) == 3


def test_the_store_forgets_an_order() -> None:
    """Who knows of it says so."""
    world = World()
    world.breakers[0].force_open(world.clock.seconds())
    world.pass_time(0.1)
    assert world.states == {"forced_open"}
    world.keeper.tallies.clear()
    world.pass_time(2.5)
    assert world.states == {"forced_open"}
    assert world.keeper.tallies[NAME].state == "forced_open"


def test_an_order_without_the_store() -> None:
    """It holds here at once, and everywhere when the store is back."""
    world = World()
    world.cut(0)
    world.breakers[0].force_open(world.clock.seconds())
    world.pass_time(1.0)
    assert [each.state for each in world.breakers] == ["forced_open", "closed", "closed"]
    world.mend()
    world.pass_time(0.1)
    assert world.states == {"forced_open"}


def test_a_dead_gateway_frees_its_slot() -> None:
    """When its grant ends; a live one renews it."""
    world = World(success_threshold=1)
    world.open()
    world.pass_time(10.0)
    world.probe(0)
    world.pass_time(100.0)
    assert not world.breakers[1].ready(world.clock.seconds())
    world.gateways[0].stop()
    world.pass_time(19.0)
    assert not world.breakers[1].ready(world.clock.seconds())
    turns(world.clock, world.lines)
    assert not world.breakers[1].ready(world.clock.seconds())
    world.pass_time(11.2)
    world.breakers[1].ready(world.clock.seconds())
    turns(world.clock, world.lines)
    assert world.breakers[1].ready(world.clock.seconds())


def test_a_grant_that_nobody_uses() -> None:
    """It waits a second for a call, and then is for others."""
    world = World()
    world.open()
    world.pass_time(10.0)
    for breaker in world.breakers[:2]:
        assert not breaker.ready(world.clock.seconds())
        turns(world.clock, world.lines)
    assert [each.ready(world.clock.seconds()) for each in world.breakers] == [True, False, False]
    world.pass_time(1.3)
    assert not world.breakers[1].ready(world.clock.seconds())
    turns(world.clock, world.lines)
    assert world.breakers[1].ready(world.clock.seconds())
    world.pass_time(5.0)
    assert not world.keeper.tallies[NAME].grants


def test_looking_at_it_asks_for_nothing() -> None:
    """Pages and metrics ask whether it passes; that is no demand."""
    world = World()
    world.open()
    assert not world.breakers[0].passes(world.clock.seconds())
    world.pass_time(10.0)
    assert world.breakers[0].passes(world.clock.seconds())
    world.pass_time(2.0)
    assert world.states == {"open"}
    assert not world.keeper.tallies[NAME].grants


def test_nobody_else_is_left() -> None:
    """An open circuit that is hastened is probed sooner, by leave of the store."""
    world = World()
    world.open()
    world.breakers[0].hasten(1.0)
    world.pass_time(1.0)
    world.probe(0)
    assert world.states == {"half_open"}


def test_an_instance_leaves() -> None:
    """Its breaker goes when its probe has ended; the slot is given back."""
    world = World()
    world.open()
    world.pass_time(10.0)
    permit = world.probe(0)
    world.gateways[0].forget(world.breakers[0])
    assert len(world.gateways[0]) == 1
    world.breakers[0].release(permit, world.clock.seconds())
    world.pass_time(3.0)
    assert len(world.gateways[0]) == 0
    assert not world.keeper.tallies[NAME].grants


def test_long_names() -> None:
    """Each breaker has a short name of its own."""
    world = World(1)
    for end in ("a", "b"):
        world.gateways[0].breaker("x" * 500 + end, world.settings, lambda change: None)
    turns(world.clock, world.lines)
    assert len(world.keeper.tallies) == 3
    assert all(len(name) <= 200 for name in world.keeper.tallies)
