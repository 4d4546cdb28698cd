"""A few bytes of memory that a process shares with whoever started it: orders in, counts out.

Counts outlive a process that is killed, and an order takes effect with the next request. One side
writes each field, so that nothing has to be locked.
"""

from __future__ import annotations

import mmap
import struct
from enum import IntEnum
from pathlib import Path
from time import monotonic

__all__ = ["Board", "Fault"]

_ORDER = struct.Struct("<I")
_COUNT = struct.Struct("<Qd")
_COUNT_AT = 8
_SIZE = 64


class Fault(IntEnum):
    """What is wrong with an instance, or with a name server; the process itself runs on."""

    NONE = 0
    FAILS = 1
    """Every answer is a 500."""
    FAILS_HALF = 2
    """Every other one, at random."""
    SLOW = 3
    """Answers take a hundred times as long."""
    MUTE = 4
    """Connections are accepted and requests read, and that is all."""
    CUT = 5
    """Connections close in the middle of a body; health checks meet that, too."""
    ONCE = 6
    """The first request of a connection is answered, the next one resets it."""
    CERTIFIED_BADLY = 7
    """Its certificate is for somebody else, by somebody else. What is connected ends with its next
    answer, as a certificate mostly goes bad with a restart."""
    EMPTY = 8
    """Name server: the name has no records."""
    BROKEN = 9
    """Name server: SERVFAIL."""


class Board:
    """See the module."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)

    @property
    def fault(self) -> int:
        """The order: one of `Fault`."""
        order: int = _ORDER.unpack_from(self._memory)[0]
        return order

    @fault.setter
    def fault(self, order: Fault) -> None:
        _ORDER.pack_into(self._memory, 0, order)

    @property
    def received(self) -> int:
        """Requests that have arrived, without health checks."""
        count: int = _COUNT.unpack_from(self._memory, _COUNT_AT)[0]
        return count

    @property
    def last(self) -> float:
        """When the last of them did, in monotonic seconds (Linux has one such clock for all)."""
        at: float = _COUNT.unpack_from(self._memory, _COUNT_AT)[1]
        return at

    def count(self) -> None:
        """One more request has arrived."""
        _COUNT.pack_into(self._memory, _COUNT_AT, self.received + 1, monotonic())

    def close(self) -> None:
        self._memory.close()

    def __repr__(self) -> str:
        return f"<Board {Fault(self.fault).name} {self.received} received>"
