"""WebSockets: what passes, how much of it, for how long, and who may open one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from rtgateway.config.section import Allowed, Section, refused, switch
from rtgateway.config.units import Duration, PositiveDuration, Size
from rtgateway.config.urls import split_origin
from rtgateway.config.values import Count, Number, Share, Token, one_or_many

__all__ = ["ORIGIN_WORDS", "SMALLEST_BUFFER", "RouteWebSocket", "WebSocket", "effective"]

ORIGIN_WORDS = "an origin such as https://app.example.com, https://*.example.com or null"

_PARAMETER_WORDS = "a name of letters, digits and . _ ~ -"
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
_MOST = 1_000_000
SMALLEST_BUFFER = 16 << 10
"""Lowest `max_buffered`, in bytes."""


def _origin(value: str) -> str:
    origin = split_origin(value)
    if value.strip() in ("*", "*://*"):
        message = "an empty list allows every origin"
        raise refused(message=message, allowed=ORIGIN_WORDS)
    if origin is None:
        raise refused(allowed=ORIGIN_WORDS)
    if origin.startswith(("ws:", "wss:")):
        message = "an origin is that of a page, http or https"
        raise refused(message=message, allowed=ORIGIN_WORDS)
    return origin


def _parameter(value: str) -> str:
    if value == "path":
        message = "the parameter path says where the WebSocket leads"
        raise refused(message=message, allowed=_PARAMETER_WORDS)
    if not _PARAMETER.fullmatch(value):
        raise refused(allowed=_PARAMETER_WORDS)
    return value


def _none_if_empty(value: Any) -> Any:
    # A route has to be able to say that it takes none, where the global section names one.
    return None if value == "" else value


_Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin), Allowed(ORIGIN_WORDS)], ...],
    BeforeValidator(one_or_many),
]
_Parameter = Annotated[
    Annotated[str, AfterValidator(_parameter), Allowed(_PARAMETER_WORDS)] | None,
    BeforeValidator(_none_if_empty),
]
_Cookie = Annotated[Token | None, BeforeValidator(_none_if_empty)]


class WebSocket(Section):
    """WebSockets, everywhere. A route that has the section, too, differs in the keys it names.

    Whatever ends a WebSocket here is said in its Close frame: the code is shown in parentheses.
    """

    max_buffered: Size = Field(
        default=2_000_000,
        ge=SMALLEST_BUFFER,
        description="Bytes that wait for a side that does not take them; beyond, it is closed "
        "(1013 `backpressure`).",
    )
    max_frame: Size = Field(
        default=0, description="Largest frame, as it is on the wire (1009); 0 is unlimited."
    )
    max_message: Size = Field(
        default=0,
        description="Largest message, all its frames together, compressed if it is (1009); 0 is "
        "unlimited.",
    )
    messages_per_second: Number = Field(
        default=0.0, le=_MOST, description="Messages that a client sends; 0 is unlimited."
    )
    message_burst: Count = Field(
        default=0,
        le=_MOST,
        description="Messages that may come at once; 0: those of one second, at least 1.",
    )
    bytes_per_second: Size = Field(
        default=0, description="Bytes that a client sends; 0 is unlimited."
    )
    byte_burst: Size = Field(
        default=0, description="Bytes that may come at once; 0: those of one second."
    )
    over_rate: Literal["close", "pause"] = Field(
        default="close",
        description="Who sends more than that is closed (1008 `rate_limit`), or read more slowly.",
    )
    idle_timeout: Duration = Field(
        default=0.0,
        description="Closed when no message passes either way for this long (1001); pings are "
        "none. 0 is off.",
    )
    ping_interval: Duration = Field(
        default=30.0, description="How often clients are pinged; 0 is off."
    )
    pong_timeout: PositiveDuration = Field(
        default=10.0, description="Who has not answered a ping by then is gone (1001)."
    )
    ping_upstream: bool = Field(default=False, description="Ping instances, too.")
    close_timeout: PositiveDuration = Field(
        default=5.0, le=3600, description="Longest wait for the answer to a Close frame."
    )
    max_lifetime: Duration = Field(
        default=0.0, description="Closed after this long, whatever happens (1001); 0 is off."
    )
    lifetime_jitter: Share = Field(
        default=0.1,
        description="Random share of it by which each ends sooner, so that they do not come back "
        "all at once.",
    )
    close_at_expiry: bool = Field(
        default=True, description="Close when the client's token expires (4001 `token_expired`)."
    )
    drain_timeout: Duration = Field(
        default=10.0,
        le=86400,
        description="When the gateway or an instance stops, its WebSockets are closed at random "
        "times within this one.",
    )
    connections: Count = Field(
        default=0, le=_MOST, description="WebSockets open on a route; 0 is unlimited."
    )
    per_ip: Count = Field(
        default=0,
        le=_MOST,
        description="On a route by one address (IPv6: one /64 network); 0 is unlimited.",
    )
    per_identity: Count = Field(
        default=0, le=_MOST, description="On a route by one subject of tokens; 0 is unlimited."
    )
    per_instance: Count = Field(default=0, le=_MOST, description="To one instance; 0 is unlimited.")
    origins: _Origins = Field(
        default=(),
        description="Sites whose pages may open WebSockets; `*.` is one or more labels. Empty: "
        "all. Clients that are no browsers send no origin, and are not asked for one.",
    )
    token_query: _Parameter = Field(
        default=None,
        description="Query parameter to take a token from where one is required; it is not passed "
        "on. Empty: none.",
    )
    token_cookie: _Cookie = Field(
        default=None,
        description="Cookie to take a token from where one is required; it is not passed on. "
        "Needs `origins`. Empty: none.",
    )

    @property
    def messages_at_once(self) -> float:
        """Messages that a client may send at once, where ``messages_per_second`` is not 0."""
        return float(self.message_burst or max(1.0, self.messages_per_second))

    @property
    def bytes_at_once(self) -> float:
        """Bytes that a client may send at once, where ``bytes_per_second`` is not 0."""
        return float(self.byte_burst or self.bytes_per_second)


def effective(base: WebSocket, route: WebSocket) -> WebSocket:
    """What holds on a route: its own keys, as far as it names them, and else those of ``base``.

    Routes are to be compared by this: sections that name different keys may be equal.
    """
    own = {name: getattr(route, name) for name in route.model_fields_set}
    return base.model_copy(update=own)


def _on_route(value: Any) -> Any:
    """A switch as a section, or none."""
    state = switch(value)
    if state is not None:
        return {} if state else None
    if value is None or isinstance(value, Mapping | WebSocket):
        return value
    raise refused(allowed="true, false or a mapping with keys of websocket")


RouteWebSocket = Annotated[WebSocket | None, BeforeValidator(_on_route)]
"""The section of a route: ``true`` is an empty one, and ``false`` is none."""
