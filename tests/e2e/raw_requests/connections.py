"""Connections: how long they last, and several requests on one (RFC 9112, 9)."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, sent_on

__all__ = ["ROWS"]

_OLD = b"GET /x HTTP/1.0"
_POST = b"POST /x HTTP/1.1"
_CLOSE = b"Connection: close\r\n"
_KEEP = b"Connection: keep-alive\r\n"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
_SAME = ask(b"GET /x?a=1 HTTP/1.1", b"Cookie: a=1")


def _get(number: int) -> bytes:
    return b"GET /x/%d HTTP/1.1" % number


ROWS = (
    # -- keep-alive ----------------------------------------------------------------------------
    passed("nothing said", "RFC 9112, 9.3", ask(), sent_on(), says_not=(_CLOSE, _KEEP)),
    passed(
        "Connection: close",
        "RFC 9112, 9.6",
        ask(b"GET /x HTTP/1.1", b"Connection: close"),
        sent_on(),
        closed=True,
        says=(_CLOSE,),
    ),
    passed(
        "close in capitals and among others",
        "RFC 9112, 9.6",
        ask(b"GET /x HTTP/1.1", b"Connection: x-hop, CLOSE", b"X-Hop: 1"),
        sent_on(),
        closed=True,
        says=(_CLOSE,),
    ),
    passed(
        "close and keep-alive",
        "RFC 9112, 9.3",
        ask(b"GET /x HTTP/1.1", b"Connection: keep-alive, close"),
        sent_on(),
        closed=True,
        says=(_CLOSE,),
    ),
    passed(
        "close behind a body",
        "RFC 9112, 9.6",
        ask(_POST, b"Connection: close", b"Content-Length: 2", body=b"hi"),
        sent_on(_POST, body=b"hi"),
        closed=True,
    ),
    passed(
        "a request behind one that says close",
        "RFC 9112, 9.6",
        ask(b"GET /x HTTP/1.1", b"Connection: close") + ask(b"GET /x/2 HTTP/1.1"),
        sent_on(),
        closed=True,
    ),
    # -- HTTP/1.0 ------------------------------------------------------------------------------
    passed(
        "HTTP/1.0",
        "RFC 9112, 9.3",
        ask(_OLD),
        sent_on(via=b"1.0"),
        closed=True,
        says=(b"HTTP/1.1 200 OK\r\n", _CLOSE),
    ),
    passed(
        "HTTP/1.0 without a host",
        "RFC 9112, 3.2",
        b"GET /x HTTP/1.0\r\n\r\n",
        sent_on(host=b"", via=b"1.0"),
        closed=True,
    ),
    passed(
        "HTTP/1.0 that wants to go on",
        "RFC 9112, 9.3",
        ask(_OLD, b"Connection: keep-alive"),
        sent_on(via=b"1.0"),
        says=(_KEEP,),
    ),
    passed(
        "HTTP/1.0 that wants to go on, in capitals",
        "RFC 9112, 9.3",
        ask(_OLD, b"Connection: Keep-Alive, x-hop", b"X-Hop: 1"),
        sent_on(via=b"1.0"),
        says=(_KEEP,),
    ),
    passed(
        "HTTP/1.0 with a body",
        "RFC 9112, 6.3",
        ask(b"POST /x HTTP/1.0", b"Content-Length: 2", body=b"hi"),
        sent_on(b"POST /x HTTP/1.1", body=b"hi", via=b"1.0"),
        closed=True,
    ),
    passed(
        "HTTP/1.0 that can't read chunks",
        "RFC 9112, 7.1",
        ask(_OLD, b"Connection: keep-alive"),
        sent_on(via=b"1.0"),
        closed=True,
        says=(_CLOSE, b"\r\n\r\nhello"),
        says_not=(b"Transfer-Encoding",),
        instance_says=_CHUNKED,
    ),
    passed(
        "HTTP/1.0 that takes no trailers",
        "RFC 9110, 6.5.1",
        ask(_OLD, b"TE: trailers", b"Connection: TE"),
        sent_on(via=b"1.0"),
        closed=True,
    ),
    # -- pipelining ----------------------------------------------------------------------------
    passed(
        "three requests in one write",
        "RFC 9112, 9.3.2",
        b"".join(ask(_get(number)) for number in range(3)),
        *(sent_on(_get(number)) for number in range(3)),
    ),
    passed(
        "thirty requests in one write",
        "RFC 9112, 9.3.2",
        b"".join(ask(_get(number)) for number in range(30)),
        *(sent_on(_get(number)) for number in range(30)),
    ),
    passed(
        "the same request again and again, and another between",
        "RFC 9112, 9.3",
        (*[_SAME] * 4, ask(_get(1)), *[_SAME] * 2),
        *[sent_on(b"GET /x?a=1 HTTP/1.1", b"Cookie: a=1")] * 4,
        sent_on(_get(1)),
        *[sent_on(b"GET /x?a=1 HTTP/1.1", b"Cookie: a=1")] * 2,
    ),
    passed(
        "the same request in absolute form, again and again",
        "RFC 9112, 3.2.2",
        (ask(b"GET http://test/x HTTP/1.1"),) * 4,
        *[sent_on()] * 4,
    ),
    passed(
        "a request in two halves, the second with the next request",
        "RFC 9112, 9.3.2",
        (ask(_get(1))[:20], ask(_get(1))[20:] + ask(_get(2))),
        sent_on(_get(1)),
        sent_on(_get(2)),
    ),
    passed(
        "requests with bodies of both kinds",
        "RFC 9112, 9.3.2",
        ask(_POST, b"Content-Length: 2", body=b"hi")
        + ask(_POST, b"Transfer-Encoding: chunked", body=b"2\r\nho\r\n0\r\n\r\n")
        + ask(_POST, b"Content-Length: 0")
        + ask(_get(4)),
        sent_on(_POST, body=b"hi"),
        sent_on(_POST, chunked=b"ho"),
        sent_on(_POST, body=b""),
        sent_on(_get(4)),
    ),
    passed(
        "requests with errors between",
        "RFC 9112, 9.3.2",
        ask(_get(1)) + ask(b"GET /nowhere HTTP/1.1") + ask(_get(3)),
        sent_on(_get(1)),
        sent_on(_get(3)),
        answers=(200, 404, 200),
    ),
    passed(
        "a bad request behind a good one",
        "RFC 9112, 9.3.2",
        ask(_get(1)) + b"GET /x\nHost: test\r\n\r\n" + ask(_get(3)),
        sent_on(_get(1)),
        answers=(200, 400),
        closed=True,
    ),
    passed(
        "a bad request behind a body",
        "RFC 9112, 9.3.2",
        ask(_POST, b"Content-Length: 2", body=b"hi") + b"hello\r\n\r\n",
        sent_on(_POST, body=b"hi"),
        answers=(200, 400),
        closed=True,
    ),
    passed(
        "a body longer than its length",
        "RFC 9112, 6.3",
        ask(_POST, b"Content-Length: 2", body=b"hi!!\r\n\r\n"),
        sent_on(_POST, body=b"hi"),
        answers=(200, 400),
        closed=True,
    ),
    passed(
        "a body that is not allowed behind a good request",
        "RFC 9112, 9.3.2",
        ask(_get(1)) + ask(b"POST /small HTTP/1.1", b"Content-Length: 17"),
        sent_on(_get(1)),
        answers=(200, 413),
        closed=True,
    ),
    Row(
        "a request for the gateway's own pages between others",
        "RFC 9112, 9.3.2",
        (ask(_get(1)) + ask(b"GET /healthz HTTP/1.1") + ask(_get(2)),),
        answers=(200, 200, 200),
        forwarded=(sent_on(_get(1)), sent_on(_get(2))),
    ),
)
