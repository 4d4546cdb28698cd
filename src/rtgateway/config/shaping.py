"""What a route does with some of its requests: split, mirror, and fail them for practice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le
from pydantic import Field

from rtgateway.config.problems import show
from rtgateway.config.section import Rule, Section
from rtgateway.config.units import Duration, Size
from rtgateway.config.values import Count, Share, Token

__all__ = ["Faults", "Mirror", "Split", "SplitTo"]

_ROUNDING = 1e-9
"""Ten shares of 0.1 are a bit more than 1 as floats."""


class SplitTo(Section):
    """A service and its share."""

    plural: ClassVar[str] = "services with their shares"

    service: str = Field(description="Name of the service.")
    share: Share = Field(description="Share of the route's requests; 0 by header or cookie only.")


class Split(Section):
    """Sends a share of the requests to other services; the rest go to the route's `service`."""

    to: tuple[SplitTo, ...] = Field(min_length=1, description="Where to, and how many.")
    header: Token | None = Field(
        default=None, description="A request whose field names one of the services goes there."
    )
    cookie: Token | None = Field(
        default=None,
        description="The same by a cookie, which also keeps a client where it was sent first.",
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Each service is there once, and there is no more than everything to share."""
        targets = values.get("to")
        if not isinstance(targets, list | tuple):
            return
        known = [(at, item) for at, item in enumerate(targets) if isinstance(item, SplitTo)]
        seen: dict[str, int] = {}
        for index, target in known:
            if (first := seen.setdefault(target.service, index)) != index:
                message, found = f"the service of to[{first}], too", show(target.service)
                yield Rule(message, ("to", index, "service"), found, "each service once")
        total = sum(target.share for _, target in known)
        if total > 1 + _ROUNDING:
            yield Rule("", ("to",), f"shares of {total:g} together", "at most 1")


class Mirror(Section):
    """Sends copies of requests to another service; what it answers is thrown away."""

    service: str = Field(description="Name of the service.")
    share: Share = Field(default=1.0, description="Share of the route's requests.")
    body_limit: Size = Field(
        default=64 << 10,
        le=16 << 20,
        description="Requests with larger bodies are not copied.",
    )
    in_flight: Count = Field(
        default=100, ge=1, le=100_000, description="Copies in flight; beyond, none are made."
    )


class Faults(Section):
    """Makes some requests slow or fail, for drills."""

    delay: Duration = Field(default=0.0, le=3600, description="Wait this long before asking.")
    delay_share: Share = Field(default=1.0, description="Share of the requests that wait.")
    abort: Annotated[Count, Ge(400), Le(599)] | None = Field(
        default=None, description="Answer with this status instead of asking."
    )
    abort_share: Share = Field(default=1.0, description="Share of the requests that fail.")
    header: Token | None = Field(
        default=None, description="Only requests with this field. Left out: all."
    )
