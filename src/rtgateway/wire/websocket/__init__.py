"""WebSocket frames (RFC 6455, 5) as an intermediary sees them: headers read, payload left alone.

A `FrameScanner` takes the bytes of one direction of one socket and gives back what may be passed
on: data payload verbatim and at once, headers and control frames only whole and legal. It knows
at every moment whether a frame of our own may be put in. Control frames are made and read by
`close_frame`, `ping_frame` and `parse_close`.

Nothing here knows sockets, messages as values, or what a payload says. Caller: ``ws``.
"""

from rtgateway.wire.websocket.control import close_frame, parse_close, ping_frame
from rtgateway.wire.websocket.rules import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameError,
    FrameRules,
)
from rtgateway.wire.websocket.scanner import FrameScanner

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "FrameError",
    "FrameRules",
    "FrameScanner",
    "close_frame",
    "parse_close",
    "ping_frame",
]
