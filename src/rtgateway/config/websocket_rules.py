"""Rules about WebSockets: between the keys of the section, and with routes and authentication.

A route's section holds only what differs, so that keys are judged by what holds together: see
`rtgateway.config.websocket.effective`. Called by `rtgateway.config.model.Config.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import ValidationError

from rtgateway.config.references import look
from rtgateway.config.section import Rule, switch
from rtgateway.config.websocket import ORIGIN_WORDS, WebSocket, effective

__all__ = ["websocket_rules"]

_TOKEN_KEYS = ("token_query", "token_cookie")


def websocket_rules(section: object, auth: object, routes: Sequence[object]) -> Iterator[Rule]:
    """Everything that is wrong with the global section, and with those of routes.

    What has problems of its own is not judged any further.
    """
    base = _settled(section)
    if base is None:
        return
    for rule in (*_conflicts(base, base.model_fields_set), *_without_jwt(base, auth)):
        yield replace(rule, key=("websocket", *rule.key))
    for index, route in enumerate(routes):
        own = _of_route(look(route, "websocket"))
        if own is None:
            continue
        together = effective(base, own)
        if not _asks_for_token(auth, route):
            # Where no token is looked at it does not matter where it could be.
            together = together.model_copy(update=dict.fromkeys(_TOKEN_KEYS))
        rules = (*_conflicts(together, own.model_fields_set), *_without_auth(own, auth, route))
        for rule in rules:
            yield replace(rule, key=("routes", index, "websocket", *rule.key))


def _settled(section: object) -> WebSocket | None:
    """The section, validated or not; None when it is not valid by itself."""
    if isinstance(section, WebSocket):
        return section
    try:
        return WebSocket.model_validate({} if section is None else section)
    except ValidationError:
        return None


def _of_route(section: object) -> WebSocket | None:
    state = switch(section)
    if section is None or state is False:
        return None
    return WebSocket() if state else _settled(section)


def _conflicts(settings: WebSocket, named: set[str]) -> Iterator[Rule]:
    """What does not fit together in ``settings``, as far as the keys that are ``named`` do it."""
    if settings.token_cookie is not None and named & {"token_cookie", "origins"}:
        yield from _cookie_rules(settings, named)
    if settings.ping_upstream and not settings.ping_interval and "ping_upstream" in named:
        message = "no pings at all, as ping_interval is 0"
        yield Rule(message, ("ping_upstream",), allowed="a ping_interval above 0")
    for burst, rate in (
        ("message_burst", "messages_per_second"),
        ("byte_burst", "bytes_per_second"),
    ):
        if getattr(settings, burst) and not getattr(settings, rate) and burst in named:
            yield Rule(f"no limit at all, as {rate} is 0", (burst,), allowed=f"{rate} above 0")


def _cookie_rules(settings: WebSocket, named: set[str]) -> Iterator[Rule]:
    """A cookie is a token only from pages that are known.

    Browsers send cookies with an upgrade whatever page asks for it, and nothing like CORS keeps
    that page from reading the answers (RFC 6455, 10.2).
    """
    if not settings.origins:
        message = "no origin, but token_cookie: any site could use the cookies of its visitors"
        yield Rule(message, ("origins",), allowed=f"at least one; each item {ORIGIN_WORDS}")
    elif "null" in settings.origins:
        message = "the origin null, which any site can have, and token_cookie"
        key = "origins" if "origins" in named else "token_cookie"
        yield Rule(message, (key,), allowed="one of them")


def _without_jwt(base: WebSocket, auth: object) -> Iterator[Rule]:
    if look(auth, "jwt") is not None:
        return
    for key in _TOKEN_KEYS:
        if getattr(base, key) is not None:
            yield Rule("no token is verified, as there is no auth.jwt", (key,))


def _asks_for_token(auth: object, route: object) -> bool:
    wanted = look(route, "auth")
    return wanted == "required" or (wanted is None and look(auth, "required") not in (None, False))


def _without_auth(own: WebSocket, auth: object, route: object) -> Iterator[Rule]:
    """A route that names a place for a token looks at it."""
    if _asks_for_token(auth, route):
        return
    for key in _TOKEN_KEYS:
        if getattr(own, key) is not None:
            yield Rule("no token is looked at, as auth is not required here", (key,))
