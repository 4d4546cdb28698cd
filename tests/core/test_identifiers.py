"""Request ids and trace parents."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.identifiers import (
    NOT_SAMPLED,
    RequestIds,
    start_trace,
    valid_request_id,
    valid_traceparent,
)

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"b7ad6b7169203331"


class RequestIdTests(SynchronousTestCase):
    def test_shape(self) -> None:
        """An id is 32 lower-case hex digits, and passes where clients' ids are checked."""
        name = RequestIds(b"seed").next()
        self.assertRegex(name.decode(), r"\A[0-9a-f]{32}\Z")
        self.assertTrue(valid_request_id(name))

    def test_unique(self) -> None:
        """No id comes twice, in one process or in two."""
        one, two = RequestIds(b"1"), RequestIds(b"2")
        ids = {one.next() for _ in range(5000)} | {two.next() for _ in range(5000)}
        self.assertEqual(len(ids), 10000)

    def test_repeatable(self) -> None:
        """The same seed gives the same ids, so that tests can know them."""
        self.assertEqual(RequestIds(b"x").next(), RequestIds(b"x").next())

    def test_second_half_is_spread(self) -> None:
        """Samplers that keep ids below a threshold keep that share of them."""
        ids = RequestIds(b"spread")
        low = sum(int(ids.next()[16:], 16) < 1 << 62 for _ in range(4000))
        self.assertTrue(950 < low < 1050, low)

    def test_second_half_is_never_zero(self) -> None:
        """It serves as a span's id, which must not be 0; it is odd, whatever the seed."""
        for seed in range(50):
            ids = RequestIds(b"%d" % seed)
            self.assertEqual([int(ids.next(), 16) % 2 for _ in range(3)], [1, 1, 1])

    def test_clients_ids(self) -> None:
        """1 to 128 characters that can do no harm in a log or a header."""
        for value in (b"a", b"A-1.b_c~d:e/f+g=h@i", b"x" * 128):
            self.assertTrue(valid_request_id(value), value)
        for value in (b"", b"x" * 129, b"a b", b"a\n", b'"', b"\xff", b"a,b", b"<i>"):
            self.assertFalse(valid_request_id(value), value)

    def test_repr(self) -> None:
        self.assertRegex(repr(RequestIds(b"")), r"\A<RequestIds [0-9a-f]{16}>\Z")


class TraceTests(SynchronousTestCase):
    def test_started(self) -> None:
        """A started trace is valid and says whether it is sampled."""
        ids = RequestIds(b"seed")
        lines = start_trace(ids.next()), start_trace(ids.next(), NOT_SAMPLED)
        for line in lines:
            self.assertTrue(line.startswith(b"traceparent: "))
            self.assertTrue(line.endswith(b"\r\n"))
        sampled, not_sampled = (line[13:-2] for line in lines)
        self.assertTrue(valid_traceparent(sampled))
        self.assertTrue(valid_traceparent(not_sampled))
        self.assertTrue(sampled.endswith(b"-01"))
        self.assertTrue(not_sampled.endswith(b"-00"))
        self.assertNotEqual(sampled[3:35], not_sampled[3:35])

    def test_valid(self) -> None:
        known = b"-%b-%b-01" % (TRACE, PARENT)
        for value in (b"00" + known, b"01" + known, b"cc" + known + b"-more", b"01" + known + b"-"):
            self.assertTrue(valid_traceparent(value), value)

    def test_invalid(self) -> None:
        """Versions, ids and lengths that the W3C recommendation forbids."""
        for value in (
            b"",
            b"00-%b-%b" % (TRACE, PARENT),
            b"00-%b-%b-01-more" % (TRACE, PARENT),
            b"01-%b-%b-01more" % (TRACE, PARENT),
            b"01-%b-%b-01-%b" % (TRACE, PARENT, b"x" * 201),
            b"ff-%b-%b-01" % (TRACE, PARENT),
            b"00-%b-%b-01" % (TRACE.upper(), PARENT),
            b"00-%b-%b-01" % (b"0" * 32, PARENT),
            b"00-%b-%b-01" % (TRACE, b"0" * 16),
            b"00-%b-%b-zz" % (TRACE, PARENT),
            b"00-%b-%b-01\n" % (TRACE, PARENT),
        ):
            self.assertFalse(valid_traceparent(value), value)
