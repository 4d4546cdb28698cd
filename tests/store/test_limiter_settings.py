"""Numbers of limiters that were changed: one suite for memory and Redis, and all gateways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgateway.store.errors import StoreError
from rtgateway.store.limiter_settings import LimiterSettings
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually
from tests.store.conftest import MakeLink
from tests.store.copies import SyncLink, in_step, now

MakeSettings = Callable[[], LimiterSettings]
MORE: dict[str, Any] = {"limit": 20, "window": 1.5, "plans": {"gold": {"limit": 100}}}


@pytest.fixture(params=["memory", "redis"])
def make_settings(request: pytest.FixtureRequest) -> Iterator[MakeSettings]:
    if request.param == "memory":
        yield LimiterSettings
        return
    link = SyncLink(request.getfixturevalue("redis"))
    yield lambda: _in_redis(link)
    link.close()


def _in_redis(link: SyncLink) -> LimiterSettings:
    from rtgateway.store.redis.events import Events
    from rtgateway.store.redis.limiter_settings import RedisLimiterSettings

    made = RedisLimiterSettings(link, Events(link))
    link.connected()
    assert made.replica.in_step
    return made


def test_numbers_for_this_process(make_settings: MakeSettings) -> None:
    """They hold until they are cleared, and who listens is told."""
    changes = make_settings()
    told: list[object] = []
    changes.on_change(lambda: told.append(dict(changes.overrides)))
    now(changes.set("per-user", MORE, persist=False))
    assert changes.overrides == {"per-user": MORE}
    assert not changes.persisted("per-user")
    now(changes.set("per-user", {"limit": 1}, persist=False))
    assert now(changes.clear("per-user")) is True
    assert now(changes.clear("per-user")) is False
    assert changes.overrides == {}
    assert told[:3] == [{"per-user": MORE}, {"per-user": {"limit": 1}}, {}]


def test_numbers_that_persist(make_settings: MakeSettings) -> None:
    """They need a store that is shared."""
    changes = make_settings()
    if not changes.persistent:
        with pytest.raises(StoreError, match="configure Redis"):
            now(changes.set("per-user", MORE, persist=True))
        assert changes.overrides == {}
        return
    now(changes.set("per-user", MORE, persist=True))
    assert changes.overrides == {"per-user": MORE}
    assert changes.persisted("per-user")
    assert now(changes.clear("per-user")) is True
    assert changes.overrides == {}


def test_a_listener_that_fails(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are told nevertheless, and the log has it."""
    from rtgateway.store import limiter_settings

    logged: list[str] = []
    monkeypatch.setattr(limiter_settings.log, "failure", logged.append)
    changes = make_settings()
    told: list[bool] = []
    changes.on_change(lambda: told.append(1 // 0 == 0))
    changes.on_change(lambda: told.append(True))
    now(changes.set("per-user", MORE, persist=False))
    assert told == [True]
    assert logged == ["The settings of limiters could not be changed"]


def test_what_is_too_much(make_settings: MakeSettings) -> None:
    """There is a bound for the size of one and for how many there are."""
    changes = make_settings()
    for wrong in ({"x": "x" * 20_000}, {"x": object()}, {"x": float("nan")}):
        with pytest.raises(ValueError, match=r"bytes|JSON"):
            changes.set("per-user", wrong, persist=False)
    for number in range(1000):
        now(changes.set(f"limiter{number}", {}, persist=False))
    with pytest.raises(ValueError, match="no more than 1000 limiters"):
        now(changes.set("one more", {}, persist=False))
    now(changes.set("limiter7", {"limit": 5}, persist=False))


def test_names(make_settings: MakeSettings) -> None:
    changes = make_settings()
    now(changes.set("per-user", MORE, persist=False))
    assert repr(changes) == f"<{type(changes).__name__} 1 here, 0 shared>"


NAMES = st.sampled_from(["a", "b", "ü"])
NUMBERS = st.dictionaries(st.sampled_from(["limit", "window"]), st.integers(1, 9))


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=50)
@given(st.lists(st.tuples(NAMES, st.one_of(st.none(), NUMBERS), st.booleans()), max_size=15))
def test_both_are_equal(
    redis_of_session: RedisServer, steps: list[tuple[str, dict[str, Any] | None, bool]]
) -> None:
    """The last word counts, here or for all; who comes later has what was kept for all."""
    redis_of_session.command("FLUSHALL")
    with closing(SyncLink(redis_of_session)) as link:
        in_memory, in_redis = LimiterSettings(), _in_redis(link)
        kept: dict[str, dict[str, Any]] = {}
        for name, numbers, persist in steps:
            if numbers is None:
                assert now(in_memory.clear(name)) == now(in_redis.clear(name))
                kept.pop(name, None)
            else:
                now(in_memory.set(name, numbers, persist=False))
                now(in_redis.set(name, numbers, persist=persist))
                if persist:
                    kept[name] = numbers
                assert in_redis.persisted(name) == persist
            assert in_memory.overrides == in_redis.overrides
        assert _in_redis(link).overrides == kept


# -- Redis ----------------------------------------------------------------------------------------


def _gateway(make_link: MakeLink, server: RedisServer):  # type: ignore[no-untyped-def]
    from rtgateway.store.redis.events import Events
    from rtgateway.store.redis.limiter_settings import RedisLimiterSettings

    link = make_link(server)
    return RedisLimiterSettings(link, Events(link))


@pytest_twisted.ensureDeferred
async def test_all_gateways_have_them(redis: RedisServer, make_link: MakeLink) -> None:
    """What persists, also those that start later; and it takes the place of what was there for
    one of them only."""
    one, two = _gateway(make_link, redis), _gateway(make_link, redis)
    await in_step(one, two)
    told: list[bool] = []
    two.on_change(lambda: told.append(True))
    await one.set("per-user", {"limit": 1}, persist=False)
    await two.set("per-user", {"limit": 2}, persist=False)
    await one.set("other", {"limit": 3}, persist=False)
    assert two.overrides == {"per-user": {"limit": 2}}
    await one.set("per-user", MORE, persist=True)
    await eventually(lambda: two.persisted("per-user"))
    assert two.overrides == {"per-user": MORE}
    assert len(told) == 2
    later = _gateway(make_link, redis)
    await in_step(later)
    assert later.overrides == {"per-user": MORE}
    assert await later.clear("per-user") is True
    await eventually(lambda: not two.overrides and one.overrides == {"other": {"limit": 3}})


@pytest_twisted.ensureDeferred
async def test_too_many_that_persist(redis: RedisServer, make_link: MakeLink) -> None:
    one, two = _gateway(make_link, redis), _gateway(make_link, redis)
    await in_step(one)
    hash_key = one.replica.keys[1]
    redis.command("HSET", hash_key, *(word for n in range(1000) for word in (f"limiter{n}", "{}")))
    with pytest.raises(ValueError, match="no more than 1000 limiters"):
        await one.set("one more", {}, persist=True)
    redis.command("HSET", hash_key, "not numbers", "[]")
    two.replica.read()
    await eventually(lambda: len(two.overrides) == 1000)


@pytest_twisted.ensureDeferred
async def test_redis_goes_away(redis_server: RedisServer, make_link: MakeLink) -> None:
    """Numbers hold. What holds here only can be changed, what holds for all can't."""
    one, two = _gateway(make_link, redis_server), _gateway(make_link, redis_server)
    await in_step(one, two)
    await one.set("for-all", MORE, persist=True)
    await eventually(lambda: two.overrides)
    redis_server.kill()
    await eventually(lambda: not one._link.up and not two._link.up)
    with pytest.raises(StoreError):
        await one.set("for-all", {"limit": 1}, persist=True)
    with pytest.raises(StoreError):
        await one.clear("for-all")
    await one.set("here", {"limit": 1}, persist=False)
    assert one.overrides == {"for-all": MORE, "here": {"limit": 1}}
    assert await one.clear("here") is True
    await one.set("here", {"limit": 2}, persist=False)
    redis_server.start()
    # It has lost everything.
    await eventually(lambda: "for-all" not in one.overrides and not two.overrides)
    assert one.overrides == {"here": {"limit": 2}}
    await eventually(lambda: one._link.up and two._link.up)
    await two.set("for-all", {"limit": 3}, persist=True)
    await eventually(lambda: one.persisted("for-all"))
