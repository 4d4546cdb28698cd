"""``/gateway/rate-limits``: what limiters say and who is close to their limits; other numbers.

The schema is that of the TracSeq gateway, with more keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from twisted.web.resource import Resource
from twisted.web.server import Request

from rtgateway.config import ConfigError, Quota
from rtgateway.observe.limit_views import LimitersView, LimiterView, UsageView
from rtgateway.store.errors import StoreError
from rtgateway.web.admin.audit import auditing
from rtgateway.web.admin.page import Answer, Unknown, answer, asked_by, body_of, refusal
from rtgateway.web.admin.parameters import Window, complaints, listed, parameters, true, wrong
from rtgateway.web.admin.subjects import key_of
from rtgateway.web.admin.times import Moment
from rtgateway.web.admin.view import GatewayView
from rtgateway.web.admin.waiting import AnsweringLater, WaitingPage, unavailable

__all__ = ["NUMBERS", "RateLimitsPage"]

NUMBERS = tuple(Quota.model_fields)
"""What can be changed at run time; not what a limiter is about, nor whom it spares."""

_ONE = "/gateway/rate-limits/:limiter"
"""What the page of any single one is called in metrics."""
_RESET = b"reset"
_TOP = 10
_MOST = 100
"""Keys whose use is told, by limiter: each of them is asked of the store."""
_LONGEST = 64


class RateLimitsPage(WaitingPage):
    """All limiters; below it, each by its name, and what forgets what a subject has taken."""

    def __init__(self, gateway: GatewayView) -> None:
        super().__init__(gateway.reactor, GET=self._all)
        self._gateway = gateway

    def getChild(self, path: bytes, request: object) -> Resource:
        """A limiter; one may be called ``reset``."""
        if not path:
            return super().getChild(path, request)
        gateway = self._gateway
        pages: dict[str, AnsweringLater] = {}
        name = path.decode("latin-1")
        if name in gateway.limits.limiters:
            one = _OneLimiter(gateway.limits, name)
            pages.update(GET=one.show, PUT=one.change, DELETE=one.restore)
        if path == _RESET:
            pages.update(POST=self._reset)
        else:
            asking = asked_by(cast("Request", request))
            if asking is not None:
                asking.label = _ONE
        return WaitingPage(gateway.reactor, **pages) if pages else Unknown("limiter")

    async def _all(self, request: Request) -> Answer:
        parameters(request)
        gateway, moment = self._gateway, Moment.current()
        limits = gateway.limits
        since = limits.degraded_since
        document = {
            "configured_limiters": list(limits.limiters),
            "blacklisted_ips": len(gateway.ip_lists.deny),
            "whitelisted_ips": len(gateway.ip_lists.allow),
            "active_penalties": len(gateway.bans),
            "configs": {name: _settings(each) for name, each in limits.limiters.items()},
            "mode": limits.mode,
            "degraded": limits.degraded,
            "degraded_since": moment.iso(since) if since else None,
            "gateways": limits.gateways,
            "top": await _top(limits),
        }
        return answer(200, document)

    async def _reset(self, request: Request) -> Answer:
        parameters(request)
        body = body_of(request)
        if not isinstance(body, dict) or set(body) != {"subject"}:
            raise wrong('The body has to be {"subject": "ip:<address>"}, or another subject')
        subject = key_of(body["subject"])
        count = await auditing(
            request,
            "reset",
            f"limits of {subject!a}",
            "all limiters",
            self._forget(subject),
            lambda count: f"{count} knew it",
        )
        return answer(200, {"subject": subject, "reset": count})

    async def _forget(self, subject: str) -> int:
        count = await self._gateway.limits.reset(subject)
        if count < 0:
            raise unavailable("some limiters may still remember")
        return count


class _OneLimiter:
    """Answers of the page of one limiter."""

    def __init__(self, limits: LimitersView, name: str) -> None:
        self._limits = limits
        self._name = name
        self._limiter = limits.limiters[name]

    async def show(self, request: Request) -> Answer:
        """``GET``: everything about it, and those who ask for most."""
        query = parameters(request, "limit")
        count = Window.of(query, usual=_TOP, most=_MOST).limit
        limits, name = self._limits, self._name
        leases = limits.leases.get(name)
        document = {
            "name": name,
            **_settings(self._limiter),
            "decisions": {
                outcome: number
                for (limiter, _, outcome), number in limits.decisions.items()
                if limiter == name
            },
            "keys": limits.keys.get(name),
            "leased": None
            if leases is None
            else {
                "live": leases.live,
                "leased_units": leases.leased,
                "returned_units": leases.returned,
                "local_decisions": leases.local,
            },
            "top": _usage(await limits.usage(name, count)),
        }
        return answer(200, document)

    async def change(self, request: Request) -> Answer:
        """``PUT``: other numbers; those that are left out are as configured."""
        persist = true(parameters(request, "persist"), "persist")
        numbers = _numbers(body_of(request))
        if persist and self._limits.mode == "memory":
            raise refusal(409, "conflict", "Without Redis there is nowhere to keep a change")
        before = self._limiter.current
        words = [f"{key} from {before.get(key)!a} to {numbers[key]!a}" for key in sorted(numbers)]
        try:
            await auditing(
                request,
                "limit",
                self._name,
                ", ".join(words) + (" in all gateways" if persist else ""),
                self._changed(numbers, persist),
            )
        except ConfigError as error:
            raise wrong(complaints(error)) from None
        except ValueError as error:
            raise refusal(409, "conflict", str(error)) from None
        return answer(200, {"name": self._name, **_settings(self._limiter)})

    async def _changed(self, numbers: dict[str, Any], persist: bool) -> None:
        await self._limits.change(self._name, numbers, persist)

    async def restore(self, request: Request) -> Answer:
        """``DELETE``: as configured again."""
        parameters(request)
        await auditing(
            request, "limit", self._name, "as configured", self._limits.restore(self._name)
        )
        return answer(200, {"name": self._name, **_settings(self._limiter)})


def _settings(limiter: LimiterView) -> dict[str, Any]:
    """What holds; of what was changed, also what is configured."""
    configured, current = limiter.configured, limiter.current
    per = list(limiter.per)
    return {
        **current,
        "requests_per_minute": round(limiter.rate * 60, 3),
        "algorithm": limiter.algorithm,
        "per": per,
        "per_user": "identity" in per,
        "per_endpoint": "route" in per,
        "factor": limiter.factor,
        "changed": limiter.changed,
        "persisted": limiter.persisted,
        "configured": {
            key: configured.get(key)
            for key in current
            if limiter.changed and current[key] != configured.get(key)
        },
    }


async def _top(limits: LimitersView) -> dict[str, Any]:
    """What the keys of each limiter have left; None where the store does not tell.

    The page is for those who want to know what is wrong: it is there while the store is not.
    """
    top: dict[str, Any] = dict.fromkeys(limits.limiters)
    try:
        for name in top:
            top[name] = _usage(await limits.usage(name, _TOP))
    except StoreError:
        pass
    return top


def _usage(used: Sequence[UsageView]) -> list[dict[str, Any]]:
    return [
        {
            "key": each.key,
            "limit": each.limit,
            "remaining": each.remaining,
            "reset": round(each.reset, 3),
        }
        for each in used
    ]


def _numbers(body: Any) -> dict[str, Any]:
    """Those of a body, of the right type; whether they fit is said by who takes them.

    :raises GatewayError: 400.
    """
    if not isinstance(body, dict) or not body:
        raise wrong('The body has to be an object such as {"capacity": 100}')
    numbers: Mapping[str, Any] = body
    for key, value in numbers.items():
        if key not in NUMBERS:
            raise wrong(f"What can be changed is {listed(NUMBERS)}")
        if isinstance(value, str):
            fits = 0 < len(value) <= _LONGEST
        else:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits:
            raise wrong(f"{key} has to be a number, or a duration such as 1m")
    return dict(numbers)
