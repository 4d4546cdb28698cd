"""URLs of instances and of checks, taken apart; and ``host:port`` pairs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

from rtgateway.config.values import is_host_name

__all__ = ["URL_WORDS", "Url", "as_http", "split_host_port", "split_origin", "split_url"]

URL_WORDS = "a URL such as http://localhost:3001"
# RFC 3986, 3: scheme, authority without userinfo, path; a fragment is never sent.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/\[\]:@?#]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)|//", re.IGNORECASE)
# RFC 6454, 6.2; the schemes of applications that are pages inside (capacitor://localhost), too.
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://(?P<any>\*\.)?(?P<host>\[[0-9a-f:.]+\]|[^/\[\]:@?#\s]+)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^/\[\]:@?#\s]+):(?P<port>[0-9]{1,5})")


_ADDRESS = re.compile(r"[0-9.]+", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Url:
    """Parts of a base URL.

    :ivar scheme: ``http`` or ``https``.
    :ivar host: lower-case name or address; IPv6 without brackets.
    :ivar base_path: empty, or ``/base`` without a trailing slash.
    """

    scheme: str
    host: str
    port: int
    base_path: str

    @property
    def bracketed(self) -> str:
        """The host, in brackets when it is an IPv6 address."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """``host[:port]`` without the scheme's default port."""
        default = 443 if self.scheme == "https" else 80
        return self.bracketed if self.port == default else f"{self.bracketed}:{self.port}"


def split_url(text: str) -> Url | str:
    """The parts of ``text``, or in words what is allowed instead."""
    if "@" in text.partition("://")[2].partition("/")[0]:
        return f"{URL_WORDS}, without a user name and password"
    if "?" in text or "#" in text:
        return f"{URL_WORDS}, without a query and a fragment"
    match = _URL.fullmatch(text)
    if match is None:
        return URL_WORDS
    scheme = match["scheme"].lower()
    host = _host(match["host"])
    port = int(match["port"] or (443 if scheme == "https" else 80))
    if not host:
        return URL_WORDS
    if not 0 < port < 65536:
        return f"{URL_WORDS}, with a port from 1 to 65535"
    base_path = (match["path"] or "").rstrip("/")
    if _DOT_SEGMENT.search(base_path):
        return f'{URL_WORDS}, without "//", "." and ".." in its path'
    return Url(scheme, host, port, base_path)


def split_host_port(text: str) -> tuple[str, int] | None:
    """Host (IPv6 without brackets) and port of ``host:port``; None when it is something else."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or not (host := _host(match["host"])) or not 0 < int(match["port"]) < 65536:
        return None
    return host, int(match["port"])


def as_http(text: str) -> str:
    """``text`` with ``http`` for ``ws`` and ``https`` for ``wss``.

    They are the same ports, and TLS or not (RFC 6455, 3); a WebSocket begins as a request.
    """
    scheme, slashes, rest = text.partition("://")
    secure = {"ws": "http", "wss": "https"}.get(scheme.lower())
    return text if secure is None else f"{secure}{slashes}{rest}"


def split_origin(text: str) -> str | None:
    """An origin, or a pattern of origins, as browsers write them (RFC 6454, 6.2).

    That is lower case, without the scheme's default port: ``null``, ``https://a.example``,
    ``https://*.example:8443``.

    :return: None when it is something else.
    """
    text = text.strip().lower()
    if text == "null":
        return text
    match = _ORIGIN.fullmatch(text)
    if match is None or not (host := _host(match["host"])) or host.endswith("."):
        return None
    if match["any"] and (":" in host or _ADDRESS.fullmatch(host)):
        return None
    port = int(match["port"] or 0)
    if match["port"] and not 0 < port < 65536:
        return None
    bracketed = f"[{host}]" if ":" in host else host
    shown = "" if port in (0, _DEFAULT_PORTS.get(match["scheme"])) else f":{port}"
    return f"{match['scheme']}://{match['any'] or ''}{bracketed}{shown}"


def _host(text: str) -> str:
    """``text`` in one spelling, without brackets; empty when it is no host."""
    host = text.lower()
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1]))
        except ValueError:
            return ""
    return host if is_host_name(host) else ""
