"""What gateways together make of a circuit: counts of several, windows, open times."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.breaker import Breaker, BreakerSettings
from rtgateway.core.breaker_messages import Answer, Message, Rules
from rtgateway.core.breaker_tally import HOLD, Tally
from tests.core.profile import PROPERTY


class Desk:
    """A tally, and what gateways say to it."""

    def __init__(self, random: float = 0.0, **settings: Any) -> None:
        self.settings = BreakerSettings(**{"jitter": 0.0, **settings})
        self.rules = Rules.of(self.settings)
        self.random = random
        self.now = 1000.0
        self.tally = Tally(self.now)

    def tell(self, message: Message, by: str = "A") -> Answer:
        return self.tally.tell(message, self.rules, by, self.random, self.now)

    def report(
        self, calls: int, failed: int = 0, slow: int = 0, run: int = 0, by: str = "A"
    ) -> str:
        version = self.tally.version
        self.tell(Message("report", version, a=calls, b=failed, c=slow, d=run), by)
        return self.tally.reason if self.tally.state == "open" else ""

    def grant(self, name: str = "A:1") -> bool:
        return self.tell(Message("grant", grant=name, a=1e18)).granted

    def settle(self, verdict: float, name: str = "A:1") -> None:
        version = self.tally.version
        self.tell(Message("settle", version, grant=name, a=verdict, word="probe failed"))


class TallyTests(SynchronousTestCase):
    def test_failures_in_a_row(self) -> None:
        """In the order in which reports come; a report's own good calls come before its row."""
        desk = Desk(failure_threshold=4)
        self.assertEqual(desk.report(3, 3, run=3), "")
        desk.now += 1
        self.assertEqual(desk.report(10, 2, run=1, by="B"), "")
        desk.now += 1
        self.assertEqual(desk.report(2, 2, run=2, by="C"), "")
        self.assertEqual(desk.report(1, 1, run=1), "4 failures in a row")

    def test_one_gateway_convicts_nobody(self) -> None:
        """Neither by a row nor by a rate, while another one has good calls."""
        desk = Desk(failure_threshold=3, minimum_calls=4)
        desk.report(5, by="B")
        desk.now += HOLD / 2
        self.assertEqual(desk.report(30, 30, run=30), "")
        desk.now += HOLD / 2 - 0.001
        self.assertEqual(desk.report(1, 1, run=1), "")
        desk.now += 0.001
        self.assertEqual(desk.report(1, 1, run=1), "32 failures in a row")

    def test_a_second_gateway_agrees(self) -> None:
        desk = Desk(failure_threshold=3)
        desk.report(5, by="B")
        self.assertEqual(desk.report(3, 3, run=3), "")
        self.assertEqual(desk.report(1, 1, run=1, by="B"), "4 failures in a row")

    def test_a_window_of_calls(self) -> None:
        """The full bucket counts for the part of the window that the other does not fill."""
        desk = Desk(failure_threshold=0, window_calls=100, minimum_calls=20)
        self.assertEqual(desk.report(100, 40), "")
        desk.now += 1
        self.assertEqual(desk.report(50, 20), "")
        # 100 calls: 70 of the new bucket with 38 failed, and 30 of the old one with 12.
        self.assertEqual(desk.report(20, 18), "failure rate 0.50 of 100 calls")

    def test_a_window_of_time(self) -> None:
        desk = Desk(failure_threshold=0, window_seconds=10.0, minimum_calls=20)
        self.assertEqual(desk.report(40, 16), "")
        desk.now += 15
        # Half of the old bucket: 20 calls with 8 failed.
        self.assertEqual(desk.report(20, 11), "")
        self.assertEqual(desk.report(2, 2), "failure rate 0.50 of 42 calls")
        desk = Desk(failure_threshold=0, window_seconds=10.0, minimum_calls=20)
        desk.report(40, 16)
        desk.now += 20
        self.assertEqual(desk.report(19, 19), "", "the old bucket is too old")
        self.assertEqual(desk.report(1, 1), "failure rate 1.00 of 20 calls")

    def test_slow_calls(self) -> None:
        desk = Desk(slow_call_rate_threshold=0.8, minimum_calls=10)
        self.assertEqual(desk.report(10, slow=7), "")
        self.assertEqual(desk.report(5, slow=5), "slow-call rate 0.80 of 15 calls")

    def test_late_reports(self) -> None:
        """What was counted before a change says nothing after it."""
        desk = Desk(failure_threshold=2)
        version = desk.tally.version
        desk.report(2, 2, run=2)
        desk.tell(Message("order", word="closed"))
        desk.tell(Message("report", version, a=9, b=9, d=9))
        self.assertEqual((desk.tally.state, desk.tally.run), ("closed", 0))

    def test_probes(self) -> None:
        """As many as are allowed, over all; a verdict counts once, and only with its grant."""
        desk = Desk(failure_threshold=1, half_open_calls=2, success_threshold=2, timeout=5.0)
        desk.report(1, 1, run=1)
        self.assertFalse(desk.grant())
        desk.now += 5
        self.assertEqual([desk.grant(x) for x in ("A:1", "B:1", "C:1")], [True, True, False])
        self.assertEqual(desk.tally.state, "half_open")
        desk.settle(1, "C:1")
        desk.settle(1)
        desk.settle(1)
        self.assertEqual((desk.tally.state, desk.tally.good_probes), ("half_open", 1))
        self.assertTrue(desk.grant("C:1"))
        desk.settle(1, "C:1")
        self.assertEqual((desk.tally.state, desk.tally.reason), ("closed", "2 probes succeeded"))

    @PROPERTY
    @given(
        st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 3.0, 40.0])), max_size=12),
        st.sampled_from([0.0, 0.5, 0.99]),
    )
    def test_open_times_are_those_of_a_breaker(
        self, steps: list[tuple[bool, float]], random: float
    ) -> None:
        """They grow, shrink and are spread alike, whatever the probes bring."""
        settings: dict[str, Any] = {
            "failure_threshold": 1,
            "success_threshold": 1,
            "timeout": 2.0,
            "jitter": 0.3,
        }
        desk = Desk(random, **settings, max_timeout=20.0)
        breaker = Breaker(desk.settings, lambda: random)
        for failed, pause in steps:
            desk.now += pause
            if breaker.state == "closed":
                breaker.record(breaker.acquire(desk.now), desk.now, 0.1, failed)
                desk.report(1, failed, run=failed)
            else:
                desk.now = max(desk.now, breaker.open_until)
                self.assertTrue(desk.grant())
                breaker.record(breaker.acquire(desk.now), desk.now, 0.1, failed)
                desk.settle(-1 if failed else 1)
            self.assertEqual(desk.tally.state, breaker.state)
            self.assertEqual(desk.tally.open_until, breaker.open_until)
