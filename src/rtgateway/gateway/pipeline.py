"""The life of a request, on one page. Start reading here.

`serve` is one coroutine per request, with early returns; ``web.channel`` starts it when a head is
in and the address has been looked up. A stage that can answer now is a plain call; `await` stands
only where the answer comes from outside. Whatever happens, the end is observed once.
See ``docs/life-of-a-request.md``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from time import monotonic
from typing import Protocol

from rtgateway.errors import ClientGone, GatewayError, Unauthorized
from rtgateway.gateway import respond
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.relay import Heartbeats, relay_stream, relay_whole
from rtgateway.gateway.route import Route
from rtgateway.net.log import Logger
from rtgateway.upstream.answer import Answer

__all__ = ["Destination", "Observer", "Page", "Pipeline"]

log = Logger()


class Observer(Protocol):
    """Told once of every exchange, when it is over."""

    def finished(self, exchange: Exchange) -> None: ...


class Page(Protocol):
    """An answer that the gateway gives itself: health, metrics, admin."""

    async def answer(self, exchange: Exchange) -> None: ...


Destination = Route | Page | GatewayError
"""Where a request goes: to a service, to a page of our own, or nowhere."""


class Pipeline:
    """What all requests share on their way."""

    __slots__ = ("_heartbeats", "_observer")

    def __init__(self, observer: Observer, heartbeats: Heartbeats | None) -> None:
        self._observer = observer
        self._heartbeats = heartbeats

    async def serve(self, exchange: Exchange, to: Destination) -> None:
        """Answer a request: by a service, by a page of our own, or with the error it is."""
        answer: Answer | None = None
        try:
            if to.__class__ is not Route:
                await _without_service(exchange, to)
                return
            route = exchange.route = to
            exchange.label = route.label
            bridge = route.websocket
            if bridge is not None and (bridge.only or b"upgrade" in exchange.named):
                bridge.admit(exchange)
            pending = _admit(exchange, route)
            if pending is not None:
                await pending
            if exchange.body is not None:
                exchange.body.bound(route.body_limit)
                exchange.body.hold(route.retry.body_limit)
            if bridge is not None and exchange.upgrade is not None:
                bridge.enter(exchange)
            exchange.service = service = route.service
            if route.shaping is not None:
                exchange.service = service = await route.shaping.enter(exchange, service)
            answer = await service.forward(exchange, route)
            exchange.answered = True
            if route.proxy_headers:
                respond.name_instance(exchange)
            if answer.complete:
                relay_whole(exchange, answer)
            elif bridge is not None and answer.head.status == 101:
                bridge.open(exchange, answer)
            else:
                await relay_stream(exchange, answer, self._heartbeats)
            if exchange.error_code:
                # The client left, and its route wanted the request to be finished all the same.
                exchange.status = ClientGone().status
        except ClientGone as gone:
            exchange.status, exchange.error_code = gone.status, gone.code
            # The way it came holds all that the request held: nobody is to wait for the collector.
            gone.__traceback__ = None
        except GatewayError as error:
            if exchange.route is not None and exchange.route.proxy_headers and answer is None:
                respond.name_instance(exchange)
            respond.with_error(exchange, error)
            error.__traceback__ = None
        except Exception:
            log.failure("A request failed for a reason that is a bug of the gateway")
            respond.with_error(exchange, GatewayError(500, "internal", "Internal error"))
        finally:
            if answer is not None and not answer.complete:
                answer.abandon()
            if exchange.body is not None:
                exchange.body.over()
            if exchange.upgrade is not None:
                _left(exchange)
            exchange.finished = monotonic()
            self._observer.finished(exchange)
            exchange.client.done(exchange)


def _admit(exchange: Exchange, route: Route) -> Awaitable[None] | None:
    """See who asks, and whether that is too much; what to await if it can't be told at once."""
    limits, auth = route.limits, route.auth
    if limits is not None and not limits.active:
        limits = None
    if limits is not None:
        limits.screen(exchange)
    if auth is not None:
        try:
            exchange.identity = auth.identify(exchange)
        except Unauthorized as error:
            # Who tries tokens is limited by address, and told so.
            return _turn_away(limits.admit(exchange) if limits is not None else None, error)
    return limits.admit(exchange) if limits is not None else None


async def _turn_away(pending: Awaitable[None] | None, error: Unauthorized) -> None:
    if pending is not None:
        await pending
    raise error


def _left(exchange: Exchange) -> None:
    route = exchange.route
    if route is not None and route.websocket is not None:
        route.websocket.left(exchange)


async def _without_service(exchange: Exchange, to: Destination) -> None:
    if isinstance(to, GatewayError):
        raise to
    if not isinstance(to, Route):
        await to.answer(exchange)
