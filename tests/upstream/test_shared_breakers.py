"""A service whose instances have shared breakers: probes come with a grant, and nobody is stuck."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet.task import Clock

from rtgateway.core.deadlines import Wheel
from rtgateway.core.shared_breaker import SharedBreaker
from rtgateway.store.breakers import Breakers, MemoryKeeper
from tests.store.breaker_keepers import BadLine
from tests.upstream import stage
from tests.upstream.stage import Stage

BREAKER = {"shared": True, "failure_threshold": 1, "success_threshold": 1, "jitter": 0.0}


class SharedStage(Stage):
    """A stage whose gateway shares its breakers, over a line that a test lets work."""

    breakers: Breakers

    def __init__(self, *names: str, **settings: Any) -> None:
        keeper = MemoryKeeper(lambda: self.now)
        self.line = BadLine(keeper)

        class Builder(stage._Builder):
            def __init__(builder, clock: Clock, wheel: Wheel) -> None:  # noqa: N805
                super().__init__(clock, wheel)
                self.breakers = Breakers(self.line, clock, "gateway", lambda: 0.5, lambda: self.now)
                builder._breakers = self.breakers

        with patch.object(stage, "_Builder", Builder):
            super().__init__(*names, circuit_breaker=BREAKER, **settings)
        self.settle()

    def settle(self) -> None:
        for _ in range(10):
            self.clock.advance(0)
            self.line.quick()

    def breaker(self, name: str) -> SharedBreaker:
        breaker = self.instance(name).breaker
        assert isinstance(breaker, SharedBreaker)
        return breaker

    def open(self, name: str) -> None:
        breaker = self.breaker(name)
        breaker.record(breaker.acquire(self.now), self.now, 0.1, True)
        self.settle()
        assert breaker.state == "open"


@pytest.fixture
def began() -> Iterator[Any]:
    """``began(*names, **settings)``: the stage, in its own time."""
    contexts = []

    def begin(*names: str, **settings: Any) -> SharedStage:
        made = SharedStage(*names, **settings)
        context = made.on()
        context.__enter__()
        contexts.append(context)
        return made

    yield begin
    for context in contexts:
        context.__exit__(None, None, None)


def test_the_next_request_is_the_probe(began: Any) -> None:
    """Who comes when the open time is over asks for a grant; who comes then probes."""
    made = began("a")
    made.open("a")
    made.pass_time(30.0)
    assert made.instance("a").available(made.now).ok
    first = made.comes()
    assert first.error is not None
    assert first.error.status == 503
    made.settle()
    second = made.comes()
    assert second.over is False
    assert made.breaker("a").probes == 1
    third = made.comes()
    assert third.error is not None
    assert made.instance("a").available(made.now).reason == "circuit half-open, being probed"


def test_who_waits_for_room_is_let_in_with_the_grant(began: Any) -> None:
    """One instance is full, the other half-open: there is room as soon as there is a grant."""
    made = began("a", "b", concurrency={"per_instance": 1, "queue_timeout": 20.0})
    made.open("a")
    made.pass_time(30.0)
    made.comes()
    made.settle()
    made.pass_time(0.2)
    assert made.instance("b").inflight + made.instance("a").inflight == 1
    waits = made.comes()
    made.settle()
    assert waits.error is None
    assert made.instance("b").inflight + made.instance("a").inflight == 2


def test_an_instance_that_leaves(began: Any) -> None:
    """Its breaker is forgotten."""
    made = began("a", "b")
    assert len(made.breakers) == 2
    made.service.remove("a:80")
    assert len(made.breakers) == 1
