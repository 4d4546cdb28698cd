"""What a source of instances has found so far, and what went wrong since.

`dns_discovery` and `file_discovery` say `Findings.good` or `Findings.bad` after each look. The
service is told only what differs from the last good set: a bad look changes nothing, and is logged
once for each reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from rtgateway import config
from rtgateway.net.log import Logger

__all__ = ["MOST_INSTANCES", "Findings", "Found", "OnFound"]

log = Logger()

MOST_INSTANCES = 1024
"""Instances of one service; more are a mistake, and would be expensive to balance over."""


@dataclass(frozen=True, slots=True)
class Found:
    """An instance as its source knows it.

    :ivar settings: its identity. The URL's host is an IP address where the source has it.
    :ivar authority: ``name[:port]`` for the Host field, where that is not the URL's.
    :ivar server_name: the name for SNI and for verifying the certificate, likewise.
    """

    settings: config.Instance
    authority: str | None = None
    server_name: str | None = None


OnFound = Callable[[Sequence[Found]], None]
"""Takes the whole set, never empty, whenever it differs from the one before."""


class Findings:
    """See the module.

    :param source: what is asked, in words for people.
    :param found: called as `OnFound` says; when it raises, that is logged.
    """

    def __init__(self, source: str, found: OnFound, clock: IReactorTime) -> None:
        self._source = source
        self._found = found
        self._clock = clock
        self._last: dict[str, Found] = {}
        self._last_success: float | None = None
        self._error: str | None = None
        self._ttl: float | None = None

    def good(
        self, instances: Iterable[Found], *, ttl: float | None = None, problem: str | None = None
    ) -> None:
        """The source has told these instances, at least one.

        Of several with the same id the first counts; so do the first `MOST_INSTANCES`.

        :param ttl: seconds that the source itself gives them.
        :param problem: what was nevertheless wrong.
        """
        merged: dict[str, Found] = {}
        for each in instances:
            merged.setdefault(each.settings.id, each)
        if len(merged) > MOST_INSTANCES:
            problem = f"{len(merged)} instances; only the first {MOST_INSTANCES} are used"
            merged = dict(list(merged.items())[:MOST_INSTANCES])
        self._last_success = self._clock.seconds()
        self._ttl = ttl
        before, self._last = self._last, merged
        self._note(problem)
        if merged == before:
            return
        log.info(
            "{source}: {count} instances, {new} new, {gone} gone",
            source=self._source,
            count=len(merged),
            new=len(merged.keys() - before.keys()),
            gone=len(before.keys() - merged.keys()),
        )
        try:
            self._found(tuple(merged.values()))
        except Exception:
            log.failure("{source}: the instances could not be taken over", source=self._source)

    def bad(self, reason: str) -> None:
        """The source did not tell, or told nonsense, for this reason; the last set stays."""
        self._note(reason)

    def _note(self, problem: str | None) -> None:
        if problem is not None and problem != self._error:
            log.warn(
                "{source}: {problem}; {count} instances are known",
                source=self._source,
                problem=problem,
                count=len(self._last),
            )
        self._error = problem

    def describe(self) -> dict[str, object]:
        """For the admin pages.

        :return: ``source``, ``instances`` (number), ``last_success`` (seconds ago, or None),
            ``last_error`` (None after a look without any), ``ttl`` (seconds, or None).
        """
        age = None
        if self._last_success is not None:
            age = round(self._clock.seconds() - self._last_success, 3)
        return {
            "source": self._source,
            "instances": len(self._last),
            "last_success": age,
            "last_error": self._error,
            "ttl": self._ttl,
        }

    def __repr__(self) -> str:
        return f"<Findings of {self._source}: {len(self._last)} instances, {self._error or 'well'}>"
