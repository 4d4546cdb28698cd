"""What the results of active checks mean: up or down, and whether an answer is the expected one.

``upstream.health`` performs the checks and tells `Health` how each went; ``upstream.probe`` asks
`Expectation` about answers. Nothing here knows a clock or a socket.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Expectation", "Health"]

_SHOWN = 40
"""Characters of an expected text that are repeated in a reason."""


class Health:
    """Whether something is up, by the results of its checks in order.

    It is up until ``fall`` checks in a row have failed, and down until ``rise`` in a row have
    passed. So it begins as up: a gateway that has just started must not refuse what may well work.

    :param rise: passed checks in a row that bring it up; at least 1.
    :param fall: failed checks in a row that take it down; at least 1.
    :ivar up: the verdict.
    :ivar reason: why the latest failed check failed; empty again once a check passes while up,
        or brings it up.
    :ivar checked_at: when the latest check was over (monotonic seconds), None before the first.
    :ivar consecutive: how many of the latest checks went the way the latest did.
    """

    __slots__ = ("_fall", "_passing", "_rise", "checked_at", "consecutive", "reason", "up")

    def __init__(self, rise: int, fall: int) -> None:
        if rise < 1 or fall < 1:
            raise ValueError(f"rise and fall count checks, and are at least 1: {rise}, {fall}")
        self._rise = rise
        self._fall = fall
        self._passing = True
        self.up = True
        self.reason = ""
        self.checked_at: float | None = None
        self.consecutive = 0

    def passed(self, now: float) -> bool:
        """Count a check that passed. True if that has brought it up."""
        self._count(True, now)
        if not self.up and self.consecutive < self._rise:
            return False
        changed = not self.up
        self.up = True
        self.reason = ""
        return changed

    def failed(self, now: float, reason: str) -> bool:
        """Count a check that failed, and why. True if that has taken it down."""
        self._count(False, now)
        self.reason = reason
        if not self.up or self.consecutive < self._fall:
            return False
        self.up = False
        return True

    def _count(self, passing: bool, now: float) -> None:
        self.checked_at = now
        self.consecutive = self.consecutive + 1 if passing is self._passing else 1
        self._passing = passing

    def __repr__(self) -> str:
        state = "up" if self.up else f"down: {self.reason}"
        return f"<Health {state}, {self.consecutive} {'passed' if self._passing else 'failed'}>"


class Expectation:
    """What the answer to a check has to be.

    :param statuses: accepted ones: a status such as 204, or a class of them such as ``"2xx"``.
    :param body: text that the body contains, compared as UTF-8; None for any body.
    """

    __slots__ = ("_body", "_shown", "_statuses")

    def __init__(self, statuses: Iterable[int | str], body: str | None = None) -> None:
        self._statuses = frozenset(status for word in statuses for status in _statuses(word))
        self._body = body.encode() if body else b""
        self._shown = body if body is None or len(body) <= _SHOWN else body[:_SHOWN] + "..."

    def verdict(self, status: int, body: bytes) -> str:
        """Why this answer is not the expected one; empty if it is."""
        if status not in self._statuses:
            return f"status {status}"
        if self._body not in body:
            return f'status {status}, but its body has no "{self._shown}"'
        return ""

    def __repr__(self) -> str:
        return f"<Expectation {len(self._statuses)} statuses, body {self._shown!r}>"


def _statuses(word: int | str) -> range:
    """The statuses that ``word`` stands for.

    :raises ValueError: it is neither a status nor a class.
    """
    text = str(word).lower()
    if len(text) == 3 and text.endswith("xx"):
        first = int(text[0]) * 100
        return range(first, first + 100)
    return range(int(text), int(text) + 1)
