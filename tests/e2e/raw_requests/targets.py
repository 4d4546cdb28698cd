"""Paths and queries: passed on untouched, and never a way to another instance (RFC 3986, 5.2)."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["ROWS"]


def _kept(name: str, target: bytes, rfc: str = "RFC 9110, 7.7") -> Row:
    line = b"GET %b HTTP/1.1" % target
    return passed(name, rfc, ask(line), sent_on(line))


def _mounted(name: str, target: bytes, seen: bytes, rfc: str = "RFC 3986, 3.3") -> Row:
    """Behind the built-in mount, which takes its own two segments off."""
    return passed(name, rfc, ask(b"GET %b HTTP/1.1" % target), sent_on(b"GET %b HTTP/1.1" % seen))


def _dots(name: str, target: bytes) -> Row:
    return refused(name, "RFC 3986, 5.2.4", ask(b"GET %b HTTP/1.1" % target))


def _nowhere(name: str, target: bytes, host: bytes = b"test") -> Row:
    """A target that no route matches."""
    line = b"GET %b HTTP/1.1" % target
    return Row(name, "RFC 9110, 15.5.5", (ask(line, host=host),), answers=(404,))


ROWS = (
    # -- untouched -----------------------------------------------------------------------------
    _kept("a query", b"/x?a=1&b=2"),
    _kept("query keys that stand twice", b"/x?a=1&a=2&b&a=1"),
    _kept("an empty query", b"/x?"),
    _kept("a query of odd characters", b'/x?a[]=%zz&b={}|^`"<>\\&?/:@&=+;'),
    _kept("dots in a query", b"/x?file=../../a&b=/./"),
    _kept("a URI in a query", b"/x?next=http://other.example/%2e%2e/"),
    _kept("percent-encoding in either case", b"/x/%C3%BC/%c3%bc/%41/%7e"),
    _kept("percent-encoding that is none", b"/x/%/%z1/%4"),
    _kept("an encoded slash", b"/x/a%2Fb%2fc"),
    _kept("an encoded backslash", b"/x/a%5Cb"),
    _kept("an encoded percent sign", b"/x/%252e%252e/y"),
    _kept("an encoded NUL", b"/x/a%00b"),
    _kept("encoded line ends", b"/x/a%0d%0aX-Field:%201"),
    _kept("an encoded question mark and number sign", b"/x/a%3Fb%23c"),
    _kept("a backslash in a path", b"/x/a\\b"),
    _kept("empty segments", b"/x//a///b/"),
    _kept("parameters of segments", b"/x/y;v=1/z;a=1,2"),
    _kept("three dots, and dots in names", b"/x/.../a.b/.hidden/b./..c"),
    _kept("an authority in the middle of a path", b"/x/http://other.example/"),
    # -- the built-in mount --------------------------------------------------------------------
    _mounted("the path behind the mount", b"/api/main/users/1?a=b", b"/users/1?a=b"),
    _mounted("the mount alone", b"/api/main", b"/"),
    _mounted("the mount with a query", b"/api/main?a=b", b"/?a=b"),
    _mounted("an authority behind the mount", b"/api/main//evil.example/x", b"//evil.example/x"),
    _mounted(
        "a user and a host behind the mount", b"/api/main/@evil.example/x", b"/@evil.example/x"
    ),
    _mounted("a port behind the mount", b"/api/main/:81/x", b"/:81/x"),
    _mounted(
        "a URI behind the mount", b"/api/main/http://evil.example/x", b"/http://evil.example/x"
    ),
    _mounted("an encoded authority", b"/api/main/%2F%2Fevil.example/x", b"/%2F%2Fevil.example/x"),
    _mounted("a backslash for a slash", b"/api/main/\\evil.example/x", b"/\\evil.example/x"),
    _mounted("a base path in front", b"/api/based/x?y", b"/base/path/x?y"),
    _mounted(
        "a base path and an authority", b"/api/based//evil.example", b"/base/path//evil.example"
    ),
    _mounted("a prefix taken off", b"/cut/x/y?z=/cut", b"/x/y?z=/cut"),
    _mounted("an authority behind a prefix", b"/cut//evil.example/", b"//evil.example/"),
    # -- nowhere -------------------------------------------------------------------------------
    _nowhere("an authority for a path", b"//evil.example/x"),
    _nowhere("a mount behind an authority", b"//evil.example/api/main/x"),
    _nowhere("an empty segment before the mount", b"//api/main/x"),
    _nowhere("an empty segment for a service", b"/api//main/x"),
    _nowhere("a service that is not there", b"/api/evil.example/x"),
    _nowhere("a host for a service", b"/api/127.0.0.1:80/x"),
    _nowhere("the mount in capitals", b"/API/main/x"),
    _nowhere("the mount with an encoded slash", b"/api%2Fmain/x"),
    _nowhere("a service with an encoded letter", b"/api/m%61in/x"),
    _nowhere("a service with an encoded slash behind", b"/api/main%2Fx"),
    _nowhere("a service with a backslash behind", b"/api/main\\x"),
    _nowhere("a prefix that goes on", b"/xy"),
    _nowhere("a prefix with parameters", b"/x;y"),
    # -- another service -----------------------------------------------------------------------
    Row(
        "a path for one host, asked of another",
        "RFC 9110, 7.4",
        (ask(b"GET /other HTTP/1.1", host=b"test"),),
        answers=(404,),
    ),
    Row(
        "another host in the absolute target than in Host",
        "RFC 9112, 3.2.2",
        (ask(b"GET http://other.example/x HTTP/1.1", host=b"test"),),
        answers=(400,),
        closed=True,
    ),
    # -- dot segments --------------------------------------------------------------------------
    _dots("a parent segment", b"/x/../other"),
    _dots("a parent segment at the end", b"/x/.."),
    _dots("a parent segment first", b"/../x"),
    _dots("a segment of one dot", b"/x/./y"),
    _dots("a segment of one dot at the end", b"/x/."),
    _dots("an encoded parent segment", b"/x/%2e%2e/other"),
    _dots("an encoded parent segment in capitals", b"/x/%2E%2E/other"),
    _dots("a parent segment, half of it encoded", b"/x/.%2e/other"),
    _dots("a parent segment, the other half encoded", b"/x/%2E./other"),
    _dots("a parent segment behind an encoded slash", b"/x/a%2f..%2fother"),
    _dots("a parent segment, all of it encoded", b"/x/a%2F%2e%2E%2Fother"),
    _dots("a parent segment between backslashes", b"/x/a\\..\\other"),
    _dots("a parent segment between encoded backslashes", b"/x/a%5c..%5Cother"),
    _dots("a parent segment with parameters", b"/x/..;v=1/other"),
    _dots("a parent segment behind the mount", b"/api/main/../other"),
    _dots("a parent segment for a service", b"/api/../other"),
    _dots("a parent segment before a query", b"/x/..?a=b"),
    _dots("a parent segment in an absolute target", b"http://test/x/../other"),
    # -- fragments -----------------------------------------------------------------------------
    refused("a fragment", "RFC 9112, 3.2", ask(b"GET /x#y HTTP/1.1")),
    refused("an empty fragment", "RFC 9112, 3.2", ask(b"GET /x# HTTP/1.1")),
    refused("a fragment behind a query", "RFC 9112, 3.2", ask(b"GET /x?a#y HTTP/1.1")),
    refused(
        "a fragment in an absolute target", "RFC 9112, 3.2", ask(b"GET http://test/x#y HTTP/1.1")
    ),
)
