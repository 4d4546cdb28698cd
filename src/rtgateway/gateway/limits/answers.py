"""What a client is told about its limits: header fields, and what a refusal says.

``X-RateLimit-*`` are about the limiter that leaves least; ``RateLimit`` and ``RateLimit-Policy``
(draft-ietf-httpapi-ratelimit-headers-10) name all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from rtgateway.core.limits import Algorithm, Taken
from rtgateway.errors import GatewayError

__all__ = [
    "DEGRADED",
    "QUOTA_LINES",
    "Words",
    "banned",
    "denied",
    "quota_lines",
    "refusal",
    "unavailable",
]

QUOTA_LINES = b"\r\nX-RateLimit-Limit: "
"""How `quota_lines` begin."""

DEGRADED = b"\r\nX-RateLimit-Mode: degraded"
_LONGEST_WAIT = 86_400


class Words:
    """What is said of one limiter: all of it but two numbers is the same for most requests.

    :param name: of the limiter; it is a word of the configuration, and needs no escapes.
    """

    __slots__ = ("_item", "_kept", "_name")

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._item = b'"%b";r=%%d;t=%%d' % self._name
        # Adaptive limits have a new algorithm for each factor, and plans have their own.
        self._kept: dict[tuple[int, float], tuple[bytes, bytes]] = {}

    def alone(self, algorithm: Algorithm, taken: Taken) -> bytes:
        """All lines, where this limiter is the only one."""
        left, reset = taken.remaining, ceil(taken.reset)
        return self._of(algorithm)[1] % (left, reset, left, reset)

    def policy(self, algorithm: Algorithm) -> bytes:
        """Its item of RateLimit-Policy."""
        return self._of(algorithm)[0]

    def item(self, taken: Taken) -> bytes:
        """Its item of RateLimit."""
        return self._item % (taken.remaining, ceil(taken.reset))

    def _of(self, algorithm: Algorithm) -> tuple[bytes, bytes]:
        key = algorithm.limit, algorithm.window
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            # A window is a whole number there, and 0 would be none.
            window = max(1, round(algorithm.window))
            policy = b'"%b";q=%d;w=%d' % (self._name, algorithm.limit, window)
            lines = _LINES % (algorithm.limit, policy, self._item)
            kept = self._kept[key] = policy, lines
        return kept

    def __repr__(self) -> str:
        return f"<Words about {self._name.decode()}>"


_MOST_KEPT = 1024
_LINES = (
    QUOTA_LINES + b"%d\r\nX-RateLimit-Remaining: %%d\r\nX-RateLimit-Reset: %%d"
    b"\r\nRateLimit-Policy: %b\r\nRateLimit: %b"
)


def quota_lines(said: Sequence[tuple[Words, Algorithm, Taken]]) -> bytes:
    """Header lines for the client, each with a line end *before* it; empty if there is nothing."""
    if not said:
        return b""
    if len(said) == 1:
        words, algorithm, taken = said[0]
        return words.alone(algorithm, taken)
    _, algorithm, least = min(said, key=_left)
    left, reset = least.remaining, ceil(least.reset)
    return b"\r\nX-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d" % (
        algorithm.limit,
        left,
        reset,
    ) + b"\r\nRateLimit-Policy: %b\r\nRateLimit: %b" % (
        b", ".join([words.policy(algorithm) for words, algorithm, _ in said]),
        b", ".join([words.item(taken) for words, _, taken in said]),
    )


def _left(said: tuple[Words, Algorithm, Taken]) -> float:
    """How much of its limit is left; less than nothing for those that refuse."""
    _, algorithm, taken = said
    return -taken.wait if taken.wait else taken.remaining / algorithm.limit


def refusal(wait: float, reason: str, detail: str) -> GatewayError:
    """429 for somebody who has to wait for ``wait`` seconds.

    :param detail: which limiter and key, for the log.
    """
    seconds = max(1, ceil(wait - 1e-6))
    message = f"{reason}, retry in {_words(seconds)}"
    return _too_many("rate_limited", message, reason, seconds, detail)


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


def _too_many(code: str, message: str, reason: str, seconds: int, detail: str = "") -> GatewayError:
    return GatewayError(
        429,
        code,
        message,
        fault="client",
        headers=((b"Retry-After", b"%d" % seconds),),
        members={"reason": reason, "retry_after": seconds},
        detail=detail,
    )


def _words(seconds: int) -> str:
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}{'s' * (seconds > size)}"
    return f"{seconds} second{'s' * (seconds > 1)}"
