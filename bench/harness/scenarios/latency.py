"""Added latency at a constant rate: half of what the gateway can do, the same rate for everybody.

What a proxy adds is its percentile less the percentile of the same load sent straight to the
upstream. The load is open-loop: it does not slow down when answers do.
"""

import statistics
from collections.abc import Callable

from harness.bench import Bench
from harness.gateway import gateway
from harness.load import Load, Outcome, steady, wrk
from harness.proxies import Running
from harness.report import Report, Target, thousands
from harness.rounds import Entrant, Rounds, Sample
from harness.upstream import SMALL_PATH, start_upstream

DIRECT, GATEWAY, NGINX = "direct to the upstream", "rtgateway", "nginx"
ALLOWED_MS = 2.0
QUANTILES: dict[str, Callable[[Sample], float]] = {
    "p50": lambda sample: sample.outcome.p50,
    "p99": lambda sample: sample.outcome.p99,
    "p99.9": lambda sample: sample.outcome.p999,
}


def latency(bench: Bench) -> Report:
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        proxies = [gateway(), *bench.taking_part("nginx", "haproxy", "go")]
        running = bench.start_all(rig, proxies, upstream.address)
        rate, whose = _rate(bench, running)
        entrants = [_entrant(bench, DIRECT, None, upstream.address, SMALL_PATH, rate)]
        for proxy in running.values():
            path = proxy.proxy.prefix + SMALL_PATH
            address = f"127.0.0.1:{proxy.slot.port}"
            entrants.append(_entrant(bench, proxy.proxy.title, proxy, address, path, rate))
        rounds = bench.interleave(entrants)
    return _report(rounds, rate, whose)


def _rate(bench: Bench, running: dict[str, Running]) -> tuple[float, str]:
    """Requests per second to send, and the words that explain the number."""
    if bench.options.rate:
        return bench.options.rate, "as asked for"
    for name in ("rtgateway", "go", "nginx"):
        if name not in running:
            continue
        most = bench.known_rates.get(name)
        if most is None:
            most = wrk(running[name].url(SMALL_PATH), Load(SMALL_PATH), 3, bench.cores).rate
        return most / 2, f"half of what {running[name].proxy.title} can do"
    return 1000.0, "no proxy to take half the rate of"


def _entrant(
    bench: Bench, label: str, running: Running | None, address: str, path: str, rate: float
) -> Entrant:
    def measure(seconds: float) -> Outcome:
        return steady(address, path, rate, seconds, bench.cores)

    return Entrant(label, running, measure)


def _report(rounds: Rounds, rate: float, whose: str) -> Report:
    report = Report(
        "latency",
        f"microseconds at a constant {thousands(rate)} req/s ({whose}), 64 connections",
        ("proxy", *QUANTILES, *(f"added {name}" for name in QUANTILES), "its core", "failed"),
    )
    added: dict[str, float] = {}
    for label in rounds.samples:
        absolute = {name: rounds.median(label, value) for name, value in QUANTILES.items()}
        over = {name: _added(rounds, label, value) for name, value in QUANTILES.items()}
        p99 = over["p99"]
        if p99 is not None:
            added[label] = p99
        report.rows.append(
            (
                label,
                *map(thousands, absolute.values()),
                *("" if value is None else thousands(value) for value in over.values()),
                f"{rounds.median(label, lambda sample: sample.proxy_share):.0%}",
                thousands(sum(sample.outcome.errors for sample in rounds.samples[label])),
            )
        )
        report.data[label] = {"rate": rate, **absolute, "added": over}
    report.targets = [_target(added)]
    report.notes += rounds.notes()
    return report


def _added(rounds: Rounds, label: str, value: Callable[[Sample], float]) -> float | None:
    """The median over the rounds of what was added in that round."""
    if label == DIRECT or DIRECT not in rounds.samples:
        return None
    return statistics.median(
        value(through) - value(direct)
        for through, direct in zip(rounds.samples[label], rounds.samples[DIRECT], strict=True)
    )


def _target(added: dict[str, float]) -> Target:
    """At most 2 ms, or twice nginx's when that is more."""
    gateway_ms = added[GATEWAY] / 1e3 if GATEWAY in added else None
    nginx_ms = added.get(NGINX, 0.0) / 1e3
    bound = max(ALLOWED_MS, 2 * nginx_ms)
    promise = f"added p99 <= 2 x nginx's ({nginx_ms:.2f} ms) or <= {ALLOWED_MS:g} ms, in ms"
    return Target(promise, gateway_ms, bound, at_least=False)
