"""How much and how long: limits on messages, on connections, and the global timeouts."""

from __future__ import annotations

from pydantic import Field

from rtgateway.config.section import Section
from rtgateway.config.units import Duration, PositiveDuration, Size
from rtgateway.config.values import Count

__all__ = ["Connections", "Limits", "Timeouts"]

_KIB = 1 << 10
_MIB = 1 << 20


class Limits(Section):
    """Largest messages accepted, from clients and from services."""

    request_line: Size = Field(
        default=8 * _KIB, ge=128, le=_MIB, description="Request line, in bytes; longer: 414."
    )
    header_bytes: Size = Field(
        default=32 * _KIB, ge=512, le=16 * _MIB, description="Whole request head; larger: 431."
    )
    header_count: Count = Field(
        default=100, ge=1, le=10_000, description="Fields in a request head; more: 431."
    )
    body: Size = Field(default=10 * _MIB, description="Request body; larger: 413. 0 is unlimited.")
    trailer_bytes: Size = Field(
        default=8 * _KIB, le=_MIB, description="Trailer section of a chunked body."
    )
    response_header_bytes: Size = Field(
        default=64 * _KIB, ge=512, le=16 * _MIB, description="Whole response head; larger: 502."
    )
    response_header_count: Count = Field(
        default=200, ge=1, le=10_000, description="Fields in a response head; more: 502."
    )


class Timeouts(Section):
    """Longest waits, everywhere; services and routes may set the first four for themselves."""

    connect: PositiveDuration = Field(
        default=5.0, description="Until a connection to an instance is up, TLS included."
    )
    first_byte: PositiveDuration = Field(
        default=30.0, description="From the end of the request to the first byte of the answer."
    )
    between_bytes: PositiveDuration = Field(
        default=60.0,
        description="Silence inside an answer's body; event streams have no such limit.",
    )
    request: Duration = Field(
        default=0.0,
        description="From the request to the head of its answer, all tries together; 0 is off.",
    )
    head: PositiveDuration = Field(
        default=10.0, description="Until a client has sent the whole request head."
    )
    body_idle: PositiveDuration = Field(default=30.0, description="Silence inside a request body.")
    body_rate: Size = Field(
        default=256,
        description="Slowest request body after its first 10 seconds, in bytes per second; "
        "0 is off.",
    )
    keep_alive: PositiveDuration = Field(
        default=75.0, description="An idle client connection is closed after this time."
    )
    write_stall: PositiveDuration = Field(
        default=60.0, description="A client that takes nothing for this long is disconnected."
    )


class Connections(Section):
    """How many client connections may be open."""

    total: Count = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="All together; at the limit, no more are accepted.",
    )
    per_ip: Count = Field(
        default=1000, ge=1, le=1_000_000, description="From one address; more are closed at once."
    )
