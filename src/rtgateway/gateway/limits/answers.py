"""What a client is told about its limits: header fields, and what a refusal says.

``X-RateLimit-*`` are about the limiter that leaves least; ``RateLimit`` and ``RateLimit-Policy``
(draft-ietf-httpapi-ratelimit-headers-10) name all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

from rtgateway.core.limits import Taken
from rtgateway.errors import GatewayError
from rtgateway.store.limits.asked import Ask

__all__ = ["DEGRADED", "banned", "denied", "quota_lines", "refusal", "unavailable"]

DEGRADED = b"\r\nX-RateLimit-Mode: degraded"
_LONGEST_WAIT = 86_400

_policies: dict[tuple[str, int, float], bytes] = {}


def quota_lines(
    asks: Sequence[Ask], taken: Sequence[Taken | None], silent: frozenset[str]
) -> bytes:
    """Header lines for the client, each with a line end *before* it; empty if there is nothing.

    :param silent: names of limiters that are not told of.
    """
    least: tuple[float, Ask, Taken] | None = None
    policies: list[bytes] = []
    items: list[bytes] = []
    for ask, each in zip(asks, taken, strict=True):
        if each is None or (silent and ask.limiter.name in silent):
            continue
        algorithm = ask.algorithm
        policy = _policy(ask.limiter.name, algorithm.limit, algorithm.window)
        reset = ceil(each.reset)
        policies.append(policy)
        items.append(b'"%b";r=%d;t=%d' % (ask.limiter.name.encode(), each.remaining, reset))
        left = -each.wait if each.wait else each.remaining / algorithm.limit
        if least is None or left < least[0]:
            least = left, ask, each
    if least is None:
        return b""
    _, ask, each = least
    return (
        b"\r\nX-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d"
        b"\r\nRateLimit-Policy: %b\r\nRateLimit: %b"
        % (
            ask.algorithm.limit,
            each.remaining,
            ceil(each.reset),
            policies[0] if len(policies) == 1 else b", ".join(policies),
            items[0] if len(items) == 1 else b", ".join(items),
        )
    )


def _policy(name: str, limit: int, window: float) -> bytes:
    key = name, limit, window
    policy = _policies.get(key)
    if policy is None:
        if len(_policies) >= 4096:  # adaptive limits have a new one for each factor
            _policies.clear()
        # The window is an integer there (3.1.3), and 0 is none.
        policy = _policies[key] = b'"%b";q=%d;w=%d' % (name.encode(), limit, max(1, round(window)))
    return policy


def refusal(wait: float, reason: str = "Rate limit exceeded") -> GatewayError:
    """429 for somebody who has to wait for ``wait`` seconds; ``inf``: it is never admitted."""
    seconds = _LONGEST_WAIT if wait == inf else max(1, ceil(wait - 1e-6))
    return _too_many("rate_limited", f"{reason}, retry in {_words(seconds)}", reason, seconds)


def banned(seconds: float) -> GatewayError:
    """429 for somebody who is banned for so many seconds."""
    left = max(1, ceil(seconds))
    reason = "Temporarily banned due to abuse"
    return _too_many("banned", f"{reason}, retry in {_words(left)}", reason, left)


def denied(status: int) -> GatewayError:
    """For an address that may not come in: 403, or 429 as the TracSeq gateway answers."""
    reason = "IP address blacklisted"
    if status == 429:
        return _too_many("ip_denied", reason, reason, _LONGEST_WAIT)
    return GatewayError(403, "ip_denied", "Your address is not allowed here", fault="client")


def unavailable() -> GatewayError:
    """503: nothing is known of the limits, and their configuration says that nobody passes then."""
    return GatewayError(
        503,
        "limits_unavailable",
        "Rate limits can't be checked at the moment",
        headers=((b"Retry-After", b"1"),),
    )


def _too_many(code: str, message: str, reason: str, seconds: int) -> GatewayError:
    return GatewayError(
        429,
        code,
        message,
        fault="client",
        headers=((b"Retry-After", b"%d" % seconds),),
        members={"reason": reason, "retry_after": seconds},
    )


def _words(seconds: int) -> str:
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}{'s' * (seconds > size)}"
    return f"{seconds} second{'s' * (seconds > 1)}"
