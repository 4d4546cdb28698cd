"""Whom requests are counted for: nobody is taken for somebody else, and nobody gets two shares."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgateway.gateway.limits.keys import ip_key, make_key, subject_key
from tests.gateway.limit_parts import Asked, person

__all__: list[str] = []

ADDRESS = "ip:203.0.113.7"


def key(per: tuple[str, str], exchange: Asked) -> str:
    return make_key([per], "dear", "main")(exchange)


def header(*values: bytes, name: str = "x-tenant") -> str:
    lines = [name.title().encode() + b": " + value for value in values]
    return key(("header", name), Asked(*lines))


def claim(value: Any) -> str:
    return key(("claim", "tenant"), Asked(identity=person("ann", tenant=value)))


@pytest.mark.parametrize(
    ("per", "told"),
    [
        (("ip", ""), ADDRESS),
        (("identity", ""), "identity:ann"),
        (("service", ""), "service:main"),
        (("route", ""), "route:dear"),
        (("global", ""), "global"),
        (("header", "X-Tenant"), "x-tenant:acme"),
        (("claim", "plan"), "plan:gold"),
    ],
)
def test_each_kind(per: tuple[str, str], told: str) -> None:
    exchange = Asked("x-TENANT: acme", identity=person("ann", plan="gold"))
    assert key(per, exchange) == told


@pytest.mark.parametrize("per", [("identity", ""), ("header", "x-tenant"), ("claim", "plan")])
def test_to_leave_something_out_is_no_way_around(per: tuple[str, str]) -> None:
    assert key(per, Asked()) == ADDRESS


@pytest.mark.parametrize("per", [("identity", ""), ("claim", "sub")])
def test_a_token_of_nobody(per: tuple[str, str]) -> None:
    """An empty subject is none."""
    assert key(per, Asked(identity=person(""))) == ADDRESS


@pytest.mark.parametrize(
    "value", [None, "", [], ["acme"], {"a": 1}, 1.5, {"sub": "ann"}, [["x"] * 100] * 100]
)
def test_claims_that_are_no_words_count_for_their_subject(value: Any) -> None:
    assert claim(value) == "identity:ann"


def test_claims_that_are_numbers() -> None:
    assert claim(7) == "tenant:7"
    assert len(claim(10**4000)) < 40  # as long as JSON may have them


@pytest.mark.parametrize(
    ("ip", "told"),
    [
        ("", "ip:local"),
        ("2001:db8::1", "ip:2001:db8::"),
        ("2001:DB8:0:0:ffff::9", "ip:2001:db8::"),
        ("2001:db8:0:1::1", "ip:2001:db8:0:1::"),
        ("::ffff:203.0.113.7", ADDRESS),
        ("fe80::1%eth0", "ip:fe80::"),
    ],
)
def test_addresses(ip: str, told: str) -> None:
    assert ip_key(ip) == told


@pytest.mark.parametrize(
    "value",
    [
        b"a" * 65,
        b"a|ip:203.0.113.9",
        b"\xc3\xbc",
        b"\xff\xfe",
        b"a\tb",
        b"{tag}" * 20,
        b"x" * 8000,
    ],
)
def test_what_is_odd_is_told_by_its_digest(value: bytes) -> None:
    told = header(value)
    assert told.startswith("x-tenant:#")
    assert told.isascii()
    assert told.isprintable()
    assert len(told) < 64
    assert told == header(value)
    assert told != header(value + b"x")


@pytest.mark.parametrize(
    "name", ["authorization", "x-api-key", "x-auth-token", "cookie", "x-client-secret"]
)
def test_what_may_be_a_secret_is_not_told(name: str) -> None:
    assert "opensesame" not in header(b"opensesame", name=name)


@pytest.mark.parametrize("name", ["x-session-id", "x-jwt", "x-credential", "x-pass"])
def test_nor_what_is_called_otherwise(name: str) -> None:
    assert "opensesame" not in header(b"opensesame", name=name)


def test_two_that_differ_only_in_where_they_are_cut() -> None:
    """Neither ``|`` nor ``,`` makes one key of two."""
    parts = [("header", "x-a"), ("header", "x-b")]
    both = make_key(parts, "dear", "main")
    one = both(Asked("X-A: 1|x-b:2", "X-B: 3"))
    two = both(Asked("X-A: 1", "X-B: 2|x-b:3"))
    three = both(Asked("X-A: 1", "X-B: 2"))
    assert len({one, two, three}) == 3


def test_a_second_field_is_no_way_to_another_share() -> None:
    """Many services take the first of two API keys. Who sends junk as the second is still it."""
    assert header(b"acme", b"junk1") in (header(b"acme"), ADDRESS)
    assert header(b"acme", b"junk1") == header(b"acme", b"junk2")


@pytest.mark.parametrize("name", ["x-tenant", "x-api-key"])
def test_an_empty_field_is_none(name: str) -> None:
    assert header(b"", name=name) == ADDRESS


@given(st.text(max_size=200), st.text(max_size=200))
def test_subjects_stay_apart(one: str, two: str) -> None:
    assert (subject_key(one) == subject_key(two)) == (one == two)
    assert subject_key(one).isascii()
    assert subject_key(one).isprintable()
    assert "|" not in subject_key(one)
    assert len(subject_key(one)) <= 256


@given(st.lists(st.binary(max_size=100), max_size=3))
def test_any_bytes(values: list[bytes]) -> None:
    values = [bytes(byte for byte in each if byte not in b"\r\n\0") for each in values]
    values = [each.strip(b" \t") for each in values]
    values = [each for each in values if not any((c < 32 and c != 9) or c == 127 for c in each)]
    told = header(*values)
    assert told.isascii()
    assert told.isprintable()
    assert "|" not in told
    assert len(told) <= 256
