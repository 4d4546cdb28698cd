"""Finished requests to observe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rtgateway.observe.log_lines import outcome_text
from tests.observe.services import Instance, Service


@dataclass
class Body:
    """A request body of ``size`` bytes."""

    size: int = 0


@dataclass
class Identity:
    """Who a token speaks for."""

    subject: str = ""


@dataclass
class Route:
    """Where a request goes."""

    service: Service = field(default_factory=Service)


@dataclass
class Repeats:
    """What requests that are alike share."""

    log_texts: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class Exchange:
    """A GET that was answered with 200 after 2 ms, its head after 1 ms."""

    method: bytes = b"GET"
    path: bytes = b"/api/users/1"
    version: int = 11
    named: Mapping[bytes, bytes] = field(default_factory=dict)
    client_ip: str = "192.0.2.1"
    request_id: bytes = b"r-1"
    status: int = 200
    body: Body | None = None
    bytes_out: int = 150
    started: float = 100.0
    first_byte: float = 100.001
    finished: float = 100.002
    error_code: str = ""
    error_detail: str = ""
    kind: str = "http"
    label: str = "/api/:service/*"
    route: Route | None = None
    service: Service | None = field(default_factory=Service)
    chosen: Instance | None = field(default_factory=Instance)
    attempts: int = 1
    answered: bool = True
    identity: Identity | None = None
    repeats: Repeats | None = None


def outcome(exchange: Exchange) -> str:
    """What the JSON log tells of how ``exchange`` came out."""
    return outcome_text(
        exchange.method, exchange.status, exchange.label, exchange.service, exchange.chosen
    )


def fields(**values: bytes) -> dict[bytes, bytes]:
    """Header fields by their names; underscores in names are hyphens."""
    return {key.replace("_", "-").encode(): value for key, value in values.items()}
