"""The Redis servers of the tests do what they say."""

from __future__ import annotations

from pathlib import Path

import hiredis
import pytest

from rtgateway.testing.redis import RedisServer, server_binary


def test_a_server_answers_keeps_its_port_and_forgets_on_restart(redis_server: RedisServer) -> None:
    port = redis_server.port
    assert redis_server.cli("SET", "a", 1) == "OK"
    assert redis_server.command("GET", "a") == b"1"
    redis_server.restart()
    assert redis_server.cli("GET", "a") == ""
    assert redis_server.cli("CONFIG", "GET", "port") == f"port\n{port}"


def test_a_paused_server_answers_when_it_is_resumed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtgateway.testing.redis.PATIENCE", 0.05)
    redis_server.pause()
    with pytest.raises(TimeoutError):
        redis_server.command("PING")
    redis_server.resume()
    monkeypatch.undo()
    assert redis_server.command("PING") == b"PONG"


def test_passwords_users_and_errors() -> None:
    server = RedisServer(password="geheim", users=["gw on >pw ~* &* +@all"]).start()
    try:
        assert server.cli("PING") == "PONG"
        assert server.command("AUTH", "gw", "pw") == b"OK"
        with pytest.raises(hiredis.ReplyError, match="WRONGPASS"):
            server.command("AUTH", "gw", "geheim")
        assert server.url == f"redis://:geheim@127.0.0.1:{server.port}/0"
        assert "geheim" not in repr(server)
    finally:
        server.stop()
    assert not server.running


def test_nothing_is_left_behind() -> None:
    server = RedisServer().start()
    directory = Path(server.unix).parent
    assert directory.exists()
    server.stop()
    server.stop()
    assert not directory.exists()


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(AssertionError, match=r"(?s)did not start.*nonsense"):
        RedisServer(options=["nonsense 1"]).start()


def test_the_session_server_is_empty(redis: RedisServer) -> None:
    assert redis.command("DBSIZE") == 0
    assert Path(server_binary()).exists()
