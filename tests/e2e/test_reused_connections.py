"""Kept connections that turn out to be dead: made good once, where that is safe.

RFC 9112, 9.3.1; RFC 9110, 9.2.2.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted

from rtgateway.testing import (
    RawClient,
    RecordedConnection,
    RecordingUpstream,
    RunningGateway,
    eventually,
    start_gateway,
)
from tests.e2e.chunks import as_one_chunk
from tests.e2e.raw_requests.row import ask

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_BODY = (b"Content-Length: 2",)
_CHUNKED = (b"Transfer-Encoding: chunked",)

Dying = Callable[[RecordedConnection], None]


def _close(connection: RecordedConnection) -> None:
    connection.close()


def _reset(connection: RecordedConnection) -> None:
    connection.abort()


class Stage:
    """A gateway with one kept connection to an instance that is about to die."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.deaths = 0
        self.die: Dying = _close

    async def set_up(self) -> None:
        self.instance = await RecordingUpstream.listening(self._answer)
        self.gateway: RunningGateway = await start_gateway(
            {
                "services": {"main": {"instances": [self.instance.url], "retry": {"attempts": 1}}},
                "routes": [{"path": "/", "service": "main"}],
            }
        )
        self.client = await RawClient.connect(self.gateway.port)
        self.client.send(ask(b"GET /first HTTP/1.1"))
        assert (await self.client.answer()).status == 200

    async def take_down(self) -> None:
        await self.gateway.stop()
        await self.instance.stop()

    def _answer(self, connection: RecordedConnection, request: bytes) -> bytes | None:
        self.asked.append(request)
        if self.deaths and len(self.asked) > 1:
            self.deaths -= 1
            self.die(connection)
            return None
        return _OK[:-2] if request.startswith(b"HEAD") else _OK


@pytest_twisted.async_yield_fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.set_up()
    yield stage
    await stage.take_down()


@pytest.mark.parametrize("die", [_close, _reset])
@pytest.mark.parametrize(
    "request_bytes",
    [
        ask(b"GET /x HTTP/1.1", b"X-Field: 1"),
        ask(b"HEAD /x HTTP/1.1"),
        ask(b"OPTIONS /x HTTP/1.1"),
        ask(b"DELETE /x HTTP/1.1"),
        ask(b"PUT /x HTTP/1.1", *_BODY, body=b"hi"),
        ask(b"PUT /x HTTP/1.1", b"Content-Length: 60000", body=b"x" * 60000),
        ask(b"PUT /x HTTP/1.1", *_CHUNKED, body=b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"),
    ],
    ids=["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PUT, large", "PUT, chunked"],
)
@pytest_twisted.ensureDeferred
async def test_asked_again_unnoticed(stage: Stage, die: Dying, request_bytes: bytes) -> None:
    """The client sees one answer; the instance sees the same bytes once more, on a fresh one."""
    stage.deaths, stage.die = 1, die
    stage.client.send(request_bytes)
    answer = await stage.client.answer(to=request_bytes.partition(b" ")[0])
    assert answer.status == 200
    _, first, second = map(as_one_chunk, stage.asked)
    assert first == second
    assert len(stage.instance.connections) == 2
    assert stage.client.received == b""


@pytest.mark.parametrize("die", [_close, _reset])
@pytest_twisted.ensureDeferred
async def test_asked_again_only_once(stage: Stage, die: Dying) -> None:
    """A fresh connection that dies too is an answer of its own: 502."""
    stage.deaths, stage.die = 2, die
    stage.client.send(ask())
    assert (await stage.client.answer()).status == 502
    assert len(stage.asked) == 3
    stage.client.send(ask())
    assert (await stage.client.answer()).status == 200


@pytest.mark.parametrize("die", [_close, _reset])
@pytest.mark.parametrize(
    "request_bytes",
    [
        ask(b"POST /x HTTP/1.1", *_BODY, body=b"hi"),
        ask(b"POST /x HTTP/1.1", b"Content-Length: 0"),
        ask(b"POST /x HTTP/1.1"),
        ask(b"PATCH /x HTTP/1.1", *_BODY, body=b"hi"),
        ask(b"POST /x HTTP/1.1", *_CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n"),
    ],
    ids=["POST", "POST, empty", "POST, none", "PATCH", "POST, chunked"],
)
@pytest_twisted.ensureDeferred
async def test_what_may_do_harm_is_not_asked_again(
    stage: Stage, die: Dying, request_bytes: bytes
) -> None:
    """Nobody knows whether the instance acted on it (RFC 9110, 9.2.2)."""
    stage.deaths, stage.die = 1, die
    stage.client.send(request_bytes)
    assert (await stage.client.answer()).status == 502
    assert len(stage.asked) == 2
    stage.client.send(ask())
    assert (await stage.client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_large_body_is_not_kept_to_be_sent_again(stage: Stage) -> None:
    """What has gone through is gone: more than 64 KiB of a body are not held."""
    stage.deaths = 1
    stage.client.send(ask(b"PUT /x HTTP/1.1", b"Content-Length: 200000", body=b"x" * 200000))
    assert (await stage.client.answer()).status == 502
    assert len(stage.asked) == 2


@pytest.mark.parametrize("word", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Hints\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_not_asked_again_when_the_answer_had_begun(stage: Stage, word: bytes) -> None:
    """The connection was alive, so the request has arrived."""

    def die(connection: RecordedConnection) -> None:
        connection.send(word)
        connection.close()

    stage.deaths, stage.die = 1, die
    stage.client.send(ask())
    answers = [await stage.client.answer()]
    if answers[0].status == 103:
        answers.append(await stage.client.answer())
    assert answers[-1].status == 502
    assert len(stage.asked) == 2


@pytest.mark.parametrize("die", [_close, _reset])
@pytest_twisted.ensureDeferred
async def test_one_that_died_while_idle_is_not_used(stage: Stage, die: Dying) -> None:
    """Even a POST right behind it goes out on a fresh connection and is answered."""
    kept = await stage.instance.connection()
    die(kept)
    stage.client.send(ask(b"POST /x HTTP/1.1", *_BODY, body=b"hi"))
    assert (await stage.client.answer()).status == 200
    assert len(stage.asked) == 2
    assert len(stage.instance.connections) == 2


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"poison",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_words_that_wait_on_an_idle_connection_are_no_answer(
    stage: Stage, words: bytes
) -> None:
    """They were there before the request, so they are not the answer to it (RFC 9112, 9.2)."""
    kept = await stage.instance.connection()
    # Both are written in the same turn of the reactor, and the gateway may read either first.
    kept.send(words)
    stage.client.send(ask())
    answer = await stage.client.answer()
    assert (answer.status, answer.body) == (200, b"ok")
    await eventually(lambda: kept.lost is not None)
    assert len(kept.requests) == 1
