"""WebSockets to look at, and to close: the shapes of ``ws``, without connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.observe.services import Instance


@dataclass
class Traffic:
    """What came from one side."""

    messages: int = 0
    frames: int = 0
    bytes: int = 0


@dataclass(eq=False)
class Socket:
    """A WebSocket that was opened at 100.0 and is open."""

    id: str = "ws-1"
    request_id: bytes = b"r-1"
    client_ip: str = "192.0.2.1"
    identity: str = ""
    route: str = "/ws/:service"
    path: bytes = b"/ws/users"
    subprotocol: str = ""
    compressed: bool = False
    instance: Instance = field(default_factory=Instance)
    opened: float = 100.0
    closed: float = 0.0
    state: str = "open"
    close_code: int = 0
    close_reason: str = ""
    close_detail: str = ""
    closed_by: str = ""
    received: Traffic = field(default_factory=Traffic)
    sent: Traffic = field(default_factory=Traffic)
    buffered_in: int = 0
    buffered_out: int = 0
    rtt: float | None = None

    def close(self, code: int, reason: str) -> None:
        """The gateway closes it; that it was told so twice would be a mistake."""
        assert self.state == "open"
        self.state, self.closed_by = "closing", "gateway"
        self.close_code, self.close_reason = code, reason


@dataclass
class Sockets:
    """All of them."""

    live: dict[str, Socket] = field(default_factory=dict)
    opened: dict[tuple[str, str], int] = field(default_factory=dict)
    closed: dict[tuple[str, str, str, str, str], int] = field(default_factory=dict)
    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    handshakes: dict[str, list[float]] = field(default_factory=dict)
    rtts: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    draining: bool = False
    counted: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def totals(self) -> dict[tuple[str, str], tuple[int, int]]:
        return self.counted

    def add(self, *sockets: Socket) -> None:
        """Have these, too."""
        self.live.update({each.id: each for each in sockets})
