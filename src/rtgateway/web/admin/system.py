"""The machine and the process, for ``/gateway/stats``: read from ``/proc``, without waiting.

Use of the processor is a rate: it is worked out between two looks, never by sleeping between them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from rtgateway.observe.pressure import resident_memory

__all__ = ["Busy", "Machine", "System"]

_LEAST = 1.0
"""Seconds between two looks; asked sooner, the last one is told again."""
_KEPT = 60
"""Looks that the averages are made of."""


class Busy(NamedTuple):
    """Processor time since the start of the machine, in ticks."""

    busy: int
    total: int


class Machine:
    """What is read. A value that the machine does not tell is None."""

    def processor(self) -> Busy | None:
        """Of all processors together (proc(5), ``/proc/stat``)."""
        words = _first_line("/proc/stat").split()[1:9]
        if len(words) < 5:
            return None
        ticks = [int(word) for word in words]
        # Idle, and idle while waiting for a disk.
        return Busy(sum(ticks) - ticks[3] - ticks[4], sum(ticks))

    def memory(self) -> float | None:
        """Share in use, in percent."""
        sizes = {}
        for line in _lines("/proc/meminfo"):
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                sizes[name] = int(rest.split()[0])
        if len(sizes) < 2 or not sizes["MemTotal"]:
            return None
        return 100.0 * (1 - sizes["MemAvailable"] / sizes["MemTotal"])

    def disk(self) -> float | None:
        """Share of the root file system in use, in percent of what is for everybody."""
        try:
            disk = os.statvfs("/")
        except OSError:
            return None
        used = disk.f_blocks - disk.f_bfree
        return 100.0 * used / (used + disk.f_bavail) if used + disk.f_bavail else None

    def network(self) -> dict[str, int]:
        """Bytes received and sent since the start, by all interfaces but the loopback."""
        received = sent = 0
        for line in _lines("/proc/net/dev"):
            name, colon, rest = line.partition(":")
            words = rest.split()
            if colon and name.strip() != "lo" and len(words) >= 9:
                received += int(words[0])
                sent += int(words[8])
        return {"bytes_sent": sent, "bytes_recv": received}


class System:
    """See the module.

    :param clock: monotonic seconds.
    """

    def __init__(
        self, machine: Machine | None = None, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._machine = machine or Machine()
        self._clock = clock
        self._looked = clock()
        self._ticks = self._machine.processor()
        self._processor: deque[float] = deque(maxlen=_KEPT)
        self._memory: deque[float] = deque(maxlen=_KEPT)

    def document(self) -> dict[str, Any]:
        """Shares in percent, network in bytes since the machine started, memory in bytes."""
        self._look()
        return {
            "cpu_usage": _last(self._processor),
            "cpu_average": _average(self._processor),
            "memory_usage": _last(self._memory),
            "memory_average": _average(self._memory),
            "disk_usage": _rounded(self._machine.disk()),
            "network": self._machine.network(),
            "process_memory": resident_memory(),
        }

    def _look(self) -> None:
        now = self._clock()
        if self._memory and now - self._looked < _LEAST:
            return
        before, ticks = self._ticks, self._machine.processor()
        if before is not None and ticks is not None and ticks.total > before.total:
            share = (ticks.busy - before.busy) / (ticks.total - before.total)
            self._processor.append(100.0 * min(max(share, 0.0), 1.0))
        memory = self._machine.memory()
        if memory is not None:
            self._memory.append(memory)
        self._looked, self._ticks = now, ticks


def _last(values: deque[float]) -> float | None:
    return _rounded(values[-1]) if values else None


def _average(values: deque[float]) -> float | None:
    return _rounded(sum(values) / len(values)) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _first_line(path: str) -> str:
    lines = _lines(path)
    return lines[0] if lines else ""


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
