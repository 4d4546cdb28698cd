"""Everything that is noted of a request when it is over: metrics, statistics, access log."""

from __future__ import annotations

from bisect import bisect_left

from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.durations import BOUNDS, SUM
from rtgateway.observe.outcomes import Outcomes
from rtgateway.observe.views import ExchangeView

__all__ = ["Telemetry"]


class Telemetry:
    """Told once of every exchange, by ``gateway.pipeline``. It neither waits nor sends anything."""

    __slots__ = ("_find", "_known", "_log")

    def __init__(self, outcomes: Outcomes, access_log: AccessLog) -> None:
        self._known = outcomes.known
        self._find = outcomes.find
        self._log = access_log.log

    def finished(self, exchange: ExchangeView) -> None:
        """Take down ``exchange``, which is over."""
        status = exchange.status
        key = (
            exchange.method,
            exchange.label,
            status,
            exchange.service,
            exchange.chosen,
            exchange.answered,
        )
        try:
            outcome = self._known[key]
        except KeyError:
            outcome = self._find(key)
        ended = finished = exchange.finished
        if exchange.kind != "http":
            # A stream or a WebSocket lasts as long as both ends want: that says nothing about how
            # fast it was.
            ended = exchange.first_byte or finished
        durations = outcome.durations
        seconds = ended - exchange.started
        durations[bisect_left(BOUNDS, seconds)] += 1
        durations[SUM] += seconds
        window = outcome.window
        if window is not None:
            if finished >= window.until:
                window.turn(finished)
            window.requests += 1
            # An answer that broke off after its head keeps its status, and has failed all the same.
            if outcome.failed or (exchange.error_code and status < 400):
                window.errors += 1
                window.failed_at = finished
            else:
                window.succeeded_at = finished
        self._log(exchange, outcome.text)

    def __repr__(self) -> str:
        return f"<Telemetry {len(self._known)} outcomes>"
