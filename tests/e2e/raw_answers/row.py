"""What a row of the table of raw answers says, and the words it is written in.

What the gateway makes up stands in templates by name: ``<date>``, ``<id>`` (the request id).
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.raw_requests.row import ask

__all__ = ["BAD", "CUT", "GET", "WHOLE", "Row", "bad", "cut", "good", "seen"]

WHOLE, BAD, CUT = "whole", "bad", "cut"
"""The client gets an answer that is complete; a 502; the beginning of an answer without its end."""

GET = ask()


@dataclass(frozen=True, slots=True)
class Row:
    """One answer.

    :ivar says: what the instance writes, one write after the other.
    :ivar then: what it does then: nothing, ``close``, ``reset``, or ``wait`` until the gateway has
        had enough.
    :ivar asks: the request; ``count`` answers come to it, interim ones included.
    :ivar outcome: what the client gets; ``sees`` is what it reads of it.
    :ivar in_pieces: what it may get when the answer arrives in small pieces.
    :ivar reused: the connection to the instance carries the next request.
    :ivar later: what the instance says when its answer is over.
    """

    name: str
    rfc: str
    says: tuple[bytes, ...]
    then: str = ""
    asks: bytes = GET
    count: int = 1
    outcome: str = WHOLE
    sees: bytes = b""
    in_pieces: tuple[str, ...] = (WHOLE,)
    reused: bool = False
    later: bytes = b""
    status: int = 502

    @property
    def method(self) -> bytes:
        return self.asks.partition(b" ")[0]

    @property
    def version(self) -> bytes:
        return self.asks.partition(b"\r\n")[0][-3:]

    def __repr__(self) -> str:
        return f"<Row {self.name} ({self.rfc})>"


def _writes(says: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (says,) if isinstance(says, bytes) else says


def good(
    name: str,
    rfc: str,
    says: bytes | tuple[bytes, ...],
    sees: bytes,
    *,
    asks: bytes = GET,
    then: str = "",
    count: int = 1,
    reused: bool = True,
    later: bytes = b"",
) -> Row:
    """An answer that the client gets as ``sees``."""
    writes = _writes(says)
    reused = reused and not then and not later
    return Row(name, rfc, writes, then, asks, count, sees=sees, reused=reused, later=later)


def bad(
    name: str,
    rfc: str,
    says: bytes | tuple[bytes, ...],
    *,
    asks: bytes = GET,
    then: str = "",
    sees: bytes = b"",
    in_pieces: tuple[str, ...] = (BAD,),
    status: int = 502,
) -> Row:
    """An answer instead of which the client gets a 502.

    :param sees: what it gets when the mistake comes too late to be seen (``in_pieces``).
    """
    return Row(
        name,
        rfc,
        _writes(says),
        then,
        asks,
        outcome=BAD,
        sees=sees,
        in_pieces=in_pieces,
        status=status,
    )


def cut(
    name: str,
    rfc: str,
    says: bytes | tuple[bytes, ...],
    sees: bytes,
    *,
    asks: bytes = GET,
    then: str = "",
) -> Row:
    """An answer that breaks off; the client gets ``sees`` and is told that this is not all."""
    return Row(name, rfc, _writes(says), then, asks, outcome=CUT, sees=sees, in_pieces=(CUT,))


def seen(
    line: bytes = b"HTTP/1.1 200 OK",
    *fields: bytes,
    length: int | None = None,
    body: bytes = b"",
    chunked: bytes | None = None,
    trailers: tuple[bytes, ...] | None = (),
    connection: bytes = b"",
    via: bytes = b"1.1",
) -> bytes:
    """What the client reads.

    :param length: the Content-Length, if it is not that of ``body``.
    :param chunked: payload in a single chunk; ``trailers`` is None where the end is missing.
    """
    lines = [line, *fields]
    if chunked is not None:
        lines.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n" % (len(chunked), chunked) if chunked else b""
        if trailers is not None:
            body += b"\r\n".join([b"0", *trailers, b"", b""])
    elif body or length is not None:
        lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    if not any(field.startswith(b"Date:") for field in fields):
        lines.append(b"Date: <date>")
    if connection:
        lines.append(b"Connection: " + connection)
    lines += [b"X-Request-Id: <id>", b"Via: %b rtgateway" % via]
    return b"\r\n".join([*lines, b"", body])
