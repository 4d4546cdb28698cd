"""Retries: what is worth one, when, and how many a service has to bear."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Budget, Hedge, Retry
from rtgateway.core.retry import (
    Conditions,
    Hedging,
    RetryBudget,
    RetryPolicy,
    retry_after_seconds,
)
from tests.core.profile import PROPERTY

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()
LONGEST = 2.0**31


class ConditionsTests(SynchronousTestCase):
    def test_statuses(self) -> None:
        """As text, as numbers, and by their class."""
        conditions = Conditions(["502", 503, "4xx"])
        meant = [status for status in range(100, 600) if conditions.status(status)]
        self.assertEqual(meant, [*range(400, 500), 502, 503])
        self.assertEqual(conditions.statuses, frozenset(meant))
        self.assertEqual(repr(conditions), "<Conditions 502 503 4xx>")

    def test_kinds(self) -> None:
        conditions = Conditions(["connect", "timeout", "5xx"])
        meant = [k for k in ("connect", "reset", "timeout", "invalid") if conditions.kind(k)]
        self.assertEqual(meant, ["connect", "timeout"])
        self.assertFalse(conditions.kind("5xx"))

    def test_none(self) -> None:
        conditions = Conditions([])
        self.assertFalse(conditions.status(503))
        self.assertFalse(conditions.kind("connect"))
        self.assertEqual(repr(conditions), "<Conditions none>")

    def test_words_that_mean_nothing(self) -> None:
        for word in (
            "",
            "refused",
            "6xx",
            "5XX",
            "50",
            "099",
            "5030",
            "\u0665\u0660\u0663",
            "-50",
            99,
        ):
            with self.assertRaises(ValueError, msg=repr(word)):
                Conditions([word])


class PolicyTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """What the configuration says is what is done."""
        policy = RetryPolicy.from_config(Retry())
        self.assertEqual(policy.attempts, 3)
        self.assertIn(b"GET", policy.methods)
        self.assertNotIn(b"POST", policy.methods)
        self.assertTrue(policy.idempotency_key)
        self.assertEqual(policy.on.statuses, {502, 503, 504})
        self.assertTrue(policy.on.kind("reset"))
        self.assertFalse(policy.on.kind("invalid"))
        self.assertEqual((policy.base_delay, policy.max_delay, policy.factor), (0.025, 1.0, 2.0))
        self.assertEqual((policy.retry_after, policy.body_limit), (2.0, 65536))
        self.assertIsNone(policy.hedge)

    def test_hedging(self) -> None:
        """The second try is sent after the quantile, within bounds; at the latest when nothing
        is known."""
        hedge = Hedge(enabled=True, quantile=0.9, min_delay=0.01, max_delay=0.5)
        hedging = RetryPolicy.from_config(Retry(hedge=hedge)).hedge
        assert hedging is not None
        self.assertEqual(hedging, Hedging(0.9, 0.01, 0.5))
        delays = [hedging.delay(latency) for latency in (0.001, 0.2, 3.0, None)]
        self.assertEqual(delays, [0.01, 0.2, 0.5, 0.5])


class BackoffTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.policy = RetryPolicy.from_config(Retry(base_delay=0.1, max_delay=1.0, factor=3.0))

    def test_grows_to_its_bound(self) -> None:
        """The longest delay before each retry."""
        longest = [self.policy.backoff(attempt, lambda: 1.0) for attempt in (1, 2, 3, 4, 19)]
        for delay, expected in zip(longest, (0.1, 0.3, 0.9, 1.0, 1.0), strict=True):
            self.assertAlmostEqual(delay, expected)

    def test_full_jitter(self) -> None:
        """Delays are spread evenly from none at all to the longest: a thousand clients that
        failed together come back one by one."""
        random = Random(3).random
        for attempt, ceiling in ((1, 0.1), (2, 0.3), (5, 1.0)):
            delays = [self.policy.backoff(attempt, random) for _ in range(4000)]
            self.assertTrue(all(0.0 <= delay < ceiling for delay in delays))
            # The mean of n uniform numbers has a standard deviation of 1 / sqrt(12 n).
            spread = 4 * ceiling / math.sqrt(12 * len(delays))
            self.assertApproximates(sum(delays) / len(delays), ceiling / 2, spread)
            quarters = [0] * 4
            for delay in delays:
                quarters[int(delay / ceiling * 4)] += 1
            for count in quarters:
                self.assertApproximates(count, 1000, 120)

    def test_no_delay(self) -> None:
        policy = RetryPolicy.from_config(Retry(base_delay=0.0, max_delay=0.0))
        self.assertEqual(policy.backoff(1, lambda: 0.5), 0.0)

    @PROPERTY
    @given(attempt=st.integers(1, 10**6), factor=st.floats(1.0, 100.0), random=st.floats(0, 1))
    def test_never_longer_than_its_bound(self, attempt: int, factor: float, random: float) -> None:
        """However many retries there were."""
        policy = RetryPolicy.from_config(Retry(base_delay=0.1, max_delay=1.0, factor=factor))
        self.assertTrue(0.0 <= policy.backoff(attempt, lambda: random) <= 1.0)


class BudgetTests(SynchronousTestCase):
    def granted(self, budget: RetryBudget, now: float, requests: int, wanted: int) -> int:
        """How many of the retries that are wanted now are granted."""
        return sum(budget.withdraw(now, requests) for _ in range(wanted))

    def test_a_reserve_to_begin_with(self) -> None:
        """The first seconds after a start: ten seconds' worth."""
        budget = RetryBudget(Budget(ratio=0.2, per_second=3.0))
        self.assertEqual(self.granted(budget, 100.0, 0, 50), 30)
        self.assertEqual(repr(budget), "<RetryBudget 0.0 left>")

    def test_a_share_of_the_requests(self) -> None:
        """A service that fails for good gets a fifth more than its load, not three times it."""
        budget = RetryBudget(Budget(ratio=0.2, per_second=0.0))
        requests = granted = 0
        for tick in range(1000):
            requests += 50
            granted += self.granted(budget, tick * 0.1, requests, 50)
        self.assertApproximates(granted, 0.2 * requests, 0.01 * requests)

    def test_some_per_second(self) -> None:
        """A service with hardly any traffic has its retries, too."""
        budget = RetryBudget(Budget(ratio=0.2, per_second=3.0))
        self.granted(budget, 0.0, 0, 30)
        granted = sum(self.granted(budget, tick * 0.1, 0, 10) for tick in range(1, 1001))
        self.assertApproximates(granted, 300, 10)

    def test_a_quiet_day_is_not_saved_up(self) -> None:
        """After hours without a failure there are ten seconds' worth: 10 x (3 + 0.2 x 100)."""
        budget = RetryBudget(Budget(ratio=0.2, per_second=3.0))
        budget.deposit(0.0, 0)
        for hour in range(1, 4):
            budget.deposit(hour * 3600.0, hour * 360_000)
        self.assertApproximates(budget.balance, 230, 1e-6)
        self.assertEqual(self.granted(budget, 10800.0, 1_080_000, 500), 230)

    def test_a_busy_hour_is_over_soon(self) -> None:
        """The balance follows the rate as it is now."""
        budget = RetryBudget(Budget(ratio=0.2, per_second=1.0))
        budget.deposit(0.0, 0)
        budget.deposit(3600.0, 3_600_000)
        self.assertApproximates(budget.balance, 2010, 1e-6)
        for second in range(1, 61):
            budget.deposit(3600.0 + second, 3_600_000)
        self.assertApproximates(budget.balance, 10, 5)

    def test_how_often_it_is_asked_makes_no_difference(self) -> None:
        budget, again = (RetryBudget(Budget(ratio=0.2, per_second=3.0)) for _ in range(2))
        budget.deposit(0.0, 0)
        again.deposit(0.0, 0)
        budget.deposit(5.0, 1000)
        for tick in range(1, 501):
            again.deposit(tick * 0.01, tick * 2)
        self.assertAlmostEqual(budget.balance, again.balance)

    def test_counting_begins_with_the_first_call(self) -> None:
        """What the service did before this budget was made brings nothing."""
        budget = RetryBudget(Budget(ratio=0.2, per_second=1.0))
        self.assertEqual(self.granted(budget, 500.0, 10**9, 100), 10)

    @PROPERTY
    @given(
        ratio=st.floats(0.0, 1.0),
        per_second=st.floats(0.0, 100.0),
        start=st.floats(0.0, 1e6),
        steps=st.lists(
            st.tuples(
                st.one_of(st.floats(0.0, 5.0), st.floats(0.0, 1e6), st.just(5e-324)),
                st.integers(0, 2000),
                st.integers(0, 300),
                st.booleans(),
            ),
            max_size=60,
        ),
    )
    def test_never_more_than_it_promises(
        self,
        ratio: float,
        per_second: float,
        start: float,
        steps: list[tuple[float, int, int, bool]],
    ) -> None:
        """Over any history: at most ratio x requests + per_second x seconds + the reserve; and
        nothing is refused while one is left."""
        budget = RetryBudget(Budget(ratio=ratio, per_second=per_second))
        reserve = 10 * per_second
        now, requests, granted = start, 0, 0
        for seconds, arrived, wanted, tick in steps:
            now += seconds
            requests += arrived
            if tick:
                budget.deposit(now, requests)
            got = self.granted(budget, now, requests, wanted)
            granted += got
            bound = ratio * requests + per_second * (now - start) + reserve
            self.assertLessEqual(granted, bound * (1 + 1e-9) + 1e-9)
            self.assertGreaterEqual(budget.balance, 0.0)
            if got < wanted:
                self.assertLess(budget.balance, 1.0)

    def test_a_clock_that_stands_or_goes_back(self) -> None:
        """Requests still count; no second counts twice."""
        budget = RetryBudget(Budget(ratio=0.5, per_second=1.0))
        self.granted(budget, 100.0, 0, 10)
        self.assertEqual(self.granted(budget, 100.0, 8, 10), 4)
        self.assertEqual(self.granted(budget, 90.0, 12, 10), 2)
        self.assertEqual(self.granted(budget, 101.5, 12, 10), 1)


class RetryAfterTests(SynchronousTestCase):
    def test_seconds(self) -> None:
        for value, expected in (
            (b"0", 0.0),
            (b"120", 120.0),
            (b" 7\t", 7.0),
            (b"007", 7.0),
        ):
            self.assertEqual(retry_after_seconds(value, NOW), expected, value)

    def test_huge_numbers(self) -> None:
        """Longer than anybody waits, and no work for it."""
        for value in (b"2147483649", b"9" * 10, b"9" * 11, b"9" * 100_000):
            self.assertEqual(retry_after_seconds(value, NOW), LONGEST, value[:20])
        self.assertEqual(retry_after_seconds(b"0" * 10_000 + b"5", NOW), 5.0)

    def test_dates(self) -> None:
        """The form that may be written, and the two obsolete ones that must be understood."""
        for value in (
            b"Sat, 21 Nov 2026 12:01:30 GMT",
            b"Saturday, 21-Nov-26 12:01:30 GMT",
            b"Sat Nov 21 12:01:30 2026",
        ):
            self.assertEqual(retry_after_seconds(value, NOW), 90.0, value)
        self.assertEqual(
            retry_after_seconds(b"Tue Dec  1 12:00:00 2026", NOW), 10 * 86400.0, "a padded day"
        )
        self.assertEqual(retry_after_seconds(b"Sat, 21 Nov 2026 12:00:60 GMT", NOW), 59.0)

    def test_dates_that_are_over(self) -> None:
        """Now, then."""
        for value in (
            b"Sun, 06 Nov 1994 08:49:37 GMT",
            b"Sunday, 06-Nov-94 08:49:37 GMT",
            b"Sun Nov  6 08:49:37 1994",
            b"Mon, 01 Jan 0001 00:00:00 GMT",
            b"Sat, 21 Nov 2026 11:59:59 GMT",
        ):
            self.assertEqual(retry_after_seconds(value, NOW), 0.0, value)

    def test_years_of_two_digits(self) -> None:
        """No more than 50 years ahead; what is further was in the last century."""
        ahead = retry_after_seconds(b"Friday, 20-Nov-76 12:00:00 GMT", NOW)
        assert ahead is not None
        self.assertApproximates(ahead / (365.25 * 86400), 50, 0.01)
        self.assertEqual(retry_after_seconds(b"Monday, 21-Nov-77 12:00:00 GMT", NOW), 0.0)

    def test_far_dates(self) -> None:
        self.assertEqual(retry_after_seconds(b"Fri, 31 Dec 9999 23:59:59 GMT", NOW), LONGEST)

    def test_what_is_no_answer(self) -> None:
        """Neither number nor date: as if the field were not there."""
        for value in (
            b"",
            b" ",
            b"-5",
            b"+5",
            b"1.5",
            b"5s",
            b"5, 6",
            b"soon",
            b"1e3",
            "\u0665".encode(),
            b"\xff\xfe",
            b"inf",
            b"nan",
            b"0x10",
            # No zone, or one that HTTP does not know.
            b"Sat, 21 Nov 2026 12:01:30",
            b"Sat, 21 Nov 2026 12:01:30 -0000",
            b"Sat, 21 Nov 2026 12:01:30 +0100",
            b"Sat, 21 Nov 2026 12:01:30 CET",
            b"2026-11-21T12:01:30Z",
            # No such day, month, time.
            b"Sat, 31 Feb 2026 12:01:30 GMT",
            b"Sat, 00 Nov 2026 12:01:30 GMT",
            b"Sat, 21 Foo 2026 12:01:30 GMT",
            b"Sat, 21 Nov 0000 12:01:30 GMT",
            b"Sat, 21 Nov 2026 24:01:30 GMT",
            b"Sat, 21 Nov 2026 12:60:30 GMT",
            b"Sat, 21 Nov 2026 12:01:61 GMT",
            b"Sat Nov  0 12:01:30 2026",
            b"Sat Nov    12:01:30 2026",
            b"Sat, 21 Nov 2026 12:01:30 GMT" + b" " * 50 + b"x",
        ):
            self.assertIsNone(retry_after_seconds(value, NOW), value)

    @PROPERTY
    @given(value=st.one_of(st.binary(), st.from_regex(rb"[SF][a-z]{2},? [0-9A-Za-z :-]{0,30}")))
    def test_any_bytes(self, value: bytes) -> None:
        """An instance can't upset the gateway with them."""
        seconds = retry_after_seconds(value, NOW)
        self.assertTrue(seconds is None or 0.0 <= seconds <= LONGEST)

    @PROPERTY
    @given(
        at=st.datetimes(datetime(1970, 1, 1), datetime(2090, 1, 1)),
        now=st.datetimes(datetime(1970, 1, 1), datetime(2090, 1, 1)),
    )
    def test_any_date(self, at: datetime, now: datetime) -> None:
        """Against the standard library's writer."""
        date = at.replace(microsecond=0, tzinfo=UTC)
        clock = now.replace(tzinfo=UTC).timestamp()
        expected = min(max(date.timestamp() - clock, 0.0), LONGEST)
        value = format_datetime(date, usegmt=True).encode("ascii")
        self.assertEqual(retry_after_seconds(value, clock), expected)
        self.assertEqual(
            retry_after_seconds(date.strftime("%a %b %e %H:%M:%S %Y").encode("ascii"), clock),
            expected,
        )
