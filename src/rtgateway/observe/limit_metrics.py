"""Metrics of rate limits, bans and the store, read from where they are when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rtgateway.observe.durations import BRIEF
from rtgateway.observe.exposition import Sample, family, histogram_family
from rtgateway.observe.limit_views import (
    BansView,
    LeasesView,
    LimitersView,
    StateView,
    StoreView,
)

__all__ = ["limit_metrics"]


def limit_metrics(state: StateView) -> Iterator[str]:
    """The text of all of them."""
    yield from _decisions(state.limits)
    yield from _banned(state.limits, state.bans)
    yield from _kept(state.limits)
    yield from _leases(state.limits)
    yield from _gateways(state.limits)
    yield from _store(state.store)


def _decisions(limits: LimitersView) -> Iterator[str]:
    yield family(
        "gateway_rate_limit_decisions_total",
        "counter",
        "Decisions of limiters; of a refused request, of those that refused it.",
        ["limiter", "level", "outcome"],
        limits.decisions.items(),
    )
    yield family(
        "gateway_rate_limit_exceeded_total",
        "counter",
        "Requests that a rate limit refused.",
        ["service", "user_type"],
        limits.exceeded.items(),
    )


def _banned(limits: LimitersView, bans: BansView) -> Iterator[str]:
    yield family(
        "gateway_rate_limit_banned_total",
        "counter",
        "Bans that began.",
        [],
        [([], bans.imposed)],
    )
    yield family("gateway_rate_limit_bans", "gauge", "Bans that hold.", [], [([], len(bans))])
    yield family(
        "gateway_ip_denied_total",
        "counter",
        "Requests that the IP lists refused.",
        [],
        [([], limits.denied)],
    )
    yield family(
        "gateway_rate_limit_banned_requests_total",
        "counter",
        "Requests that were refused because of a ban.",
        [],
        [([], limits.banned)],
    )


def _kept(limits: LimitersView) -> Iterator[str]:
    yield family(
        "gateway_rate_limit_keys",
        "gauge",
        "Keys that are remembered in this process.",
        ["limiter"],
        [([name], count) for name, count in limits.keys.items()],
    )
    yield family(
        "gateway_rate_limit_adaptive_factor",
        "gauge",
        "The share of an adaptive limit that load leaves of it.",
        ["limiter"],
        [
            ([name], limiter.factor)
            for name, limiter in limits.limiters.items()
            if limiter.factor is not None
        ],
    )


def _leases(limits: LimitersView) -> Iterator[str]:
    leases = limits.leases

    def of(value: Callable[[LeasesView], int]) -> list[Sample]:
        return [([name], value(each)) for name, each in leases.items()]

    yield family(
        "gateway_rate_limit_leases",
        "gauge",
        "Leases that this gateway has.",
        ["limiter"],
        of(lambda each: each.live),
    )
    yield family(
        "gateway_rate_limit_leased_units_total",
        "counter",
        "Units that the store lent.",
        ["limiter"],
        of(lambda each: each.leased),
    )
    yield family(
        "gateway_rate_limit_returned_units_total",
        "counter",
        "Units that were given back unspent.",
        ["limiter"],
        of(lambda each: each.returned),
    )
    yield family(
        "gateway_rate_limit_local_decisions_total",
        "counter",
        "Decisions without asking the store: by a lease, or because it did not answer.",
        ["limiter"],
        of(lambda each: each.local),
    )


def _gateways(limits: LimitersView) -> Iterator[str]:
    yield family(
        "gateway_rate_limit_degraded_seconds_total",
        "counter",
        "Time in which a shared store did not answer.",
        [],
        [([], limits.degraded_seconds)],
    )
    yield family(
        "gateway_gateways",
        "gauge",
        "Gateways that share the store, this one included; the last known number.",
        [],
        [([], limits.gateways)],
    )


def _store(store: StoreView | None) -> Iterator[str]:
    yield family(
        "gateway_store_up",
        "gauge",
        "1 while the shared store answers, else 0.",
        [],
        [] if store is None else [([], int(store.up))],
    )
    yield family(
        "gateway_store_news",
        "gauge",
        "1 while what other gateways change is heard of at once, else 0.",
        [],
        [] if store is None else [([], int(store.up and not store.deaf))],
    )
    yield histogram_family(
        "gateway_store_request_duration_seconds",
        "Time until the shared store answered.",
        ["operation"],
        [] if store is None else [([name], each) for name, each in store.durations.items()],
        BRIEF,
    )
    yield family(
        "gateway_store_failures_total",
        "counter",
        "What the shared store did not answer as it should.",
        ["operation", "reason"],
        [] if store is None else store.failures.items(),
    )
