"""Running the gateway: access log, admin pages, overload, shutdown, event streams, tracing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rtgateway.config.section import Section
from rtgateway.config.units import Duration, PositiveDuration, Size
from rtgateway.config.values import WritablePath

__all__ = ["AccessLog", "Admin", "Pressure", "Shutdown", "Sse", "Tracing"]


class AccessLog(Section):
    """One line for each request."""

    format: Literal["json", "combined", "off"] = Field(
        default="json", description="JSON objects, Apache's combined format, or nothing."
    )
    file: WritablePath | None = Field(
        default=None, description="File to append to. Left out: standard output."
    )
    flush: PositiveDuration = Field(
        default=1.0, le=60, description="Lines are written together, at least this often."
    )


class Admin(Section):
    """Who may use `/admin` and `/gateway`, where services can be changed as well as watched.

    With a token when `auth.required`, else the machine itself.
    """

    open: bool = Field(
        default=False,
        description="Answer everybody, without a token, changes included. For demonstrations.",
    )


class Pressure(Section):
    """When the gateway calls itself overloaded and answers 503."""

    max_event_loop_delay: Duration = Field(
        default=1.0, le=3600, description="The event loop is this late; 0 is off."
    )
    max_rss: Size = Field(default=0, description="Memory in use by the process; 0 is off.")
    retry_after: PositiveDuration = Field(
        default=10.0, le=86400, description="What `Retry-After` says in such an answer."
    )


class Shutdown(Section):
    """How the gateway stops."""

    grace: Duration = Field(
        default=30.0,
        le=86400,
        description="Requests in flight may finish within this time; then they are cut off.",
    )


class Sse(Section):
    """Event streams (`text/event-stream`)."""

    heartbeat: Duration = Field(
        default=0.0,
        description="A comment line is sent to the client when a stream is silent for this long; "
        "0 is off.",
    )


class Tracing(Section):
    """W3C Trace Context."""

    start: bool = Field(
        default=True, description="Start a trace where the client sent no `traceparent`."
    )
    sampled: bool = Field(default=True, description="Mark traces started here as sampled.")
