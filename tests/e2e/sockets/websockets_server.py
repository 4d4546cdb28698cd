"""An echo instance of the ``websockets`` library: a program of its own, on asyncio.

Run as ``python websockets_server.py FILE``; its port is in FILE as soon as it listens. A message
``close CODE REASON`` is answered with that Close.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol


async def echo(connection: ServerConnection) -> None:
    """Every message comes back, until one asks for the end."""
    async for message in connection:
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            await connection.close(int(code), reason)
            return
        await connection.send(message)


def choose(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """``chat`` for whoever offers it."""
    return Subprotocol("chat") if "chat" in offered else None


async def main(port_file: Path) -> None:
    """Serve until this process is ended."""
    async with serve(echo, "127.0.0.1", 0, select_subprotocol=choose, max_size=None) as server:
        (socket,) = server.sockets
        temporary = port_file.with_suffix(".new")
        temporary.write_text(str(socket.getsockname()[1]))
        temporary.rename(port_file)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
