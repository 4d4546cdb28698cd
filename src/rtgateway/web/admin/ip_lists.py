"""``/gateway/ip-lists``: networks that are let through, or not, whatever they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from typing import Any

from twisted.internet.task import deferLater
from twisted.web.server import Request

from rtgateway.core.networks import parse_network, spell
from rtgateway.observe.limit_views import ListName
from rtgateway.web.admin.audit import auditing
from rtgateway.web.admin.page import Answer, answer, body_of, refusal
from rtgateway.web.admin.parameters import Window, address, parameters, wrong
from rtgateway.web.admin.view import GatewayView
from rtgateway.web.admin.waiting import WaitingPage

__all__ = ["LISTS", "IpListsPage"]

LISTS: tuple[ListName, ...] = ("allow", "deny")

_MOST = 10_000
"""Networks of one change."""
_AT_ONCE = 1000
"""Networks that are read without letting others have their turn: a millisecond or two."""
_NAMED = 3
"""Networks of a change that are in the log by name."""


class IpListsPage(WaitingPage):
    """Both lists; below it, each of them."""

    def __init__(self, gateway: GatewayView) -> None:
        super().__init__(gateway.reactor, GET=self._both)
        self._gateway = gateway
        for which in LISTS:
            one = _OneList(gateway, which)
            page = WaitingPage(gateway.reactor, GET=one.show, POST=one.add, DELETE=one.remove)
            self.putChild(which.encode("ascii"), page)

    async def _both(self, request: Request) -> Answer:
        query = parameters(request, "ip")
        lists = self._gateway.ip_lists
        document: dict[str, Any] = {}
        for which in LISTS:
            entries = lists.entries(which)
            configured = sum(source == "config" for _, source in entries)
            document[which] = {
                "total": len(entries),
                "configured": configured,
                "runtime": len(entries) - configured,
            }
        if "ip" in query:
            ip = address(query["ip"].partition("%")[0])
            document.update(ip=ip, verdict=lists.verdict(ip) or None)
        return answer(200, document)


class _OneList:
    """Answers of the page of one list."""

    def __init__(self, gateway: GatewayView, which: ListName) -> None:
        self._gateway = gateway
        self._which: ListName = which

    async def show(self, request: Request) -> Answer:
        """``GET``: its networks, and where they are from."""
        window = Window.of(parameters(request, "limit", "after"))
        entries = self._gateway.ip_lists.entries(self._which)
        behind = [each for each in entries if each[0] > window.after]
        shown = nsmallest(window.limit, behind)
        document = {
            "total": len(entries),
            "next": shown[-1][0] if len(behind) > len(shown) else None,
            "networks": [{"network": network, "source": source} for network, source in shown],
        }
        return answer(200, document)

    async def add(self, request: Request) -> Answer:
        """``POST``: more networks."""
        networks = await self._networks(request)
        try:
            count = await auditing(
                request,
                "addition",
                self._name,
                _words(networks),
                self._added(networks),
                lambda count: f"{count} new",
            )
        except ValueError as error:
            raise refusal(409, "conflict", str(error)) from None
        return self._left("added", count)

    async def _added(self, networks: Sequence[str]) -> int:
        return await self._gateway.ip_lists.add(self._which, networks)

    async def remove(self, request: Request) -> Answer:
        """``DELETE``: without these networks."""
        networks = await self._networks(request)
        try:
            count = await auditing(
                request,
                "removal",
                self._name,
                _words(networks),
                self._removed(networks),
                lambda count: f"{count} were there",
            )
        except ValueError as error:
            raise refusal(409, "conflict", str(error)) from None
        return self._left("removed", count)

    async def _removed(self, networks: Sequence[str]) -> int:
        return await self._gateway.ip_lists.remove(self._which, networks)

    @property
    def _name(self) -> str:
        return f"networks on the {self._which} list"

    def _left(self, what: str, count: int) -> Answer:
        lists = self._gateway.ip_lists
        total = len(lists.allow if self._which == "allow" else lists.deny)
        return answer(200, {"list": self._which, what: count, "total": total})

    async def _networks(self, request: Request) -> list[str]:
        """Those of a body, each once, as networks are written.

        :raises GatewayError: 400, 415.
        """
        parameters(request)
        body = body_of(request)
        if not isinstance(body, dict) or set(body) != {"networks"}:
            raise wrong('The body has to be {"networks": [...]}')
        texts = body["networks"]
        if not isinstance(texts, list) or not 1 <= len(texts) <= _MOST:
            raise wrong(f"networks has to be a list of 1 to {_MOST} networks")
        networks: dict[str, None] = {}
        for index, text in enumerate(texts):
            if index and not index % _AT_ONCE:
                await deferLater(self._gateway.reactor, 0.0)
            networks[_network(text, index)] = None
        return list(networks)


def _network(text: Any, index: int) -> str:
    """A network in its one spelling.

    :raises GatewayError: 400.
    """
    try:
        # A number would be an address too.
        if not isinstance(text, str):
            raise ValueError("this is no text")
        return spell(parse_network(text))
    except ValueError as error:
        raise wrong(f"networks[{index}]: {error}") from None


def _words(networks: Sequence[str]) -> str:
    """For a log."""
    named = ", ".join(networks[:_NAMED])
    return named if len(networks) <= _NAMED else f"{named} and {len(networks) - _NAMED} more"
