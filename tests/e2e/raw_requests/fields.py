"""Field lines: RFC 9112, 5; RFC 9110, 5."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["ROWS"]

_GET = b"GET /x HTTP/1.1"


def _bad(name: str, field: bytes, rfc: str = "RFC 9112, 5") -> Row:
    return refused(name, rfc, ask(_GET, field, b"X-Last: 1"))


def _kept(name: str, rfc: str, *fields: bytes) -> Row:
    return passed(name, rfc, ask(_GET, *fields), sent_on(_GET, *fields))


ROWS = (
    # -- kept as they are ----------------------------------------------------------------------
    _kept("the case of names", "RFC 9110, 5.1", b"x-lower: 1", b"X-UPPER: 2", b"x-MiXeD: 3"),
    _kept("the order of fields", "RFC 9110, 5.3", b"X-B: 1", b"X-A: 2", b"X-B: 3", b"Accept: */*"),
    _kept("two fields of one name", "RFC 9110, 5.3", b"Cookie: a=1", b"Cookie: b=2"),
    _kept("a list in one field", "RFC 9110, 5.6.1", b"Accept: a/b ,, c/d;q=0.1,"),
    _kept("a name of all sorts of characters", "RFC 9110, 5.6.2", b"X!#$%&'*+-.^_`|~9: 1"),
    _kept("bytes beyond ASCII in a value", "RFC 9110, 5.5", b"X-Name: J\xc3\xbcrgen \xe9"),
    _kept("a tab within a value", "RFC 9110, 5.5", b"X-Tab: a\tb"),
    _kept("a colon within a value", "RFC 9110, 5.5", b"X-Time: 12:30: late"),
    _kept("a quoted string", "RFC 9110, 5.6.4", b'X-Quoted: "a\\"b, c"'),
    _kept("credentials for the service", "RFC 9110, 11.6.2", b"Authorization: Basic dTpw"),
    _kept("a conditional range", "RFC 9110, 13 and 14", b'If-Range: "v1"', b"Range: bytes=0-1"),
    _kept("what compressions are taken", "RFC 9110, 12.5.3", b"Accept-Encoding: gzip, br;q=0"),
    _kept("a Via of the proxies before", "RFC 9110, 7.6.3", b"Via: 1.0 fred, 1.1 p.example"),
    _kept("a name that only looks like a length", "RFC 9110, 8.6", b"Content_Length: 5"),
    _kept("a name that only looks like a coding", "RFC 9112, 6.1", b"X-Transfer-Encoding: chunked"),
    _kept("the id of the last event", "HTML Standard, 9.2.4", b"Last-Event-ID: 17"),
    passed(
        "white space around values",
        "RFC 9112, 5.1",
        ask(_GET, b"X-None:1", b"X-Much: \t 2 \t ", b"X-Empty:", b"X-Blank: "),
        sent_on(_GET, b"X-None: 1", b"X-Much: 2", b"X-Empty: ", b"X-Blank: "),
    ),
    # -- white space where none may be ---------------------------------------------------------
    _bad("a space before the colon", b"X-Field : 1", "RFC 9112, 5.1"),
    _bad("a tab before the colon", b"X-Field\t: 1", "RFC 9112, 5.1"),
    _bad("a space within the name", b"X Field: 1", "RFC 9110, 5.1"),
    refused(
        "a space before the colon of Content-Length",
        "RFC 9112, 5.1",
        ask(b"POST /x HTTP/1.1", b"Content-Length : 2", body=b"hi"),
    ),
    refused(
        "a space before the colon of Transfer-Encoding",
        "RFC 9112, 5.1",
        ask(b"POST /x HTTP/1.1", b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    ),
    refused(
        "white space before the first field",
        "RFC 9112, 2.2",
        b"GET /x HTTP/1.1\r\n X-Field: 1\r\nHost: test\r\n\r\n",
    ),
    # -- folding -------------------------------------------------------------------------------
    _bad("a folded value", b"X-Field: 1\r\n 2", "RFC 9112, 5.2"),
    _bad("a value folded by a tab", b"X-Field: 1\r\n\t2", "RFC 9112, 5.2"),
    _bad("a fold behind an empty value", b"X-Field:\r\n 2", "RFC 9112, 5.2"),
    _bad("a fold of nothing but a space", b"X-Field: 1\r\n ", "RFC 9112, 5.2"),
    refused(
        "a folded Transfer-Encoding",
        "RFC 9112, 5.2",
        ask(b"POST /x HTTP/1.1", b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    ),
    refused(
        "a folded Host",
        "RFC 9112, 5.2",
        b"GET /x HTTP/1.1\r\nHost: test\r\n .example\r\n\r\n",
    ),
    # -- line ends -----------------------------------------------------------------------------
    _bad("a bare LF behind a value", b"X-Field: 1\nX-Other: 2", "RFC 9112, 2.2"),
    _bad("a bare CR within a value", b"X-Field: 1\rX-Other: 2", "RFC 9112, 2.2"),
    _bad("a bare CR at the end of a value", b"X-Field: 1\r", "RFC 9112, 2.2"),
    _bad("a bare CR within a name", b"X-Fi\reld: 1", "RFC 9112, 2.2"),
    refused(
        "an empty line of LF alone",
        "RFC 9112, 2.2",
        b"GET /x HTTP/1.1\r\nHost: test\r\n\n" + ask(),
    ),
    refused(
        "a length hidden behind a bare LF",
        "RFC 9112, 2.2",
        ask(b"POST /x HTTP/1.1", b"X-Field: 1\nContent-Length: 2", body=b"hi"),
    ),
    # -- what is no field ----------------------------------------------------------------------
    _bad("a line without a colon", b"X-Field"),
    _bad("a line of a colon and a value", b": 1"),
    _bad("a name in brackets", b"X(Field): 1", "RFC 9110, 5.1"),
    _bad("a slash in a name", b"X/Field: 1", "RFC 9110, 5.1"),
    _bad("a byte beyond ASCII in a name", b"X-Fi\xe9ld: 1", "RFC 9110, 5.1"),
    _bad("a NUL in a name", b"X-Fi\0eld: 1", "RFC 9110, 5.1"),
    _bad("a NUL in a value", b"X-Field: 1\x002", "RFC 9110, 5.5"),
    _bad("a NUL for a value", b"X-Field: \0", "RFC 9110, 5.5"),
    _bad("a control character in a value", b"X-Field: 1\x012", "RFC 9110, 5.5"),
    _bad("a vertical tab around a value", b"X-Field:\x0b1", "RFC 9110, 5.5"),
    _bad("a DEL in a value", b"X-Field: 1\x7f", "RFC 9110, 5.5"),
)
