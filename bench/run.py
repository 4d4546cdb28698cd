"""The benchmark: rtgateway beside its peers, one process each, pinned, in one run.

    python bench/run.py                     everything, some minutes
    python bench/run.py --quick             the same, shorter and rougher
    python bench/run.py small big --only nginx,go,rtgateway
    python bench/run.py --json findings.json

Standard library only. Peers that are not installed are named and left out.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness.bench import Bench, Options
from harness.load import missing_tools
from harness.machine import Cores, description, free_ports, load_average, raise_open_files
from harness.processes import BenchError
from harness.proxies import peers
from harness.report import Report
from harness.scenarios import SCENARIOS

ENOUGH_OPEN_FILES = 12_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen scenarios; 0, or 1 when nothing could be measured or --strict finds a miss."""
    options = parse(arguments)
    tools = missing_tools()
    if tools:
        print(f"bench: {'; '.join(tools)}: run make bench-setup", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    bench = Bench(
        Options(
            rounds=options.rounds or (2 if options.quick else 3),
            seconds=options.seconds or (1.0 if options.quick else 3.0),
            only=frozenset(filter(None, options.only.split(","))),
            rate=options.rate,
            streams=options.streams,
            pairs=options.pairs,
        ),
        Cores.available(),
        free_ports(),
    )
    # This program itself belongs beside the load: the proxy's core is the proxy's alone.
    os.sched_setaffinity(0, {bench.cores.load})
    introduce(bench)
    try:
        reports = [report for name in options.scenarios if (report := attempt(bench, name))]
    except KeyboardInterrupt:
        print("bench: interrupted, everything is stopped", file=sys.stderr)
        return 130
    conclude(bench, reports)
    if options.json:
        write_json(options.json, bench, reports)
    missed = any(target.mark == "MISS" for report in reports for target in report.targets)
    return 1 if not reports or (options.strict and missed) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="rtgateway beside its peers")
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s in place of 3 of 3 s")
    names = ",".join(["rtgateway", *(peer.name for peer in peers())])
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of {names}")
    parser.add_argument("--rounds", type=int, default=0, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.0, metavar="S", help="per measurement")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="latency, ws-steady: requests, messages per second"
    )
    parser.add_argument("--streams", type=int, default=1000, help="sse: open streams")
    parser.add_argument("--pairs", type=int, default=5000, help="ws-idle: open connections")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings there")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    unknown += [name for name in options.only.split(",") if name and name not in names.split(",")]
    if unknown:
        parser.error(f"not known: {', '.join(unknown)}")
    options.scenarios = options.scenarios or list(SCENARIOS)
    return options


def attempt(bench: Bench, name: str) -> Report | None:
    """Run one scenario and print it; None when it could not be run at all."""
    try:
        report = SCENARIOS[name](bench)
    except BenchError as error:
        print(f"\n## {name}\n\nnot measured: {error}", flush=True)
        return None
    print(f"\n{report}", flush=True)
    return report


def introduce(bench: Bench) -> None:
    machine = description()
    print(f"{machine['processor']}; {machine['kernel']}; Python {machine['python']}")
    print(
        f"proxy on core {bench.cores.proxy}; upstream and load on core {bench.cores.load}; "
        f"medians of {bench.options.rounds} interleaved rounds of {bench.options.seconds:g} s"
    )
    if not bench.cores.separate:
        print("note: there is one core only, so the load competes with the proxy")
    if raise_open_files() < ENOUGH_OPEN_FILES:
        print(f"note: at most {raise_open_files():,} open files; many connections will fail")
    if load_average() > 0.5:
        print(f"note: the machine is not idle (load average {load_average():.1f})")
    sys.stdout.flush()


def conclude(bench: Bench, reports: list[Report]) -> None:
    versions = ", ".join(f"{name} {number}".strip() for name, number in bench.versions.items())
    print(f"\nmeasured: {versions or 'nothing'}")
    for title, why in bench.missing.items():
        print(f"missing: {title}: {why}")
    marks = [target.mark for report in reports for target in report.targets]
    print(
        f"targets: {marks.count('pass')} passed, {marks.count('MISS')} missed, "
        f"{marks.count('not measured')} not measured"
    )


def write_json(file: Path, bench: Bench, reports: list[Report]) -> None:
    document = {
        "machine": description(),
        "rounds": bench.options.rounds,
        "seconds": bench.options.seconds,
        "versions": bench.versions,
        "missing": bench.missing,
        "scenarios": [report.as_json() for report in reports],
    }
    file.write_text(json.dumps(document, indent=2) + "\n")


def leave(number: int, frame: FrameType | None) -> None:
    """End as ctrl-C does, so that every rig on the way out stops its children."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
