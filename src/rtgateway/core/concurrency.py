"""How many requests a service can take at once, learned from how long they take.

Asked by `upstream.service` before each request, told after each.
"""

from __future__ import annotations

import math

__all__ = ["GradientLimit"]

_SMOOTHING = 0.2
_MEMORY = 600
"""Windows over which the usual latency is averaged."""

_WARM = 10
"""Windows after which the average is one; until then it is that of all."""

_INSTANT = 1e-9
"""Seconds; less than this is not told apart."""

_SHORTEST, _LONGEST = 30, 1000
"""Calls in a window. Between these it has as many as there are in flight: one round trip."""

_PROBE_EVERY, _PROBE_SOON = 100, 20
_PROBE_WINDOWS = 3
_PROBE_SHARE = 0.7


class GradientLimit:
    """A concurrency limit that shrinks while latency grows.

    The algorithm is *gradient2* (Netflix concurrency-limits, Gradient2Limit; Landau, Thurston and
    Bozarth, "Performance Under Load", 2018). Once in a window of calls the limit is multiplied by
    the usual latency over the present one, from 0.5 to 1, and raised by a queue of sqrt(limit);
    a fifth of that change is made. It does not grow while less than half of it is used. Two
    things are different here:

    * A window with failures multiplies the limit by 1 - share / 2, share being that of failed
      calls, as DCTCP does (Alizadeh et al., SIGCOMM 2010): a stray failure costs next to nothing,
      when all fail it is halved. Their latencies say nothing and are left out.
    * Under lasting overload the present latency *becomes* the usual one, and the limit would grow
      for ever. So every hundred windows it is lowered to 70 % for three, and if the calls of the
      last two were faster, then theirs becomes the usual latency. Envoy's adaptive concurrency
      filter measures its ``minRTT`` in a like way.

    :param initial: where it begins, within the bounds.
    :ivar limit: most calls in flight, between ``min_limit`` and ``max_limit``.
    """

    __slots__ = (
        "_estimate",
        "_failures",
        "_max",
        "_min",
        "_peak",
        "_probed",
        "_probing",
        "_samples",
        "_size",
        "_sum",
        "_until_probe",
        "_usual",
        "_windows",
        "limit",
    )
    _samples: int
    _failures: int
    _peak: int
    _sum: float

    def __init__(self, min_limit: int, max_limit: int, initial: int) -> None:
        self._min = min_limit
        self._max = max_limit
        self._estimate = float(min(max(initial, min_limit), max_limit))
        self.limit = int(self._estimate)
        self._usual = 0.0
        self._windows = 0
        self._until_probe = _PROBE_EVERY
        self._probing = 0
        self._probed = 0.0
        self._begin()

    def sample(self, seconds: float, inflight: int, failed: bool) -> None:
        """A call is over.

        :param seconds: until the head of its answer.
        :param inflight: calls that were in flight, this one among them.
        :param failed: it brought no answer, or one that says that it was too much. Not for clients
            that left.
        """
        self._samples += 1
        if failed:
            self._failures += 1
        else:
            self._sum += seconds
        if inflight > self._peak:
            self._peak = inflight
        if self._samples >= self._size:
            self._end()

    def _begin(self) -> None:
        self._size = min(max(int(self._estimate), _SHORTEST), _LONGEST)
        self._samples = 0
        self._failures = 0
        self._peak = 0
        self._sum = 0.0

    def _end(self) -> None:
        answered = self._samples - self._failures
        used = self._peak * 2 >= self.limit
        if answered:
            latency = max(self._sum / answered, _INSTANT)
            if self._probing:
                self._probe(latency)
            else:
                self._learn(latency)
                if used:
                    self._move(latency)
        if self._failures:
            self._estimate *= 1.0 - 0.5 * self._failures / self._samples
        self._estimate = min(max(self._estimate, self._min), self._max)
        share = _PROBE_SHARE if self._probing else 1.0
        self.limit = max(int(self._estimate * share), self._min)
        self._begin()

    def _learn(self, latency: float) -> None:
        """``latency`` becomes part of the usual one."""
        self._windows = min(self._windows + 1, _MEMORY)
        weight = 1.0 / (self._windows if self._windows <= _WARM else _MEMORY)
        self._usual += (latency - self._usual) * weight
        if self._usual > 2.0 * latency:
            # An overload is over; it should not take as long to forget as it took to learn.
            self._usual *= 0.9

    def _move(self, latency: float) -> None:
        """One step of gradient2, from the estimate towards what ``latency`` suggests."""
        gradient = min(max(self._usual / latency, 0.5), 1.0)
        target = self._estimate * gradient + math.sqrt(self._estimate)
        self._estimate += (target - self._estimate) * _SMOOTHING
        self._until_probe -= 1
        if self._until_probe <= 0:
            self._until_probe = _PROBE_EVERY
            self._probing = _PROBE_WINDOWS
            self._probed = 0.0

    def _probe(self, latency: float) -> None:
        """A window with the lowered limit; the calls of the first began before it was."""
        self._probing -= 1
        if self._probing == _PROBE_WINDOWS - 1:
            return
        self._probed += latency / (_PROBE_WINDOWS - 1)
        if not self._probing:
            if self._probed < 0.9 * self._usual:
                self._until_probe = _PROBE_SOON
            self._usual = min(self._usual, self._probed)

    def __repr__(self) -> str:
        usual = f"usually {self._usual * 1000:.1f} ms" if self._windows else "nothing known"
        return f"<GradientLimit {self.limit} of {self._min}..{self._max} {usual}>"
