"""WebSockets opened and ended in every way, 20,000 times: what does the gateway keep of them?

    python bench/sockets_leaks.py                    20,000 cycles, about a minute and a half
    python bench/sockets_leaks.py --cycles 2000 --batches 5
    python bench/sockets_leaks.py --without "instance answers nonsense"

The gateway is a process of its own. Its instance and the clients are this program. Each way gets
the same share of every batch. After each batch everybody has gone, and the gateway is looked at:
its memory, its open files, and what it counts itself. Half as many come first, to warm up. Garbage
that only the collector finds, which handshakes that fail leave, shows as memory until it has come
round: the growth of the second half is what is judged.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.endings import WAYS, Instance
from harness.machine import Cores, description, free_ports, raise_open_files
from harness.processes import BenchError, Child, Rig, await_answer, fetch
from harness.report import table

AT_ONCE = 100
PORTS = 4
MOST_GROWTH = 2 << 20  # bytes; what chance and the allocator do


# -- the gateway ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What the gateway has when all clients have gone."""

    rss: int
    descriptors: int
    idle: float  # of these, connections to the instance that wait for the next request
    sockets: float
    inflight: int
    opened: float
    closed: float
    refused: float

    def row(self, name: str) -> tuple[str, ...]:
        return (
            name,
            f"{self.rss / 1e6:.2f}",
            f"{self.descriptors - self.idle:.0f} + {self.idle:.0f}",
            f"{self.sockets:.0f}",
            str(self.inflight),
            f"{self.opened:,.0f}",
            f"{self.closed:,.0f}",
            f"{self.refused:,.0f}",
        )


COLUMNS = ("after", "RSS MB", "open files + idle", "WebSockets", "in flight", "opened", "closed",
           "refused")  # fmt: skip


def settings(ports: Sequence[int], instance: int, folder: Path) -> dict[str, object]:
    def route(name: str, **rules: object) -> dict[str, object]:
        return {"name": name, "path": f"/{name}", "service": "main", "websocket": rules}

    return {
        "listeners": [{"tcp": f"127.0.0.1:{port}", "backlog": 4096} for port in ports],
        "services": {
            "main": {
                "instances": [f"http://127.0.0.1:{instance}"],
                "pool": {"connections": 4096, "queue": 4096},
                # It fails on purpose, and is not to be cut off for that.
                "circuit_breaker": {"enabled": False},
                "outliers": {"enabled": False},
            }
        },
        "routes": [
            route("plain", origins=["https://app.example"]),
            route("small", max_message=50),
            route("rated", messages_per_second=1),
            route("idle", idle_timeout="200ms"),
            route("brief", max_lifetime="200ms"),
            route("pinged", ping_interval="200ms", pong_timeout="200ms"),
        ],
        "websocket": {"close_timeout": "300ms"},
        "connections": {"total": 10_000, "per_ip": 10_000},
        "access_log": {"format": "json", "file": str(folder / "access.log")},
        "log_level": "error",
    }


def start(rig: Rig, cores: Cores, instance: int) -> tuple[Child, list[int]]:
    ports, folder = [rig.port() for _ in range(PORTS)], rig.subdirectory("gateway")
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(settings(ports, instance, folder), indent=2))
    twistd = Path(sys.executable).with_name("twistd")
    argv: list[str | Path] = [twistd, "-n", "--pidfile=", "rtgateway", "--config", file]
    child = rig.start("gateway", argv, core=cores.proxy)
    await_answer(child, ports[0], "/healthz")
    return child, ports


def total(page: str, name: str) -> float:
    """All samples of a metric together."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.M))


def look(child: Child, port: int) -> Look:
    """Ask the gateway, and the kernel about it.

    These requests are on connections of their own, which are gone when files are counted.
    """
    service = json.loads(fetch(port, "/gateway/services/main")[1])
    inflight = sum(sum(each["inflight"].values()) for each in service["instances"])
    page = fetch(port, "/metrics")[1].decode()
    time.sleep(0.2)
    return Look(
        rss=child.resident_bytes(),
        descriptors=len(os.listdir(f"/proc/{child.process.pid}/fd")),
        idle=total(page, "gateway_upstream_connections"),
        sockets=total(page, "gateway_websocket_connections"),
        inflight=inflight,
        opened=total(page, "gateway_websocket_opened_total"),
        closed=total(page, "gateway_websocket_closed_total"),
        refused=total(page, "gateway_websocket_refused_total"),
    )


async def settled(child: Child, port: int) -> Look:
    """Look until nothing is in flight; at most some seconds."""
    loop = asyncio.get_running_loop()
    for _ in range(40):
        found = await loop.run_in_executor(None, look, child, port)
        if not (found.sockets or found.inflight):
            break
        await asyncio.sleep(0.1)
    return found


# -- the run ----------------------------------------------------------------------------------


async def batch(
    ports: Sequence[int], cycles: int, without: Sequence[str], troubles: Counter[str]
) -> None:
    """So many cycles, all ways in turn, some at a time."""
    ways = [(name, way) for name, way in WAYS.items() if name not in without]
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        name, way = ways[number % len(ways)]
        async with gate:
            try:
                await way(ports[number % len(ports)])
            except (BenchError, OSError, TimeoutError) as error:
                troubles[f"{name}: {type(error).__name__} {error}"] += 1

    await asyncio.gather(*(one(number) for number in range(cycles)))


async def measured(options: argparse.Namespace, cores: Cores) -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Instance, "127.0.0.1", 0, backlog=4096)
    instance = server.sockets[0].getsockname()[1]
    troubles: Counter[str] = Counter()
    per_batch, warm = options.cycles // options.batches, options.cycles // 2
    with Rig(free_ports()) as rig:
        child, ports = await loop.run_in_executor(None, start, rig, cores, instance)
        rows = [(await settled(child, ports[0])).row("start")]
        await batch(ports, warm, options.without, troubles)
        looks = [await settled(child, ports[0])]
        rows.append(looks[0].row(f"{warm:,} to warm up"))
        for number in range(options.batches):
            await batch(ports, per_batch, options.without, troubles)
            looks.append(await settled(child, ports[0]))
            rows.append(looks[-1].row(f"{per_batch * (number + 1):,}"))
    server.close()
    print(table(COLUMNS, rows))
    for trouble, count in troubles.most_common(20):
        print(f"note: {count} x {trouble}")
    missed = misses(looks, troubles)
    grown, lately = (looks[-1].rss - each.rss for each in (looks[0], looks[len(looks) // 2]))
    print(f"memory: {grown / 1e6:+.2f} MB, {lately / 1e6:+.2f} MB in the second half")
    print("\n".join(f"[MISS] {miss}" for miss in missed) or "[pass] nothing is left")
    return 1 if missed else 0


def misses(looks: Sequence[Look], troubles: Counter[str]) -> list[str]:
    """What has been left behind, in words."""
    before, half, after = looks[0], looks[len(looks) // 2], looks[-1]
    found = [
        f"{name}: {now:g} left"
        for name, now in (("WebSockets", after.sockets), ("in flight", after.inflight))
        if now
    ]
    more = (after.descriptors - after.idle) - (before.descriptors - before.idle)
    if more > 0:
        found.append(f"open files: {more:.0f} more")
    if after.opened != after.closed:
        found.append(f"opened {after.opened:.0f}, closed {after.closed:.0f}")
    if after.rss - half.rss > MOST_GROWTH:
        found.append(f"memory: {(after.rss - half.rss) / 1e6:.1f} MB more in the second half")
    return found + [f"{trouble}, {count} times" for trouble, count in troubles.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Open and end; 0, or 1 if anything is left."""
    parser = argparse.ArgumentParser(description="what ended WebSockets leave behind")
    parser.add_argument("--cycles", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--without", action="append", choices=list(WAYS), default=[])
    options = parser.parse_args(arguments)
    raise_open_files()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.load})
    machine = description()
    print(f"{machine['processor']}; {machine['kernel']}; Python {machine['python']}")
    ways = len(WAYS) - len(options.without)
    print(f"{options.cycles:,} cycles, {ways} ways to end, {AT_ONCE} at a time", flush=True)
    return asyncio.run(measured(options, cores))


if __name__ == "__main__":
    sys.exit(main())
