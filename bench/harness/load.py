"""The load generators, run on the load core: wrk as fast as it goes, steady at a fixed rate."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.machine import Cores, on_core
from harness.processes import BenchError
from harness.proxies import BENCH, BUILD

LOAD = BENCH / "load"
STEADY = BUILD / "steady"


@dataclass(frozen=True)
class Load:
    """What wrk sends. `path` is the upstream's; `script` a file of load/."""

    path: str
    connections: int = 64
    tls: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    script: str = "report.lua"


@dataclass(frozen=True)
class Outcome:
    """What came back. Latencies are microseconds, errors are counted requests."""

    requests: int
    seconds: float
    bytes: int
    errors: int
    p50: float
    p99: float
    p999: float
    slowest: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return max(0, self.requests - self.errors) / self.seconds if self.seconds else 0.0


def missing_tools() -> list[str]:
    tools = [name for name in ("wrk", "taskset", "setpriv", "nginx") if shutil.which(name) is None]
    return [f"{name} is not installed" for name in tools]


def wrk(url: str, load: Load, seconds: float, cores: Cores) -> Outcome:
    """As many requests as `load.connections` keep-alive connections make, one thread."""
    options = ["-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    for name, value in load.headers.items():
        options += ["-H", f"{name}: {value}"]
    said = _run(
        ["wrk", *options, "-s", str(LOAD / load.script), url],
        cores,
        seconds + 30,
        {"BENCH_REPORT_LUA": str(LOAD / "report.lua")},
    )
    found = next((line for line in said.splitlines() if line.startswith("RESULT ")), None)
    if found is None:
        raise BenchError(f"wrk reported nothing for {url}")
    result = json.loads(found.removeprefix("RESULT "))
    return Outcome(
        requests=result["requests"],
        seconds=result["microseconds"] / 1e6,
        bytes=result["bytes"],
        errors=result["socket_errors"] + result["bad_status"],
        p50=result["p50"],
        p99=result["p99"],
        p999=result["p999"],
        slowest=result["max"],
    )


def steady(address: str, path: str, rate: float, seconds: float, cores: Cores) -> Outcome:
    """`rate` requests a second whatever happens; latency counts from the intended time."""
    if not STEADY.exists():
        raise BenchError("load/steady is not built: run make bench-setup with Go installed")
    argv = [str(STEADY), "-address", address, "-path", path]
    argv += ["-rate", f"{rate:.0f}", "-seconds", f"{seconds:g}"]
    result = json.loads(_run(argv, cores, seconds + 30, {"GOMAXPROCS": "1"}))
    return Outcome(
        requests=result["answered"] + result["failed"],
        seconds=seconds,
        bytes=0,
        errors=result["failed"],
        p50=result["p50"],
        p99=result["p99"],
        p999=result["p999"],
    )


def _run(argv: Sequence[str], cores: Cores, patience: float, env: Mapping[str, str]) -> str:
    """Run to the end and return standard output. The program dies with us."""
    try:
        done = subprocess.run(
            [*on_core(cores.load), *argv],
            capture_output=True,
            text=True,
            timeout=patience,
            env={**os.environ, **env},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{Path(argv[0]).name} did not end within {patience:.0f} s") from error
    if done.returncode != 0:
        trouble = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"{Path(argv[0]).name}: {trouble[-1] if trouble else 'failed'}")
    return done.stdout
