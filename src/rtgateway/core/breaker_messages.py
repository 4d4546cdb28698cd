"""What gateways say about a circuit breaker that they share, and what they are told.

The meaning of it all is in `core.breaker_tally`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from rtgateway.core.breaker import State
from rtgateway.core.breaker_settings import BreakerSettings

__all__ = ["Answer", "Message", "Op", "Rules"]

Op = Literal["look", "report", "claim", "grant", "renew", "settle", "order"]


class Message(NamedTuple):
    """What a gateway says.

    - ``look``: nothing.
    - ``report``: how many calls there were since the last one (``a``), how many of them failed
      (``b``), were slow (``c``), and have failed since the last good one (``d``).
    - ``claim``: the circuit is open here, for ``a`` seconds still, ``b`` without jitter; ``word``
      is why. ``version`` and ``born`` say what is known here.
    - ``grant``: may I probe? ``grant`` names it; ``a``: an open circuit may be probed so many
      seconds after it has opened, if not sooner.
    - ``renew``: the probe with this grant goes on.
    - ``settle``: it is over; ``a``: 1 well, -1 badly, for the reason in ``word``, 0 neither.
    - ``order``: an operator wants the state in ``word``; ``a``: 1 if it only holds where nothing
      has been decided since the tally began.

    :ivar version: the decision that it is about, or that is known.
    """

    op: Op
    version: int = 0
    born: int = 0
    grant: str = ""
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    word: str = ""


class Answer(NamedTuple):
    """How things are after a message; what is announced has the same shape.

    :ivar version: grows with every change.
    :ivar born: when the tally began; another one means that an earlier one is lost.
    :ivar open_for: seconds that an open circuit rests still, else 0.
    :ivar ordered: an operator wanted it: grants of before are void.
    :ivar claimed: a claim waits to be believed.
    :ivar granted: the grant that was asked for is there.
    """

    state: State
    version: int
    born: int
    open_for: float
    reason: str
    ordered: bool = False
    claimed: bool = False
    granted: bool = False


class Rules(NamedTuple):
    """The settings of a breaker, as far as they concern a tally: what travels to the script.

    :ivar keep: seconds after which a tally that nobody asks for may be forgotten.
    """

    failure_threshold: int
    success_threshold: int
    timeout: float
    max_timeout: float
    timeout_factor: float
    jitter: float
    window_calls: int
    window_seconds: float
    minimum_calls: int
    failure_rate_threshold: float
    slow_call_rate_threshold: float
    half_open_calls: int
    keep: int

    @classmethod
    def of(cls, settings: BreakerSettings) -> Rules:
        """Those of ``settings``."""
        most = settings.minimum_calls if settings.window_seconds else settings.window_calls
        return cls(
            minimum_calls=max(min(settings.minimum_calls, most), 1),
            keep=int(600 + settings.max_timeout + 2 * settings.window_seconds),
            **{
                name: getattr(settings, name)
                for name in cls._fields
                if name not in ("minimum_calls", "keep")
            },
        )
