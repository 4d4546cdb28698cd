"""A limiter on one route: what it is asked for a request, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rtgateway.gateway.limits.keys import Key, make_key
from rtgateway.gateway.limits.limiter import Limiter
from rtgateway.store.limits.asked import Ask

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = ["Level"]

_ask = tuple.__new__
"""Makes an `Ask` at half the price: there is one for each limiter of each request."""


class _Cost(NamedTuple):
    """What requests cost: by method, and more if a header says so."""

    default: int
    methods: dict[bytes, int]
    header: bytes
    most: int

    def of(self, exchange: Exchange) -> int:
        """Units of one request. A header is the client's word: it can only make it dearer."""
        cost = self.methods.get(exchange.method, self.default)
        if self.header:
            for value in exchange.values(self.header):
                if value.isdigit():
                    # Nine digits are more than `most`; longer ones may be too long for `int`.
                    units = int(value.lstrip(b"0")[:9] or b"0")
                    cost = max(cost, min(units, self.most))
        return cost


class Level:
    """A limiter on one route.

    :ivar key: whom it counts there.
    """

    __slots__ = ("_cost", "_methods", "_units", "key", "limiter")

    def __init__(self, limiter: Limiter, route: str, service: str) -> None:
        settings = limiter.settings
        limiter.places.add((route, service))
        self.limiter = limiter
        self.key: Key = make_key(settings.per, route, service)
        self._methods = frozenset(method.encode() for method in settings.methods)
        cost = settings.cost
        methods = {method.encode(): units for method, units in cost.methods.items()}
        header = cost.header.lower().encode() if cost.header else b""
        self._cost = _Cost(cost.default, methods, header, cost.most)
        # The same for every request, or 0.
        self._units = 0 if methods or header else cost.default

    def ask(self, exchange: Exchange) -> Ask | None:
        """What to ask for this request; None if the limiter is not for it."""
        limiter = self.limiter
        if self._methods and exchange.method not in self._methods:
            return None
        if limiter.sparing and limiter.spares(exchange):
            limiter.count("exempt")
            return None
        key, algorithm = self.key(exchange), limiter.algorithm
        if limiter.special:
            key, algorithm = limiter.own(exchange, key)
        return _ask(Ask, (limiter, algorithm, key, self._units or self._cost.of(exchange)))

    def __repr__(self) -> str:
        return f"<Level {self.limiter!r}>"
