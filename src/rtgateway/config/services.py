"""What the gateway stands in front of: services, each with one or more instances."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr

from rtgateway.config.balancing import Balance
from rtgateway.config.checks import HealthCheck
from rtgateway.config.discovery import Discovery
from rtgateway.config.resilience import CircuitBreaker, Concurrency, Outliers, Retry
from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.units import Duration, PositiveDuration
from rtgateway.config.urls import URL_WORDS, Url, as_http, split_url
from rtgateway.config.values import Count, FilePath

__all__ = ["SERVICE_NAME", "Instance", "Pool", "Service", "ServiceTimeouts", "UpstreamTls"]

SERVICE_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
"""Names that are safe as a path segment and as a metrics label."""


def _url(value: str) -> str:
    value = as_http(value)
    parts = split_url(value)
    if isinstance(parts, str):
        raise refused(allowed=parts)
    return value


class Instance(Section):
    """One running copy of a service; a bare URL will do."""

    url: Annotated[str, AfterValidator(_url), Allowed(URL_WORDS)] = Field(
        description="Base URL, `http` or `https` (`ws` and `wss` mean the same); its path is put "
        "in front of every request path."
    )
    weight: Count = Field(
        default=1,
        le=1000,
        description="Share of the load relative to the other instances; 0 takes no new requests.",
    )
    backup: bool = Field(
        default=False, description="Asked only while no other instance is available."
    )

    _parts: Url = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Split the URL once; it is valid by now."""
        parts = split_url(self.url)
        assert isinstance(parts, Url)
        self._parts = parts

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """A bare URL is an instance."""
        return {"url": value} if isinstance(value, str) else value

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return self._parts.scheme

    @property
    def host(self) -> str:
        """Lower-case host name or address; IPv6 without brackets."""
        return self._parts.host

    @property
    def port(self) -> int:
        """Port, also where the URL leaves it out."""
        return self._parts.port

    @property
    def base_path(self) -> str:
        """Path in front of every request path: empty, or ``/base`` without a trailing slash."""
        return self._parts.base_path

    @property
    def authority(self) -> str:
        """``host[:port]`` for the Host field: brackets for IPv6, no default port."""
        return self._parts.authority

    @property
    def id(self) -> str:
        """``host:port/base``: its name in admin paths, cookies and headers."""
        return f"{self._parts.bracketed}:{self.port}{self.base_path}"

    @property
    def label(self) -> str:
        """The URL in one spelling, for logs and metrics."""
        return f"{self.scheme}://{self.authority}{self.base_path}"


class Pool(Section):
    """Connections kept to each instance."""

    connections: Count = Field(
        default=256, ge=1, le=65535, description="Connections open at once to one instance."
    )
    idle: Count = Field(
        default=256, le=65535, description="Unused connections kept for later to one instance."
    )
    idle_timeout: PositiveDuration = Field(
        default=60.0, description="An unused connection is closed after this time."
    )
    queue: Count = Field(
        default=10_000,
        le=1_000_000,
        description="Requests that may wait for a connection; more are answered with 503.",
    )
    queue_timeout: PositiveDuration = Field(
        default=5.0, description="Longest wait for a connection; then 503."
    )


class ServiceTimeouts(Section):
    """Timeouts of one service; what is left out comes from the global `timeouts`."""

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


class UpstreamTls(Section):
    """How `https` instances prove who they are."""

    ca: FilePath | None = Field(
        default=None,
        description="PEM file of certificate authorities to trust instead of the system's.",
    )
    server_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Name sent as SNI and looked for in the certificate, instead of the "
        "URL's host.",
    )
    verify: bool = Field(
        default=True, description="Check the certificate. Turn off for experiments only."
    )


class Service(Section):
    """A service by its instances; one URL, or a list of URLs, will do."""

    instances: tuple[Instance, ...] = Field(
        default=(),
        description="Where the service runs; each a URL or a mapping. May be left out only with "
        "`discovery`.",
    )
    discovery: Discovery | None = Field(
        default=None, description="Where more instances are looked up."
    )
    balance: Balance = Field(default=Balance(), description="How an instance is picked.")
    retry: Retry = Field(default=Retry(), description="When a request is tried again.")
    circuit_breaker: CircuitBreaker = Field(
        default=CircuitBreaker(), description="One for each instance."
    )
    service_breaker: CircuitBreaker | None = Field(
        default=None, description="One for the service as a whole; `on` for its defaults."
    )
    health: HealthCheck | None = Field(
        default=None, description="How instances are checked. Left out: only by what they answer."
    )
    outliers: Outliers = Field(
        default=Outliers(), description="Which instances are left out for a while."
    )
    concurrency: Concurrency = Field(
        default=Concurrency(), description="How many requests at once."
    )
    critical: bool = Field(
        default=False, description="`/readyz` answers 503 while no instance is available."
    )
    pool: Pool = Field(default=Pool(), description="Connections kept to each instance.")
    timeouts: ServiceTimeouts = Field(
        default=ServiceTimeouts(), description="Timeouts that differ from the global ones."
    )
    tls: UpstreamTls = Field(
        default=UpstreamTls(), description="How `https` instances prove who they are."
    )

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """One URL, a list, and a bare URL for ``instances`` all mean a list of instances."""
        if isinstance(value, str):
            return {"instances": (value,)}
        if isinstance(value, list | tuple):
            return {"instances": tuple(value)}
        if isinstance(value, Mapping) and isinstance(value.get("instances"), str):
            return {**value, "instances": (value["instances"],)}
        return value

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """There are instances, each listed once; some instance takes requests."""
        instances = values.get("instances")
        discovered = values.get("discovery") is not None
        if not instances and not discovered and isinstance(instances, list | tuple | NoneType):
            yield Rule("no instance", ("instances",), allowed="at least one, or discovery")
        if not isinstance(instances, list | tuple):
            return
        known = [item for item in enumerate(instances) if isinstance(item[1], Instance)]
        seen: dict[str, int] = {}
        for index, instance in known:
            first = seen.setdefault(instance.id, index)
            if first != index:
                message = f"the same instance as instances[{first}]"
                yield Rule(message, ("instances", index, "url"), allowed="each instance once")
        if known and not discovered and not any(instance.weight for _, instance in known):
            yield Rule("every instance has weight 0", ("instances",), allowed="one above 0")
