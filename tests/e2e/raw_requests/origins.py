"""Who asks, and by which way: RFC 7239, RFC 9110 7.6.3, Trace Context, the PROXY protocol."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on, stranger

__all__ = ["ROWS"]

_GET = b"GET /x HTTP/1.1"
_PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 51000 80\r\n"
_PROXY = "PROXY protocol"


def _made_anew(name: str, rfc: str, *fields: bytes) -> Row:
    return passed(name, rfc, ask(_GET, *fields, b"X-Kept: 1"), sent_on(_GET, b"X-Kept: 1"))


def _id(name: str, value: bytes, *, kept: bool) -> Row:
    seen = sent_on(_GET, request_id=value) if kept else sent_on(_GET)
    says = (b"X-Request-Id: %b\r\n" % value,)
    sends = ask(_GET, b"x-request-id: " + value)
    if kept:
        return passed(name, "x-request-id", sends, seen, says=says)
    return passed(name, "x-request-id", sends, seen, says_not=says)


def _trace(name: str, value: bytes, *, kept: bool) -> Row:
    state = b"tracestate: a=1"
    sends = ask(_GET, b"traceparent: " + value, state)
    if kept:
        return passed(name, "Trace Context, 3.2", sends, sent_on(_GET, state, trace=value))
    return passed(name, "Trace Context, 4.3", sends, sent_on(_GET))


def _behind(name: str, *fields: bytes, told: tuple[bytes, ...], rfc: str = "RFC 7239, 5.2") -> Row:
    """What a trusted proxy says, and what the instance is told."""
    lines = [
        told[0],
        b"X-Forwarded-Proto: " + told[1],
        b"X-Forwarded-Host: " + told[2],
        b"X-Forwarded-Port: " + told[3],
        told[4],
    ]
    return passed(
        name,
        rfc,
        ask(_GET, *fields),
        sent_on(_GET, forwarding=tuple(lines)),
        listener="trusting",
    )


def _by_proxy(name: str, header: bytes, client: bytes) -> Row:
    seen = sent_on(_GET, forwarding=stranger(client=client))
    return passed(name, _PROXY, header + ask(_GET), seen, listener="trusting_proxied")


def _no_proxy(name: str, header: bytes, listener: str = "trusting_proxied") -> Row:
    return refused(name, _PROXY, header + ask(_GET), listener=listener)


def _v2(command: int, family: int, addresses: bytes) -> bytes:
    return _V2 + bytes([command, family]) + len(addresses).to_bytes(2, "big") + addresses


_IPV4 = bytes([203, 0, 113, 7, 192, 0, 2, 1]) + b"\xc7\x38\x00\x50"
_IPV6 = bytes.fromhex("20010db8000000000000000000000007") * 2 + b"\xc7\x38\x00\x50"
_SELF = b"for=127.0.0.1;host=test;proto=http"

ROWS = (
    # -- what a stranger says ------------------------------------------------------------------
    _made_anew("X-Forwarded-For of a stranger", "RFC 7239, 8.1", b"X-Forwarded-For: 10.0.0.1"),
    _made_anew(
        "all forwarding fields of a stranger",
        "RFC 7239, 8.1",
        b"X-Forwarded-For: 10.0.0.1, 10.0.0.2",
        b"x-forwarded-for: 10.0.0.3",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: other.example",
        b"X-Forwarded-Port: 443",
        b"Forwarded: for=10.0.0.1;proto=https;host=other.example",
    ),
    # -- what a trusted proxy says -------------------------------------------------------------
    _behind(
        "nothing said by a trusted proxy",
        told=(
            b"X-Forwarded-For: 127.0.0.1",
            b"http",
            b"test",
            b"<port>",
            b"Forwarded: " + _SELF,
        ),
    ),
    _behind(
        "all X-Forwarded fields of a trusted proxy",
        b"X-Forwarded-For: 203.0.113.7",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: shop.example",
        b"X-Forwarded-Port: 443",
        told=(
            b"X-Forwarded-For: 203.0.113.7, 127.0.0.1",
            b"https",
            b"shop.example",
            b"443",
            b"Forwarded: for=203.0.113.7;host=shop.example;proto=https, " + _SELF,
        ),
        rfc="RFC 7239, 7.4",
    ),
    _behind(
        "Forwarded of a trusted proxy",
        b'Forwarded: for="[2001:db8::7]:51000";proto=https, for=10.0.0.1',
        told=(
            b"X-Forwarded-For: 2001:db8::7, 10.0.0.1, 127.0.0.1",
            b"http",
            b"test",
            b"<port>",
            b'Forwarded: for="[2001:db8::7]:51000";proto=https, for=10.0.0.1, ' + _SELF,
        ),
        rfc="RFC 7239, 4",
    ),
    _behind(
        "X-Forwarded-For in two fields",
        b"X-Forwarded-For: 203.0.113.7",
        b"X-Forwarded-For: 10.0.0.1",
        told=(
            b"X-Forwarded-For: 203.0.113.7, 10.0.0.1, 127.0.0.1",
            b"http",
            b"test",
            b"<port>",
            b"Forwarded: for=203.0.113.7, for=10.0.0.1, " + _SELF,
        ),
        rfc="RFC 7239, 7.4",
    ),
    _behind(
        "what is no protocol, no host and no port",
        b"X-Forwarded-Proto: javascript",
        b"X-Forwarded-Host: a b",
        b"X-Forwarded-Port: 99999999",
        told=(
            b"X-Forwarded-For: 127.0.0.1",
            b"http",
            b"test",
            b"<port>",
            b"Forwarded: " + _SELF,
        ),
    ),
    # -- request ids ---------------------------------------------------------------------------
    _id("a request id", b"3f1c-42:a/b+c=d@e~f_g.h", kept=True),
    _id("a request id of one character", b"x", kept=True),
    _id("a request id of 128 characters", b"x" * 128, kept=True),
    _id("a request id of 129 characters", b"x" * 129, kept=False),
    _id("a request id with a space", b"a b", kept=False),
    _id("a request id with quotes", b'a"b', kept=False),
    _id("a request id of markup", b"<script>", kept=False),
    _id("a request id beyond ASCII", b"\xc3\xbc", kept=False),
    _made_anew("an empty request id", "x-request-id", b"X-Request-Id:"),
    _made_anew("two request ids", "x-request-id", b"X-Request-Id: a", b"X-Request-Id: b"),
    # -- traces --------------------------------------------------------------------------------
    _trace("a trace", _PARENT, kept=True),
    _trace("a trace of a later version", b"01" + _PARENT[2:] + b"-more", kept=True),
    _trace("a trace of no version", b"ff" + _PARENT[2:], kept=False),
    _trace("a trace in capitals", _PARENT.upper(), kept=False),
    _trace("a trace of zeros", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", kept=False),
    _trace(
        "a trace without a parent",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        kept=False,
    ),
    _trace("a trace that goes on", _PARENT + b"-more", kept=False),
    _trace("a trace that is cut off", _PARENT[:-1], kept=False),
    _made_anew(
        "two traces", "Trace Context, 3.2", b"traceparent: " + _PARENT, b"Traceparent: " + _PARENT
    ),
    _made_anew("a state without a trace", "Trace Context, 3.3", b"tracestate: a=1"),
    # -- the PROXY protocol --------------------------------------------------------------------
    _by_proxy("version 1 over IPv4", _V1, b"203.0.113.7"),
    _by_proxy(
        "version 1 over IPv6",
        b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 80\r\n",
        b"2001:db8::7",
    ),
    _by_proxy("version 2 over IPv4", _v2(0x21, 0x11, _IPV4), b"203.0.113.7"),
    _by_proxy("version 2 over IPv6", _v2(0x21, 0x21, _IPV6), b"2001:db8::7"),
    _by_proxy("version 2 with extensions", _v2(0x21, 0x11, _IPV4 + b"\x04\0\x01x"), b"203.0.113.7"),
    _by_proxy("version 1, client unknown", b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
    _by_proxy("version 2, a health check of the proxy", _v2(0x20, 0x00, b""), b"127.0.0.1"),
    passed(
        "a client behind a proxy is a stranger",
        _PROXY,
        _V1 + ask(_GET, b"X-Forwarded-For: 10.0.0.1"),
        sent_on(_GET, forwarding=stranger(client=b"203.0.113.7")),
        listener="trusting_proxied",
    ),
    _no_proxy("no PROXY header where there must be one", b""),
    _no_proxy("a PROXY header in lower case", b"proxy" + _V1[5:]),
    _no_proxy("a PROXY header with a bare LF", _V1[:-2] + b"\n"),
    _no_proxy("a PROXY header with a bad address", _V1.replace(b"203", b"303")),
    _no_proxy("a PROXY header with a bad port", _V1.replace(b"51000", b"66000")),
    _no_proxy("version 2 of another version", _v2(0x31, 0x11, _IPV4)),
    _no_proxy("version 2 with too few bytes", _v2(0x21, 0x11, _IPV4[:-1])),
    _no_proxy("a PROXY header of a stranger", _V1, "proxied"),
    refused("a PROXY header where there is none", _PROXY, _V1 + ask(_GET), status=501),
)
