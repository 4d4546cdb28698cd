"""Who may see the admin pages: holders of a token where there are tokens, else the machine itself.

Admin pages are those below ``/admin`` and ``/gateway``. Health (that of WebSockets too), readiness,
pressure and metrics are open: they are asked by what knows no tokens, and say nothing about
clients. `Guard.admit` is called
for every page before it is rendered.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from rtgateway.config import Admin
from rtgateway.core.headers import host_name
from rtgateway.errors import GatewayError

if TYPE_CHECKING:
    from rtgateway.gateway.auth import JwtAuth
    from rtgateway.gateway.exchange import Exchange

__all__ = ["Guard", "is_loopback"]

_ADMIN = (b"/admin", b"/gateway")
_READING = frozenset([b"GET", b"HEAD", b"OPTIONS"])
_SPOKEN_FOR = frozenset([b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"])
"""Fields by which a request shows that a proxy on this machine sent it on for somebody else."""


class Guard:
    """See the module.

    :param auth: how tokens are verified; None where authentication is off.
    """

    __slots__ = ("_auth", "_open")

    def __init__(self, settings: Admin, auth: JwtAuth | None) -> None:
        self._open = settings.open
        self._auth = auth

    def admit(self, exchange: Exchange) -> None:
        """Let ``exchange`` see the page it asks for.

        :raises Unauthorized: an admin page needs a token.
        :raises GatewayError: 403, an admin page is for this machine only, or it is a change that
            another web page wants (cross-site request forgery).
        """
        if not _is_admin(exchange.path):
            return
        if exchange.method not in _READING and not _from_itself(exchange):
            raise GatewayError(
                403, "forbidden", "Changes are not accepted from other web pages", fault="client"
            )
        self._identify(exchange)

    def trusts(self, exchange: Exchange) -> bool:
        """Whether ``exchange`` may see what admin pages show, whichever page it asks for."""
        try:
            self._identify(exchange)
        except GatewayError:
            return False
        return True

    def _identify(self, exchange: Exchange) -> None:
        if self._open:
            return
        if self._auth is not None:
            exchange.identity = self._auth.identify(exchange)
        elif not _is_local(exchange):
            raise GatewayError(
                403,
                "forbidden",
                "Admin pages are only shown to this machine unless authentication is on",
                fault="client",
            )

    def __repr__(self) -> str:
        rule = "everybody" if self._open else "this machine" if self._auth is None else "tokens"
        return f"<Guard {rule}>"


def _is_admin(path: bytes) -> bool:
    # The tree of pages decodes a path before it looks (/%61dmin is /admin there), so do we.
    path = unquote_to_bytes(path)
    return any(path == each or path.startswith(each + b"/") for each in _ADMIN)


def _from_itself(exchange: Exchange) -> bool:
    """Whether a browser asks for a page of ours, if a browser asks at all.

    Browsers say in Origin (RFC 6454, 7) whose page wants a change, and no page can prevent that;
    programs say nothing. ``Origin: null`` is a page that hides who it is.
    """
    host = _authority(exchange.host)
    origins = exchange.values(b"origin")
    return all(b"://" in origin and _authority(origin) == host for origin in origins)


def _authority(origin: bytes) -> bytes:
    """Host and port of an origin or of a Host field, without the scheme's own port."""
    scheme, slashes, rest = origin.lower().rpartition(b"://")
    if scheme == b"https" or not slashes:
        rest = rest.removesuffix(b":443")
    if scheme == b"http" or not slashes:
        rest = rest.removesuffix(b":80")
    return rest


def _is_local(exchange: Exchange) -> bool:
    """Whether a person or a program on this machine asks, for itself."""
    if not is_loopback(exchange.client_ip):
        return False
    if any(name in _SPOKEN_FOR for name, _, _ in exchange.headers):
        return False
    # DNS rebinding: a web page may have its own name resolve to 127.0.0.1, and the browser then
    # asks us with that name.
    host = host_name(exchange.host).decode("latin-1").strip("[]")
    return host == "localhost" or is_loopback(host)


def is_loopback(text: str) -> bool:
    """Whether an address in text is one of this machine's own."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
