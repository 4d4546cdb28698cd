"""Rate limits in memory: time of a decision, memory of a million keys, and the longest pause.

    .venv/bin/python bench/limiter.py                 one table, about a minute and a half
    .venv/bin/python bench/limiter.py --keys 100000   sooner

A decision is `MemoryLimits.decide` of one ask, and of three (client, identity and route), each by
the same algorithm: the best of many short runs.

Memory and pauses are those of a process of its own for each algorithm, whose garbage collector is
set as the gateway's. Memory is what it grows by while it gets to know as many addresses as the
table may hold (16 units of a log, or a part of them, count as another key, so that a table of logs
holds fewer; they are all taken). Pauses are the longest of each kind in processor time, so that
what else the machine does is none of theirs, as far as that can be told: decisions about new keys,
while the table fills and while keys are pushed out; about known ones; and ticks, until all keys are
forgotten. Of the decisions the lowest of three longest ones is shown. The last line is the longest
step of a loop that decides nothing, found in the same way.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
import timeit
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.machine import description, load_average
from harness.report import table

from rtgateway.core.limits import (
    Algorithm,
    FixedWindow,
    Gcra,
    LeakyBucket,
    Shaper,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from rtgateway.store.limits.asked import Ask, OnFailure
from rtgateway.store.limits.memory import MemoryLimits

WIDE = 10**9
ALGORITHMS: dict[str, tuple[Algorithm, Algorithm]] = {
    # One that always admits, for the time of it; one as it may be configured.
    "token_bucket": (TokenBucket(WIDE, 1e6), TokenBucket(100, 10)),
    "leaky_bucket": (LeakyBucket(WIDE, 1e6), LeakyBucket(100, 10)),
    "gcra": (Gcra(WIDE, 60), Gcra(100, 10)),
    "shaper": (Shaper(1e6, WIDE), Shaper(10, 99)),
    "fixed_window": (FixedWindow(WIDE, 60), FixedWindow(100, 10)),
    # So short that the window before counts too.
    "sliding_window": (SlidingWindow(WIDE, 0.01), SlidingWindow(100, 10)),
    "sliding_log": (SlidingLog(20, 2e-5), SlidingLog(20, 10)),
}
COLUMNS = (
    "algorithm",
    "one ask, µs",
    "three asks, µs",
    "keys",
    "MB",
    "MB per million",
    "longest set, ms",
    "longest get, ms",
    "longest tick, ms",
)
TIMES = 3
PUSHED_OUT = 0.1
KNOWN = 0.05
AT_ONCE = 8
"""Decisions between two looks at the clock, which takes about as long as one of them."""


@dataclass
class Limiter:
    """See `store.limits.asked.Limiter`."""

    name: str
    algorithm: Algorithm
    on_failure: OnFailure = "local"
    leases: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys of a table at most")
    parser.add_argument("--only", choices=ALGORITHMS, action="append", default=[])
    parser.add_argument("--child", choices=ALGORITHMS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(fill(ALGORITHMS[options.child][1], options.keys)))
        return 0
    print(f"{', '.join(description().values())}; load {load_average():.1f}\n")
    rows = []
    for name in options.only or ALGORITHMS:
        once, thrice = decisions(ALGORITHMS[name][0])
        child = [sys.executable, __file__, "--child", name, "--keys", str(options.keys)]
        found = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout)
        rows.append(
            [
                name,
                f"{once:.2f}",
                f"{thrice:.2f}",
                f"{found['keys']:,}",
                f"{found['bytes'] / 1e6:.0f}",
                f"{found['bytes'] / found['keys']:.0f}",
                *(f"{found[call] * 1e3:.2f}" for call in ("set", "get", "tick")),
            ]
        )
    print(table(COLUMNS, rows))
    print(f"\nlongest step of a loop that decides nothing: {idle(options.keys) * 1e3:.2f} ms")
    return 0


def decisions(algorithm: Algorithm) -> tuple[float, float]:
    """Microseconds of one decision with one ask, and with three: the best of many short runs."""
    limiters = [Limiter(name, algorithm) for name in ("client", "identity", "route")]
    asks = [Ask(limiter, algorithm, "ip:203.0.113.7", 1) for limiter in limiters]
    best = []
    for several in (asks[:1], asks):
        names = {"decide": MemoryLimits(1000).decide, "asks": tuple(several)}
        runs = timeit.repeat("decide(asks)", globals=names, number=1000, repeat=100)
        # Not the first ones, in which no window has ended yet.
        best.append(min(runs[20:]) / 1000 * 1e6)
    return best[0], best[1]


def fill(algorithm: Algorithm, most: int) -> dict[str, float]:
    """Bytes of a full table, and the longest call of each kind, in seconds."""
    # As the gateway does.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    keys = Keys(algorithm, most)
    before = resident()
    third, out, known = most // TIMES, int(most * PUSHED_OUT), int(most * KNOWN)
    filled = min(keys.ask(i * third, (i + 1) * third, keys.cost) for i in range(TIMES))
    found: dict[str, float] = {
        "keys": keys.limits.keys("client"),
        "bytes": resident() - before,
    }
    end = TIMES * third
    pushed = min(keys.ask(end + i * out, end + (i + 1) * out, keys.cost) for i in range(TIMES))
    end += TIMES * out
    found["set"] = max(filled, pushed)
    found["get"] = min(keys.ask(end - known, end, 0) for _ in range(TIMES))
    found["tick"] = keys.empty()
    return found


class Keys:
    """The keys of one limiter."""

    def __init__(self, algorithm: Algorithm, most: int) -> None:
        self.now = 1000.0
        self.limits = MemoryLimits(most, lambda: self.now)
        self.limiter = Limiter("client", algorithm)
        self.cost = algorithm.limit if isinstance(algorithm, SlidingLog) else 1

    def ask(self, first: int, last: int, cost: int) -> float:
        """The longest that some decisions about so many addresses take."""
        clock, decide = time.thread_time, self.limits.decide
        limiter, algorithm = self.limiter, self.limiter.algorithm
        longest = 0.0
        before = clock()
        for some in range(first, last, AT_ONCE):
            for key in addresses(some, min(some + AT_ONCE, last)):
                decide((Ask(limiter, algorithm, key, cost),))
            now = clock()
            if now - before > longest:
                longest = now - before
            before = now
        return longest

    def empty(self) -> float:
        """The longest tick until all are forgotten."""
        longest = 0.0
        for _ in range(20_000):
            self.now += 0.1
            before = time.thread_time()
            self.limits.tick(self.now)
            longest = max(longest, time.thread_time() - before)
            if not self.limits.keys("client"):
                return longest
        raise SystemExit(f"{self.limits!r} at {self.now:.0f} s")


def idle(number: int) -> float:
    """The longest that some steps of a loop take, of so many, in which nothing is decided."""
    clock = time.thread_time
    found = 1.0
    for _ in range(TIMES):
        longest = 0.0
        before = clock()
        for some in range(0, number, AT_ONCE):
            for _ in addresses(some, some + AT_ONCE):
                pass
            now = clock()
            if now - before > longest:
                longest = now - before
            before = now
        found = min(found, longest)
    return found


def addresses(first: int, last: int) -> Iterator[str]:
    """Keys of clients, no two of them alike."""
    for i in range(first, last):
        n = i * 2_654_435_761 & 0xFFFFFFFF
        yield f"ip:{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS")


if __name__ == "__main__":
    sys.exit(main())
