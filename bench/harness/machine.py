"""What the machine gives: cores to pin to, open files, free ports, and how quiet it is."""

import contextlib
import itertools
import os
import platform
import random
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
WANTED_OPEN_FILES = 65536


@dataclass(frozen=True)
class Cores:
    """Core numbers: the proxy has one to itself, the upstream and the load share the other."""

    proxy: int
    load: int

    @classmethod
    def available(cls) -> "Cores":
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1] if len(usable) > 1 else usable[0])

    @property
    def separate(self) -> bool:
        return self.proxy != self.load


def on_core(core: int) -> list[str]:
    """The words before a command that pin it to `core` and end it should this program be killed."""
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "--cpu-list", str(core)]


def raise_open_files() -> int:
    """Raise the soft limit on open files for this process and its children; return the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def free_ports() -> Iterator[int]:
    """Ports nobody listens on, below the range from which outgoing connections get theirs.

    A port from the kernel (bind to 0) would lie inside that range, where one of the thousands of
    connections of a run can take it before the server binds.
    """
    start = random.randrange(20000, 28000)
    for port in itertools.chain(range(start, 32000), range(12000, start)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                yield port


@dataclass(frozen=True)
class CoreTime:
    """Seconds that a core has spent since boot: on programs, on interrupts (which is where much of
    the loopback network is counted), and taken away by the host of a virtual machine."""

    programs: float
    interrupts: float
    stolen: float

    @classmethod
    def now(cls, core: int) -> "CoreTime":
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name == f"cpu{core}":
                user, nice, system, _idle, _iowait, irq, softirq, stolen = (
                    int(field) / TICKS_PER_SECOND for field in fields[:8]
                )
                return cls(user + nice + system, irq + softirq, stolen)
        return cls(0.0, 0.0, 0.0)

    def __sub__(self, other: "CoreTime") -> "CoreTime":
        return CoreTime(
            self.programs - other.programs,
            self.interrupts - other.interrupts,
            self.stolen - other.stolen,
        )

    @property
    def busy(self) -> float:
        return self.programs + self.interrupts


def load_average() -> float:
    return os.getloadavg()[0]


def description() -> dict[str, str]:
    """The machine in a few words, for the head of the report."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
