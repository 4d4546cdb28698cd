"""One limit, many gateways: what is admitted of ten times as much, and at which cost.

    .venv/bin/python bench/cluster_limits.py                          # 8 processes, 100/s, a minute
    .venv/bin/python bench/cluster_limits.py --limit 10000 --seconds 10
    .venv/bin/python bench/cluster_limits.py --uneven --no-leases --json findings.json

Each process is a gateway as far as limits go: a reactor, its connections to a Redis server that is
started here, and the limits in front of it. Requests arrive at random (Poisson). What is printed is
held against what is promised: no more than limit * t * 1.02 + capacity, no less than 95 % of
limit * t; the program exits with 1 where that does not hold.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

MOST_OVER = 1.02
MOST_UNDER = 0.05
BEGIN = 4.0  # seconds after all gateways know of each other: three until they lease
STEP = 0.002  # seconds between two looks at what has arrived


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gateways, print what came of it; 0, or 1 where a promise was not kept."""
    options = parse(arguments)
    if options.gateway is not None:
        gateway(options)
        return 0
    from rtgateway.testing.redis import RedisServer

    server = RedisServer().start()
    try:
        own = list(sys.argv[1:] if arguments is None else arguments)
        command = [sys.executable, __file__, *own, "--url", server.url]
        running = [
            subprocess.Popen([*command, "--gateway", str(i)], stdout=subprocess.PIPE, text=True)
            for i in range(options.gateways)
        ]
        for each in running:
            if each.stdout is None or each.stdout.readline() != "ready\n":
                raise SystemExit("a gateway did not come up")
        # Everybody begins at the same time of the clock that all processes share.
        server.command("SET", "begin", str(time.monotonic() + BEGIN))
        outputs = [each.communicate(timeout=BEGIN + options.seconds + 30)[0] for each in running]
        results = [json.loads(each) for each in outputs]
    finally:
        server.kill()
        server.stop()
    return report(options, results)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--gateways", type=int, default=8)
    parser.add_argument("--limit", type=float, default=100.0, help="requests per second")
    parser.add_argument("--capacity", type=float, help="requests at once; default: the limit")
    parser.add_argument("--times", type=float, default=10.0, help="load, in limits")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--uneven", action="store_true", help="each has half the load of the last")
    parser.add_argument("--no-leases", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--gateway", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.capacity = options.capacity or options.limit
    return options


def report(options: argparse.Namespace, results: list[dict[str, Any]]) -> int:
    """A table of the gateways, and what is promised."""
    admitted = [each["admitted"] for each in results]
    decisions = sum(each["decisions"] for each in results)
    calls = sum(each["calls"] for each in results)
    print("gateway  decisions  admitted  by lease     calls  degraded  decide, us")
    for i, each in enumerate(results):
        print(
            f"{i:7d}  {each['decisions']:9d}  {each['admitted']:8d}  {each['local']:8d}  "
            f"{each['calls']:8d}  {each['degraded']:8d}  {each['microseconds']:10.1f}"
        )
    seconds = [sum(column) for column in zip(*(each["by_second"] for each in results), strict=True)]
    total, due = sum(admitted), options.limit * options.seconds
    most = due * MOST_OVER + options.capacity
    # The strictest reading: at no time since the start was there more than that.
    worst = max(
        so_far - (options.limit * (i + 1) * MOST_OVER + options.capacity)
        for i, so_far in enumerate(accumulate(seconds))
    )
    used = total / (due + options.capacity)
    jain = total**2 / (len(admitted) * sum(each * each for each in admitted))
    findings = {
        "load": decisions / due,
        "admitted": total,
        "most": most,
        "over": max(total / (due + options.capacity) - 1.0, 0.0),
        "under": max(1.0 - total / due, 0.0),
        "under_with_capacity": max(1.0 - used, 0.0),
        "fairness": jain,
        "calls_per_decision": calls / decisions,
        "calls_per_second": calls / options.seconds,
    }
    print(
        f"\nadmitted {total} of {decisions} ({findings['load']:.1f} times the limit); "
        f"limit * t + capacity: {due + options.capacity:.0f}, at most {most:.0f}\n"
        f"not used: {findings['under']:.2%} of limit * t, "
        f"{findings['under_with_capacity']:.2%} of limit * t + capacity\n"
        f"fairness (Jain): {jain:.4f}\n"
        f"calls to Redis: {findings['calls_per_decision']:.3f} per decision, "
        f"{findings['calls_per_second']:.0f} per second"
    )
    if options.json:
        options.json.write_text(json.dumps({**findings, "gateways": results}, indent=2))
    # A process may look at its watch a step late.
    kept = total <= most and worst <= options.limit * 0.1 and findings["under"] <= MOST_UNDER
    print("kept" if kept else "NOT KEPT")
    return 0 if kept else 1


def gateway(options: argparse.Namespace) -> None:
    """One process: ask as often as is due, until the end; print what came of it as JSON."""
    from twisted.internet import reactor

    load = Load(options, reactor)
    load.start()
    reactor.run()  # type: ignore[attr-defined]
    print(json.dumps(load.result()))


class Load:
    """The limits of one gateway, and what is asked of them."""

    def __init__(self, options: argparse.Namespace, reactor: Any) -> None:
        from rtgateway import config
        from rtgateway.core.limits import TokenBucket
        from rtgateway.store.limits.asked import Ask
        from rtgateway.store.limits.memory import MemoryLimits
        from rtgateway.store.limits.redis import RedisLimits
        from rtgateway.store.limits.shared import SharedLimits
        from rtgateway.store.redis.gateways import Gateways
        from rtgateway.store.redis.link import Link

        self.options = options
        self.reactor = reactor
        self.random = Random(options.gateway)
        state = config.State(url=options.url)
        self.link = Link(state, reactor, self.random.random)
        name = f"gateway-{options.gateway}"
        self.gateways = Gateways(self.link, name, state.heartbeat, reactor)
        self.redis = Counting(RedisLimits(self.link))
        self.limits = SharedLimits(
            self.redis, MemoryLimits(1000), self.link, self.gateways, state.leases
        )
        self.limiter = Limiter(TokenBucket(options.capacity, options.limit), not options.no_leases)
        self.asks = (Ask(self.limiter, self.limiter.algorithm, "one", 1),)
        share = 1.0 / options.gateways
        if options.uneven:
            # The last two have the same, so that all is given out.
            share = 2.0 ** -min(options.gateway + 1, options.gateways - 1)
        self.rate = options.limit * options.times * share
        self.ready = False
        self.begin = self.next = 0.0
        self.decisions = self.admitted = self.degraded = 0
        self.spent = 0.0
        self.by_second = [0] * (int(options.seconds) + 1)

    def start(self) -> None:
        self.link.start()
        self.gateways.start()
        self.tick()
        self.await_all()

    def await_all(self) -> None:
        """Say when all gateways are known; begin at the time that is said then."""
        if not self.ready and self.gateways.count == self.options.gateways:
            self.ready = True
            print("ready", flush=True)
        self.link.ask("GET", "begin").addCallbacks(self.told, lambda _: self.told(None))

    def told(self, begin: bytes | None) -> None:
        if begin is None:
            self.reactor.callLater(0.1, self.await_all)
            return
        self.begin = self.next = float(begin)
        self.reactor.callLater(self.begin - time.monotonic(), self.arrive)

    def tick(self) -> None:
        self.limits.tick(time.monotonic())
        self.reactor.callLater(0.1, self.tick)

    def arrive(self) -> None:
        """Ask for what has arrived since the last look."""
        now = time.monotonic()
        end = self.begin + self.options.seconds
        while self.next <= min(now, end):
            self.next += self.random.expovariate(self.rate)
            self.request()
        if now < end:
            self.reactor.callLater(STEP, self.arrive)
        else:
            # Answers to what was asked last.
            self.reactor.callLater(0.2, self.reactor.stop)

    def request(self) -> None:
        from rtgateway.net.tasks import Task
        from rtgateway.store.limits.asked import Outcome

        self.decisions += 1
        before = time.perf_counter()
        outcome = self.limits.decide(self.asks)
        self.spent += time.perf_counter() - before
        if isinstance(outcome, Outcome):
            self.note(outcome)
            return

        async def wait() -> None:
            self.note(await outcome)

        Task(wait()).step()

    def note(self, outcome: Any) -> None:
        self.degraded += outcome.degraded
        if outcome.admitted:
            self.admitted += 1
            second = int(time.monotonic() - self.begin)
            self.by_second[min(second, len(self.by_second) - 1)] += 1

    def result(self) -> dict[str, Any]:
        tally = self.limits.tallies().get("api")
        return {
            "decisions": self.decisions,
            "admitted": self.admitted,
            "local": 0 if tally is None else tally.local,
            "calls": self.redis.calls,
            "degraded": self.degraded,
            "known_gateways": self.gateways.count,
            "failures": {" ".join(key): n for key, n in self.link.failures.items()},
            "microseconds": self.spent / max(self.decisions, 1) * 1e6,
            "by_second": self.by_second,
        }


class Limiter:
    """A limiter of the configuration."""

    name = "api"
    on_failure = "local"

    def __init__(self, algorithm: Any, leases: bool) -> None:
        self.algorithm = algorithm
        self.leases = leases


class Counting:
    """Limits in Redis, and how often they were called."""

    def __init__(self, limits: Any) -> None:
        self.limits = limits
        self.reset = limits.reset
        self.calls = 0

    def ask(self, *arguments: Any) -> None:
        self.calls += 1
        self.limits.ask(*arguments)

    def give_back(self, *arguments: Any) -> None:
        self.calls += 1
        self.limits.give_back(*arguments)


if __name__ == "__main__":
    sys.exit(main())
