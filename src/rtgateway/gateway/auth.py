"""Who asks: the JWT in ``Authorization: Bearer``, judged by ``core.tokens``.

Browsers can't set that field on a WebSocket: ``ws.upgrade`` finds the token where they can put it.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from rtgateway.core.tokens import Identity, TokenVerifier, bearer_token
from rtgateway.errors import Unauthorized

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = ["JwtAuth"]


class JwtAuth:
    """The first policy: nothing of a request without a valid token goes any further."""

    __slots__ = ("_verifier",)

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def identify(self, exchange: Exchange) -> Identity:
        """Whose request this is.

        :raises Unauthorized: no token, two of them, or one that is not valid now.
        """
        now = time()
        repeats = exchange.repeats
        if repeats is not None:
            # The same token as before on its connection: only the time can have changed it.
            identity = repeats.identity
            if identity is not None and identity.begins <= now < identity.ends:
                return identity
        value = exchange.named.get(b"authorization")
        if value is not None:
            token = bearer_token(value)
        else:
            token = exchange.upgrade.token if exchange.upgrade is not None else None
        if token is None:
            raise Unauthorized()
        identity = self._verifier.verify(token, now)
        if repeats is not None:
            repeats.identity = identity
        return identity

    def __repr__(self) -> str:
        return "<JwtAuth>"
