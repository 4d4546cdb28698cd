"""Bans: one suite for what is in memory and what is in Redis, and what holds for all gateways."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from rtgateway.core.penalty import Penalty
from rtgateway.store.bans import LONGEST_BAN, Ban, Bans
from rtgateway.store.errors import StoreError
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually
from tests.store.conftest import MakeLink
from tests.store.copies import SyncLink, Time, in_step, now

ANN, BOB = "ip:203.0.113.7", "identity:Böb 日本"
PENALTY = Penalty(3, window=60, duration=60, factor=2, max_duration=200, memory=600)

MakeBans = Callable[..., Bans]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["memory", "redis"])
def make_bans(request: pytest.FixtureRequest, time: Time) -> Iterator[MakeBans]:
    """``make_bans(penalty, most=...)``: bans in memory, or in a Redis that has the same time."""
    if request.param == "memory":

        def make(penalty: Penalty | None = PENALTY, most: int = 1000) -> Bans:
            return Bans(penalty, time, time.wall, most)

        yield make
        return
    link = SyncLink(request.getfixturevalue("redis"))

    def make_shared(penalty: Penalty | None = PENALTY, most: int = 1000) -> Bans:
        return _in_redis(link, time, penalty, most)

    yield make_shared
    link.close()


def _in_redis(link: SyncLink, time: Time, penalty: Penalty | None, most: int = 1000) -> Bans:
    from rtgateway.store.redis.bans import RedisBans
    from rtgateway.store.redis.events import Events

    bans = RedisBans(link, Events(link), penalty, time, time.wall, most, time.of_redis)
    link.connected()
    assert bans.replica.in_step
    return bans


def _refused(bans: Bans, subject: str, times: int, at: float) -> float:
    """Seconds of the ban that so many refusals lead to."""
    for _ in range(times):
        bans.refused(subject)
    bans.tick(at)
    return bans.banned(subject, at)


def test_an_operator_bans_and_lifts(make_bans: MakeBans, time: Time) -> None:
    """A ban is there at once, shown as it is, and gone when it is lifted or over."""
    bans = make_bans()
    assert bans.banned(ANN, time()) == 0.0
    now(bans.ban(ANN, 30.0, "spam: 100 %"))
    now(bans.ban(BOB, 60.0, ""))
    assert bans.banned(ANN, time()) == 30.0
    assert sorted(bans.all()) == [
        Ban(BOB, time.wall() + 60, "", 0, False),
        Ban(ANN, time.wall() + 30, "spam: 100 %", 0, False),
    ]
    assert (len(bans), bans.imposed) == (2, 2)
    assert now(bans.lift(ANN)) is True
    assert now(bans.lift(ANN)) is False
    assert bans.banned(ANN, time()) == 0.0
    time.seconds += 59.5
    assert bans.banned(BOB, time()) == 0.5
    time.seconds += 0.5
    assert bans.banned(BOB, time()) == 0.0
    assert bans.all() == []
    bans.tick(time())
    assert len(bans) == 0
    assert now(bans.lift(BOB)) is False


def test_an_operators_last_word_counts(make_bans: MakeBans, time: Time) -> None:
    """A second ban is longer or shorter than the first, which comes to nothing."""
    bans = make_bans()
    for seconds in (30.0, 60.0, 10.0):
        now(bans.ban(ANN, seconds, "again"))
        assert bans.banned(ANN, time()) == seconds
    time.seconds += 5
    bans.tick(time())
    assert bans.banned(ANN, time()) == 5.0
    assert len(bans) == 1


def test_refusals_lead_to_a_ban(make_bans: MakeBans, time: Time) -> None:
    """As many as the rule says within its window, and nobody else is banned for them."""
    bans = make_bans()
    assert _refused(bans, ANN, 2, time()) == 0.0
    assert _refused(bans, BOB, 2, time()) == 0.0
    assert _refused(bans, ANN, 1, time()) == 60.0
    assert bans.banned(BOB, time()) == 0.0
    (ban,) = bans.all()
    assert ban == Ban(ANN, time.wall() + 60, "3 refusals within 60 s", 1, False)
    time.seconds += 60
    assert _refused(bans, BOB, 2, time()) == 0.0


def test_a_refusal_does_not_extend_a_ban(make_bans: MakeBans, time: Time) -> None:
    """Who is banned is banned until then, and then not closer to the next ban."""
    bans = make_bans()
    assert _refused(bans, ANN, 3, time()) == 60.0
    time.seconds += 30
    assert _refused(bans, ANN, 100, time()) == 30.0
    time.seconds += 30
    assert _refused(bans, ANN, 2, time()) == 0.0
    assert _refused(bans, ANN, 1, time()) == 120.0


def test_repeats(make_bans: MakeBans, time: Time) -> None:
    """Bans grow, up to the longest, until there was none for long enough."""
    bans = make_bans()
    for strikes, seconds in enumerate((60.0, 120.0, 200.0, 200.0), 1):
        assert _refused(bans, ANN, 5, time()) == seconds
        assert bans.all()[0].strikes == strikes
        time.seconds += seconds + 599.0
    time.seconds += 1.0
    assert _refused(bans, ANN, 5, time()) == 60.0


def test_lifting_forgets_refusals(make_bans: MakeBans, time: Time) -> None:
    """They count from nothing then; bans before are forgotten if that is asked for."""
    bans = make_bans()
    assert _refused(bans, ANN, 3, time()) == 60.0
    assert now(bans.lift(ANN)) is True
    assert _refused(bans, ANN, 2, time()) == 0.0
    assert now(bans.lift(ANN)) is False
    assert _refused(bans, ANN, 2, time()) == 0.0
    assert _refused(bans, ANN, 1, time()) == 120.0
    assert now(bans.lift(ANN, forget=True)) is True
    assert _refused(bans, ANN, 3, time()) == 60.0


def test_without_a_rule(make_bans: MakeBans, time: Time) -> None:
    """Refusals lead to nothing; operators ban as ever."""
    bans = make_bans(None)
    assert _refused(bans, ANN, 100, time()) == 0.0
    now(bans.ban(ANN, 30.0, ""))
    assert bans.banned(ANN, time()) == 30.0


def test_bound(make_bans: MakeBans, time: Time) -> None:
    """Of more bans than there may be, those go that would end first."""
    bans = make_bans(most=5)
    for number in range(20):
        now(bans.ban(f"ip:10.0.0.{number}", 100.0 + (7 * number) % 20, ""))
    assert len(bans) == 5
    assert sorted(ban.until - time.wall() for ban in bans.all()) == [115, 116, 117, 118, 119]


@pytest.mark.parametrize(
    ("subject", "seconds", "reason", "wrong"),
    [
        ("", 1.0, "", "a subject is a text"),
        ("x" * 257, 1.0, "", "a subject is a text"),
        ("ip:\n", 1.0, "", "a subject is a text"),
        ("identity:\udcff", 1.0, "", "a subject is a text"),
        (ANN, 0.0, "", "a ban has over 0"),
        (ANN, math.nan, "", "a ban has over 0"),
        (ANN, math.inf, "", "a ban has over 0"),
        (ANN, LONGEST_BAN * 2, "", "a ban has over 0"),
        (ANN, 1.0, "x" * 257, "a reason has at most"),
    ],
)
def test_what_makes_no_sense(
    make_bans: MakeBans, subject: str, seconds: float, reason: str, wrong: str
) -> None:
    bans = make_bans()
    with pytest.raises(ValueError, match=wrong):
        bans.ban(subject, seconds, reason)
    assert len(bans) == 0


def test_names(make_bans: MakeBans, time: Time) -> None:
    bans = make_bans()
    now(bans.ban(ANN, 1.0, "secret"))
    assert repr(bans) == f"<{type(bans).__name__} 1 bans, 1 so far>"


SUBJECTS = st.sampled_from([ANN, BOB, "ip:10.0.0.1"])
STEPS = st.one_of(
    st.tuples(st.just("refused"), SUBJECTS, st.integers(1, 7)),
    st.tuples(st.just("ban"), SUBJECTS, st.integers(60, 500)),
    st.tuples(st.just("lift"), SUBJECTS, st.booleans()),
    # Parts of a second that both a double and milliseconds can tell.
    st.tuples(st.just("wait"), st.just(""), st.integers(1, 4000).map(lambda parts: parts / 8)),
)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(
    st.builds(
        Penalty,
        refusals=st.integers(1, 6),
        window=st.integers(60, 300),
        duration=st.integers(60, 300),
        factor=st.sampled_from([1, 1.5, 2, 3.25]),
        max_duration=st.integers(300, 900),
        memory=st.integers(0, 2000),
    ),
    st.lists(STEPS, max_size=25),
)
def test_both_are_equal(
    redis_of_session: RedisServer, penalty: Penalty, steps: list[tuple[str, str, float]]
) -> None:
    """After any trace, memory and Redis know the same bans; so does who reads them then."""
    redis_of_session.command("FLUSHALL")
    time = Time()
    with closing(SyncLink(redis_of_session)) as link:
        both = (Bans(penalty, time, time.wall), _in_redis(link, time, penalty))
        for what, subject, number in steps:
            if what == "wait":
                time.seconds += number
            for bans in both:
                if what == "refused":
                    _refused(bans, subject, int(number), time())
                elif what == "ban":
                    now(bans.ban(subject, number, "by hand"))
                elif what == "lift":
                    now(bans.lift(subject, bool(number)))
                bans.tick(time())
            in_memory, in_redis = (sorted(bans.all()) for bans in both)
            assert in_memory == in_redis
        later = _in_redis(link, time, penalty)
        assert [ban._replace(until=round(ban.until, 2)) for ban in sorted(later.all())] == [
            ban._replace(until=round(ban.until, 2)) for ban in sorted(both[0].all())
        ]


# -- memory ---------------------------------------------------------------------------------------


def test_memory_forgets_who_is_not_refused(time: Time) -> None:
    """What is remembered of refusals ends with its window, and is bounded before that."""
    bans = Bans(PENALTY, time, time.wall)
    for number in range(100_500):
        bans.refused(f"ip:{number}")
    assert len(bans._records) == 100_000
    time.seconds += 61
    for _ in range(101):
        bans.tick(time())
    assert len(bans._records) == 0


def test_memory_of_bans_that_change(time: Time) -> None:
    """A subject that is banned again and again takes no more room than one that is banned once."""
    bans = Bans(None, time, time.wall)
    for number in range(10_000):
        now(bans.ban(ANN, 100.0 + number % 7, ""))
    assert len(bans._order) < 2000
    time.seconds += 200
    bans.tick(time())
    assert len(bans) == 0
    assert not bans._kept


# -- Redis ----------------------------------------------------------------------------------------


def _gateway(make_link: MakeLink, server: RedisServer, penalty: Penalty | None = PENALTY):  # type: ignore[no-untyped-def]
    from rtgateway.store.redis.bans import RedisBans
    from rtgateway.store.redis.events import Events

    link = make_link(server)
    return RedisBans(link, Events(link), penalty)


def _left(bans: Bans, subject: str) -> float:
    return bans.banned(subject, bans._clock())


async def _count(*gateways: Bans) -> None:
    """Have refusals sent, and wait until they are counted."""
    for bans in gateways:
        bans.tick(bans._clock())
        await eventually(lambda bans=bans: not bans._asking)  # type: ignore[misc]


@pytest_twisted.ensureDeferred
async def test_all_gateways_ban(redis: RedisServer, make_link: MakeLink) -> None:
    """A ban and its end are known to all, and to those that start later."""
    one, two, three = (_gateway(make_link, redis) for _ in range(3))
    await in_step(one, two, three)
    await one.ban(ANN, 100.0, "spam")
    assert 95 < _left(one, ANN) <= 100
    await eventually(lambda: _left(two, ANN) and _left(three, ANN))
    later = _gateway(make_link, redis)
    await in_step(later)
    for bans in (two, three, later):
        assert 90 < _left(bans, ANN) <= 100
        assert [(ban.subject, ban.reason, ban.local) for ban in bans.all()] == [
            (ANN, "spam", False)
        ]
    assert await three.lift(ANN) is True
    await eventually(lambda: not any(_left(bans, ANN) for bans in (one, two, three, later)))
    assert await one.lift(ANN) is False


@pytest_twisted.ensureDeferred
async def test_refusals_count_together(redis: RedisServer, make_link: MakeLink) -> None:
    """Refusals by several gateways add up, and all of them ban."""
    gateways = [_gateway(make_link, redis) for _ in range(3)]
    await in_step(*gateways)
    for bans in gateways:
        bans.refused(ANN)
        assert _left(bans, ANN) == 0.0
    await _count(*gateways)
    await eventually(lambda: all(_left(bans, ANN) for bans in gateways))
    assert {ban for bans in gateways for ban in _plain(bans)} == {
        (ANN, "3 refusals within 60 s", 1, False)
    }
    assert [bans.imposed for bans in gateways] == [1, 1, 1]


def _plain(bans: Bans) -> list[tuple[str, str, int, bool]]:
    return [(ban.subject, ban.reason, ban.strikes, ban.local) for ban in bans.all()]


@pytest_twisted.ensureDeferred
async def test_what_redis_keeps_expires(redis: RedisServer, make_link: MakeLink) -> None:
    """Bans end with the last of them, what is known of refusals with its window or memory; the
    version stays."""
    bans = _gateway(make_link, redis)
    await in_step(bans)

    def seconds(*parts: str) -> float:
        return float(redis.command("PTTL", bans._link.key(*parts))) / 1000

    await bans.ban(ANN, 100.0, "")
    await bans.ban(BOB, 50.0, "")
    for key in (("bans",), ("bans", "ends")):
        assert 90 < seconds(*key) <= 100
    bans.refused("ip:10.0.0.1")
    await _count(bans)
    assert 50 < seconds("penalty", "ip:10.0.0.1") <= 60
    bans.refused("ip:10.0.0.1")
    bans.refused("ip:10.0.0.1")
    await _count(bans)
    assert 650 < seconds("penalty", "ip:10.0.0.1") <= 660
    assert seconds("bans", "version") == -0.001
    await bans.lift("ip:10.0.0.1")
    assert 640 < seconds("penalty", "ip:10.0.0.1") <= 660
    await bans.lift("ip:10.0.0.1", forget=True)
    assert not redis.command("EXISTS", bans._link.key("penalty", "ip:10.0.0.1"))
    await bans.ban(ANN, 0.01, "")
    await bans.ban(BOB, 0.01, "")
    await eventually(lambda: not redis.command("EXISTS", *bans._keys[1:]))


@pytest_twisted.ensureDeferred
async def test_many_bans_are_read_in_pages(redis: RedisServer, make_link: MakeLink) -> None:
    """Those that change meanwhile are not missed."""
    one = _gateway(make_link, redis)
    await in_step(one)
    for number in range(5000):
        one.refused(f"ip:{number}")
        one.refused(f"ip:{number}")
        one.refused(f"ip:{number}")
    while one._pending or one._asking:
        await _count(one)
    assert len(one) == 5000
    two = _gateway(make_link, redis)
    changes = [one.lift(f"ip:{number}") for number in range(0, 5000, 500)]
    changes += [one.ban(f"ip:new{number}", 100.0, "") for number in range(10)]
    for change in changes:
        await change
    await in_step(two)
    await eventually(lambda: two.replica._version == one.replica._version)
    assert set(_plain(one)) == set(_plain(two))
    assert len(two) == 5000


@pytest_twisted.ensureDeferred
async def test_redis_goes_away(redis_server: RedisServer, make_link: MakeLink) -> None:
    """Bans hold on. Operators are told that nothing can be changed; refusals are counted here,
    and lead to bans here, which hold when Redis is back, until somebody lifts them anywhere."""
    one, two = (_gateway(make_link, redis_server) for _ in range(2))
    await in_step(one, two)
    await one.ban(ANN, 100.0, "spam")
    await eventually(lambda: _left(two, ANN))
    redis_server.kill()
    await eventually(lambda: not one._link.up and not two._link.up)
    for bans in (one, two):
        assert _left(bans, ANN) > 90
        with pytest.raises(StoreError):
            await bans.ban(BOB, 100.0, "")
        with pytest.raises(StoreError):
            await bans.lift(ANN)
    for subject in (BOB, "ip:10.0.0.1"):
        for _ in range(3):
            one.refused(subject)
    await _count(one)
    assert _left(one, BOB) > 50
    assert _left(two, BOB) == 0.0
    assert await one.lift("ip:10.0.0.1") is True
    assert _left(one, "ip:10.0.0.1") == 0.0
    redis_server.start()
    # It has lost everything.
    await eventually(lambda: not _left(one, ANN) and not _left(two, ANN))
    assert _plain(one) == [(BOB, "3 refusals within 60 s", 1, True)]
    assert _plain(two) == []
    await eventually(lambda: one._link.up and two._link.up)
    await two.ban(ANN, 100.0, "again")
    await eventually(lambda: _left(one, ANN))
    assert await two.lift(BOB) is False
    await eventually(lambda: not _left(one, BOB))


@pytest_twisted.ensureDeferred
async def test_redis_hangs(redis_server: RedisServer, make_link: MakeLink) -> None:
    """It is as if it were away, but for what it does late: all gateways hear of that."""
    one, two = (_gateway(make_link, redis_server) for _ in range(2))
    await in_step(one, two)
    # So that it knows the script.
    one.refused("ip:10.0.0.1")
    await _count(one)
    for _ in range(3):
        one.refused(ANN)
    redis_server.pause()
    await _count(one)
    assert _left(one, ANN) > 50
    assert _plain(one)[0][-1] is True
    with pytest.raises(StoreError):
        await one.ban(BOB, 100.0, "")
    assert _left(one, BOB) == 0.0
    redis_server.resume()
    await eventually(lambda: _left(two, ANN) > 50)
    await eventually(lambda: set(_plain(one)) == set(_plain(two)))


@pytest_twisted.ensureDeferred
async def test_a_change_that_was_missed(redis: RedisServer, make_link: MakeLink) -> None:
    """The next one shows it, and everything is read anew."""
    one, two = (_gateway(make_link, redis) for _ in range(2))
    await in_step(one, two)
    await one.ban(ANN, 100.0, "")
    await eventually(lambda: _left(two, ANN))
    version, ends, bans = one._keys
    redis.command("INCR", version)
    until = redis.command("ZSCORE", ends, ANN)
    redis.command("ZADD", ends, until, BOB)
    redis.command("HSET", bans, BOB, until + b" 0 unheard")
    await one.ban("ip:10.0.0.1", 100.0, "")

    def told() -> bool:
        two.tick(two._clock())
        return bool(_left(two, BOB))

    await eventually(told)
    assert _left(two, "ip:10.0.0.1") > 90


class _Hung:
    """A link that answers when the test does; it keeps what it was asked."""

    deaf = False

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def key(self, *parts: object) -> bytes:
        return b"key"

    def subscribe(self, *args: object) -> None:
        pass

    on_connected = subscribe

    def script(
        self,
        script: object,
        keys: list[object],
        args: list[object],
        done: Callable[[object, object], None],
    ) -> None:
        self.asked.append((len(keys), len(args)))
        self.done = done


def test_refusals_are_sent_in_batches(time: Time) -> None:
    """At most 250 subjects at a time, one batch after the other, and no more than 10,000 wait."""
    from rtgateway.store.redis.bans import RedisBans
    from rtgateway.store.redis.events import Events

    link = _Hung()
    bans = RedisBans(link, Events(link), PENALTY, time)  # type: ignore[arg-type]
    for number in range(20_000):
        bans.refused(f"ip:{number}")
        bans.refused(f"ip:{number}")
    assert len(bans._pending) == 10_000
    for _ in range(3):
        bans.tick(time())
    assert link.asked == [(3 + 250, 3 + 7 + 500)]
    assert len(bans._pending) == 9750
    while link.asked:
        link.asked.pop()
        link.done(None, None)
    # The one that was under way with the last tick, and four after it.
    assert len(bans._pending) == 10_000 - 5 * 250


def test_who_was_banned_is_said_once_for_all_of_a_moment(time: Time) -> None:
    bans = Bans(PENALTY, time, time.wall, 1000)
    with capturedLogs() as events:
        for n in range(8):
            bans.ban(f"ip:192.0.2.{n}", 60.0, "")
        bans.lift("ip:192.0.2.0")
        bans.tick(time())
        bans.tick(time())
        said = [formatEvent(event) for event in events]
    names = ", ".join(f"ip:192.0.2.{n}" for n in range(5))
    assert said == [f"Banned {names} and 3 more; bans now: 7"]
