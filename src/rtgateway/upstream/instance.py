"""One instance of a service: where it is, how it is, how busy and how fast, and its connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rtgateway.config import HealthCheck as HealthCheckConfig
from rtgateway.config import Instance as InstanceConfig
from rtgateway.core.balance import ewma, ramp
from rtgateway.core.breaker import Breaker
from rtgateway.core.outliers import Ejection
from rtgateway.core.retry import Conditions

if TYPE_CHECKING:
    from rtgateway.upstream.health import HealthCheck
    from rtgateway.upstream.pool import Pool

__all__ = ["Availability", "Instance"]

_NEVER = float("inf")
_SILENCE = 0.1
_MANY_TIMES = 8
"""An instance is silent when it has answered nothing for so many seconds, and for so many times of
what it usually takes."""


class Availability(NamedTuple):
    """Whether an instance may be asked now, and why not."""

    ok: bool
    reason: str = ""


class Instance:
    """Identity and live state of an instance; configuration objects come and go, this stays.

    :ivar label: its normalised URL; the value of the ``instance`` label in metrics and logs.
    :ivar id: ``host:port`` and base path: its short name, for people, cookies and admin paths.
    :ivar base: the path of its URL without a trailing slash, put before every request's path.
    :ivar authority: the Host it is asked with, unless a route preserves the client's.
    :ivar nominal: its configured weight; ``weight`` is what counts now (less while it warms up).
    :ivar backup: asked only when no other is available.
    :ivar draining: takes no new requests.
    :ivar source: who knows of it: ``static``, ``discovery`` or ``admin``.
    :ivar inflight: requests and streams it is serving for this gateway.
    :ivar waiting: how many of those wait for the head of an answer.
    :ivar heard: when it answered last, or, if that is later, when it was given something to answer
        after it had nothing; monotonic seconds.
    :ivar streams: how many of those are event streams; ``sockets``: WebSockets, open or opening;
        ``bridged``: WebSockets that are open. What balances looks at all of them; a limit of
        requests in flight does not mean those that are bridged.
    :ivar limit: most requests in flight at once, 0 for any number.
    :ivar latency: seconds until the head of its answers, as a moving average.
    :ivar turn: scratch of weighted turns (`core.balance`): it must outlive the balancer's view.
    :ivar failure_on: what counts as its failure.
    :ivar failing: gateway errors (no answer, 502, 503, 504) in a row.
    :ivar ejections: how often it was ejected as an outlier.
    :ivar last_error: why it failed last, in words for people.
    """

    __slots__ = (
        "_average",
        "_since",
        "_timely",
        "authority",
        "backup",
        "base",
        "breaker",
        "bridged",
        "draining",
        "ejection",
        "ejections",
        "failing",
        "failure_on",
        "health",
        "heard",
        "host",
        "id",
        "inflight",
        "label",
        "last_error",
        "last_latency",
        "latency",
        "limit",
        "nominal",
        "pool",
        "port",
        "service",
        "sockets",
        "source",
        "streams",
        "turn",
        "waiting",
        "weight",
    )

    breaker: Breaker
    ejection: Ejection
    pool: Pool

    def __init__(
        self,
        service: str,
        settings: InstanceConfig,
        *,
        failure_on: Conditions,
        authority: str = "",
        source: str = "static",
        limit: int = 0,
        average: Callable[[float, float], float] = ewma,
    ) -> None:
        self.service = service
        self.label = settings.label
        self.id = settings.id
        self.host = settings.host
        self.port = settings.port
        self.base = settings.base_path.encode("ascii")
        self.authority = (authority or settings.authority).encode("ascii")
        self.nominal = settings.weight
        self.weight = float(settings.weight)
        self.backup = settings.backup
        self.source = source
        self.limit = limit
        self.draining = False
        self.health: HealthCheck[HealthCheckConfig] | None = None
        self.inflight = 0
        self.waiting = 0
        self.heard = 0.0
        self.streams = 0
        self.sockets = 0
        self.bridged = 0
        self.latency = 0.0
        self.last_latency: float | None = None
        self.turn = 0.0
        self.failing = 0
        self.last_error = ""
        self.ejections = 0
        self.failure_on = failure_on
        self._average = average
        self._timely = False
        self._since = -_NEVER

    # -- the one question ---------------------------------------------------------------------

    def available(self, now: float) -> Availability:
        """Whether it may be asked at ``now`` (monotonic seconds), and if not, why."""
        standing = self.standing(now)
        if standing.ok and self.limit and self.inflight - self.bridged >= self.limit:
            return Availability(False, f"limit of {self.limit} requests in flight")
        return standing

    def standing(self, now: float) -> Availability:
        """The same, however busy it is."""
        reason = self.obstacle(now) or self._circuit(now)
        return Availability(not reason, reason)

    def obstacle(self, now: float) -> str:
        """What keeps requests from it besides its circuit and how busy it is; empty if nothing."""
        if not self.nominal:
            return "weight 0"
        if self.draining:
            return "draining"
        if self.health is not None and not self.health.health.up:
            return f"health check failing: {self.health.health.reason}"
        if self.ejection.until > now:
            return f"ejected for {self.ejection.until - now:.1f} s: {self.ejection.reason}"
        return ""

    def _circuit(self, now: float) -> str:
        breaker = self.breaker
        if breaker.state in ("closed", "disabled") or breaker.passes(now):
            return ""
        if breaker.state == "forced_open":
            return "circuit forced open"
        if breaker.state == "half_open":
            return "circuit half-open, being probed"
        return f"circuit open for {max(0.0, breaker.open_until - now):.1f} s"

    # -- what has happened to it --------------------------------------------------------------

    def answered(self, seconds: float) -> None:
        """Count the time until an answer's head."""
        self.last_latency = seconds
        self.latency = self._average(self.latency, seconds)
        self._timely = True

    def silent(self, now: float) -> bool:
        """Whether it has requests to answer and has answered none for unusually long."""
        silence = now - self.heard
        return self.waiting > 0 and silence > max(_SILENCE, _MANY_TIMES * self.latency)

    def measured_lately(self) -> bool:
        """Whether it has answered since this was asked last."""
        timely, self._timely = self._timely, False
        return timely

    # -- warming up ---------------------------------------------------------------------------

    def recovered(self, now: float) -> None:
        """It takes requests again, at first a few: its weight grows from now on."""
        self._since = now
        # How fast it was when it was in trouble, or before, says nothing any more.
        self.latency = 0.0

    def warmed_up(self) -> None:
        """It has its full weight at once: it was there when the gateway started."""
        self._since = -_NEVER

    def warm(self, now: float, slow_start: float) -> bool:
        """Set the weight that counts at ``now``; whether it is still less than the nominal."""
        elapsed = now - self._since
        if elapsed >= slow_start:
            self.weight = float(self.nominal)
            return False
        self.weight = self.nominal * ramp(elapsed, slow_start)
        return True

    def __repr__(self) -> str:
        return f"<Instance {self.label} {self.inflight} in flight {self.breaker.state}>"
