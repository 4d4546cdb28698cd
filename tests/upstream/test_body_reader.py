"""Bodies that come in pieces: who gets them, who is held up, and how they end.

Connections and pools are the real ones, on transports that a test holds in its hand. With sockets:
``tests/e2e``.
"""

from __future__ import annotations

import gc
from typing import Any, cast
from unittest.mock import Mock
from weakref import ref

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from rtgateway.errors import UpstreamFailed, UpstreamTimeout
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.attempt import Attempt
from tests.upstream.stage import Client
from tests.upstream.test_sockets import NEVER, Asked, Line

__all__: list[str] = []

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SIX = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


class Sink:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def payload(self, data: bytes) -> None:
        self.got.append(data)


def streamed(asked: Asked, data: bytes) -> Answer:
    """The answer that begins with ``data``; more of it has to come."""
    asked.comes(data)
    answer = asked.answer
    assert answer is not None
    assert not answer.complete
    return answer


@pytest.mark.parametrize(
    ("head", "pieces"),
    [
        (SIX, [b"ab", b"cd", b"ef"]),
        (CHUNKED, [b"2\r\nab\r\n", b"2\r\ncd\r\n", b"2\r\nef\r\n0\r\n\r\n"]),
    ],
)
def test_in_pieces(head: bytes, pieces: list[bytes]) -> None:
    """The last one is the result; the connection goes back, and serves as well again."""
    line = Line()
    asked = line.ask(Client())
    for _ in range(2):
        answer, sink = streamed(asked, head + pieces[0]), Sink()
        answer.resume()
        waiter = answer.stream_to(sink)
        for piece in pieces[1:]:
            asked.comes(piece)
        assert (answer.body, sink.got, waiter._value) == (b"ab", [b"cd"], b"ef")
        assert answer.complete
        assert line.pool.idle == [asked.connection]
        asked = line.ask(Client(), line.pool.idle.pop())


def test_while_nobody_reads() -> None:
    """The kernel keeps the rest, for as long as it takes; what has been decrypted is kept here."""
    asked = Line().ask(Client())
    answer = streamed(asked, SIX + b"a")
    assert asked.transport.producerState == "paused"
    assert asked.connection.deadline == NEVER
    asked.comes(b"b")
    assert (answer.body, asked.connection.deadline) == (b"ab", NEVER)
    sink = Sink()
    answer.stream_to(sink)
    answer.resume()
    assert asked.transport.producerState == "producing"
    assert asked.connection.deadline < NEVER
    asked.comes(b"c")
    assert (answer.body, sink.got) == (b"ab", [b"c"])


def test_it_ends_while_nobody_reads() -> None:
    """Then it is one that has come whole, and the connection is not left paused."""
    line = Line()
    asked = line.ask(Client())
    answer = streamed(asked, CHUNKED + b"1\r\na\r\n")
    asked.comes(b"1\r\nb\r\n0\r\nX-Sum: 2\r\n\r\n")
    assert (answer.complete, answer.body, answer.trailers) == (True, b"ab", [(b"X-Sum", b"2")])
    assert asked.transport.producerState == "producing"
    assert line.pool.idle == [asked.connection]


def test_it_ends_with_its_connection() -> None:
    line = Line()
    asked = line.ask(Client())
    answer = streamed(asked, UNTIL_CLOSE + b"a")
    waiter = answer.stream_to(Sink())
    asked.connection.connectionLost(Failure(ConnectionDone()))
    assert waiter._value == b""
    assert answer.complete
    assert line.pool.open == 0


@pytest.mark.parametrize(
    ("head", "reason"), [(UNTIL_CLOSE, ConnectionLost()), (SIX, ConnectionDone())]
)
def test_it_breaks_off(head: bytes, reason: Exception) -> None:
    """Who reads is told, and so is the attempt."""
    line = Line()
    asked = line.ask(Client())
    answer, attempt = streamed(asked, head + b"a"), Mock(Attempt)
    answer.watch(cast(Any, attempt))
    waiter = answer.stream_to(Sink())
    asked.connection.connectionLost(Failure(reason))
    assert isinstance(waiter._error, UpstreamFailed)
    assert (waiter._error.kind, waiter._error.retryable) == ("reset", False)
    attempt.ended.assert_called_once_with(waiter._error)
    assert line.pool.open == 0


@pytest.mark.parametrize("reason", [ConnectionDone(), ConnectionLost()])
def test_it_breaks_off_while_nobody_reads(reason: Exception) -> None:
    """Whoever begins to read is told; nobody knows how much of it is missing."""
    asked = Line().ask(Client())
    answer = streamed(asked, UNTIL_CLOSE + b"a")
    asked.connection.connectionLost(Failure(reason))
    assert not answer.complete
    assert isinstance(answer.stream_to(Sink())._error, UpstreamFailed)


def test_bytes_behind_its_end() -> None:
    line = Line()
    asked = line.ask(Client())
    waiter = streamed(asked, SIX + b"abc").stream_to(Sink())
    asked.comes(b"defg")
    assert isinstance(waiter._error, UpstreamFailed)
    assert asked.transport.aborted
    assert line.pool.open == 0


def test_silence() -> None:
    asked = Line().ask(Client())
    answer = streamed(asked, SIX + b"a")
    waiter = answer.stream_to(Sink())
    answer.resume()
    asked.connection.expired(asked.connection.deadline)
    assert isinstance(waiter._error, UpstreamTimeout)
    assert waiter._error.phase == "between_bytes"


def test_silence_that_is_no_fault() -> None:
    asked = Line().ask(Client())
    answer = streamed(asked, CHUNKED)
    answer.endless()
    answer.resume()
    asked.comes(b"1\r\na\r\n")
    assert asked.connection.deadline == NEVER


def test_it_is_given_up() -> None:
    """Who gives it up need not be told; the attempt is."""
    asked = Line().ask(Client())
    answer, attempt = streamed(asked, SIX + b"a"), Mock(Attempt)
    answer.watch(cast(Any, attempt))
    waiter = answer.stream_to(Sink())
    answer.abandon()
    assert waiter._error is None
    assert asked.transport.aborted
    attempt.ended.assert_called_once()


def test_a_connection_that_is_lost_is_freed() -> None:
    """At once: nothing of it waits for the garbage collector."""
    line = Line()
    asked = line.ask(Client())
    streamed(asked, SIX + b"a")
    connection = ref(asked.connection)
    gc.collect()
    gc.disable()
    try:
        asked.connection.connectionLost(Failure(ConnectionDone()))
        asked.transport.protocol = asked.transport.producer = None
        line.made.clear()
        del asked
        assert connection() is None
    finally:
        gc.enable()
