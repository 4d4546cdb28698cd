"""Requests and answers as somebody may write them, for properties."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["answers", "request_heads", "requests"]

_TARGETS = st.sampled_from(
    [b"/", b"/x?a=1&a=2", b"/%2e%zz", b"*", b"http://a/x", b"http://a", b"//b/x", b"/a\\b", b"x"]
)
_VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"])
_METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"BREW"])
_VALUES = st.sampled_from(
    [b"1", b"", b" \t1 ", b"a, b", b'"a\\"b"', b"x\xff", b"close", b"keep-alive", b"x-field"]
)
_FRAMING = st.sampled_from(
    [
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"content-length:  5 ",
        b"Content-Length: 05",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 38",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: Chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
    ]
)
_STEERING = st.sampled_from(
    [
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: content-length, transfer-encoding, host",
        b"Connection: x-field, TE",
        b"Connection: upgrade",
        b"Proxy-Connection: close",
        b"Proxy-Connection: keep-alive",
        b"Upgrade: websocket",
        b"TE: trailers",
        b"Trailer: X-Sum",
        b"Expect: 100-continue",
        b"Host: b",
        b"X-Request-Id: abc",
        b"Forwarded: for=1.2.3.4",
    ]
)
_OTHERS = st.builds(
    lambda name, value: name + b":" + value,
    st.sampled_from([b"X-Field", b"x-field", b"Cookie", b"Content_Length", b"Accept"]),
    _VALUES,
)
_CHUNKS = st.sampled_from(
    [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"1;x\r\nh\r\n4\r\nello\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n",
        b"26\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n\r\n0\r\n\r\n",
    ]
)
_BODIES = st.one_of(
    st.just(b""),
    st.just(b"hello"),
    st.just(b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"),
    _CHUNKS,
)


@st.composite
def request_heads(draw: st.DrawFn) -> bytes:
    """Heads, most of them good; more fields that steer something than anybody sends."""
    line = b" ".join([draw(_METHODS), draw(_TARGETS), draw(_VERSIONS)])
    fields = draw(st.lists(st.one_of(_OTHERS, _OTHERS, _STEERING, _FRAMING), max_size=5))
    lines = [line, *draw(st.sampled_from([[b"Host: a"]] * 9 + [[]])), *fields, b"", b""]
    return b"\r\n".join(lines)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Heads with something behind them that may be a body."""
    return draw(request_heads()) + draw(_BODIES)


_STATUS_LINES = st.sampled_from(
    [
        *[b"HTTP/1.1 200 OK"] * 5,
        *(b"HTTP/1.1 204 None", b"HTTP/1.1 304 Same", b"HTTP/1.1 404 ", b"HTTP/1.1 500"),
        *(b"HTTP/1.0 200 OK", b"HTTP/1.1 103 Hints", b"HTTP/1.1 101 Other", b"HTTP/1.1 20 OK"),
    ]
)
_ANSWER_FIELDS = st.sampled_from(
    [
        *(b"Set-Cookie: a=1", b"set-cookie: b=2", b"X-Field: 1", b"Keep-Alive: 5", b"Upgrade: x"),
        *(
            b"Connection: close",
            b"Proxy-Connection: close",
            b"Content-Type: text/plain",
            b"Via: 1.1 a",
        ),
        *(b"X-Request-Id: other", b"Date: Sun, 06 Nov 1994 08:49:37 GMT"),
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers, most of them good."""
    fields = draw(st.lists(st.one_of(_ANSWER_FIELDS, _ANSWER_FIELDS, _FRAMING), max_size=4))
    return b"\r\n".join([draw(_STATUS_LINES), *fields, b"", draw(_BODIES)])
