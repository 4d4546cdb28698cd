"""What a service does when its instances fail: circuit breakers, retries, outliers, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from rtgateway.config.conditions import FailureConditions, RetryConditions
from rtgateway.config.section import Allowed, Rule, Section, Switchable, refused, switch
from rtgateway.config.units import (
    Duration,
    PositiveDuration,
    Size,
    format_duration,
    in_order,
    parse_duration,
)
from rtgateway.config.values import Count, Method, Number, Share, one_or_many

__all__ = ["Budget", "CircuitBreaker", "Concurrency", "Hedge", "Outliers", "Retry"]

_MAX_CALLS = 10_000
_MAX_WINDOW = 3600.0
_WINDOW_WORDS = "calls from 1 to 10000, or a duration from 1s to 1h such as 30s"


def _window(value: Any) -> int | str:
    text = value.strip() if isinstance(value, str) else ""
    if text.isascii() and text.isdigit() and len(text) <= 5:
        value = int(text)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_CALLS:
        return value
    if text and not text.isdigit():
        try:
            seconds = parse_duration(text)
        except ValueError:
            seconds = 0.0
        if 1 <= seconds <= _MAX_WINDOW:
            return format_duration(seconds)
    raise refused(allowed=_WINDOW_WORDS)


_Window = Annotated[
    int | str,
    BeforeValidator(_window),
    Allowed(_WINDOW_WORDS),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": _MAX_CALLS},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)? ?(ms|s|m|h)?\s*$|\$\{"},
            ],
            "examples": [100, "30s"],
        }
    ),
]


class CircuitBreaker(Switchable):
    """Stops asking what keeps failing; `off` will do, and `shared` for the defaults in common.

    Closed, it lets requests pass and watches them. It opens after too many failures in a row, or
    when too large a share of the calls in its window failed or were slow. After the open time a
    few probes are let through (half-open), which close or open it again.
    """

    words: ClassVar[str] = "on, off, shared"

    enabled: bool = Field(default=True, description="Whether there is one.")
    shared: bool = Field(
        default=False,
        description="Whether all gateways with the same `state` in Redis share its state; "
        "`circuit_breaker: shared` will do.",
    )
    failure_threshold: Count = Field(
        default=5, le=1_000_000, description="Failures in a row that open it; 0 is off."
    )
    success_threshold: Count = Field(
        default=2, ge=1, le=1_000_000, description="Successful probes in a row that close it."
    )
    timeout: PositiveDuration = Field(
        default=30.0, le=86400, description="How long it stays open before probes are let through."
    )
    max_timeout: PositiveDuration = Field(
        default=300.0, le=86400, description="Longest open time, however often it opens again."
    )
    timeout_factor: Number = Field(
        default=2.0,
        ge=1,
        le=100,
        description="The open time grows by this factor each time that probes fail.",
    )
    jitter: Share = Field(
        default=0.1, description="Random share of the open time, so that probes spread."
    )
    window_size: _Window = Field(
        default=100,
        description="Calls that the rates are taken from: the last so many, or those of the last "
        "so many seconds.",
    )
    minimum_calls: Count = Field(
        default=20,
        ge=1,
        le=1_000_000,
        description="Calls in the window before a rate means anything; a smaller window of calls "
        "need only be full.",
    )
    failure_rate_threshold: Share = Field(
        default=0.5, description="Share of failures in the window that opens it; 0 is off."
    )
    slow_call_duration: PositiveDuration = Field(
        default=5.0, description="A call is slow when its answer takes longer to begin."
    )
    slow_call_rate_threshold: Share = Field(
        default=0.0, description="Share of slow calls in the window that opens it; 0 is off."
    )
    half_open_calls: Count = Field(
        default=1, ge=1, le=1000, description="Probes in flight at once while half-open."
    )
    failure_on: FailureConditions = Field(
        default=("5xx", "connect", "reset", "timeout", "invalid"),
        description="What counts as a failure: no connection, one that broke, no answer in time, "
        "an answer that is not HTTP, statuses. A client that left never does.",
    )

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """The word ``shared`` is a section with nothing but that."""
        if isinstance(value, str) and value.strip().lower() == "shared":
            return {"shared": True}
        return super().spelled_out(value)

    @property
    def window_calls(self) -> int:
        """Calls in the window; 0 when it is time-based."""
        return self.window_size if isinstance(self.window_size, int) else 0

    @property
    def window_seconds(self) -> float:
        """Length of the window; 0 when it counts calls."""
        return parse_duration(self.window_size) if isinstance(self.window_size, str) else 0.0

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """The open time grows; it does not shrink."""
        yield from in_order(values, "timeout", "max_timeout")


class Budget(Switchable):
    """Bounds retries and hedges together, so that they can't multiply an overload."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    ratio: Share = Field(default=0.2, description="Extra tries for each request of the service.")
    per_second: Number = Field(
        default=3.0, le=1_000_000, description="Extra tries per second besides."
    )


class Hedge(Switchable):
    """Asks a second instance when the first one takes unusually long; the faster answer wins."""

    enabled: bool = Field(default=False, description="Whether requests are hedged.")
    quantile: Share = Field(
        default=0.95,
        ge=0.5,
        le=0.999,
        description="Share of the answers that take less time than is waited for the first one.",
    )
    min_delay: PositiveDuration = Field(default=0.005, description="Never sooner than this.")
    max_delay: PositiveDuration = Field(
        default=1.0, description="Never later than this, also while too little is known."
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """The delays are a range."""
        yield from in_order(values, "min_delay", "max_delay")


class Retry(Section):
    """Tries again, on another instance if there is one; `off` will do.

    Only while nothing of an answer was passed on, and within the timeout of the request.
    """

    words: ClassVar[str] = "on, off"

    attempts: Count = Field(default=3, ge=1, le=20, description="Tries in all; 1 is off.")
    methods: Annotated[tuple[Method, ...], BeforeValidator(one_or_many)] = Field(
        default=("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"),
        description="Methods that may be repeated.",
    )
    idempotency_key: bool = Field(
        default=True, description="Requests with `Idempotency-Key` may be, whatever their method."
    )
    on: RetryConditions = Field(
        default=("connect", "reset", "timeout", "502", "503", "504"),
        description="What is tried again: no connection, one that broke, no answer in time, "
        "an answer that is not HTTP, statuses.",
    )
    base_delay: Duration = Field(
        default=0.025, le=3600, description="Before the second try; a random part of it."
    )
    max_delay: Duration = Field(default=1.0, le=3600, description="Longest delay before a try.")
    factor: Number = Field(
        default=2.0, ge=1, le=100, description="The delay grows by this factor with every try."
    )
    retry_after: Duration = Field(
        default=2.0,
        le=3600,
        description="Longest `Retry-After` that is waited for; an answer that asks for more is "
        "passed on.",
    )
    body_limit: Size = Field(
        default=64 << 10,
        le=16 << 20,
        description="Requests with larger bodies are not repeated: they are not kept.",
    )
    budget: Budget = Field(default=Budget(), description="How many extra tries there may be.")
    hedge: Hedge = Field(default=Hedge(), description="A second try that does not wait.")

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """``off`` is a single try, ``on`` the defaults.

        YAML 1.1 parsers read the key ``on`` as true. Ours doesn't, but a mapping may come from
        another one.
        """
        if isinstance(value, Mapping):
            return {"on" if key is True else key: item for key, item in value.items()}
        state = switch(value)
        if state is None:
            return value
        return {} if state else {"attempts": 1}

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Delays grow."""
        yield from in_order(values, "base_delay", "max_delay")


class Outliers(Switchable):
    """Leaves instances out for a while that do worse than the others; `off` will do."""

    enabled: bool = Field(default=True, description="Whether instances are left out.")
    consecutive_errors: Count = Field(
        default=5, le=1_000_000, description="Failures in a row that do it; 0 is off."
    )
    interval: PositiveDuration = Field(
        default=10.0, le=3600, description="How often success rates are compared."
    )
    base_ejection: PositiveDuration = Field(
        default=30.0, le=86400, description="How long; times the number of times in a row."
    )
    max_ejection: PositiveDuration = Field(default=300.0, le=86400, description="How long at most.")
    max_ejection_share: Share = Field(
        default=0.5,
        description="Share of a service's instances that may be left out; of several, always one.",
    )
    minimum_calls: Count = Field(
        default=50,
        ge=1,
        le=1_000_000,
        description="Calls to an instance within an interval before its rate is compared.",
    )
    success_rate: bool = Field(default=True, description="Compare success rates.")
    deviations: Number = Field(
        default=1.9,
        le=100,
        description="An instance is an outlier when its success rate is below the mean of the "
        "others by more than so many of their standard deviations.",
    )
    margin: Share = Field(
        default=0.2, description="And by more than this, as the others may all be alike."
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """The time grows; it does not shrink."""
        yield from in_order(values, "base_ejection", "max_ejection")


class Concurrency(Section):
    """How many requests a service is asked at once; more wait, and then get 503."""

    limit: Count = Field(
        default=0, le=1_000_000, description="Requests in flight to the service; 0 is unlimited."
    )
    per_instance: Count = Field(
        default=0, le=1_000_000, description="Requests in flight to one instance; 0 is unlimited."
    )
    queue: Count = Field(
        default=100, le=1_000_000, description="Requests that may wait; more get 503 at once."
    )
    queue_timeout: PositiveDuration = Field(
        default=1.0, le=3600, description="Longest wait; then 503 with `Retry-After`."
    )
    adaptive: bool = Field(
        default=False,
        description="Find the limit of the service by its latency, within the bounds below.",
    )
    min_limit: Count = Field(
        default=4, ge=1, le=1_000_000, description="Lowest limit that is tried."
    )
    max_limit: Count = Field(
        default=1000, ge=1, le=1_000_000, description="Highest limit that is tried."
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """The limits are a range."""
        yield from in_order(values, "min_limit", "max_limit", str)
