"""Open event streams: memory per stream, and how fast one event reaches everybody."""

import time
from dataclasses import dataclass

from harness.bench import Bench
from harness.gateway import gateway
from harness.processes import BenchError, Child, Rig
from harness.proxies import BUILD, Running
from harness.report import Report, Target

FANOUT = BUILD / "fanout"
WARM_UP_STREAMS = 20
EVENTS, PAUSE_MS = 20, 100
ALLOWED_BYTES = 12_000
ALLOWED_MS = 50.0
SETTLE = 1.0  # seconds after opening or closing, before memory is read
PATH = "/events"
GATEWAY_PATH = "/sse/users/events"


@dataclass(frozen=True)
class Finding:
    """Memory in bytes, times in milliseconds from the start of a broadcast."""

    before: int
    after: int
    streams: int
    p50: float
    p99: float
    last_median: float
    last_worst: float

    @property
    def bytes_per_stream(self) -> float:
        return (self.after - self.before) / self.streams


class Fanout:
    """Upstream and clients of the streams: one program, so that one clock times both."""

    def __init__(self, rig: Rig, core: int) -> None:
        if not FANOUT.exists():
            raise BenchError("load/fanout is not built: run make bench-setup with Go installed")
        self.address = f"127.0.0.1:{rig.port()}"
        self.child: Child = rig.start(
            "fanout",
            [FANOUT, "-listen", self.address],
            core=core,
            env={"GOMAXPROCS": "1"},
            conversation=True,
        )

    def ask(self, command: str) -> dict[str, float]:
        return self.child.ask(command)


def sse(bench: Bench) -> Report:
    streams = bench.options.streams
    report = Report(
        "sse",
        f"{streams:,} open event streams, {EVENTS} events broadcast to all of them",
        ("proxy", "kB/stream", "p50 ms", "p99 ms", "last client ms (median)", "worst"),
    )
    findings: dict[str, Finding] = {}
    # One proxy at a time: each gets a fan-out of its own, so that no stream outlives its turn.
    for proxy in (None, gateway(), *bench.taking_part("nginx", "go")):
        with bench.rig() as rig:
            fanout = Fanout(rig, bench.cores.load)
            if proxy is None:
                title, running = "direct to the upstream", None
            else:
                running = bench.start_all(rig, [proxy], fanout.address, probe=False).get(proxy.name)
                title = proxy.title
                if running is None:
                    continue
            try:
                findings[title] = _measure(fanout, running, streams)
            except BenchError as error:
                report.notes.append(f"{title} broke and was left out: {error}")
    return _fill(report, findings)


def _measure(fanout: Fanout, running: Running | None, streams: int) -> Finding:
    address, path = fanout.address, PATH
    if running is not None:
        address = f"127.0.0.1:{running.slot.port}"
        path = GATEWAY_PATH if running.proxy.prefix else PATH
    # What is loaded or allocated once is not charged to the streams.
    fanout.ask(f"open {address} {path} {WARM_UP_STREAMS}")
    fanout.ask("broadcast 1 10")
    fanout.ask("close")
    time.sleep(SETTLE)
    before = running.child.resident_bytes() if running else 0
    fanout.ask(f"open {address} {path} {streams}")
    time.sleep(SETTLE)
    fanout.ask("broadcast 2 10")
    after = running.child.resident_bytes() if running else 0
    times = fanout.ask(f"broadcast {EVENTS} {PAUSE_MS}")
    if running is not None:
        running.child.check()
    return Finding(
        before,
        after,
        streams,
        p50=times["p50"] / 1e3,
        p99=times["p99"] / 1e3,
        last_median=times["last_p50"] / 1e3,
        last_worst=times["last_max"] / 1e3,
    )


def _fill(report: Report, findings: dict[str, Finding]) -> Report:
    for title, found in findings.items():
        report.rows.append(
            (
                title,
                f"{found.bytes_per_stream / 1e3:.1f}" if found.after else "",
                f"{found.p50:.1f}",
                f"{found.p99:.1f}",
                f"{found.last_median:.1f}",
                f"{found.last_worst:.1f}",
            )
        )
        report.data[title] = {
            "bytes_per_stream": found.bytes_per_stream,
            "p50_ms": found.p50,
            "p99_ms": found.p99,
            "last_client_median_ms": found.last_median,
            "last_client_worst_ms": found.last_worst,
        }
    own = findings.get("rtgateway")
    report.targets = [
        Target(
            "<= 12 kB RSS per open stream, in kB",
            own.bytes_per_stream / 1e3 if own else None,
            ALLOWED_BYTES / 1e3,
            at_least=False,
        ),
        Target(
            "an event reaches all within 50 ms at p99, in ms",
            own.p99 if own else None,
            ALLOWED_MS,
            at_least=False,
        ),
    ]
    return report
