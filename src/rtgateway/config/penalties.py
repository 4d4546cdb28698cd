"""Bans for those who are refused again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from rtgateway.config.section import Rule, Switchable
from rtgateway.config.units import Duration, PositiveDuration, in_order
from rtgateway.config.values import Count, Number

__all__ = ["Penalties"]


class Penalties(Switchable):
    """Who is refused by limiters too often gets 429 for a while, whatever is asked for.

    Off unless the section is there; `on` is enough, and `off` will do.
    """

    plural: ClassVar[str] = "penalties"

    enabled: bool = Field(default=True, description="Whether anybody is banned.")
    refusals: Count = Field(
        default=10, ge=1, le=1_000_000, description="Refusals within `window` that do it."
    )
    window: PositiveDuration = Field(
        default=60.0, le=86400, description="From the first of them on."
    )
    duration: PositiveDuration = Field(default=300.0, description="How long the first ban is.")
    factor: Number = Field(
        default=2.0, ge=1, le=100, description="The next one is longer by this factor."
    )
    max_duration: PositiveDuration = Field(default=86400.0, description="Longest ban.")
    forget: Duration = Field(
        default=86400.0,
        description="So long after a ban has ended, the next one is a first one again.",
    )
    by: Literal["client", "ip"] = Field(
        default="client",
        description="Who is banned: the subject of the token, or without one the address "
        "(IPv6: its /64 network); or always the address.",
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Bans grow; they do not shrink."""
        yield from in_order(values, "duration", "max_duration")
