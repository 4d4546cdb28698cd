"""What a method or an expectation changes: RFC 9110, 9.3 and 10.1."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["ROWS"]

_POST = b"POST /x HTTP/1.1"
_EXPECT = b"Expect: 100-continue"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

ROWS = (
    # -- OPTIONS, CONNECT, TRACE ---------------------------------------------------------------
    Row(
        "OPTIONS of the gateway",
        "RFC 9110, 9.3.7",
        (ask(b"OPTIONS * HTTP/1.1"),),
        says=(b"Content-Length: 0\r\n", b"X-Request-Id: "),
    ),
    Row(
        "OPTIONS of the gateway in absolute form",
        "RFC 9112, 3.2.4",
        (ask(b"OPTIONS http://test HTTP/1.1"),),
        says=(b"Content-Length: 0\r\n",),
    ),
    Row(
        "OPTIONS of the gateway, with a body",
        "RFC 9110, 9.3.7",
        (ask(b"OPTIONS * HTTP/1.1", b"Content-Length: 2", body=b"hi"),),
    ),
    refused(
        "CONNECT",
        "RFC 9110, 9.3.6",
        ask(b"CONNECT test:443 HTTP/1.1", host=b"test:443"),
        status=501,
    ),
    refused(
        "CONNECT, and a request for the tunnel behind",
        "RFC 9110, 9.3.6",
        ask(b"CONNECT test:443 HTTP/1.1", host=b"test:443") + ask(),
        status=501,
    ),
    refused("CONNECT of a path", "RFC 9110, 9.3.6", ask(b"CONNECT /x HTTP/1.1"), status=501),
    Row(
        "TRACE",
        "RFC 9110, 9.3.8",
        (ask(b"TRACE /x HTTP/1.1", b"Cookie: secret=1"),),
        answers=(405,),
        says=(b"Allow: ",),
        says_not=(b"secret",),
    ),
    # -- methods that a route does not have ----------------------------------------------------
    Row(
        "a method that its route does not have",
        "RFC 9110, 15.5.6",
        (ask(b"DELETE /reading HTTP/1.1"),),
        answers=(405,),
        says=(b"Allow: GET\r\n",),
    ),
    # -- HEAD ----------------------------------------------------------------------------------
    passed(
        "HEAD",
        "RFC 9110, 9.3.2",
        ask(b"HEAD /x HTTP/1.1"),
        sent_on(b"HEAD /x HTTP/1.1"),
        says=(b"Content-Length: 1000\r\n",),
        instance_says=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    ),
    Row(
        "HEAD of what is not there",
        "RFC 9110, 9.3.2",
        (ask(b"HEAD /nowhere HTTP/1.1"),),
        answers=(404,),
    ),
    passed(
        "HEAD, then GET",
        "RFC 9110, 9.3.2",
        ask(b"HEAD /x HTTP/1.1") + ask(b"HEAD /x/2 HTTP/1.1"),
        sent_on(b"HEAD /x HTTP/1.1"),
        sent_on(b"HEAD /x/2 HTTP/1.1"),
    ),
    # -- Expect --------------------------------------------------------------------------------
    passed(
        "an expectation that nobody waits for",
        "RFC 9110, 10.1.1",
        ask(_POST, _EXPECT, b"Content-Length: 2", body=b"hi"),
        sent_on(_POST, _EXPECT, body=b"hi"),
        instance_says=_OK,
    ),
    passed(
        "an expectation that the instance meets",
        "RFC 9110, 10.1.1",
        ask(_POST, b"expect: 100-Continue", b"Content-Length: 2", body=b"hi"),
        sent_on(_POST, b"expect: 100-Continue", body=b"hi"),
        answers=(100, 200),
        instance_says=b"HTTP/1.1 100 Continue\r\n\r\n" + _OK,
    ),
    passed(
        "an expectation in HTTP/1.0",
        "RFC 9110, 10.1.1",
        ask(b"POST /x HTTP/1.0", _EXPECT, b"Content-Length: 2", body=b"hi"),
        sent_on(_POST, body=b"hi", via=b"1.0"),
        closed=True,
        instance_says=b"HTTP/1.1 100 Continue\r\n\r\n" + _OK,
    ),
    passed(
        "100 Continue that nobody asked for",
        "RFC 9110, 15.2.1",
        ask(_POST, b"Content-Length: 2", body=b"hi"),
        sent_on(_POST, body=b"hi"),
        instance_says=b"HTTP/1.1 100 Continue\r\n\r\n" + _OK,
    ),
    Row(
        "another expectation",
        "RFC 9110, 10.1.1",
        (ask(b"GET /x HTTP/1.1", b"Expect: a-miracle"),),
        answers=(417,),
    ),
    Row(
        "two expectations",
        "RFC 9110, 10.1.1",
        (ask(b"GET /x HTTP/1.1", b"Expect: 100-continue, a-miracle"),),
        answers=(417,),
    ),
    refused(
        "another expectation before a body",
        "RFC 9110, 10.1.1",
        ask(_POST, b"Expect: a-miracle", b"Content-Length: 2"),
        status=417,
    ),
)
