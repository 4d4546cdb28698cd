"""Limiters: how much passes, for whom it is counted, where, and who is spared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema
from pydantic.functional_serializers import PlainSerializer

from rtgateway.config.document import Document
from rtgateway.config.explain import validated
from rtgateway.config.quotas import AlgorithmName, Numbers, Quota, expanded, is_algorithm
from rtgateway.config.rate_limit_rules import limit_rules
from rtgateway.config.references import look
from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.units import Duration, in_order
from rtgateway.config.values import (
    Count,
    Method,
    NetworkText,
    Number,
    Share,
    Token,
    Words,
    is_token,
    one_or_many,
)

__all__ = ["Adaptive", "Cost", "Exempt", "Per", "Plans", "RateLimit"]

_PER_WORDS = "ip, identity, service, route, global, header:NAME or claim:NAME"
_PLAIN = ("ip", "identity", "service", "route", "global")
_CLAIM_WORDS = "the name of a claim"
_CLAIM = re.compile(r"[!-~]{1,128}", re.ASCII)
_MOST_PARTS = 4
_MOST_COST = 1_000_000
_CHANGE = "the change"
"""What problems of `RateLimit.effective` call what was changed."""


class Per(NamedTuple):
    """Something that requests are counted by.

    :ivar kind: ``ip``, ``identity``, ``service``, ``route``, ``global``, ``header``, ``claim``.
    :ivar name: of a header, in lower case, or of a claim; else empty.
    """

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


def _per(value: Any) -> Per:
    if isinstance(value, Per):
        return value
    if isinstance(value, str):
        kind, colon, name = value.strip().partition(":")
        if kind in _PLAIN and not colon:
            return Per(kind)
        if kind == "header" and is_token(name):
            return Per(kind, name.lower())
        if kind == "claim" and _CLAIM.fullmatch(name):
            return Per(kind, name)
    raise refused(allowed=_PER_WORDS)


def _alone(value: Any) -> Any:
    return (value,) if isinstance(value, Per) else one_or_many(value)


def _claim(value: str) -> str:
    if not _CLAIM.fullmatch(value):
        raise refused(allowed=_CLAIM_WORDS)
    return value


_Per = Annotated[
    Per,
    PlainValidator(_per),
    PlainSerializer(str, return_type=str),
    Allowed(_PER_WORDS),
    WithJsonSchema({"type": "string", "examples": ["ip", "identity", "header:x-api-key"]}),
]
_Claim = Annotated[str, AfterValidator(_claim), Allowed(_CLAIM_WORDS)]
_Header = Annotated[Token, AfterValidator(str.lower)]
_Networks = Annotated[tuple[NetworkText, ...], BeforeValidator(one_or_many)]
_Units = Annotated[Count, Le(_MOST_COST)]


class Cost(Section):
    """What a request costs; one number will do."""

    default: _Units = Field(default=1, description="Units of a request; 0 is free.")
    methods: dict[Method, _Units] = Field(
        default={}, description="Units of requests with these methods."
    )
    header: _Header | None = Field(
        default=None,
        description="Field by which a client can say that its request costs more, never less.",
    )
    most: Annotated[Count, Ge(1), Le(_MOST_COST)] = Field(
        default=100, description="Most units by such a field."
    )

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """A number is the cost of every request."""
        plain = isinstance(value, int | str) and not isinstance(value, bool)
        return {"default": value} if plain else value


class Exempt(Section):
    """Whom a limiter does not count: it is enough to be one of them."""

    ips: _Networks = Field(default=(), description="Clients of these addresses and networks.")
    identities: Words = Field(default=(), description="Clients with tokens of these subjects.")
    claims: dict[_Claim, Words] = Field(
        default={}, description="Clients with one of these values in a claim."
    )


class Plans(Section):
    """Other numbers for clients whose token names a plan."""

    plural: ClassVar[str] = "plans"

    claim: _Claim = Field(default="plan", description="Claim that names the plan.")
    values: dict[str, Quota] = Field(
        min_length=1,
        description="What holds for each plan, at most 100; other plans have the limiter's own "
        "numbers.",
    )


class Adaptive(Section):
    """Lets less pass while the gateway or its services are overloaded.

    Every second in which something is above its threshold, limits and rates are multiplied by
    `decrease`; every other one adds `increase`. Where one of the three does not matter, it is 0.
    """

    cpu: Share = Field(
        default=0.8, description="Share of one processor that the gateway uses; 0 is off."
    )
    event_loop_delay: Duration = Field(
        default=0.1, le=3600, description="How late the event loop is; 0 is off."
    )
    latency: Duration = Field(
        default=0.0, le=3600, description="Until services begin to answer; 0 is off."
    )
    floor: Share = Field(default=0.1, ge=0.01, description="Least part of the numbers.")
    ceiling: Number = Field(
        default=1.0, ge=0.01, le=10, description="Largest part of the numbers; above 1 is more."
    )
    decrease: Share = Field(
        default=0.5, ge=0.01, le=0.99, description="Factor while there is too much."
    )
    increase: Share = Field(default=0.05, ge=0.001, description="Added while there is not.")

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """The parts are a range, and something is looked at."""
        yield from in_order(values, "floor", "ceiling", "{:g}".format)
        if not any(values.get(key, 1) for key in ("cpu", "event_loop_delay", "latency")):
            message = "cpu, event_loop_delay and latency are all off"
            yield Rule(message, allowed="at least one of them above 0")


# Fields of the last base come first, and what is counted comes before how much of it.
class _Counted(Section):
    """What a limiter counts."""

    algorithm: AlgorithmName = Field(
        default="token_bucket",
        description="How it counts. `adaptive` is a token bucket with the section of that name.",
    )
    per: Annotated[tuple[_Per, ...], BeforeValidator(_alone)] = Field(
        default=(Per("ip"),),
        min_length=1,
        max_length=_MOST_PARTS,
        description="Each of these has the numbers below for itself (an IPv6 address: its /64 "
        "network); several are one together, such as `[identity, route]`. Who has no such header "
        "or claim, or no token, is counted by address.",
    )


class RateLimit(Quota, _Counted):
    """How many requests pass; more are answered with 429.

    Of several limiters all have to agree, and a request that one of them refuses costs nothing
    anywhere.
    """

    plural: ClassVar[str] = "limiters"

    services: Words = Field(default=(), description="Services it holds for. Empty: all.")
    routes: Words = Field(
        default=(),
        description="Names of routes it holds for, or their paths where they have none, and "
        "`/api/:service/*`, `/sse/:service/*`, `/ws/:service`. Empty: all.",
    )
    methods: Annotated[tuple[Method, ...], BeforeValidator(one_or_many)] = Field(
        default=(), description="Methods it holds for. Empty: all."
    )
    cost: Cost = Field(default=Cost(), description="Units of a request.")
    exempt: Exempt = Field(default=Exempt(), description="Who is not counted.")
    plans: Plans | None = Field(default=None, description="Other numbers by a claim.")
    overrides: dict[str, Quota] = Field(
        default={},
        description="Other numbers for subjects of tokens, or for keys such as `ip:203.0.113.7` "
        "and `x-tenant:acme`; before those of plans. At most 1000.",
    )
    adaptive: Adaptive | None = Field(
        default=None,
        description="Less while there is too much to do. Left out: only with the algorithm of "
        "that name.",
    )
    adaptive_threshold: Share | None = Field(
        default=None, description="As `adaptive.cpu`, and turns `adaptive` on."
    )
    on_store_failure: Literal["allow", "deny", "local"] = Field(
        default="local",
        description="While Redis does not answer: let everything pass, nothing (503), or each "
        "gateway its share.",
    )
    leases: bool = Field(
        default=True, description="Decide about busy keys by leases, where `state.leases` is on."
    )
    headers: bool = Field(
        default=True, description="Tell clients by `RateLimit` and `X-RateLimit-*`."
    )
    report_only: bool = Field(
        default=False, description="Count what would be refused, and refuse nothing."
    )

    def model_post_init(self, context: Any, /) -> None:
        """Work out what holds, for everybody and for those with other numbers."""
        self.settle(self.algorithm)
        for quota in self._others():
            quota.settle(self.algorithm, self.own)

    def _others(self) -> Iterator[Quota]:
        yield from self.overrides.values()
        yield from self.plans.values.values() if self.plans is not None else ()

    def plan(self, name: str) -> Numbers:
        """What holds for a plan; for an unknown one, what holds for everybody."""
        quota = self.plans.values.get(name) if self.plans is not None else None
        return self.numbers if quota is None else quota.numbers

    def override(self, subject: str) -> Numbers | None:
        """What holds for a subject or a key; None when it has nothing of its own."""
        quota = self.overrides.get(subject)
        return None if quota is None else quota.numbers

    def effective(self, changes: Mapping[str, Any]) -> RateLimit:
        """This limiter with other numbers, said as in `Quota`.

        Plans and overrides keep what they say themselves.

        :raises ConfigError: for everything that is wrong with them, or with both together.
        """
        document = Document(_CHANGE, dict(changes))
        own = validated(document, {}, Quota).own
        numbers = expanded(self.algorithm, self.own) | expanded(self.algorithm, own)
        fields = self.model_fields_set - set(Quota.model_fields)
        kept = {key: getattr(self, key) for key in fields}
        kept["overrides"] = {key: quota.own for key, quota in self.overrides.items()}
        if self.plans is not None:
            values = {key: quota.own for key, quota in self.plans.values.items()}
            kept["plans"] = {"claim": self.plans.claim, "values": values}
        return validated(Document(_CHANGE, kept | numbers), {}, RateLimit)

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """Turn on what is turned on by another key."""
        if not isinstance(value, Mapping):
            return value
        changed = dict(value)
        adaptive, threshold = value.get("adaptive"), value.get("adaptive_threshold")
        if adaptive is None and (threshold is not None or value.get("algorithm") == "adaptive"):
            adaptive = {}
        if isinstance(adaptive, Mapping) and "cpu" not in adaptive and _is_share(threshold):
            adaptive = {**adaptive, "cpu": threshold}
        if adaptive is not None:
            changed["adaptive"] = adaptive
        return changed

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """The numbers are those of the algorithm, for everybody, and no cost is above them."""
        yield from super().rules(values)
        yield from _per_rules(values.get("per"))
        yield from _threshold_rules(values)
        algorithm = values.get("algorithm", "token_bucket")
        if is_algorithm(algorithm):
            yield from limit_rules(algorithm, values)


def _is_share(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*(0(\.[0-9]{1,18})?|1(\.0{1,18})?)\s*", value, re.ASCII) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _threshold_rules(values: Mapping[str, Any]) -> Iterator[Rule]:
    threshold, cpu = values.get("adaptive_threshold"), look(values.get("adaptive"), "cpu")
    if threshold is not None and cpu is not None and cpu != threshold:
        found = "adaptive_threshold and adaptive.cpu"
        yield Rule("", ("adaptive_threshold",), found, "one of them, as they are the same")


def _per_rules(per: object) -> Iterator[Rule]:
    parts = per if isinstance(per, list | tuple) else ()
    seen: set[str] = set()
    for index, part in enumerate(str(part) for part in parts):
        if part in seen:
            yield Rule("twice", ("per", index), allowed="each once")
        seen.add(part)
    if "global" in seen and len(seen) > 1:
        yield Rule("global is everybody together", ("per",), allowed="global alone")
