"""The program of an instance: quick and correct, until its board says otherwise.

    python -m tests.e2e.faults.instance HOST PORT TLS_PORT BOARD GOOD BAD LINGER

Plain HTTP/1.1 on one port, the same over TLS on another; ``GOOD`` and ``BAD`` are PEM files, each
with a key and a certificate, of which it shows one or the other.

SIGTERM ends it as a well-behaved service ends: its health check fails from then on while requests
are still served, each with ``Connection: close``; after ``LINGER`` seconds, when whoever asks for
its health has understood, it closes its doors and leaves. It also leaves when the process that
started it is gone.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
import sys
from pathlib import Path
from typing import cast

from tests.e2e.faults.board import Board, Fault

__all__ = ["BODY", "TAKES"]

BODY = b'{"id": 7, "name": "Ada Lovelace", "notes": "' + b"." * 464 + b'"}'
TAKES = 0.010
"""Seconds that an answer takes."""
_SLOWNESS = 100


def _answer(status: bytes, body: bytes, closing: bool) -> bytes:
    close = b"Connection: close\r\n" if closing else b""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status,
        close,
        len(body),
        body,
    )


class House:
    """What all connections of an instance share."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.leaving = False
        self.busy = 0


class Connection(asyncio.Protocol):
    """One request after the other; nobody pipelines."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._data = b""
        self._served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower() + b"\r\n"
        _, _, length = head.partition(b"\r\ncontent-length:")
        size = end + 4 + int(length.partition(b"\r\n")[0] or 0)
        if len(self._data) < size:
            return
        self._data = self._data[size:]
        if head.startswith(b"get /health "):
            self._tell_health()
        else:
            self._house.board.count()
            self._serve()

    def _tell_health(self) -> None:
        if self._house.board.fault == Fault.CUT:
            self._cut()
        elif self._house.leaving:
            self._send(b"503 Service Unavailable", b"leaving")
        else:
            self._send(b"200 OK", b"fine")

    def _serve(self) -> None:
        fault = self._house.board.fault
        self._served += 1
        if fault == Fault.MUTE:
            return
        if fault == Fault.ONCE and self._served > 1:
            self._transport.abort()
        elif fault == Fault.FAILS or (fault == Fault.FAILS_HALF and random.random() < 0.5):
            self._later(TAKES, b"500 Internal Server Error", b"failed")
        else:
            slowness = _SLOWNESS if fault == Fault.SLOW else 1
            self._later(TAKES * slowness, b"200 OK", BODY)

    def _later(self, seconds: float, status: bytes, body: bytes) -> None:
        self._house.busy += 1
        self._loop.call_later(seconds, self._finish, status, body)

    def _finish(self, status: bytes, body: bytes) -> None:
        self._house.busy -= 1
        if self._house.board.fault == Fault.CUT:
            self._cut()
        else:
            self._send(status, body)

    def _send(self, status: bytes, body: bytes) -> None:
        house = self._house
        closing = house.leaving or house.board.fault == Fault.CERTIFIED_BADLY
        self._transport.write(_answer(status, body, closing))
        if closing:
            self._transport.close()

    def _cut(self) -> None:
        self._transport.write(_answer(b"200 OK", BODY, False)[: -len(BODY) // 2])
        self._transport.close()


def _tls(house: House, good: str, bad: str) -> ssl.SSLContext:
    """Chooses the certificate when a connection begins, also where no name is sent."""
    contexts = []
    for file in (good, bad):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        contexts.append(context)

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = contexts[house.board.fault == Fault.CERTIFIED_BADLY]

    contexts[0].sni_callback = choose
    return contexts[0]


async def _until_orphaned() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)


async def _main(words: list[str]) -> None:
    host, port, tls_port, board, good, bad, linger = words
    loop = asyncio.get_running_loop()
    house = House(Board(Path(board)))
    context = _tls(house, good, bad)
    plain = await loop.create_server(lambda: Connection(house), host, int(port), backlog=1024)
    secure = await loop.create_server(
        lambda: Connection(house), host, int(tls_port), backlog=1024, ssl=context
    )
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    orphaned = asyncio.create_task(_until_orphaned())
    orphaned.add_done_callback(lambda task: asked.set())
    await asked.wait()
    house.leaving = True
    await asyncio.sleep(0 if orphaned.done() else float(linger))
    plain.close()
    secure.close()
    while house.busy:
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
