"""A client of the ``websockets`` library that tries everything and tells what it saw, as JSON.

Run as ``python websockets_client.py URL`` against something that echoes, and closes when it gets
``close CODE REASON``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol


async def pieces() -> AsyncIterator[str]:
    """A message that is sent in fragments."""
    for number in range(5):
        yield f"part {number} "


async def messages(connection: ClientConnection) -> dict[str, Any]:
    """Whether everything comes back as it was sent."""
    seen: dict[str, Any] = {}
    tried: dict[str, str | bytes] = {
        "text": "grüße 👋",
        "empty": "",
        "binary": bytes(range(256)),
        "large": os.urandom(1 << 20),
        "compressible": "the same again " * 20_000,
    }
    for name, message in tried.items():
        await connection.send(message)
        seen[name] = await connection.recv() == message
    await connection.send(pieces())
    seen["fragments"] = await connection.recv()
    pong = await connection.ping("ping of its own")
    seen["pinged"] = await asyncio.wait_for(pong, 10) >= 0
    for number in range(200):
        await connection.send(str(number))
    seen["in order"] = [await connection.recv() for _ in range(200)] == [
        str(number) for number in range(200)
    ]
    return seen


async def report(url: str) -> dict[str, Any]:
    """Everything that was seen."""
    seen: dict[str, Any] = {}
    for name, compression in (("deflate", "deflate"), ("plain", None)):
        async with connect(
            url, subprotocols=[Subprotocol("chat")], compression=compression, max_size=None
        ) as connection:
            seen[name] = {
                "subprotocol": connection.subprotocol,
                "extensions": [each.name for each in connection.protocol.extensions],
                **await messages(connection),
            }
            await connection.close(4000, "all seen")
            seen[name]["closed"] = (connection.close_code, connection.close_reason)
    async with connect(url) as connection:
        await connection.send("close 4321 because of you")
        try:
            await connection.recv()
        except ConnectionClosed as closed:
            seen["told"] = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else None
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(report(sys.argv[1]))))
