"""How requests came out: a record for each method, route, status, service and instance.

`observe.telemetry` finds the record of a request with one look-up, and counts in it; metrics and
statistics are summed up from the records when somebody looks. Labels come from the configuration,
never from clients, and the number of records is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from rtgateway.observe.durations import new_histogram, total
from rtgateway.observe.log_lines import outcome_text
from rtgateway.observe.statistics import Statistics, Window
from rtgateway.observe.views import ChosenView, NamedView, ServiceView

__all__ = ["Key", "Labels", "Outcome", "Outcomes"]

Key = tuple[bytes, str, int, NamedView | None, ChosenView | None, bool]
"""Method, label of the address, status, service, instance, and whether its answer was relayed.
Services and instances by identity: one of the same name that comes later is another."""

K = TypeVar("K")

_LOOK = 256
"""How many requests beyond the bound are counted between two looks for records to forget."""

_METHODS = frozenset(
    [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT"]
)


class Labels(NamedTuple):
    """What a record is called in metrics.

    :ivar service: empty if it was none that was asked.
    :ivar outcome: the status, or ``error`` if no instance of the service gave an answer.
    :ivar instance: whose answer it was, empty if nobody's; None: of one that is no more.
    """

    method: str
    route: str
    status: str
    service: str
    outcome: str
    instance: str | None


class Outcome:
    """A record.

    :ivar durations: a histogram (`observe.durations`).
    :ivar window: of the service and instance; None if no service was asked.
    :ivar failed: requests with this status have failed.
    :ivar text: the members of a line of the JSON log that are the same for all these requests.
    """

    __slots__ = ("durations", "failed", "labels", "text", "window")

    def __init__(
        self,
        labels: Labels,
        durations: list[float],
        window: Window | None,
        failed: bool,
        text: str,
    ) -> None:
        self.labels = labels
        self.durations = durations
        self.window = window
        self.failed = failed
        self.text = text

    def __repr__(self) -> str:
        return f"<Outcome {self.labels}>"


class Outcomes:
    """See the module.

    :param services: all services, as they are now.
    :param max_records: bound of the table; whatever comes beyond it is counted together, as
        method ``OTHER``, and ``other`` for the rest.
    :ivar known: the records; `observe.telemetry` looks here first, and then asks `find`.
    """

    __slots__ = ("_beyond", "_max_records", "_past", "_services", "known", "statistics")

    def __init__(
        self,
        services: Callable[[], Iterable[ServiceView]],
        statistics: Statistics,
        *,
        max_records: int = 2000,
    ) -> None:
        self._services = services
        self._max_records = max_records
        self.statistics = statistics
        self.known: dict[Key, Outcome] = {}
        # Histograms of instances that are gone: a histogram must never shrink.
        self._past: dict[Labels, list[float]] = {}
        self._beyond = 0

    def find(self, key: Key) -> Outcome:
        """The record for ``key``, which is not among the known ones; usually it will be."""
        method, label, status, service, chosen, answered = key
        if method not in _METHODS:
            # A method that a client made up must not become a key, nor a label.
            made = self._make(key)
            other = (b"OTHER", label, status, service, chosen, answered)
            made.durations = (self.known.get(other) or self._enter(other)).durations
            return made
        return self._enter(key)

    def _enter(self, key: Key) -> Outcome:
        if self._full():
            if not self._beyond % _LOOK:
                self.forget_gone()
            self._beyond += 1
        outcome = self._make(key)
        if self._full():
            service = "other" if key[3] is not None else ""
            rest = Labels("OTHER", "other", "other", service, "other", service)
            outcome.durations = self._past.setdefault(rest, outcome.durations)
        else:
            self.known[key] = outcome
        return outcome

    def _full(self) -> bool:
        return len(self.known) + len(self._past) >= self._max_records

    def _make(self, key: Key) -> Outcome:
        method, label, status, service, chosen, answered = key
        failed = status >= 500
        window = None
        instance = chosen.label if chosen is not None else ""
        if service is not None:
            window = self.statistics.window(service.name, instance)
        in_vain = service is not None and failed and not answered
        labels = Labels(
            method.decode("latin-1"),
            label,
            str(status),
            service.name if service is not None else "",
            "error" if in_vain else str(status),
            "" if in_vain else instance,
        )
        text = outcome_text(method, status, label, service, chosen)
        return Outcome(labels, new_histogram(), window, failed, text)

    # -- looking at them ----------------------------------------------------------------------

    def histograms(self) -> Iterator[tuple[Labels, Sequence[float]]]:
        """Everything that was counted; the same labels may come several times."""
        for outcome in self.known.values():
            yield outcome.labels, outcome.durations
        yield from self._past.items()

    def summed(self, by: Callable[[Labels], K | None]) -> dict[K, list[float]]:
        """Histograms by what ``by`` makes of their labels; None leaves one out."""
        found: dict[K, list[Sequence[float]]] = {}
        for labels, histogram in self.histograms():
            key = by(labels)
            if key is not None:
                found.setdefault(key, []).append(histogram)
        return {
            key: total(parts) if len(parts) > 1 else list(parts[0]) for key, parts in found.items()
        }

    def forget_gone(self) -> None:
        """Keep no record of services and instances that are no more.

        Their durations stay in the histograms of their routes, and of their services.
        """
        services = list(self._services())
        there: set[object] = {None}
        for service in services:
            there.update((service, *service.instances, *service.leaving))
        gone = [key for key in self.known if key[3] not in there or key[4] not in there]
        names = {service.name for service in services}
        for key in gone:
            outcome = self.known.pop(key)
            self._fold(outcome.labels, outcome.durations, names)
        for labels in [each for each in self._past if each.service not in names | {"", "other"}]:
            self._fold(labels, self._past.pop(labels), names)
        self.statistics.retain(services)

    def _fold(self, labels: Labels, durations: list[float], services: set[str]) -> None:
        kept = labels
        if labels.service not in services:
            kept = labels._replace(service="", outcome=labels.status, instance="")
        elif labels.instance:
            kept = labels._replace(instance=None)
        self._past[kept] = total([self._past.get(kept, new_histogram()), durations])

    def __repr__(self) -> str:
        return f"<Outcomes {len(self.known)} of at most {self._max_records} records>"
