"""What holds for all WebSockets of a route, worked out once from the configuration."""

from __future__ import annotations

from rtgateway import config
from rtgateway.core.rate import TokenBucket
from rtgateway.wire.websocket import FrameRules

__all__ = ["Meter", "Rules"]


class Meter:
    """What one client may send: messages and bytes per second (`core.rate.TokenBucket`)."""

    __slots__ = ("_bytes", "_messages", "_seen")

    def __init__(self, messages: TokenBucket | None, bytes: TokenBucket | None) -> None:
        self._messages = messages
        self._bytes = bytes
        self._seen = 0

    def take(self, messages: int, size: int, now: float) -> float:
        """Count ``size`` bytes more, and all ``messages`` so far; seconds to wait for that."""
        debt = 0.0
        if self._bytes is not None:
            debt = self._bytes.take(size, now)
        new = messages - self._seen
        if new and self._messages is not None:
            self._seen = messages
            debt = max(debt, self._messages.take(new, now))
        return debt


class Rules:
    """See the module. Times are seconds, sizes bytes, 0 is "off" or "any number".

    :ivar write_stall: how long one side may take nothing.
    :ivar metered_read: how much is read at a time from a client that has a rate to keep: what a
        read brings is passed on, so that it may exceed the burst by another one, or by 1 KiB.
    :ivar pauses: a client that sends too much is not read from for a while, and not closed.
    """

    __slots__ = (
        "_from_client",
        "_from_instance",
        "_settings",
        "close_at_expiry",
        "close_timeout",
        "connections",
        "drain_timeout",
        "idle_timeout",
        "lifetime_jitter",
        "max_buffered",
        "max_lifetime",
        "metered_read",
        "pauses",
        "per_identity",
        "per_instance",
        "per_ip",
        "ping_interval",
        "ping_upstream",
        "pong_timeout",
        "write_stall",
    )

    def __init__(self, settings: config.WebSocket, write_stall: float) -> None:
        self._settings = settings
        self.write_stall = write_stall
        self.max_buffered = settings.max_buffered
        self.pauses = settings.over_rate == "pause"
        self.metered_read = _metered_read(settings)
        self.idle_timeout = settings.idle_timeout
        self.ping_interval = settings.ping_interval
        self.pong_timeout = settings.pong_timeout
        self.ping_upstream = settings.ping_upstream
        self.close_timeout = settings.close_timeout
        self.max_lifetime = settings.max_lifetime
        self.lifetime_jitter = settings.lifetime_jitter
        self.close_at_expiry = settings.close_at_expiry
        self.drain_timeout = settings.drain_timeout
        self.connections = settings.connections
        self.per_ip = settings.per_ip
        self.per_identity = settings.per_identity
        self.per_instance = settings.per_instance
        self._from_client = self._frames(masked=True)
        self._from_instance = self._frames(masked=False)

    def _frames(self, *, masked: bool) -> tuple[FrameRules, FrameRules]:
        """What frames of one direction may be, without compression and with it."""
        settings = self._settings
        plain, compressed = (
            FrameRules(
                masked=masked,
                compressed=compressed,
                max_frame=settings.max_frame,
                max_message=settings.max_message,
            )
            for compressed in (False, True)
        )
        return plain, compressed

    def frames(self, *, from_client: bool, compressed: bool) -> FrameRules:
        """What may come from one side."""
        return (self._from_client if from_client else self._from_instance)[compressed]

    def meter(self) -> Meter | None:
        """One for a client; None if it may send as much as it likes."""
        settings = self._settings
        messages = bytes = None
        if settings.messages_per_second:
            rate = settings.messages_per_second
            messages = TokenBucket(rate, settings.messages_at_once)
        if settings.bytes_per_second:
            bytes = TokenBucket(float(settings.bytes_per_second), settings.bytes_at_once)
        return Meter(messages, bytes) if messages is not None or bytes is not None else None

    def __repr__(self) -> str:
        return f"<Rules ping {self.ping_interval} s, at most {self.max_buffered} bytes buffered>"


_SMALLEST_FRAME = 6
"""Bytes of a client's frame without payload (RFC 6455, 5.2)."""
_SMALLEST_READ, _LARGEST_READ = 1024, 65536


def _metered_read(settings: config.WebSocket) -> int:
    most = float(_LARGEST_READ)
    if settings.messages_per_second:
        most = min(most, _SMALLEST_FRAME * settings.messages_at_once)
    if settings.bytes_per_second:
        most = min(most, settings.bytes_at_once)
    return max(_SMALLEST_READ, int(most))
