"""Connections that end before the answer does: RFC 9112, 8."""

from __future__ import annotations

from tests.e2e.raw_answers.row import Row, bad, cut, seen
from tests.e2e.raw_requests.row import ask

__all__ = ["ROWS"]

_RFC = "RFC 9112, 8"
_OK = b"HTTP/1.1 200 OK\r\n"
_TE = b"Transfer-Encoding: chunked\r\n\r\n"
_OLD = ask(b"GET /x HTTP/1.0")
_TEN = _OK + b"Content-Length: 10\r\n\r\nhello"
_SLOW = ask(b"GET /slow HTTP/1.1")
_HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"


def _in_head(name: str, says: bytes, asks: bytes = ask()) -> tuple[Row, Row]:
    return (
        bad(name + ", closed", _RFC, says, asks=asks, then="close"),
        bad(name + ", reset", _RFC, says, asks=asks, then="reset"),
    )


def _in_body(name: str, says: bytes, sees: bytes, asks: bytes = ask()) -> tuple[Row, Row]:
    return (
        cut(name + ", closed", _RFC, says, sees, asks=asks, then="close"),
        cut(name + ", reset", _RFC, (says, b""), sees, asks=asks, then="reset"),
    )


def _chunks(name: str, chunks: bytes, payload: bytes = b"ok") -> tuple[Row, Row]:
    return _in_body(name, _OK + _TE + chunks, seen(chunked=payload, trailers=None))


ROWS: tuple[Row, ...] = (
    # -- in the head ----------------------------------------------------------------------------
    *_in_head("before a word", b""),
    *_in_head("before a word to POST", b"", ask(b"POST /x HTTP/1.1", b"Content-Length: 0")),
    *_in_head("in the status line", b"HTTP/1.1 20"),
    *_in_head("behind the status line", _OK),
    *_in_head("within a field", _OK + b"Content-Len"),
    *_in_head("before the empty line", _OK + b"Content-Length: 0\r\n"),
    *_in_head("within the empty line", _OK + b"Content-Length: 0\r\n\r"),
    # -- in the body ----------------------------------------------------------------------------
    *_in_body("in a body", _TEN, seen(length=10) + b"hello"),
    *_in_body("before a body", _TEN[:-5], seen(length=10)),
    *_in_body(
        "in a body to an old client",
        _TEN,
        seen(length=10, connection=b"close") + b"hello",
        _OLD,
    ),
    *_chunks("before a chunk", b"", b""),
    *_chunks("in a size", b"2\r\nok\r\n1"),
    *_chunks("in a size line", b"2\r\nok\r\n12\r"),
    *_chunks("in a chunk", b"5\r\nok"),
    *_chunks("at the end of a chunk", b"2\r\nok"),
    *_chunks("between chunks", b"2\r\nok\r\n"),
    *_chunks("behind the last chunk", b"2\r\nok\r\n0\r\n"),
    *_chunks("in a trailer", b"2\r\nok\r\n0\r\nX-Sum: 1"),
    *_chunks("behind a trailer", b"2\r\nok\r\n0\r\nX-Sum: 1\r\n"),
    *_in_body(
        "in a chunk to an old client",
        _OK + _TE + b"5\r\nok",
        seen(connection=b"close") + b"ok",
        _OLD,
    ),
    cut(
        "in a body that only the end of the connection ends, reset",
        "RFC 9112, 6.3",
        (_OK + b"\r\nok", b""),
        seen(chunked=b"ok", trailers=None),
        then="reset",
    ),
    # -- silence --------------------------------------------------------------------------------
    bad("not a word", "RFC 9110, 15.6.5", b"", asks=_SLOW, then="wait", status=504),
    bad("half a head", "RFC 9110, 15.6.5", _OK, asks=_SLOW, then="wait", status=504),
    cut("half a body", _RFC, _TEN, seen(length=10) + b"hello", asks=_SLOW, then="wait"),
    cut(
        "half a chunk",
        _RFC,
        _OK + _TE + b"5\r\nok",
        seen(chunked=b"ok", trailers=None),
        asks=_SLOW,
        then="wait",
    ),
)
