"""Health checks: of a service's instances, and of other things that the gateway depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from rtgateway.config.conditions import Statuses
from rtgateway.config.problems import show
from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.units import Duration, PositiveDuration
from rtgateway.config.urls import URL_WORDS, split_host_port, split_url
from rtgateway.config.values import Count, Port, Share, is_token

__all__ = ["DependencyCheck", "HealthCheck"]

_TARGET_WORDS = "a path such as /health"
_TARGET = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_HOST_PORT_WORDS = "a host and port such as localhost:6379"
_NOT_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_FRAMING = frozenset(
    ("connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding")
) | {"upgrade"}
"""Fields of which a check has its own (RFC 9110, 7.6.1)."""


def _target(value: str) -> str:
    if not _TARGET.fullmatch(value):
        raise refused(allowed=_TARGET_WORDS)
    return value


def _url(value: str) -> str:
    base, question, query = value.partition("?")
    parts = split_url(base)
    if isinstance(parts, str) or (question and not _QUERY.fullmatch(query)):
        raise refused(allowed=parts if isinstance(parts, str) else URL_WORDS)
    return value


def _host_port(value: str) -> str:
    if split_host_port(value) is None:
        raise refused(allowed=_HOST_PORT_WORDS)
    return value


def _field_value(value: Any) -> Any:
    # A number is as good as its digits; what it reads must not show up anywhere.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_FieldValue = Annotated[
    str,
    BeforeValidator(_field_value),
    Allowed("text", secret=True),
    WithJsonSchema({"type": ["string", "integer"]}),
]


class _Check(Section):
    """What both kinds of checks have in common."""

    method: Literal["GET", "HEAD"] = Field(default="GET", description="Method of the request.")
    headers: dict[str, _FieldValue] = Field(
        default={}, repr=False, description="Fields of the request."
    )
    statuses: Statuses = Field(
        default=("2xx",), min_length=1, description="Statuses that mean success."
    )
    body: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="Text that the answer must contain, in its first 64 KiB.",
    )
    interval: PositiveDuration = Field(default=10.0, le=86400, description="Time between checks.")
    jitter: Share = Field(
        default=0.1, description="Random share of the interval, so that checks spread."
    )
    timeout: PositiveDuration = Field(
        default=2.0, le=3600, description="Longest wait for the whole answer."
    )
    initial_delay: Duration = Field(
        default=0.0, le=3600, description="Time before the first check."
    )
    rise: Count = Field(
        default=2, ge=1, le=1000, description="Successes in a row after which it is up again."
    )
    fall: Count = Field(
        default=3, ge=1, le=1000, description="Failures in a row after which it is down."
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Fields are fields; what has no answer to look into expects none."""
        headers = values.get("headers")
        for name, value in headers.items() if isinstance(headers, Mapping) else ():
            key = ("headers", str(name))
            if not is_token(name) or name.lower() in _FRAMING:
                yield Rule(
                    "", key, f"the name {show(name)}", "names of fields that are not framing"
                )
            elif isinstance(value, str) and _NOT_IN_VALUES.search(value):
                yield Rule("", key, "text with control characters", "text on one line")
        if values.get("tcp") and values.get("body") is not None:
            yield Rule("a TCP check has no answer", ("body",), allowed="body only without tcp")
        if values.get("method") == "HEAD" and values.get("body") is not None:
            yield Rule("the answer to HEAD has no body", ("body",), allowed="body only with GET")


class _InstanceTarget(Section):
    """What is checked, of an instance."""

    path: Annotated[str, AfterValidator(_target), Allowed(_TARGET_WORDS)] = Field(
        default="/health",
        max_length=1024,
        description="Path of the request, query included; behind the path of the instance's URL.",
    )
    tcp: bool = Field(
        default=False,
        description="Only open a connection (to an `https` instance with TLS), and ask nothing.",
    )
    port: Port | None = Field(default=None, description="Port to check, if not the instance's own.")


# Fields of the last base come first, and what is checked comes before how.
class HealthCheck(_Check, _InstanceTarget):
    """Asks every instance now and then how it is; just the path will do."""

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """Bare text is a path; ``true`` is all defaults."""
        if value is True:
            return {}
        return {"path": value} if isinstance(value, str) else value


class _DependencyTarget(Section):
    """What is checked, besides instances."""

    url: Annotated[str, AfterValidator(_url), Allowed(URL_WORDS)] | None = Field(
        default=None, max_length=2048, description="URL to request, `http` or `https`."
    )
    tcp: Annotated[str, AfterValidator(_host_port), Allowed(_HOST_PORT_WORDS)] | None = Field(
        default=None, description="`host:port` to open a connection to."
    )
    critical: bool = Field(
        default=False, description="`/readyz` answers 503 while the check fails."
    )


class DependencyCheck(_Check, _DependencyTarget):
    """Checks something the gateway's services depend on: exactly one of `url` and `tcp`.

    A bare `http://...`, `https://...` or `tcp://host:port` will do. Results are in `/health`.
    """

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """A bare URL says by its scheme which kind of check it is."""
        if not isinstance(value, str):
            return value
        scheme, _, rest = value.partition("://")
        return {"tcp": rest} if scheme.lower() == "tcp" else {"url": value}

    @property
    def address(self) -> tuple[str, int] | None:
        """Host (IPv6 without brackets) and port of ``tcp``."""
        return None if self.tcp is None else split_host_port(self.tcp)

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """One thing is checked."""
        yield from super().rules(values)
        given = [key for key in ("url", "tcp") if values.get(key) is not None]
        if len(given) != 1:
            yield Rule("", found=" and ".join(given) or "neither", allowed="either url or tcp")
