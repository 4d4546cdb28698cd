"""The stage of a route: decided at once, later, or never; waited for, given up, only reported."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from rtgateway.errors import ClientGone, GatewayError
from rtgateway.net.tasks import Waiter
from rtgateway.store.limits.asked import Outcome
from tests.gateway.limit_parts import Asked, Scripted, Stage, bucket, person, taken

__all__: list[str] = []


def counts(stage: Stage, name: str = "it") -> dict[str, int]:
    limiter = stage.limiters[name]
    return {"admitted": limiter.admitted, **limiter.others}


def refused_with(went: object) -> GatewayError:
    assert isinstance(went, GatewayError)
    return went


# -- at once ----------------------------------------------------------------------------------


def test_all_or_nothing() -> None:
    """Whatever order they are in, what one refuses costs the others nothing."""
    for first, second in (("narrow", "wide"), ("wide", "narrow")):
        limiters: dict[str, Any] = {
            "narrow": bucket(1, 0.001),
            "wide": bucket(3, 0.001, per="global"),
        }
        ordered: Any = {name: limiters[name] for name in (first, second)}
        stage = Stage(**ordered)
        assert stage.statuses(*(Asked() for _ in range(9))) == [200] + [429] * 8
        assert stage.statuses(Asked(ip="192.0.2.1"), Asked(ip="192.0.2.2")) == [200, 200]
        assert stage.statuses(Asked(ip="192.0.2.3")) == [429]


def test_no_limiter_here() -> None:
    stage = Stage(it=bucket(1, routes=["cheap"]))
    asked = Asked()
    assert stage.statuses(asked, Asked()) == [200, 200]
    assert asked.quota == b""


def test_nothing_is_said_of_those_that_say_nothing() -> None:
    stage = Stage(it=bucket(1, headers=False), other=bucket(5, headers=False, report_only=True))
    asked, refused = Asked(), Asked()
    assert stage.statuses(asked, refused) == [200, 429]
    assert asked.quota == refused.quota == b""


def test_who_is_refused_is_counted() -> None:
    stage = Stage(it=bucket(1, 0.001))
    assert stage.statuses(Asked(), Asked(), Asked(identity=person())) == [200, 429, 429]
    assert stage.exceeded == [False, True]
    assert counts(stage) == {"admitted": 1, "refused": 2}


def test_one_limiter_on_two_routes() -> None:
    """Its keys are the same on both, and so is what was taken."""
    stage = Stage(it=bucket(2, 0.001), split=bucket(1, 0.001, per=["ip", "route"]))
    cheap = stage.of_route("cheap")
    assert stage.admit(Asked()) is None
    assert stage.admit(Asked(), cheap) is None
    refused = stage.admit(Asked(), cheap)
    assert refused is not None
    assert refused.status == 429


# -- later ------------------------------------------------------------------------------------


def test_an_answer_that_comes_later() -> None:
    store = Scripted()
    stage = Stage(store, it=bucket(5))
    asked = Asked()
    _, gone = stage.start(asked)
    assert gone.went is None
    store.answer(Outcome(True, [taken(remaining=4)]))
    assert gone.went is True
    assert b"X-RateLimit-Remaining: 4\r\n" in asked.quota
    _, gone = stage.start(asked)
    store.answer(Outcome(False, [taken(wait=7.5, remaining=0)]))
    assert refused_with(gone.went).headers == ((b"Retry-After", b"8"),)


@pytest.mark.parametrize(
    ("admitted", "said", "status", "lines"),
    [
        (True, [taken()], 200, True),
        (True, [None], 200, False),
        (False, [taken(wait=2)], 429, True),
        (False, [None], 503, False),
    ],
)
def test_without_the_store(admitted: bool, said: list[Any], status: int, lines: bool) -> None:
    """It is said that it is so, on every answer."""
    stage = Stage(Scripted(at_once=Outcome(admitted, said, 0.0, True)), it=bucket(5))
    asked = Asked()
    assert stage.statuses(asked) == [status]
    assert asked.quota.endswith(b"\r\nX-RateLimit-Mode: degraded")
    assert (b"RateLimit-Policy" in asked.quota) is lines


def test_one_that_lets_nobody_pass_and_one_that_refuses() -> None:
    """429, which says how long to wait; the other one counts that it let nobody pass."""
    outcome = Outcome(False, [None, taken(wait=3)], 0.0, True)
    stage = Stage(Scripted(at_once=outcome), shut=bucket(5, on_store_failure="deny"), it=bucket(5))
    assert stage.statuses(Asked()) == [429]
    assert counts(stage, "shut") == {"admitted": 0, "failed_closed": 1}


def test_who_leaves_while_the_store_is_asked() -> None:
    """The late answer is nobody's, and nothing holds on to the request."""
    store = Scripted()
    stage = Stage(store, it=bucket(5))
    asked = Asked()
    task, gone = stage.start(asked)
    task.cancel(ClientGone())
    assert isinstance(gone.went, ClientGone)
    store.answer(Outcome(True, [taken()]))
    assert isinstance(gone.went, ClientGone)
    assert counts(stage) == {"admitted": 0}
    left = weakref.ref(asked)
    del asked, task, gone
    gc.collect()
    assert left() is None


# -- waiting for one's turn -------------------------------------------------------------------


def shaper(queue: int, rate: float = 10.0) -> Stage:
    return Stage(it={"algorithm": "shaper", "refill_rate": rate, "queue": queue})


def test_turns() -> None:
    stage = shaper(2)
    gone = [stage.start(Asked())[1] for _ in range(4)]
    assert gone[0].went is True
    assert refused_with(gone[3].went).status == 429
    assert [each.went for each in gone[1:3]] == [None, None]
    stage.reactor.advance(0.11)
    assert [each.went for each in gone[1:3]] == [True, None]
    stage.reactor.advance(0.11)
    assert gone[2].went is True
    assert not stage.reactor.getDelayedCalls()


def test_turns_that_the_store_gives() -> None:
    store = Scripted()
    stage = Stage(store, it=bucket(5))
    _, gone = stage.start(Asked())
    store.answer(Outcome(True, [taken(delay=0.5)], 0.5))
    assert gone.went is None
    stage.reactor.advance(0.5)
    assert gone.went is True


def test_who_leaves_before_his_turn() -> None:
    stage = shaper(2)
    stage.start(Asked())
    task, gone = stage.start(Asked())
    task.cancel(ClientGone())
    assert isinstance(gone.went, ClientGone)
    assert not stage.reactor.getDelayedCalls()
    assert not stage.limits._delays


def test_nobody_waits_for_a_gateway_that_has_stopped() -> None:
    stage = shaper(50)
    gone = [stage.start(Asked())[1] for _ in range(10)]
    stage.limits.stop()
    assert all(isinstance(each.went, ClientGone) for each in gone[1:])
    assert not stage.reactor.getDelayedCalls()
    stage.limits.stop()


def test_who_is_refused_by_another_takes_no_turn() -> None:
    stage = Stage(
        paced={"algorithm": "shaper", "refill_rate": 10, "queue": 5, "per": "global"},
        it=bucket(1, 0.001),
    )
    assert stage.statuses(Asked()) == [200]
    assert stage.statuses(*(Asked() for _ in range(50))) == [429] * 50
    stage.clock.now += 0.1
    assert stage.statuses(Asked(ip="192.0.2.1")) == [200]


# -- only reported ----------------------------------------------------------------------------


def test_only_reported() -> None:
    """Each by itself; they hold up nobody and tell nobody."""
    limiters: Any = {
        "one": bucket(1, 0.001, report_only=True),
        "two": bucket(2, 0.001, report_only=True),
    }
    stage = Stage(**limiters, it=bucket(3, 0.001))
    asked = [Asked() for _ in range(4)]
    assert stage.statuses(*asked) == [200, 200, 200, 429]
    assert counts(stage, "one") == {"admitted": 1, "reported": 3}
    assert counts(stage, "two") == {"admitted": 2, "reported": 2}
    assert b"one" not in asked[0].quota


def test_reports_are_not_waited_for() -> None:
    store = Scripted()
    stage = Stage(store, it=bucket(1, report_only=True))
    task, gone = stage.start(Asked())
    assert gone.went is True
    task.cancel(ClientGone())
    store.answer(Outcome(False, [taken(wait=1)]))
    assert counts(stage) == {"admitted": 0, "reported": 1}


def test_a_shaper_that_only_reports_delays_nobody() -> None:
    stage = Stage(it={"algorithm": "shaper", "refill_rate": 1, "queue": 5, "report_only": True})
    assert stage.statuses(*(Asked() for _ in range(9))) == [200] * 9


# -- many -------------------------------------------------------------------------------------


def test_ten_thousand_keys() -> None:
    """Each has its own; what is known of the busiest is bounded."""
    stage = Stage(it=bucket(1, 0.001, per="header:x-tenant"))
    for number in range(10_000):
        assert stage.admit(Asked(f"X-Tenant: t{number}")) is None
    limiter = stage.limiters["it"]
    assert stage.store.keys("it") <= 10_000
    assert len(limiter.popular) <= 200
    assert limiter.admitted == 10_000
    assert stage.statuses(Asked("X-Tenant: t9999")) == [429]


def test_a_store_that_answers_before_it_is_awaited() -> None:
    """A Waiter may be settled already."""
    store = Scripted()
    waiter: Waiter[Outcome] = Waiter()
    waiter.succeed(Outcome(False, [taken(wait=1)]))
    store.decide = lambda asks: waiter  # type: ignore[method-assign]
    stage = Stage(store, it=bucket(1))
    assert refused_with(stage.start(Asked())[1].went).status == 429
