"""Legal frames: what goes on, what is withheld, and where others may be put in."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.wire.websocket import (
    CLOSE,
    PING,
    PONG,
    FrameError,
    FrameRules,
    FrameScanner,
    ping_frame,
)
from tests.core.profile import PROPERTY
from tests.wire.frames import Broken, Read, Stream, frame, header, pieces, read_all, streams

Call = tuple[int, bytes, bytes]
Instead = Callable[[bytes], bytes]

_MARK = b"put in"


def rules(masked: bool, compressed: bool = False, frame: int = 0, message: int = 0) -> FrameRules:
    return FrameRules(masked=masked, compressed=compressed, max_frame=frame, max_message=message)


def scanner_of(rules: FrameRules) -> FrameScanner:
    """One that passes on control frames as they come."""
    return FrameScanner(rules, lambda opcode, payload, raw: raw)


def answers(masked: bool) -> dict[str, Instead]:
    """What can be passed on instead of a control frame."""
    other = frame(0x8A, b"another", masked=masked)
    return {
        "itself": lambda raw: raw,
        "nothing": lambda raw: b"",
        "another": lambda raw: other,
        "both": lambda raw: raw + other,
    }


class Expected:
    """What a scanner has to say of a stream, worked out from the frames in it."""

    def __init__(self, stream: Stream, instead: dict[int, Instead]) -> None:
        self.calls: list[Call] = []
        self.output = b""
        self.frames: list[tuple[Read, int, int]] = []
        """Each frame with the offsets in the output of its begin and its end."""
        known = read_all(stream.data, masked=stream.masked, compressed=stream.compressed)
        for read in known:
            raw = stream.data[read.start : read.end]
            begin = len(self.output)
            if read.opcode >= CLOSE:
                self.calls.append((read.opcode, read.payload, raw))
                raw = instead[read.opcode](raw)
            self.output += raw
            self.frames.append((read, begin, len(self.output)))

    def passed(self, taken: int) -> int:
        """Bytes of output once ``taken`` bytes of input have come."""
        for read, begin, _ in self.frames:
            if taken < read.end:
                whole_header = read.opcode < CLOSE and taken >= read.body
                return begin + (taken - read.start if whole_header else 0)
        return len(self.output)

    def between(self, taken: int) -> bool:
        return not any(
            read.body <= taken < read.end for read, _, _ in self.frames if read.opcode < CLOSE
        )

    def boundary(self, before: int, taken: int) -> int:
        """Of the read that brought the bytes from ``before`` to ``taken``."""
        ends = [end for read, _, end in self.frames if before < read.end <= taken]
        return ends[-1] - self.passed(before) if ends else -1

    def counts(self, taken: int) -> tuple[int, int, bool]:
        """Messages, frames, and whether there was a Close."""
        begun = [
            read
            for read, _, _ in self.frames
            if taken >= (read.end if read.opcode >= CLOSE else read.body)
        ]
        messages = sum(read.opcode in (1, 2) for read in begun)
        return messages, len(begun), any(read.opcode == CLOSE for read in begun)


class LegalTests(SynchronousTestCase):
    """Every legal stream in every number of reads."""

    @PROPERTY
    @given(st.data(), streams())
    def test_any_split(self, data: st.DataObject, stream: Stream) -> None:
        """After each read: output, calls, counts and boundaries are those of the frames."""
        ways = answers(stream.masked)
        instead = {
            opcode: ways[data.draw(st.sampled_from(sorted(ways)))] for opcode in (CLOSE, PING, PONG)
        }
        expected = Expected(stream, instead)
        calls: list[Call] = []

        def control(opcode: int, payload: bytes, raw: bytes) -> bytes:
            calls.append((opcode, payload, raw))
            return instead[opcode](raw)

        scanner = FrameScanner(rules(stream.masked, stream.compressed), control)
        before = 0
        for piece in data.draw(pieces(stream.data, stream.edges)):
            output = scanner.feed(piece)
            taken = before + len(piece)
            at = expected.passed(before)
            assert output == expected.output[at : expected.passed(taken)]
            assert scanner.boundary == expected.boundary(before, taken)
            assert scanner.between == expected.between(taken)
            state = (scanner.messages, scanner.frames, scanner.closed)
            assert state == expected.counts(taken)
            before = taken
        assert calls == expected.calls

    @PROPERTY
    @given(st.data(), streams(ends=False))
    def test_a_frame_may_be_put_in_at_every_boundary(
        self, data: st.DataObject, stream: Stream
    ) -> None:
        """The stream stays legal, and our ping is a frame in it."""
        scanner = scanner_of(rules(stream.masked, stream.compressed))
        ping = ping_frame(_MARK, masked=stream.masked)
        at = 0
        for piece in data.draw(pieces(stream.data, stream.edges)):
            output = scanner.feed(piece)
            places = [at + scanner.boundary] if scanner.boundary >= 0 else []
            at += len(output)
            if scanner.between:
                places.append(at)
            for place in places:
                mixed = stream.data[:place] + ping + stream.data[place:]
                found = read_all(mixed, masked=stream.masked, compressed=stream.compressed)
                assert found[-1].end == len(mixed)
                assert [read.payload for read in found if read.start == place] == [_MARK]

    @PROPERTY
    @given(st.data(), streams(), st.integers(0, 300), st.integers(0, 500))
    def test_any_bytes(
        self, data: st.DataObject, stream: Stream, max_frame: int, max_message: int
    ) -> None:
        """Bytes that may be anything: the same verdict, and the same passed on before it."""
        broken = bytearray(stream.data)
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, max(0, len(broken) - 1)))
            broken[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        raw = bytes(broken)
        limits = {"max_frame": max_frame, "max_message": max_message}
        if data.draw(st.booleans()):
            limits = {"max_frame": 0, "max_message": 0}
        scanner = scanner_of(
            FrameRules(masked=stream.masked, compressed=stream.compressed, **limits)
        )
        output = b""
        code = 0
        for piece in data.draw(pieces(raw, stream.edges)):
            try:
                output += scanner.feed(piece)
            except FrameError as error:
                output += error.passed
                code = error.code
                break
        # A scanner need not wait for the rest of a header whose first bytes are wrong.
        judged = raw + bytes(140) if code else raw
        wrong, at = verdict(judged, stream.masked, stream.compressed, **limits)
        assert (code, output) == (wrong, raw[:at])


def verdict(data: bytes, masked: bool, compressed: bool, **limits: int) -> tuple[int, int]:
    """The close code for ``data``, 0 if it is legal, and how much of it is to be passed on."""
    try:
        found = read_all(data, masked=masked, compressed=compressed, **limits)
    except Broken as broken:
        return broken.code, broken.at
    return 0, found[-1].end if found else 0


@pytest.mark.parametrize("masked", [True, False])
class TestPassedOn:
    """What does not depend on chance."""

    @pytest.mark.parametrize("size", [0, 1, 64, 125, 126, 4096, 65535, 65536, 100_000])
    def test_a_whole_message_is_not_copied(self, masked: bool, size: int) -> None:
        """One message in one read, and several of them, are the very bytes that came."""
        scanner = scanner_of(rules(masked))
        one = frame(0x82, bytes(size), masked=masked)
        assert scanner.feed(one) is one
        many = one * 3
        assert scanner.feed(many) is many
        assert (scanner.messages, scanner.frames, scanner.boundary) == (4, 4, len(many))

    def test_a_piece_of_payload_is_not_copied(self, masked: bool) -> None:
        """The largest frame that there can be needs no buffer."""
        scanner = scanner_of(rules(masked))
        begin = header(0x82, 2**63 - 1, masked=masked)
        assert scanner.feed(begin) == begin
        piece = bytes(65536)
        assert scanner.feed(piece) is piece
        assert (scanner.messages, scanner.between, scanner.boundary) == (1, False, -1)

    def test_payload_is_not_withheld(self, masked: bool) -> None:
        """The last bytes of a message go on with the read that brought them."""
        scanner = scanner_of(rules(masked))
        scanner.feed(frame(0x82, bytes(300), masked=masked)[:-5])
        assert scanner.feed(b"12345") == b"12345"
        assert (scanner.between, scanner.boundary) == (True, 5)

    def test_a_header_is_withheld(self, masked: bool) -> None:
        """Until all of it is there, whatever its length."""
        for size in (5, 300, 70_000):
            scanner = scanner_of(rules(masked))
            begin = header(0x81, size, masked=masked)
            for at in range(len(begin) - 1):
                assert scanner.feed(begin[at : at + 1]) == b""
                assert scanner.between
            assert scanner.feed(begin[-1:]) == begin

    def test_a_control_frame_is_withheld(self, masked: bool) -> None:
        """What is held back is never more than one of the longest, less a byte."""
        scanner = scanner_of(rules(masked))
        ping = frame(0x89, bytes(125), masked=masked)
        for at in range(len(ping) - 1):
            assert scanner.feed(ping[at : at + 1]) == b""
        assert f"held={len(ping) - 1}" in repr(scanner)
        assert scanner.feed(ping[-1:]) == ping

    def test_an_empty_read(self, masked: bool) -> None:
        """Nothing changes, in any state."""
        scanner = scanner_of(rules(masked))
        for byte in frame(0x01, b"ab", masked=masked) + frame(0x89, b"ab", masked=masked):
            before = (scanner.between, scanner.frames, repr(scanner))
            assert scanner.feed(b"") == b""
            assert (scanner.between, scanner.frames, repr(scanner)) == before
            scanner.feed(bytes([byte]))

    def test_behind_a_close(self, masked: bool) -> None:
        """Everything is dropped, in the same read and in the next."""
        scanner = scanner_of(rules(masked))
        text = frame(0x81, b"hello", masked=masked)
        close = frame(0x88, b"\x03\xe8bye", masked=masked)
        assert scanner.feed(text + close + text + b"\xff\xff") == text + close
        assert (scanner.closed, scanner.between) == (True, True)
        assert scanner.boundary == len(text + close)
        assert scanner.feed(text) == b""
        assert (scanner.boundary, scanner.messages, scanner.frames) == (-1, 1, 2)

    def test_a_swallowed_pong(self, masked: bool) -> None:
        """A message of several frames closes up around it; where it was is a boundary."""
        scanner = FrameScanner(rules(masked), lambda opcode, payload, raw: b"")
        begin = frame(0x01, b"one", masked=masked)
        end = frame(0x80, b"two", masked=masked)
        pong = frame(0x8A, b"x", masked=masked)
        assert scanner.feed(begin + pong + end[:-1]) == begin + end[:-1]
        assert (scanner.boundary, scanner.between) == (len(begin), False)
        assert scanner.feed(end[-1:] + pong) == end[-1:]
        assert (scanner.boundary, scanner.between) == (1, True)
        assert scanner.feed(pong) == b""
        assert (scanner.boundary, scanner.between) == (0, True)

    def test_limits_are_met(self, masked: bool) -> None:
        """What is exactly as large as allowed passes; control frames don't count."""
        for limit in (1, 125, 126, 65534, 65535, 65536):
            one = frame(0x82, bytes(limit), masked=masked)
            ping = frame(0x89, bytes(100), masked=masked)
            assert scanner_of(rules(masked, frame=limit)).feed(one + ping + one) == one + ping + one
            parts = frame(0x01, bytes(limit - 1), masked=masked) + ping
            parts += frame(0x00, b"x", masked=masked) + frame(0x80, masked=masked)
            whole = parts + one
            assert scanner_of(rules(masked, message=limit)).feed(whole) == whole

    def test_memory(self, masked: bool) -> None:
        """A scanner is a few words (and numbers that are nobody else's) on a socket that idles."""
        scanner = scanner_of(rules(masked))
        scanner.feed(frame(0x81, bytes(300), masked=masked) * 300)
        scanner.feed(frame(0x8A, bytes(4), masked=masked) * 300)
        numbers = (scanner.messages, scanner.frames, scanner.boundary)
        assert sys.getsizeof(scanner) + sum(map(sys.getsizeof, numbers)) <= 250
        assert not hasattr(scanner, "__dict__")

    def test_repr(self, masked: bool) -> None:
        """Where it is, and no payload."""
        scanner = scanner_of(rules(masked))
        assert repr(scanner) == "<FrameScanner between held=0 messages=0 frames=0>"
        scanner.feed(header(0x01, 9, masked=masked) + b"secret")
        assert repr(scanner) == "<FrameScanner left=3 messages=1 frames=1>"
        scanner.feed(b"key\x89")
        assert repr(scanner) == "<FrameScanner between held=1 in message messages=1 frames=1>"
        scanner = scanner_of(rules(masked))
        scanner.feed(frame(0x88, masked=masked))
        assert repr(scanner) == "<FrameScanner closed messages=0 frames=1>"
        flags = "masked" if masked else "bare"
        assert repr(rules(masked)) == f"<FrameRules {flags} max_frame=0 max_message=0>"


def test_an_error_of_the_callback() -> None:
    """It reaches the caller, and the scanner passes nothing on any more."""

    def control(opcode: int, payload: bytes, raw: bytes) -> bytes:
        raise RuntimeError("no")

    scanner = FrameScanner(rules(False), control)
    with pytest.raises(RuntimeError):
        scanner.feed(frame(0x89, masked=False))
    assert scanner.feed(frame(0x81, b"a", masked=False)) == b""
