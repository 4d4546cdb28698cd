"""Host and the four forms of a target: RFC 9112, 3.2; RFC 9110, 7.2."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["ROWS"]

_GET = b"GET /x HTTP/1.1"


def _host(name: str, host: bytes, rfc: str = "RFC 9112, 3.2") -> Row:
    return refused(name, rfc, ask(_GET, host=host))


def _good(name: str, host: bytes, rfc: str = "RFC 9110, 7.2") -> Row:
    return passed(name, rfc, ask(_GET, host=host), sent_on(_GET, host=host))


def _absolute(name: str, target: bytes, host: bytes = b"test", rfc: str = "RFC 9112, 3.2.2") -> Row:
    return refused(name, rfc, ask(b"GET %b HTTP/1.1" % target, host=host))


ROWS = (
    # -- good ones -----------------------------------------------------------------------------
    _good("a host with a port", b"test:8080"),
    _good("a host with an empty port", b"test:"),
    _good("a host in capitals", b"TEST.Example"),
    _good("a host with a dot at its end", b"test.example."),
    _good("an IPv4 address", b"192.0.2.1:80"),
    _good("an IPv6 address", b"[2001:db8::1]"),
    _good("an IPv6 address with a port", b"[2001:db8::1]:443"),
    passed(
        "a host kept for the service",
        "RFC 9110, 7.2",
        ask(b"GET /hosted HTTP/1.1", host=b"Shop.Example:81"),
        sent_on(b"GET /hosted HTTP/1.1", host=b"Shop.Example:81", to=b"Shop.Example:81"),
    ),
    passed(
        "a host that Connection lists",
        "RFC 9110, 7.6.1",
        ask(_GET, b"Connection: host"),
        sent_on(_GET),
    ),
    # -- bad ones ------------------------------------------------------------------------------
    refused("no host", "RFC 9112, 3.2", b"GET /x HTTP/1.1\r\nX-Field: 1\r\n\r\n"),
    refused("two hosts", "RFC 9112, 3.2", ask(_GET, b"Host: other")),
    refused("the same host twice", "RFC 9112, 3.2", ask(_GET, b"Host: test")),
    refused(
        "two hosts in HTTP/1.0",
        "RFC 9112, 3.2",
        ask(b"GET /x HTTP/1.0", b"Host: other"),
    ),
    _host("an empty host", b""),
    _host("a host of white space", b" \t"),
    _host("a port without a host", b":80"),
    _host("two hosts in one field", b"test, other"),
    _host("a space within a host", b"te st"),
    _host("a host with a user", b"user@test", "RFC 9110, 4.2.4"),
    _host("a host with a user and a password", b"user:secret@test:80", "RFC 9110, 4.2.4"),
    _host("a host with a path", b"test/other"),
    _host("a host with a query", b"test?x"),
    _host("a host with a fragment", b"test#x"),
    _host("a host with a backslash", b"test\\other"),
    _host("a URI for a host", b"http://test"),
    _host("a port that is no number", b"test:http", "RFC 3986, 3.2.3"),
    _host("a port beyond 65535", b"test:65536", "RFC 3986, 3.2.3"),
    _host("a port below zero", b"test:-1", "RFC 3986, 3.2.3"),
    _host("two ports", b"test:80:81", "RFC 3986, 3.2.3"),
    _host("an IPv6 address without brackets", b"2001:db8::1", "RFC 3986, 3.2.2"),
    _host("an IPv6 address that is none", b"[2001:db8::1::2]", "RFC 3986, 3.2.2"),
    _host("a bracket that is not closed", b"[2001:db8::1", "RFC 3986, 3.2.2"),
    _host("a host in brackets", b"[test]", "RFC 3986, 3.2.2"),
    _host("text behind an IPv6 address", b"[2001:db8::1]x", "RFC 3986, 3.2.2"),
    _host("an IPv6 address with a zone", b"[fe80::1%25eth0]", "RFC 3986, 3.2.2"),
    _host("a broken percent-encoding in a host", b"te%4", "RFC 3986, 3.2.2"),
    _host("a byte beyond ASCII in a host", b"t\xc3\xa9st", "RFC 3986, 3.2.2"),
    _host("a host of 256 characters", b"a" * 256, "RFC 3986, 3.2.2"),
    # -- absolute-form -------------------------------------------------------------------------
    passed(
        "an absolute target",
        "RFC 9112, 3.2.2",
        ask(b"GET http://test/x?a=1 HTTP/1.1"),
        sent_on(b"GET /x?a=1 HTTP/1.1"),
    ),
    passed(
        "an absolute target with scheme and host in capitals",
        "RFC 9110, 4.2.3",
        ask(b"GET HTTP://TEST/x HTTP/1.1"),
        sent_on(b"GET /x HTTP/1.1", host=b"TEST"),
    ),
    passed(
        "an absolute https target, as a proxy before may pass it on",
        "RFC 9112, 3.2.2",
        ask(b"GET https://test/x HTTP/1.1"),
        sent_on(b"GET /x HTTP/1.1"),
    ),
    passed(
        "an absolute target without a path, but with a query",
        "RFC 9112, 3.2.1",
        ask(b"GET http://all.example?a=1 HTTP/1.1", host=b"all.example"),
        sent_on(b"GET /?a=1 HTTP/1.1", host=b"all.example"),
    ),
    passed(
        "an absolute target without a path",
        "RFC 9112, 3.2.1",
        ask(b"GET http://all.example HTTP/1.1", host=b"all.example"),
        sent_on(b"GET / HTTP/1.1", host=b"all.example"),
    ),
    passed(
        "an absolute target in HTTP/1.0 without a host",
        "RFC 9112, 3.2.2",
        b"GET http://test/x HTTP/1.0\r\n\r\n",
        sent_on(via=b"1.0"),
        closed=True,
    ),
    _absolute("an absolute target that is not its Host", b"http://other/x"),
    _absolute("an absolute target whose port is not its Host's", b"http://test:81/x"),
    _absolute("an absolute target with the name of the instance", b"http://127.0.0.1:9/x"),
    _absolute("an absolute target with a user", b"http://user@test/x", rfc="RFC 9110, 4.2.4"),
    _absolute("an absolute target without a host", b"http:///x", rfc="RFC 9110, 4.2.1"),
    _absolute("an absolute target with a bad port", b"http://test:x/x", b"test:x"),
    _absolute("an absolute target with a bad address", b"http://[::g]/x", b"[::g]"),
    _absolute("an absolute target of another scheme", b"ftp://test/x", rfc="RFC 9110, 4.2"),
    _absolute("an absolute target that names a file", b"file:///etc/passwd", rfc="RFC 9110, 4.2"),
    _absolute("an absolute target with one slash", b"http:/test/x"),
    _absolute("an absolute target with a backslash", b"http://test\\@other/x"),
    refused(
        "an absolute target without a Host",
        "RFC 9112, 3.2",
        b"GET http://test/x HTTP/1.1\r\n\r\n",
    ),
    # -- other forms ---------------------------------------------------------------------------
    _absolute("a target without a slash", b"x", rfc="RFC 9112, 3.2.1"),
    _absolute("a target that is a query", b"?x", rfc="RFC 9112, 3.2.1"),
    _absolute("a target that is an authority", b"test:80", rfc="RFC 9112, 3.2.3"),
    _absolute("an asterisk without OPTIONS", b"*", rfc="RFC 9112, 3.2.4"),
)
