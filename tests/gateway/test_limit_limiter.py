"""One limiter: costs, plans, overrides, whom it spares, and less of it under load."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from rtgateway.gateway.limits.keys import is_about
from rtgateway.gateway.limits.level import Level
from rtgateway.gateway.limits.limiter import Limiter
from tests.gateway.limit_parts import Asked, Stage, bucket, limiter_of, person

__all__: list[str] = []


def cost_of(settings: Any, *lines: str, method: str = "GET") -> int:
    ask = Level(limiter_of(**bucket(1000, cost=settings)), "dear", "main").ask(
        Asked(*lines, method=method)
    )
    assert ask is not None
    return ask.cost


# -- costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ((), 2),
        (("X-Cost: 5",), 5),
        (("x-cost: 5", "X-COST: 7"), 7),
        (("X-Cost: 0",), 2),
        (("X-Cost: -5",), 2),
        (("X-Cost: 1e9",), 2),
        (("X-Cost: 3.5",), 2),
        (("X-Cost: ",), 2),
        (("X-Cost: 0x10",), 2),
        (("X-Cost: 100",), 50),
        (("X-Cost: 999999999",), 50),
        (("X-Cost: 9999999999",), 50),
        (("X-Cost: " + "9" * 5000,), 50),
        (("X-Cost: 0000000000000007",), 7),
        (("X-Cost: " + "0" * 5000,), 2),
    ],
)
def test_a_header_only_makes_it_dearer(said: tuple[str, ...], units: int) -> None:
    assert cost_of({"default": 2, "header": "X-Cost", "most": 50}, *said) == units


def test_methods() -> None:
    settings = {"default": 1, "methods": {"POST": 5, "OPTIONS": 0}}
    costs = [cost_of(settings, method=method) for method in ("GET", "POST", "OPTIONS")]
    assert costs == [1, 5, 0]
    assert cost_of(0) == 0


def test_what_is_free_is_never_refused() -> None:
    """And takes nothing: a look tells what is left."""
    stage = Stage(it=bucket(1, cost={"methods": {"OPTIONS": 0}}))
    assert stage.statuses(Asked(), Asked()) == [200, 429]
    look = Asked(method="OPTIONS")
    assert stage.admit(look) is None
    assert b"X-RateLimit-Remaining: 0\r\n" in look.quota


# -- numbers of one's own ---------------------------------------------------------------------


def allowed(stage: Stage, *lines: str, most: int = 200, **asked: Any) -> int:
    for count in range(most):
        if stage.admit(Asked(*lines, **asked)) is not None:
            return count
    return most


PLANS = {"claim": "plan", "values": {"gold": {"capacity": 20}, "lead": {"capacity": 2}}}


@pytest.mark.parametrize(
    ("claims", "units"),
    [
        ({"plan": "gold"}, 20),
        ({"plan": "lead"}, 2),
        ({"plan": "tin"}, 5),
        ({"plan": ["gold"]}, 5),
        ({"plan": {"gold": 1}}, 5),
        ({"plan": None}, 5),
        ({"plan": "x" * 10_000}, 5),
        ({}, 5),
    ],
)
def test_plans(claims: dict[str, Any], units: int) -> None:
    stage = Stage(it=bucket(5, per="identity", plans=PLANS))
    assert allowed(stage, identity=person("ann", **claims)) == units


def test_who_has_no_token_has_no_plan() -> None:
    assert allowed(Stage(it=bucket(5, per="identity", plans=PLANS))) == 5


def test_overrides_come_before_plans() -> None:
    stage = Stage(
        it=bucket(
            5,
            per="identity",
            plans=PLANS,
            overrides={"ann": {"capacity": 7}, "ip:203.0.113.7": {"capacity": 9}},
        )
    )
    assert allowed(stage, identity=person("ann", plan="gold")) == 7
    assert allowed(stage, identity=person("bob", plan="gold")) == 20
    assert allowed(stage) == 9
    assert allowed(stage, ip="203.0.113.8") == 5


def test_overrides_of_headers() -> None:
    stage = Stage(it=bucket(5, per="header:x-tenant", overrides={"x-tenant:acme": {"capacity": 7}}))
    assert allowed(stage, "X-Tenant: acme") == 7
    assert allowed(stage, "X-Tenant: Acme") == 5


def test_a_subject_that_is_spelled_like_a_key() -> None:
    """Who may choose his name may not choose the numbers of an address or of a tenant."""
    overrides = {"ip:192.0.2.1": {"capacity": 100}, "identity:root": {"capacity": 90}}
    stage = Stage(it=bucket(5, per="identity", overrides=overrides))
    assert allowed(stage, identity=person("root")) == 90
    assert [allowed(stage, identity=person(name)) for name in overrides] == [5, 5]


def test_a_subject_that_is_spelled_like_a_service() -> None:
    """Nor those of a whole service, outside of what all its clients have together."""
    overrides = {"service:main": {"capacity": 9}}
    stage = Stage(it=bucket(5, 0.001, per="service", overrides=overrides))
    assert allowed(stage) == 9
    assert allowed(stage, identity=person("service:main")) == 0


def test_two_tokens_of_one_subject() -> None:
    """Who has an old token of another plan has what both plans give him, and no more."""
    plans = {"claim": "plan", "values": {"gold": {"capacity": 50, "refill_rate": 0.01}}}
    stage = Stage(it=bucket(5, 10, per="identity", plans=plans))
    stage.clock.now = 1000.0
    admitted = 0
    for _ in range(100):
        admitted += allowed(stage, identity=person("ann", plan="gold"))
        admitted += allowed(stage, identity=person("ann"))
    assert admitted == 55


def test_numbers_of_one_do_not_forgive_those_of_another() -> None:
    """A key that is asked for with several numbers is never as good as new by that."""
    stage = Stage(
        it={
            "algorithm": "token_bucket",
            "capacity": 5,
            "refill_rate": 10,
            "plans": {"claim": "plan", "values": {"gold": {"capacity": 100, "refill_rate": 0.1}}},
        }
    )
    gold = person("ann", plan="gold")
    assert allowed(stage, identity=gold) == 100
    stage.admit(Asked())  # without the token, from the same address
    assert allowed(stage, identity=gold) <= 5


# -- whom it spares ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "spared"),
    [
        ({"ip": "10.1.2.3"}, True),
        ({"ip": "::ffff:10.1.2.3"}, True),
        ({"ip": "2001:db8::9"}, True),
        ({"ip": ""}, False),
        ({"ip": "11.1.2.3"}, False),
        ({"identity": person("root")}, True),
        ({"identity": person("Root")}, False),
        ({"identity": person("ann", role="admin")}, True),
        ({"identity": person("ann", role=["x", "admin"])}, True),
        ({"identity": person("ann", role="administrator")}, False),
        ({"identity": person("ann", role=[["admin"]])}, False),
        ({"identity": person("ann", role={"admin": 1})}, False),
        ({"identity": person("ann", role=None)}, False),
        ({"identity": person("ann", role=[None, 7, {}])}, False),
    ],
)
def test_exemptions(asked: dict[str, Any], spared: bool) -> None:
    exempt = {
        "ips": ["10.0.0.0/8", "2001:db8::/32"],
        "identities": ["root"],
        "claims": {"role": "admin"},
    }
    stage = Stage(it=bucket(1, exempt=exempt))
    exchange = Asked(**asked)
    stage.admit(Asked(**asked))
    assert stage.statuses(exchange) == [200 if spared else 429]
    assert (exchange.quota == b"") is spared
    assert stage.limiters["it"].others.get("exempt", 0) == (2 if spared else 0)


# -- under load -------------------------------------------------------------------------------


def test_less_under_load_and_back() -> None:
    """A blocked loop halves it, down to the floor; then it grows again, and what it has refused is
    not owed for ever."""
    stage = Stage(it={"algorithm": "adaptive", **bucket(100, 10), "adaptive": {"floor": 0.1}})
    limiter = stage.limiters["it"]
    for _ in range(10):
        limiter.adapt(5.0, 0.0, 0.0)
    assert limiter.factor == pytest.approx(0.1)
    assert allowed(stage) == 10
    exchange = Asked()
    refused = stage.admit(exchange)
    assert refused is not None
    assert "adjusted due to high load: 0.10x" in str(refused.members["reason"])
    assert b"X-RateLimit-Limit: 10\r\n" in exchange.quota
    for _ in range(30):
        stage.clock.now += 1
        limiter.adapt(0.0, 0.0, 0.0)
    assert limiter.factor == 1.0
    assert allowed(stage) == 100


def test_a_factor_that_changes_forgives_nothing() -> None:
    """A factor that goes up and down with each request gives nobody more than it would at 1."""
    stage = Stage(it={"algorithm": "adaptive", **bucket(100, 1)})
    limiter = stage.limiters["it"]
    admitted = 0
    for number in range(1000):
        limiter.adapt(5.0 if number % 2 else 0.0, 0.0, 0.0)
        admitted += stage.statuses(Asked()) == [200]
    assert admitted <= 100


def test_plans_follow_the_load() -> None:
    stage = Stage(it={"algorithm": "adaptive", **bucket(10), "plans": PLANS})
    gold = person("ann", plan="gold")
    assert allowed(stage, identity=gold, ip="192.0.2.1") == 20
    stage.limiters["it"].adapt(5.0, 0.0, 0.0)
    assert allowed(stage, identity=gold, ip="192.0.2.2") == 10


def test_other_numbers_at_run_time() -> None:
    """Hold at once, for those too who have asked before; and the configured ones after them."""
    stage = Stage(it=bucket(5, 0.001))
    limiter = stage.limiters["it"]
    assert allowed(stage) == 5
    limiter.change(limiter.settings.effective({"capacity": 8}))
    assert allowed(stage) == 3
    limiter.change(limiter.settings)
    assert allowed(stage) == 0


# -- whose keys -------------------------------------------------------------------------------

PARTS = ["ip", "identity", "service", "route", "global", "header:x-tenant", "claim:team"]
PLACES = [("dear", "main"), ("cheap", "main"), ("dear", "other")]
REQUESTS: list[dict[str, Any]] = [
    {"ip": ip, "identity": who, "tenant": tenant}
    for ip in ("192.0.2.1", "192.0.2.2")
    for who in (None, person("ann"), person("bob", plan="gold", team="a"), person("cyd", team="b"))
    for tenant in ("", "acme")
]


def keys_in_use(limiter: Limiter) -> set[str]:
    """Those of all requests, on all routes."""
    keys = set()
    for route, service in PLACES:
        level = Level(limiter, route, service)
        for each in REQUESTS:
            lines = [f"X-Tenant: {each['tenant']}"] if each["tenant"] else []
            ask = level.ask(Asked(*lines, ip=each["ip"], identity=each["identity"]))
            assert ask is not None
            keys.add(ask.key)
    return keys


@pytest.mark.parametrize("own", [{}, {"plans": PLANS}, {"overrides": {"ann": {"capacity": 7}}}])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_all_keys_of_a_subject_are_found(own: dict[str, Any], number: int) -> None:
    """Whatever is combined: those that are not known from the configuration are searched for."""
    for per in combinations(PARTS, number):
        if "global" in per and number > 1:
            continue
        limiter = limiter_of(**bucket(5, per=list(per), **own))
        keys = keys_in_use(limiter)
        subjects = {part for key in keys for part in (*key.partition("~")[0].split("|"), key)}
        for subject in subjects | {"identity:ann"}:
            meant = {key for key in keys if is_about(key, subject)}
            if not limiter.searched_for(subject):
                assert meant <= limiter.keys_of(subject), (per, own, subject)


@pytest.mark.parametrize(
    ("per", "subject", "own"),
    [
        (["ip"], "ip:192.0.2.1", {"plans": PLANS}),
        (["identity"], "identity:ann", {"overrides": {"ann": {"capacity": 7}}}),
        (["identity"], "ip:192.0.2.1", {}),
        (["identity", "service"], "identity:ann", {"overrides": {"ann": {"capacity": 7}}}),
        (["header:x-tenant", "route"], "x-tenant:acme", {}),
        (["service"], "service:main", {}),
        (["identity", "ip"], "identity:ann|ip:192.0.2.1", {}),
    ],
)
def test_most_need_no_search(per: list[str], subject: str, own: dict[str, Any]) -> None:
    limiter = limiter_of(**bucket(5, per=per, **own))
    assert keys_in_use(limiter) & limiter.keys_of(subject)
    assert not limiter.searched_for(subject)


@pytest.mark.parametrize(
    ("key", "subjects"),
    [
        ("ip:a|service:b", {"ip:a", "service:b", "ip:a|service:b"}),
        ("ip:a~identity:c", {"ip:a", "identity:c", "ip:a~identity:c"}),
        ("global", {"global"}),
    ],
)
def test_whom_a_key_is_about(key: str, subjects: set[str]) -> None:
    candidates = {"ip:a", "ip:", "ip:ab", "service:b", "identity:c", "global", "glob"}
    candidates |= subjects
    assert {each for each in candidates if is_about(key, each)} == subjects
