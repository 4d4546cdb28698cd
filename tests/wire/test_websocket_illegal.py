"""Illegal frames: each is found, with the right code, and nothing of it is passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from rtgateway.wire.websocket import FrameError, FrameRules, FrameScanner
from tests.wire.frames import frame, header

__all__ = ["ILLEGAL", "Illegal", "wire"]

Part = tuple[int, bytes] | tuple[int, bytes, int] | tuple[int, int] | tuple[int, int, int] | bytes
"""First byte and payload of a frame, with the form of its length if not the shortest; or first
byte and length of a header alone; or raw bytes."""


@dataclass(frozen=True)
class Illegal:
    """What comes before, and the frame that breaks the rules.

    :ivar turned: the frame has a mask where there must be none, and none where one is needed.
    """

    name: str
    bad: Part
    before: Sequence[Part] = ()
    compressed: bool = False
    max_frame: int = 0
    max_message: int = 0
    turned: bool = False

    @property
    def reason(self) -> str:
        for word in ("frame_too_big", "message_too_big"):
            if self.name.startswith(word):
                return word
        return "protocol_error"

    @property
    def code(self) -> int:
        return 1002 if self.reason == "protocol_error" else 1009

    def rules(self, masked: bool) -> FrameRules:
        return FrameRules(
            masked=masked,
            compressed=self.compressed,
            max_frame=self.max_frame,
            max_message=self.max_message,
        )

    def wire(self, masked: bool) -> tuple[bytes, bytes]:
        """The bytes that are legal, and those that are not."""
        good = b"".join(wire(part, masked) for part in self.before)
        return good, wire(self.bad, masked is not self.turned)


def wire(part: Part, masked: bool) -> bytes:
    if isinstance(part, bytes):
        return part
    form = part[2] if len(part) == 3 else 0
    if isinstance(part[1], int):
        return header(part[0], part[1], masked=masked, form=form)
    return frame(part[0], part[1], masked=masked, form=form)


BEGIN: Part = (0x01, b"beg")
PING: Part = (0x89, b"ping")
TEXT: Part = (0x81, b"text")


def close(name: str, payload: bytes) -> Illegal:
    return Illegal(f"close {name}", (0x88, payload))


def code(number: int) -> Illegal:
    return close(f"with code {number}", number.to_bytes(2, "big"))


def words(name: str, raw: bytes) -> Illegal:
    return close(f"with {name}", b"\x03\xe8" + raw)


_TABLE = [
    # Opcodes and reserved bits (RFC 6455, 5.2).
    *(Illegal(f"reserved opcode {op}", (0x80 | op, b"a")) for op in (3, 4, 5, 6, 7)),
    *(Illegal(f"reserved control opcode {op}", (0x80 | op, b"a")) for op in range(11, 16)),
    Illegal("reserved opcode, unfinished", (0x03, b"a")),
    Illegal("reserved opcode in a message", (0x83, b"a"), [BEGIN]),
    Illegal("reserved control opcode in a message", (0x8B, b"a"), [BEGIN]),
    Illegal("rsv1 on text", (0xC1, b"a")),
    Illegal("rsv1 on empty text", (0xC1, b"")),
    Illegal("rsv1 on binary of 16 bits", (0xC2, bytes(300))),
    Illegal("rsv1 on the first fragment", (0x41, b"a")),
    Illegal("rsv1 on a continuation", (0xC0, b"a"), [BEGIN]),
    Illegal("rsv1 on a ping", (0xC9, b"a")),
    Illegal("rsv1 on a pong", (0xCA, b"a")),
    Illegal("rsv1 on a close", (0xC8, b"\x03\xe8")),
    Illegal("rsv2 on text", (0xA1, b"a")),
    Illegal("rsv2 on binary", (0xA2, b"a")),
    Illegal("rsv2 on a continuation", (0xA0, b"a"), [BEGIN]),
    Illegal("rsv2 on a ping", (0xA9, b"a")),
    Illegal("rsv3 on text", (0x91, b"a")),
    Illegal("rsv3 on a continuation", (0x90, b"a"), [BEGIN]),
    Illegal("rsv3 on a pong", (0x9A, b"a")),
    Illegal("rsv3 on a close", (0x98, b"\x03\xe8")),
    Illegal("all reserved bits", (0xF1, b"a")),
    Illegal("all bits", (0xFF, b"a")),
    # permessage-deflate (RFC 7692, 6.1).
    Illegal("rsv1 on a compressed continuation", (0x40, b"a"), [(0x41, b"b")], compressed=True),
    Illegal("rsv1 on a last compressed frame", (0xC0, b"a"), [(0x41, b"b")], compressed=True),
    Illegal("rsv1 on a ping though compressed", (0xC9, b"a"), compressed=True),
    Illegal("rsv1 on a pong though compressed", (0xCA, b"a"), [(0x41, b"b")], compressed=True),
    Illegal("rsv1 on a close though compressed", (0xC8, b""), compressed=True),
    Illegal("rsv1 on a reserved opcode", (0xC3, b"a"), compressed=True),
    Illegal("rsv1 and rsv2 though compressed", (0xE1, b"a"), compressed=True),
    Illegal("rsv3 though compressed", (0x92, b"a"), [(0xC1, b"b")], compressed=True),
    Illegal("rsv1 on a stray continuation", (0xC0, b"a"), compressed=True),
    # Masking (RFC 6455, 5.1).
    Illegal("mask of text", (0x81, b"hello"), turned=True),
    Illegal("mask of empty text", (0x81, b""), turned=True),
    Illegal("mask of text behind a good one", (0x81, b"hello"), [TEXT, TEXT], turned=True),
    Illegal("mask of binary of 16 bits", (0x82, bytes(300)), turned=True),
    Illegal("mask of binary of 64 bits", (0x82, 70_000), turned=True),
    Illegal("mask of a first fragment", (0x02, b"a"), turned=True),
    Illegal("mask of a continuation", (0x80, b"a"), [BEGIN], turned=True),
    Illegal("mask of a ping", (0x89, b"a"), turned=True),
    Illegal("mask of an empty pong", (0x8A, b""), turned=True),
    Illegal("mask of a close", (0x88, b"\x03\xe8"), turned=True),
    # Control frames (RFC 6455, 5.5).
    Illegal("fragmented ping", (0x09, b"a")),
    Illegal("fragmented pong", (0x0A, b"")),
    Illegal("fragmented close", (0x08, b"\x03\xe8")),
    Illegal("fragmented ping in a message", (0x09, b"a"), [BEGIN]),
    Illegal("ping of 126 bytes", (0x89, bytes(126))),
    Illegal("pong of 126 bytes in a message", (0x8A, bytes(126)), [BEGIN]),
    Illegal("close of 126 bytes", (0x88, b"\x03\xe8" + b"a" * 124)),
    Illegal("ping of 65536 bytes", (0x89, 65536)),
    Illegal("short ping with a length of 16 bits", (0x89, b"a", 16)),
    Illegal("short pong with a length of 64 bits", (0x8A, b"a", 64)),
    Illegal("short close with a length of 16 bits", (0x88, b"\x03\xe8", 16)),
    # Fragments (RFC 6455, 5.4).
    Illegal("continuation of nothing", (0x80, b"a")),
    Illegal("unfinished continuation of nothing", (0x00, b"a")),
    Illegal("empty continuation of nothing", (0x80, b"")),
    Illegal("continuation behind a message", (0x80, b"a"), [TEXT]),
    Illegal("continuation behind a ping", (0x80, b"a"), [TEXT, PING]),
    Illegal("continuation behind a long message", (0x00, b"a"), [(0x82, bytes(70_000))]),
    Illegal("continuation behind fragments", (0x80, b"a"), [BEGIN, (0x00, b"b"), (0x80, b"c")]),
    Illegal("text in a message", TEXT, [BEGIN]),
    Illegal("binary in a message", (0x82, b"a"), [BEGIN]),
    Illegal("unfinished text in a message", (0x01, b"a"), [BEGIN]),
    Illegal("text in a message behind a ping", TEXT, [BEGIN, PING]),
    Illegal("text behind a continuation", TEXT, [BEGIN, (0x00, b"b")]),
    Illegal("text in an empty message", TEXT, [(0x01, b"")]),
    Illegal("compressed text in a message", (0xC1, b"a"), [(0x41, b"b")], compressed=True),
    # Lengths (RFC 6455, 5.2).
    *(Illegal(f"{n} bytes in 16 bits", (0x82, bytes(n), 16)) for n in (0, 1, 125)),
    *(Illegal(f"{n} bytes in 64 bits", (0x82, bytes(n), 64)) for n in (0, 125, 126, 65535)),
    Illegal("continuation with 5 bytes in 16 bits", (0x80, bytes(5), 16), [BEGIN]),
    Illegal("length of 2**63", (0x82, 2**63)),
    Illegal("length of 2**64 - 1", (0x82, 2**64 - 1)),
    Illegal("length of 2**63 + 5", (0x82, 2**63 + 5)),
    # Close frames (RFC 6455, 5.5.1 and 7.4).
    close("of one byte", b"\x03"),
    *(code(number) for number in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999)),
    *(code(number) for number in (5000, 65535)),
    Illegal("close with code 1005 in a message", (0x88, b"\x03\xed"), [BEGIN]),
    words("a stray byte", b"ok\x80"),
    words("half a character", "ä".encode()[:1]),
    words("half a long character", "🙂".encode()[:3]),
    words("an overlong slash", b"\xc0\xaf"),
    words("a surrogate", b"\xed\xa0\x80"),
    words("a character behind the last", b"\xf4\x90\x80\x80"),
    words("a byte that is never UTF-8", b"\xff"),
    # Limits.
    Illegal("frame_too_big by a byte", (0x82, b"12345"), max_frame=4),
    Illegal("frame_too_big behind a good one", (0x82, b"12345"), [TEXT], max_frame=4),
    Illegal("frame_too_big in 16 bits", (0x82, bytes(1025)), max_frame=1024),
    Illegal("frame_too_big at 16 bits' end", (0x82, bytes(65535)), max_frame=65534),
    Illegal("frame_too_big in 64 bits", (0x82, 65536), max_frame=65535),
    Illegal("frame_too_big, very", (0x82, 2**62), max_frame=2**20),
    Illegal("frame_too_big as a fragment", (0x01, b"12345"), max_frame=4),
    Illegal("frame_too_big as a continuation", (0x80, b"12345"), [BEGIN], max_frame=4),
    Illegal("frame_too_big, and the message too", (0x82, b"12345"), max_frame=4, max_message=4),
    Illegal("message_too_big by a byte", (0x82, b"12345"), max_message=4),
    Illegal("message_too_big in 16 bits", (0x82, bytes(300)), max_message=299),
    Illegal("message_too_big in 64 bits", (0x82, 2**62), max_message=2**62 - 1),
    Illegal("message_too_big by its second frame", (0x80, b"45"), [BEGIN], max_message=4),
    Illegal("message_too_big behind a ping", (0x00, b"45"), [BEGIN, PING], max_message=4),
    Illegal(
        "message_too_big behind a good one",
        (0x80, b"56"),
        [TEXT, TEXT, BEGIN, (0x00, b"4")],
        max_message=5,
    ),
    Illegal("message_too_big as it is on the wire", (0xC1, b"12"), compressed=True, max_message=1),
]
ILLEGAL = {illegal.name: illegal for illegal in _TABLE}


def test_enough_and_each_once() -> None:
    assert len(ILLEGAL) == len(_TABLE) >= 60


def fed(scanner: FrameScanner, reads: Sequence[bytes]) -> tuple[FrameError | None, bytes]:
    """The error, and all that was passed on until then."""
    output = b""
    for read in reads:
        try:
            output += scanner.feed(read)
        except FrameError as error:
            return error, output + error.passed
    return None, output


@pytest.mark.parametrize("masked", [True, False], ids=["from client", "from instance"])
@pytest.mark.parametrize("illegal", ILLEGAL.values(), ids=ILLEGAL)
class TestIllegal:
    def test_found(self, illegal: Illegal, masked: bool) -> None:
        """The code and the word; what came before goes on, and then nothing."""
        good, bad = illegal.wire(masked)
        for reads in ([good + bad], [good, bad], [bytes([byte]) for byte in good + bad]):
            scanner = FrameScanner(illegal.rules(masked), lambda opcode, payload, raw: raw)
            error, output = fed(scanner, reads)
            assert error is not None
            assert (error.code, error.reason) == (illegal.code, illegal.reason)
            assert output == good
            assert scanner.between
            assert scanner.boundary == (len(error.passed) or -1)
            assert "broken" in repr(scanner)
            assert scanner.feed(wire(TEXT, masked)) == b""
            assert scanner.frames == len(illegal.before)
            assert not scanner.closed

    def test_seen_from_the_header(self, illegal: Illegal, masked: bool) -> None:
        """A data frame is refused before a byte of its payload has come, limits included."""
        good, bad = illegal.wire(masked)
        if illegal.name.startswith(("close", "mask")):
            bad_header = bad
        else:
            bad_header = bad[: {126: 4, 127: 10}.get(bad[1] & 0x7F, 2)]
        scanner = FrameScanner(illegal.rules(masked), lambda opcode, payload, raw: raw)
        error, output = fed(scanner, [good, bad_header])
        assert error is not None
        assert (error.code, output) == (illegal.code, good)


def test_what_an_error_says() -> None:
    """Words for a log, without a byte of what was sent."""
    for illegal in ILLEGAL.values():
        scanner = FrameScanner(illegal.rules(True), lambda opcode, payload, raw: raw)
        error, _ = fed(scanner, [b"".join(illegal.wire(True))])
        assert error is not None
        assert len(error.detail) < 80
        assert repr(error) == f"<FrameError {error.code} {error.reason}: {error.detail}>"
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


def test_replaced_frames_are_in_what_was_passed() -> None:
    """What the callback gave instead of a frame is passed on too."""
    rules = FrameRules(masked=False, compressed=False, max_frame=0, max_message=0)
    scanner = FrameScanner(rules, lambda opcode, payload, raw: b"\x8a\x01!" if payload else b"")
    text = wire(TEXT, False)
    stream = text + wire(PING, False) + text + wire((0x8A, b""), False) + text
    error, output = fed(scanner, [stream + b"\xff\x00"])
    assert error is not None
    assert output == text + b"\x8a\x01!" + text + text
    assert scanner.boundary == len(output)
