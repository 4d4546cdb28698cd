"""Who changed what, in the gateway's own log."""

from __future__ import annotations

from twisted.web.server import Request

from rtgateway.net.log import Logger
from rtgateway.web.admin.page import asked_by
from rtgateway.web.guard import is_loopback

__all__ = ["audited"]

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


def _who(request: Request) -> str:
    """The subject of the token that was shown; where none was needed, ``local`` or an address."""
    asking = asked_by(request)
    if asking is None:
        return "local"
    if asking.identity is None:
        return "local" if is_loopback(asking.client_ip) else asking.client_ip
    # A subject is somebody else's text; ascii() keeps it on one line.
    return ascii(asking.identity.subject[:_MAX_SUBJECT])
