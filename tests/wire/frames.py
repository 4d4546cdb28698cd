"""WebSocket frames for tests: written, drawn, and read by the plainest code there can be."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.wire.splits import cut

__all__ = [
    "KEY",
    "Broken",
    "Read",
    "Stream",
    "frame",
    "header",
    "pieces",
    "read_all",
    "streams",
]

KEY = b"\x37\xfa\x21\x3d"
_XOR = [bytes(byte ^ key for byte in range(256)) for key in KEY]


class Broken(Exception):
    """What `read_all` says of an illegal frame.

    :ivar at: where it begins.
    """

    def __init__(self, code: int, at: int) -> None:
        super().__init__(code, at)
        self.code = code
        self.at = at


def header(first: int, length: int, *, masked: bool, form: int = 0) -> bytes:
    """A header with `KEY` if masked; ``form`` 16 or 64 for a length field longer than needed."""
    mask = 0x80 if masked else 0
    key = KEY if masked else b""
    if form == 64 or length > 0xFFFF:
        return struct.pack("!BBQ", first, mask | 127, length) + key
    if form == 16 or length > 125:
        return struct.pack("!BBH", first, mask | 126, length) + key
    return struct.pack("!BB", first, mask | length) + key


def frame(first: int, payload: bytes = b"", *, masked: bool, form: int = 0) -> bytes:
    """A frame, legal or not, by its first byte."""
    body = bytearray(payload)
    for at in range(4 if masked else 0):
        body[at::4] = payload[at::4].translate(_XOR[at])
    return header(first, len(payload), masked=masked, form=form) + body


@dataclass
class Read:
    """A frame as `read_all` found it; ``payload`` is unmasked, and only set for control frames."""

    first: int
    start: int
    body: int
    end: int
    payload: bytes = b""

    @property
    def opcode(self) -> int:
        return self.first % 16


def read_all(
    data: bytes,
    *,
    masked: bool,
    compressed: bool = False,
    max_frame: int = 0,
    max_message: int = 0,
) -> list[Read]:
    """The frames in ``data``, up to and with a Close; the last one may lack some of its payload.

    What is less than a header at the end is left out, and so is an incomplete control frame.
    """
    frames: list[Read] = []
    at = 0
    message: int | None = None
    while not frames or frames[-1].opcode != 8:
        bits = "".join(f"{byte:08b}" for byte in data[at : at + 14])
        if len(bits) < 16:
            break
        fin, rsv, opcode = bits[0] == "1", bits[1:4], int(bits[4:8], 2)
        if opcode not in (0, 1, 2, 8, 9, 10) or (bits[8] == "1") != masked:
            raise Broken(1002, at)
        if rsv not in ("000", "100") or (rsv == "100" and not (compressed and opcode in (1, 2))):
            raise Broken(1002, at)
        if opcode > 2 and (not fin or int(bits[9:16], 2) > 125):
            raise Broken(1002, at)
        if (opcode == 0 and message is None) or (opcode in (1, 2) and message is not None):
            raise Broken(1002, at)
        wide = {126: 16, 127: 64}.get(int(bits[9:16], 2), 0)
        whole = 16 + wide + 32 * masked
        if len(bits) < 16 + wide:
            break
        length = int(bits[16 : 16 + wide] if wide else bits[9:16], 2)
        if length < {0: 0, 16: 126, 64: 65536}[wide] or length >= 2**63:
            raise Broken(1002, at)
        if opcode <= 2:
            total = length + (message or 0)
            if (max_frame and length > max_frame) or (max_message and total > max_message):
                raise Broken(1009, at)
        body = at + whole // 8
        if body > len(data) or (opcode > 2 and body + length > len(data)):
            break
        found = Read(data[at], at, body, body + length)
        if opcode <= 2:
            message = None if fin else total
        else:
            key = data[body - 4 : body] if masked else bytes(4)
            there = data[body : body + length]
            found.payload = bytes(byte ^ key[at % 4] for at, byte in enumerate(there))
            if opcode == 8 and not _good_close(found.payload):
                raise Broken(1002, at)
        frames.append(found)
        at = found.end
    return frames


def _good_close(payload: bytes) -> bool:
    if not payload:
        return True
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return False
    legal = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    return len(payload) > 1 and payload[0] * 256 + payload[1] in legal


@dataclass
class Stream:
    """A legal stream of one direction, and where reads of it may end most awkwardly."""

    masked: bool
    compressed: bool
    data: bytes = b""
    edges: list[int] = field(default_factory=list)

    def add(self, first: int, payload: bytes) -> None:
        start = len(self.data)
        self.data += frame(first, payload, masked=self.masked)
        self.edges += [start, len(self.data)]


_SIZES = st.one_of(
    st.integers(0, 9),
    st.sampled_from([0, 1, 123, 124, 125, 126, 127, 128, 129, 254, 255, 256, 400]),
)
_ANY_SIZE = st.one_of(_SIZES, _SIZES, _SIZES, st.sampled_from([65534, 65535, 65536, 66000]))
_CLOSES = st.one_of(
    st.just(b""),
    st.tuples(
        st.sampled_from([1000, 1001, 1003, 1007, 1014, 3000, 4001, 4999]),
        st.sampled_from(["", "bye", "ä" * 61, "€" * 41, "x" * 123, "🙂"]),
    ).map(lambda said: struct.pack("!H", said[0]) + said[1].encode()),
)


def _payload(size: int, number: int) -> bytes:
    """Bytes that differ from their neighbours, so that none can be lost or doubled unseen."""
    return (bytes(range(256)) * (size // 256 + 2))[number % 256 :][:size]


@st.composite
def streams(draw: st.DrawFn, *, compressed: bool | None = None, ends: bool = True) -> Stream:
    """Messages in any number of frames, control frames anywhere; perhaps a Close (``ends``),
    perhaps in the middle of a message, and perhaps bytes behind it."""
    if compressed is None:
        compressed = draw(st.booleans())
    stream = Stream(draw(st.booleans()), compressed)
    control = st.lists(st.tuples(st.sampled_from([9, 10]), st.integers(0, 125)), max_size=2)
    sizes = _ANY_SIZE if draw(st.integers(0, 4)) == 0 else _SIZES
    number = 0
    messages = draw(st.lists(st.lists(sizes, min_size=1, max_size=4), max_size=6))
    close_at = draw(st.integers(0, 12)) if ends else -1
    for message in messages:
        first = draw(st.sampled_from([1, 2])) | (0x40 if compressed and draw(st.booleans()) else 0)
        for part, size in enumerate(message):
            number += 1
            if number == close_at:
                stream.add(0x88, draw(_CLOSES))
                stream.data += draw(st.binary(max_size=20))
                return stream
            for opcode, length in draw(control):
                stream.add(0x80 | opcode, _payload(length, number))
            fin = 0x80 if part == len(message) - 1 else 0
            stream.add(fin | (0 if part else first), _payload(size, number))
    return stream


_CUTS = st.lists(st.tuples(st.integers(0, 60), st.integers(-3, 16)), max_size=12)
_ANYWHERE = st.lists(st.integers(0, 2**20), max_size=4)


@st.composite
def pieces(draw: st.DrawFn, data: bytes, edges: Sequence[int]) -> list[bytes]:
    """``data`` in any number of reads, which often end in a header; or byte by byte."""
    if len(data) < 600 and draw(st.integers(0, 9)) == 0:
        return cut(data, range(len(data)))
    near = [edges[which % len(edges)] + off for which, off in draw(_CUTS)] if edges else []
    anywhere = [at % (len(data) + 1) for at in draw(_ANYWHERE)]
    return cut(data, [at for at in (*near, *anywhere) if at > 0])
