"""From configuration to the WebSocket side of a route."""

from __future__ import annotations

from rtgateway import config
from rtgateway.core.origins import Origins
from rtgateway.ws.bridge import Bridge
from rtgateway.ws.rules import Rules
from rtgateway.ws.sockets import Sockets
from rtgateway.ws.upgrade import Terms

__all__ = ["make_bridge"]


def make_bridge(
    label: str,
    settings: config.Config,
    route: config.Route | None,
    sockets: Sockets,
    *,
    takes_token: bool,
    write_stall: float,
) -> Bridge:
    """The bridge of the route ``label``.

    :param route: as it is configured; None for ``/ws/<service>``, where nothing else is served and
        the path is a query parameter.
    :param takes_token: a token is asked for there.
    :param write_stall: seconds for which a side may take nothing.
    """
    builtin = route is None
    terms = settings.websocket
    if route is not None and route.websocket is not None:
        terms = config.effective(terms, route.websocket)
    return Bridge(
        label,
        Terms(
            origins=Origins(terms.origins) if terms.origins else None,
            takes_token=takes_token,
            token_query=terms.token_query.encode() if terms.token_query else None,
            token_cookie=terms.token_cookie.encode() if terms.token_cookie else None,
            only=builtin,
            path_in_query=builtin,
        ),
        Rules(terms, write_stall),
        sockets,
    )
