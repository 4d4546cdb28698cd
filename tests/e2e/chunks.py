"""Chunked messages made comparable: where reads end is nobody's business, so chunks are joined."""

from __future__ import annotations

__all__ = ["as_one_chunk", "pieces"]


def as_one_chunk(message: bytes) -> bytes:
    """A message with the chunks of its body joined; other messages as they are.

    One that is cut off keeps what of its payload has come, and gets no end.
    """
    head, _, rest = message.partition(b"\r\n\r\n")
    if b"\r\nTransfer-Encoding: chunked" not in head:
        return message
    payload = end = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            end = b"0\r\n" + rest
            break
        payload += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    chunk = b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""
    return b"%b\r\n\r\n%b%b" % (head, chunk, end)


def pieces(writes: tuple[bytes, ...]) -> list[bytes]:
    """The same bytes in many small writes; never more than 40 or so."""
    data = b"".join(writes)
    size = max(7, len(data) // 40)
    return [data[at : at + size] for at in range(0, len(data), size)]
