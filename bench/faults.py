"""Faults survived: what clients see while an instance of three fails, in one table.

    python bench/faults.py                      every fault at half of the maximum, some minutes
    python bench/faults.py --rate 500 --seconds 5 --only "kill -9" --only SIGSTOP
    python bench/faults.py --markdown rows.md

Every fault gets processes of its own: the gateway on one core; three instances, a name server and
the load (this program) on the other. What happens, and what is counted, is in tests/e2e/faults.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.machine import Cores, description, load_average
from harness.report import table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.faults.findings import COLUMNS, Findings, measure
from tests.e2e.faults.load import GET, POST, burst
from tests.e2e.faults.plays import PLAYS, Play
from tests.e2e.faults.stage import DEFAULTS, QUICK, Stage

BURST = 3.0  # seconds
RAMP = 3.0  # seconds
MOST_UNSAFE = 0.001  # share of POST requests that may fail
MOST_AMPLIFIED = 1.2
LONGEST_RECOVERY = {False: 5.0, True: 60.0}  # seconds; at the defaults


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the chosen faults; 0, or 1 when --strict finds a miss."""
    options = parse(arguments)
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.load})
    machine = description()
    print(f"{machine['processor']}; {machine['kernel']}; Python {machine['python']}")
    if load_average() > 0.5:
        print(f"note: the machine is not idle (load average {load_average():.1f})")
    print(f"each fault lasts {options.seconds:g} s", flush=True)
    rates: dict[str, float] = {}
    found = []
    for play in PLAYS:
        if not options.only or play.name in options.only:
            if play.service not in rates:
                rates[play.service] = options.rate or half_the_maximum(play.service, cores)
            found.append(asyncio.run(played(play, cores, rates[play.service], options)))
            if sys.stderr.isatty() or options.verbose:
                print(found[-1], file=sys.stderr, flush=True)
    rows = table(COLUMNS, [findings.row() for findings in found])
    print(f"\n{rows}\n")
    misses = [
        f"{each.play.name}: {miss}" for each in found for miss in missed(each, options.defaults)
    ]
    print("\n".join(f"[MISS] {miss}" for miss in misses) or "[pass] every target, for every fault")
    if options.markdown:
        options.markdown.write_text(rows + "\n")
    return 1 if misses and options.strict else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what clients see while an instance fails")
    names = [play.name for play in PLAYS]
    parser.add_argument("--only", action="append", choices=names, help="a fault; may be repeated")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests per second; half of the maximum if none"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each fault lasts")
    parser.add_argument("--defaults", action="store_true", help="the gateway's own intervals")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument(
        "--verbose", action="store_true", help="what went wrong, request by request"
    )
    return parser.parse_args(arguments)


def half_the_maximum(service: str, cores: Cores) -> float:
    """Requests per second: half of what gateway, instances and load do when nobody waits."""
    most = asyncio.run(maximum(service, cores))
    print(f"{service}: {most / 2:,.0f} requests/s; the maximum is twice that", flush=True)
    return most / 2


async def maximum(service: str, cores: Cores) -> float:
    stage = staged(service, cores)
    try:
        await stage.ready()
        return await burst(stage.gateway.port, f"/api/{service}/orders/7", BURST)
    finally:
        gone(stage)


async def played(play: Play, cores: Cores, rate: float, options: argparse.Namespace) -> Findings:
    stage = staged(play.service, cores, DEFAULTS if options.defaults else QUICK)
    try:
        await stage.ready()
        return await measure(stage, play, rate, options.seconds, RAMP)
    finally:
        gone(stage)


def staged(service: str, cores: Cores, settings: Mapping[str, Any] = QUICK) -> Stage:
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    return Stage(folder, [service], (cores.proxy, cores.load), settings)


def gone(stage: Stage) -> None:
    stage.close()
    shutil.rmtree(stage.folder, ignore_errors=True)


def missed(findings: Findings, at_defaults: bool) -> list[str]:
    """The targets that were missed, in words."""
    play, tally, times = findings.play, findings.tally, findings.times
    misses = []
    if play.victims < 3:
        if tally.errors(GET):
            misses.append(f"{tally.errors(GET)} GET requests failed")
        if tally.errors(POST) >= MOST_UNSAFE * tally.sent[POST] and tally.errors(POST):
            misses.append(f"{tally.errors(POST) / tally.sent[POST]:.2%} of POST requests failed")
    if findings.late_truncated:
        misses.append(f"{findings.late_truncated} answers truncated after it was ejected")
    longest = LONGEST_RECOVERY[at_defaults]
    if times.recover is None or times.recover >= longest:
        misses.append(f"not recovered within {longest:g} s")
    if findings.amplification > MOST_AMPLIFIED:
        misses.append(f"amplification {findings.amplification:.2f}")
    return [*misses, *findings.left]


if __name__ == "__main__":
    sys.exit(main())
