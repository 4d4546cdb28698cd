"""A Redis that answers, with errors: what they are about, and what is asked meanwhile."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from rtgateway.store.errors import StoreError
from rtgateway.store.redis.refusals import (
    Complaints,
    about_the_server,
    code_of,
    in_short,
    is_unfit,
    moved_to,
)
from rtgateway.store.redis.script import Script
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import eventually, soon
from tests.store.conftest import MakeLink

if TYPE_CHECKING:
    from rtgateway.store.redis.link import Link

ADD = Script("add", "return redis.call('INCR', KEYS[1])")
READ = Script("read", "return redis.call('GET', KEYS[1])")
WRONG = Script("wrong", "return redis.call('LPUSH', KEYS[1], 1)")

OOM = "OOM command not allowed when used memory > 'maxmemory'."
OF_REDIS_6 = "ERR Error running script (call to f_7b): @user_script:1: @user_script: 1: -"
IN_SCRIPT = " script: 26a80d15958bc3034ec61946c4badef3ee6a8695, on @user_script:1."
NOPERM = "NOPERM this user has no permissions to run the 'evalsha' command"


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("detail", [OOM, OOM + IN_SCRIPT, OF_REDIS_6 + OOM])
def test_an_error_in_the_words_of_each_redis(detail: str) -> None:
    assert code_of(detail) == "OOM"
    assert about_the_server(detail, of_script=True)
    assert about_the_server(detail, of_script=False)
    assert not is_unfit(detail)


def test_errors_about_the_server() -> None:
    for detail in (
        "MISCONF Redis is configured to save RDB snapshots, but it's ...",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "NOSCRIPT No matching script. Please use EVAL.",
    ):
        assert about_the_server(detail, of_script=False)
        assert not is_unfit(detail)
    for detail in (
        "READONLY You can't write against a read only replica.",
        OF_REDIS_6 + "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "MOVED 3999 127.0.0.1:6381",
    ):
        assert about_the_server(detail, of_script=False)
        assert is_unfit(detail)


def test_errors_about_a_call() -> None:
    for detail in (
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        OF_REDIS_6 + "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR user_script:1: Script attempted to access nonexistent global variable 'x'",
        "ERR value is not an integer: -OOM is no word of it",
        "ASK 3999 127.0.0.1:6381",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "BUSYKEY Target key name already exists.",
        "",
    ):
        assert not about_the_server(detail, of_script=True)
        assert not is_unfit(detail)


def test_what_is_not_allowed() -> None:
    """All scripts, or one command inside one of them, or something that is no script."""
    assert about_the_server(NOPERM, of_script=True)
    assert not about_the_server(NOPERM, of_script=False)
    assert not about_the_server("NOPERM ACL failure in script: no permissions", of_script=True)
    assert not about_the_server(NOPERM + IN_SCRIPT, of_script=True)
    words = "ERR The user executing the script can't run this command or subcommand"
    assert not about_the_server(words + IN_SCRIPT, of_script=True)


def test_in_short() -> None:
    assert in_short(OOM + IN_SCRIPT) == in_short(OF_REDIS_6 + OOM) == OOM.rstrip(".")
    assert in_short("MISCONF It can't save. Please check") == "MISCONF It can't save"
    assert in_short(NOPERM) == NOPERM


def test_where_keys_are() -> None:
    for detail, place in (
        ("MOVED 3999 127.0.0.1:6381", ("127.0.0.1", 6381)),
        ("MOVED 3999 :6381", ("here", 6381)),
        ("MOVED 3999 redis-2.example:6381", ("redis-2.example", 6381)),
        ("MOVED 3999 fd00::7:6381", ("fd00::7", 6381)),
        ("MOVED 3999 ?:6381", None),
        ("MOVED 3999 127.0.0.1:0", None),
        ("MOVED 3999 127.0.0.1:65536", None),
        ("MOVED 3999 127.0.0.1", None),
        ("MOVED", None),
        ("ASK 3999 127.0.0.1:6381", None),
    ):
        assert moved_to(detail, "here") == place, detail
    assert moved_to("MOVED 3999 :6381", "") is None


@given(st.text(), st.booleans())
def test_any_words(text: str, moved: bool) -> None:
    detail = "MOVED " * moved + text
    place = moved_to(detail, "here")
    assert place is None or (moved and place[0] and 0 < place[1] < 65536)
    assert is_unfit(detail) <= about_the_server(detail, of_script=False)


def test_complaints_are_bounded(logged: list[str]) -> None:
    complaints = Complaints()
    for _ in range(2):
        for number in range(150):
            complaints.refused(str(number), "WRONGTYPE x")
    assert len(logged) == 100
    assert "100" in repr(complaints)


# -- servers --------------------------------------------------------------------------------------


async def refused(link: Link, script: Script = ADD) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await link.run(script, [link.key("a")], [])
    return caught.value


def lines_of(link: Link, logged: list[str]) -> list[str]:
    """What the log says of whether Redis is asked."""
    said = [line for line in logged if line.startswith("Redis")]
    assert "answers" in said[0]
    return said[1:]


@pytest.mark.parametrize(
    ("spoil", "mend", "code"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
            "NOREPLICAS",
        ),
        (
            ("ACL", "SETUSER", "default", "-evalsha"),
            ("ACL", "SETUSER", "default", "+evalsha"),
            "NOPERM",
        ),
        (
            ("ACL", "SETUSER", "default", "resetkeys", "~other:*"),
            ("ACL", "SETUSER", "default", "allkeys"),
            "NOPERM",
        ),
    ],
    ids=["out of memory", "no replicas", "no scripts", "not these keys"],
)
@pytest_twisted.ensureDeferred
async def test_a_redis_that_can_not_is_not_asked(
    redis_server: RedisServer,
    make_link: MakeLink,
    logged: list[str],
    spoil: tuple[str, ...],
    mend: tuple[str, ...],
    code: str,
) -> None:
    """Until it can again, which is found out without a call of anybody's."""
    link = make_link(redis_server, timeout="5s")
    back: list[bool] = []
    link.on_connected(lambda: back.append(link.up))
    await eventually(lambda: link.up)
    assert await link.run(ADD, [link.key("a")], []) == 1
    redis_server.cli(*spoil)
    for _ in range(3):
        error = await refused(link)
        assert error.reason == "refused"
        assert code_of(error.detail) == code
    assert not link.up
    assert link.failing_since > 0.0
    error = await refused(link)
    assert (error.reason, code in error.detail) == ("down", True)
    await soon(0.6)
    assert not link.up
    assert link.failures[("add", "refused")] == 3
    redis_server.cli(*mend)
    await eventually(lambda: link.up)
    assert back == [True, True]
    assert await link.run(ADD, [link.key("a")], []) == 2
    begins, ends = lines_of(link, logged)
    assert f"is not asked any more: it refuses add: {code}" in begins
    assert "answers, after" in ends


@pytest_twisted.ensureDeferred
async def test_a_redis_that_is_busy_with_a_script(
    redis_server: RedisServer, make_link: MakeLink
) -> None:
    """First it does not answer, and then it says why; neither is the end of its trouble."""
    redis_server.cli("CONFIG", "SET", "lua-time-limit", "100")
    link = make_link(redis_server)
    await eventually(lambda: link.up)
    endless = link.ask("EVAL", "while true do end", 0, timeout=20.0)
    endless.addErrback(lambda failure: failure.trap(StoreError))
    while link.up:
        await refused(link)
    await eventually(lambda: ("probe", "refused") in link.failures)
    assert not link.up
    assert "BUSY" in (await refused(link)).detail or "in time" in (await refused(link)).detail
    redis_server.cli("SCRIPT", "KILL")
    await eventually(lambda: link.up)
    assert await link.run(ADD, [link.key("a")], []) == 1


@pytest_twisted.ensureDeferred
async def test_what_is_about_one_script(
    redis_server: RedisServer, make_link: MakeLink, logged: list[str]
) -> None:
    """The others are run on, and it is asked each time."""
    link = make_link(redis_server, timeout="5s")
    await eventually(lambda: link.up)
    await link.run(ADD, [link.key("a")], [])
    for _ in range(5):
        assert (await refused(link, WRONG)).reason == "refused"
    redis_server.cli("ACL", "SETUSER", "default", "-incr")
    for _ in range(5):
        assert (await refused(link)).reason == "refused"
        assert await link.run(READ, [link.key("a")], []) == b"1"
    assert link.up
    assert len(lines_of(link, logged)) == 2


@pytest_twisted.ensureDeferred
async def test_it_can_now_and_then(
    redis_server: RedisServer,
    make_link: MakeLink,
    logged: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log has it once, and again when it lasts."""
    link = make_link(redis_server, timeout="5s")
    await eventually(lambda: link.up)
    for _ in range(4):
        redis_server.cli("CONFIG", "SET", "maxmemory", "1")
        while link.up:
            await refused(link)
        redis_server.cli("CONFIG", "SET", "maxmemory", "0")
        await eventually(lambda: link.up)
    assert len(lines_of(link, logged)) == 2
    # It stays.
    redis_server.cli("CONFIG", "SET", "maxmemory", "1")
    while link.up:
        await refused(link)
    monkeypatch.setattr("rtgateway.store.redis.watch.monotonic", lambda: monotonic() + 60.0)
    await eventually(lambda: len(lines_of(link, logged)) == 3)
    await soon(0.5)
    monkeypatch.undo()
    redis_server.cli("CONFIG", "SET", "maxmemory", "0")
    await eventually(lambda: link.up)
    assert ["is not asked" in line for line in lines_of(link, logged)] == [True, False] * 2
    # Something else is said in any case.
    redis_server.kill()
    await eventually(lambda: not link.up)
    assert "the connection was lost" in lines_of(link, logged)[4]


@pytest_twisted.ensureDeferred
async def test_one_more_connection_is_no_sign_of_health(
    redis_server: RedisServer, make_link: MakeLink
) -> None:
    """It is one to a Redis that can't."""
    link = make_link(redis_server, timeout="5s", connections=2)
    await eventually(lambda: "2 connections" in repr(link))
    redis_server.cli("CONFIG", "SET", "maxmemory", "1")
    for _ in range(3):
        await refused(link)
    lost = link._ready[0]
    lost.abort("a test")
    await eventually(lambda: "2 connections" in repr(link))
    assert lost not in link._ready
    refusals = ("probe", "refused")
    probes = link.failures.get(refusals, 0)
    await eventually(lambda: link.failures.get(refusals, 0) > probes)
    assert not link.up
    redis_server.cli("CONFIG", "SET", "maxmemory", "0")
    await eventually(lambda: link.up)


@pytest_twisted.ensureDeferred
async def test_with_few_requests_between_others(
    redis_server: RedisServer, make_link: MakeLink
) -> None:
    """Connections that are looked after, and commands that read, don't hide it."""
    link = make_link(redis_server, timeout="5s")
    await eventually(lambda: link.up)
    redis_server.cli("CONFIG", "SET", "maxmemory", "1")
    for _ in range(3):
        assert link.up
        await refused(link)
        for command in (("GET", link.key("a")), ("PING",)):
            with suppress(StoreError):
                await link.ask(*command)
    assert not link.up
