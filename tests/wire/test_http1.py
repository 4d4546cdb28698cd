"""Message heads: what they mean, that reads do not matter, and what is no head at all."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.errors import BadRequest, UpstreamFailed
from rtgateway.wire.http1 import (
    HeadLimits,
    RequestHead,
    RequestParser,
    ResponseHead,
    ResponseParser,
)
from tests.core.profile import PROPERTY
from tests.wire.messages import answers, request_heads, requests
from tests.wire.splits import CUTS, cut, mutated

_LIMITS = HeadLimits(line=64, size=256, count=8)
_GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


def _request(head: bytes, limits: HeadLimits = _LIMITS) -> RequestHead:
    parsed = RequestParser(limits).feed(head)
    assert parsed is not None
    return parsed


def _answer(head: bytes, *, to_head: bool = False) -> ResponseHead:
    parser = ResponseParser(_LIMITS)
    parser.to_head = to_head
    parsed = parser.feed(head)
    assert parsed is not None
    return parsed


def _meaning(head: RequestHead) -> object:
    return head.method, head.target, head.version, head.fields, head.length, head.keep_alive


def requests_in(pieces: Iterable[bytes]) -> list[object]:
    """What a stream says: heads up to the first that has a body or is the last; or an error."""
    parser = RequestParser(_LIMITS)
    said: list[object] = []
    for piece in pieces:
        data = piece
        while data:
            try:
                head = parser.feed(data)
            except BadRequest:
                return [*said, "bad"]
            if head is None:
                break
            said.append(_meaning(head))
            if head.length or not head.keep_alive:
                return said
            data = parser.rest
    return said


class RequestHeadTests(SynchronousTestCase):
    """What a request's head tells."""

    def test_its_parts(self) -> None:
        """Method, target and fields as they were sent; steering fields by their names."""
        head = _request(
            b"PUT /x?a HTTP/1.1\r\nHost: a\r\nX-Field:\t1 \r\ncontent-length: 007\r\n\r\n"
        )
        self.assertEqual((head.method, head.target, head.version), (b"PUT", b"/x?a", 11))
        self.assertEqual(head.fields[1], (b"x-field", b"X-Field", b"1"))
        self.assertEqual(head.named, {b"host": b"a", b"content-length": b"007"})
        self.assertEqual(head.length, 7)
        self.assertEqual(repr(head), "<RequestHead PUT 3 fields>")

    def test_a_steering_field_that_stands_twice(self) -> None:
        """Its values are joined by a comma, which none may hold that must not stand twice."""
        head = _request(b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\nHOST: b\r\n\r\n")
        self.assertEqual(head.named[b"host"], b"a, b")

    def test_how_long_the_connection_lasts(self) -> None:
        """RFC 9112, 9.3."""
        for version, connection, lasts in (
            (b"1.1", b"x: y", True),
            (b"1.1", b"Connection: close", False),
            (b"1.1", b"Connection: x, CLOSE", False),
            (b"1.1", b"Connection: keep-alive, close", False),
            (b"1.1", b"Connection: closed", True),
            (b"1.0", b"x: y", False),
            (b"1.0", b"Connection: keep-alive", True),
            (b"1.0", b"Connection: x, Keep-Alive", True),
            (b"1.0", b"Connection: keep-alive, close", False),
        ):
            head = _request(b"GET / HTTP/%b\r\nHost: a\r\n%b\r\n\r\n" % (version, connection))
            self.assertEqual(head.keep_alive, lasts, (version, connection))

    def test_the_lines_that_go_on(self) -> None:
        """Not those of this hop, nor those that are written anew."""
        head = _request(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-b:1\r\nConnection: x-c\r\nX-C: 2\r\nTE: x\r\n"
            b"Forwarded: for=b\r\nX-Request-Id: d\r\n\r\n"
        )
        self.assertEqual(head.passed_on, b"X-b: 1\r\n")

    def test_a_request_with_a_body_is_not_the_last(self) -> None:
        """What comes behind a head is handed back; the next head is read as if it were alone."""
        parser = RequestParser(_LIMITS)
        head = parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + _GET)
        assert head is not None
        self.assertEqual((head.length, parser.rest), (2, b"hi" + _GET))
        self.assertIsNotNone(parser.feed(_GET))
        self.assertEqual(parser.rest, b"")
        self.assertTrue(parser.between_messages)

    def test_the_same_head_again(self) -> None:
        """It means the same; another one in between does not change that."""
        parser = RequestParser(_LIMITS)
        heads = [parser.feed(data) for data in (_GET, _GET, _GET.replace(b"x", b"y"), _GET)]
        self.assertEqual([head.target for head in heads if head], [b"/x", b"/x", b"/y", b"/x"])

    def test_half_a_head(self) -> None:
        """It is kept; the rest of it, and nothing else, makes it whole."""
        parser = RequestParser(_LIMITS)
        self.assertIsNone(parser.feed(_GET[:10]))
        self.assertFalse(parser.between_messages)
        head = parser.feed(_GET[10:])
        self.assertEqual(head and head.target, b"/x")

    @PROPERTY
    @given(mutated(st.lists(requests(), min_size=1, max_size=3).map(b"".join)), CUTS)
    def test_any_split(self, data: bytes, cuts: list[int]) -> None:
        """A stream says the same however it arrives, mistakes included."""
        whole = requests_in([data])
        self.assertEqual(requests_in(cut(data, cuts)), whole)
        self.assertEqual(requests_in([bytes([byte]) for byte in data]), whole)

    @PROPERTY
    @given(st.lists(mutated(request_heads()), min_size=2, max_size=4))
    def test_each_for_itself(self, heads: list[bytes]) -> None:
        """What one request was changes nothing in how the next is read."""
        whole = RequestParser(_LIMITS)
        for data in heads:
            alone = RequestParser(_LIMITS)
            try:
                expected = alone.feed(data) if data else None
            except BadRequest:
                with self.assertRaises(BadRequest):
                    whole.feed(data)
                return
            if expected is None or alone.rest:
                return
            again = whole.feed(data)
            assert again is not None
            self.assertEqual(_meaning(again), _meaning(expected))


class RefusedRequestTests(SynchronousTestCase):
    """What is answered before it is a request."""

    def _status(self, *pieces: bytes) -> int:
        parser = RequestParser(_LIMITS)
        with self.assertRaises(BadRequest) as refusal:
            for piece in pieces:
                parser.feed(piece)
        status: int = refusal.exception.status
        return status

    def test_a_line_too_long(self) -> None:
        """414, as soon as it is too long; a line of just the limit is served."""
        line = b"GET /%b HTTP/1.1" % (b"a" * 50)
        self.assertEqual(len(line), 64)
        self.assertEqual(_request(line + b"\r\nHost: a\r\n\r\n").method, b"GET")
        longer = line.replace(b"/", b"/a", 1)
        self.assertEqual(self._status(longer + b"\r\nHost: a\r\n\r\n"), 414)
        self.assertEqual(self._status(longer), 414)
        self.assertEqual(self._status(*[b"a"] * 65), 414)

    def test_a_head_too_large(self) -> None:
        """431, as soon as it is too large; a head of just the limit is served."""
        fields = [b"X: " + b"a" * 45] * 4
        filler = b"X: " + b"a" * (256 - len(b"\r\n".join([_GET[:-4], *fields, b"X: ", b"", b""])))
        fits = b"\r\n".join([_GET[:-4], *fields, filler, b"", b""])
        self.assertEqual(len(fits), 256)
        self.assertEqual(_request(fits).method, b"GET")
        larger = fits.replace(b"X: a", b"X: aa", 1)
        self.assertEqual(self._status(larger), 431)
        self.assertEqual(self._status(larger[:-2] + b"aa"), 431)

    def test_a_head_too_large_for_a_limit_below_that_of_its_line(self) -> None:
        """431: the smaller limit holds."""
        parser = RequestParser(HeadLimits(line=64, size=40))
        with self.assertRaises(BadRequest) as refusal:
            parser.feed(_GET[:-2] + b"X-Field: 1234\r\n\r\n")
        self.assertEqual(refusal.exception.status, 431)

    def test_too_many_fields(self) -> None:
        """431 for one more than the limit."""
        fits = _GET[:-2] + b"X: 1\r\n" * 7 + b"\r\n"
        self.assertEqual(len(_request(fits).fields), 8)
        self.assertEqual(self._status(fits[:-2] + b"X: 1\r\n\r\n"), 431)

    def test_other_versions_and_methods(self) -> None:
        """505 and 501; what only looks like one of them is a 400."""
        for line, status in (
            (b"GET / HTTP/2.0", 505),
            (b"GET / HTTP/0.9", 505),
            (b"GET / HTTP/1.10", 400),
            (b"GET / HTTPS/1.1", 400),
            (b"BREW / HTTP/1.1", 501),
            (b"get / HTTP/1.1", 501),
            (b"DESCRIBE / HTTP/1.1", 501),
            (b"GETS / HTTP/1.1", 501),
            (b"G\xc3\x8bT / HTTP/1.1", 400),
            (b"GET\t/ HTTP/1.1", 400),
        ):
            self.assertEqual(self._status(line + b"\r\nHost: a\r\n\r\n"), status, line)

    def test_what_can_not_become_a_head_is_refused_at_once(self) -> None:
        """Not when the client's time is over."""
        for data in (
            b"\n",
            b"\r\r",
            b"\r\n\r\n\r\n",
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\n",
            b" GET",
        ):
            self.assertEqual(self._status(data), 400, data)


class ResponseHeadTests(SynchronousTestCase):
    """What an answer's head tells."""

    def test_its_parts(self) -> None:
        """Status, fields, and what of it goes on."""
        head = _answer(
            b"HTTP/1.1 404 Not\tthere\r\nX-b:1\r\nConnection: X-C\r\nX-C: 2\r\n"
            b"Content-Length: 02\r\n\r\n"
        )
        self.assertEqual((head.status, head.length, head.announced), (404, 2, 2))
        self.assertEqual(head.passed_on, b"HTTP/1.1 404 Not\tthere\r\nX-b: 1\r\n")
        self.assertEqual(head.fields[0], (b"x-b", b"X-b", b"1"))
        self.assertEqual(repr(head), "<ResponseHead 404 length=2 4 fields>")

    def test_how_long_the_body_is(self) -> None:
        """RFC 9112, 6.3: a length, -1 for chunks, -2 for all until the end."""
        length, coding = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"
        for line, fields, to_head, expected in (
            (b"200 OK", length, False, (5, 5)),
            (b"200 OK", coding, False, (-1, -1)),
            (b"200 OK", b"", False, (-2, -1)),
            (b"200 OK", length, True, (0, 5)),
            (b"200 OK", coding, True, (0, -1)),
            (b"200 OK", b"", True, (0, -1)),
            (b"304 Same", length, False, (0, 5)),
            (b"304 Same", b"", False, (0, -1)),
            (b"204 None", b"", False, (0, -1)),
            (b"204 None", b"Content-Length: 0\r\n", False, (0, -1)),
            (b"103 Hints", b"", False, (0, -1)),
        ):
            head = _answer(b"HTTP/1.1 %b\r\n%b\r\n" % (line, fields), to_head=to_head)
            self.assertEqual((head.length, head.announced), expected, (line, fields))

    def test_how_long_the_connection_lasts(self) -> None:
        """Never longer than a body that only its end ends."""
        for head, lasts in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
            (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", False),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        ):
            self.assertEqual(_answer(head).keep_alive, lasts, head)

    def test_the_same_head_to_another_method(self) -> None:
        """What was said to GET is not taken for what is said to HEAD, nor the other way round."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Same: 1\r\n\r\n"
        lengths = [_answer(head, to_head=to_head).length for to_head in (False, True, False, True)]
        self.assertEqual(lengths, [3, 0, 3, 0])

    @PROPERTY
    @given(mutated(answers()), CUTS, st.booleans())
    def test_any_split(self, data: bytes, cuts: list[int], to_head: bool) -> None:
        """An answer's head says the same however it arrives, mistakes included."""

        def said(pieces: Iterable[bytes]) -> object:
            parser = ResponseParser(_LIMITS)
            parser.to_head = to_head
            rest = iter(pieces)
            for piece in rest:
                try:
                    head = parser.feed(piece)
                except UpstreamFailed:
                    return "bad"
                if head is not None:
                    framing = head.status, head.length, head.announced, head.keep_alive
                    return framing, head.fields, parser.rest + b"".join(rest)
            return None

        whole = said([data] if data else [])
        self.assertEqual(said(cut(data, cuts)), whole)
        self.assertEqual(said(bytes([byte]) for byte in data), whole)

    @PROPERTY
    @given(st.lists(answers(), min_size=2, max_size=4))
    def test_each_for_itself(self, said: list[bytes]) -> None:
        """What one answer was changes nothing in how the next is read."""
        parser = ResponseParser(_LIMITS)
        for data in said:
            try:
                expected = ResponseParser(_LIMITS).feed(data)
            except UpstreamFailed:
                with self.assertRaises(UpstreamFailed):
                    parser.feed(data)
                return
            again = parser.feed(data)
            assert again is not None
            assert expected is not None
            self.assertEqual((again.status, again.length), (expected.status, expected.length))
            self.assertEqual(again.fields, expected.fields)


class RefusedAnswerTests(SynchronousTestCase):
    """What is no answer."""

    def test_at_once(self) -> None:
        """As soon as it can't become one."""
        for data in (
            b"\r\n\r\n",
            b"<",
            b"HTTP/2",
            b"HTTP/1.1 200 OK\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300,
            b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 9 + b"\r\n",
            b"HTTP/1.1 600 Odd\r\n\r\n",
            b"HTTP/1.1 200 O\0K\r\n\r\n",
            b"HTTP/1.1 204 None\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        ):
            with self.assertRaises(UpstreamFailed, msg=repr(data)):
                ResponseParser(_LIMITS).feed(data)
