"""Good answers, and what is changed on them: RFC 9110, 7.6 and 15; RFC 9112, 6."""

from __future__ import annotations

from tests.e2e.raw_answers.row import Row, good, seen
from tests.e2e.raw_requests.row import ask

__all__ = ["ROWS"]

_OK = b"HTTP/1.1 200 OK\r\n"
_TE = b"Transfer-Encoding: chunked\r\n"
_TWO = b"Content-Length: 2\r\n\r\nok"
_CHUNKS = b"\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
_HEAD = ask(b"HEAD /x HTTP/1.1")
_OLD = ask(b"GET /x HTTP/1.0")
_WITH_TRAILERS = ask(b"GET /x HTTP/1.1", b"TE: trailers", b"Connection: TE")
_HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


def _fields(name: str, rfc: str, *fields: bytes, kept: tuple[bytes, ...] | None = None) -> Row:
    says = _OK + b"".join(field + b"\r\n" for field in fields) + _TWO
    return good(name, rfc, says, seen(b"HTTP/1.1 200 OK", *(kept or fields), body=b"ok"))


def _dropped(name: str, *fields: bytes, rfc: str = "RFC 9110, 7.6.1") -> Row:
    return _fields(name, rfc, *fields, b"X-Kept: 1", kept=(b"X-Kept: 1",))


def _first_line(name: str, line: bytes, shown: bytes | None = None) -> Row:
    says = line + b"\r\n" + _TWO
    return good(name, "RFC 9112, 4", says, seen(shown or line, body=b"ok"))


ROWS = (
    # -- status lines -------------------------------------------------------------------------
    good("a plain answer", "RFC 9112, 6.3", _OK + _TWO, seen(body=b"ok")),
    _first_line("no reason", b"HTTP/1.1 200 "),
    _first_line("no reason, nor the space before it", b"HTTP/1.1 200", b"HTTP/1.1 200 "),
    _first_line("a reason of several words", b"HTTP/1.1 404 Nothing at \tall: sorry"),
    _first_line("a reason beyond ASCII", b"HTTP/1.1 200 \xc3\xbcber"),
    _first_line("a status nobody knows", b"HTTP/1.1 299 Odd"),
    _first_line("the largest status", b"HTTP/1.1 599 Odd"),
    _first_line("an error of the service", b"HTTP/1.1 500 Internal Server Error"),
    # -- fields -------------------------------------------------------------------------------
    _fields("the case and the order of fields", "RFC 9110, 5.1", b"x-b: 1", b"X-A: 2", b"x-B: 3"),
    _fields("cookies, each for itself", "RFC 6265, 3", b"Set-Cookie: a=1, 2", b"Set-Cookie: b=2"),
    _fields("the date of the service", "RFC 9110, 6.6.1", b"Date: Sun, 06 Nov 1994 08:49:37 GMT"),
    _fields("the name of the service", "RFC 9110, 10.2.4", b"Server: app/1.0"),
    _fields("bytes beyond ASCII", "RFC 9110, 5.5", b"X-Name: J\xc3\xbcrgen \xe9"),
    _fields("a challenge", "RFC 9110, 11.6.1", b'WWW-Authenticate: Basic realm="a, b"'),
    _fields("a location", "RFC 9110, 10.2.2", b"Location: http://other.example/../x"),
    _fields("an encoding with its body", "RFC 9110, 8.4", b"Content-Encoding: gzip"),
    _fields("an ETag, a Vary and a range", "RFC 9110, 8.8", b'ETag: W/"1"', b"Vary: *"),
    _fields("a Via of the proxies behind", "RFC 9110, 7.6.3", b"Via: 1.0 inner"),
    _fields(
        "white space around values",
        "RFC 9112, 5.1",
        b"X-None:1",
        b"X-Much: \t 2 \t ",
        b"X-Empty:",
        kept=(b"X-None: 1", b"X-Much: 2", b"X-Empty: "),
    ),
    _dropped("a request id of the service", b"X-Request-Id: other", rfc="x-request-id"),
    _dropped("Keep-Alive and Connection", b"Keep-Alive: timeout=5", b"Connection: keep-alive"),
    _dropped("Proxy-Connection", b"Proxy-Connection: keep-alive"),
    _dropped("Proxy-Connection: close", b"Proxy-Connection: close"),
    _dropped("a challenge of a proxy", b"Proxy-Authenticate: Basic", rfc="RFC 9110, 11.7.1"),
    _dropped("an offer to upgrade", b"Connection: upgrade", b"Upgrade: h2c", rfc="RFC 9110, 7.8"),
    _dropped("fields that Connection lists", b"Connection: x-A, x-b", b"X-A: 1", b"x-B: 2"),
    _dropped("a list in two fields", b"Connection: x-a", b"X-A: 1", b"X-B: 1", b"Connection: x-b"),
    _dropped("Trailer without trailers", b"Trailer: X-Sum", rfc="RFC 9110, 6.6.2"),
    # -- framing ------------------------------------------------------------------------------
    good("an empty body", "RFC 9112, 6.3", _OK + b"Content-Length: 0\r\n\r\n", seen(length=0)),
    good(
        "a length in lower case, with zeros in front",
        "RFC 9110, 8.6",
        _OK + b"content-length:002\r\n\r\nok",
        seen(body=b"ok"),
    ),
    good("chunks", "RFC 9112, 7.1", _OK + _TE + _CHUNKS, seen(chunked=b"hello")),
    good(
        "a coding in capitals",
        "RFC 9112, 7",
        _OK + b"TRANSFER-ENCODING: CHUNKED\r\n" + _CHUNKS,
        seen(chunked=b"hello"),
    ),
    good("no chunks", "RFC 9112, 7.1", _OK + _TE + b"\r\n0\r\n\r\n", seen(chunked=b"")),
    good(
        "chunks with extensions",
        "RFC 9112, 7.1.1",
        _OK + _TE + b'\r\n005;a="b"\r\nhello\r\n0;c\r\n\r\n',
        seen(chunked=b"hello"),
    ),
    good(
        "chunks in writes of their own",
        "RFC 9112, 7.1",
        (_OK + _TE + b"\r\n", b"2\r\nhe\r", b"\n3\r\nllo\r\n", b"0\r\n", b"\r\n"),
        seen(chunked=b"hello"),
    ),
    good(
        "a body in writes of its own",
        "RFC 9112, 6.2",
        (_OK + b"Content-Length: 5\r\n\r\n", b"he", b"llo"),
        seen(body=b"hello"),
    ),
    good(
        "chunks to an old client",
        "RFC 9112, 7.1",
        _OK + _TE + _CHUNKS,
        seen(connection=b"close") + b"hello",
        asks=_OLD,
    ),
    good(
        "a length to an old client",
        "RFC 9112, 9.3",
        _OK + _TWO,
        seen(body=b"ok", connection=b"close"),
        asks=_OLD,
    ),
    good(
        "a length to an old client that goes on",
        "RFC 9112, 9.3",
        _OK + _TWO,
        seen(body=b"ok", connection=b"keep-alive"),
        asks=ask(b"GET /x HTTP/1.0", b"Connection: keep-alive"),
    ),
    # -- trailers -----------------------------------------------------------------------------
    good(
        "trailers that nobody wants",
        "RFC 9110, 6.5.1",
        _OK + _TE + b"Trailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        seen(chunked=b"ok"),
    ),
    good(
        "trailers that the client takes",
        "RFC 9110, 6.5.1",
        _OK + _TE + b"\r\n2\r\nok\r\n0\r\nx-sum:1\r\nX-B: 2 \r\n\r\n",
        seen(chunked=b"ok", trailers=(b"x-sum: 1", b"X-B: 2")),
        asks=_WITH_TRAILERS,
    ),
    good(
        "trailers that may not be trailers",
        "RFC 9110, 6.5.1",
        _OK
        + _TE
        + b"\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a=1\r\nX-Sum: 1\r\n"
        + b"Location: /y\r\nTransfer-Encoding: gzip\r\nX-Request-Id: other\r\n\r\n",
        seen(chunked=b"ok", trailers=(b"X-Sum: 1",)),
        asks=_WITH_TRAILERS,
    ),
    good(
        "a trailer that Connection lists",
        "RFC 9110, 7.6.1",
        _OK + _TE + b"Connection: x-hop\r\n\r\n2\r\nok\r\n0\r\nX-Hop: 1\r\nX-Sum: 1\r\n\r\n",
        seen(chunked=b"ok", trailers=(b"X-Sum: 1",)),
        asks=_WITH_TRAILERS,
    ),
    # -- the end of the connection --------------------------------------------------------------
    good(
        "Connection: close",
        "RFC 9112, 9.6",
        _OK + b"Connection: close\r\n" + _TWO,
        seen(body=b"ok"),
        reused=False,
    ),
    good(
        "Connection: close, and closed",
        "RFC 9112, 9.6",
        _OK + b"Connection: close\r\n" + _TE + _CHUNKS,
        seen(chunked=b"hello"),
        then="close",
    ),
    good("closed without a word", "RFC 9112, 9.6", _OK + _TWO, seen(body=b"ok"), then="close"),
    good(
        "an answer in HTTP/1.0",
        "RFC 9112, 9.3",
        b"HTTP/1.0 200 OK\r\n" + _TWO,
        seen(body=b"ok", via=b"1.0"),
        reused=False,
    ),
    good(
        "an answer in HTTP/1.0 that goes on",
        "RFC 9112, 9.3",
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + _TWO,
        seen(body=b"ok", via=b"1.0"),
    ),
    good(
        "a body until the end of the connection",
        "RFC 9112, 6.3",
        (_OK + b"\r\nhel", b"lo"),
        seen(chunked=b"hello"),
        then="close",
    ),
    good(
        "a body until the end of the connection, in HTTP/1.0",
        "RFC 9112, 6.3",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
        seen(chunked=b"hello", via=b"1.0"),
        then="close",
    ),
    good(
        "a body until the end of the connection, to an old client",
        "RFC 9112, 6.3",
        _OK + b"\r\nhello",
        seen(connection=b"close") + b"hello",
        asks=ask(b"GET /x HTTP/1.0", b"Connection: keep-alive"),
        then="close",
    ),
    good(
        "nothing until the end of the connection",
        "RFC 9112, 6.3",
        _OK + b"\r\n",
        seen(chunked=b""),
        then="close",
    ),
    # -- answers without a body -------------------------------------------------------------------
    good(
        "a length to HEAD",
        "RFC 9110, 9.3.2",
        _OK + b"Content-Length: 1000\r\n\r\n",
        seen(length=1000),
        asks=_HEAD,
    ),
    good("chunks to HEAD", "RFC 9110, 9.3.2", _OK + _TE + b"\r\n", seen(), asks=_HEAD),
    good("no length to HEAD", "RFC 9110, 9.3.2", _OK + b"\r\n", seen(), asks=_HEAD),
    good(
        "204",
        "RFC 9110, 15.3.5",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        seen(b"HTTP/1.1 204 No Content"),
    ),
    good(
        "204 with a length of 0",
        "RFC 9110, 8.6",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        seen(b"HTTP/1.1 204 No Content"),
    ),
    good(
        "205 with a length of 0",
        "RFC 9110, 15.3.6",
        b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        seen(b"HTTP/1.1 205 Reset Content", length=0),
    ),
    good(
        "304",
        "RFC 9110, 15.4.5",
        b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n',
        seen(b"HTTP/1.1 304 Not Modified", b'ETag: "1"'),
    ),
    good(
        "304 with a length",
        "RFC 9110, 8.6",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
        seen(b"HTTP/1.1 304 Not Modified", length=1000),
    ),
    good(
        "304 with a coding",
        "RFC 9112, 6.1",
        b"HTTP/1.1 304 Not Modified\r\n" + _TE + b"\r\n",
        seen(b"HTTP/1.1 304 Not Modified"),
    ),
    # -- interim answers ------------------------------------------------------------------------
    good(
        "early hints",
        "RFC 8297",
        _HINT + _OK + _TWO,
        _HINT + seen(body=b"ok"),
        count=2,
    ),
    good(
        "early hints in a write of their own",
        "RFC 8297",
        (_HINT, _OK + _TWO),
        _HINT + seen(body=b"ok"),
        count=2,
    ),
    good(
        "many interim answers",
        "RFC 9110, 15.2",
        (_HINT * 8, b"HTTP/1.1 102 Processing\r\n\r\n" * 8, _OK + _TE + _CHUNKS),
        _HINT * 8 + b"HTTP/1.1 102 Processing\r\n\r\n" * 8 + seen(chunked=b"hello"),
        count=17,
    ),
    good(
        "early hints to HEAD",
        "RFC 8297",
        _HINT + _OK + b"Content-Length: 5\r\n\r\n",
        _HINT + seen(length=5),
        asks=_HEAD,
        count=2,
    ),
    good(
        "fields of one hop on early hints",
        "RFC 9110, 7.6.1",
        b"HTTP/1.1 103 Early Hints\r\nConnection: x-a\r\nX-A: 1\r\nLink: <b>\r\n\r\n" + _OK + _TWO,
        b"HTTP/1.1 103 Early Hints\r\nLink: <b>\r\n\r\n" + seen(body=b"ok"),
        count=2,
    ),
    good(
        "early hints to an old client",
        "RFC 9110, 15.2",
        _HINT + _OK + _TWO,
        seen(body=b"ok", connection=b"close"),
        asks=_OLD,
    ),
    good(
        "100 Continue that nobody asked for",
        "RFC 9110, 15.2.1",
        b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + _TWO,
        seen(body=b"ok"),
    ),
    good(
        "100 Continue",
        "RFC 9110, 15.2.1",
        b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + _TWO,
        b"HTTP/1.1 100 Continue\r\n\r\n" + seen(body=b"ok"),
        asks=ask(b"PUT /x HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 2", body=b"hi"),
        count=2,
    ),
)
