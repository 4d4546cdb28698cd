"""WebSocket clients in this process, on asyncio: they stay until they are told to go.

Thousands of them: a handshake each, an answer to every ping and to the Close frame, and a note of
when that came. What they send is masked with zeros, which is legal and costs nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.processes import BenchError

AT_ONCE = 64  # handshakes
PATIENCE = 60.0  # seconds
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
NO_MASK = bytes(4)


def frame(opcode: int, payload: bytes = b"", *, masked: bool = True) -> bytes:
    """A small frame; at most 125 bytes of payload."""
    head = bytes((0x80 | opcode, len(payload) | (0x80 if masked else 0)))
    return head + (NO_MASK if masked else b"") + payload


def closing(code: int, reason: str = "") -> bytes:
    """The payload of a Close frame."""
    return code.to_bytes(2, "big") + reason.encode()


def upgrade(path: str, *lines: str) -> bytes:
    """The request for a WebSocket."""
    head = (
        f"GET {path} HTTP/1.1",
        "Host: bench",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
    )
    return "\r\n".join((*head, *lines, "", "")).encode()


@dataclass(frozen=True)
class Goodbye:
    """A Close frame, and when it came (monotonic seconds)."""

    at: float
    code: int
    reason: str


class Guest(asyncio.Protocol):
    """One client.

    :ivar asked: when its handshake began; ``opened``: when the 101 came. Monotonic seconds.
    :ivar status: of the answer to the handshake; 0 while there is none.
    :ivar said: what it was told in the end; None if nothing.
    :ivar lost: when the connection ended; 0.0 while it stands.
    :ivar echoes: frames with data that came.
    :ivar on_close: called when the Close has been answered.
    :ivar answers: whether it answers pings and the Close.
    """

    transport: asyncio.Transport

    def __init__(self, request: bytes, on_close: Callable[[], object] | None = None) -> None:
        self.request = request
        self.on_close = on_close
        self.answers = True
        self.asked = time.monotonic()
        self.opened = self.lost = 0.0
        self.status = self.echoes = 0
        self.said: Goodbye | None = None
        self.ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.status:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            self.status, self._data = int(head.split(b" ", 2)[1]), rest
            self.opened = time.monotonic()
            if not self.ready.done():
                self.ready.set_result(self.status)
        if self.status == 101:
            self._frames()

    def _frames(self) -> None:
        while len(self._data) >= 2 and len(self._data) >= 2 + self._data[1]:
            size = self._data[1]
            opcode, payload = self._data[0] & 0x0F, self._data[2 : 2 + size]
            self._data = self._data[2 + size :]
            if opcode == CLOSE and self.said is None:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                self.said = Goodbye(time.monotonic(), code, payload[2:].decode())
                if self.answers:
                    self.transport.write(frame(CLOSE, payload))
                if self.on_close is not None:
                    self.on_close()
            elif opcode == PING and self.answers:
                self.transport.write(frame(PONG, payload))
            elif opcode < CLOSE:
                self.echoes += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = time.monotonic()
        if not self.ready.done():
            self.ready.set_result(self.status)
        self.gone.set_result(None)


async def dial(
    port: int, path: str, *lines: str, on_close: Callable[[], object] | None = None
) -> Guest:
    """A client whose handshake has been answered, or that was cut off; see its ``status``.

    :raises OSError: nobody listens.
    """
    loop = asyncio.get_running_loop()
    request = upgrade(path, *lines)
    _, guest = await loop.create_connection(lambda: Guest(request, on_close), "127.0.0.1", port)
    await asyncio.wait_for(guest.ready, PATIENCE)
    return guest


async def arrivals(port: int, path: str, count: int) -> list[Guest]:
    """So many clients, some at a time.

    :raises BenchError: not all were let in.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> Guest:
        async with gate:
            return await dial(port, path)

    guests = await asyncio.gather(*(one() for _ in range(count)))
    refused = [guest.status for guest in guests if guest.status != 101]
    if refused:
        raise BenchError(f"{len(refused)} of {count} handshakes failed, the first: {refused[0]}")
    return guests


async def all_gone(guests: Iterable[Guest], patience: float) -> None:
    """Wait until all connections have ended, or so long."""
    await asyncio.wait([asyncio.ensure_future(guest.gone) for guest in guests], timeout=patience)
