"""Breaking an instance for a while: ``POST /break?how=hang&seconds=20``, and ``POST /mend``.

`rtgateway.demo.instance` has an `Outage` answer instead of its pages, ``/health`` among them, while
it lasts. Who wants to break a certain instance asks at its own port; through the gateway it is
whichever gets the request.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from rtgateway.demo.pages import send_json

__all__ = ["LONGEST", "WAYS", "Order", "Outage"]

WAYS = ("503", "500", "hang", "close")
LONGEST = 60
"""Seconds: a forgotten outage ends by itself."""


class Order(Resource):
    """Does something when it is POSTed, and tells what; a `ValueError` of it is a 400."""

    isLeaf = True

    def __init__(self, carry_out: Callable[[Request], object]) -> None:
        super().__init__()
        self._carry_out = carry_out

    def render(self, request: Request) -> bytes:
        if request.method != b"POST":
            request.setHeader(b"allow", b"POST")
            return send_json(request, {"error": "method_not_allowed"}, 405)
        try:
            return send_json(request, self._carry_out(request))
        except ValueError as error:
            return send_json(request, {"error": "bad_request", "message": str(error)}, 400)


class Outage(Resource):
    """How the instance is broken, and until when; rendered in place of every page while it lasts.

    ``POST /break?how=503&seconds=20`` begins one, or replaces the one there is; ``POST /mend`` ends
    it. A request that hangs does so until its client leaves or the time is over.
    """

    isLeaf = True

    def __init__(self, name: str, clock: IReactorTime) -> None:
        super().__init__()
        self._name = name
        self._clock = clock
        self._how = ""
        self._until = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the instance is broken now."""
        return self._clock.seconds() < self._until

    def begin(self, request: Request) -> dict[str, object]:
        """Fail from now on.

        :raises ValueError: that is no way to fail, or too long.
        """
        how, seconds = argument(request, "how", "503"), argument(request, "seconds", "20")
        if how not in WAYS:
            raise ValueError(f"how has to be one of {', '.join(WAYS)}")
        # Few enough characters that int() is cheap, and digits alone: no sign, no space.
        digits = len(seconds) <= 2 and seconds.isascii() and seconds.isdigit()
        if not (digits and 1 <= int(seconds) <= LONGEST):
            raise ValueError(f"seconds has to be a whole number from 1 to {LONGEST}")
        self._how = how
        self._until = self._clock.seconds() + int(seconds)
        return {"instance": self._name, "broken": how, "seconds": int(seconds)}

    def end(self, request: Request) -> dict[str, object]:
        """Answer properly again; what hangs goes on hanging."""
        self._until = 0.0
        return {"instance": self._name, "broken": None}

    def render(self, request: Request) -> bytes | int:
        if self._how == "close":
            request.loseConnection()
        elif self._how == "hang":
            self._hang(request)
        else:
            return send_json(request, {"error": "broken", "instance": self._name}, int(self._how))
        return NOT_DONE_YET

    def _hang(self, request: Request) -> None:
        def left(_: object) -> None:
            if end.active():
                end.cancel()

        end = self._clock.callLater(self._until - self._clock.seconds(), request.loseConnection)
        request.notifyFinish().addErrback(left)


def argument(request: Request, name: str, default: str) -> str:
    """The last value of a query's argument."""
    values = (request.args or {}).get(name.encode("ascii"))
    return values[-1].decode("latin-1") if values else default
