"""Where a service's instances are looked up: DNS, or a file that somebody keeps up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.units import PositiveDuration, in_order
from rtgateway.config.urls import split_host_port, split_url
from rtgateway.config.values import FilePath, Port, is_host_name, one_or_many

__all__ = ["Discovery", "DnsDiscovery", "FileDiscovery"]

_DNS_PORT = 53
_NAME_WORDS = "a host name such as users.internal"
_PATH_WORDS = "a path such as /base, or nothing"
_RESOLVER_WORDS = "an address such as 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:53"


def _name(value: str) -> str:
    if not is_host_name(value):
        raise refused(allowed=_NAME_WORDS)
    return value


def _base_path(value: str) -> str:
    parts = split_url(f"http://host{value}")
    if isinstance(parts, str) or (value and not value.startswith("/")):
        raise refused(allowed=_PATH_WORDS)
    return parts.base_path


def _address(text: str) -> tuple[str, int] | None:
    host, port = split_host_port(text) or (text.removeprefix("[").removesuffix("]"), _DNS_PORT)
    try:
        return str(ip_address(host)), port
    except ValueError:
        return None


def _resolver(value: str) -> str:
    if _address(value) is None:
        raise refused(allowed=_RESOLVER_WORDS)
    return value


_Resolver = Annotated[str, AfterValidator(_resolver), Allowed(_RESOLVER_WORDS)]


class DnsDiscovery(Section):
    """Instances are what a name resolves to, asked again when the answer's TTL is over."""

    name: Annotated[str, AfterValidator(_name), Allowed(_NAME_WORDS)] = Field(
        description="Name to look up."
    )
    type: Literal["a", "srv"] = Field(
        default="a",
        description="Addresses (A and AAAA), or SRV records, which have ports and weights.",
    )
    port: Port | None = Field(
        default=None, description="Port of the instances; needed for addresses."
    )
    scheme: Literal["http", "https"] = Field(default="http", description="How they are asked.")
    path: Annotated[str, AfterValidator(_base_path), Allowed(_PATH_WORDS)] = Field(
        default="", max_length=1024, description="Put in front of every request path."
    )
    resolvers: Annotated[tuple[_Resolver, ...], BeforeValidator(one_or_many)] = Field(
        default=(), description="Name servers to ask. Empty: those of `/etc/resolv.conf`."
    )
    min_ttl: PositiveDuration = Field(
        default=1.0, le=86400, description="Ask no more often than this, whatever the TTL."
    )
    max_ttl: PositiveDuration = Field(
        default=60.0, le=86400, description="Ask at least this often, whatever the TTL."
    )
    timeout: PositiveDuration = Field(
        default=2.0,
        le=60,
        description="Longest wait for an answer; without one, the instances stay as they are.",
    )

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Addresses and ports of ``resolvers``."""
        return tuple(address for text in self.resolvers if (address := _address(text)))

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Addresses have no port of their own; TTLs are a range."""
        if values.get("type", "a") == "a" and values.get("port") is None:
            message = "is missing, but records of type a have no port"
            yield Rule(message, ("port",), allowed="a port from 1 to 65535")
        yield from in_order(values, "min_ttl", "max_ttl")


class FileDiscovery(Section):
    """Instances are what a file lists: YAML or JSON, a list as in `instances`."""

    path: FilePath = Field(description="The file; relative to this one.")
    interval: PositiveDuration = Field(
        default=1.0, le=3600, description="How often it is looked at."
    )

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """Bare text is a path."""
        return {"path": value} if isinstance(value, str) else value


class Discovery(Section):
    """Where instances are looked up: exactly one of `dns` and `file`."""

    dns: DnsDiscovery | None = Field(default=None, description="Look a name up.")
    file: FileDiscovery | None = Field(default=None, description="Read a file; its path will do.")

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """There is one source."""
        given = [key for key in ("dns", "file") if values.get(key) is not None]
        if len(given) != 1:
            yield Rule("", found=" and ".join(given) or "neither", allowed="either dns or file")
