"""What a route does with some of its requests: fails them on purpose, splits them, mirrors them.

Built once per route; a route with none of these has no `Shaping`, and pays nothing. The pipeline
calls `Shaping.enter` before a service is asked. See ``docs/traffic-shaping.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rtgateway.core.cookies import cookie_value
from rtgateway.core.split import Split
from rtgateway.gateway.faults import FaultInjection
from rtgateway.gateway.mirror import Mirror

if TYPE_CHECKING:
    from rtgateway import config
    from rtgateway.core.deadlines import Wheel
    from rtgateway.gateway.exchange import Exchange
    from rtgateway.upstream.call import Patience
    from rtgateway.upstream.service import Service

__all__ = ["Shaping", "Splitter", "make_shaping"]


class Splitter:
    """Chooses the service of each request: by its header, by its cookie, by chance.

    The header is for one request. A choice by chance is kept in the cookie, if there is one.

    :param split: the route's own service is its default.
    :param header: name of a request field, empty for none; ``cookie`` likewise.
    """

    __slots__ = ("_cookie", "_header", "_split")

    def __init__(self, split: Split[Service], *, header: str = "", cookie: str = "") -> None:
        self._split = split
        self._header = header.lower().encode()
        self._cookie = cookie.encode()

    def choose(self, exchange: Exchange) -> Service:
        """The service for ``exchange``; a choice to be kept is added to its answer's lines."""
        split = self._split
        if self._header:
            for value in exchange.values(self._header):
                named = split.named(value)
                if named is not None:
                    return named
        if not self._cookie:
            return split.choose()
        for value in exchange.values(b"cookie"):
            kept = cookie_value(value, self._cookie)
            named = split.named(kept) if kept is not None else None
            if named is not None:
                return named
        chosen = split.choose()
        exchange.answer_lines += b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax\r\n" % (
            self._cookie,
            chosen.name.encode(),
        )
        return chosen

    def __repr__(self) -> str:
        return f"<Splitter {self._split!r}>"


class Shaping:
    """The stages of one route, those that are off being None."""

    __slots__ = ("faults", "mirror", "split")

    def __init__(
        self, split: Splitter | None, mirror: Mirror | None, faults: FaultInjection | None
    ) -> None:
        self.split = split
        self.mirror = mirror
        self.faults = faults

    async def enter(self, exchange: Exchange, service: Service) -> Service:
        """The service that ``exchange`` goes to: ``service`` unless a split says otherwise.

        :raises GatewayError: it is refused on purpose, code ``fault_injected``.
        """
        if self.faults is not None:
            await self.faults.inject(exchange)
        if self.split is not None:
            service = self.split.choose(exchange)
        if self.mirror is not None and exchange.upgrade is None:
            self.mirror.copy(exchange)
        return service

    def describe(self) -> dict[str, dict[str, object]]:
        """What it has done so far, for the admin pages; only the stages that are on."""
        said: dict[str, dict[str, object]] = {}
        mirror, faults = self.mirror, self.faults
        if mirror is not None:
            counts = ("in_flight", "sent", "failed", "dropped", "skipped")
            said["mirror"] = {name: getattr(mirror, name) for name in counts}
            said["mirror"]["service"] = mirror.service.name
        if faults is not None:
            said["faults"] = {"delayed": faults.delayed, "aborted": faults.aborted}
        return said

    def drain(self) -> None:
        """The gateway finishes what clients wait for: copies are nothing that anybody waits for."""
        if self.mirror is not None:
            self.mirror.stop()

    def stop(self) -> None:
        """Leave nothing running: the gateway has stopped."""
        if self.mirror is not None:
            self.mirror.stop()
        if self.faults is not None:
            self.faults.stop()

    def __repr__(self) -> str:
        return f"<Shaping {self.split!r} {self.mirror!r} {self.faults!r}>"


def make_shaping(
    settings: config.Route,
    services: Mapping[str, Service],
    patience: Callable[[Service], Patience],
    *,
    random: Callable[[], float],
    reactor: Any,
    wheel: Wheel,
) -> Shaping | None:
    """What ``settings`` ask for, or None.

    :param patience: the timeouts of a service.
    :param random: gives ``0 <= x < 1``.
    """
    split, mirror, faults = settings.split, settings.mirror, settings.faults
    if split is None and mirror is None and faults is None:
        return None
    splitter: Splitter | None = None
    if split is not None:
        shares = [(each.service, services[each.service], each.share) for each in split.to]
        default = (settings.service, services[settings.service])
        ways: Split[Service] = Split(default, shares, random)
        splitter = Splitter(ways, header=split.header or "", cookie=split.cookie or "")
    mirrored: Mirror | None = None
    if mirror is not None:
        target = services[mirror.service]
        mirrored = Mirror(
            target, patience(target), mirror, random=random, reactor=reactor, wheel=wheel
        )
    return Shaping(
        splitter, mirrored, FaultInjection(faults, random, reactor) if faults is not None else None
    )
