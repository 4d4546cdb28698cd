"""What is heard on channels, on a connection of its own; subscribed anew whenever that is new."""

from __future__ import annotations

# txredisapi has no annotations.
# mypy: allow-untyped-calls
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from rtgateway.net.log import Logger
from rtgateway.store.redis.calls import Call
from rtgateway.store.redis.line import Line
from rtgateway.store.redis.opening import Opening, Place
from rtgateway.store.redis.protocol import CommandProtocol

__all__ = ["Subscriber"]

log = Logger()

_EVERY = 1.0
"""Seconds between PINGs: a connection on which nothing is said may be dead."""
_PATIENCE = 2.0
"""Seconds in which one is answered."""
_MOST_SAID = 20
"""Reasons that are logged until all is in place, each once."""

Heard = Callable[[bytes], None]


class _Hearing(CommandProtocol):
    """The connection."""

    def __init__(self, reactor: Any, heard: dict[bytes, list[Heard]]) -> None:
        super().__init__(reactor)
        self._heard = heard

    def take(self, reply: Any, now: float) -> None:
        if reply.__class__ is not list or not reply or reply[0] != b"message":
            super().take(reply, now)
            return
        _, channel, payload = reply
        for heard in tuple(self._heard.get(channel, ())):
            try:
                heard(payload)
            except Exception:
                log.failure("What listens to {channel} failed", channel=channel.decode())


class Subscriber:
    """All subscriptions.

    :param ready: called when all of them are in place, again after each new connection.
    """

    __slots__ = (
        "_heard",
        "_line",
        "_opening",
        "_reactor",
        "_ready",
        "_said",
        "_started",
        "_timer",
        "_unconfirmed",
        "in_place",
    )

    def __init__(
        self,
        opening: Opening,
        ready: Callable[[], None],
        reactor: Any,
        random: Callable[[], float],
    ) -> None:
        self._opening = opening
        self._ready = ready
        self._reactor = reactor
        self._heard: dict[bytes, list[Heard]] = {}
        self._line: Line[_Hearing] = Line(self._open, self._opened, self._failed, reactor, random)
        self._said: set[str] = set()
        self._unconfirmed = 0
        self._started = False
        self._timer: Any = None
        self.in_place = False

    @property
    def wanted(self) -> bool:
        """Whether there is anything to hear."""
        return bool(self._heard)

    def subscribe(self, channel: bytes, heard: Heard) -> None:
        """Call ``heard`` with each message."""
        others = self._heard.setdefault(channel, [])
        others.append(heard)
        connection = self._line.connection
        if connection is not None and len(others) == 1:
            self.in_place = False
            self._subscribe(connection, [channel])

    def start(self) -> None:
        """Open the connection, if there is anything to hear."""
        if self.wanted and not self._started:
            self._started = True
            self._line.start()

    def stop(self) -> Deferred[None]:
        """Close it; fires when it is closed."""
        self._started = True
        self.in_place = False
        self._cancel()
        return self._line.stop()

    def leave(self, why: str, unless: Place | None = None) -> None:
        """Take another connection than the one there is, unless it goes there."""
        connection = self._line.connection
        if connection is not None and connection.where != unless:
            connection.abort(why)

    # -- the connection -----------------------------------------------------------------------

    def _open(self) -> Deferred[_Hearing]:
        return self._opening.open(partial(_Hearing, self._reactor, self._heard))

    def _opened(self, connection: _Hearing) -> None:
        connection.owner = self
        self._subscribe(connection, list(self._heard))

    def _subscribe(self, connection: _Hearing, channels: list[bytes]) -> None:
        subscribed = gatherResults(
            [connection.execute_command("SUBSCRIBE", channel) for channel in channels],
            consumeErrors=True,
        )
        self._unconfirmed += 1
        self._expect(connection)

        def done(_: object) -> None:
            self._unconfirmed -= 1
            if connection is self._line.connection and not self._unconfirmed:
                self.in_place = True
                if self._said:
                    log.info("Other gateways are heard again")
                    self._said.clear()
                self._ready()

        def failed(failure: Any) -> None:
            self._unconfirmed -= 1
            if not connection.ended:
                failure = getattr(failure.value, "subFailure", failure)
                self._failed(failure.getErrorMessage())
                connection.abort("not subscribed")

        subscribed.addCallbacks(done, failed)

    def _failed(self, why: str) -> None:
        if why not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(why)
            log.warn("Nothing is heard from other gateways: {why}", why=why)

    def _expect(self, connection: _Hearing) -> None:
        """Give the connection up unless it answers in time what it has been asked by now."""
        self._cancel()
        self._timer = self._reactor.callLater(_PATIENCE, self._silent, connection)

    def _silent(self, connection: _Hearing) -> None:
        self._timer = None
        connection.abort("no answer")

    def _ping(self, connection: _Hearing) -> None:
        self._timer = None
        connection.execute_command("PING").addErrback(lambda failure: None)
        self._expect(connection)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- told by the connection ---------------------------------------------------------------

    def answered(self, call: Call, now: float) -> None:
        connection = self._line.connection
        if connection is not None and not connection.waiting:
            self._cancel()
            self._timer = self._reactor.callLater(_EVERY, self._ping, connection)

    def late(self) -> None:
        """Its commands have no deadline of their own."""

    def timed_out(self, call: Call) -> None:
        """As above."""

    def refused(self, call: Call, detail: str, now: float) -> None:
        """Whoever asked knows."""
        self.answered(call, now)

    def unfit(self, detail: str) -> None:
        """It was a master when the connection was opened, and says nothing of it here."""

    def dropped(self, call: Call) -> None:
        """As above."""

    def lost(self, connection: CommandProtocol, why: str) -> None:
        self.in_place = False
        self._cancel()
        self._line.lost()

    def __repr__(self) -> str:
        return f"<Subscriber to {len(self._heard)} channels{'' if self.in_place else ', not yet'}>"
