"""The program of a name server: one name with the addresses of all instances.

    python -m tests.e2e.faults.names HOST PORT BOARD ADDRESS...

The board says whether it answers, has nothing to tell (`Fault.EMPTY`) or is broken.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import defer, task
from twisted.names import dns, error, server
from twisted.names.common import ResolverBase

from tests.e2e.faults.board import Board, Fault

__all__ = ["NAME"]

NAME = "orders.test"
_TTL = 1


class Names(ResolverBase):
    """Answers as the board says."""

    def __init__(self, board: Board, addresses: Sequence[str]) -> None:
        super().__init__()
        self._board = board
        self._addresses = addresses

    def _lookup(self, name: bytes, cls: int, type: int, timeout: object) -> defer.Deferred[Any]:
        self._board.count()
        fault = self._board.fault
        if fault == Fault.BROKEN:
            return defer.fail(error.DNSServerError("broken"))
        if fault == Fault.EMPTY or type != dns.A or name.lower() != NAME.encode():
            return defer.succeed(((), (), ()))
        records = [
            dns.RRHeader(name, dns.A, dns.IN, _TTL, dns.Record_A(each, _TTL))
            for each in self._addresses
        ]
        return defer.succeed((records, (), ()))


def _main(host: str, port: str, board: str, *addresses: str) -> None:
    from twisted.internet import reactor

    running: Any = reactor
    factory = server.DNSServerFactory(clients=[Names(Board(Path(board)), addresses)])
    running.listenUDP(int(port), dns.DNSDatagramProtocol(controller=factory), interface=host)
    parent = os.getppid()

    def orphaned() -> None:
        if os.getppid() != parent:
            running.stop()

    task.LoopingCall(orphaned).start(0.5)
    running.run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
