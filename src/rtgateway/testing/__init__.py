"""A gateway and its surroundings for tests, in process, on real sockets. See ``docs/testing.md``.

Works under trial and under pytest-twisted alike::

    upstream = await RecordingUpstream.listening()
    gateway = await start_gateway({"services": {"users": upstream.url}})
    client = await RawClient.connect(gateway.port)
    client.send(b"GET /api/users/1 HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n")
    answer = await client.answer()
    await gateway.stop()

Every wait has a deadline and fails with what was there instead.
"""

from rtgateway.testing.gateway import RunningGateway, start_gateway
from rtgateway.testing.rawclient import RawAnswer, RawClient
from rtgateway.testing.upstream import RecordedConnection, RecordingUpstream
from rtgateway.testing.waiting import eventually, soon
from rtgateway.testing.websocket import WebSocketClient, WebSocketConnection, WebSocketUpstream

__all__ = [
    "RawAnswer",
    "RawClient",
    "RecordedConnection",
    "RecordingUpstream",
    "RunningGateway",
    "WebSocketClient",
    "WebSocketConnection",
    "WebSocketUpstream",
    "eventually",
    "soon",
    "start_gateway",
]
