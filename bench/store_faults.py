"""Faults of Redis: what clients of a limited gateway see of them, in one table.

    python bench/store_faults.py                    every fault, about two minutes
    python bench/store_faults.py --seconds 2 --only "hung (SIGSTOP)"
    python bench/store_faults.py --markdown rows.md

1,000 identities in turn, each with a limit that it does not reach and that Redis is asked about
every time (no leases). The gateway has one core; Redis, the upstream and the load the other. A
gateway with its limits in memory is measured beside it, before and during each fault.
"""

import argparse
import contextlib
import http.client
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.bench import Bench, Options
from harness.gateway import Stages, gateway
from harness.load import Load, Outcome, wrk
from harness.machine import Cores, description, free_ports, load_average
from harness.processes import Rig
from harness.proxies import Running
from harness.redis import Redis, start_redis
from harness.report import table
from harness.upstream import SMALL_PATH, start_upstream

DEADLINE_MS = 50
ENOUGH = 0.85
LONGEST_RECOVERY = 2.0  # seconds
LOAD = Load(SMALL_PATH, script="identities.lua")
COLUMNS = (
    "fault",
    "before",
    "first second",
    "after it",
    "x memory",
    "failed",
    "slowest ms",
    "said to be degraded",
    "back after s",
)


@dataclass(frozen=True)
class Fault:
    name: str
    begin: Callable[[Rig, Cores, Redis], Redis]
    end: Callable[[Rig, Cores, Redis], Redis]
    degrades: bool = True
    answers: bool = False  # Redis does, with errors, and so is asked every time


@dataclass
class Findings:
    fault: Fault
    memory: float  # requests per second, the mean of before and after
    before: Outcome
    first: Outcome
    after: Outcome
    degraded: bool
    recovery: float | None

    @property
    def ratio(self) -> float:
        return self.after.rate / self.memory

    @property
    def failed(self) -> int:
        return sum(each.errors for each in (self.first, self.after))

    @property
    def slowest(self) -> float:
        return max(self.first.slowest, self.after.slowest) / 1e3

    def row(self) -> tuple[str, ...]:
        back = "-" if self.recovery is None else f"{self.recovery:.2f}"
        return (
            self.fault.name,
            f"{self.before.rate:,.0f}",
            f"{self.first.rate:,.0f}",
            f"{self.after.rate:,.0f}",
            f"{self.ratio:.2f}",
            str(self.failed),
            f"{self.slowest:.0f} ({self.before.slowest / 1e3:.0f} before)",
            "yes" if self.degraded else "no",
            back,
        )

    def misses(self) -> list[str]:
        found = []
        if self.fault.degrades and not self.fault.answers and self.ratio < ENOUGH:
            found.append(f"{self.ratio:.2f} x memory after the first second, not {ENOUGH}")
        if self.failed:
            found.append(f"{self.failed} requests failed")
        if self.degraded != self.fault.degrades:
            found.append("degraded" if self.degraded else "not said to be degraded")
        if self.recovery is None or self.recovery > LONGEST_RECOVERY:
            found.append(f"not back within {LONGEST_RECOVERY:g} s")
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the chosen faults; 0, or 1 when --strict finds a miss."""
    options = parse(arguments)
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.load})
    bench = Bench(
        Options(rounds=1, seconds=options.seconds, only=frozenset(), rate=0, streams=0, pairs=0),
        cores,
        free_ports(),
    )
    machine = description()
    print(f"{machine['processor']}; {machine['kernel']}; Python {machine['python']}")
    if load_average() > 0.5:
        print(f"note: the machine is not idle (load average {load_average():.1f})")
    print(f"requests per second over {options.seconds:g} s each; the deadline is {DEADLINE_MS} ms")
    found = [
        played(bench, fault) for fault in FAULTS if not options.only or fault.name in options.only
    ]
    rows = table(COLUMNS, [each.row() for each in found])
    print(f"\n{rows}\n")
    misses = [f"{each.fault.name}: {miss}" for each in found for miss in each.misses()]
    print("\n".join(f"[MISS] {miss}" for miss in misses) or "[pass] every target, for every fault")
    if options.markdown:
        options.markdown.write_text(rows + "\n")
    return 1 if misses and options.strict else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what clients see while Redis fails")
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--only", action="append", choices=names, metavar="FAULT", default=[])
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="per measurement")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args(arguments)


def played(bench: Bench, fault: Fault) -> Findings:
    """One fault, with processes of its own."""
    seconds, cores = bench.options.seconds, bench.cores
    with bench.rig() as rig:
        upstream = start_upstream(rig, cores)
        redis = start_redis(rig, cores)
        plain = Stages(limits=True)
        shared = plain.replace(state=redis.url, leases=False)
        proxies = [gateway(plain, "memory"), gateway(shared, "shared")]
        running = bench.start_all(rig, proxies, upstream.address)
        limited, memory = running["shared"], running["memory"]
        wrk(limited.url(SMALL_PATH), LOAD, 1, cores)
        wrk(memory.url(SMALL_PATH), LOAD, 1, cores)
        in_memory_first = wrk(memory.url(SMALL_PATH), LOAD, seconds, cores)
        before = wrk(limited.url(SMALL_PATH), LOAD, seconds, cores)
        redis = fault.begin(rig, cores, redis)
        first = wrk(limited.url(SMALL_PATH), LOAD, 1, cores)
        degraded = is_degraded(limited)
        after = wrk(limited.url(SMALL_PATH), LOAD, seconds, cores)
        in_memory_last = wrk(memory.url(SMALL_PATH), LOAD, seconds, cores)
        redis = fault.end(rig, cores, redis)
        recovery = recovered(limited)
    in_memory = (in_memory_first.rate + in_memory_last.rate) / 2
    return Findings(fault, in_memory, before, first, after, degraded, recovery)


def is_degraded(running: Running) -> bool:
    """Whether an answer says so."""
    connection = http.client.HTTPConnection("127.0.0.1", running.slot.port, timeout=5)
    try:
        connection.request("GET", running.proxy.prefix + SMALL_PATH)
        answer = connection.getresponse()
        answer.read()
        return answer.headers.get("X-RateLimit-Mode") == "degraded"
    finally:
        connection.close()


def recovered(running: Running) -> float | None:
    """Seconds until an answer is not degraded any more; None if that takes too long."""
    began = time.monotonic()
    while time.monotonic() - began < 5 * LONGEST_RECOVERY:
        if not is_degraded(running):
            return time.monotonic() - began
        time.sleep(0.01)
    return None


# -- what goes wrong ---------------------------------------------------------------------------


def killed(rig: Rig, cores: Cores, redis: Redis) -> Redis:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(redis.child.process.pid, signal.SIGKILL)
    redis.child.process.wait()
    return redis


def started(rig: Rig, cores: Cores, redis: Redis) -> Redis:
    return start_redis(rig, cores, redis.port)


def restarted(rig: Rig, cores: Cores, redis: Redis) -> Redis:
    return started(rig, cores, killed(rig, cores, redis))


def stopped(rig: Rig, cores: Cores, redis: Redis) -> Redis:
    os.killpg(redis.child.process.pid, signal.SIGSTOP)
    return redis


def resumed(rig: Rig, cores: Cores, redis: Redis) -> Redis:
    os.killpg(redis.child.process.pid, signal.SIGCONT)
    return redis


def told(*words: str) -> Callable[[Rig, Cores, Redis], Redis]:
    """Redis is told something."""

    def tell(rig: Rig, cores: Cores, redis: Redis) -> Redis:
        redis.say(*words)
        return redis

    return tell


def nothing(rig: Rig, cores: Cores, redis: Redis) -> Redis:
    return redis


FAULTS = (
    Fault("refused (killed)", killed, started),
    Fault("hung (SIGSTOP)", stopped, resumed),
    Fault(
        "paused (CLIENT PAUSE)",
        told("CLIENT", "PAUSE", "600000", "WRITE"),
        told("CLIENT", "UNPAUSE"),
    ),
    Fault("restarted at once", restarted, nothing, degrades=False),
    Fault("scripts forgotten", told("SCRIPT", "FLUSH"), nothing, degrades=False),
    Fault("everything forgotten", told("FLUSHALL"), nothing, degrades=False),
    Fault(
        "out of memory",
        told("CONFIG", "SET", "maxmemory", "1"),
        told("CONFIG", "SET", "maxmemory", "0"),
        answers=True,
    ),
)


if __name__ == "__main__":
    sys.exit(main())
