"""Answers that are not HTTP: a 502, or an end that nobody takes for one (RFC 9112, 8)."""

from __future__ import annotations

from tests.e2e.raw_answers.row import BAD, CUT, GET, WHOLE, Row, bad, cut, good, seen
from tests.e2e.raw_requests.row import ask

__all__ = ["ROWS"]

_OK = b"HTTP/1.1 200 OK\r\n"
_TE = b"Transfer-Encoding: chunked\r\n"
_TWO = b"Content-Length: 2\r\n\r\nok"
_HEAD = ask(b"HEAD /x HTTP/1.1")
_POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Poison: 1\r\n\r\npoison"
_LATE = (WHOLE, BAD, CUT)


def _line(name: str, line: bytes, rfc: str = "RFC 9112, 4") -> Row:
    return bad(name, rfc, line + b"\r\n" + _TWO)


def _field(name: str, field: bytes, rfc: str = "RFC 9112, 5") -> Row:
    return bad(name, rfc, _OK + field + b"\r\n" + _TWO)


def _framing(name: str, *fields: bytes, rfc: str = "RFC 9112, 6.3") -> Row:
    head = b"".join(field + b"\r\n" for field in fields)
    return bad(name, rfc, _OK + head + b"\r\n5\r\nhello\r\n0\r\n\r\n")


def _chunks(name: str, chunks: bytes, rfc: str = "RFC 9112, 7.1") -> Row:
    """Bad chunks that come with the head; in pieces the head is out before they come."""
    return bad(name, rfc, _OK + _TE + b"\r\n" + chunks, in_pieces=(CUT, BAD))


def _behind(name: str, says: bytes, sees: bytes, asks: bytes = GET) -> Row:
    """Bytes behind the end in the same read, or in a later one if they come in pieces."""
    rfc = "RFC 9112, 9.2"
    return bad(name, rfc, says, asks=asks, sees=sees, in_pieces=_LATE)


def _later(name: str, says: bytes, sees: bytes, later: bytes, asks: bytes = GET) -> Row:
    """Bytes while the connection is idle."""
    return good(name, "RFC 9112, 9.2", says, sees, asks=asks, later=later)


_NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"
_SAME = b"HTTP/1.1 304 Not Modified\r\n\r\n"
_LENGTH = _OK + b"Content-Length: 6\r\n\r\n"

ROWS = (
    # -- status lines -------------------------------------------------------------------------
    _line("no status", b"HTTP/1.1 OK"),
    _line("a status of two digits", b"HTTP/1.1 20 OK"),
    _line("a status of four digits", b"HTTP/1.1 2000 OK"),
    _line("a status below 100", b"HTTP/1.1 099 OK"),
    _line("a status above 599", b"HTTP/1.1 600 OK"),
    _line("a status with a sign", b"HTTP/1.1 +200 OK"),
    _line("a status right before its reason", b"HTTP/1.1 200OK"),
    _line("two spaces before the status", b"HTTP/1.1  200 OK"),
    _line("a tab before the status", b"HTTP/1.1\t200 OK"),
    _line("a space in front", b" HTTP/1.1 200 OK"),
    _line("an empty line in front", b"\r\nHTTP/1.1 200 OK"),
    _line("HTTP/2.0", b"HTTP/2.0 200 OK"),
    _line("HTTP/1.2", b"HTTP/1.2 200 OK"),
    _line("HTTP in lower case", b"http/1.1 200 OK"),
    _line("no protocol", b"200 OK"),
    _line("another protocol", b"ICY 200 OK"),
    _line("a NUL in the reason", b"HTTP/1.1 200 O\0K"),
    _line("a bare CR in the reason", b"HTTP/1.1 200 O\rK"),
    _line("a request", b"GET / HTTP/1.1"),
    bad("markup", "RFC 9112, 4", b"<html>hello</html>\r\n\r\n"),
    bad("nothing but line ends", "RFC 9112, 4", b"\r\n\r\n"),
    bad("a TLS alert", "RFC 9112, 4", b"\x15\x03\x01\x00\x02\x02\x46"),
    # -- fields -------------------------------------------------------------------------------
    _field("a space before a colon", b"X-Field : 1", "RFC 9112, 5.1"),
    _field("a folded value", b"X-Field: 1\r\n 2", "RFC 9112, 5.2"),
    _field("a fold behind an empty value", b"X-Field:\r\n\t2", "RFC 9112, 5.2"),
    _field("a bare LF between fields", b"X-Field: 1\nX-Other: 2", "RFC 9112, 2.2"),
    _field("a bare CR in a value", b"X-Field: 1\rX-Other: 2", "RFC 9112, 2.2"),
    _field("a NUL in a value", b"X-Field: 1\0", "RFC 9110, 5.5"),
    _field("a control character in a value", b"X-Field: 1\x01", "RFC 9110, 5.5"),
    _field("a line without a colon", b"X-Field"),
    _field("a line without a name", b": 1"),
    _field("a space within a name", b"X Field: 1", "RFC 9110, 5.1"),
    bad("LF for every CRLF", "RFC 9112, 2.2", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    _field("a head too large", b"X-Field: " + b"a" * 5000, "RFC 9112, 2.3"),
    _field("too many fields", b"\r\n".join([b"X-Field: 1"] * 41), "RFC 9112, 2.3"),
    bad("a head without end", "RFC 9112, 2.3", _OK + b"X-Field: " + b"a" * 5000),
    # -- framing ------------------------------------------------------------------------------
    _framing("a length and a coding", b"Content-Length: 15", b"Transfer-Encoding: chunked"),
    _framing("a coding and a length", b"Transfer-Encoding: chunked", b"Content-Length: 15"),
    _framing("the same length twice", b"Content-Length: 15", b"Content-Length: 15"),
    _framing("two lengths", b"Content-Length: 15", b"Content-Length: 2"),
    _framing("a list of lengths", b"Content-Length: 15, 15"),
    _framing("a length with a plus", b"Content-Length: +15", rfc="RFC 9110, 8.6"),
    _framing("a length below zero", b"Content-Length: -1", rfc="RFC 9110, 8.6"),
    _framing("a length in hexadecimal", b"Content-Length: 0xf", rfc="RFC 9110, 8.6"),
    _framing("an empty length", b"Content-Length:", rfc="RFC 9110, 8.6"),
    _framing("a length of 20 digits", b"Content-Length: " + b"1" * 20),
    _framing("an unknown coding", b"Transfer-Encoding: gzip", rfc="RFC 9112, 6.1"),
    _framing("gzip, then chunked", b"Transfer-Encoding: gzip, chunked", rfc="RFC 9112, 6.1"),
    _framing("chunked, then gzip", b"Transfer-Encoding: chunked, gzip", rfc="RFC 9112, 6.1"),
    _framing("chunked twice", *[b"Transfer-Encoding: chunked"] * 2, rfc="RFC 9112, 6.1"),
    _framing("identity", b"Transfer-Encoding: identity", rfc="RFC 9112, 6.1"),
    bad(
        "chunks in HTTP/1.0",
        "RFC 9112, 6.1",
        b"HTTP/1.0 200 OK\r\n" + _TE + b"\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    bad("a length and a coding to HEAD", "RFC 9112, 6.3", _LENGTH[:-2] + _TE + b"\r\n", asks=_HEAD),
    # -- bodies where none may be ---------------------------------------------------------------
    bad("204 with a length", "RFC 9110, 8.6", b"HTTP/1.1 204 None\r\n" + _TWO),
    bad("204 with a coding", "RFC 9112, 6.1", b"HTTP/1.1 204 None\r\n" + _TE + b"\r\n0\r\n\r\n"),
    bad("103 with a length", "RFC 9110, 8.6", b"HTTP/1.1 103 Hints\r\n" + _TWO + _OK + _TWO),
    bad("100 with a coding", "RFC 9112, 6.1", b"HTTP/1.1 100 Go\r\n" + _TE + b"\r\n" + _OK + _TWO),
    bad(
        "101 that nobody asked for",
        "RFC 9110, 15.2.2",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
    ),
    bad(
        "101 to a client that asked",
        "RFC 9110, 7.8",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        asks=ask(b"GET /x HTTP/1.1", b"Connection: upgrade", b"Upgrade: h2c"),
    ),
    bad("interim answers without end", "RFC 9110, 15.2", b"HTTP/1.1 103 Hints\r\n\r\n" * 17),
    # -- bytes behind the end -------------------------------------------------------------------
    _behind("a body longer than its length", _OK + _TWO + b"more", seen(body=b"ok")),
    _behind("an answer behind an answer", _OK + _TWO + _POISON, seen(body=b"ok")),
    _behind(
        "an answer behind chunks",
        _OK + _TE + b"\r\n2\r\nok\r\n0\r\n\r\n" + _POISON,
        seen(chunked=b"ok"),
    ),
    _behind("a body to HEAD", _LENGTH + b"poison", seen(length=6), asks=_HEAD),
    _behind("an answer behind 204", _NOTHING + _POISON, seen(b"HTTP/1.1 204 No Content")),
    _behind("an answer behind 304", _SAME + _POISON, seen(b"HTTP/1.1 304 Not Modified")),
    _behind("a line end behind a body", _OK + _TWO + b"\r\n", seen(body=b"ok")),
    _later("an answer nobody asked for", _OK + _TWO, seen(body=b"ok"), _POISON),
    _later(
        "an answer nobody asked for behind chunks",
        _OK + _TE + b"\r\n2\r\nok\r\n0\r\n\r\n",
        seen(chunked=b"ok"),
        _POISON,
    ),
    _later("the body to a HEAD, later", _LENGTH, seen(length=6), b"poison", _HEAD),
    _later("an answer for the body of a HEAD", _LENGTH, seen(length=6), _POISON, _HEAD),
    _later("a body to 204, later", _NOTHING, seen(b"HTTP/1.1 204 No Content"), b"poison"),
    _later("a body to 304, later", _SAME, seen(b"HTTP/1.1 304 Not Modified"), b"poison"),
    _later("a single byte, later", _OK + _TWO, seen(body=b"ok"), b"H"),
    _later("an interim answer, later", _OK + _TWO, seen(body=b"ok"), b"HTTP/1.1 102 Go\r\n\r\n"),
    _later(
        "a complaint about a connection too long idle",
        _OK + _TWO,
        seen(body=b"ok"),
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    # -- bad chunks with the head -----------------------------------------------------------------
    _chunks("no size", b"\r\nok\r\n0\r\n\r\n"),
    _chunks("a size with 0x", b"0x2\r\nok\r\n0\r\n\r\n"),
    _chunks("a size with a space behind", b"2 \r\nok\r\n0\r\n\r\n"),
    _chunks("a size of 17 digits", b"10000000000000002\r\nok\r\n0\r\n\r\n"),
    _chunks("a size with a bare LF", b"2\nok\r\n0\r\n\r\n"),
    _chunks("an extension with a bare LF", b"2;a\nb\r\nok\r\n0\r\n\r\n", "RFC 9112, 7.1.1"),
    _chunks("an extension without end", b"2;" + b"a" * 2000, "RFC 9112, 7.1.1"),
    _chunks("a chunk longer than its size", b"2\r\noks\r\n0\r\n\r\n"),
    _chunks("a chunk with a bare LF behind", b"2\r\nok\n0\r\n\r\n"),
    _chunks("a last chunk with a bare LF", b"2\r\nok\r\n0\n\n"),
    _chunks("a trailer without a colon", b"0\r\nX-Sum\r\n\r\n", "RFC 9112, 7.1.2"),
    _chunks("a folded trailer", b"0\r\nX-Sum: 1\r\n 2\r\n\r\n", "RFC 9112, 5.2"),
    _chunks("more trailers than may be", b"0\r\n" + b"X: 1\r\n" * 100 + b"\r\n", "RFC 9112, 7.1.2"),
    # -- mistakes when the head is out ------------------------------------------------------------
    cut(
        "a bad chunk, later",
        "RFC 9112, 7.1",
        (_OK + _TE + b"\r\n2\r\nok\r\n", b"zz\r\n"),
        seen(chunked=b"ok", trailers=None),
    ),
    cut(
        "a bad trailer, later",
        "RFC 9112, 7.1.2",
        (_OK + _TE + b"\r\n2\r\nok\r\n", b"0\r\n:\r\n\r\n"),
        seen(chunked=b"ok", trailers=None),
    ),
)
