"""Latency of messages at a constant rate, the same for all, whatever comes back."""

from collections.abc import Callable

from harness.bench import Bench
from harness.proxies import NGINX
from harness.report import Report, Target, thousands
from harness.rounds import Rounds, Sample
from harness.scenarios.bridge import GATEWAY, bridge, entrant
from harness.sockets import Clients, Traffic, start_echo

RATE = 20_000.0
QUANTILES: dict[str, Callable[[Sample], float]] = {
    "p50": lambda sample: sample.outcome.p50,
    "p99": lambda sample: sample.outcome.p99,
    "p99.9": lambda sample: sample.outcome.p999,
}


def steady(bench: Bench) -> Report:
    """A message that finds all connections busy waits for one: that counts as its latency."""
    rate = bench.options.rate or RATE
    traffic = Traffic(64, text=True, rate=rate)
    with bench.rig() as rig:
        echo = start_echo(rig, bench.cores)
        peers = bench.taking_part("nginx", "haproxy", "go", "node", sockets=True)
        running = bench.start_all(rig, [bridge(), *peers], echo, probe=False)
        direct = Clients(rig, bench.cores, echo, traffic)
        rounds = bench.interleave(
            [
                direct.entrant("direct to the upstream", None),
                *(entrant(bench, rig, proxy, traffic) for proxy in running.values()),
            ]
        )
    return _report(rounds, rate)


def _report(rounds: Rounds, rate: float) -> Report:
    report = Report(
        "ws-steady",
        f"us of a 64-byte round trip at a constant {thousands(rate)} a second, 64 connections",
        ("proxy", *QUANTILES, "its core", "load core", "never came"),
    )
    for label, samples in rounds.samples.items():
        found = {name: rounds.median(label, value) for name, value in QUANTILES.items()}
        missing = sum(sample.outcome.errors for sample in samples)
        report.rows.append(
            (
                label,
                *map(thousands, found.values()),
                f"{rounds.median(label, lambda sample: sample.proxy_share):.0%}",
                f"{rounds.median(label, lambda sample: sample.load_share):.0%}",
                thousands(missing),
            )
        )
        report.data[label] = {"rate": rate, **found, "missing": missing}
    to_nginx = rounds.ratio(GATEWAY, NGINX, QUANTILES["p99"])
    report.targets = [Target("p99 <= 2 x nginx's", to_nginx, 2, at_least=False)]
    report.notes += rounds.notes()
    return report
