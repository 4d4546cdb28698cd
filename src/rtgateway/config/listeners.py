"""Where the gateway listens: TCP, TLS, Unix sockets and sockets inherited from systemd."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.values import (
    Count,
    FilePath,
    HostPattern,
    WritablePath,
    is_host_name,
    one_or_many,
)

__all__ = ["Certificate", "Listener", "Tls", "split_address"]

_ADDRESS_WORDS = "an address such as 0.0.0.0:8080, :8080 or [::1]:8080"
_MODE_WORDS = 'an octal file mode such as "0660"'
_SYSTEMD_WORDS = "the number or the name of an inherited socket"


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` as (host without brackets, port); an empty host is every IPv4 address.

    :raises ValueError: when it is not an address.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise ValueError(_ADDRESS_WORDS)
    if host.startswith("[") and host.endswith("]"):
        host = str(IPv6Address(host[1:-1]))
    elif host in ("", "*"):
        host = "0.0.0.0"
    elif not is_host_name(host):
        raise ValueError(_ADDRESS_WORDS)
    return host, int(port)


def _tcp(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = f":{value}"
    if isinstance(value, str):
        text = f":{value}" if value.isdigit() else value.strip()
        try:
            split_address(text)
        except ValueError:
            pass
        else:
            return text
    raise refused(allowed=_ADDRESS_WORDS)


def _mode(value: str) -> str:
    digits = value.removeprefix("0o")
    if not re.fullmatch("[0-7]{3,4}", digits) or (len(digits) == 4 and digits[0] != "0"):
        raise refused(allowed=_MODE_WORDS)
    return digits.rjust(4, "0")


def _systemd(value: Any) -> int | str:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 5:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1024:
        return value
    # systemd.socket(5), FileDescriptorName=: ASCII without control characters and colons, <= 255.
    if isinstance(value, str) and re.fullmatch(r"[!-9;-~]{1,255}", value):
        return value
    raise refused(allowed=_SYSTEMD_WORDS)


class Certificate(Section):
    """A certificate chain with its private key, and the names that it is shown for."""

    certificate: FilePath = Field(
        description="PEM file: the certificate, then the intermediate certificates."
    )
    key: FilePath = Field(description="PEM file: the private key.")
    names: Annotated[tuple[HostPattern, ...], BeforeValidator(one_or_many)] = Field(
        default=(),
        description="Server names (SNI) that get this certificate; `*.example.com` stands for any "
        "one label. Empty: the names inside the certificate.",
    )


class Tls(Section):
    """TLS on a listener."""

    certificates: tuple[Certificate, ...] = Field(
        min_length=1,
        description="Certificates to choose from by server name; the first is the default.",
    )
    min_version: Literal["1.2", "1.3"] = Field(
        default="1.2", description="Oldest TLS version spoken."
    )

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """An unquoted ``min_version: 1.3`` is a number in YAML: taken for what it says."""
        if isinstance(value, Mapping) and isinstance(value.get("min_version"), float):
            return {**value, "min_version": str(value["min_version"])}
        return value


class Listener(Section):
    """A socket that clients connect to: exactly one of `tcp`, `unix` and `systemd`."""

    tcp: Annotated[str, BeforeValidator(_tcp), Allowed(_ADDRESS_WORDS)] | None = Field(
        default=None,
        description="Address to listen on; `:8080` is every IPv4 address, port 0 any free port.",
    )
    unix: WritablePath | None = Field(default=None, description="Path of a Unix socket.")
    systemd: (
        Annotated[
            int | str,
            BeforeValidator(_systemd),
            Allowed(_SYSTEMD_WORDS),
            WithJsonSchema({"type": ["integer", "string"]}),
        ]
        | None
    ) = Field(
        default=None,
        description="Socket inherited from systemd: its number counted from 0, or its "
        "FileDescriptorName.",
    )
    mode: Annotated[str, AfterValidator(_mode), Allowed(_MODE_WORDS)] = Field(
        default="0660", description="Permissions of the Unix socket, octal."
    )
    backlog: Count = Field(
        default=1024, ge=1, le=65535, description="Connections that wait in the kernel for accept."
    )
    tls: Tls | None = Field(default=None, description="Speak TLS here.")
    proxy_protocol: bool = Field(
        default=False,
        description="Every connection from a trusted proxy must begin with a PROXY protocol "
        "header, version 1 or 2.",
    )

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """A bare address is a TCP listener."""
        if isinstance(value, str | int) and not isinstance(value, bool):
            return {"tcp": value}
        return value

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """One socket for each listener; ``mode`` belongs to Unix sockets."""
        kinds = ("tcp", "unix", "systemd")
        given = [kind for kind in kinds if values.get(kind) is not None]
        if len(given) != 1:
            yield Rule(
                "", found=" and ".join(given) or "none", allowed=f"one of {', '.join(kinds)}"
            )

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of a TCP listener; the host of IPv6 is without brackets.

        :raises ValueError: when this is not a TCP listener.
        """
        if self.tcp is None:
            raise ValueError("not a TCP listener")
        return split_address(self.tcp)

    @property
    def label(self) -> str:
        """One word for logs and messages."""
        if self.tcp is not None:
            return self.tcp
        return f"unix:{self.unix}" if self.unix is not None else f"systemd:{self.systemd}"
