"""A circuit breaker: calls that are likely to fail are not begun.

One for each instance, and one for a service if configured. ``upstream`` asks `Breaker.ready`,
takes a permit for each call, and returns it when the call ends: with a verdict to `Breaker.record`,
without one (the client left) to `Breaker.release`. Every permit ends in exactly one of the two.

The states are those of M. Nygard, "Release It!" (2nd ed., chapter 5, "Circuit Breaker"), and two
that an operator forces::

    closed ── failures ──► open ── its time is over, a call comes ──► half_open
       ▲                    ▲                                         │      │
       │                    └───────────── a probe failed ────────────┘      │
       └───────────── success_threshold probes succeeded ────────────────────┘

    any state ── force_open ──► forced_open ── reset ──► closed
    any state ── disable ─────► disabled ───── reset ──► closed

Everything that changes the state is in this module. There is no clock and no timer: an open breaker
becomes half-open when the next call begins.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from rtgateway.core.breaker_settings import BreakerSettings
from rtgateway.core.breaker_states import BreakerStats, State, StateChange
from rtgateway.core.call_window import FAILED, GOOD, SLOW, CountWindow, make_window

__all__ = ["Breaker", "BreakerSettings", "BreakerStats", "State", "StateChange"]

_CHANGES_KEPT = 20
_NO_PERMIT = -1


class Breaker:
    """See the module.

    While ``state`` is "closed", ``generation`` *is* the permit: a caller may read that attribute
    and save itself the call of `acquire`. Each change of state begins a new generation, and a
    verdict on a call of an older one is not counted: it says nothing about what came after.

    :param random: 0 <= x < 1, for the jitter of the open time.
    :param on_change: told of each change of state, when it is complete; must not raise.
    :ivar generation: even, but odd while half-open, so that a permit shows whether it is a probe's.
    :ivar probes: probes in flight: also those of an earlier half-open time that have not come back.
    :ivar open_until: when an open breaker may let a probe through; ``inf`` if forced open, else 0.
    :ivar since: when the state was entered, in monotonic seconds; 0 if it is the first.
    """

    shared = False
    """Whether other gateways know its state (`core.shared_breaker`)."""

    __slots__ = (
        "_by_count",
        "_calls",
        "_count",
        "_counted",
        "_failed",
        "_minimum_calls",
        "_on_change",
        "_open_for",
        "_probes_succeeded",
        "_random",
        "_seconds",
        "_slow",
        "_slow_after",
        "_successes_after",
        "_unjittered",
        "_voided",
        "_window",
        "changes",
        "consecutive_failures",
        "generation",
        "last_failure",
        "last_success",
        "open_until",
        "probes",
        "settings",
        "since",
        "state",
    )

    def __init__(
        self,
        settings: BreakerSettings,
        random: Callable[[], float],
        on_change: Callable[[StateChange], None] | None = None,
    ) -> None:
        self.settings = settings
        self.changes: deque[StateChange] = deque(maxlen=_CHANGES_KEPT)
        self.last_failure: float | None = None
        self.last_success: float | None = None
        self.consecutive_failures = 0
        self.probes = 0
        self.since = 0.0
        self._random = random
        self._on_change = on_change
        self._window = make_window(settings.window_calls, settings.window_seconds)
        # Never more than the window can hold.
        most = settings.minimum_calls if settings.window_seconds else settings.window_calls
        self._minimum_calls = max(min(settings.minimum_calls, most), 1)
        # Bound once: these two are on the path of every call.
        self._count = self._window.add
        self._by_count = self._window if isinstance(self._window, CountWindow) else None
        self._slow_after = settings.slow_call_duration
        self._calls = self._failed = self._slow = 0
        self._seconds = 0.0
        self._successes_after = 0
        self._probes_succeeded = 0
        self._unjittered = 0.0
        self._open_for = 0.0
        self._voided = _NO_PERMIT
        self.open_until = 0.0
        self.generation = _NO_PERMIT
        self._enter("closed" if settings.enabled else "disabled")

    @property
    def mode(self) -> str:
        """``own``: nobody else has a say in its state."""
        return "own"

    # -- a call -----------------------------------------------------------------------------------

    def ready(self, now: float) -> bool:
        """Whether a call may begin."""
        state = self.state
        if state == "closed" or state == "disabled":
            return True
        if state == "forced_open" or self.probes >= self.settings.half_open_calls:
            return False
        return state == "half_open" or now >= self.open_until

    def undecided(self, now: float) -> bool:
        """Whether somebody else is being asked at this moment if a call may begin."""
        return False

    def passes(self, now: float) -> bool:
        """The same, for who only wants to know it."""
        return self.ready(now)

    def acquire(self, now: float) -> int:
        """The permit for a call, which must come back to `record` or `release`.

        :raises RuntimeError: when the breaker is not `ready`.
        """
        if not self.ready(now):
            raise RuntimeError(f"a call begins, but the breaker is not ready: {self!r}")
        if self.state == "open":
            self._probes_succeeded = 0
            self.probes += 1
            open_for = self.open_until - self.since
            self._change("half_open", now, f"open time of {open_for:.3g} s is over")
        elif self.state == "half_open":
            self.probes += 1
        return self.generation

    def record(self, permit: int, now: float, seconds: float, failed: bool) -> None:
        """The call with this permit ended, after ``seconds``."""
        if permit != self._counted:
            self._record_probe(permit, now, seconds, failed)
        elif failed or seconds > self._slow_after:
            self._record_bad(now, seconds, failed)
        else:
            # What `_tally` does, written out: this is the path of every good call.
            self._calls += 1
            self._seconds += seconds
            self.last_success = now
            self.consecutive_failures = 0
            window = self._by_count
            if window is not None:
                window.total += 1
            else:
                self._count(now, GOOD)

    def release(self, permit: int, now: float) -> None:
        """The call with this permit ended and says nothing about the instance."""
        self._give_back(permit)

    def retry_at(self, now: float) -> float:
        """When `ready` may become true, in monotonic seconds; ``inf`` if only an operator can.

        ``now`` if it is ready, and also if nothing but a probe slot is missing: that becomes free
        when a probe ends, and nobody knows when that is.
        """
        return max(now, self.open_until)

    # -- what an operator does --------------------------------------------------------------------

    def hasten(self, seconds: float) -> None:
        """An open breaker may be probed ``seconds`` after it has opened, if not sooner."""
        if self.state == "open":
            self.open_until = min(self.open_until, self.since + seconds)

    def reset(self, now: float) -> None:
        """Back to the start: closed (or disabled, if so configured), nothing held against it."""
        self._window.clear()
        self.consecutive_failures = 0
        self._force("closed" if self.settings.enabled else "disabled", now, "reset by an operator")

    def force_open(self, now: float) -> None:
        """Let no call through until it is reset or disabled."""
        self._force("forced_open", now, "forced open by an operator")

    def disable(self, now: float) -> None:
        """Let every call through, and only count, until it is reset or forced open."""
        self._force("disabled", now, "disabled by an operator")

    def _force(self, state: State, now: float, reason: str) -> None:
        # Permits that are out are void: their results change nothing, and their slots are free.
        self._voided = self.generation
        self.probes = 0
        self._unjittered = self._open_for = 0.0
        if state == self.state:
            self._enter(state)
        else:
            self._change(state, now, reason)

    # -- verdicts ---------------------------------------------------------------------------------

    def _record_bad(self, now: float, seconds: float, failed: bool) -> None:
        self._tally(now, seconds, failed)
        slow = seconds > self._slow_after
        self._count(now, (FAILED if failed else GOOD) | (SLOW if slow else GOOD))
        # Asked only here: a good call is never the one that opens.
        if self.state == "closed" and (reason := self._reason_to_open()):
            self._open(now, reason)

    def _record_probe(self, permit: int, now: float, seconds: float, failed: bool) -> None:
        if not self._give_back(permit) or permit != self.generation:
            return
        self._tally(now, seconds, failed)
        settings = self.settings
        if failed:
            self._open(now, "probe failed")
        elif seconds > self._slow_after and settings.slow_call_rate_threshold:
            self._open(now, f"probe was slow ({seconds:.3g} s)")
        else:
            self._probes_succeeded += 1
            if self._probes_succeeded >= settings.success_threshold:
                self._window.clear()
                self._change("closed", now, f"{_of(self._probes_succeeded, 'probe')} succeeded")

    def _give_back(self, permit: int) -> bool:
        """Free the slot of a probe; False if the permit has none."""
        if not permit & 1 or permit <= self._voided:
            return False
        self.probes -= 1
        return True

    def _tally(self, now: float, seconds: float, failed: bool) -> None:
        self._calls += 1
        self._seconds += seconds
        self._slow += seconds > self._slow_after
        if failed:
            self._failed += 1
            self._successes_after = self._calls
            self.consecutive_failures += 1
            self.last_failure = now
        else:
            self.consecutive_failures = 0
            self.last_success = now

    def _reason_to_open(self) -> str:
        settings = self.settings
        if 0 < settings.failure_threshold <= self.consecutive_failures:
            return f"{_of(self.consecutive_failures, 'failure')} in a row"
        window = self._window
        calls = window.calls
        if calls < self._minimum_calls:
            return ""
        # Divided, because 0.7 * 10 is more than 7.
        if 0 < settings.failure_rate_threshold <= (rate := window.failed / calls):
            return f"failure rate {rate:.2f} of {_of(calls, 'call')}"
        if 0 < settings.slow_call_rate_threshold <= (rate := window.slow / calls):
            return f"slow-call rate {rate:.2f} of {_of(calls, 'call')}"
        return ""

    # -- states -----------------------------------------------------------------------------------

    def _open(self, now: float, reason: str) -> None:
        settings = self.settings
        # To close for a moment is no recovery: the open time grows on until the breaker has stayed
        # closed for as long as it was open last.
        flapping = self.state == "half_open" or now - self.since < self._open_for
        grown = self._unjittered * settings.timeout_factor if flapping else settings.timeout
        self._unjittered = min(grown, settings.max_timeout)
        # Downwards, so that ``max_timeout`` is a bound; spread, so that the breakers of several
        # gateways don't probe a recovering instance at the same moment.
        self._open_for = self._unjittered * (1 - settings.jitter * self._random())
        self._change("open", now, reason)

    def _change(self, state: State, now: float, reason: str) -> None:
        change = StateChange(self.state, state, now, reason)
        self._enter(state)
        self.since = now
        if state == "open":
            self.open_until = now + self._open_for
        self.changes.append(change)
        if self._on_change is not None:
            self._on_change(change)

    def _enter(self, state: State) -> None:
        self.state: State = state
        self.open_until = math.inf if state == "forced_open" else 0.0
        self.generation += 1
        if self.generation & 1 != (state == "half_open"):
            self.generation += 1
        counted = state == "closed" or state == "disabled"
        self._counted = self.generation if counted else _NO_PERMIT

    # -- seen from outside ------------------------------------------------------------------------

    def stats(self) -> BreakerStats:
        """See `BreakerStats`."""
        calls = self._calls
        window = self._window
        return BreakerStats(
            total_calls=calls,
            failed_calls=self._failed,
            successful_calls=calls - self._failed,
            slow_calls=self._slow,
            failure_rate=window.failed / window.calls if window.calls else 0.0,
            consecutive_failures=self.consecutive_failures,
            consecutive_successes=calls - self._successes_after,
            last_failure=self.last_failure,
            last_success=self.last_success,
            average_duration=self._seconds / calls if calls else 0.0,
        )

    def __repr__(self) -> str:
        cap = self.settings.half_open_calls
        until = f" until {self.open_until:.3f}" if self.state == "open" else ""
        return f"<Breaker {self.state}{until} {self.probes}/{cap} probes {self._window!r}>"


def _of(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
