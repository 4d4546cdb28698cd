"""What the wrk scenarios share: an entrant from a proxy and a load, and the table of a run."""

import http.client
from collections.abc import Mapping

from harness.bench import Bench
from harness.load import Load, Outcome, wrk
from harness.processes import BenchError, fetch
from harness.proxies import Running
from harness.report import Report, ratio, thousands
from harness.rounds import Entrant, Rounds
from harness.upstream import ACCEPTED, BIG_SIZE, SMALL, UPLOAD_PATH, UPLOAD_SIZE

COLUMNS = ("req/s", "x nginx", "x Go", "p50 ms", "p99 ms", "CPU us/req", "its core", "load core")


def entrant(bench: Bench, running: Running, load: Load, label: str = "") -> Entrant:
    """`running` under `load`. The first measurement checks an answer's content beforehand."""
    checked = False

    def measure(seconds: float) -> Outcome:
        nonlocal checked
        if not checked and not load.tls:
            _check(running, load)
            checked = True
        outcome = wrk(running.url(load.path, tls=load.tls), load, seconds, bench.cores)
        if outcome.errors * 100 > outcome.requests:
            raise BenchError(f"{outcome.errors} errors in {outcome.requests} requests")
        return outcome

    return Entrant(label or running.proxy.title, running, measure)


def _check(running: Running, load: Load) -> None:
    """One request whose answer is compared; load without it could be measuring error pages."""
    body = b"x" * UPLOAD_SIZE if load.path == UPLOAD_PATH else None
    try:
        status, answer = fetch(
            running.slot.port, running.proxy.prefix + load.path, headers=load.headers, body=body
        )
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"no answer to {load.path}: {error}") from error
    expected = {"/small": len(SMALL), "/big": BIG_SIZE, "/upload": len(ACCEPTED)}[load.path]
    if status != 200 or len(answer) != expected:
        raise BenchError(f"{load.path} brings {status} with {len(answer)} bytes, not {expected}")


def tabulate(
    report: Report, rounds: Rounds, *, nginx: str = "nginx", go: str = "Go ReverseProxy"
) -> Report:
    """Fill the report's rows (fastest first), data and notes from the rounds."""
    for label in sorted(rounds.samples, key=rounds.rate, reverse=True):
        report.rows.append(_row(rounds, label, rounds.ratio(label, nginx), rounds.ratio(label, go)))
        report.data[label] = _numbers(rounds, label)
    report.notes += rounds.notes()
    return report


def _row(
    rounds: Rounds, label: str, to_nginx: float | None, to_go: float | None
) -> tuple[str, ...]:
    numbers = _numbers(rounds, label)
    return (
        label,
        thousands(numbers["rate"]),
        ratio(to_nginx),
        ratio(to_go),
        f"{numbers['p50'] / 1e3:.2f}",
        f"{numbers['p99'] / 1e3:.2f}",
        f"{numbers['micros_per_request']:.1f}",
        f"{numbers['proxy_share']:.0%}",
        f"{numbers['load_share']:.0%}",
    )


def _numbers(rounds: Rounds, label: str) -> Mapping[str, float]:
    return {
        "rate": rounds.rate(label),
        "p50": rounds.median(label, lambda sample: sample.outcome.p50),
        "p99": rounds.median(label, lambda sample: sample.outcome.p99),
        "micros_per_request": rounds.median(label, lambda sample: sample.micros_per_request),
        "proxy_share": rounds.median(label, lambda sample: sample.proxy_share),
        "load_share": rounds.median(label, lambda sample: sample.load_share),
        "errors": rounds.median(label, lambda sample: sample.outcome.errors),
    }
