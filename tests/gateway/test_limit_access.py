"""Who may come in at all: lists and bans, and what gets somebody banned."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.limit_parts import Asked, Stage, bucket, person

__all__: list[str] = []

PENALTIES = {"penalties": {"refusals": 3, "window": "1m", "duration": "10m"}}


def listed(**lists: Any) -> Stage:
    return Stage(it=bucket(1), more={"ip_lists": lists})


@pytest.mark.parametrize(
    ("ip", "status"),
    [
        ("192.0.2.1", 403),
        ("::ffff:192.0.2.1", 403),
        ("192.0.3.1", 200),
        ("2001:db8::1", 403),
        ("2001:db9::1", 200),
        ("", 200),
        ("192.0.2.7", 200),
    ],
)
def test_denied(ip: str, status: int) -> None:
    stage = listed(deny=["192.0.2.0/24", "2001:db8::/32"], allow=["192.0.2.7"])
    assert stage.statuses(Asked(ip=ip)) == [status]
    assert stage.access.denied == (status == 403)


def test_denied_as_another_gateway_says_it() -> None:
    assert listed(deny=["192.0.2.1"], deny_status=429).statuses(Asked(ip="192.0.2.1")) == [429]


def test_only_who_is_allowed() -> None:
    stage = listed(allow=["192.0.2.0/24"], only_allowed=True)
    asked = [Asked(ip=ip) for ip in ("192.0.2.1", "203.0.113.7", "2001:db8::1")]
    assert stage.statuses(*asked) == [200, 403, 403]


def test_who_is_allowed_has_no_limits_and_no_bans() -> None:
    """Neither by his address nor by his token, and nothing is said to him."""
    stage = listed(allow=["192.0.2.1"])
    stage.bans.ban("ip:192.0.2.1", 60, "")
    stage.bans.ban("identity:ann", 60, "")
    last = Asked(ip="192.0.2.1", identity=person())
    assert stage.statuses(*(Asked(ip="192.0.2.1") for _ in range(5)), last) == [200] * 6
    assert last.quota == b""
    assert stage.statuses(Asked(ip="192.0.2.2", identity=person())) == [429]


def test_a_change_holds_for_the_next_request() -> None:
    stage = listed()
    assert stage.statuses(Asked()) == [200]
    stage.lists.add("deny", ["203.0.113.7"])
    assert stage.statuses(Asked()) == [403]
    stage.lists.add("allow", ["203.0.113.0/24"])
    assert stage.statuses(Asked()) == [200]
    stage.lists.remove("allow", ["203.0.113.0/24"])
    stage.lists.remove("deny", ["203.0.113.7"])
    assert stage.statuses(Asked()) == [429]


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        ("ip:203.0.113.7", Asked()),
        ("ip:203.0.113.7", Asked(ip="::ffff:203.0.113.7")),
        ("ip:2001:db8::", Asked(ip="2001:db8::1:2:3:4")),
        ("ip:local", Asked(ip="")),
        ("identity:ann", Asked(identity=person())),
        ("ip:203.0.113.7", Asked(identity=person("bob"))),
    ],
)
def test_banned(subject: str, asked: Asked) -> None:
    """Before anything is counted, and until it is over."""
    stage = Stage(it=bucket(5))
    stage.bans.ban(subject, 60, "")
    error = stage.admit(asked)
    assert error is not None
    assert (error.status, error.code) == (429, "banned")
    assert 59 <= int(dict(error.headers)[b"Retry-After"]) <= 60
    assert stage.access.banned == 1
    assert asked.quota == b""
    assert stage.statuses(Asked(ip="198.51.100.1", identity=person("cyd"))) == [200]
    stage.bans.lift(subject)
    assert stage.statuses(asked) == [200]


def test_so_many_refusals_and_no_fewer() -> None:
    stage = Stage(it=bucket(1, 0.001), more=PENALTIES)
    assert stage.statuses(*(Asked() for _ in range(4))) == [200, 429, 429, 429]
    assert [ban.subject for ban in stage.bans.all()] == ["ip:203.0.113.7"]
    error = stage.admit(Asked())
    assert error is not None
    assert error.code == "banned"


def test_whose_token_it_is_is_to_blame() -> None:
    """Not everybody at his address."""
    stage = Stage(it=bucket(1, 0.001), more=PENALTIES)
    assert stage.statuses(*(Asked(identity=person()) for _ in range(4))) == [200, 429, 429, 429]
    assert [ban.subject for ban in stage.bans.all()] == ["identity:ann"]


def test_what_is_only_reported_gets_nobody_banned() -> None:
    stage = Stage(it=bucket(1, 0.001, report_only=True), more=PENALTIES)
    assert stage.statuses(*(Asked() for _ in range(9))) == [200] * 9
    assert not stage.bans.all()


@pytest.mark.parametrize("per", ["global", "service", "route"])
def test_a_limit_for_all_together_gets_nobody_banned(per: str) -> None:
    """Who asks three times a minute is not to blame for what others have used up."""
    stage = Stage(it=bucket(5, 0.001, per=per), more=PENALTIES)
    stage.statuses(*(Asked(ip="192.0.2.1") for _ in range(5)))
    assert stage.statuses(*(Asked() for _ in range(3))) == [429] * 3
    assert not stage.bans.all()
