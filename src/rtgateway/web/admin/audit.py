"""Who changed what, in the gateway's own log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.web.server import Request

from rtgateway.errors import GatewayError
from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError
from rtgateway.web.admin.page import asked_by
from rtgateway.web.guard import is_loopback

__all__ = ["audited", "auditing"]

T = TypeVar("T")

log = Logger()

_MAX_SUBJECT = 128


def audited(request: Request, what: str, whom: str, change: str) -> None:
    """Log a change that ``request`` made."""
    log.info(
        "Administration: {what} of {whom} by {who}: {change}",
        what=what,
        whom=whom,
        who=_who(request),
        change=change,
    )


async def auditing(
    request: Request,
    what: str,
    whom: str,
    change: str,
    done: Awaitable[T],
    came: Callable[[T], str] | None = None,
) -> T:
    """Wait until a change is ``done``, and log it.

    It is logged too if nobody learns whether it was done: the store did not answer, the time was
    over, or the client has left.

    :param came: says in words what came of it.
    """
    try:
        result = await done
    except (StoreError, GatewayError) as error:
        audited(request, what, whom, f"{change}; it may not have been done ({error})")
        raise
    audited(request, what, whom, change if came is None else f"{change}; {came(result)}")
    return result


def _who(request: Request) -> str:
    """The subject of the token that was shown; where none was needed, ``local`` or an address."""
    asking = asked_by(request)
    if asking is None:
        return "local"
    if asking.identity is None:
        return "local" if is_loopback(asking.client_ip) else asking.client_ip
    # A subject is somebody else's text; ascii() keeps it on one line.
    return ascii(asking.identity.subject[:_MAX_SUBJECT])
