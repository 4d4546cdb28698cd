"""What the gateway stands in front of: services, each with one or more instances."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.units import PositiveDuration
from rtgateway.config.values import Count, FilePath, is_host_name

__all__ = ["SERVICE_NAME", "Instance", "Pool", "Service", "ServiceTimeouts", "UpstreamTls"]

SERVICE_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
"""Names that are safe as a path segment and as a metrics label."""

_URL_WORDS = "a URL such as http://localhost:3001"
# RFC 3986, 3: scheme, authority without userinfo, path; query and fragment make no sense here.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/\[\]:@?#]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)|//", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Url:
    scheme: str
    host: str
    port: int
    base_path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


def _split_url(text: str) -> _Url | str:
    """The parts of ``text``, or in words what is allowed instead."""
    if "@" in text.partition("://")[2].partition("/")[0]:
        return f"{_URL_WORDS}, without a user name and password"
    if "?" in text or "#" in text:
        return f"{_URL_WORDS}, without a query and a fragment"
    match = _URL.fullmatch(text)
    if match is None:
        return _URL_WORDS
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = int(match["port"] or (443 if scheme == "https" else 80))
    if host.startswith("["):
        try:
            host = str(IPv6Address(host[1:-1]))
        except ValueError:
            return _URL_WORDS
    elif not is_host_name(host):
        return _URL_WORDS
    if not 0 < port < 65536:
        return f"{_URL_WORDS}, with a port from 1 to 65535"
    base_path = (match["path"] or "").rstrip("/")
    if _DOT_SEGMENT.search(base_path):
        return f'{_URL_WORDS}, without "//", "." and ".." in its path'
    return _Url(scheme, host, port, base_path)


def _url(value: str) -> str:
    parts = _split_url(value)
    if isinstance(parts, str):
        raise refused(allowed=parts)
    return value


class Instance(Section):
    """One running copy of a service; a bare URL will do."""

    url: Annotated[str, AfterValidator(_url), Allowed(_URL_WORDS)] = Field(
        description="Base URL, `http` or `https`; its path is put in front of every request path."
    )
    weight: Count = Field(
        default=1,
        le=1000,
        description="Share of the load relative to the other instances; 0 takes no new requests.",
    )

    _parts: _Url = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Split the URL once; it is valid by now."""
        parts = _split_url(self.url)
        assert isinstance(parts, _Url)
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
        min_length=1, description="Where the service runs; each a URL or a mapping."
    )
    balance: Literal["least_load"] = Field(
        default="least_load",
        description="How an instance is picked: fewest requests in flight, then lowest latency.",
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
        """An instance is listed once; some instance takes requests."""
        instances = values.get("instances")
        if not isinstance(instances, list | tuple):
            return
        known = [item for item in instances if isinstance(item, Instance)]
        seen: dict[str, int] = {}
        for index, instance in enumerate(known):
            first = seen.setdefault(instance.label, index)
            if first != index:
                message = f"the same instance as instances[{first}]"
                yield Rule(message, ("instances", index, "url"), allowed="each instance once")
        if known and not any(instance.weight for instance in known):
            yield Rule("every instance has weight 0", ("instances",), allowed="one above 0")
