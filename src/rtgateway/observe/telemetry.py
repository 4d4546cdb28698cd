"""Everything that is noted of a request when it is over: metrics, statistics, access log."""

from __future__ import annotations

from rtgateway.observe.access_log import AccessLog
from rtgateway.observe.metrics import Metrics
from rtgateway.observe.statistics import Statistics
from rtgateway.observe.views import ExchangeView

__all__ = ["Telemetry"]


class Telemetry:
    """Told once of every exchange, by ``gateway.pipeline``. It neither waits nor sends anything."""

    __slots__ = ("_log", "_observe", "_record")

    def __init__(self, metrics: Metrics, statistics: Statistics, access_log: AccessLog) -> None:
        self._observe = metrics.observe
        self._record = statistics.record
        self._log = access_log.log

    def finished(self, exchange: ExchangeView) -> None:
        """Take down ``exchange``, which is over."""
        status = exchange.status
        finished = exchange.finished
        # A stream lasts as long as both ends want; how long says nothing about how fast it was.
        ended = exchange.first_byte or finished if exchange.kind == "sse" else finished
        self._observe(exchange.method, exchange.label, status, ended - exchange.started)
        route = exchange.route
        if route is not None:
            chosen = exchange.chosen
            # An answer that broke off after its head keeps its status, and has failed all the same.
            failed = status >= 500 or (status < 400 and exchange.error_code != "")
            label = chosen.label if chosen is not None else ""
            self._record(route.service.name, label, failed, finished)
        self._log(exchange)

    def __repr__(self) -> str:
        return "<Telemetry>"
