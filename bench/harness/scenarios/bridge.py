"""What the WebSocket scenarios share: the gateway's bridge, entrants, and the table of a run."""

from collections.abc import Iterable, Mapping

from harness.bench import Bench
from harness.gateway import Stages, gateway
from harness.processes import BenchError, Rig
from harness.proxies import AUTOBAHN, NGINX, Proxy, Running
from harness.report import Report, ratio, thousands
from harness.rounds import Entrant, Rounds, Sample
from harness.sockets import Clients, Traffic, start_echo

GATEWAY = "rtgateway"
COLUMNS = (
    "per s",
    "x nginx",
    "CPU x nginx",
    "x Autobahn",
    "p50 ms",
    "p99 ms",
    "CPU us",
    "its core",
    "load core",
)


def bridge() -> Proxy:
    """The gateway with `websocket: true` and everything else as it comes."""
    return gateway(Stages(websocket={}))


def start(bench: Bench, rig: Rig, proxies: Iterable[Proxy]) -> dict[str, Running]:
    """The echo upstream and all of `proxies` in front of it."""
    return bench.start_all(rig, proxies, start_echo(rig, bench.cores), probe=False)


def entrant(bench: Bench, rig: Rig, running: Running, traffic: Traffic, label: str = "") -> Entrant:
    clients = Clients(rig, bench.cores, f"127.0.0.1:{running.slot.port}", traffic)
    return clients.entrant(label or running.proxy.title, running)


def measure(bench: Bench, proxies: Iterable[Proxy], traffic: Traffic) -> Rounds:
    """The same traffic through each of `proxies`."""
    with bench.rig() as rig:
        running = start(bench, rig, proxies)
        if not running:
            raise BenchError("nobody could be started")
        return bench.interleave([entrant(bench, rig, each, traffic) for each in running.values()])


def tabulate(
    report: Report, rounds: Rounds, *, nginx: str = NGINX, autobahn: str = AUTOBAHN
) -> Report:
    """Fill the report's rows (fastest first), data and notes from the rounds."""
    for label in sorted(rounds.samples, key=rounds.rate, reverse=True):
        numbers = _numbers(rounds, label)
        report.rows.append(
            (
                label,
                thousands(numbers["rate"]),
                ratio(rounds.ratio(label, nginx)),
                ratio(rounds.ratio(nginx, label, _micros)),
                ratio(rounds.ratio(label, autobahn)),
                f"{numbers['p50'] / 1e3:.2f}",
                f"{numbers['p99'] / 1e3:.2f}",
                f"{numbers['micros']:.1f}",
                f"{numbers['proxy_share']:.0%}",
                f"{numbers['load_share']:.0%}",
            )
        )
        report.data[label] = numbers
    report.notes += rounds.notes()
    return report


def _numbers(rounds: Rounds, label: str) -> Mapping[str, float]:
    return {
        "rate": rounds.rate(label),
        "p50": rounds.median(label, lambda sample: sample.outcome.p50),
        "p99": rounds.median(label, lambda sample: sample.outcome.p99),
        "micros": rounds.median(label, _micros),
        "proxy_share": rounds.median(label, lambda sample: sample.proxy_share),
        "load_share": rounds.median(label, lambda sample: sample.load_share),
    }


def _micros(sample: Sample) -> float:
    return sample.micros_per_request
