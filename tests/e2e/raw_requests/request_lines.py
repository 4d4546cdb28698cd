"""Request lines: RFC 9112, 2 and 3; RFC 9110, 9.1 and 15.6."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["ROWS"]

_END = b"\r\nHost: test\r\n\r\n"


def _line(name: str, line: bytes, rfc: str = "RFC 9112, 3", status: int = 400) -> Row:
    return refused(name, rfc, line + _END, status=status)


ROWS = (
    # -- good ones -----------------------------------------------------------------------------
    passed("a plain request", "RFC 9112, 3", ask(), sent_on()),
    passed("an empty line in front", "RFC 9112, 2.2", b"\r\n" + ask(), sent_on()),
    passed("two empty lines in front", "RFC 9112, 2.2", b"\r\n\r\n" + ask(), sent_on()),
    passed(
        "an empty line behind a body, as very old clients send it",
        "RFC 9112, 2.2",
        ask(b"POST /x HTTP/1.1", b"Content-Length: 2", body=b"hi") + b"\r\n" + ask(),
        sent_on(b"POST /x HTTP/1.1", body=b"hi"),
        sent_on(),
    ),
    *(
        passed(
            f"the method {method.decode()}",
            "RFC 9110, 9.1",
            ask(method + b" /x HTTP/1.1"),
            sent_on(method + b" /x HTTP/1.1"),
        )
        for method in (b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"PURGE", b"QUERY")
    ),
    # -- line ends -----------------------------------------------------------------------------
    refused("three empty lines in front", "RFC 9112, 2.2", b"\r\n\r\n\r\n" + ask()),
    refused("a bare LF in front", "RFC 9112, 2.2", b"\n" + ask()),
    refused("a bare CR in front", "RFC 9112, 2.2", b"\r" + ask()),
    refused(
        "a request line with a bare LF", "RFC 9112, 2.2", b"GET /x HTTP/1.1\nHost: test\r\n\r\n"
    ),
    refused("a head with LF for every CRLF", "RFC 9112, 2.2", b"GET /x HTTP/1.1\nHost: test\n\n"),
    refused("a second CR at its end", "RFC 9112, 2.2", b"GET /x HTTP/1.1\r\r\nHost: test\r\n\r\n"),
    _line("a bare CR for a space", b"GET /x\rHTTP/1.1", "RFC 9112, 2.2"),
    _line("a bare LF within the target", b"GET /x\ny HTTP/1.1", "RFC 9112, 2.2"),
    # -- its three parts -----------------------------------------------------------------------
    _line("two spaces behind the method", b"GET  /x HTTP/1.1"),
    _line("two spaces before the version", b"GET /x  HTTP/1.1"),
    _line("a tab behind the method", b"GET\t/x HTTP/1.1"),
    _line("a tab before the version", b"GET /x\tHTTP/1.1"),
    _line("a space at its end", b"GET /x HTTP/1.1 "),
    _line("a space in front", b" GET /x HTTP/1.1"),
    _line("a space within the target", b"GET /x y HTTP/1.1"),
    _line("no target", b"GET HTTP/1.1"),
    _line("no version", b"GET /x"),
    _line("a method alone", b"GET"),
    refused("HTTP/0.9", "RFC 9112, 3", b"GET /x\r\n\r\n"),
    # -- versions ------------------------------------------------------------------------------
    _line("HTTP/0.9 by name", b"GET /x HTTP/0.9", "RFC 9110, 15.6.6", 505),
    _line("HTTP/1.2", b"GET /x HTTP/1.2", "RFC 9110, 15.6.6", 505),
    _line("HTTP/2.0", b"GET /x HTTP/2.0", "RFC 9110, 15.6.6", 505),
    refused(
        "the preface of HTTP/2",
        "RFC 9113, 3.4",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        status=505,
    ),
    _line("HTTP/1.10", b"GET /x HTTP/1.10", "RFC 9112, 2.3"),
    _line("HTTP/01.1", b"GET /x HTTP/01.1", "RFC 9112, 2.3"),
    _line("HTTP/1,1", b"GET /x HTTP/1,1", "RFC 9112, 2.3"),
    _line("HTTP/1", b"GET /x HTTP/1", "RFC 9112, 2.3"),
    _line("a version in lower case", b"GET /x http/1.1", "RFC 9112, 2.3"),
    _line("another protocol", b"GET /x ICE/1.0", "RFC 9112, 2.3"),
    # -- methods -------------------------------------------------------------------------------
    _line("an unknown method", b"BREW /x HTTP/1.1", "RFC 9110, 9.1", 501),
    _line("a method in lower case", b"get /x HTTP/1.1", "RFC 9110, 9.1", 501),
    _line("a method of another protocol", b"DESCRIBE /x HTTP/1.1", "RFC 9110, 9.1", 501),
    _line("a method that only begins like one", b"GETS /x HTTP/1.1", "RFC 9110, 9.1", 501),
    _line("a method that is no token", b"G@T /x HTTP/1.1", "RFC 9110, 9.1"),
    _line("a NUL in the method", b"GE\0T /x HTTP/1.1", "RFC 9110, 9.1"),
    # -- bytes that no target has --------------------------------------------------------------
    _line("a NUL in the target", b"GET /x\0y HTTP/1.1", "RFC 3986, 2"),
    _line("a form feed in the target", b"GET /x\x0cy HTTP/1.1", "RFC 3986, 2"),
    _line("an escape character in the target", b"GET /x\x1by HTTP/1.1", "RFC 3986, 2"),
    _line("a DEL in the target", b"GET /x\x7fy HTTP/1.1", "RFC 3986, 2"),
    _line("raw UTF-8 in the target", b"GET /x\xc3\xbcy HTTP/1.1", "RFC 3986, 2"),
    # -- not HTTP at all -----------------------------------------------------------------------
    refused("a TLS handshake", "RFC 9112, 2.2", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("a byte order mark in front", "RFC 9112, 2.2", b"\xef\xbb\xbf" + ask()),
    refused("an answer", "RFC 9112, 2.1", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
)
