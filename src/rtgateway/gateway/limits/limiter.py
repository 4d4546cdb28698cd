"""A limiter of the configuration: its algorithm now, whom it spares, and whose keys are whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtgateway.core.limits import (
    Adaptive,
    AdaptiveSettings,
    Algorithm,
    FixedWindow,
    Gcra,
    LeakyBucket,
    Popular,
    Shaper,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from rtgateway.core.networks import NetworkSet
from rtgateway.gateway.limits.answers import Words
from rtgateway.gateway.limits.keys import fixed_key, own_key, subject_key
from rtgateway.store.limits.asked import OnFailure

if TYPE_CHECKING:
    from rtgateway import config
    from rtgateway.gateway.exchange import Exchange

__all__ = ["Limiter", "make_algorithm"]

_FIXED = frozenset(["service", "route", "global"])

_PLAN = "plan:"

_TRACKED = 200
"""Keys of each limiter that are known to be asked for most."""


def make_algorithm(numbers: config.Numbers) -> Algorithm:
    """The algorithm that the configuration names, with its numbers."""
    match numbers.algorithm:
        case "gcra":
            return Gcra(numbers.limit, numbers.window, numbers.burst)
        case "leaky_bucket":
            return LeakyBucket(numbers.capacity, numbers.refill_rate)
        case "shaper":
            return Shaper(numbers.refill_rate, numbers.queue)
        case "fixed_window":
            return FixedWindow(numbers.limit, numbers.window)
        case "sliding_window":
            return SlidingWindow(numbers.limit, numbers.window)
        case "sliding_log":
            return SlidingLog(numbers.limit, numbers.window)
        case _:
            return TokenBucket(numbers.capacity, numbers.refill_rate)


class Limiter:
    """See the module; it has the shape of ``store.limits.asked.Limiter``.

    :ivar settings: as configured; ``current``: as changed at run time.
    :ivar level: what it counts by, for metrics: ``ip``, ``route+identity``.
    :ivar adaptive: scales the algorithm with load; None if it does not.
    :ivar popular: which keys are asked for most.
    :ivar about_clients: it tells clients apart, so that whom it refuses is to blame.
    :ivar places: routes where it holds, with their services.
    :ivar special: some have numbers of their own; ``sparing``: some are not counted.
    :ivar words: what clients are told of it; None: nothing.
    :ivar admitted: decisions that did, and ``others``: all other outcomes, by name.
    """

    __slots__ = (
        "_claims",
        "_identities",
        "_kinds",
        "_networks",
        "_variants",
        "about_clients",
        "adaptive",
        "admitted",
        "algorithm",
        "current",
        "leases",
        "level",
        "name",
        "on_failure",
        "others",
        "places",
        "popular",
        "report_only",
        "settings",
        "sparing",
        "special",
        "words",
    )

    algorithm: Algorithm

    def __init__(self, name: str, settings: config.RateLimit) -> None:
        self.name = name
        self.settings = self.current = settings
        self.about_clients = any(each.kind not in _FIXED for each in settings.per)
        self.places: set[tuple[str, str]] = set()
        # What an override's name begins with that is a key, and no subject of a token.
        kinds = ("ip", "identity", *_FIXED, *(each.name for each in settings.per if each.name))
        self._kinds = tuple(f"{kind}:" for kind in kinds)
        self.level = "+".join(each.name or each.kind for each in settings.per)
        self.on_failure: OnFailure = settings.on_store_failure
        self.leases = settings.leases
        self.report_only = settings.report_only
        told = settings.headers and not settings.report_only
        self.words = Words(name) if told else None
        self.admitted = 0
        self.others: dict[str, int] = {}
        self.popular = Popular(_TRACKED)
        exempt = settings.exempt
        self._networks = NetworkSet(exempt.ips) if exempt.ips else None
        self._identities = frozenset(exempt.identities)
        self._claims = {name: frozenset(values) for name, values in exempt.claims.items()}
        self.sparing = bool(self._networks is not None or self._identities or self._claims)
        self.adaptive = _adaptive(settings.adaptive) if settings.adaptive is not None else None
        self._variants: dict[str, Algorithm] = {}
        self.change(settings)

    # -- what holds now -----------------------------------------------------------------------

    def change(self, settings: config.RateLimit) -> None:
        """Go on with other numbers; what keys have taken stays."""
        self.current = settings
        self.special = bool(settings.plans is not None or settings.overrides)
        self._renew()

    def adapt(self, event_loop_delay: float, cpu: float, latency: float) -> None:
        """Look at the load: seconds, share of a processor, seconds."""
        adaptive = self.adaptive
        if adaptive is not None and adaptive.sample(event_loop_delay, cpu, latency):
            self._renew()

    @property
    def by_token(self) -> bool:
        """Whether it makes a difference whose token a request has."""
        return (
            any(each.kind in ("identity", "claim") for each in self.settings.per)
            or bool(self._identities or self._claims)
            or self.special
        )

    @property
    def factor(self) -> float:
        """How much of its numbers holds under the present load."""
        return self.adaptive.factor if self.adaptive is not None else 1.0

    def _renew(self) -> None:
        self._variants.clear()
        self.algorithm = self._scaled(self.current.numbers)

    def _scaled(self, numbers: config.Numbers) -> Algorithm:
        algorithm = make_algorithm(numbers)
        return algorithm if self.factor == 1.0 else algorithm.scaled(self.factor)

    def own(self, exchange: Exchange, key: str) -> tuple[str, Algorithm]:
        """The key and the algorithm of a request: its subject's, its plan's, or everybody's.

        What two algorithms remember of one key means nothing to each other: who has numbers of
        their own has a key of their own.
        """
        settings, identity = self.current, exchange.identity
        if key in settings.overrides:
            return key, self._of_subject(key)
        if identity is None:
            return key, self.algorithm
        subject = identity.subject
        if subject in settings.overrides and not subject.startswith(self._kinds):
            whose = subject_key(subject)
            return key if key == whose else own_key(key, whose), self._of_subject(subject)
        plans = settings.plans
        if plans is not None:
            plan = identity.claims.get(plans.claim)
            if isinstance(plan, str) and plan in plans.values:
                return own_key(key, _PLAN + plan), self._of_plan(plan)
        return key, self.algorithm

    def algorithm_of(self, key: str) -> Algorithm:
        """What decides about a key as it is kept."""
        shared, _, whose = key.partition("~")
        if whose.startswith(_PLAN):
            return self._of_plan(whose.removeprefix(_PLAN))
        for subject in (whose.removeprefix("identity:"), shared, shared.removeprefix("identity:")):
            if subject in self.current.overrides:
                return self._of_subject(subject)
        return self.algorithm

    def keys_of(self, subject: str) -> set[str]:
        """The keys of ``subject`` (``ip:...``, ``identity:...``, or a key as a whole), as far as
        they can be told from the configuration. `searched_for` says whether there may be more."""
        if "~" in subject:
            return {subject}
        keys = {subject} if "|" in subject else set()
        for texts in self._texts():
            if texts.count(None) == 1:
                keys.add("|".join([text or subject for text in texts]))
            elif subject in texts and None not in texts:
                keys.add("|".join(filter(None, texts)))
        whose = [subject] if subject in self._own_subjects() else []
        if self.current.plans is not None:
            whose += [_PLAN + name for name in self.current.plans.values]
        return keys | {own_key(key, name) for key in keys for name in whose}

    def searched_for(self, subject: str) -> bool:
        """Whether ``subject`` may be a part of more keys than `keys_of` knows."""
        if "~" in subject or "|" in subject:
            return False
        if self._own_subjects() and all(each.kind != "identity" for each in self.settings.per):
            # Where identities are no part of its keys, nobody knows from where they come.
            return True
        return any(
            texts.count(None) > 1 or (subject in texts and None in texts) for texts in self._texts()
        )

    def _texts(self) -> set[tuple[str | None, ...]]:
        """The parts of its keys, wherever it holds; None: what a client brings."""
        parts = self.settings.per
        return {
            tuple(
                fixed_key(each.kind, route, service) if each.kind in _FIXED else None
                for each in parts
            )
            for route, service in self.places
        }

    def _own_subjects(self) -> set[str]:
        """The keys of the subjects that have numbers of their own."""
        names = self.current.overrides
        return {subject_key(name) for name in names if not name.startswith(self._kinds)}

    def _of_subject(self, subject: str) -> Algorithm:
        return self._variant(f"subject {subject}", self.current.overrides[subject].numbers)

    def _of_plan(self, plan: str) -> Algorithm:
        return self._variant(f"plan {plan}", self.current.plan(plan))

    def _variant(self, name: str, numbers: config.Numbers) -> Algorithm:
        variant = self._variants.get(name)
        if variant is None:
            variant = self._variants[name] = self._scaled(numbers)
        return variant

    def count(self, outcome: str) -> None:
        """A decision that did not simply admit."""
        self.others[outcome] = self.others.get(outcome, 0) + 1

    # -- whom it spares -----------------------------------------------------------------------

    def spares(self, exchange: Exchange) -> bool:
        """Whether it is not for this request."""
        if self._networks is not None and exchange.client_ip in self._networks:
            return True
        identity = exchange.identity
        if identity is None or not (self._identities or self._claims):
            return False
        if identity.subject in self._identities:
            return True
        return any(_has(identity.claims.get(name), values) for name, values in self._claims.items())

    def __repr__(self) -> str:
        return f"<Limiter {self.name} by {self.level} {self.algorithm!r}>"


def _adaptive(settings: config.Adaptive) -> Adaptive:
    names = AdaptiveSettings._fields
    return Adaptive(AdaptiveSettings(**{name: getattr(settings, name) for name in names}))


def _has(claim: object, values: frozenset[str]) -> bool:
    """Whether a claim, which may be a list, is one of ``values`` or has one of them."""
    claims = claim if isinstance(claim, list | tuple) else (claim,)
    return any(isinstance(each, str) and each in values for each in claims)
