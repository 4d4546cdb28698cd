"""What all gateways together know of one circuit breaker, and every rule by which it changes.

Gateways send a `Message` each, and get an `Answer`. ``store/scripts/breaker.lua`` is the twin of
this module for Redis: the same rules, in the same order, on the same numbers. There is no clock:
``now`` are the seconds of whatever keeps the tally, which need not be those of a gateway.

The states are those of `core.breaker`. What differs is where the counts come from:

- **Failures in a row** are in the order in which reports come. A report that has a good call ends
  the row; what failed after that call begins a new one.
- **The window** is two buckets: the one being filled, and the last one that was full, which counts
  for the part of it that the window still covers. It needs no more room for ten thousand calls.
- **One gateway alone convicts nobody.** What speaks against the instance comes from one gateway
  only, and another one has had good calls of it within `HOLD` seconds: then the network of the one
  may be broken, and the circuit stays closed.
- **A probe needs a grant.** There are at most ``half_open_calls`` of them over all gateways, also
  counting those of an earlier half-open time. A grant that is neither renewed nor given back ends
  after `GRANT` seconds: its gateway is dead.
- **A claim** is what a gateway says that comes back with a circuit that it opened by itself, or
  finds that the store has lost what it knew. It is believed after `HOLD` seconds, at once if a
  second gateway says the same, and never if another one has good calls meanwhile. Who has missed a
  decision of the others has nothing to claim.
"""

from __future__ import annotations

from math import floor

from rtgateway.core.breaker import State
from rtgateway.core.breaker_messages import Answer, Message, Rules

__all__ = ["GRANT", "HOLD", "SEVERAL", "Tally"]

HOLD = 0.25
"""Seconds for which the good calls of one gateway stand against the failures of another."""

GRANT = 30.0
"""Seconds after which a grant that nobody renews ends."""

SEVERAL = "*"
"""More gateways than one; the empty word is none."""

_LONG_AGO = -1e9


class Tally:
    """See the module. Begins closed.

    The attributes are the fields of the record in Redis; ``grants`` is a sorted set there.

    :ivar changed: the last message has changed the state: that has to be announced.
    :ivar run: failures in a row, all by ``run_by``, if that is no `SEVERAL`.
    :ivar bad_by: by whom the bad calls of the bucket being filled are; ``old_...``: the full one.
    :ivar good_by: who had good calls last, at ``good_at``; any other one, last at ``other_at``.
    :ivar grants: until when each holds.
    """

    __slots__ = (
        "bad_by",
        "born",
        "calls",
        "changed",
        "claim_at",
        "claim_by",
        "claim_for",
        "claim_grown",
        "claim_reason",
        "failed",
        "good_at",
        "good_by",
        "good_probes",
        "grants",
        "grown",
        "old_bad_by",
        "old_calls",
        "old_failed",
        "old_slow",
        "open_for",
        "open_until",
        "ordered",
        "other_at",
        "reason",
        "run",
        "run_by",
        "since",
        "slow",
        "start",
        "state",
        "version",
    )

    bad_by: str
    calls: float
    claim_at: float
    claim_by: str
    claim_for: float
    claim_grown: float
    claim_reason: str
    failed: float
    old_bad_by: str
    old_calls: float
    old_failed: float
    old_slow: float
    run: float
    run_by: str
    slow: float
    state: State

    def __init__(self, now: float) -> None:
        self.born = self.version = max(1, floor(now * 1000))
        self.state = "closed"
        self.since = self.start = now
        self.reason = ""
        self.ordered = False
        self.changed = False
        self.open_until = self.open_for = self.grown = 0.0
        self.good_probes = 0
        self.good_by = ""
        self.good_at = self.other_at = _LONG_AGO
        self.grants: dict[str, float] = {}
        self._forget()

    def tell(self, message: Message, rules: Rules, by: str, random: float, now: float) -> Answer:
        """Take in what the gateway ``by`` says.

        :param random: 0 <= x < 1, for the jitter of the open time if this opens the circuit.
        """
        self.changed = False
        granted = False
        match message.op:
            case "report":
                self._report(message, rules, by, random, now)
            case "claim":
                self._claim(message, by, now)
            case "grant":
                granted = self._grant(message, rules, now)
            case "renew":
                if self.grants.get(message.grant, now) > now:
                    self.grants[message.grant] = now + GRANT
            case "settle":
                self._settle(message, rules, random, now)
            case "order":
                self._order(message, now)
        if self.claim_by and now - self.claim_at >= HOLD:
            self._believe(rules, now)
        rest = max(0.0, self.open_until - now) if self.state == "open" else 0.0
        return Answer(
            self.state,
            self.version,
            self.born,
            rest,
            self.reason,
            self.ordered,
            bool(self.claim_by),
            granted,
        )

    # -- what is said ---------------------------------------------------------------------------

    def _report(self, message: Message, rules: Rules, by: str, random: float, now: float) -> None:
        calls, failed, slow, run = message.a, message.b, message.c, message.d
        if self.state != "closed" or message.version != self.version:
            return
        self._add(calls, failed, slow, by, rules, now)
        if calls > failed:
            if by != self.good_by:
                self.good_by, self.other_at = by, self.good_at
            self.good_at = now
            if self.claim_by != by:
                self.claim_by = ""
        elif failed and self.claim_by not in ("", by):
            self.claim_at = now - HOLD
        if calls > run:
            self.run = run
            self.run_by = by if run else ""
        else:
            self.run += run
            self.run_by = _both(self.run_by, by)
        if failed or slow:
            reason = self._reason_to_open(rules, now)
            if reason:
                self._open(reason, rules, random, now)

    def _claim(self, message: Message, by: str, now: float) -> None:
        mine = self.born == message.born and self.version == message.version
        lost = self.born != message.born and self.version == self.born
        if self.state != "closed" or not (mine or lost):
            return
        if not self.claim_by:
            if self._contradicted(by, now):
                return
            self.claim_by, self.claim_at = by, now
            self.claim_for, self.claim_grown = message.a, message.b
            self.claim_reason = message.word
        elif self.claim_by != by:
            self.claim_at = now - HOLD

    def _grant(self, message: Message, rules: Rules, now: float) -> bool:
        self._prune(now)
        if self.state == "open":
            if now < min(self.open_until, self.since + message.a):
                return False
        elif self.state != "half_open":
            return False
        if message.grant not in self.grants and len(self.grants) >= rules.half_open_calls:
            return False
        self.grants[message.grant] = now + GRANT
        if self.state == "open":
            rested = self.open_until - self.since
            self.good_probes = 0
            self._change("half_open", f"open time of {rested:.3g} s is over", now)
        return True

    def _settle(self, message: Message, rules: Rules, random: float, now: float) -> None:
        self._prune(now)
        there = self.grants.pop(message.grant, None)
        if there is None or message.version != self.version or self.state != "half_open":
            return
        if message.a < 0:
            self._open(message.word, rules, random, now)
        elif message.a > 0:
            self.good_probes += 1
            if self.good_probes >= rules.success_threshold:
                noun = "probe" if self.good_probes == 1 else "probes"
                self._change("closed", f"{self.good_probes} {noun} succeeded", now)

    def _order(self, message: Message, now: float) -> None:
        if message.a and self.version != self.born:
            return
        self.grants.clear()
        self.grown = self.open_for = 0.0
        if message.word == "forced_open":
            self._change("forced_open", "forced open by an operator", now)
        elif message.word == "disabled":
            self._change("disabled", "disabled by an operator", now)
        else:
            self._change("closed", "reset by an operator", now)
        self.ordered = True

    # -- judging ----------------------------------------------------------------------------------

    def _add(
        self, calls: float, failed: float, slow: float, by: str, rules: Rules, now: float
    ) -> None:
        if rules.window_seconds:
            passed = now - self.start
            if passed < 0 or passed >= 2 * rules.window_seconds:
                self._turn(now)
                self._turn(now)
            elif passed >= rules.window_seconds:
                self._turn(self.start + rules.window_seconds)
        self.calls += calls
        self.failed += failed
        self.slow += slow
        if failed or slow:
            self.bad_by = _both(self.bad_by, by)
        if not rules.window_seconds and self.calls >= rules.window_calls:
            self._turn(now)

    def _turn(self, start: float) -> None:
        self.old_calls, self.old_failed, self.old_slow = self.calls, self.failed, self.slow
        self.old_bad_by = self.bad_by
        self.calls = self.failed = self.slow = 0.0
        self.bad_by = ""
        self.start = start

    def _reason_to_open(self, rules: Rules, now: float) -> str:
        run = self.run
        if 0 < rules.failure_threshold <= run and not self._contradicted(self.run_by, now):
            return "1 failure in a row" if run == 1 else f"{run:.0f} failures in a row"
        if rules.window_seconds:
            share = 1 - (now - self.start) / rules.window_seconds
        else:
            share = 1 - self.calls / rules.window_calls
        share = min(1.0, max(0.0, share))
        calls = self.calls + self.old_calls * share
        by = self.bad_by if self.bad_by else self.old_bad_by
        if self.bad_by and self.old_bad_by and self.old_calls * share > 0:
            by = _both(self.bad_by, self.old_bad_by)
        if calls < rules.minimum_calls - 1e-6 or self._contradicted(by, now):
            return ""
        what = f"of {calls:.0f} call" if calls < 1.5 else f"of {calls:.0f} calls"
        rate = (self.failed + self.old_failed * share) / calls
        if 0 < rules.failure_rate_threshold <= rate:
            return f"failure rate {rate:.2f} {what}"
        rate = (self.slow + self.old_slow * share) / calls
        if 0 < rules.slow_call_rate_threshold <= rate:
            return f"slow-call rate {rate:.2f} {what}"
        return ""

    def _contradicted(self, by: str, now: float) -> bool:
        """Whether only ``by`` has bad calls, and another gateway has just had good ones."""
        if by in ("", SEVERAL):
            return False
        good_at = self.other_at if by == self.good_by else self.good_at
        return 0 <= now - good_at < HOLD

    # -- states -----------------------------------------------------------------------------------

    def _open(self, reason: str, rules: Rules, random: float, now: float) -> None:
        flapping = self.state == "half_open" or now - self.since < self.open_for
        grown = self.grown * rules.timeout_factor if flapping else rules.timeout
        self.grown = min(grown, rules.max_timeout)
        self.open_for = self.grown * (1 - rules.jitter * random)
        self._change("open", reason, now)

    def _believe(self, rules: Rules, now: float) -> None:
        self.grown = min(self.claim_grown, rules.max_timeout)
        self.open_for = min(self.claim_for, rules.max_timeout)
        self._change("open", self.claim_reason, now)

    def _change(self, state: State, reason: str, now: float) -> None:
        self.state = state
        self.reason = reason
        self.version += 1
        self.since = now
        self.open_until = now + self.open_for if state == "open" else 0.0
        self.ordered = False
        self.changed = True
        self._forget()

    def _forget(self) -> None:
        """Each state begins to count anew."""
        self.calls = self.failed = self.slow = 0.0
        self.old_calls = self.old_failed = self.old_slow = 0.0
        self.bad_by = self.old_bad_by = ""
        self.run = 0.0
        self.run_by = ""
        self.claim_by = self.claim_reason = ""
        self.claim_at = self.claim_for = self.claim_grown = 0.0

    def _prune(self, now: float) -> None:
        for grant in [name for name, until in self.grants.items() if until <= now]:
            del self.grants[grant]

    def __repr__(self) -> str:
        return (
            f"<Tally {self.state} {self.version} {len(self.grants)} probes {self.run:.0f} failed>"
        )


def _both(one: str, other: str) -> str:
    return other if one in ("", other) else SEVERAL
