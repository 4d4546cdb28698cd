"""Rate limits: off, in memory, in Redis with leases, and in Redis with a round trip per request.

1,000 identities in turn, each with a limit of its own that it does not reach, so that all that is
seen is what limiting costs.
"""

import dataclasses

from harness.bench import Bench
from harness.gateway import Stages, gateway
from harness.load import Load, Outcome, steady, wrk
from harness.processes import BenchError
from harness.proxies import Running
from harness.redis import start_redis
from harness.report import Report, Target, thousands
from harness.rounds import Entrant, Rounds
from harness.scenarios.throughput import entrant
from harness.upstream import SMALL_PATH, start_upstream

OFF, MEMORY = "no limits", "in memory"
LEASED, ASKED = "Redis, leases", "Redis, asked every time"
STEADY_RATE = 2000.0
WARM_UP = 2.0  # seconds
NAMES = {
    OFF: "rtgateway",
    MEMORY: "rtgateway-memory",
    LEASED: "rtgateway-leases",
    ASKED: "rtgateway-redis",
}


def limits(bench: Bench) -> Report:
    """Requests per second, and what is added to the 99th percentile at a constant rate."""
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        redis = start_redis(rig, bench.cores)
        plain = Stages(limits=True)
        stages = {
            OFF: Stages(),
            MEMORY: plain,
            LEASED: plain.replace(state=redis.url),
            ASKED: plain.replace(state=redis.url, leases=False),
        }
        proxies = [gateway(stages[label], NAMES[label]) for label in stages]
        running = bench.start_all(rig, proxies, upstream.address)
        found = {label: running[name] for label, name in NAMES.items() if name in running}
        load = Load(SMALL_PATH, script="identities.lua")
        rounds = bench.interleave(
            [_warm(bench, proxy, load, label) for label, proxy in found.items()]
        )
        rate = bench.options.rate or STEADY_RATE
        steadily = bench.interleave(
            [_steadily(bench, proxy, label, rate) for label, proxy in found.items()]
        )
    return _report(rounds, steadily, rate)


def _warm(bench: Bench, running: Running, load: Load, label: str) -> Entrant:
    """Measured while keys are hot: leases are made for those that are asked for again."""

    def prepare(seconds: float) -> None:
        wrk(running.url(load.path), load, WARM_UP, bench.cores)

    return dataclasses.replace(entrant(bench, running, load, label), prepare=prepare)


def _steadily(bench: Bench, running: Running, label: str, rate: float) -> Entrant:
    path = running.proxy.prefix + SMALL_PATH
    address = f"127.0.0.1:{running.slot.port}"

    def measure(seconds: float) -> Outcome:
        outcome = steady(address, path, rate, seconds, bench.cores)
        if outcome.errors:
            raise BenchError(f"{outcome.errors} of {outcome.requests} requests failed")
        return outcome

    return Entrant(label, running, measure)


def _report(rounds: Rounds, steadily: Rounds, rate: float) -> Report:
    report = Report(
        "limits",
        f"1,000 identities, each with a limit (64 connections); p99 at {thousands(rate)} req/s",
        ("limits", "req/s", "x memory", "CPU us/req", "its core", "load core", "p99 ms"),
        notes=[*rounds.notes(), *steadily.notes()],
    )
    p99: dict[str, float] = {}
    for label in rounds.samples:
        if label in steadily.samples:
            p99[label] = steadily.median(label, lambda sample: sample.outcome.p99) / 1e3
        ratio = rounds.ratio(label, MEMORY)
        cpu = rounds.median(label, lambda sample: sample.micros_per_request)
        report.rows.append(
            (
                label,
                thousands(rounds.rate(label)),
                "" if ratio is None else f"{ratio:.2f}",
                f"{cpu:.1f}",
                f"{rounds.median(label, lambda sample: sample.proxy_share):.0%}",
                f"{rounds.median(label, lambda sample: sample.load_share):.0%}",
                f"{p99[label]:.2f}" if label in p99 else "",
            )
        )
        report.data[label] = {"rate": rounds.rate(label), "micros": cpu, "p99": p99.get(label)}
    added = p99[ASKED] - p99[MEMORY] if {ASKED, MEMORY} <= p99.keys() else None
    report.targets = [
        Target("leases >= 0.85 x memory", rounds.ratio(LEASED, MEMORY), 0.85),
        Target("asked every time >= 0.5 x memory", rounds.ratio(ASKED, MEMORY), 0.5),
        Target("p99 added by asking, ms", added, 2.0, at_least=False),
    ]
    return report
