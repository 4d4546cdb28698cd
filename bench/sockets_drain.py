"""How thousands of WebSockets leave a gateway that stops, or an instance that is drained.

    python bench/sockets_drain.py                   5,000 sockets, about two minutes
    python bench/sockets_drain.py --sockets 500 --drain 3
    python bench/sockets_drain.py --only sigterm --plot none

The gateway is a process of its own, on one core; its instances and the clients (this program) are
on the other. Every client notes when its Close frame came. For the storms a second gateway runs
beside the first, on the same core, and every client turns to it as soon as it has been told to go.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from harness.drain_plot import plot
from harness.farewells import (
    CLOSE_TIMEOUT,
    STORM,
    SUMMARY,
    Findings,
    histogram,
    misses,
    spread,
    storm_row,
    summary,
)
from harness.gateway import SOCKET_PATH
from harness.guests import Guest, all_gone, arrivals, dial, frame
from harness.machine import Cores, description, free_ports, load_average, raise_open_files
from harness.processes import BenchError, Child, Rig, await_answer, fetch
from harness.report import table
from harness.sockets import start_echo

PLOT = Path(__file__).resolve().parent.parent / "docs" / "images" / "websocket-drain.svg"
GRACE = 30.0  # seconds


# -- the stage --------------------------------------------------------------------------------


class Stage:
    """Processes for one run: instances, and gateways in front of them."""

    def __init__(self, rig: Rig, cores: Cores) -> None:
        self.rig = rig
        self.cores = cores
        self.instances: list[str] = []
        self._number = 0

    def __repr__(self) -> str:
        return f"<Stage {len(self.instances)} instances>"

    def instance(self) -> None:
        self.instances.append(start_echo(self.rig, self.cores))

    def gateway(self, drain: float) -> tuple[Child, int]:
        """Start one; the process, and its port."""
        self._number += 1
        port, folder = self.rig.port(), self.rig.subdirectory(f"gateway-{self._number}")
        file = folder / "gateway.yaml"
        many = 60_000
        settings = {
            "listeners": [{"tcp": f"127.0.0.1:{port}", "backlog": 4096}],
            "services": {
                "main": {
                    "instances": [f"http://{address}" for address in self.instances],
                    "pool": {"connections": many, "queue": 4096},
                }
            },
            "routes": [
                {"name": "sockets", "path": SOCKET_PATH, "service": "main", "websocket": True}
            ],
            "websocket": {"drain_timeout": f"{drain:g}s"},
            "connections": {"total": many, "per_ip": many},
            "shutdown": {"grace": f"{GRACE:g}s"},
            "access_log": {"format": "json", "file": str(folder / "access.log")},
            "log_level": "warn",
        }
        file.write_text(json.dumps(settings, indent=2))
        twistd = Path(sys.executable).with_name("twistd")
        argv: list[str | Path] = [twistd, "-n", "--pidfile=", "rtgateway", "--config", file]
        child = self.rig.start(f"gateway-{self._number}", argv, core=self.cores.proxy)
        await_answer(child, port, "/readyz")
        return child, port


async def ended(child: Child, since: float, findings: Findings, patience: float) -> None:
    """Wait for the end of a process, which is noted."""
    deadline = time.monotonic() + patience
    while child.process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    findings.exit_code = child.process.poll()
    if findings.exit_code is not None:
        findings.ended = time.monotonic() - since


def note(findings: Findings, guests: Sequence[Guest], since: float) -> None:
    """What these clients, which were to go, have seen."""
    findings.expected = len(guests)
    for guest in guests:
        if guest.said is None:
            findings.untold += 1
        else:
            findings.told.append((guest.said.at - since, guest.said.code, guest.said.reason))
    findings.last_gone = max((guest.lost for guest in guests), default=since) - since


# -- the runs ---------------------------------------------------------------------------------


async def stopped(stage: Stage, name: str, count: int, drain: float) -> Findings:
    """SIGTERM to a gateway."""
    stage.instance()
    findings = Findings(name)
    child, port = stage.gateway(drain)
    guests = await arrivals(port, SOCKET_PATH, count)
    await asyncio.sleep(1.0)
    since = time.monotonic()
    child.process.send_signal(signal.SIGTERM)
    await asyncio.gather(
        ended(child, since, findings, GRACE + 10), all_gone(guests, drain + GRACE + 10)
    )
    note(findings, guests, since)
    return findings


async def drained(stage: Stage, name: str, count: int, drain: float) -> Findings:
    """One of two instances is drained by an operator."""
    stage.instance()
    stage.instance()
    findings = Findings(name)
    _, port = stage.gateway(drain)
    guests = await arrivals(port, SOCKET_PATH, count)
    await asyncio.sleep(1.0)
    loop = asyncio.get_running_loop()
    path = f"/gateway/services/main/drain?instance={stage.instances[0]}"
    since = time.monotonic()
    status, body = await loop.run_in_executor(None, lambda: fetch(port, path, body=b"{}"))
    if status != 202:
        raise BenchError(f"the admin page answered {status}: {body[:200]!r}")
    there = json.loads(body)["websockets"]
    deadline = since + drain + 2 * CLOSE_TIMEOUT
    while sum(bool(guest.lost) for guest in guests) < there and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)  # whoever else might go
    note(findings, [guest for guest in guests if guest.said or guest.lost], since)
    findings.expected = there
    staying = [guest for guest in guests if not (guest.said or guest.lost)]
    for guest in staying:
        guest.transport.write(frame(1, b"still here?"))
    await asyncio.sleep(1.0)
    findings.stayed = sum(guest.echoes == 1 for guest in staying)
    for guest in staying:
        guest.transport.abort()
    return findings


async def storm(stage: Stage, name: str, count: int, drain: float) -> Findings:
    """SIGTERM to a gateway whose clients turn to another one at once."""
    stage.instance()
    findings = Findings(name)
    child, port = stage.gateway(drain)
    _, other = stage.gateway(drain)
    guests = await arrivals(port, SOCKET_PATH, count)
    await asyncio.sleep(1.0)
    coming: list[asyncio.Task[None]] = []
    since = 0.0

    async def again() -> None:
        asked = time.monotonic()
        findings.asked.append(asked - since)
        try:
            guest = await dial(other, SOCKET_PATH)
        except (OSError, TimeoutError):
            findings.failed += 1
            return
        if guest.status != 101:
            findings.failed += 1
            return
        findings.back.append(guest.opened - since)
        findings.took.append(guest.opened - asked)

    for guest in guests:
        guest.on_close = lambda: coming.append(asyncio.ensure_future(again()))
    since = time.monotonic()
    child.process.send_signal(signal.SIGTERM)
    await asyncio.gather(
        ended(child, since, findings, GRACE + 10), all_gone(guests, drain + GRACE + 10)
    )
    await asyncio.gather(*coming)
    note(findings, guests, since)
    return findings


Run = Callable[[Stage, str, int, float], Coroutine[Any, Any, Findings]]
RUNS: dict[str, tuple[Run, bool]] = {
    "sigterm": (stopped, True),
    "sigterm, at once": (stopped, False),
    "instance": (drained, True),
    "storm": (storm, True),
    "storm, at once": (storm, False),
}
"""By name; whether the sockets leave one by one."""


# -- the program -----------------------------------------------------------------------------


def played(name: str, options: argparse.Namespace, cores: Cores) -> Findings:
    run, spreads = RUNS[name]
    with Rig(free_ports()) as rig:
        stage = Stage(rig, cores)
        return asyncio.run(run(stage, name, options.sockets, options.drain if spreads else 0.0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the chosen runs; 0, or 1 if anything is not as it ought to be."""
    options = parse(arguments)
    if raise_open_files() < 2 * options.sockets + 500:
        print("too few open files: ulimit -n")
        return 1
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.load})
    machine = description()
    print(f"{machine['processor']}; {machine['kernel']}; Python {machine['python']}")
    print(
        f"{options.sockets:,} WebSockets, drain_timeout {options.drain:g} s, load average", end=""
    )
    print(f" {load_average():.1f}", flush=True)
    found: dict[str, Findings] = {}
    for name in options.only or RUNS:
        with contextlib.suppress(KeyboardInterrupt):
            found[name] = findings = played(name, options, cores)
            if RUNS[name][1] and not findings.asked:
                print(f"\n## {name}\n\n{histogram(findings, options.drain)}\n")
                print(spread(findings, options.drain), flush=True)
                if findings.stayed:
                    print(f"{findings.stayed:,} on the other instance stayed, and were answered")
    print(f"\n{table(SUMMARY, [summary(each) for each in found.values()])}\n")
    storms = [storm_row(each) for each in found.values() if each.asked]
    if storms:
        print(f"{table(STORM, storms)}\n")
    missed = [
        miss
        for name, each in found.items()
        for miss in misses(each, options.drain if RUNS[name][1] else 0.0)
    ]
    print("\n".join(f"[MISS] {miss}" for miss in missed) or "[pass] everybody was told, in time")
    if options.plot != "none" and {"sigterm", "storm", "storm, at once"} <= found.keys():
        counts = found["sigterm"].per_second(round(options.drain))
        asked = {name: found[name].asked for name in ("storm", "storm, at once")}
        Path(options.plot).write_text(plot(counts, asked, options.drain))
    return 1 if missed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="how WebSockets leave")
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--drain", type=float, default=10.0, help="drain_timeout in seconds")
    parser.add_argument("--only", action="append", choices=list(RUNS), help="may be repeated")
    parser.add_argument("--plot", default=str(PLOT), help="where the SVG goes, or 'none'")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
