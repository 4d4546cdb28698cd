"""What clients are told: lines that are always well-formed, and waits that are long enough."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgateway.core.limits import FixedWindow, TokenBucket
from rtgateway.gateway.limits.answers import Words, banned, denied, quota_lines, refusal
from rtgateway.store.limits.asked import Ask, Outcome
from rtgateway.store.limits.known import Known, Tally, as_known
from tests.gateway.limit_parts import Asked, Scripted, Stage, bucket, limiter_of, taken

__all__: list[str] = []

LINE = re.compile(
    rb"X-RateLimit-(Limit|Remaining|Reset): [0-9]{1,15}"
    rb'|RateLimit-Policy: "[^"]+";q=[0-9]{1,15};w=[1-9][0-9]{0,14}'
    rb'(, "[^"]+";q=[0-9]{1,15};w=[1-9][0-9]{0,14})*'
    rb'|RateLimit: "[^"]+";r=[0-9]{1,15};t=[0-9]{1,15}(, "[^"]+";r=[0-9]{1,15};t=[0-9]{1,15})*'
)

ALGORITHMS: dict[str, dict[str, Any]] = {
    "token_bucket": {"capacity": 3, "refill_rate": 0.7},
    "leaky_bucket": {"capacity": 3, "refill_rate": 0.3},
    "gcra": {"limit": 7, "window": "3s", "burst": 2},
    "fixed_window": {"limit": 3, "window": "2500ms"},
    "sliding_window": {"limit": 3, "window": "2500ms"},
    "sliding_log": {"limit": 3, "window": "2500ms"},
}


def fields(quota: bytes) -> dict[bytes, bytes]:
    assert quota.startswith(b"\r\n")
    return dict(line.split(b": ") for line in quota[2:].split(b"\r\n"))


def test_none_of_one_and_of_two() -> None:
    one, two = Words("one"), Words("two")
    assert quota_lines([]) == b""
    small, large = TokenBucket(10, 1), FixedWindow(1000, 60)
    alone = fields(quota_lines([(one, small, taken(remaining=5, reset=4.2))]))
    assert alone == {
        b"X-RateLimit-Limit": b"10",
        b"X-RateLimit-Remaining": b"5",
        b"X-RateLimit-Reset": b"5",
        b"RateLimit-Policy": b'"one";q=10;w=10',
        b"RateLimit": b'"one";r=5;t=5',
    }
    both = fields(
        quota_lines(
            [
                (one, small, taken(remaining=5, reset=4.2)),
                (two, large, taken(remaining=400, reset=59.01)),
            ]
        )
    )
    assert both == {
        b"X-RateLimit-Limit": b"1000",
        b"X-RateLimit-Remaining": b"400",
        b"X-RateLimit-Reset": b"60",
        b"RateLimit-Policy": b'"one";q=10;w=10, "two";q=1000;w=60',
        b"RateLimit": b'"one";r=5;t=5, "two";r=400;t=60',
    }


def test_of_two_the_one_that_refuses() -> None:
    """Even where it has units left, but not as many as were asked for."""
    one, two = Words("one"), Words("two")
    lines = quota_lines(
        [
            (one, TokenBucket(10, 1), taken(remaining=0)),
            (two, TokenBucket(100, 1), taken(wait=3, remaining=90)),
        ]
    )
    assert fields(lines)[b"X-RateLimit-Limit"] == b"100"


@given(
    st.lists(
        st.tuples(
            st.integers(1, 10**9),
            st.floats(0.001, 1e6),
            st.integers(0, 10**9),
            st.floats(0, 1e9),
            st.sampled_from([0.0, 1e-9, 5.0, math.inf]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_numbers(numbers: list[tuple[int, float, int, float, float]]) -> None:
    said = [
        (Words(f"n{place}"), FixedWindow(limit, window), taken(wait, min(left, limit), reset))
        for place, (limit, window, left, reset, wait) in enumerate(numbers)
    ]
    for line in quota_lines(said)[2:].split(b"\r\n"):
        assert LINE.fullmatch(line), line


def test_words_are_bounded() -> None:
    words = Words("plans")
    for limit in range(1, 5000):
        words.policy(TokenBucket(limit, 1))
    assert len(words._kept) <= 1024


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [(1e-9, 1), (0.2, 1), (1.0, 1), (1.0000001, 1), (1.1, 2), (60.0, 60)],
)
def test_how_long_to_wait(wait: float, seconds: int) -> None:
    error = refusal(wait, "Too much", "per-client ip:192.0.2.1")
    assert (error.status, error.detail) == (429, "per-client ip:192.0.2.1")
    assert dict(error.headers) == {b"Retry-After": b"%d" % seconds}
    assert error.members["retry_after"] == seconds
    json.dumps(error.members)


def test_bans_and_lists() -> None:
    assert dict(banned(0.001).headers)[b"Retry-After"] == b"1"
    assert "5 minutes" in banned(300).message
    assert denied(403).status == 403
    assert denied(429).status == 429


@given(
    name=st.sampled_from(sorted(ALGORITHMS)),
    gaps=st.lists(st.floats(0, 4), min_size=1, max_size=12),
    costs=st.lists(st.integers(1, 2), min_size=12, max_size=12),
)
def test_who_waits_as_long_as_told_is_admitted(
    name: str, gaps: list[float], costs: list[int]
) -> None:
    """Exactly so long, with nobody else asking; with whole units and at any moment."""
    cost = {"header": "x-cost", "most": 2}
    stage = Stage(it={"algorithm": name, **ALGORITHMS[name], "cost": cost})
    for gap, units in zip(gaps, costs, strict=False):
        stage.clock.now += gap
        while (refused := stage.admit(Asked(f"X-Cost: {units}"))) is None:
            pass
        assert refused.status == 429
        stage.clock.now += int(dict(refused.headers)[b"Retry-After"])
        assert stage.admit(Asked(f"X-Cost: {units}")) is None


@given(gaps=st.lists(st.floats(0, 3), min_size=1, max_size=12))
def test_the_same_with_all_of_them_at_once(gaps: list[float]) -> None:
    limiters: Any = {name: {"algorithm": name, **each} for name, each in ALGORITHMS.items()}
    stage = Stage(**limiters, wide=bucket(4, 0.2, per="global"))
    for gap in gaps:
        stage.clock.now += gap
        while (refused := stage.admit(Asked())) is None:
            pass
        stage.clock.now += int(dict(refused.headers)[b"Retry-After"])
        assert stage.admit(Asked()) is None


def test_a_refusal_costs_nothing() -> None:
    """Who asks a thousand times too often has to wait as long as who asks once."""
    stage = Stage(it=bucket(2, 0.1), other=bucket(2000, 0.1))
    stage.statuses(Asked(), Asked())
    first = stage.admit(Asked())
    assert first is not None
    assert set(stage.statuses(*(Asked() for _ in range(1000)))) == {429}
    last = Asked()
    again = stage.admit(last)
    assert again is not None
    assert again.headers == first.headers
    assert b'"other";r=1998' in last.quota


def test_no_more_is_left_than_there_is() -> None:
    """What Redis had left then, and what was leased before and since, may be more together."""
    ask = Ask(limiter_of(**bucket(50)), TokenBucket(50, 200), "ip:192.0.2.1", 1)
    known = Known(ask, Tally(), 0.0)
    known.remaining = 40
    known.lease(10, 1.0, 0.7, 0.0)
    known.lease(10, 1.0, 0.7, 0.0)
    assert as_known(known, 0.1).remaining <= 50


def test_without_redis_nobody_is_told_to_come_back_in_a_day() -> None:
    """A gateway's part of a limit may be less than one request costs; Redis is back in seconds."""
    outcome = Outcome(False, [taken(wait=math.inf)], 0.0, True)
    error = Stage(Scripted(at_once=outcome), it=bucket(5)).admit(Asked())
    assert error is not None
    assert int(dict(error.headers)[b"Retry-After"]) <= 60


def test_under_load_nobody_is_told_to_come_back_in_a_day() -> None:
    """Under load a limit may be less than one request costs, which is so for some seconds."""
    stage = Stage(it={"algorithm": "adaptive", **bucket(10), "cost": 5})
    for _ in range(10):
        stage.limiters["it"].adapt(5.0, 0.0, 0.0)
    error = stage.admit(Asked())
    assert error is None or int(dict(error.headers)[b"Retry-After"]) <= 600
