"""The ways in which WebSockets end: an instance and clients that do what it takes."""

import asyncio
import re
import socket
import struct
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha1

from harness.guests import CLOSE, PATIENCE, TEXT, Guest, closing, dial, frame, upgrade
from harness.processes import BenchError

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


# -- the instance -----------------------------------------------------------------------------


class Instance(asyncio.Protocol):
    """Does what the last segment of the path says."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._way = ""
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._way:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            self._data = rest
            self._way = head.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            self._answer(head + b"\r\n")
        while len(self._data) >= 6 and len(self._data) >= 6 + (self._data[1] & 0x7F):
            first, size = self._data[0], self._data[1] & 0x7F
            mask, payload = self._data[2:6], self._data[6 : 6 + size]
            self._data = self._data[6 + size :]
            self._came(first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))

    def _answer(self, head: bytes) -> None:
        if self._way == "silent":
            return
        if self._way == "refused":
            self.transport.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            self._way = ""
            return
        found = re.search(rb"\r\nsec-websocket-key: *(\S+)", head, re.IGNORECASE)
        key = found[1] if found else b""
        accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        if self._way == "nonsense":
            accept = accept[::-1]
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def _came(self, opcode: int, payload: bytes) -> None:
        write = self.transport.write
        if opcode == CLOSE:
            if self._way not in ("closes", "stays"):
                write(frame(CLOSE, payload, masked=False))
            if self._way != "stays":
                self.transport.close()
        elif opcode == TEXT:
            if self._way == "closes":
                write(frame(CLOSE, closing(1000, "done"), masked=False))
            elif self._way == "resets":
                reset(self.transport)
            elif self._way == "ends":
                self.transport.close()
            elif self._way == "breaks":
                write(frame(TEXT, b"masked"))
            else:
                write(frame(TEXT, payload, masked=False))


def reset(transport: asyncio.Transport) -> None:
    """End the connection with a RST."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


# -- the ways ---------------------------------------------------------------------------------


async def opened(port: int, path: str) -> Guest:
    guest = await dial(port, path)
    if guest.status != 101:
        raise BenchError(f"{path}: {guest.status}")
    return guest


async def over(guest: Guest, patience: float = PATIENCE) -> None:
    await asyncio.wait_for(guest.gone, patience)


async def client_closes(port: int) -> None:
    guest = await opened(port, "/plain/echo")
    guest.transport.write(frame(TEXT, b"hello") + frame(CLOSE, closing(1000)))
    guest.answers = False
    await over(guest)


async def client_closes_without_a_code(port: int) -> None:
    guest = await opened(port, "/plain/echo")
    guest.transport.write(frame(CLOSE))
    guest.answers = False
    await over(guest)


def said(path: str) -> Callable[[int], Awaitable[None]]:
    """The client says something, and what follows is up to the others."""

    async def way(port: int) -> None:
        guest = await opened(port, path)
        guest.transport.write(frame(TEXT, b"hello"))
        await over(guest)

    return way


def waited(path: str) -> Callable[[int], Awaitable[None]]:
    """The client waits for the end."""

    async def way(port: int) -> None:
        await over(await opened(port, path))

    return way


async def client_resets(port: int) -> None:
    guest = await opened(port, "/plain/echo")
    reset(guest.transport)
    await over(guest)


async def client_resets_in_a_frame(port: int) -> None:
    guest = await opened(port, "/plain/echo")
    guest.transport.write(frame(TEXT, bytes(100))[:50])
    await asyncio.sleep(0.01)
    reset(guest.transport)
    await over(guest)


async def client_ends(port: int) -> None:
    guest = await opened(port, "/plain/echo")
    guest.transport.write_eof()
    await over(guest)


async def client_breaks_the_rules(port: int) -> None:
    guest = await opened(port, "/plain/echo")
    guest.transport.write(frame(TEXT, b"not masked", masked=False))
    await over(guest)


async def too_large(port: int) -> None:
    guest = await opened(port, "/small/echo")
    guest.transport.write(frame(TEXT, bytes(100)))
    await over(guest)


async def too_many(port: int) -> None:
    guest = await opened(port, "/rated/echo")
    guest.transport.write(frame(TEXT, b"again") * 5)
    await over(guest)


async def nobody_answers_a_close(port: int) -> None:
    guest = await opened(port, "/brief/stays")
    guest.answers = False
    await over(guest)


async def no_pong(port: int) -> None:
    guest = await opened(port, "/pinged/echo")
    guest.answers = False
    await over(guest)


def refused(path: str, status: int, *lines: str) -> Callable[[int], Awaitable[None]]:
    async def way(port: int) -> None:
        guest = await dial(port, path, *lines)
        if guest.status != status:
            raise BenchError(f"{path}: {guest.status} in place of {status}")
        guest.transport.close()
        await over(guest)

    return way


async def leaves_before(port: int) -> None:
    request = upgrade("/plain/silent")
    loop = asyncio.get_running_loop()
    transport, guest = await loop.create_connection(lambda: Guest(request), "127.0.0.1", port)
    await asyncio.sleep(0.05)
    transport.abort()
    await over(guest)


async def unknown_service(port: int) -> None:
    await over(await opened(port, "/ws/nobody"))


WAYS: dict[str, Callable[[int], Awaitable[None]]] = {
    "client closes": client_closes,
    "client closes, no code": client_closes_without_a_code,
    "client resets": client_resets,
    "client resets in a frame": client_resets_in_a_frame,
    "client ends without a Close": client_ends,
    "instance closes": said("/plain/closes"),
    "instance resets": said("/plain/resets"),
    "instance ends without a Close": said("/plain/ends"),
    "client breaks the rules": client_breaks_the_rules,
    "instance breaks the rules": said("/plain/breaks"),
    "message too large": too_large,
    "too many messages": too_many,
    "idle": waited("/idle/echo"),
    "lifetime": waited("/brief/echo"),
    "nobody answers a Close": nobody_answers_a_close,
    "no pong": no_pong,
    "instance refuses": refused("/plain/refused", 403),
    "instance answers nonsense": refused("/plain/nonsense", 502),
    "origin refused": refused("/plain/echo", 403, "Origin: https://evil.example"),
    "no key": refused("/plain/echo", 400, "Sec-WebSocket-Key: again"),
    "client leaves before the 101": leaves_before,
    "unknown service": unknown_service,
}
