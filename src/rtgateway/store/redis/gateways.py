"""Gateways say in Redis that they are there, and so learn how many they are."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred, succeed

from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.link import Link
from rtgateway.store.redis.script import load

__all__ = ["Gateways", "name_of_this"]

log = Logger()

_GOOD_FOR = 5
"""Heartbeats for which a gateway counts without another one."""
_SETTLED = 2
"""Heartbeats for which there have to be fewer: in a Redis that has lost all, or just came back, all
have said by then that they are there."""
_MOST_NAMES = 1000


def name_of_this(random: Callable[[], float]) -> str:
    """A name that no other gateway has: host, process, and something by chance."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{int(random() * 2**32):08x}"


class Gateways:
    """See the module; `store.gateways.KnownGateways` is its interface.

    Without Redis the last known number holds. That there are fewer is believed when they have been
    fewer for some heartbeats: Redis may have lost all, and the others come back to it one by one.

    :param heartbeat: seconds.
    """

    __slots__ = (
        "_fewer_since",
        "_heartbeat",
        "_key",
        "_link",
        "_name",
        "_reactor",
        "_running",
        "_script",
        "_timer",
        "count",
        "names",
    )

    def __init__(self, link: Link, name: str, heartbeat: float, reactor: Any) -> None:
        self._link = link
        self._name = name
        self._heartbeat = heartbeat
        self._reactor = reactor
        self._key = link.key("gateways")
        self._script = load("heartbeat")
        self._timer: Any = None
        self._running = False
        self._fewer_since = 0.0
        self.count = 1
        self.names: Sequence[str] = (name,)

    def start(self) -> None:
        """Say that this gateway is there, from now on."""
        self._running = True
        self._link.on_connected(self._connected)
        self._beat()

    def stop(self) -> Deferred[None]:
        """Say that it leaves, if Redis can be asked; fires when that is done."""
        if not self._running:
            return succeed(None)
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        left: Deferred[None] = Deferred()
        arguments = (self._name, 0, 1)
        self._link.script(
            self._script, [self._key], arguments, lambda reply, error: left.callback(None)
        )
        return left

    def _connected(self) -> None:
        if not self._running:
            return
        self._fewer_since = 0.0
        if self._timer is not None:
            self._timer.cancel()
        self._beat()

    def _beat(self) -> None:
        self._timer = self._reactor.callLater(self._heartbeat, self._beat)
        if self._link.up:
            good_for = int(self._heartbeat * _GOOD_FOR * 1000)
            arguments = (self._name, good_for, _MOST_NAMES)
            self._link.script(self._script, [self._key], arguments, self._counted)
        else:
            self._fewer_since = 0.0

    def _counted(self, reply: Any, error: StoreError | None) -> None:
        if error is not None or not self._running:
            return
        count = max(int(reply[0]), 1)
        if count < self.count:
            now = monotonic()
            since = self._fewer_since = self._fewer_since or now
            if now - since < _SETTLED * self._heartbeat:
                return
        self._fewer_since = 0.0
        if count != self.count:
            log.info("Gateways that share this state: {count}", count=count)
        self.count = count
        self.names = sorted(name.decode(errors="replace") for name in reply[1:])

    def __repr__(self) -> str:
        return f"<Gateways: {self.count}>"
