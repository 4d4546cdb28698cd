"""The stage of one route: which limiters hold there, asked all at once for each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from rtgateway.errors import ClientGone, Unauthorized
from rtgateway.gateway.delays import Delays
from rtgateway.gateway.limits import answers
from rtgateway.gateway.limits.access import Access
from rtgateway.gateway.limits.level import Level
from rtgateway.gateway.limits.limiter import Limiter
from rtgateway.net.tasks import Task, Waiter
from rtgateway.store.limits.asked import Ask, LimitStore, Outcome

if TYPE_CHECKING:
    from rtgateway.gateway.auth import JwtAuth
    from rtgateway.gateway.exchange import Exchange

__all__ = ["Limits"]

Exceeded = Callable[[bool], None]

_LONG = 60.0
"""Seconds after which to ask again what is refused for as long as something else lasts."""

_SAMPLED = 8
"""One decision of so many is looked at for which keys are asked for most."""


class Limits:
    """See the module.

    :param levels: those that refuse, and those that only report what they would have refused.
    :param exceeded: told of each refusal whether it is known who asked.
    :param reactor: for the timers of requests that have to wait for their turn.
    :param auth: reads tokens where the route itself does not look at them.
    """

    __slots__ = (
        "_access",
        "_auth",
        "_decide",
        "_delays",
        "_exceeded",
        "_levels",
        "_limiters",
        "_reporting",
        "_sample",
        "_stopped",
    )

    def __init__(
        self,
        levels: Sequence[Level],
        store: LimitStore,
        access: Access,
        exceeded: Exceeded,
        reactor: Any,
        auth: JwtAuth | None = None,
    ) -> None:
        self._levels = tuple(each for each in levels if not each.limiter.report_only)
        self._reporting = tuple(each for each in levels if each.limiter.report_only)
        self._limiters = {each.limiter.name: each.limiter for each in levels}
        self._decide: Callable[[Sequence[Ask]], Outcome | Waiter[Outcome]] = store.decide
        self._access = access
        self._exceeded = exceeded
        self._auth = auth if any(each.limiter.by_token for each in levels) else None
        self._delays = Delays(reactor)
        self._sample = 1
        self._stopped = False

    # -- what the pipeline calls --------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether there is anything to ask for a request: limiters, lists, bans."""
        return bool(self._limiters) or self._access.active

    def screen(self, exchange: Exchange) -> None:
        """Refuse ``exchange`` for where it comes from.

        :raises GatewayError: 403 or 429.
        """
        self._access.screen(exchange)

    def admit(self, exchange: Exchange) -> Awaitable[None] | None:
        """Count ``exchange``; what has to be awaited, if it can't be decided or passed on yet.

        :raises GatewayError: it is too much (429), or nobody knows and nobody is to pass (503).
            So does what is awaited.
        """
        if exchange.unlimited:
            return None
        if self._auth is not None:
            # Here a token is nobody's duty, and a bad one as good as none.
            with suppress(Unauthorized):
                exchange.identity = self._auth.identify(exchange)
        if exchange.identity is not None:
            self._access.know(exchange)
        if not self._limiters:
            return None
        asks = [ask for level in self._levels if (ask := level.ask(exchange)) is not None]
        if self._reporting:
            self._report(exchange)
        if not asks:
            return None
        self._sample -= 1
        if not self._sample:
            self._sample = _SAMPLED
            for ask in asks:
                self._limiters[ask.limiter.name].popular.add(ask.key, _SAMPLED)
        outcome = self._decide(asks)
        if isinstance(outcome, Waiter):
            return self._later(exchange, asks, outcome)
        delay = self._apply(exchange, asks, outcome)
        return self._delays.wait(delay) if delay else None

    def stop(self) -> None:
        """Let nobody wait any longer: the gateway has stopped."""
        self._stopped = True
        self._delays.stop()

    # -- a decision ---------------------------------------------------------------------------

    async def _later(self, exchange: Exchange, asks: list[Ask], asked: Waiter[Outcome]) -> None:
        outcome = await asked
        if self._stopped:
            # The store was let go of, and so were the services.
            raise ClientGone()
        delay = self._apply(exchange, asks, outcome)
        if delay:
            await self._delays.wait(delay)

    def _apply(self, exchange: Exchange, asks: list[Ask], outcome: Outcome) -> float:
        """Do what was decided; seconds that the request has to wait for its turn."""
        said = []
        wait, refused, refused_key = 0.0, None, ""
        for (asked, algorithm, key, _), taken in zip(asks, outcome.taken, strict=True):
            limiter = self._limiters[asked.name]
            if taken is None:
                closed = limiter.on_failure == "deny"
                limiter.count("failed_closed" if closed else "failed_open")
                continue
            if limiter.words is not None:
                said.append((limiter.words, algorithm, taken))
            if not taken.wait:
                limiter.admitted += 1
            else:
                limiter.count("refused")
                if taken.wait > wait:
                    wait, refused, refused_key = taken.wait, limiter, key
                    if wait == inf:
                        # The configuration admits every cost: it is load, or this gateway's part.
                        wait = min(max(taken.reset, 1.0), _LONG)
        exchange.quota = answers.quota_lines(said)
        if outcome.degraded:
            exchange.quota += answers.DEGRADED
        if outcome.admitted:
            return outcome.delay
        if refused is None:
            raise answers.unavailable()
        self._exceeded(exchange.identity is not None)
        if refused.about_clients and not outcome.degraded:
            self._access.blame(exchange)
        raise answers.refusal(wait, _reason(refused), f"{refused.name} {refused_key}")

    def _report(self, exchange: Exchange) -> None:
        """Ask those that only report; each by itself, because none may hold up another."""
        for level in self._reporting:
            ask = level.ask(exchange)
            if ask is not None:
                level.limiter.popular.add(ask.key)
                Task(self._reported(level.limiter, self._decide([ask]))).step()

    async def _reported(self, limiter: Limiter, outcome: Outcome | Waiter[Outcome]) -> None:
        if isinstance(outcome, Waiter):
            outcome = await outcome
        if outcome.admitted:
            limiter.admitted += 1
        else:
            limiter.count("reported")

    def __repr__(self) -> str:
        return f"<Limits {self._levels!r}>"


def _reason(limiter: Limiter) -> str:
    if limiter.factor == 1.0:
        return "Rate limit exceeded"
    return f"Rate limit exceeded (adjusted due to high load: {limiter.factor:.2f}x)"
