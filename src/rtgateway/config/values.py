"""Field types shared by several sections: numbers, networks, names, files, lists of words."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic.functional_serializers import PlainSerializer

from rtgateway.config.section import Allowed, refused

__all__ = [
    "BASE_DIRECTORY",
    "Count",
    "FilePath",
    "HostPattern",
    "Method",
    "Network",
    "NetworkText",
    "Number",
    "Port",
    "Share",
    "Token",
    "Words",
    "WritablePath",
    "is_host_name",
    "is_token",
    "network_text",
    "one_or_many",
]

BASE_DIRECTORY = "base"
"""Key of the validation context: the directory that relative paths start from."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)


def is_host_name(text: str) -> bool:
    """Whether ``text`` is a host name or an IPv4 address (RFC 1123, with ``_`` as seen in DNS)."""
    return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None


def _count(value: Any) -> Any:
    # pydantic would take True for 1 and 3.0 for 3: neither is what the writer meant.
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value) if len(value) <= 18 else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise refused(allowed="a whole number")


def _number(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise refused(allowed="a number")


Count = Annotated[int, BeforeValidator(_count), Ge(0), Allowed("a whole number")]
"""A whole number >= 0; text of digits is taken too, because ``${NAME}`` always gives text."""


Port = Annotated[Count, Ge(1), Le(65535)]
"""The port of a TCP socket."""

_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?", re.ASCII)

Number = Annotated[float, BeforeValidator(_number), Ge(0), Allowed("a number")]
"""A number >= 0, whole or not; text is taken too, as for `Count`."""
Share = Annotated[Number, Le(1)]
"""A part of the whole, from 0 to 1."""


def one_or_many(value: Any) -> Any:
    """Text with commas as a list, so that ``${NAME}`` can give a list; anything else as it is."""
    if isinstance(value, str):
        return tuple(part for part in (item.strip() for item in value.split(",")) if part)
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(one_or_many)]
"""Several words; one alone, or several with commas between, may be given as text."""


_TOKEN_WORDS = "a name of letters, digits and characters such as - and _"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", re.ASCII)


def is_token(text: object) -> bool:
    """Whether ``text`` is a token (RFC 9110, 5.6.2): a name for a field or a cookie."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def _token(value: str) -> str:
    if not is_token(value):
        raise refused(allowed=_TOKEN_WORDS)
    return value


Token = Annotated[str, AfterValidator(_token), Allowed(_TOKEN_WORDS)]
"""The name of a header field or of a cookie."""


def _network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if isinstance(value, str):
        try:
            return ip_network(value.strip())
        except ValueError:
            pass
        try:
            nearest = ip_network(value.strip(), strict=False)
        except ValueError:
            pass
        else:
            raise refused(allowed=f"a network without host bits; did you mean {nearest}?")
    raise refused(allowed=_NETWORK_WORDS)


_NETWORK_WORDS = "an address or network such as 10.0.0.0/8 or fd00::/8"

Network = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    PlainSerializer(str, return_type=str),
    Allowed(_NETWORK_WORDS),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "fd00::/8"]}),
]


def network_text(value: Any) -> str:
    """A network as normalised text; what is none is refused (`rtgateway.config.section`)."""
    text = _plain_network(value) if isinstance(value, str) else ""
    if not text:
        # What is not quite plain: spaces, masks, odd spellings, and all that is wrong.
        text = str(_network(value))
        if "%" in text:
            raise refused(allowed=_NETWORK_WORDS)
    return text


def _plain_network(text: str) -> str:
    """The same for most networks, ten times as fast, as there may be 100,000; empty for others."""
    address, slash, size = text.partition("/")
    family, bits = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
    try:
        packed = inet_pton(family, address)
    except (OSError, ValueError):
        return ""
    length = int(size) if size.isascii() and size.isdigit() and len(size) < 4 else bits
    if length > bits or slash != ("/" if size else "") or (size and str(length) != size):
        return ""
    if int.from_bytes(packed, "big") & ((1 << bits - length) - 1):
        return ""
    spelled = inet_ntop(family, packed)
    # The C library writes some IPv6 addresses with an IPv4 tail, `ipaddress` does not.
    return "" if family == AF_INET6 and "." in spelled else f"{spelled}/{length}"


NetworkText = Annotated[
    str,
    PlainValidator(network_text),
    Allowed(_NETWORK_WORDS),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "fd00::/8"]}),
]
"""The same as normalised text, for thousands of them."""


def _host_pattern(value: str) -> str:
    name = value.removeprefix("*.")
    if not is_host_name(name) or name.endswith("."):
        raise refused(allowed=_HOST_WORDS)
    return value.lower()


_HOST_WORDS = "a host name such as api.example.com or *.example.com"

HostPattern = Annotated[str, AfterValidator(_host_pattern), Allowed(_HOST_WORDS)]
"""A lower-case host name without port; ``*.`` in front stands for one or more labels."""


def _absolute(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get(BASE_DIRECTORY, "")
    return Path(os.path.abspath(Path(base, path.expanduser())))


def _readable(path: Path, info: ValidationInfo) -> Path:
    path = _absolute(path, info)
    if path.is_dir():
        raise refused(message=f"{path} is a directory", allowed="a file that can be read")
    if not path.exists():
        raise refused(message=f"{path} does not exist", allowed="a file that can be read")
    if not os.access(path, os.R_OK):
        raise refused(message=f"{path} can't be read", allowed="a file that can be read")
    return path


def _in_directory(path: Path, info: ValidationInfo) -> Path:
    path = _absolute(path, info)
    if not path.parent.is_dir():
        raise refused(message=f"{path.parent} is not a directory", allowed=_WRITABLE_WORDS)
    return path


_WRITABLE_WORDS = "a path in an existing directory"

FilePath = Annotated[Path, AfterValidator(_readable), Allowed("a file that can be read")]
"""An existing, readable file; relative to the configuration file; absolute once validated."""

WritablePath = Annotated[Path, AfterValidator(_in_directory), Allowed(_WRITABLE_WORDS)]
"""A path to be created in an existing directory; relative to the configuration file."""


_METHOD_WORDS = "a method in capitals such as GET or POST"
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)


def _method(value: str) -> str:
    if not _METHOD.fullmatch(value):
        raise refused(allowed=_METHOD_WORDS)
    # RFC 9110, 9.3.6: CONNECT asks for a tunnel, which a reverse proxy doesn't give.
    if value == "CONNECT":
        raise refused(message="CONNECT is never passed on", allowed=_METHOD_WORDS)
    return value


Method = Annotated[str, AfterValidator(_method), Allowed(_METHOD_WORDS)]
