"""The Lua of shared breakers does what the Python does, to the last bit, on any trace."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgateway.core.breaker_messages import Message, Op, Rules
from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.store.breakers import Answers, MemoryKeeper, Said
from rtgateway.testing.redis import RedisServer
from tests.store.breaker_keepers import Time, within_reach

SETTINGS = st.builds(
    BreakerSettings,
    failure_threshold=st.sampled_from([0, 1, 3]),
    success_threshold=st.integers(1, 2),
    timeout=st.sampled_from([1.0, 0.3]),
    max_timeout=st.just(3.0),
    timeout_factor=st.sampled_from([1.0, 2.0]),
    jitter=st.sampled_from([0.0, 0.3]),
    window_calls=st.integers(1, 12),
    window_seconds=st.sampled_from([0.0, 0.7]),
    minimum_calls=st.integers(1, 8),
    failure_rate_threshold=st.sampled_from([0.0, 0.5]),
    slow_call_rate_threshold=st.sampled_from([0.0, 0.7]),
    half_open_calls=st.integers(1, 2),
)

OPS: list[Op] = ["look", "report", "report", "report", "claim", "grant", "grant", "renew", "settle",
                 "settle", "order"]  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(OPS),
        st.sampled_from("ABC"),
        st.sampled_from([0.0, 0.001, 0.1, 0.24, 0.26, 1.0, 3.5, 31.0, -2.0]),
        st.tuples(*[st.integers(0, 4)] * 4),
        st.floats(0, 0.999),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=25,
)


def message(op: Op, by: str, draw: tuple[int, ...], about: tuple[int, int]) -> Message:
    """What a gateway might say, about this version of this tally."""
    version, born = about
    a, b, c, d = draw
    match op:
        case "report":
            calls = a + 1
            failed = min(b, calls)
            run = min(d, failed)
            return Message(op, version, born, "", calls, failed, min(c, calls), run)
        case "claim":
            return Message(op, version, born, "", a / 7, b + 0.1, word="probe failed")
        case "grant":
            return Message(op, grant=f"{by}:{a}", a=[1e18, 0.5][b % 2])
        case "renew" | "settle":
            verdict = (-1.0, 0.0, 1.0)[b % 3]
            return Message(op, version, 0, f"{by}:{a}", verdict, word="probe was slow (6.1 s)")
        case "order":
            word = ("closed", "forced_open", "disabled")[b % 3]
            return Message(op, a=float(c % 2), word=word)
        case _:
            return Message(op)


@given(SETTINGS, STEPS)
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_lua_equals_python(redis: RedisServer, rules: BreakerSettings, steps: Any) -> None:
    """The same answers, and the same tally, field by field."""
    redis.command("FLUSHALL")
    time = Time()
    memory, remote = MemoryKeeper(time), within_reach(redis, time)
    version, born = 0, 0
    for op, by, pause, draw, random, about_this in steps:
        time.now += pause
        about = (version, born) if about_this else (version - 1, born - 1)
        said = [Said("s/i", Rules.of(rules), random, message(op, by, draw, about))]
        here: list[Answers] = []
        memory.ask(by, said, here.append)
        remote.ask(by, said, here.append)
        assert here[0] == here[1]
        assert here[0] is not None
        version, born = here[0][0].version, here[0][0].born
        same_record(redis, memory)


def same_record(redis: RedisServer, memory: MemoryKeeper) -> None:
    """Each field of the hash, and each grant."""
    tally = memory.tallies["s/i"]
    flat = redis.command("HGETALL", "{test}:breaker:s/i")
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    names = set(tally.__slots__) - {"grants", "changed"}
    assert {each.decode() for each in fields} == names
    for name in names:
        value, text = getattr(tally, name), fields[name.encode()].decode()
        assert text == value if isinstance(value, str) else float(text) == value, name
    flat = redis.command("ZRANGE", "{test}:breaker:s/i:grants", 0, -1, "WITHSCORES")
    grants = dict(zip(flat[::2], map(float, flat[1::2]), strict=True))
    assert grants == {name.encode(): until for name, until in tally.grants.items()}


def test_keys_expire(redis: RedisServer) -> None:
    """What nobody asks for goes: the record long after the last look, grants with the last one."""
    time = Time()
    keeper = within_reach(redis, time)
    rules = Rules.of(BreakerSettings(failure_threshold=1, timeout=1.0, jitter=0.0))
    answers: list[Answers] = []

    def say(message: Message) -> None:
        keeper.ask("A", [Said("s/i", rules, 0.0, message)], answers.append)

    say(Message("look"))
    assert 0 < redis.command("TTL", "{test}:breaker:s/i") <= rules.keep == 900
    assert answers[0] is not None
    say(Message("report", answers[0][0].version, a=1, b=1, d=1))
    time.now += 1.0
    say(Message("grant", grant="A:1", a=1e18))
    assert 0 < redis.command("TTL", "{test}:breaker:s/i:grants") <= 31
    assert set(redis.command("KEYS", "*")) == {
        b"{test}:breaker:s/i",
        b"{test}:breaker:s/i:grants",
    }


def test_the_servers_clock(redis: RedisServer) -> None:
    """Without another one it is that of Redis, in seconds since a day in 2025."""
    keeper = within_reach(redis, Time())
    keeper._now = None
    answers: list[Answers] = []
    said = Said("s/i", Rules.of(BreakerSettings()), 0.0, Message("look"))
    keeper.ask("A", [said, said._replace(name="s/j")], answers.append)
    assert answers[0] is not None
    seconds, microseconds = map(int, redis.command("TIME"))
    expected = seconds + microseconds / 1e6 - 1_750_000_000
    for answer in answers[0]:
        assert abs(answer.born / 1000 - expected) < 60
