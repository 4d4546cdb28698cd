"""When to try again, how long to wait before it, and how many further tries a service can bear.

`upstream.service` carries it out. Nothing here waits: times come in as arguments and go out as
seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from rtgateway import config

__all__ = ["Conditions", "Hedging", "RetryBudget", "RetryPolicy", "retry_after_seconds"]

_KINDS = frozenset(["connect", "reset", "timeout", "invalid"])
_CLASS = re.compile(r"([1-5])xx", re.ASCII)

_KEPT = 10.0
"""Seconds after which budget that was not used is gone, for the most part."""


class Conditions:
    """What counts as a failure, in the words of the configuration (``retry.on``, ``failure_on``).

    :param words: ``connect``, ``reset``, ``timeout``, ``invalid``; statuses such as ``503``, as
        text or number; classes of statuses such as ``5xx``.
    :ivar statuses: every status that is meant, for those who ask often.
    :raises ValueError: a word that is none of these.
    """

    __slots__ = ("_kinds", "_words", "statuses")

    def __init__(self, words: Iterable[str | int]) -> None:
        self._words = tuple(map(str, words))
        kinds: set[str] = set()
        statuses: set[int] = set()
        for word in self._words:
            class_ = _CLASS.fullmatch(word)
            if class_ is not None:
                first = int(class_[1]) * 100
                statuses.update(range(first, first + 100))
            elif word in _KINDS:
                kinds.add(word)
            else:
                statuses.add(_status(word))
        self._kinds = frozenset(kinds)
        self.statuses = frozenset(statuses)

    def status(self, status: int) -> bool:
        """Whether an answer with this status is meant."""
        return status in self.statuses

    def kind(self, kind: str) -> bool:
        """Whether this kind of failure is meant (see `errors.FailureKind`)."""
        return kind in self._kinds

    def __repr__(self) -> str:
        return f"<Conditions {' '.join(self._words) or 'none'}>"


def _status(word: str) -> int:
    if len(word) == 3 and word.isascii() and word.isdigit() and word >= "100":
        return int(word)
    raise ValueError(f"neither a kind of failure nor a status: {word}")


@dataclass(frozen=True, slots=True)
class Hedging:
    """A second try while the first is still under way (Dean and Barroso, "The Tail at Scale",
    CACM 56(2), 2013).

    :ivar quantile: of the service's latencies, after which a try counts as slow.
    :ivar min_delay: seconds to wait at least, ``max_delay``: at most.
    """

    quantile: float
    min_delay: float
    max_delay: float

    def delay(self, latency: float | None) -> float:
        """Seconds after which to send the second try.

        :param latency: the quantile as it is now; None, where it is not known yet, means
            ``max_delay``.
        """
        if latency is None:
            return self.max_delay
        return min(max(latency, self.min_delay), self.max_delay)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How requests are tried again: `config.Retry`, in the terms of those who serve a request.

    :ivar attempts: tries in all, 1 for no retries.
    :ivar methods: those that may be repeated without asking.
    :ivar idempotency_key: whether a request with an Idempotency-Key field may be, too.
    :ivar on: the failures and statuses that are worth another try.
    :ivar base_delay: seconds, as ``max_delay``, of `backoff`.
    :ivar retry_after: longest Retry-After, in seconds, that is waited for.
    :ivar body_limit: bytes of the largest request body that is kept for another try.
    :ivar hedge: None for no second try while the first is under way.
    """

    attempts: int
    methods: frozenset[bytes]
    idempotency_key: bool
    on: Conditions
    base_delay: float
    max_delay: float
    factor: float
    retry_after: float
    body_limit: int
    hedge: Hedging | None

    @classmethod
    def from_config(cls, settings: config.Retry) -> RetryPolicy:
        """The policy that ``settings`` describe; their budget is the service's business."""
        hedge = settings.hedge
        return cls(
            attempts=settings.attempts,
            methods=frozenset(method.encode("ascii") for method in settings.methods),
            idempotency_key=settings.idempotency_key,
            on=Conditions(settings.on),
            base_delay=settings.base_delay,
            max_delay=settings.max_delay,
            factor=settings.factor,
            retry_after=settings.retry_after,
            body_limit=settings.body_limit,
            hedge=Hedging(hedge.quantile, hedge.min_delay, hedge.max_delay)
            if hedge.enabled
            else None,
        )

    def backoff(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait before a retry: exponential, with full jitter.

        The jitter is all of it, because clients that failed together must not come back together
        (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

        :param attempt: 1 for the first retry.
        :param random: gives numbers of [0, 1).
        """
        try:
            ceiling = min(self.max_delay, self.base_delay * self.factor ** (attempt - 1))
        except OverflowError:
            ceiling = self.max_delay
        return random() * ceiling


class RetryBudget:
    """How many further tries a service can bear: a share of its requests, and a few more.

    A failing service would otherwise get ``attempts`` times its load just when it can bear it
    least. Every request brings ``ratio`` of a retry, every second ``per_second``, and each retry
    takes one when it is scheduled. What is not used expires within some ten seconds, so that a
    quiet day does not pay for a storm: so Finagle's RetryBudget, but where its tokens expire one
    by one the balance here decays with a time constant of 10 s, which needs no list. Unused, it
    settles at ten seconds' income.

    Over any time no more retries are granted than ``ratio`` of its requests, ``per_second`` of its
    seconds and the reserve at its start. The first call sets the start of the count.
    """

    __slots__ = ("_at", "_balance", "_per_second", "_ratio", "_requests")

    def __init__(self, settings: config.Budget) -> None:
        self._ratio = settings.ratio
        self._per_second = settings.per_second
        self._balance = _KEPT * settings.per_second
        self._at: float | None = None
        self._requests = 0

    @property
    def balance(self) -> float:
        """Retries that may be made, as of the last call."""
        return self._balance

    def deposit(self, now: float, requests: int) -> None:
        """Count what came in since the last call, at an even rate.

        `withdraw` does this by itself; calling it once a second as well keeps ``balance`` current
        and a rate of some hours ago out of it.

        :param now: monotonic seconds.
        :param requests: how many the service has had in all.
        """
        if self._at is None:
            self._at, self._requests = now, requests
            return
        arrived = max(requests - self._requests, 0)
        self._requests = requests
        income = self._ratio * arrived
        ages = (now - self._at) / _KEPT
        if ages > 0.0:
            self._at = now
            # The solution of b' = income - b for a constant income, in ages of 10 s.
            income += self._per_second * ages * _KEPT
            income *= -math.expm1(-ages) / ages
            self._balance *= math.exp(-ages)
        self._balance += income

    def withdraw(self, now: float, requests: int) -> bool:
        """Take one retry, if there is one. Parameters as those of `deposit`."""
        self.deposit(now, requests)
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def __repr__(self) -> str:
        return f"<RetryBudget {self._balance:.1f} left>"


_LONGEST = 2.0**31
"""Seconds; what is longer is cut to it, as RFC 9111, 1.2.2 does for its delta-seconds."""

_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# RFC 9110, 5.6.7: all three forms must be understood, though only the first may be written.
_DATES = (
    re.compile(rb"[A-Z][a-z]{2}, (?P<day>[0-9]{2}) %b (?P<year>[0-9]{4}) %b GMT" % (_MONTH, _TIME)),
    re.compile(
        rb"[A-Z][a-z]{5,8}, (?P<day>[0-9]{2})-%b-(?P<year>[0-9]{2}) %b GMT" % (_MONTH, _TIME)
    ),
    re.compile(rb"[A-Z][a-z]{2} %b (?P<day>[ 0-9][0-9]) %b (?P<year>[0-9]{4})" % (_MONTH, _TIME)),
)


def retry_after_seconds(value: bytes, wall_clock: float) -> float | None:
    """What a Retry-After field (RFC 9110, 10.2.3) asks for: seconds from now, 0 to 2^31.

    :param value: the field's value, as it came.
    :param wall_clock: seconds of the epoch.
    :returns: None for a value that is neither a whole number of seconds nor a date of HTTP.
        A date that is over means 0.
    """
    value = value.strip(b" \t")
    if value.isdigit():
        # Unlike int(), float() has no limit of digits; it has an infinity.
        return min(float(value), _LONGEST)
    for date in _DATES:
        match = date.fullmatch(value)
        if match is not None:
            at = _epoch(match.groupdict(), wall_clock)
            return None if at is None else min(max(at - wall_clock, 0.0), _LONGEST)
    return None


def _epoch(date: dict[str, bytes], wall_clock: float) -> float | None:
    """The second of the epoch that ``date`` names; None if there is no such day or time."""
    try:
        year = int(date["year"])
        if len(date["year"]) == 2:
            # RFC 9110, 5.6.7: a year more than 50 years ahead is the last one with these digits.
            this_year = datetime.fromtimestamp(wall_clock, UTC).year
            year += this_year - this_year % 100
            year -= 100 if year > this_year + 50 else 0
        return datetime(
            year,
            _MONTHS.index(date["month"]) + 1,
            int(date["day"]),
            int(date["hour"]),
            int(date["minute"]),
            # 60 is a leap second.
            59 if date["second"] == b"60" else int(date["second"]),
            tzinfo=UTC,
        ).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
