"""Connections of clients, when they are over."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from weakref import ref

import pytest
import pytest_twisted

from rtgateway.testing import RawClient, RecordingUpstream, RunningGateway, eventually

__all__: list[str] = []

Factory = Callable[[dict[str, Any]], Coroutine[Any, Any, RunningGateway]]

POST = b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n"
CHUNKED = b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


def has_got(upstream: RecordingUpstream, piece: bytes) -> bool:
    """Whether ``piece`` of a request has come through."""
    return upstream.received.endswith(piece[-2:])


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([POST + b"abcd"], 200),
        ([POST, b"ab", b"cd"], 200),
        ([CHUNKED + b"4\r\nabcd\r\n0\r\n\r\n"], 200),
        ([CHUNKED, b"4\r\nabcd\r\n", b"0\r\n\r\n"], 200),
        ([CHUNKED + b"5\r\nabcde\r\n"], 413),
        ([CHUNKED, b"5\r\nabcde\r\n"], 413),
        ([CHUNKED, b"1\r\nabcde\r\n"], 400),
        ([CHUNKED + b"1\r\nabcde\r\n"], 400),
        ([b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n"], 404),
        ([POST + b"ab"], 0),  # the client leaves
        ([POST, b"ab"], 0),
    ],
)
@pytest_twisted.ensureDeferred
async def test_nothing_of_it_waits_for_the_garbage_collector(
    rtgateway_factory: Factory, pieces: list[bytes], status: int
) -> None:
    """However the body of its request has come, and has ended."""
    upstream = await RecordingUpstream.listening()
    gateway = await rtgateway_factory({"services": {"main": upstream.url}, "limits": {"body": 4}})
    client = await RawClient.connect(gateway.port)
    await eventually(lambda: gateway.service.site.channels)
    (channel,) = (ref(each) for each in gateway.service.site.channels)
    gc.collect()
    gc.disable()
    try:
        for piece in pieces[:-1]:
            client.send(piece)
            await eventually(partial(has_got, upstream, piece))
        client.send(pieces[-1])
        if status:
            assert (await client.answer()).status == status
        else:
            await eventually(partial(has_got, upstream, pieces[-1]))
        client.close()
        await eventually(lambda: channel() is None)
    finally:
        gc.enable()
    await upstream.stop()
