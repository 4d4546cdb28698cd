"""What is for one hop only, and what each hop adds: RFC 9110, 7.6."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, sent_on

__all__ = ["ROWS"]

_GET = b"GET /x HTTP/1.1"
_POST = b"POST /x HTTP/1.1"


def _dropped(name: str, *fields: bytes, rfc: str = "RFC 9110, 7.6.1") -> Row:
    return passed(name, rfc, ask(_GET, *fields, b"X-Kept: 1"), sent_on(_GET, b"X-Kept: 1"))


ROWS = (
    # -- fields that are always for one hop ----------------------------------------------------
    _dropped("Connection: keep-alive", b"Connection: keep-alive"),
    _dropped("Keep-Alive", b"Keep-Alive: timeout=5, max=100"),
    _dropped("Proxy-Connection", b"Proxy-Connection: keep-alive"),
    _dropped("Proxy-Connection: close", b"Proxy-Connection: close"),
    _dropped("credentials for a proxy", b"Proxy-Authorization: Basic dTpw", rfc="RFC 9110, 11.7.2"),
    _dropped("fields for one hop in any case", b"KEEP-ALIVE: 1", b"proxy-connection: close"),
    _dropped("Trailer without a body", b"Trailer: X-Sum", rfc="RFC 9110, 6.6.2"),
    _dropped("TE without trailers", b"TE: gzip;q=0.5, deflate", rfc="RFC 9110, 10.1.4"),
    _dropped("TE with a name that begins like trailers", b"TE: trailersx", rfc="RFC 9110, 10.1.4"),
    passed(
        "TE: trailers",
        "RFC 9110, 10.1.4",
        ask(_GET, b"TE: trailers", b"Connection: TE"),
        sent_on(_GET, te=True),
    ),
    passed(
        "TE: trailers among others",
        "RFC 9110, 10.1.4",
        ask(_GET, b"TE: gzip;q=0.5, Trailers", b"Connection: te"),
        sent_on(_GET, te=True),
    ),
    passed(
        "TE: trailers behind a body",
        "RFC 9110, 10.1.4",
        ask(_POST, b"TE: trailers", b"Connection: TE", b"Content-Length: 2", body=b"hi"),
        sent_on(_POST, body=b"hi", te=True),
    ),
    # -- switching protocols -------------------------------------------------------------------
    _dropped(
        "a wish for a WebSocket",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        rfc="RFC 9110, 7.8",
    ),
    _dropped(
        "a wish for HTTP/2",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        rfc="RFC 9110, 7.8",
    ),
    _dropped("Upgrade without Connection", b"Upgrade: h2c", rfc="RFC 9110, 7.8"),
    passed(
        "a wish to upgrade, with a body",
        "RFC 9110, 7.8",
        ask(_POST, b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 2", body=b"hi") + ask(),
        sent_on(_POST, body=b"hi"),
        sent_on(),
    ),
    passed(
        "a wish to upgrade, with a chunked body",
        "RFC 9110, 7.8",
        ask(
            _POST,
            b"Connection: upgrade",
            b"Upgrade: x",
            b"Transfer-Encoding: chunked",
            body=b"2\r\nhi\r\n0\r\n\r\n",
        ),
        sent_on(_POST, chunked=b"hi"),
    ),
    # -- fields that Connection lists ----------------------------------------------------------
    _dropped("a field that Connection lists", b"Connection: X-Hop", b"X-Hop: 1"),
    _dropped("a field listed in another case", b"Connection: x-HOP", b"X-hop: 1", b"x-hop: 2"),
    _dropped("several fields in one list", b"Connection: ,x-a ,\tx-b,,", b"X-A: 1", b"X-B: 2"),
    _dropped(
        "several Connection fields", b"Connection: x-a", b"X-A: 1", b"Connection: x-b", b"X-B: 2"
    ),
    _dropped(
        "listed before and behind", b"X-Hop: 1", b"Connection: keep-alive, x-hop", b"X-Hop: 2"
    ),
    _dropped("a field that is listed and not there", b"Connection: x-hop, keep-alive"),
    _dropped("Connection that lists itself", b"Connection: connection, x-hop", b"X-Hop: 1"),
    _dropped("an empty Connection", b"Connection:"),
    _dropped(
        "Connection that lists credentials", b"Connection: authorization", b"Authorization: x"
    ),
    _dropped("Connection that lists cookies", b"Connection: cookie", b"Cookie: a=1"),
    _dropped("Connection that lists what is made anew", b"Connection: x-request-id, traceparent"),
    _dropped(
        "Connection that lists the client's address", b"Connection: x-forwarded-for, forwarded"
    ),
    _dropped("Connection that lists Via", b"Connection: via, x-real"),
    passed(
        "Connection that lists the length",
        "RFC 9110, 7.6.1",
        ask(_POST, b"Connection: content-length", b"Content-Length: 2", body=b"hi"),
        sent_on(_POST, body=b"hi"),
    ),
    passed(
        "Connection that lists the coding",
        "RFC 9110, 7.6.1",
        ask(
            _POST,
            b"Connection: transfer-encoding",
            b"Transfer-Encoding: chunked",
            body=b"2\r\nhi\r\n0\r\n\r\n",
        ),
        sent_on(_POST, chunked=b"hi"),
    ),
    # -- Max-Forwards --------------------------------------------------------------------------
    passed(
        "OPTIONS that may go further",
        "RFC 9110, 7.6.2",
        ask(b"OPTIONS /x HTTP/1.1", b"Max-Forwards: 10", b"X-Kept: 1"),
        sent_on(b"OPTIONS /x HTTP/1.1", b"Max-Forwards: 9", b"X-Kept: 1"),
    ),
    Row(
        "OPTIONS that may not go further",
        "RFC 9110, 7.6.2",
        (ask(b"OPTIONS /x HTTP/1.1", b"Max-Forwards: 0"),),
        says=(b"Content-Length: 0\r\n",),
    ),
    passed(
        "Max-Forwards of another method",
        "RFC 9110, 7.6.2",
        ask(_GET, b"Max-Forwards: 0"),
        sent_on(_GET, b"Max-Forwards: 0"),
    ),
)
