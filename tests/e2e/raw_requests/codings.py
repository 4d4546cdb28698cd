"""Transfer codings and chunked bodies: RFC 9112, 6.1 and 7."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["ROWS"]

_POST = b"POST /x HTTP/1.1"
_TE = b"Transfer-Encoding: chunked"
_LAST = b"0\r\n\r\n"
_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


def _coding(name: str, *values: bytes, status: int = 400, rfc: str = "RFC 9112, 6.1") -> Row:
    fields = [b"Transfer-Encoding: " + value for value in values]
    return refused(name, rfc, ask(_POST, *fields, body=_LAST + _SMUGGLED), status=status)


def _good(name: str, body: bytes, payload: bytes, *trailers: bytes, rfc: str = "7.1") -> Row:
    return passed(
        name,
        f"RFC 9112, {rfc}",
        ask(_POST, _TE, body=body),
        sent_on(_POST, chunked=payload, trailers=trailers),
    )


def _bad(name: str, body: bytes, rfc: str = "7.1") -> Row:
    sends = ask(_POST, _TE, body=body + _SMUGGLED)
    return refused(name, f"RFC 9112, {rfc}", sends, broken_late=True)


ROWS = (
    # -- transfer codings ----------------------------------------------------------------------
    passed(
        "chunked in any case",
        "RFC 9112, 7",
        ask(_POST, b"transfer-encoding:  CHUNKED ", body=b"2\r\nhi\r\n" + _LAST),
        sent_on(_POST, chunked=b"hi"),
    ),
    _coding("a coding that is not chunked", b"gzip", rfc="RFC 9112, 6.3"),
    _coding("chunked that is not the last coding", b"chunked, gzip", rfc="RFC 9112, 6.3"),
    _coding("chunked twice in a field", b"chunked, chunked"),
    _coding("chunked in two fields", b"chunked", b"chunked"),
    _coding("chunked, then identity", b"chunked", b"identity"),
    _coding("identity, then chunked", b"identity", b"chunked", status=501),
    _coding("identity", b"identity"),
    _coding("no coding", b""),
    _coding("a coding that ends like chunked", b"xchunked"),
    _coding("a coding that begins like chunked", b"chunkedx"),
    _coding("chunked in quotes", b'"chunked"'),
    _coding("chunked with a parameter", b"chunked;x=1"),
    _coding("chunked behind a control character", b"\x0bchunked"),
    _coding("chunked and a comma", b"chunked,"),
    _coding("gzip, then chunked, which is not offered here", b"gzip, chunked", status=501),
    refused(
        "a chunked body in HTTP/1.0",
        "RFC 9112, 6.1",
        ask(b"POST /x HTTP/1.0", _TE, body=_LAST + _SMUGGLED),
    ),
    # -- good chunks ---------------------------------------------------------------------------
    _good("one chunk", b"5\r\nhello\r\n" + _LAST, b"hello"),
    _good("several chunks", b"2\r\nhe\r\n3\r\nllo\r\n" + _LAST, b"hello"),
    _good("a chunked body without payload", _LAST, b""),
    _good("a size in capitals", b"A\r\n0123456789\r\n" + _LAST, b"0123456789"),
    _good("a size with zeros in front", b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    _good("payload that looks like chunks", b"5\r\n0\r\n\r\n\r\n" + _LAST, b"0\r\n\r\n"),
    _good("an extension", b"5;a=b\r\nhello\r\n0;last\r\n\r\n", b"hello", rfc="7.1.1"),
    _good("a quoted extension", b'5;a="b;c"\r\nhello\r\n' + _LAST, b"hello", rfc="7.1.1"),
    _good("a trailer", b"2\r\nhi\r\n0\r\nX-Sum: 17\r\n\r\n", b"hi", b"X-Sum: 17", rfc="7.1.2"),
    _good(
        "several trailers, white space around their values",
        b"2\r\nhi\r\n0\r\nx-a:1\r\nX-B: \t2 \r\nX-C:\r\n\r\n",
        b"hi",
        b"x-a: 1",
        b"X-B: 2",
        b"X-C: ",
        rfc="7.1.2",
    ),
    passed(
        "trailers that would steer what is read before them",
        "RFC 9110, 6.5.1",
        ask(
            _POST,
            _TE,
            body=b"2\r\nhi\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\nHost: other\r\n"
            b"Authorization: Basic eA==\r\nCookie: a=1\r\nX-Forwarded-For: 10.0.0.1\r\n"
            b"X-Request-Id: other\r\nConnection: close\r\nX-Sum: 1\r\n\r\n",
        ),
        sent_on(_POST, chunked=b"hi", trailers=(b"X-Sum: 1",)),
    ),
    passed(
        "a trailer that Connection lists",
        "RFC 9110, 7.6.1",
        ask(_POST, _TE, b"Connection: x-hop", body=b"2\r\nhi\r\n0\r\nX-Hop: 1\r\nX-Sum: 1\r\n\r\n"),
        sent_on(_POST, chunked=b"hi", trailers=(b"X-Sum: 1",)),
    ),
    passed(
        "what a request announces as trailers",
        "RFC 9110, 6.6.2",
        ask(_POST, _TE, b"Trailer: X-Sum", body=b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"),
        sent_on(_POST, chunked=b"hi", trailers=(b"X-Sum: 1",)),
    ),
    passed(
        "a request right behind the last chunk",
        "RFC 9112, 9.3.2",
        ask(_POST, _TE, body=b"2\r\nhi\r\n" + _LAST) + ask(),
        sent_on(_POST, chunked=b"hi"),
        sent_on(),
    ),
    passed(
        "chunks, each in a write of its own",
        "RFC 9112, 7.1",
        (ask(_POST, _TE), b"2\r\n", b"he\r", b"\n3\r\nllo", b"\r\n0\r\n", b"\r\n"),
        sent_on(_POST, chunked=b"hello"),
    ),
    # -- bad sizes -----------------------------------------------------------------------------
    _bad("no size", b"\r\nhello\r\n"),
    _bad("a size with 0x", b"0x5\r\nhello\r\n"),
    _bad("a size with a plus", b"+5\r\nhello\r\n"),
    _bad("a size below zero", b"-5\r\nhello\r\n"),
    _bad("a size with an underscore", b"0_5\r\nhello\r\n"),
    _bad("a size that is no number", b"five\r\nhello\r\n"),
    _bad("a space before a size", b" 5\r\nhello\r\n"),
    _bad("a space behind a size", b"5 \r\nhello\r\n"),
    _bad("a tab behind a size", b"5\t\r\nhello\r\n"),
    _bad("a size of 2 to the 64 and 5", b"10000000000000005\r\nhello\r\n"),
    _bad("a size of 13 digits", b"0000000000005\r\nhello\r\n"),
    _bad("a comma for a size", b",\r\nhello\r\n"),
    # -- bad extensions ------------------------------------------------------------------------
    _bad("a space before an extension", b"5 ;a=b\r\nhello\r\n", "7.1.1"),
    _bad("a bare LF in an extension", b"5;a\nb\r\nhello\r\n", "7.1.1"),
    _bad("a bare CR in an extension", b"5;a\rb\r\nhello\r\n", "7.1.1"),
    _bad("a NUL in an extension", b"5;a\0b\r\nhello\r\n", "7.1.1"),
    _bad("an extension without end", b"5;" + b"a" * 2000, "7.1.1"),
    # -- bad ends ------------------------------------------------------------------------------
    _bad("a size with a bare LF", b"5\nhello\r\n"),
    _bad("a size with a bare CR", b"5\rhello\r\n"),
    _bad("a size with two CR", b"5\r\r\nhello\r\n"),
    _bad("a chunk longer than its size", b"5\r\nhello!\r\n"),
    _bad("a chunk shorter than its size", b"5\r\nhell\r\n"),
    _bad("a chunk with a bare LF behind", b"5\r\nhello\n" + _LAST),
    _bad("a chunk with a bare CR behind", b"5\r\nhello\r" + _LAST),
    _bad("a chunk with nothing behind", b"5\r\nhello" + _LAST),
    _bad("a last chunk with a bare LF", b"5\r\nhello\r\n0\n\n"),
    _bad("a last empty line with a bare LF", b"5\r\nhello\r\n0\r\n\n"),
    # -- bad trailers --------------------------------------------------------------------------
    _bad("a trailer with a space before its colon", b"0\r\nX-Sum : 1\r\n\r\n", "7.1.2"),
    _bad("a folded trailer", b"0\r\nX-Sum: 1\r\n 2\r\n\r\n", "5.2"),
    _bad("a trailer without a colon", b"0\r\nX-Sum\r\n\r\n", "7.1.2"),
    _bad("a trailer without a name", b"0\r\n: 1\r\n\r\n", "7.1.2"),
    _bad("a NUL in a trailer", b"0\r\nX-Sum: \0\r\n\r\n", "7.1.2"),
    _bad("a trailer with a bare LF", b"0\r\nX-Sum: 1\nX-B: 2\r\n\r\n", "2.2"),
    _bad("more trailers than may be", b"0\r\n" + b"X-Sum: 1234\r\n" * 30 + b"\r\n", "7.1.2"),
    # -- too much ------------------------------------------------------------------------------
    passed(
        "a chunked body as large as its limit",
        "RFC 9110, 15.5.14",
        ask(b"POST /small HTTP/1.1", _TE, body=b"8\r\n12345678\r\n8\r\n12345678\r\n" + _LAST),
        sent_on(b"POST /small HTTP/1.1", chunked=b"1234567812345678"),
    ),
    refused(
        "a chunked body one byte beyond its limit",
        "RFC 9110, 15.5.14",
        ask(b"POST /small HTTP/1.1", _TE, body=b"8\r\n12345678\r\n9\r\n123456789\r\n"),
        status=413,
        broken_late=True,
    ),
)
