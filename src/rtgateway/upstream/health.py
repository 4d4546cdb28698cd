"""Active checks: a probe at an interval, and up or down by what came of the last few.

The composition root makes a `HealthCheck` for each instance of a service with ``health`` and for
each dependency in ``health_checks``, and adds it to `HealthChecks`, which starts and stops them
with the gateway. A check that is slow delays the next one; there is never a second in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import Any, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from rtgateway import config
from rtgateway.core.health import Health
from rtgateway.net.log import Logger
from rtgateway.upstream.check_target import CheckTarget
from rtgateway.upstream.probe import HttpProbe, Outcome, Probe, TcpProbe

__all__ = ["CheckTarget", "HealthCheck", "HealthChecks"]

log = Logger()

_LATE = 0.05
"""Seconds by which a check may end late and still say something about what it checked."""

Settings = config.HealthCheck | config.DependencyCheck
S = TypeVar("S", config.HealthCheck, config.DependencyCheck)


class HealthCheck(Generic[S]):
    """The check of one instance, or of one dependency.

    :param random: numbers from 0 to 1, for the jitter.
    :param on_change: called after `health` went up or down. It may stop this check.
    :param probe: what is asked; made from ``target`` and ``settings`` unless given.
    :param clock: monotonic seconds.
    :ivar health: up or down, why, since how many checks.
    :ivar last_checked: when the latest check was over, in seconds since the epoch;
        ``health.checked_at`` is the same in monotonic seconds. None before the first.
    :ivar last_duration: seconds that it took.
    :ivar last_detail: what came of it: "status 200", "connected", or why it failed.
    """

    def __init__(
        self,
        target: CheckTarget,
        settings: S,
        reactor: Any,
        random: Callable[[], float],
        on_change: Callable[[HealthCheck[S]], None],
        *,
        probe: Probe | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.target = target
        self.settings: S = settings
        self.health = Health(settings.rise, settings.fall)
        self.last_checked: float | None = None
        self.last_duration: float | None = None
        self.last_detail = ""
        self._reactor = reactor
        self._random = random
        self._on_change: Callable[[HealthCheck[S]], None] = on_change
        self._probe = probe or _probe(target, settings, reactor)
        self._clock = clock
        self._begun = 0.0
        self._timer: IDelayedCall | None = None
        self._attempt: Deferred[Any] | None = None

    @property
    def running(self) -> bool:
        """Between `start` and `stop`."""
        return self._timer is not None or self._attempt is not None

    def start(self) -> None:
        """Check from now on; the first time after ``initial_delay`` and a share of the jitter."""
        if not self.running:
            settings = self.settings
            spread = settings.jitter * settings.interval * self._random()
            self._wait(settings.initial_delay + spread)

    def stop(self) -> None:
        """Check no more. A check in flight is ended and counts for nothing."""
        timer, self._timer = self._timer, None
        attempt, self._attempt = self._attempt, None
        if timer is not None:
            timer.cancel()
        if attempt is not None:
            attempt.cancel()

    def _wait(self, seconds: float) -> None:
        self._timer = self._reactor.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._begun = self._clock()
        attempt = self._attempt = self._probe.check()
        attempt.addErrback(self._broken, attempt)
        attempt.addCallback(self._judge, attempt)
        attempt.addErrback(self._unheard)

    def _broken(self, failure: Failure, attempt: Deferred[Any]) -> Outcome:
        # A probe says what went wrong; it fails when it was cancelled, or has a defect.
        if self._attempt is attempt:
            log.failure("Health check of {it} could not be made", failure, it=self._label)
        return Outcome(False, "the check could not be made")

    def _unheard(self, failure: Failure) -> None:
        log.failure("Health check of {it}: its result met an error", failure, it=self._label)

    def _judge(self, outcome: Outcome, attempt: Deferred[Any]) -> None:
        if self._attempt is not attempt:
            return  # stopped
        self._attempt = None
        now = self._clock()
        self.last_checked = time()
        self.last_duration = now - self._begun
        self.last_detail = outcome.detail
        settings = self.settings
        interval = settings.interval * (1 + settings.jitter * (2 * self._random() - 1))
        self._wait(max(0.0, interval - self.last_duration))
        if not outcome.passed and self.last_duration > settings.timeout * 1.25 + _LATE:
            # A check never takes that long: it was the gateway that had no time.
            log.debug("Health check of {it}: too late to judge", it=self._label)
            return
        if outcome.passed:
            changed = self.health.passed(now)
        else:
            changed = self.health.failed(now, outcome.detail)
        if changed:
            self._tell()
            self._on_change(self)

    def _tell(self) -> None:
        health = self.health
        row = f"{self.last_detail} ({health.consecutive} in a row)"
        if health.up:
            log.info("Health check of {it}: up: {row}", it=self._label, row=row)
        else:
            log.warn("Health check of {it}: down: {row}", it=self._label, row=row)

    @property
    def _label(self) -> str:
        return self.target.label

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<HealthCheck of {self._label} {state} {self.health!r}>"


class HealthChecks(Service):
    """All checks of a gateway, started and stopped with it."""

    def __init__(self) -> None:
        self.setName("health checks")
        self._checks: dict[HealthCheck[Any], None] = {}

    def add(self, check: HealthCheck[Any]) -> None:
        """Take ``check`` in; it begins at once if this service runs."""
        self._checks[check] = None
        if self.running:
            check.start()

    def remove(self, check: HealthCheck[Any]) -> None:
        """Stop ``check`` and forget it; nothing happens if it is not here."""
        if check in self._checks:
            del self._checks[check]
            check.stop()

    def startService(self) -> None:
        super().startService()
        for check in self._checks:
            check.start()

    def stopService(self) -> None:
        super().stopService()
        for check in self._checks:
            check.stop()

    def __iter__(self) -> Iterator[HealthCheck[Any]]:
        return iter(self._checks)

    def __len__(self) -> int:
        return len(self._checks)

    def __repr__(self) -> str:
        down = sum(not check.health.up for check in self)
        return f"<HealthChecks {len(self)} checks {down} down>"


def _probe(target: CheckTarget, settings: Settings, reactor: Any) -> Probe:
    if isinstance(settings, config.HealthCheck):
        if settings.tcp:
            return TcpProbe(target, settings, reactor, port=settings.port)
        return HttpProbe(target, settings, reactor, path=settings.path, port=settings.port)
    form = TcpProbe if settings.tcp else HttpProbe
    return form(target, settings, reactor)
