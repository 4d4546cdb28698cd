"""TLS without a connection: records in, plain bytes out, and the other way round.

The standard library's TLS over memory BIOs, used so that no exception is raised for an ordinary
message: reading stops when nothing is left to read, not when OpenSSL wants more. `net.secure`
drives it. What `shake_hands`, `encrypt` and `encrypt_many` may raise is `ssl.SSLError`; after it
`answer` has the alert for the peer.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

__all__ = ["FEED", "RECORD", "Records"]

RECORD = 16 * 1024
"""Plain bytes in a record at most. Reading as many leaves none of a record behind in OpenSSL."""
FEED = 32 * 1024
"""Bytes to `decrypt` at a time. OpenSSL's buffers never shrink, and idle connections are many."""
_GATHER = 16
"""Records that are sent in one piece: a write of less pauses a producer once, not for each."""


class Records:
    """The server's side of one connection.

    :ivar ended: whether the peer's close_notify has come.
    :ivar trouble: what `decrypt` found after the bytes that it returned.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls", "ended", "trouble")

    def __init__(self, context: ssl.SSLContext, flight: bytes) -> None:
        """:param flight: what the client has sent so far."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._incoming.write(flight)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.ended = False
        self.trouble: ssl.SSLError | None = None

    def shake_hands(self, data: bytes = b"") -> bool:
        """Go on with the handshake; whether it is done."""
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, data: bytes = b"") -> bytes:
        """What can be read now. Sets ``ended`` or ``trouble`` for what comes after it."""
        incoming, read = self._incoming, self._tls.read
        incoming.write(data)
        parts = []
        try:
            while incoming.pending:
                part = read(RECORD)
                if not part:
                    self.ended = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass  # half a record, or none of the application's
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self.trouble = error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def encrypt(self, data: bytes) -> bytes:
        """Records of at most `RECORD` bytes that are not none, after what `answer` would give."""
        self._tls.write(data)
        return self._outgoing.read()

    def encrypt_many(self, data: bytes) -> Iterator[bytes]:
        """The same for any number of bytes, in pieces to send."""
        view = memoryview(data)
        records = []
        for start in range(0, len(view), RECORD):
            self._tls.write(view[start : start + RECORD])
            records.append(self._outgoing.read())
            if len(records) == _GATHER:
                yield b"".join(records)
                records.clear()
        if records:
            yield b"".join(records)

    def answer(self) -> bytes:
        """What TLS itself has to say: handshake, session tickets, alerts. Mostly nothing."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def say_goodbye(self) -> bool:
        """Put our close_notify into the `answer`; whether the peer's has come already."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # usually SSLWantReadError, for the peer's
            return False
        return True

    @property
    def protocol(self) -> bytes | None:
        """What was agreed on (ALPN); None when the client offered nothing."""
        agreed = self._tls.selected_alpn_protocol()
        return None if agreed is None else agreed.encode("ascii")
