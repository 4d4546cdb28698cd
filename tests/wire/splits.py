"""The same bytes in any number of reads, for properties that hold for every split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

__all__ = ["CUTS", "cut", "mutated"]

CUTS = st.lists(st.integers(min_value=0, max_value=400), max_size=12)
"""Where to cut; for `cut`."""


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """``data`` cut at each of ``cuts`` that lies within; no piece is empty."""
    edges = sorted({0, len(data), *(at for at in cuts if at < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


_FRAGMENTS = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x0b", b"\0", b"\x80"),
        *(b":", b";", b",", b"#", b"%", b"0", b"-", b"+", b"0x", b"chunked", b"HTTP/1.1"),
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
)


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """A message with up to three mistakes: bytes put in, taken out, or replaced."""
    data = draw(messages)
    for _ in range(draw(st.integers(min_value=0, max_value=3))):
        at = draw(st.integers(min_value=0, max_value=len(data)))
        removed = draw(st.integers(min_value=0, max_value=3))
        data = data[:at] + draw(st.one_of(st.just(b""), _FRAGMENTS)) + data[at + removed :]
    return data
