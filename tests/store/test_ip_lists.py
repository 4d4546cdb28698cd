"""Lists of networks: one suite for memory and Redis, and what holds for all gateways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgateway.store.errors import StoreError
from rtgateway.store.ip_lists import IpLists, ListName
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually
from tests.store.conftest import MakeLink
from tests.store.copies import SyncLink, in_step, now

MakeLists = Callable[..., IpLists]


@pytest.fixture(params=["memory", "redis"])
def make_lists(request: pytest.FixtureRequest) -> Iterator[MakeLists]:
    """``make_lists(allow, deny, most=...)``."""
    if request.param == "memory":
        yield IpLists
        return
    link = SyncLink(request.getfixturevalue("redis"))
    yield lambda *args, **settings: _in_redis(link, *args, **settings)
    link.close()


def _in_redis(link: SyncLink, *args: Any, **settings: Any) -> IpLists:
    from rtgateway.store.redis.events import Events
    from rtgateway.store.redis.ip_lists import RedisIpLists

    lists = RedisIpLists(link, Events(link), *args, **settings)
    link.connected()
    assert lists.replica.in_step
    return lists


def _verdicts(lists: IpLists, *ips: str) -> list[str]:
    return [lists.verdict(ip) for ip in ips]


def test_verdicts(make_lists: MakeLists) -> None:
    """An address on both lists is let in; one on none, and what is no address, is not judged."""
    lists = make_lists(["10.1.0.0/16", "2001:db8::/48"], ["10.0.0.0/8", "2001:db8::/32"])
    for _ in range(2):
        assert _verdicts(lists, "10.1.0.1", "10.2.0.1", "11.0.0.1") == ["allow", "deny", ""]
        assert _verdicts(lists, "2001:db8::1", "2001:db8:1::1", "::1") == ["allow", "deny", ""]
        assert _verdicts(lists, "::ffff:10.2.0.1", "fe80::1%eth0") == ["deny", ""]
        assert _verdicts(lists, "", "unknown", "1" * 1000) == ["", "", ""]


def test_without_lists(make_lists: MakeLists) -> None:
    assert make_lists().verdict("10.0.0.1") == ""


def test_networks_come_and_go(make_lists: MakeLists) -> None:
    """What is added counts at once, what is removed no longer, however it is spelled."""
    lists = make_lists([], ["192.0.2.0/24"])
    assert lists.verdict("10.0.0.1") == ""
    assert now(lists.add("deny", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "198.51.100.7"])) == 2
    assert now(lists.add("deny", ["10.0.0.0/8", "10.0.0.0/9"])) == 1
    assert now(lists.add("allow", ["10.0.0.1"])) == 1
    assert _verdicts(lists, "10.0.0.1", "10.0.0.2", "198.51.100.7") == ["allow", "deny", "deny"]
    assert sorted(lists.entries("deny")) == [
        ("10.0.0.0/8", "runtime"),
        ("10.0.0.0/9", "runtime"),
        ("192.0.2.0/24", "config"),
        ("198.51.100.7/32", "runtime"),
    ]
    assert lists.entries("allow") == [("10.0.0.1/32", "runtime")]
    assert now(lists.remove("deny", ["10.0.0.0/255.0.0.0", "203.0.113.0/24"])) == 1
    assert now(lists.remove("allow", ["10.0.0.1/32"])) == 1
    assert _verdicts(lists, "10.0.0.1", "10.200.0.1") == ["deny", ""]
    assert now(lists.remove("allow", ["10.0.0.1/32"])) == 0


def test_configured_networks_stay(make_lists: MakeLists) -> None:
    """They can't be removed, and outlive one that was added besides."""
    lists = make_lists(["10.0.0.0/8"], ["192.0.2.0/24"])
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8 is configured"):
        lists.remove("allow", ["10.0.0.0/8"])
    assert now(lists.add("allow", ["10.0.0.0/8"])) == 1
    assert lists.entries("allow") == [("10.0.0.0/8", "config")]
    assert now(lists.remove("allow", ["10.0.0.0/8"])) == 1
    assert lists.verdict("10.0.0.1") == "allow"


def test_what_is_no_network(make_lists: MakeLists) -> None:
    """It is named, and nothing changes."""
    lists = make_lists()
    for change in (lists.add, lists.remove):
        with pytest.raises(ValueError, match=r"did you mean 10\.0\.0\.0/8\?"):
            change("deny", ["192.0.2.0/24", "10.0.0.1/8"])
    assert lists.entries("deny") == []
    with pytest.raises(ValueError, match="'x' is not an address"):
        make_lists(["x"])


def test_bound(make_lists: MakeLists) -> None:
    """Nothing is added if it would be too much for both lists together."""
    lists = make_lists(["10.0.0.0/8"], most=3)
    assert now(lists.add("allow", ["192.0.2.1", "192.0.2.2"])) == 2
    with pytest.raises(ValueError, match="no more than 3 networks"):
        now(lists.add("deny", ["192.0.2.3", "192.0.2.4"]))
    with pytest.raises(ValueError, match="no more than 3 networks"):
        now(lists.add("deny", [f"192.0.2.{number}" for number in range(10)]))
    assert lists.entries("deny") == []
    assert now(lists.add("deny", ["192.0.2.3"])) == 1
    assert now(lists.add("deny", ["192.0.2.3"])) == 0
    assert now(lists.remove("allow", ["192.0.2.1"])) == 1
    assert now(lists.add("deny", ["192.0.2.4"])) == 1


def test_many_at_once(make_lists: MakeLists) -> None:
    lists = make_lists()
    networks = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000)]
    assert now(lists.add("deny", networks)) == 10_000
    assert _verdicts(lists, "10.0.0.1", "10.39.15.255", "10.39.16.0") == ["deny", "deny", ""]
    assert now(lists.remove("deny", networks[:5000])) == 5000
    assert _verdicts(lists, "10.0.0.1", "10.39.15.255") == ["", "deny"]


def test_names(make_lists: MakeLists) -> None:
    lists = make_lists(["10.0.0.0/8"])
    now(lists.add("deny", ["192.0.2.3"]))
    assert repr(lists) == f"<{type(lists).__name__} 1 allowed 1 denied, 1 of them at run time>"


NETWORKS = st.lists(
    st.builds(
        lambda number, length: f"10.0.{number >> 8 - length << 8 - length}.0/{16 + length}",
        st.integers(0, 15),
        st.integers(0, 8),
    ),
    max_size=5,
)
LISTS: st.SearchStrategy[ListName] = st.sampled_from(["allow", "deny"])


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(
    NETWORKS,
    st.lists(st.tuples(st.booleans(), LISTS, NETWORKS), max_size=12),
)
def test_both_are_equal(
    redis_of_session: RedisServer,
    configured: Sequence[str],
    steps: list[tuple[bool, ListName, Sequence[str]]],
) -> None:
    """After any trace, memory and Redis have the same lists; so has who reads them then."""
    redis_of_session.command("FLUSHALL")
    with closing(SyncLink(redis_of_session)) as link:
        both = (IpLists(configured, most=15), _in_redis(link, configured, most=15))

        def shown(lists: IpLists) -> object:
            return (
                sorted(lists.entries("allow")),
                sorted(lists.entries("deny")),
                [lists.verdict(f"10.0.{number}.1") for number in range(32)],
            )

        def outcome(
            lists: IpLists, adding: bool, which: ListName, networks: Sequence[str]
        ) -> object:
            try:
                return now((lists.add if adding else lists.remove)(which, networks))
            except ValueError as error:
                return str(error)

        for step in steps:
            in_memory, in_redis = (outcome(lists, *step) for lists in both)
            assert in_memory == in_redis
            assert shown(both[0]) == shown(both[1])
        assert shown(_in_redis(link, configured)) == shown(both[0])


# -- Redis ----------------------------------------------------------------------------------------


def _gateway(make_link: MakeLink, server: RedisServer, **settings: Any):  # type: ignore[no-untyped-def]
    from rtgateway.store.redis.events import Events
    from rtgateway.store.redis.ip_lists import RedisIpLists

    link = make_link(server)
    return RedisIpLists(link, Events(link), **settings)


@pytest_twisted.ensureDeferred
async def test_all_gateways_have_them(redis: RedisServer, make_link: MakeLink) -> None:
    """Each besides what it has configured; those that start later too."""
    one, two = _gateway(make_link, redis, deny=["192.0.2.1"]), _gateway(make_link, redis)
    await in_step(one, two)
    networks = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(3000)]
    assert await one.add("deny", networks) == 3000
    await eventually(lambda: len(two.entries("deny")) == 3000)
    later = _gateway(make_link, redis)
    await in_step(later)
    for lists in (two, later):
        assert _verdicts(lists, "10.0.0.1", "10.11.183.1", "192.0.2.1") == ["deny", "deny", ""]
    assert one.verdict("192.0.2.1") == "deny"
    assert await two.remove("deny", networks) == 3000
    await eventually(lambda: not later.entries("deny") and len(one.entries("deny")) == 1)


@pytest_twisted.ensureDeferred
async def test_redis_goes_away(redis_server: RedisServer, make_link: MakeLink) -> None:
    """The lists hold, and can't be changed. They are what Redis has when it is back."""
    one, two = (
        _gateway(make_link, redis_server, deny=["192.0.2.1"]),
        _gateway(make_link, redis_server),
    )
    await in_step(one, two)
    await one.add("deny", ["10.0.0.0/8"])
    await eventually(lambda: two.verdict("10.0.0.1"))
    redis_server.kill()
    await eventually(lambda: not one._link.up and not two._link.up)
    with pytest.raises(StoreError):
        await one.add("deny", ["11.0.0.0/8"])
    with pytest.raises(StoreError):
        await one.remove("deny", ["10.0.0.0/8"])
    assert _verdicts(one, "10.0.0.1", "11.0.0.1", "192.0.2.1") == ["deny", "", "deny"]
    redis_server.start()
    await eventually(lambda: not one.verdict("10.0.0.1") and not two.verdict("10.0.0.1"))
    assert one.verdict("192.0.2.1") == "deny"
    await eventually(lambda: one._link.up and two._link.up)
    await two.add("allow", ["10.0.0.0/8"])
    await eventually(lambda: one.verdict("10.0.0.1") == "allow")
