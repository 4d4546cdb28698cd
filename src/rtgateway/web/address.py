"""What a request's target and Host mean, and the few requests that stop at the gateway itself.

Nothing a client sends can name an instance: the address only chooses among the routes.
"""

from __future__ import annotations

import re

from rtgateway.core.headers import host_name, valid_host
from rtgateway.errors import BadRequest, GatewayError
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.pipeline import Destination
from rtgateway.gateway.respond import with_nothing
from rtgateway.wire.lines import Line

__all__ = ["Hosts", "not_allowed", "special_case", "unusual_address"]

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_MAX_HOSTS = 1024
_FORWARDED = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")


class Hosts(dict[bytes | None, bytes]):
    """Host fields that were valid, and the lower-case names in them, without ports. Bounded."""

    __slots__ = ()

    def name_of(self, host: bytes) -> bytes:
        """The name in ``host``.

        :raises BadRequest: it is not a host (RFC 9110, 7.2).
        """
        name = self.get(host)
        if name is None:
            if not valid_host(host):
                raise BadRequest("The Host field is not a host")
            name = host_name(host)
            if len(self) >= _MAX_HOSTS:
                self.clear()
            self[host] = name
        return name


def unusual_address(exchange: Exchange, hosts: Hosts) -> tuple[bytes, bytes, bytes]:
    """Host, the name in it, and target in origin form, of an address that is not plainly one.

    :raises BadRequest: RFC 9112, 3.2 and 3.3.
    """
    target = exchange.target
    host = exchange.named.get(b"host")
    if host is None and exchange.version == 11:
        raise BadRequest("There must be a Host field")
    if exchange.method == b"CONNECT":
        raise _no_tunnel()
    if 0x23 in target:
        raise BadRequest("The request target has a fragment")
    name = hosts.name_of(host) if host is not None else b""
    if target[0] != 0x2F:
        host, target = _other_form(exchange.method, target, host or b"")
        name = hosts.name_of(host) if host else b""
        exchange.target = target
    return host or b"", name, target


def _other_form(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """Host and origin-form target of an absolute-form or asterisk-form target."""
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest("Only OPTIONS may have the target *")
        return host, b"*"
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequest("The request target is neither a path nor an absolute http URI")
    authority, rest = match.groups()
    # RFC 9112, 3.2.2: the target's authority counts; one that differs from Host is a try to be
    # seen as two hosts by two readers.
    if host and authority.lower() != host.lower():
        raise BadRequest("The absolute target and the Host field disagree")
    if not authority:
        raise BadRequest("The absolute target names no host")
    if rest[:1] == b"?":
        rest = b"/" + rest
    # RFC 9112, 3.2.4: OPTIONS of a URI without a path is OPTIONS of the server.
    return authority, rest or (b"*" if method == b"OPTIONS" else b"/")


def special_case(exchange: Exchange) -> Destination | None:
    """The answer of the gateway's own to a request that goes no further; None if it does."""
    named = exchange.named
    if b"expect" in named:
        if named[b"expect"].lower() != b"100-continue":
            return GatewayError(
                417, "expectation_failed", "Only 100-continue can be expected", fault="client"
            )
        if exchange.version == 10:
            exchange.drop(b"expect")  # RFC 9110, 10.1.1: such a client does not wait
    if exchange.method == b"TRACE":
        return not_allowed(_FORWARDED)
    if exchange.method == b"CONNECT":
        return _no_tunnel()
    if b"max-forwards" in named and exchange.method == b"OPTIONS" and _last_hop(exchange):
        return _END_OF_THE_WAY
    return None


def _last_hop(exchange: Exchange) -> bool:
    """Whether Max-Forwards ends here; else it is counted down (RFC 9110, 7.6.2)."""
    value = exchange.named[b"max-forwards"]
    if not value.isdigit() or len(value) > 9:
        return False
    left = int(value)
    if left:
        field = (b"max-forwards", b"Max-Forwards", b"%d" % (left - 1))
        new: Line = (field, b"Max-Forwards: %b\r\n" % field[2], None)
        lines = exchange.head.lines
        exchange.pass_on([new if line[0][0] == field[0] else line for line in lines])
    return not left


class _EndOfTheWay:
    """Answers OPTIONS that may go no further."""

    async def answer(self, exchange: Exchange) -> None:
        with_nothing(exchange, ((b"Allow", b", ".join(_FORWARDED)),))


_END_OF_THE_WAY = _EndOfTheWay()


def _no_tunnel() -> BadRequest:
    # What follows may be meant for a tunnel: nothing more is read from this connection.
    return BadRequest("CONNECT is not served", status=501, code="not_implemented")


def not_allowed(allow: tuple[bytes, ...]) -> GatewayError:
    """The refusal of a method."""
    return GatewayError(
        405,
        "method_not_allowed",
        "This method is not allowed here",
        fault="client",
        headers=((b"Allow", b", ".join(allow)),),
    )
