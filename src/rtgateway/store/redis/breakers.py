"""The tallies of shared circuit breakers in Redis: see `store.breakers` and ``breaker.lua``.

Each breaker has a hash ``breaker:<name>``, and while it is probed a sorted set of grants beside it.
Both expire when nobody asks for them. Changes are announced on the channel ``breakers``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast, get_args

from rtgateway.core.breaker import State
from rtgateway.core.breaker_messages import Answer, Rules
from rtgateway.net.log import Logger
from rtgateway.store.breakers import Answers, Heard, Said
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.link import Link
from rtgateway.store.redis.script import load

__all__ = ["RedisKeeper"]

log = Logger()

_STATES = frozenset(get_args(State))
_LONGEST = 4096
"""Bytes of an announcement; more is none of ours."""


class RedisKeeper:
    """See the module.

    :param now: the time in place of the server's, for tests.
    """

    def __init__(self, link: Link, now: Callable[[], float] | None = None) -> None:
        self._link = link
        self._now = now
        self._script = load("breaker")
        self._channel = link.key("breakers")

    @property
    def up(self) -> bool:
        """Whether Redis is asked at all at present."""
        return self._link.up

    def ask(self, by: str, said: Sequence[Said], done: Callable[[Answers], None]) -> None:
        """See `store.breakers.Keeper`: one script, one round trip."""
        keys: list[bytes] = []
        args: list[Any] = [self._channel, _number(self._now()) if self._now is not None else b""]
        for name, rules, random, message in said:
            key = self._link.key("breaker", name)
            keys += (key, key + b":grants")
            op, version, born, grant, a, b, c, d, word = message
            args += (name, by, _number(random), _packed(rules), op, version, born, grant)
            args += (_number(a), _number(b), _number(c), _number(d), word)

        def replied(reply: Any, error: StoreError | None) -> None:
            answers: Answers = None
            if error is None:
                try:
                    answers = [_answer(each) for each in reply]
                except (TypeError, ValueError) as wrong:
                    log.warn("The store's word on circuit breakers makes no sense: {e}", e=wrong)
            done(answers if answers is not None and len(answers) == len(said) else None)

        self._link.script(self._script, keys, args, replied)

    def listen(self, heard: Heard, connected: Callable[[], None]) -> None:
        """See `store.breakers.Keeper`."""

        def announced(payload: bytes) -> None:
            try:
                name, news = _announcement(payload)
            except (TypeError, ValueError) as wrong:
                log.warn("An announcement of a circuit breaker makes no sense: {e}", e=wrong)
            else:
                heard(name, news)

        self._link.subscribe(self._channel, announced)
        self._link.on_connected(connected)

    def __repr__(self) -> str:
        return f"<RedisKeeper {self._link!r}>"


@lru_cache(maxsize=256)
def _packed(rules: Rules) -> bytes:
    return b" ".join(map(_number, rules))


def _number(number: float) -> bytes:
    """In the spelling that both sides read as the same double."""
    return b"%.17g" % number


def _state(word: bytes | str) -> State:
    text = word.decode() if isinstance(word, bytes) else word
    if text not in _STATES:
        raise ValueError(f"no state: {text!r:.40}")
    return cast("State", text)


def _answer(reply: Sequence[Any]) -> Answer:
    state, version, born, open_for, reason, ordered, claimed, granted = reply
    return Answer(
        _state(state),
        int(version),
        int(born),
        float(open_for),
        reason.decode("utf-8", "replace"),
        bool(ordered),
        bool(claimed),
        bool(granted),
    )


def _announcement(payload: bytes) -> tuple[str, Answer]:
    if len(payload) > _LONGEST:
        raise ValueError(f"{len(payload)} bytes")
    name, state, version, born, open_for, reason, ordered = json.loads(payload)
    news = Answer(
        _state(state), int(version), int(born), float(open_for), str(reason), bool(ordered)
    )
    return str(name), news
