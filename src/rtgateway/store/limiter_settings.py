"""What was changed of limiters at run time: other numbers than those configured.

`LimiterSettings` keeps it in this process, until it ends. What is kept in Redis
(`store.redis.limiter_settings`) has the same methods and asks its own copy, which is one of these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError

__all__ = ["LARGEST_SETTINGS", "MOST_SETTINGS", "LimiterSettings"]

log = Logger()

MOST_SETTINGS = 1000
"""Limiters whose numbers may be changed."""

LARGEST_SETTINGS = 16_384
"""Bytes of those of one limiter, as JSON."""

_NO_STORE = "what is kept in memory only does not persist; configure Redis as the store"


class LimiterSettings:
    """See the module. For each limiter the last word counts, whether it persists or not.

    :ivar persistent: whether anything can be kept for all gateways and longer than this process.
    """

    persistent = False

    def __init__(self) -> None:
        self._here: dict[str, dict[str, Any]] = {}
        self._shared: dict[str, dict[str, Any]] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def overrides(self) -> Mapping[str, Mapping[str, Any]]:
        """By name of a limiter, the numbers that it has instead of the configured ones."""
        return {**self._shared, **self._here}

    def persisted(self, name: str) -> bool:
        """Whether all gateways have the numbers that this one has, later ones too."""
        return name in self._shared and name not in self._here

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call it whenever `overrides` has changed."""
        self._listeners.append(callback)

    def set(self, name: str, numbers: Mapping[str, Any], persist: bool) -> Deferred[None]:
        """Let a limiter have other numbers.

        :param persist: at all gateways, and kept; else here, and until this process ends.
        :return: fails with `StoreError`: nothing has changed, or that is not known.
        :raises ValueError: at once or later: this is too much to keep.
        """
        encoded(numbers)
        if len({name, *self._here, *self._shared}) > MOST_SETTINGS:
            raise too_many()
        if persist:
            return self._keep(name, numbers)
        self._here[name] = dict(numbers)
        self._changed()
        return succeed(None)

    def clear(self, name: str) -> Deferred[bool]:
        """Back to what is configured, here, and at all gateways if it was kept for them.

        :return: fires with whether anything was changed; fails with `StoreError`.
        """
        return succeed(self._drop(name))

    def tick(self, now: float) -> None:
        """Called every 100 ms."""

    # -- for both twins -----------------------------------------------------------------------

    def _keep(self, name: str, numbers: Mapping[str, Any]) -> Deferred[None]:
        return fail(StoreError("refused", _NO_STORE))

    def _drop(self, name: str) -> bool:
        here, shared = self._here.pop(name, None), self._shared.pop(name, None)
        if here is None and shared is None:
            return False
        self._changed()
        return True

    def _changed(self) -> None:
        for listener in tuple(self._listeners):
            try:
                listener()
            except Exception:
                log.failure("The settings of limiters could not be changed")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._here)} here, {len(self._shared)} shared>"


def encoded(numbers: Mapping[str, Any]) -> bytes:
    """As they are kept.

    :raises ValueError: they are too large, or not JSON.
    """
    try:
        text = json.dumps(dict(numbers), allow_nan=False, separators=(",", ":")).encode()
    except TypeError as error:
        raise ValueError(str(error)) from None
    if len(text) > LARGEST_SETTINGS:
        raise ValueError(f"the settings of a limiter have at most {LARGEST_SETTINGS} bytes")
    return text


def too_many() -> ValueError:
    """What is wrong with so many names."""
    return ValueError(f"no more than {MOST_SETTINGS} limiters can be changed")
