"""An event stream that counts: one event a second, numbered so that a client can resume.

An event follows from its number alone, and the number from the clock. Therefore a client that
comes back with ``Last-Event-ID`` gets what it missed (at most `REPLAY` events), and one that reads
slowly gets it later, without any history or queue being kept.
"""

from __future__ import annotations

import orjson
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

__all__ = ["INTERVAL", "REPLAY", "Events", "Ticker"]

INTERVAL = 1.0
REPLAY = 100
RETRY_MILLISECONDS = 2000


class Ticker:
    """Knows the number of the newest event, and wakes the open streams while there are any."""

    def __init__(self, name: str, clock: IReactorTime) -> None:
        self._name = name
        self._clock = clock
        self._started = clock.seconds()
        self._streams: set[Stream] = set()
        self._loop = LoopingCall(self._wake)
        self._loop.clock = clock

    def __repr__(self) -> str:
        return f"<Ticker {self._name} at {self.number()}, {len(self._streams)} streams>"

    def number(self) -> int:
        """The number of the newest event; 1 is the first."""
        return int((self._clock.seconds() - self._started) / INTERVAL) + 1

    def event(self, number: int) -> bytes:
        """Event `number` as it goes over the wire."""
        data = orjson.dumps({"tick": number, "instance": self._name})
        return b"id: %d\nevent: tick\ndata: %b\n\n" % (number, data)

    def add(self, stream: Stream) -> None:
        self._streams.add(stream)
        if not self._loop.running:
            self._loop.start(INTERVAL, now=False)

    def remove(self, stream: Stream) -> None:
        self._streams.discard(stream)
        if not self._streams and self._loop.running:
            self._loop.stop()

    def _wake(self) -> None:
        for stream in tuple(self._streams):
            stream.catch_up()


@implementer(IPushProducer)
class Stream:
    """One client that listens. It stops taking events while its connection is full."""

    def __init__(self, request: Request, ticker: Ticker, seen: int) -> None:
        self._request = request
        self._ticker = ticker
        self._seen = seen
        self._paused = False

    def catch_up(self) -> None:
        """Send what this client has not seen yet."""
        if self._paused:
            return
        newest = self._ticker.number()
        oldest = max(self._seen + 1, newest - REPLAY + 1)
        if oldest <= newest:
            self._seen = newest
            self._request.write(b"".join(map(self._ticker.event, range(oldest, newest + 1))))

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self._ticker.remove(self)


class Events(Resource):
    """``/events``: an endless ``text/event-stream``."""

    isLeaf = True

    def __init__(self, ticker: Ticker) -> None:
        super().__init__()
        self._ticker = ticker

    def render_GET(self, request: Request) -> int:
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"cache-control", b"no-store")
        stream = Stream(request, self._ticker, last_seen(request, self._ticker.number()))
        request.registerProducer(stream, True)
        request.notifyFinish().addErrback(lambda _: self._ticker.remove(stream))
        request.write(b"retry: %d\n\n" % RETRY_MILLISECONDS)
        self._ticker.add(stream)
        stream.catch_up()
        return NOT_DONE_YET


def last_seen(request: Request, newest: int) -> int:
    """What the client says it saw last; the one before the newest if it says nothing sensible."""
    try:
        return min(int(request.getHeader(b"last-event-id") or b"", 10), newest)
    except ValueError:
        return newest - 1
