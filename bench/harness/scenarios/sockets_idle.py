"""Open WebSockets that do nothing: memory of each pair, and what pinging them costs."""

import time
from dataclasses import dataclass

from harness.bench import Bench
from harness.processes import BenchError, Rig
from harness.proxies import Proxy, Running
from harness.report import Report, Target
from harness.scenarios.bridge import GATEWAY, bridge, start
from harness.sockets import Crowd

WARM_UP = 20
SETTLE = 2.0  # seconds after opening or closing, before memory is read
WINDOW = 30.0  # one interval of pings, so that each connection has just one in it
PINGING = ("rtgateway", "autobahn")  # the others never say anything of their own
ALLOWED_BYTES = 6_000
ALLOWED_MICROS = 3.0


@dataclass(frozen=True)
class Finding:
    """Memory in bytes, `cpu` in seconds over the window; None for those that send no pings."""

    before: int
    after: int
    pairs: int
    cpu: float | None
    pings: int

    @property
    def bytes_per_pair(self) -> float:
        return (self.after - self.before) / self.pairs

    @property
    def micros(self) -> float | None:
        """Processor time for one connection and second."""
        return None if self.cpu is None else self.cpu / self.pairs / WINDOW * 1e6


def idle(bench: Bench) -> Report:
    pairs = bench.options.pairs
    report = Report(
        "ws-idle",
        f"{pairs:,} open connections that have echoed one message each",
        ("proxy", "kB/pair", "RSS MB", "CPU us per connection and s", "pings"),
    )
    findings: dict[str, Finding] = {}
    peers = bench.taking_part("nginx", "haproxy", "go", "node", "autobahn", sockets=True)
    # One proxy at a time, with an upstream and clients of its own.
    for proxy in [bridge(), *peers]:
        for tls in (False, True) if proxy.speaks_tls else (False,):
            title = f"{proxy.title}, TLS" if tls else proxy.title
            try:
                if found := _alone(bench, proxy, pairs, tls=tls):
                    findings[title] = found
            except BenchError as error:
                report.notes.append(f"{title} broke and was left out: {error}")
    return _fill(report, findings)


def _alone(bench: Bench, proxy: Proxy, pairs: int, *, tls: bool) -> Finding | None:
    with bench.rig() as rig:
        running = start(bench, rig, [proxy]).get(proxy.name)
        if running is None or (tls and running.slot.certificate is None):
            return None
        return _measure(bench, rig, running, pairs, tls=tls)


def _measure(bench: Bench, rig: Rig, running: Running, pairs: int, *, tls: bool) -> Finding:
    slot, child = running.slot, running.child
    address = f"127.0.0.1:{slot.tls_port if tls else slot.port}"
    crowd = Crowd(rig, bench.cores)
    # What is loaded or allocated once is not charged to the pairs.
    crowd.open(address, WARM_UP, tls=tls)
    crowd.close()
    time.sleep(SETTLE)
    before = child.resident_bytes()
    crowd.open(address, pairs, tls=tls)
    time.sleep(SETTLE)
    after, cpu, pings = child.resident_bytes(), None, 0
    if running.proxy.name in PINGING:
        pings, usage = crowd.pings(), child.usage()
        time.sleep(WINDOW)
        cpu, pings = (child.usage() - usage).total, crowd.pings() - pings
    crowd.pings()
    child.check()
    return Finding(before, after, pairs, cpu, pings)


def _fill(report: Report, findings: dict[str, Finding]) -> Report:
    for title, found in findings.items():
        report.rows.append(
            (
                title,
                f"{found.bytes_per_pair / 1e3:.1f}",
                f"{found.after / 1e6:.0f}",
                "" if found.micros is None else f"{found.micros:.2f}",
                f"{found.pings:,}" if found.pings else "",
            )
        )
        report.data[title] = {
            "bytes_per_pair": found.bytes_per_pair,
            "micros_per_connection_and_second": found.micros,
            "pings": found.pings,
        }
        if found.cpu is not None and found.pings < 0.9 * found.pairs:
            report.notes.append(
                f"{title} sent {found.pings:,} pings in {WINDOW:.0f} s, not one to everybody"
            )
    own = findings.get(GATEWAY)
    report.targets = [
        Target(
            "<= 6 kB RSS per idle pair, in kB",
            own.bytes_per_pair / 1e3 if own else None,
            ALLOWED_BYTES / 1e3,
            at_least=False,
        ),
        Target(
            "<= 3 us CPU per connection and second, with pings every 30 s",
            own.micros if own else None,
            ALLOWED_MICROS,
            at_least=False,
        ),
    ]
    return report
