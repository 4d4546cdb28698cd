"""What Prometheus reads of rate limits, bans and the store."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe.durations import BRIEF, BRIEF_BOUNDS, BUCKETS, new_histogram
from rtgateway.observe.limit_metrics import limit_metrics
from tests.observe.limits import Ban, Leases, Limiter, State, Store
from tests.observe.test_metrics import Samples, labels, read

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


class LimitMetricsTests(SynchronousTestCase):
    """Every metric, with its labels."""

    def setUp(self) -> None:
        self.state = State()

    def text(self) -> str:
        return "".join(limit_metrics(self.state))

    def samples(self) -> Samples:
        return read(self.text())

    def test_a_gateway_without_limits(self) -> None:
        """Nothing happens, and there is no store that could be up or down."""
        self.assertEqual(
            self.samples(),
            {
                ("gateway_rate_limit_banned_total", labels()): 0,
                ("gateway_rate_limit_banned_requests_total", labels()): 0,
                ("gateway_rate_limit_bans", labels()): 0,
                ("gateway_ip_denied_total", labels()): 0,
                ("gateway_rate_limit_degraded_seconds_total", labels()): 0,
                ("gateway_gateways", labels()): 1,
            },
        )

    def test_decisions(self) -> None:
        """By limiter, level and outcome; refused requests by service and kind of client too."""
        limits = self.state.limits
        of = {"limiter": "per-ip", "level": "ip"}
        outcomes = ("admitted", "refused", "exempt", "failed_open", "failed_closed", "reported")
        for count, outcome in enumerate(outcomes, 1):
            limits.decisions["per-ip", "ip", outcome] = count
        limits.decisions["tenant", "claim:tenant", "admitted"] = 9
        limits.exceeded = {("users", "user"): 3, ("users", "anonymous"): 4}
        limits.denied = 5
        samples = self.samples()
        name = "gateway_rate_limit_decisions_total"
        for count, outcome in enumerate(outcomes, 1):
            self.assertEqual(samples[name, labels(outcome=outcome, **of)], count)
        tenant = labels(limiter="tenant", level="claim:tenant", outcome="admitted")
        self.assertEqual(samples[name, tenant], 9)
        name = "gateway_rate_limit_exceeded_total"
        self.assertEqual(samples[name, labels(service="users", user_type="user")], 3)
        self.assertEqual(samples[name, labels(service="users", user_type="anonymous")], 4)
        self.assertEqual(samples["gateway_ip_denied_total", labels()], 5)

    def test_bans(self) -> None:
        """Those that began, and those that hold."""
        self.state.bans.imposed = 7
        self.state.bans.there = {"ip:192.0.2.1": Ban("ip:192.0.2.1", 0.0)}
        samples = self.samples()
        self.assertEqual(samples["gateway_rate_limit_banned_total", labels()], 7)
        self.assertEqual(samples["gateway_rate_limit_bans", labels()], 1)
        self.assertNotIn("192.0.2.1", self.text())

    def test_memory(self) -> None:
        """Keys of each limiter; the factor of those that have one."""
        limits = self.state.limits
        limits.limiters = {"a": Limiter(), "b": Limiter(factor=0.25)}
        limits.keys = {"a": 1000, "b": 2}
        samples = self.samples()
        self.assertEqual(samples["gateway_rate_limit_keys", labels(limiter="a")], 1000)
        name = "gateway_rate_limit_adaptive_factor"
        self.assertEqual(samples[name, labels(limiter="b")], 0.25)
        self.assertNotIn((name, labels(limiter="a")), samples)

    def test_leases(self) -> None:
        """What is lent, given back, and decided by it."""
        self.state.limits.leases = {"a": Leases(live=3, leased=400, returned=50, local=300)}
        of = labels(limiter="a")
        samples = self.samples()
        expected = {
            "gateway_rate_limit_leases": 3,
            "gateway_rate_limit_leased_units_total": 400,
            "gateway_rate_limit_returned_units_total": 50,
            "gateway_rate_limit_local_decisions_total": 300,
        }
        self.assertEqual({name: samples[name, of] for name in expected}, expected)

    def test_the_store(self) -> None:
        """Whether it answers, how fast, and what it failed to do."""
        durations = new_histogram()
        for seconds in (0.00008, 0.0003, 0.0003, 2.0):
            durations[bisect_left(BRIEF_BOUNDS, seconds)] += 1
            durations[-1] += seconds
        self.state.store = Store(False, 1.0, {"decide": durations}, {("decide", "timeout"): 4})
        self.state.limits.gateways, self.state.limits.degraded_seconds = 8, 12.5
        samples = self.samples()
        self.assertEqual(samples["gateway_store_up", labels()], 0)
        name = "gateway_store_request_duration_seconds"
        counts = [
            samples[f"{name}_bucket", labels(operation="decide", le=le)]
            for le in ("0.0001", "0.00025", "0.0005", "1.0", "+Inf")
        ]
        self.assertEqual(counts, [1, 1, 3, 3, 4])
        self.assertAlmostEqual(samples[f"{name}_sum", labels(operation="decide")], 2.00068)
        failures = labels(operation="decide", reason="timeout")
        self.assertEqual(samples["gateway_store_failures_total", failures], 4)
        self.assertEqual(samples["gateway_gateways", labels()], 8)
        self.assertEqual(samples["gateway_rate_limit_degraded_seconds_total", labels()], 12.5)
        self.state.store.up = True
        self.assertEqual(self.samples()["gateway_store_up", labels()], 1)
        self.assertEqual(self.samples()["gateway_store_news", labels()], 1)
        self.state.store.deaf = True
        self.assertEqual(self.samples()["gateway_store_news", labels()], 0)

    def test_both_kinds_of_bounds_have_one_shape(self) -> None:
        """A histogram is made without knowing which of them it gets; both are in order."""
        self.assertEqual(len(BRIEF), len(BUCKETS))
        self.assertEqual(sorted(set(BRIEF)), BRIEF_BOUNDS)

    def test_names_of_limiters_are_escaped(self) -> None:
        """They are somebody's configuration."""
        self.state.limits.keys = {'a"\\\n': 1}
        self.assertEqual(self.samples()["gateway_rate_limit_keys", labels(limiter='a"\\\n')], 1)

    def test_every_metric_is_documented(self) -> None:
        """Also those that have nothing to tell."""
        text = DOCUMENT.read_text()
        names = [line.split()[2] for line in self.text().splitlines() if line.startswith("# TYPE")]
        self.assertEqual(len(names), 18)
        for name in names:
            self.assertIn(f"| `{name}` |", text)
