"""One limit at eight gateways: what they admit together, and how evenly.

    python bench/cluster_gateways.py                     8 gateways, 100/s, ten times that, 60 s
    python bench/cluster_gateways.py --gateways 3 --limit 50 --seconds 10

Whole gateways, each a process, with one Redis and one key; clients of ours ask each of them at
random times (Poisson). Promised: no more than ``limit * t * 1.02 + capacity``, no less than 0.95 of
``limit * t``. Standard library only.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.gateway import Stages, gateway
from harness.machine import Cores, description, free_ports, load_average
from harness.processes import Rig, await_answer
from harness.proxies import Slot
from harness.redis import start_redis
from harness.upstream import SMALL_PATH, start_upstream

MOST, LEAST = 1.02, 0.95
SETTLE = 6.0  # seconds until gateways that are new lease


@dataclass
class Seen:
    """What one gateway's clients saw."""

    admitted: int = 0
    refused: int = 0
    degraded: int = 0
    other: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0, or 1 when a promise is not kept."""
    options = parse(arguments)
    cores = Cores.available()
    machine = description()
    print(f"{machine['processor']}; {machine['kernel']}; Python {machine['python']}")
    if load_average() > 0.5:
        print(f"note: the machine is not idle (load average {load_average():.1f})")
    ports = free_ports()
    with Rig(ports) as rig:
        upstream = start_upstream(rig, cores)
        redis = start_redis(rig, cores)
        stages = Stages(limits=True, state=redis.url, leases=not options.no_leases)
        limiter = {"per": "global", "capacity": options.capacity, "refill_rate": options.limit}
        listening = []
        children = []
        for number in range(options.gateways):
            slot = Slot(
                rig.subdirectory(f"gateway{number}"), rig.port(), rig.port(), upstream.address, None
            )
            launch = gateway(stages).launch(slot)
            limit_to(slot.directory / "gateway.yaml", limiter)
            core = cores.proxy if number % 2 else cores.load
            children.append(rig.start(f"gateway{number}", launch.argv, core=core))
            listening.append(slot.port)
        for child, port in zip(children, listening, strict=True):
            await_answer(child, port, "/healthz")
        time.sleep(SETTLE)
        calls = redis.calls("evalsha")
        began = time.monotonic()
        seen = asyncio.run(load(listening, options))
        took = time.monotonic() - began
        calls = redis.calls("evalsha") - calls
    return report(options, seen, took, calls)


def limit_to(configuration: Path, limiter: dict[str, object]) -> None:
    document = json.loads(configuration.read_text())
    document["rate_limits"] = {"shared": limiter}
    configuration.write_text(json.dumps(document))


async def load(ports: list[int], options: argparse.Namespace) -> list[Seen]:
    """Ask all gateways together ``times * limit`` times a second."""
    rate = options.limit * options.times
    share = 1 / len(ports)
    shares = [share for _ in ports]
    if options.uneven and len(ports) > 1:
        # The first one has half of the clients.
        shares = [0.5, *(0.5 / (len(ports) - 1) for _ in ports[1:])]
    seen = [Seen() for _ in ports]
    until = asyncio.get_running_loop().time() + options.seconds
    await asyncio.gather(
        *(
            client(port, rate * share / 2, until, each)
            for port, each, share in zip(ports, seen, shares, strict=True)
            for _ in range(2)
        )
    )
    return seen


async def client(port: int, rate: float, until: float, seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET /api/users{SMALL_PATH} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    due = loop.time() + random.expovariate(rate)
    while due < until:
        await asyncio.sleep(max(0.0, due - loop.time()))
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        status = head[9:12]
        seen.admitted += status == b"200"
        seen.refused += status == b"429"
        seen.other += status not in (b"200", b"429")
        seen.degraded += b"x-ratelimit-mode: degraded" in head
        due += random.expovariate(rate)
    writer.close()


def report(options: argparse.Namespace, seen: list[Seen], took: float, calls: int) -> int:
    admitted = sum(each.admitted for each in seen)
    asked = sum(each.admitted + each.refused + each.other for each in seen)
    shares = [each.admitted for each in seen]
    fairness = admitted**2 / (len(shares) * sum(share**2 for share in shares)) if admitted else 0.0
    allowed = options.limit * took * MOST + options.capacity
    wanted = options.limit * took * LEAST
    print(
        f"{options.gateways} gateways, {options.limit:g}/s and {options.capacity} at once,"
        f" {took:.1f} s"
    )
    print(
        f"asked     {asked:,} ({asked / took:,.0f}/s),"
        f" degraded answers {sum(each.degraded for each in seen)}"
    )
    print(f"admitted  {admitted:,}: at most {allowed:,.0f} allowed, at least {wanted:,.0f} wanted")
    print(f"over      {admitted / (options.limit * took) - 1:+.2%} of limit x t, capacity included")
    print(f"by each   {min(shares)} to {max(shares)}, Jain's index {fairness:.4f}")
    print(f"Redis     {calls / asked:.3f} scripts for each request")
    others = sum(each.other for each in seen)
    if others:
        print(f"[MISS] {others} answers were neither 200 nor 429")
    kept = wanted <= admitted <= allowed and not others
    print("[pass] both promises" if kept else "[MISS] a promise is not kept")
    return 0 if kept else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="one limit at several gateways")
    parser.add_argument("--gateways", type=int, default=8)
    parser.add_argument("--limit", type=float, default=100.0, help="per second")
    parser.add_argument("--capacity", type=int, default=100)
    parser.add_argument("--times", type=float, default=10.0, help="the limit, is asked for")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--uneven", action="store_true", help="half of it at one gateway")
    parser.add_argument("--no-leases", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
