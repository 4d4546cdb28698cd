"""The scenarios by the name they have on the command line, in the order they are run."""

from collections.abc import Callable

from harness.bench import Bench
from harness.report import Report
from harness.scenarios import (
    bodies,
    ladder,
    latency,
    limits,
    small,
    sockets,
    sockets_idle,
    sockets_steady,
    sse,
)

SCENARIOS: dict[str, Callable[[Bench], Report]] = {
    "small": small.small,
    "small-jwt": small.small_jwt,
    "small-2048": small.small_2048,
    "tls": small.tls,
    "big": bodies.big,
    "upload": bodies.upload,
    "latency": latency.latency,
    "sse": sse.sse,
    "ws-64b": sockets.small,
    "ws-4k": sockets.medium,
    "ws-1m": sockets.large,
    "ws-2000": sockets.many,
    "ws-rules": sockets.rules,
    "ws-handshakes": sockets.handshakes,
    "ws-steady": sockets_steady.steady,
    "ws-idle": sockets_idle.idle,
    "limits": limits.limits,
    "ladder": ladder.ladder,
}
