"""Who may come in at all: lists of addresses, and bans. Asked of every request, without a wait."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from rtgateway.gateway.limits import answers
from rtgateway.gateway.limits.keys import ip_key, of_client

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = ["Access", "Bans", "IpLists"]


class Bans(Protocol):
    """Who is banned (``store.bans``)."""

    @property
    def active(self) -> bool: ...
    def banned(self, subject: str, now: float) -> float: ...
    def refused(self, subject: str) -> None: ...


class IpLists(Protocol):
    """Which addresses are listed (``store.ip_lists``)."""

    @property
    def active(self) -> bool: ...
    def verdict(self, ip: str) -> str: ...


class Access:
    """See the module. One for all routes.

    :param only_allowed: nobody but who is on the allow list comes in.
    :param deny_status: what the others are told, 403 or 429.
    :param blame: whom a refusal is counted against; None: nobody is ever banned for refusals.
    :ivar denied: requests of addresses that may not come in, ``banned``: of those who are banned.
    """

    __slots__ = (
        "_bans",
        "_blame",
        "_deny_status",
        "_lists",
        "_only_allowed",
        "banned",
        "denied",
    )

    def __init__(
        self,
        lists: IpLists,
        bans: Bans,
        *,
        only_allowed: bool,
        deny_status: int,
        blame: Callable[[Exchange], str] | None,
    ) -> None:
        self._lists = lists
        self._bans = bans
        self._only_allowed = only_allowed
        self._deny_status = deny_status
        self._blame = blame
        self.denied = 0
        self.banned = 0

    @property
    def active(self) -> bool:
        """Whether anybody may be refused: without lists and bans nobody is."""
        return self._bans.active or self._lists.active or self._only_allowed

    def screen(self, exchange: Exchange) -> None:
        """Before anything else is known of a request than where it comes from.

        :raises GatewayError: it may not come in.
        """
        if self._lists.active or self._only_allowed:
            verdict = self._lists.verdict(exchange.client_ip)
            if verdict == "allow":
                exchange.unlimited = True
                return
            if verdict or self._only_allowed:
                self.denied += 1
                raise answers.denied(self._deny_status)
        if self._bans.active:
            self._ban(ip_key(exchange.client_ip))

    def know(self, exchange: Exchange) -> None:
        """The same, now that it is known who asks.

        :raises GatewayError: who asks is banned.
        """
        if exchange.identity is not None and self._bans.active:
            self._ban(of_client(exchange))

    def _ban(self, subject: str) -> None:
        left = self._bans.banned(subject, monotonic())
        if left > 0:
            self.banned += 1
            raise answers.banned(left)

    def blame(self, exchange: Exchange) -> None:
        """A limiter refused ``exchange``, which may get its sender banned."""
        if self._blame is not None:
            self._bans.refused(self._blame(exchange))

    def __repr__(self) -> str:
        return f"<Access {self.denied} denied {self.banned} banned>"
