"""Which requests go to which service."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from rtgateway.config.resilience import Retry
from rtgateway.config.section import Allowed, Rule, Section, refused, switch
from rtgateway.config.shaping import Faults, Mirror, Split
from rtgateway.config.units import Duration, PositiveDuration, Size
from rtgateway.config.values import HostPattern, Method, one_or_many
from rtgateway.config.websocket import RouteWebSocket

__all__ = ["Route", "RouteTimeouts"]

_PATH_WORDS = "a path such as /v1, /users/{id} or /users/{id}/*"
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}", re.ASCII)


def _path(value: str) -> str:
    problem = _path_problem(value)
    if problem:
        raise refused(message=problem, allowed=_PATH_WORDS)
    return value


def _path_problem(path: str) -> str:
    """What is wrong with a prefix or template, in words; empty when nothing is."""
    if not path.startswith("/"):
        return "a path begins with a slash"
    *leading, last = path[1:].split("/")
    if "" in leading:
        return 'a path has no empty segment ("//")'
    names: set[str] = set()
    for segment in (*leading, last):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is None and "{" in segment:
            return "a {parameter} is a whole segment, named by letters, digits and _"
        if parameter is not None and parameter[1] in names:
            return f"the parameter {segment} is there twice"
        if parameter is not None:
            names.add(parameter[1])
        elif "*" in segment and (segment != "*" or segment is not last):
            return '"*" is the last segment, or not there'
        elif segment.replace("%2e", ".").replace("%2E", ".") in (".", ".."):
            return 'a path has no "." and ".." segments'
        elif segment != "*" and not _SEGMENT.fullmatch(segment):
            return "a path holds URL characters only; others are percent-encoded"
    return ""


class RouteTimeouts(Section):
    """Timeouts of one route; what is left out comes from the service, then from `timeouts`."""

    connect: PositiveDuration | None = Field(
        default=None, description="Until a connection is up, TLS included."
    )
    first_byte: PositiveDuration | None = Field(
        default=None, description="From the end of the request to the first byte of the answer."
    )
    between_bytes: PositiveDuration | None = Field(
        default=None,
        description="Silence inside an answer's body; event streams have no such limit.",
    )
    request: Duration | None = Field(
        default=None,
        description="From the request to the head of its answer, all tries together; 0 is off.",
    )


class Route(Section):
    """Requests that match host, path and method go to a service. The most specific route wins."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Name in logs and metrics; the path when left out. Names are unique.",
    )
    host: HostPattern | None = Field(
        default=None, description="Host asked for, without port. Left out: any."
    )
    path: Annotated[str, AfterValidator(_path), Allowed(_PATH_WORDS)] = Field(
        max_length=1024,
        description="A prefix (`/v1` matches `/v1` and all below), or a template: `/users/{id}` "
        "matches exactly, `/users/{id}/*` all below.",
    )
    methods: Annotated[tuple[Method, ...], BeforeValidator(one_or_many)] = Field(
        default=(), description="Methods that match. Empty: all."
    )
    service: str = Field(description="Name of the service that answers.")
    strip_prefix: bool = Field(
        default=False, description="Leave the matched part of the path out of the request upstream."
    )
    preserve_host: bool = Field(
        default=False,
        description="Send the client's Host to the service instead of the instance's own.",
    )
    timeouts: RouteTimeouts = Field(
        default=RouteTimeouts(), description="Timeouts that differ from the service's."
    )
    retry: Retry | None = Field(
        default=None,
        description="When a request is tried again. Left out: as the service says.",
    )
    body_limit: Size | None = Field(
        default=None,
        description="Largest request body here; 0 is unlimited. Left out: `limits.body`.",
    )
    on_disconnect: Literal["cancel", "finish"] = Field(
        default="cancel",
        description="When the client leaves: cancel the request upstream, or let it finish.",
    )
    auth: Literal["required", "none"] | None = Field(
        default=None,
        description="Whether a token is needed here. Left out: as `auth.required` says.",
    )
    proxy_headers: bool | None = Field(
        default=None,
        description="Send `X-Proxy-Service`, `X-Proxy-Instance` and `X-Proxy-Attempts`. "
        "Left out: as `proxy_headers` says.",
    )
    websocket: RouteWebSocket = Field(
        default=None,
        description="Pass WebSockets on: `true`, or what differs from the global section. "
        "Left out or `false`: requests for an upgrade are passed on as ordinary ones.",
    )
    split: Split | None = Field(default=None, description="Requests that go elsewhere.")
    mirror: Mirror | None = Field(default=None, description="Copies that go elsewhere.")
    faults: Faults | None = Field(default=None, description="Requests that fail on purpose.")

    @property
    def label(self) -> str:
        """The name, or else the path."""
        return self.name or self.path

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Something is left of a path that is stripped; an upgrade gets to a WebSocket."""
        path = values.get("path")
        exact = isinstance(path, str) and "{" in path and not path.endswith("/*")
        if exact and values.get("strip_prefix") is True:
            message = "strip_prefix would leave nothing of a path that matches exactly"
            yield Rule(
                message, ("strip_prefix",), allowed='a prefix, or a template that ends in "/*"'
            )
        methods = values.get("methods")
        offered = values.get("websocket")
        if offered is None or switch(offered) is False or not isinstance(methods, list | tuple):
            return
        # RFC 6455, 4.1: the method of the request must be GET.
        if methods and "GET" not in methods:
            yield Rule("no GET, by which WebSockets begin", ("methods",), allowed="GET, too")
