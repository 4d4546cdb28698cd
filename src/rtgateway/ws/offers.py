"""What a client offers: subprotocols and extensions (RFC 6455, 4.1 and 9.1).

Offers go to the instance, which chooses; the gateway only holds them to their grammar. Caller:
``ws.upgrade``.
"""

from __future__ import annotations

import re

from rtgateway.core.headers import is_token
from rtgateway.errors import BadRequest

__all__ = ["deflate_offers", "subprotocols"]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# RFC 6455, 9.1. A quoted value must be a token when its quotes and backslashes are gone, so that
# no comma can stand in one. Nothing is ambiguous, so that no group has to be possessive; before
# Python 3.11.5 those take what they should not (python/cpython issue 106052).
_EXTENSION = re.compile(
    rb"(%b++)(?:[ \t]*+;[ \t]*+%b++(?:[ \t]*+=[ \t]*+(?:%b++|\"(?:%b|\\%b)+\"))?)*"
    % ((_TOKEN,) * 5)
)
_DEFLATE = b"permessage-deflate"


def subprotocols(values: list[bytes]) -> list[bytes]:
    """The names in all Sec-WebSocket-Protocol fields, which may be several.

    :raises BadRequest: one is no token, or stands twice, or a field names none.
    """
    names = [name for value in values for name in _elements(value, "Sec-WebSocket-Protocol")]
    for name in names:
        if not is_token(name):
            raise BadRequest("A subprotocol is not a token")
    if len(set(names)) != len(names):
        raise BadRequest("A subprotocol is offered twice")
    return names


def deflate_offers(values: list[bytes]) -> list[bytes]:
    """The offers of permessage-deflate in all Sec-WebSocket-Extensions fields, to the letter.

    What other extensions do to frames is not known here, so they are not offered any further.

    :raises BadRequest: a field is not a list of extensions.
    """
    offers = []
    for value in values:
        for element in _elements(value, "Sec-WebSocket-Extensions"):
            match = _EXTENSION.fullmatch(element)
            if match is None:
                raise BadRequest("Sec-WebSocket-Extensions is not a list of extensions")
            if match[1].lower() == _DEFLATE:
                offers.append(element)
    return offers


def _elements(value: bytes, field: str) -> list[bytes]:
    """The elements of a list. RFC 9110, 5.6.1.2: empty ones are none, but one there must be."""
    elements = [part for part in (part.strip(b" \t") for part in value.split(b",")) if part]
    if not elements:
        raise BadRequest(f"{field} is empty")
    return elements
