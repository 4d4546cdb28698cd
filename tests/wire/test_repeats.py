"""What is recognised means the same as what is seen for the first time (ADR 6)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.wire.http1 import HeadLimits, RequestParser, ResponseHead, ResponseParser
from rtgateway.wire.lines import LineTable

LIMITS = HeadLimits()

REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n",
    b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nhost: a\r\nAuthorization: Bearer t\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"DELETE /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
]

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 200 Fine\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n",
]


def said(head: object) -> object:
    """All that a head tells."""
    if head is None:
        return None
    left_out = {"memo", "repeated"}
    slots = set(type(head).__slots__) - left_out  # type: ignore[attr-defined]
    return {name: getattr(head, name) for name in slots}


class RepeatTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=8), st.integers(0, 60))
    def test_requests(self, heads: list[bytes], cut: int) -> None:
        """Each request on a connection is understood as if it were the first."""
        parser = RequestParser(LIMITS)
        for head in heads:
            pieces = [head[:cut], head[cut:]] if 0 < cut < len(head) else [head]
            told = [parser.feed(piece) for piece in pieces][-1]
            self.assertEqual(said(told), said(RequestParser(LIMITS).feed(head)))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(ANSWERS), st.booleans()), min_size=1, max_size=8))
    def test_answers(self, heads: list[tuple[bytes, bool]]) -> None:
        """An answer to HEAD announces no body, although the same bytes did before."""
        for head, to_head in heads:
            parser = ResponseParser(LIMITS)
            parser.to_head = to_head
            told = parser.feed(head)
            assert told is not None
            if to_head:
                self.assertEqual(told.length, 0)
            else:
                self.assertEqual(told.length, self.first_time(head).length)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from(ANSWERS), st.booleans()), min_size=1, max_size=8),
        st.integers(0, 60),
    )
    def test_answers_on_one_connection(self, heads: list[tuple[bytes, bool]], cut: int) -> None:
        """Each is understood as if it were the first, with what follows it, in pieces or whole."""
        parser = ResponseParser(LIMITS)
        for head, to_head in heads:
            alone = ResponseParser(LIMITS)
            alone.to_head = parser.to_head = to_head
            sent = head + b"hi"
            pieces = [sent[:cut], sent[cut:]] if 0 < cut < len(head) else [sent]
            told = [parser.feed(piece) for piece in pieces][-1]
            self.assertEqual(said(told), said(alone.feed(sent)))
            self.assertEqual(parser.rest, b"hi")

    def first_time(self, head: bytes) -> ResponseHead:
        """The head with a field more, which makes it one that nobody has seen."""
        self.seen = getattr(self, "seen", 0) + 1
        line = b"\r\nX-Seen: %d\r\n\r\n" % self.seen
        told = ResponseParser(LIMITS).feed(head[:-4] + line)
        assert told is not None
        return told

    def test_a_repeated_request_says_so(self) -> None:
        """And only one that is the same to the last byte."""
        parser = RequestParser(LIMITS)
        first, again, other = (parser.feed(REQUESTS[n]) for n in (0, 0, 1))
        assert first is not None
        assert other is not None
        self.assertIs(first, again)
        self.assertTrue(first.repeated)
        self.assertFalse(other.repeated)

    def test_lines_that_may_hold_a_secret_are_not_kept(self) -> None:
        """Nor are long ones; and the table forgets everything when it is full."""
        table = LineTable(dropped=frozenset(), named=frozenset(), unkept=frozenset([b"cookie"]))
        for line in (b"Cookie: a=b", b"X-Long: " + b"a" * 300, b"Accept: */*"):
            self.assertEqual(table[line][1], line + b"\r\n")
        self.assertEqual(list(table), [b"Accept: */*"])
        for number in range(5000):
            self.assertEqual(table[b"X: %d" % number][0][2], b"%d" % number)
        self.assertLess(len(table), 4097)
