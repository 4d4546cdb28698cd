"""Large bodies: 1 MiB down and 1 MiB up, as bytes a second."""

from harness.bench import Bench
from harness.gateway import gateway
from harness.load import Load
from harness.report import Report, Target
from harness.scenarios.throughput import COLUMNS, entrant, tabulate
from harness.upstream import BIG_PATH, BIG_SIZE, UPLOAD_PATH, UPLOAD_SIZE, start_upstream

PEERS = ("nginx", "haproxy", "go", "fastify")
CONNECTIONS = 16


def big(bench: Bench) -> Report:
    return _bodies(
        bench,
        Report(
            "big",
            f"GET of {BIG_SIZE >> 20} MiB, {CONNECTIONS} keep-alive connections",
            ("proxy", *COLUMNS, "MB/s"),
        ),
        Load(BIG_PATH, CONNECTIONS),
        BIG_SIZE,
        target=0.6,
    )


def upload(bench: Bench) -> Report:
    return _bodies(
        bench,
        Report(
            "upload",
            f"POST of {UPLOAD_SIZE >> 20} MiB, {CONNECTIONS} keep-alive connections",
            ("proxy", *COLUMNS, "MB/s"),
        ),
        Load(UPLOAD_PATH, CONNECTIONS, script="upload.lua"),
        UPLOAD_SIZE,
        target=0.5,
    )


def _bodies(bench: Bench, report: Report, load: Load, size: int, target: float) -> Report:
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        running = bench.start_all(rig, [gateway(), *bench.taking_part(*PEERS)], upstream.address)
        rounds = bench.interleave([entrant(bench, proxy, load) for proxy in running.values()])
    report.targets = [
        Target(f">= {target} x nginx in bytes/s", rounds.ratio("rtgateway", "nginx"), target)
    ]
    tabulate(report, rounds)
    report.rows = [(*row, f"{rounds.rate(row[0]) * size / 1e6:,.0f}") for row in report.rows]
    return report
