"""The gateway's own log: ``twisted.logger``, with the level that the configuration asks for.

Whoever runs the gateway (``twistd --logger``, ``rtgateway run``, a test) chooses where events go.
Which of ours are worth an event is decided here, so that ``log_level`` means the same everywhere.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogLevel

__all__ = ["Logger", "log_from"]

_ORDER = list(LogLevel.iterconstants())
_NAMES = {"fatal": LogLevel.critical, "trace": LogLevel.debug}
"""What ``log_level`` calls otherwise than Twisted does."""

_lowest = _ORDER.index(LogLevel.info)


def log_from(level: str) -> None:
    """Emit events of ``level`` (a value of ``log_level``) and above from now on."""
    global _lowest
    if level == "silent":
        _lowest = len(_ORDER)
    else:
        _lowest = _ORDER.index(_NAMES.get(level) or LogLevel.levelWithName(level))


class Logger(TwistedLogger):
    """A logger for a module of the gateway."""

    def emit(self, level: Any, format: str | None = None, **kwargs: Any) -> None:
        """Emit an event, unless nobody asked for this level."""
        if _ORDER.index(level) >= _lowest:
            super().emit(level, format, **kwargs)
