"""Bodies: where each one ends, whatever the reads are, and nothing that is not quite a body."""

from __future__ import annotations

from dataclasses import dataclass

import h11
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.errors import BadRequest
from rtgateway.wire.body import (
    BodyDecoder,
    ChunkedBody,
    LengthBody,
    UntilCloseBody,
    chunk,
    decoder_for,
    last_chunk,
)
from tests.core.profile import PROPERTY
from tests.wire.splits import CUTS, cut, mutated

_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"

Trailers = list[tuple[bytes, bytes]]


@dataclass
class Coded:
    """A chunked body as somebody may write it, and what it says."""

    data: bytes
    payload: bytes
    trailers: Trailers


_PRINTABLE = bytes([9, *range(32, 127), *range(128, 256)])
_TEXTS = st.binary(max_size=12).map(lambda raw: bytes(_PRINTABLE[i % len(_PRINTABLE)] for i in raw))
_EXTENSIONS = st.one_of(st.just(b""), _TEXTS.map(lambda text: b";" + text))
_TRAILER_NAMES = st.sampled_from([b"X-Sum", b"x-b", b"X!#$%&'*+.^_`|~-9"])


@st.composite
def coded(draw: st.DrawFn) -> Coded:
    """Encodes as plainly as the grammar reads (RFC 9112, 7.1)."""
    data = payload = b""
    for part in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5)):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"000%X"])) % len(part)
        data += size + draw(_EXTENSIONS) + b"\r\n" + part + b"\r\n"
        payload += part
    data += draw(st.sampled_from([b"0", b"00", b"0000"])) + draw(_EXTENSIONS) + b"\r\n"
    trailers = []
    for name in draw(st.lists(_TRAILER_NAMES, max_size=3)):
        value = draw(_TEXTS).strip(b" \t")
        space = draw(st.sampled_from([b"", b" ", b" \t "]))
        data += name + b":" + space + value + space + b"\r\n"
        trailers.append((name, value))
    return Coded(data + b"\r\n", payload, trailers)


def decoded(decoder: BodyDecoder, pieces: list[bytes]) -> tuple[bytes, Trailers, bytes] | None:
    """Payload, trailers and what is left; None while the body is not complete."""
    payload = b""
    for number, piece in enumerate(pieces):
        payload += decoder.feed(piece)
        if decoder.done:
            return payload, decoder.trailers, decoder.rest + b"".join(pieces[number + 1 :])
    return None


class ChunkedTests(SynchronousTestCase):
    """Chunked bodies (RFC 9112, 7.1)."""

    @PROPERTY
    @given(coded(), CUTS)
    def test_any_split_of_a_good_body(self, body: Coded, cuts: list[int]) -> None:
        """Payload and trailers are those that were put in; the next message is untouched."""
        result = decoded(ChunkedBody(), cut(body.data + _NEXT, cuts))
        self.assertEqual(result, (body.payload, body.trailers, _NEXT))

    @PROPERTY
    @given(coded(), st.data())
    def test_no_beginning_of_a_body_is_a_body(self, body: Coded, data: st.DataObject) -> None:
        """It is not complete before its last byte."""
        end = data.draw(st.integers(min_value=0, max_value=len(body.data) - 1))
        decoder = ChunkedBody()
        decoder.feed(body.data[:end])
        self.assertFalse(decoder.done)
        self.assertFalse(decoder.ends_at_close())

    @PROPERTY
    @given(mutated(coded().map(lambda body: body.data)), CUTS)
    def test_any_split_of_any_body(self, data: bytes, cuts: list[int]) -> None:
        """It is good, unfinished or bad, and says the same, however it arrives."""

        def outcome(pieces: list[bytes]) -> object:
            try:
                return decoded(ChunkedBody(), pieces)
            except BadRequest:
                return "bad"

        whole = outcome([data] if data else [])
        self.assertEqual(outcome(cut(data, cuts)), whole)
        self.assertEqual(outcome([bytes([byte]) for byte in data]), whole)

    @PROPERTY
    @given(mutated(coded().map(lambda body: body.data)))
    def test_who_else_reads_it_reads_the_same(self, data: bytes) -> None:
        """A body that is taken here ends where an independent parser sees its end."""
        try:
            ours = decoded(ChunkedBody(), [data]) if data else None
        except BadRequest:
            ours = None
        assume(ours is not None)
        assert ours is not None
        theirs = _read_by_h11(data)
        if theirs is not None:
            self.assertEqual((ours[0], ours[2]), theirs)

    @PROPERTY
    @given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.booleans())
    def test_what_is_written_is_what_was_meant(self, parts: list[bytes], trailing: bool) -> None:
        """`chunk` and `last_chunk` give back the payload that they were given."""
        trailers = [(b"X-Sum", b"1")] if trailing else []
        data = b"".join(map(chunk, parts)) + last_chunk(trailers)
        self.assertEqual(decoded(ChunkedBody(), [data]), (b"".join(parts), trailers, b""))

    def test_what_is_no_chunk(self) -> None:
        """Every spelling of a size but plain hexadecimal digits, and every line end but CRLF."""
        for data in (
            b"\r\n",
            b"0x5\r\n",
            b"+5\r\n",
            b"-5\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"5\t;a\r\n",
            b"5_0\r\n",
            b"g\r\n",
            b"1234567890abc\r\n",
            b"5\n",
            b"5\rh",
            b"5;a\nb\r\n",
            b"5;a\0b\r\n",
            b"5\r\nhello\n",
            b"5\r\nhello000",
            b"5\r\nhello\r0",
            b"0\r\nX\r\n",
            b"0\r\nX : 1\r\n",
            b"0\r\n: 1\r\n",
            b"0\r\n X: 1\r\n",
            b"0\r\nX: \0\r\n",
            b"0\r\nX: 1\0\r\n",
            b"0\r\nX: 1\n\r\n",
            b"0\r\n\n",
        ):
            with self.assertRaises(BadRequest, msg=repr(data)):
                ChunkedBody().feed(data)

    def test_a_line_has_a_bound(self) -> None:
        """An extension, a trailer and a section of trailers can't go on for ever."""
        for data in (b"5;" + b"a" * 1100, b"0\r\n" + b"a" * 40, b"0\r\n" + b"X: 1\r\n" * 8):
            with self.assertRaises(BadRequest, msg=repr(data)):
                ChunkedBody(trailer_bytes=32).feed(data)

    def test_a_section_of_trailers_may_be_as_large_as_its_bound(self) -> None:
        """The empty line at its end is not counted."""
        decoder = ChunkedBody(trailer_bytes=16)
        decoder.feed(b"0\r\nX-A: 1\r\nX-B: 2\r\n\r\n")
        self.assertEqual(decoder.trailers, [(b"X-A", b"1"), (b"X-B", b"2")])
        self.assertTrue(decoder.done)

    def test_extensions_may_not_be_most_of_a_body(self) -> None:
        """A few are read and dropped; a flood of them for little payload is refused."""
        decoder = ChunkedBody()
        flood = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
        with self.assertRaises(BadRequest):
            for _ in range(100):
                decoder.feed(flood)
        fair = ChunkedBody()
        for _ in range(100):
            fair.feed(b"400;" + b"a" * 1000 + b"\r\n" + b"x" * 0x400 + b"\r\n")

    def test_trailers_that_may_not_be_trailers(self) -> None:
        """Framing, routing, credentials and forwarding come too late and are dropped."""
        names = b"Content-Length transfer-encoding HOST Authorization Set-Cookie Via TE Trailer "
        names += b"x-forwarded-for Forwarded x-request-id traceparent Proxy-Authenticate"
        lines = b"".join(b"%b: 1\r\n" % name for name in names.split())
        decoder = ChunkedBody()
        decoder.feed(b"0\r\n" + lines + b"X-Sum: 1\r\n\r\n")
        self.assertEqual(decoder.trailers, [(b"X-Sum", b"1")])

    def test_its_state_shows(self) -> None:
        """The representation says what is awaited."""
        decoder = ChunkedBody()
        decoder.feed(b"5\r\nhe")
        self.assertEqual(repr(decoder), "<ChunkedBody data left=3>")


def _read_by_h11(data: bytes) -> tuple[bytes, bytes] | None:
    """Payload and rest as h11 reads them; None if it refuses, or waits for more."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(_HEAD + data)
    payload = b""
    try:
        reader.next_event()
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Data):
                payload += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return payload, reader.trailing_data[0]
            else:
                return None
    except h11.RemoteProtocolError:
        return None


class LengthTests(SynchronousTestCase):
    """Bodies of a known length (RFC 9112, 6.2)."""

    @PROPERTY
    @given(st.binary(max_size=60), st.binary(max_size=20), CUTS)
    def test_any_split(self, payload: bytes, rest: bytes, cuts: list[int]) -> None:
        """So many bytes, and not one more."""
        decoder = LengthBody(len(payload))
        if not payload:
            self.assertTrue(decoder.done)
            return
        result = decoded(decoder, cut(payload + rest, cuts))
        self.assertEqual(result, (payload, [], rest))

    def test_it_is_not_complete_before_its_last_byte(self) -> None:
        """Not even if the connection ends."""
        decoder = LengthBody(5)
        self.assertEqual(decoder.feed(b"hell"), b"hell")
        self.assertFalse(decoder.done or decoder.ends_at_close())
        self.assertEqual(repr(decoder), "<LengthBody left=1>")
        decoder.feed(b"o")
        self.assertTrue(decoder.done)
        self.assertTrue(decoder.ends_at_close())


class UntilCloseTests(SynchronousTestCase):
    """Bodies that the end of the connection ends (RFC 9112, 6.3)."""

    def test_it_goes_on_until_the_end(self) -> None:
        """Nothing in it ends it."""
        decoder = UntilCloseBody()
        self.assertEqual(decoder.feed(b"0\r\n\r\n"), b"0\r\n\r\n")
        self.assertFalse(decoder.done)
        self.assertTrue(decoder.ends_at_close())
        self.assertEqual(repr(decoder), "<UntilCloseBody>")


class DecoderForTests(SynchronousTestCase):
    """Which decoder a head asks for."""

    def test_by_length(self) -> None:
        """A number, -1 for chunks, -2 for all until the end."""
        self.assertIsInstance(decoder_for(0, 10), LengthBody)
        self.assertIsInstance(decoder_for(7, 10), LengthBody)
        self.assertIsInstance(decoder_for(-1, 10), ChunkedBody)
        self.assertIsInstance(decoder_for(-2, 10), UntilCloseBody)
