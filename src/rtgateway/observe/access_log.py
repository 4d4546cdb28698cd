"""The access log: a line for each request, formatted as it ends, written with others.

`AccessLog.log` is on the path of every request; `AccessLog.socket` adds a line at the end of a
WebSocket. What a line tells, and what it never tells, is written in `rtgateway.observe.log_lines`
and `rtgateway.observe.socket_lines`; where lines go, in `rtgateway.observe.log_writer`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Protocol

from rtgateway.config import AccessLog as AccessLogSettings
from rtgateway.net.log import Logger
from rtgateway.observe.log_lines import CombinedLines, JsonLines
from rtgateway.observe.log_writer import LogWriter
from rtgateway.observe.socket_lines import combined_line, json_line
from rtgateway.observe.socket_views import SocketView
from rtgateway.observe.views import ExchangeView

__all__ = ["AccessLog", "Sink"]

BATCH = 256
"""Lines, some 64 KiB, after which they are handed over without waiting for the next flush."""

log = Logger()


class Sink(Protocol):
    """Takes batches; `LogWriter` is one. ``error`` is empty while all is well."""

    @property
    def dropped(self) -> int: ...
    @property
    def error(self) -> str: ...
    def start(self) -> None: ...
    def write(self, batch: bytes, lines: int) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class AccessLog:
    """See the module. With format ``off`` every method does nothing.

    :param sink: takes the batches; left out, a `LogWriter` for the configured file.
    :param clock: seconds since the epoch.
    :ivar interval: seconds between two calls of `flush`, which whoever owns this sees to.
    """

    __slots__ = ("_clock", "_error", "_format", "_lines", "_sink", "_socket_line", "interval")

    def __init__(
        self,
        settings: AccessLogSettings,
        sink: Sink | None = None,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        self.interval = settings.flush
        self._clock = clock
        self._format: Callable[[ExchangeView, str], str] | None = None
        self._socket_line = json_line if settings.format == "json" else combined_line
        self._sink: Sink | None = None
        if settings.format != "off":
            lines = JsonLines(clock) if settings.format == "json" else CombinedLines(clock)
            self._format = lines.line
            self._sink = sink or LogWriter(settings.file)
        self._lines: list[str] = []
        self._error = ""

    def log(self, exchange: ExchangeView, outcome: str) -> None:
        """Take down an exchange that is over. ``outcome``: see `log_lines.outcome_text`."""
        if self._format is None:
            return
        lines = self._lines
        lines.append(self._format(exchange, outcome))
        if len(lines) >= BATCH:
            self.flush()

    def socket(self, socket: SocketView) -> None:
        """Take down a WebSocket that is closed; its request was taken down when it was opened."""
        if self._sink is None:
            return
        self._lines.append(self._socket_line(socket, self._clock()))
        if len(self._lines) >= BATCH:
            self.flush()

    def start(self) -> None:
        """Open the file, and be ready to write.

        :raises OSError: the file can't be opened for writing.
        """
        if self._sink is not None:
            self._sink.start()

    def flush(self) -> None:
        """Hand over the lines there are."""
        if self._sink is None:
            return
        lines = self._lines
        if lines:
            self._lines = []
            self._sink.write("".join(lines).encode(), len(lines))
        if self._sink.error != self._error:
            self._error = self._sink.error
            if self._error:
                log.error("The access log can't be written: {error}", error=self._error)
            else:
                log.info("The access log is written again")

    def reopen(self) -> None:
        """Go on in a new file of the same name (after rotation); the lines so far go to the old."""
        self.flush()
        if self._sink is not None:
            self._sink.reopen()

    def close(self) -> None:
        """Write everything and end; blocks for two seconds at most."""
        self.flush()
        if self._sink is not None:
            self._sink.close()

    @property
    def dropped(self) -> int:
        """Lines that were lost."""
        return self._sink.dropped if self._sink is not None else 0

    def __repr__(self) -> str:
        return f"<AccessLog {len(self._lines)} lines to hand over, {self._sink!r}>"
