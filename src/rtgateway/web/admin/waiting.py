"""Pages that answer later, because they ask a store that is somewhere else.

They are as other pages, but their functions are coroutines. Whoever asks gets an answer within
`PATIENCE`; what waits is cancelled when that is over, and when the client leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from rtgateway.errors import ClientGone, GatewayError
from rtgateway.net.tasks import Task
from rtgateway.store.errors import StoreError
from rtgateway.web.admin.page import Answer, Page, dressed, function_for, refused

__all__ = ["PATIENCE", "AnsweringLater", "WaitingPage", "unavailable"]

PATIENCE = 2.0
"""Seconds."""

AnsweringLater = Callable[[Request], Coroutine[Any, Any, Answer]]


class WaitingPage(Page):
    """See the module. ``WaitingPage(reactor, GET=f, PUT=g)``."""

    def __init__(self, clock: IReactorTime, **answering: AnsweringLater) -> None:
        super().__init__()
        self._clock = clock
        self._later = {method.encode("ascii"): each for method, each in answering.items()}
        if b"GET" in self._later:
            self._later[b"HEAD"] = self._later[b"GET"]

    def render(self, request: Request) -> bytes:
        """Answer, now or later."""
        task = Task(self._answer(request))
        over = self._clock.callLater(PATIENCE, task.cancel, unavailable("it takes too long"))

        def ended(result: object) -> None:
            if over.active():
                over.cancel()
            if isinstance(result, Failure):
                task.cancel(ClientGone())

        request.notifyFinish().addBoth(ended)
        task.step()
        return cast(bytes, NOT_DONE_YET)

    async def _answer(self, request: Request) -> None:
        try:
            found = await function_for(request, self._later)(request)
        except ClientGone:
            return
        except GatewayError as error:
            found = refused(error)
        except StoreError as error:
            found = refused(unavailable(error.reason))
        except Exception:
            request.processingFailed(Failure())
            return
        request.write(dressed(request, found))
        request.finish()


def unavailable(reason: str) -> GatewayError:
    """503: the store does not answer; ``reason`` in a word or two."""
    return GatewayError(
        503,
        "store_unavailable",
        f"The store of shared state does not answer: {reason}",
        headers=((b"Retry-After", b"1"),),
    )
