"""The ways to Redis: passwords, ACL users, a Unix socket, databases, and servers that are not
the one to use."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from random import Random

import pytest
import pytest_twisted

from rtgateway import config
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.link import Link
from rtgateway.store.redis.protocol import CommandProtocol
from rtgateway.store.redis.script import Script
from rtgateway.testing.redis import RedisServer, StartRedis
from rtgateway.testing.waiting import eventually, soon, the_reactor
from tests.store.conftest import MakeLink
from tests.store.links import why_not

SECRET = "s3cret/word"


@pytest_twisted.ensureDeferred
async def test_a_password(start_redis: StartRedis, make_link: MakeLink, logged: list[str]) -> None:
    server = start_redis(password=SECRET)
    link = make_link(server)
    await eventually(lambda: link.up)
    wrong = make_link(f"redis://:wr0ng@127.0.0.1:{server.port}")
    assert "WRONGPASS" in await why_not(wrong)
    without = make_link(f"redis://127.0.0.1:{server.port}")
    assert "NOAUTH" in await why_not(without)
    await soon(0.5)
    for text in (repr(link), repr(wrong), *logged):
        assert SECRET not in text
        assert "wr0ng" not in text
    assert (
        len([line for line in logged if line.startswith("No connection") and "WRONG" in line]) == 1
    )
    # It is believed when it is right at last.
    server.cli("CONFIG", "SET", "requirepass", "wr0ng")
    server.password = "wr0ng"
    await eventually(lambda: wrong.up)


@pytest_twisted.ensureDeferred
async def test_an_acl_user(start_redis: StartRedis, make_link: MakeLink, logged: list[str]) -> None:
    allowed = "~{rtgateway}:* +@read +@write +select +evalsha +eval"
    server = start_redis(password="other", users=[f"gateway on >{SECRET} resetchannels {allowed}"])
    link = make_link(server.url_as("gateway", SECRET, db=3))
    await eventually(lambda: link.up)
    assert await link.ask("SET", link.key("a"), 1) == b"OK"
    with pytest.raises(StoreError, match="NOPERM") as caught:
        await link.ask("SET", "a", 1)
    assert caught.value.reason == "refused"
    assert SECRET not in repr(link)
    with pytest.raises(StoreError, match="NOPERM"):
        await link.ask("PUBLISH", link.key("events"), b"")
    # A channel that it may not hear is said once, however often it is tried; calls go on.
    link.subscribe(link.key("events"), lambda payload: None)
    await soon(0.6)
    assert len([line for line in logged if line.startswith("Nothing is heard")]) == 1
    assert link.up


@pytest_twisted.ensureDeferred
async def test_a_password_in_a_file(
    start_redis: StartRedis, make_link: MakeLink, tmp_path: Path
) -> None:
    server = start_redis(password=SECRET)
    (tmp_path / "password").write_text(SECRET + "\n")
    url = f"redis://127.0.0.1:{server.port}"
    link = make_link(url, password_file=str(tmp_path / "password"))
    await eventually(lambda: link.up)


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_and_a_database(redis: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis.unix_url + "?db=5", connections=1)
    plain = make_link(redis)
    await eventually(lambda: link.up and plain.up)
    await link.ask("SET", "a", "five")
    await plain.ask("SET", "a", "zero")
    assert await link.ask("GET", "a") == b"five"
    assert " db=5 " in redis.cli("CLIENT", "LIST")


@pytest_twisted.ensureDeferred
async def test_no_such_database_or_socket(redis: RedisServer, make_link: MakeLink) -> None:
    link = make_link(redis.url.replace("/0", "/9999"))
    assert "out of range" in await why_not(link)
    assert "No such file" in await why_not(make_link("unix:///nowhere/redis.sock"))


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_loading(start_redis: StartRedis, make_link: MakeLink) -> None:
    server = start_redis()
    for chunk in range(20):
        words = [word for n in range(100) for word in (f"{chunk}:{n}", "x" * 3000)]
        server.command("MSET", *words)
    # It answers, in the negative, after each 2 MB.
    server.cli("CONFIG", "SET", "rdbcompression", "no")
    server.cli("SAVE")
    server.options.append("key-load-delay 500")
    link = make_link(server)
    await eventually(lambda: link.up)
    server.restart()
    await eventually(lambda: not link.up)
    assert "LOADING" in await eventually(
        lambda: link._watch.trouble * ("LOADING" in link._watch.trouble)
    )
    await eventually(lambda: link.up)
    assert await link.ask("DBSIZE") == 2000


@pytest_twisted.ensureDeferred
async def test_a_replica_is_not_the_one_to_use(
    start_redis: StartRedis, make_link: MakeLink
) -> None:
    master = start_redis()
    replica = start_redis(replica_of=master)
    link, other = make_link(replica), make_link(master)
    assert "not the master" in await why_not(link)
    await eventually(lambda: other.up)
    # The master becomes a replica while it is in use; its connections stay, as ours do not.
    replica.cli("REPLICAOF", "NO", "ONE")
    await eventually(lambda: link.up)
    master.cli("REPLICAOF", "127.0.0.1", replica.port)
    with pytest.raises(StoreError) as caught:
        await other.run(Script("set", "return redis.call('SET', 'a', 1)"), [], [])
    assert caught.value.reason in {"refused", "down", "lost"}
    await eventually(lambda: not other.up)


@pytest_twisted.ensureDeferred
async def test_nothing_of_a_link_stays(redis: RedisServer) -> None:
    settings = config.State.model_validate({"url": redis.unix_url, "connections": 2})

    async def once() -> None:
        link = Link(settings, the_reactor(), Random(1).random)
        link.subscribe(b"events", lambda payload: None)
        link.start()
        await eventually(lambda: link.up)
        assert await link.ask("PING") == b"PONG"
        await link.stop()

    for _ in range(3):
        await once()
    await soon(0.01)
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), len(the_reactor().getDelayedCalls())
    for _ in range(200):
        await once()
    await soon(0.01)
    after = len(os.listdir("/proc/self/fd")), len(the_reactor().getDelayedCalls())
    gc.collect()
    alive = [each for each in gc.get_objects() if isinstance(each, Link | CommandProtocol)]
    assert alive == []
    assert after <= before
