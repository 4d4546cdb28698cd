"""Rate limits in memory: time of a decision, memory of a million keys, and the longest pause.

    .venv/bin/python bench/limiter.py                 one table, about two minutes
    .venv/bin/python bench/limiter.py --keys 100000   sooner

A decision is `MemoryLimits.decide` of one ask, and of three (client, identity and route), each by
the same algorithm. Memory and pauses are those of a process of its own for each algorithm: what it
grows by while it gets to know as many addresses as the table may hold (a log of 4 units counts as
another key, so that a table of logs holds fewer); then the longest call of each kind while as many
new ones push them out, and while ticks forget them all. Pauses are processor time, so that what
else the machine does is none of theirs.
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
from random import Random

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
    "sliding_window": (SlidingWindow(WIDE, 60), SlidingWindow(100, 10)),
    "sliding_log": (SlidingLog(20, 2e-5), SlidingLog(20, 10)),
}
COLUMNS = (
    "algorithm",
    "one ask, µs",
    "three asks, µs",
    "keys",
    "MB",
    "longest new key, ms",
    "longest tick, ms",
)


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
                f"{found['set'] * 1e3:.2f}",
                f"{found['tick'] * 1e3:.2f}",
            ]
        )
    print(table(COLUMNS, rows))
    return 0


def decisions(algorithm: Algorithm) -> tuple[float, float]:
    """Microseconds of one decision with one ask, and with three: the best of many short runs."""
    limiters = [Limiter(name, algorithm) for name in ("client", "identity", "route")]
    asks = [Ask(limiter, algorithm, "ip:203.0.113.7", 1) for limiter in limiters]
    best = []
    for several in (asks[:1], asks):
        names = {"decide": MemoryLimits(1000).decide, "asks": tuple(several)}
        runs = timeit.repeat("decide(asks)", globals=names, number=1000, repeat=200)
        best.append(min(runs) / 1000 * 1e6)
    return best[0], best[1]


def fill(algorithm: Algorithm, most: int) -> dict[str, float]:
    """Bytes of a full table, and the longest calls while it is refilled and emptied, in seconds."""
    now = 1000.0
    limits = MemoryLimits(most, lambda: now)
    limiter = Limiter("client", algorithm)
    # As the gateway does: what lasts is none of the collector's business.
    gc.collect()
    gc.freeze()
    before = resident()
    for key in addresses(1, most):
        limits.decide([Ask(limiter, algorithm, key, 1)])
    grown = resident() - before
    kept = limits.keys("client")
    longest_set = longest_tick = 0.0
    for key in addresses(2, most):
        asks = [Ask(limiter, algorithm, key, 1)]
        began = time.thread_time()
        limits.decide(asks)
        longest_set = max(longest_set, time.thread_time() - began)
    for _ in range(4000):
        now += 0.1
        began = time.thread_time()
        limits.tick(now)
        longest_tick = max(longest_tick, time.thread_time() - began)
        if not limits.keys("client"):
            break
    else:
        raise SystemExit(f"{limits!r} after {now:.0f} s")
    return {"keys": kept, "bytes": grown, "set": longest_set, "tick": longest_tick}


def addresses(seed: int, number: int) -> Iterator[str]:
    """Keys of so many clients."""
    random = Random(seed)
    for _ in range(number):
        n = random.getrandbits(32)
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
