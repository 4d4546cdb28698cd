"""Who belongs to a service, and who of them may be asked now.

`candidates` is what a request is balanced over. It is worked out when something changes, and when
time changes something (`look_again`), not for every request. An instance keeps its counts, its
breaker and its connections for as long as it belongs, whatever is configured around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rtgateway import config
from rtgateway.core.balance import aged
from rtgateway.core.outliers import OutlierSettings, Sample, low_success, may_eject
from rtgateway.net.log import Logger
from rtgateway.upstream.instance import Instance

if TYPE_CHECKING:
    from rtgateway.upstream.discovery import Found

__all__ = ["Make", "Members"]

log = Logger()

_NEVER = float("inf")
_WARMING = 0.25
"""Seconds between two looks at the weight of an instance that warms up."""
_LAST_RESORT = 1.0
"""Seconds that a circuit stays open when no instance of a service is available."""
_MOST = 1024
"""Instances of one service, however they came."""

Make = Callable[["Found", str], Instance]
"""Makes the instance for what was found, by a source (see `Instance.source`)."""


class Members:
    """See the module.

    :param make: makes an instance; ``on_leave``: told of each that is removed.
    :ivar instances: those that belong to the service.
    :ivar leaving: removed, but still busy with requests.
    :ivar candidates: those to choose from; the backups only if there is no other.
    :ivar reserve: backups that are not needed at present.
    :ivar probing: half-open: they want a request, as far as their breakers allow.
    :ivar silent: candidates that should have answered by now, while others do: what can't be
        repeated is not given to them.
    :ivar special: whether `probing` or `silent` has anybody.
    :ivar panicking: too few are available, so that all are candidates.
    :ivar look_again: when `refresh` is due.
    """

    def __init__(
        self,
        service: str,
        settings: config.Service,
        make: Make,
        on_leave: Callable[[Instance], None],
    ) -> None:
        self.instances: tuple[Instance, ...] = ()
        self.leaving: tuple[Instance, ...] = ()
        self.candidates: tuple[Instance, ...] = ()
        self.reserve: tuple[Instance, ...] = ()
        self.probing: tuple[Instance, ...] = ()
        self.silent: tuple[Instance, ...] = ()
        self.special = False
        self.panicking = False
        self.look_again = 0.0
        self._service = service
        self._make = make
        self._on_leave = on_leave
        self._slow_start = settings.balance.slow_start
        self._panic_threshold = settings.balance.panic_threshold
        self._outliers = OutlierSettings.from_config(settings.outliers)
        self._judged_at = 0.0
        self._counts: dict[Instance, tuple[int, int]] = {}

    # -- who may be asked ---------------------------------------------------------------------

    def changed(self) -> None:
        """Something about an instance has changed: look again before the next request."""
        self.look_again = 0.0

    def refresh(self, now: float) -> None:
        """Work out the candidates."""
        again = _NEVER
        able: list[Instance] = []
        probing: list[Instance] = []
        resting: list[Instance] = []
        for instance in self.instances:
            if instance.ejection.until > now:
                again = min(again, instance.ejection.until)
            if instance.obstacle(now):
                continue
            breaker = instance.breaker
            if breaker.state == "half_open":
                probing.append(instance)
            elif breaker.state == "open":
                resting.append(instance)
            elif breaker.state != "forced_open":
                if instance.warm(now, self._slow_start):
                    again = min(again, now + _WARMING)
                able.append(instance)
        for instance in resting:
            if not able and len(self.instances) > 1:
                # Nobody else is there to spare clients this one: it is asked now and then.
                instance.breaker.hasten(_LAST_RESORT)
            if instance.breaker.ready(now):
                probing.append(instance)
            else:
                again = min(again, instance.breaker.open_until)
        if any(not each.backup for each in able):
            probing = [each for each in probing if not each.backup]
        self.probing = tuple(probing)
        self.special = bool(self.probing or self.silent)
        self.look_again = again
        self._choose_from(able)

    def _choose_from(self, able: Sequence[Instance]) -> None:
        # Who was taken out on purpose is not missing.
        first = [
            each for each in self.instances if each.nominal and not (each.backup or each.draining)
        ]
        usable = [each for each in able if not each.backup]
        share = len(usable) / len(first) if first else 1.0
        # Backups are there for this.
        panicking = share < self._panic_threshold and not any(each.backup for each in able)
        if panicking != self.panicking:
            self.panicking = panicking
            note = log.warn if panicking else log.info
            note(
                "Service {service}: {few} of {all} instances available, {what}",
                service=self._service,
                few=len(usable),
                all=len(first),
                what="so all of them are asked" if panicking else "which is enough again",
            )
        if panicking:
            usable = [each for each in first if each.breaker.state != "forced_open"]
            for each in set(usable).difference(able):
                # Its weight is as old as its trouble, and may be that of a time when it had none.
                each.weight = float(each.nominal)
        self.candidates = tuple(usable or able)
        self.reserve = tuple(each for each in able if each.backup) if usable else ()

    def listen(self, now: float) -> None:
        """Find out who has fallen silent; called ten times a second.

        Longer than that, an instance that hangs would be given as many requests as it takes for it
        to have more of them than the others.
        """
        silent = tuple(each for each in self.candidates if each.silent(now))
        if len(silent) == len(self.candidates):
            silent = ()
        if silent or self.silent:
            self.silent = silent
            self.special = bool(self.probing or silent)

    def soonest(self, now: float) -> float:
        """Seconds until an instance may be available again; 1 if nobody knows."""
        times = [
            each.breaker.open_until if each.breaker.state == "open" else each.ejection.until
            for each in self.instances
            if not each.draining and each.nominal
        ]
        waits = [at - now for at in times if now < at < _NEVER]
        return min(waits, default=1.0)

    # -- who belongs --------------------------------------------------------------------------

    def find(self, id: str) -> Instance:
        """The instance of this id.

        :raises KeyError: there is none.
        """
        for instance in self.instances:
            if instance.id == id:
                return instance
        raise KeyError(id)

    def add(self, found: Found, source: str, now: float) -> Instance:
        """Take in a new instance; unless it is the first of all, it warms up.

        :raises ValueError: it belongs already, or there are too many.
        """
        id = found.settings.id
        if any(each.id == id for each in self.instances):
            raise ValueError(f"instance {id} is there already")
        if len(self.instances) >= _MOST:
            raise ValueError(f"a service has at most {_MOST} instances")
        instance = self._make(found, source)
        if self.instances:
            instance.recovered(now)
        self.instances += (instance,)
        self.changed()
        return instance

    def remove(self, id: str) -> Instance:
        """Send nothing more to an instance, and forget it once it is empty.

        :raises KeyError: there is none.
        """
        instance = self.find(id)
        instance.draining = True
        self.instances = tuple(each for each in self.instances if each is not instance)
        self.leaving += (instance,)
        self._counts.pop(instance, None)
        self._on_leave(instance)
        self.changed()
        return instance

    def reweigh(self, id: str, weight: int) -> Instance:
        """Give an instance another weight; 0 takes it out of use."""
        instance = self.find(id)
        instance.nominal = weight
        self.changed()
        return instance

    def drain(self, id: str, draining: bool, now: float) -> Instance:
        """Send nothing new to an instance, or let it take requests again."""
        instance = self.find(id)
        if instance.draining and not draining:
            instance.recovered(now)
        instance.draining = draining
        self.changed()
        return instance

    def update(self, found: Sequence[Found], now: float) -> None:
        """Make what has been discovered the set of discovered instances."""
        wanted = {each.settings.id: each for each in found}
        for instance in self.instances:
            if instance.source != "discovery":
                wanted.pop(instance.id, None)
            elif not _same(instance, wanted.get(instance.id)):
                self.remove(instance.id)
            else:
                settings = wanted.pop(instance.id).settings
                instance.nominal, instance.backup = settings.weight, settings.backup
        first = not self.instances
        for each in list(wanted.values())[: _MOST - len(self.instances)]:
            self.add(each, "discovery", now)
        if first:
            for instance in self.instances:
                instance.warmed_up()
        self.changed()

    # -- once a second ------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Forget who has left, let old latencies fade, and look for outliers."""
        for instance in self.leaving:
            if not instance.inflight:
                instance.pool.close()
        self.leaving = tuple(each for each in self.leaving if each.inflight)
        for instance in self.instances:
            if not instance.measured_lately():
                instance.latency = aged(instance.latency)
        if self._outliers.enabled:
            self._eject_outliers(now)

    def _eject_outliers(self, now: float) -> None:
        settings = self._outliers
        for instance in self.instances:
            if instance.ejection.until > now:
                # Calls that had begun before, and no reason to eject it once more.
                instance.failing = 0
            if settings.consecutive_errors and instance.failing >= settings.consecutive_errors:
                self._eject(instance, now, f"{instance.failing} gateway errors in a row")
        if now - self._judged_at < settings.interval:
            return
        self._judged_at = now
        samples = []
        for instance in self.instances:
            calls, failures = self._counts.get(instance, (0, 0))
            stats = instance.breaker.stats()
            samples.append(Sample(stats.total_calls - calls, stats.failed_calls - failures))
            self._counts[instance] = (stats.total_calls, stats.failed_calls)
        for index in low_success(samples, settings):
            sample = samples[index]
            rate = 1 - sample.failures / sample.calls
            self._eject(self.instances[index], now, f"success rate {rate:.2f}, others do better")

    def _eject(self, instance: Instance, now: float, reason: str) -> None:
        # Who is out of use already is left to whatever put it there.
        if instance.obstacle(now) or instance.breaker.state not in ("closed", "disabled"):
            return
        ejected = sum(each.ejection.until > now for each in self.instances)
        if not may_eject(len(self.instances), ejected, self._outliers.max_ejection_share):
            return
        instance.failing = 0
        instance.ejections += 1
        instance.ejection.eject(now, reason)
        instance.recovered(instance.ejection.until)
        log.warn(
            "Service {service}: {instance} ejected for {seconds:.0f} s: {reason}",
            service=self._service,
            instance=instance.label,
            seconds=instance.ejection.until - now,
            reason=reason,
        )
        self.changed()

    def __repr__(self) -> str:
        return f"<Members {len(self.candidates)} of {len(self.instances)} available>"


def _same(instance: Instance, found: Found | None) -> bool:
    """Whether what was found is asked the way that ``instance`` is."""
    if found is None or found.settings.label != instance.label:
        return False
    return (found.authority or found.settings.authority).encode("ascii") == instance.authority
