"""Bodies of a known length: RFC 9112, 6.2 and 6.3; RFC 9110, 8.6."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["ROWS"]

_POST = b"POST /x HTTP/1.1"
_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


def _length(name: str, value: bytes, rfc: str = "RFC 9110, 8.6") -> Row:
    return refused(name, rfc, ask(_POST, b"Content-Length: " + value, body=b"hello"))


def _both(name: str, *fields: bytes) -> Row:
    body = b"0\r\n\r\n" + _SMUGGLED
    return refused(name, "RFC 9112, 6.1 and 6.3", ask(_POST, *fields, body=body))


ROWS = (
    # -- good ones -----------------------------------------------------------------------------
    passed(
        "a body of a known length",
        "RFC 9112, 6.2",
        ask(_POST, b"Content-Length: 5", body=b"hello"),
        sent_on(_POST, body=b"hello"),
    ),
    passed(
        "a body in a write of its own",
        "RFC 9112, 6.2",
        (ask(_POST, b"Content-Length: 5"), b"hel", b"lo"),
        sent_on(_POST, body=b"hello"),
    ),
    passed(
        "an empty body",
        "RFC 9110, 8.6",
        ask(_POST, b"Content-Length: 0"),
        sent_on(_POST, body=b""),
    ),
    passed("no body and no length", "RFC 9112, 6.3", ask(_POST), sent_on(_POST)),
    passed(
        "a GET with a body",
        "RFC 9110, 9.3.1",
        ask(b"GET /x HTTP/1.1", b"Content-Length: 2", body=b"hi"),
        sent_on(b"GET /x HTTP/1.1", body=b"hi"),
    ),
    passed(
        "a DELETE with a body",
        "RFC 9110, 9.3.5",
        ask(b"DELETE /x HTTP/1.1", b"Content-Length: 2", body=b"hi"),
        sent_on(b"DELETE /x HTTP/1.1", body=b"hi"),
    ),
    passed(
        "a length with zeros in front",
        "RFC 9110, 8.6",
        ask(_POST, b"Content-Length: 0005", body=b"hello"),
        sent_on(_POST, body=b"hello"),
    ),
    passed(
        "a length with white space around",
        "RFC 9112, 5.1",
        ask(_POST, b"Content-Length:\t 5 \t", body=b"hello"),
        sent_on(_POST, body=b"hello"),
    ),
    passed(
        "a body that looks like a request",
        "RFC 9112, 6.3",
        ask(_POST, b"Content-Length: 38", body=_SMUGGLED),
        sent_on(_POST, body=_SMUGGLED),
    ),
    passed(
        "a body that looks chunked",
        "RFC 9112, 6.3",
        ask(_POST, b"Content-Length: 5", body=b"0\r\n\r\n"),
        sent_on(_POST, body=b"0\r\n\r\n"),
    ),
    passed(
        "a body of every byte there is",
        "RFC 9110, 6.4",
        ask(_POST, b"Content-Length: 256", body=bytes(range(256))),
        sent_on(_POST, body=bytes(range(256))),
    ),
    passed(
        "the encoding and the type of a body",
        "RFC 9110, 8.4",
        ask(
            _POST, b"Content-Encoding: gzip", b"Content-Type: a/b", b"Content-Length: 1", body=b"z"
        ),
        sent_on(_POST, b"Content-Encoding: gzip", b"Content-Type: a/b", body=b"z"),
    ),
    # -- what is no length ---------------------------------------------------------------------
    _length("a length with a plus", b"+5"),
    _length("a length below zero", b"-1"),
    _length("a length in hexadecimal", b"0x5"),
    _length("a length with a fraction", b"5.0"),
    _length("a length with an exponent", b"5e0"),
    _length("a length with an underscore", b"0_5"),
    _length("a length in words", b"five"),
    _length("an empty length", b""),
    _length("a length of white space", b" \t"),
    _length("two lengths apart by a space", b"5 5"),
    _length("a list of equal lengths", b"5, 5", "RFC 9112, 6.3"),
    _length("a list of equal lengths behind a space", b" 5,5", "RFC 9112, 6.3"),
    _length("a list of different lengths", b"5, 6", "RFC 9112, 6.3"),
    _length("a list that ends in a comma", b"5,", "RFC 9112, 6.3"),
    _length("a quoted length", b'"5"'),
    _length("a length with a parameter", b"5;x=1"),
    _length("a length in other digits", b"\xd9\xa5"),
    _length("a length of 16 digits", b"9" * 16, "RFC 9112, 6.3"),
    _length("a length of 2 to the 64 and 5", b"18446744073709551621", "RFC 9112, 6.3"),
    _length("a length of 400 digits", b"1" * 400, "RFC 9112, 6.3"),
    _length("a control character in a length", b"5\x0b", "RFC 9110, 5.5"),
    refused(
        "the same length twice",
        "RFC 9112, 6.3",
        ask(_POST, b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    ),
    refused(
        "two lengths",
        "RFC 9112, 6.3",
        ask(_POST, b"Content-Length: 5", b"Content-Length: 0", body=b"hello"),
    ),
    refused(
        "two lengths, one spelled otherwise",
        "RFC 9112, 6.3",
        ask(_POST, b"content-length: 0", b"CONTENT-LENGTH: 5", body=b"hello"),
    ),
    # -- both framings -------------------------------------------------------------------------
    _both("a length before a coding", b"Content-Length: 43", b"Transfer-Encoding: chunked"),
    _both("a coding before a length", b"Transfer-Encoding: chunked", b"Content-Length: 43"),
    _both("a length of 0 and a coding", b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    _both("a length and a coding in capitals", b"Content-Length: 5", b"TRANSFER-ENCODING: CHUNKED"),
    _both("a length and an unknown coding", b"Content-Length: 5", b"Transfer-Encoding: xchunked"),
    _both("a length and identity", b"Content-Length: 5", b"Transfer-Encoding: identity"),
    _both(
        "a length that Connection lists, and a coding",
        b"Connection: content-length",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
    ),
    # -- too much ------------------------------------------------------------------------------
    passed(
        "a body as large as its limit",
        "RFC 9110, 15.5.14",
        ask(b"POST /small HTTP/1.1", b"Content-Length: 16", body=b"x" * 16),
        sent_on(b"POST /small HTTP/1.1", body=b"x" * 16),
    ),
    refused(
        "a length beyond the limit of its route",
        "RFC 9110, 15.5.14",
        ask(b"POST /small HTTP/1.1", b"Content-Length: 17"),
        status=413,
        says=(b'"statusCode":413',),
    ),
    refused(
        "a length beyond the limit of all",
        "RFC 9110, 15.5.14",
        ask(_POST, b"Content-Length: 999999999999999", body=b"x"),
        status=413,
    ),
    refused(
        "a length beyond the limit, with a question first",
        "RFC 9110, 10.1.1",
        ask(b"POST /small HTTP/1.1", b"Content-Length: 17", b"Expect: 100-continue"),
        status=413,
    ),
)
