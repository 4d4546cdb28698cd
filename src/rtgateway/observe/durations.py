"""How long requests took: one histogram per method, route and status.

`RequestDurations.observe` is on the path of every request, so that the values are plain lists, and
the text that Prometheus reads is written here: prometheus_client's own exposition takes 0.1 to
0.2 s for 1,000 series, in which the event loop would stand still; this takes a few milliseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

__all__ = ["BUCKETS", "RequestDurations"]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, inclusive."""

NAME = "gateway_http_request_duration_seconds"

_BOUNDS = list(BUCKETS)
_SUM = len(BUCKETS) + 1
_METHODS = frozenset(
    [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT"]
)
_ELSE = ("OTHER", "other", "other")
_LIMITS = (*(repr(bound) for bound in BUCKETS), "+Inf")


class RequestDurations:
    """See the module.

    :param max_series: bound of the table; whatever comes beyond it is counted together, as
        method ``OTHER``, route ``other``, status ``other``.
    """

    __slots__ = ("_by_request", "_max_series", "_series")

    def __init__(self, max_series: int = 2000) -> None:
        self._max_series = max_series
        # A series: the count of each bucket (not cumulated), that of +Inf, the sum of seconds.
        self._series: dict[tuple[str, str, str], list[float]] = {}
        self._by_request: dict[tuple[bytes, str, int], list[float]] = {}

    def observe(self, method: bytes, route: str, status: int, seconds: float) -> None:
        """Count a request. ``route`` is a configured label, never a path that a client sent."""
        try:
            series = self._by_request[method, route, status]
        except KeyError:
            series = self._find(method, route, status)
        series[bisect_left(_BOUNDS, seconds)] += 1
        series[_SUM] += seconds

    def _find(self, method: bytes, route: str, status: int) -> list[float]:
        known = method in _METHODS
        labels = (method.decode("ascii") if known else "OTHER", route, str(status))
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= self._max_series:
                labels, known = _ELSE, False
            series = self._series.setdefault(labels, [0] * (_SUM + 1))
        # A method that a client made up must not become a key.
        if known:
            self._by_request[method, route, status] = series
        return series

    def exposition(self) -> str:
        """All series in the Prometheus text format 0.0.4."""
        lines = [
            f"# HELP {NAME} Time until the end of the answer; of event streams, until its head.\n"
            f"# TYPE {NAME} histogram\n"
        ]
        for (method, route, status), series in self._series.items():
            labels = f'method="{method}",route="{_escaped(route)}",status_code="{status}"'
            bucket = f'{NAME}_bucket{{{labels},le="'
            cumulated = list(accumulate(series[:_SUM]))
            lines += [
                f'{bucket}{limit}"}} {count}\n'
                for limit, count in zip(_LIMITS, cumulated, strict=True)
            ]
            lines.append(
                f"{NAME}_sum{{{labels}}} {series[_SUM]!r}\n"
                f"{NAME}_count{{{labels}}} {cumulated[-1]}\n"
            )
        return "".join(lines)

    def __repr__(self) -> str:
        return f"<RequestDurations {len(self._series)} of at most {self._max_series} series>"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
