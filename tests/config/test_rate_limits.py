"""The section ``rate_limits``: numbers, whom they are for, and what does not fit together."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import (
    Adaptive,
    Config,
    ConfigError,
    Numbers,
    Per,
    Quota,
    RateLimit,
    from_dict,
    parse,
)
from tests.config.case import ConfigTestCase

SECRET = "correct horse battery staple, twice"
JWT = {"jwt": {"secret": SECRET}}
BUCKET = {"capacity": 10, "refill_rate": 5}
WINDOW = {"limit": 10, "window": "1m"}


def mapping(limiter: Any, **keys: Any) -> dict[str, Any]:
    """A configuration with this limiter, a service, and two routes."""
    routes = [
        {"path": "/v1", "service": "users"},
        {"name": "reports", "path": "/v1/reports", "service": "users"},
    ]
    return {
        "services": {"users": "http://users"},
        "routes": routes,
        "rate_limits": {"a": limiter},
        "auth": JWT,
        **keys,
    }


def limit(limiter: Any, **keys: Any) -> RateLimit:
    """What holds for this limiter."""
    return from_dict(mapping(limiter, **keys)).rate_limits["a"]


class TheNumbers(ConfigTestCase):
    """What holds, with defaults filled in."""

    def test_none(self) -> None:
        """No limiters by default."""
        self.assertEqual(Config().rate_limits, {})

    def test_algorithms(self) -> None:
        """Each has its keys; a burst that is left out is the limit."""
        cases: tuple[tuple[dict[str, Any], Numbers, int, float], ...] = (
            (BUCKET, Numbers("token_bucket", capacity=10, refill_rate=5.0), 10, 5),
            (
                {"algorithm": "leaky_bucket", **BUCKET},
                Numbers("leaky_bucket", capacity=10, refill_rate=5.0),
                10,
                5,
            ),
            (
                {"algorithm": "adaptive", **BUCKET},
                Numbers("adaptive", capacity=10, refill_rate=5.0),
                10,
                5,
            ),
            (
                {"algorithm": "shaper", "refill_rate": "0.5", "queue": 0},
                Numbers("shaper", refill_rate=0.5, queue=0),
                1,
                0.5,
            ),
            (
                {"algorithm": "shaper", "requests_per_minute": 6, "queue": 3},
                Numbers("shaper", refill_rate=0.1, queue=3),
                4,
                0.1,
            ),
            (
                {"algorithm": "gcra", "limit": 6, "window": 2},
                Numbers("gcra", limit=6, window=2.0, burst=6),
                6,
                3,
            ),
            (
                {"algorithm": "gcra", "requests_per_minute": 600, "burst": 3},
                Numbers("gcra", limit=600, window=60.0, burst=3),
                3,
                10,
            ),
            *(
                ({"algorithm": name, **WINDOW}, Numbers(name, limit=10, window=60.0), 10, 10 / 60)
                for name in ("fixed_window", "sliding_window", "sliding_log")
            ),
            (
                {"requests_per_minute": "120"},
                Numbers("token_bucket", capacity=120, refill_rate=2.0),
                120,
                2,
            ),
            (
                {"algorithm": "fixed_window", "requests_per_minute": 120},
                Numbers("fixed_window", limit=120, window=60.0),
                120,
                2,
            ),
        )
        for section, numbers, at_once, rate in cases:
            found = limit(section).numbers
            self.assertEqual(found, numbers, section)
            self.assertEqual(found.at_once, at_once, section)
            self.assertAlmostEqual(found.rate, rate, msg=str(section))

    def test_plans_and_overrides(self) -> None:
        """What differs goes before the limiter's own, key by key."""
        found = limit(
            {
                "requests_per_minute": 60,
                "plans": {
                    "claim": "tier",
                    "values": {"gold": {"capacity": 600}, "free": {"requests_per_minute": 6}},
                },
                "overrides": {"alice": {"refill_rate": 9}, "ip:192.0.2.7": {"capacity": 1}},
            }
        )
        assert found.plans is not None
        self.assertEqual(found.plans.claim, "tier")
        self.assertEqual(found.numbers, Numbers("token_bucket", 60, 1.0))
        self.assertEqual(found.plan("gold"), Numbers("token_bucket", 600, 1.0))
        self.assertEqual(found.plan("free"), Numbers("token_bucket", 6, 0.1))
        self.assertEqual(found.plan("gold"), found.plans.values["gold"].numbers)
        self.assertEqual(found.plan("lead"), found.numbers)
        self.assertEqual(found.override("alice"), Numbers("token_bucket", 60, 9.0))
        self.assertEqual(found.override("ip:192.0.2.7"), Numbers("token_bucket", 1, 1.0))
        self.assertIsNone(found.override("bob"))
        self.assertEqual(limit(BUCKET).plan("gold"), limit(BUCKET).numbers)

    def test_burst_of_a_plan(self) -> None:
        """A burst that nobody names follows the limit; one that somebody does stays."""
        base = {"algorithm": "gcra", **WINDOW}
        plans = {"values": {"gold": {"limit": 100}}}
        self.assertEqual(limit({**base, "plans": plans}).plan("gold").burst, 100)
        self.assertEqual(limit({**base, "burst": 3, "plans": plans}).plan("gold").burst, 3)

    def test_adaptive(self) -> None:
        """On with its algorithm, its section, or its threshold; else not there."""
        self.assertIsNone(limit(BUCKET).adaptive)
        plain = Adaptive()
        self.assertEqual((plain.cpu, plain.event_loop_delay, plain.latency), (0.8, 0.1, 0))
        cases: tuple[tuple[dict[str, Any], Adaptive], ...] = (
            ({"algorithm": "adaptive"}, plain),
            ({"adaptive": {}}, plain),
            ({"adaptive": {"latency": "2s"}}, Adaptive(latency=2.0)),
            ({"adaptive_threshold": 0.5}, Adaptive(cpu=0.5)),
            ({"adaptive_threshold": "0.5", "algorithm": "adaptive"}, Adaptive(cpu=0.5)),
            ({"adaptive_threshold": 0.7, "adaptive": {"cpu": 0.7}}, Adaptive(cpu=0.7)),
            ({"adaptive_threshold": 0.5, "adaptive": {"floor": 0.2}}, Adaptive(cpu=0.5, floor=0.2)),
        )
        for section, adaptive in cases:
            self.assertEqual(limit({**BUCKET, **section}).adaptive, adaptive, section)


class Whom(ConfigTestCase):
    """Whom it is for, and what it costs."""

    def test_per(self) -> None:
        """One or several; names of headers in lower case, those of claims as they are."""
        cases: tuple[tuple[Any, tuple[Per, ...]], ...] = (
            ("ip", (Per("ip"),)),
            ("header:X-Api-Key", (Per("header", "x-api-key"),)),
            ("claim:https://a/Tenant", (Per("claim", "https://a/Tenant"),)),
            ("identity, route", (Per("identity"), Per("route"))),
            (["service", "ip"], (Per("service"), Per("ip"))),
            ("global", (Per("global"),)),
        )
        for per, parts in cases:
            self.assertEqual(limit({**BUCKET, "per": per}).per, parts, per)
        self.assertEqual(limit(BUCKET).per, (Per("ip"),))
        self.assertEqual(str(Per("header", "x-a")), "header:x-a")

    def test_lists(self) -> None:
        """Services, routes and methods; networks are normalised."""
        found = limit(
            {
                **BUCKET,
                "services": "users",
                "routes": ["/v1", "reports", "/api/:service/*"],
                "methods": "GET, POST",
                "exempt": {
                    "ips": "10.0.0.0/8, 2001:DB8::/32, 192.0.2.7",
                    "identities": "alice",
                    "claims": {"role": ["admin", "staff"], "bot": "yes"},
                },
            }
        )
        self.assertEqual((found.services, found.methods), (("users",), ("GET", "POST")))
        self.assertEqual(found.routes, ("/v1", "reports", "/api/:service/*"))
        self.assertEqual(found.exempt.ips, ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"))
        self.assertEqual(found.exempt.identities, ("alice",))
        self.assertEqual(found.exempt.claims, {"role": ("admin", "staff"), "bot": ("yes",)})

    def test_cost(self) -> None:
        """A number will do, as text, too."""
        for section in (3, "3", {"default": 3}):
            cost = limit({**BUCKET, "cost": section}).cost
            self.assertEqual((cost.default, cost.methods, cost.header), (3, {}, None))
        cost = limit({**BUCKET, "cost": {"methods": {"POST": 5}, "header": "X-C", "most": 9}}).cost
        self.assertEqual((cost.default, cost.methods), (1, {"POST": 5}))
        self.assertEqual((cost.header, cost.most), ("x-c", 9))

    def test_as_json(self) -> None:
        """A limiter can be shown as JSON."""
        found = limit({**BUCKET, "per": ["header:X-A", "ip"], "exempt": {"ips": "10.0.0.0/8"}})
        shown = json.loads(json.dumps(found.model_dump(mode="json")))
        self.assertEqual(shown["per"], ["header:x-a", "ip"])
        self.assertEqual(shown["exempt"]["ips"], ["10.0.0.0/8"])


class Changes(ConfigTestCase):
    """`RateLimit.effective`: other numbers at run time."""

    BASE: ClassVar[dict[str, Any]] = {
        "requests_per_minute": 60,
        "per": ["identity", "header:x-a"],
        "cost": {"methods": {"POST": 5}},
        "exempt": {"ips": "10.0.0.0/8"},
        "plans": {"values": {"gold": {"capacity": 600}}},
        "overrides": {"alice": {"refill_rate": 9}},
        "adaptive_threshold": 0.5,
    }

    def refusal(self, changes: dict[str, Any]) -> list[str]:
        """What is wrong with them."""
        with self.assertRaises(ConfigError) as caught:
            limit(self.BASE).effective(changes)
        return [str(problem) for problem in caught.exception.problems]

    def test_changed(self) -> None:
        """The numbers change, for plans where they say nothing, and nothing else does."""
        base = limit(self.BASE)
        found = base.effective({"capacity": "30"})
        self.assertEqual(found.numbers, Numbers("token_bucket", 30, 1.0))
        self.assertEqual(found.plan("gold"), Numbers("token_bucket", 600, 1.0))
        self.assertEqual(found.override("alice"), Numbers("token_bucket", 30, 9.0))
        for key in ("per", "cost", "exempt", "adaptive", "leases"):
            self.assertEqual(getattr(found, key), getattr(base, key), key)
        found = base.effective({"requests_per_minute": 6})
        self.assertEqual(found.numbers, Numbers("token_bucket", 6, 0.1))
        self.assertEqual(base.numbers, Numbers("token_bucket", 60, 1.0))
        self.assertEqual(base.plan("gold"), Numbers("token_bucket", 600, 1.0))

    def test_nothing(self) -> None:
        """No change is the same, and so is changing it back."""
        base = limit(self.BASE)
        self.assertEqual(base.effective({}).numbers, base.numbers)
        again = base.effective({"capacity": 30}).effective({"requests_per_minute": 60})
        self.assertEqual(again.numbers, base.numbers)
        self.assertEqual(again.plan("gold"), base.plan("gold"))

    def test_burst(self) -> None:
        """A burst that nobody named follows the limit."""
        base = limit({"algorithm": "gcra", **WINDOW})
        self.assertEqual(base.effective({"limit": 70}).numbers.burst, 70)
        base = limit({"algorithm": "gcra", **WINDOW, "burst": 4})
        self.assertEqual(base.effective({"limit": 70}).numbers.burst, 4)

    def test_refused(self) -> None:
        """The same rules hold."""
        self.assertEqual(
            self.refusal({"limit": 3}),
            ["the change: limit: not a key of token_bucket; allowed: capacity and refill_rate"],
        )
        self.assertEqual(
            self.refusal({"capacity": 0, "per": "ip"}),
            [
                "the change: capacity: found 0; allowed: a whole number from 1 to 1000000000",
                'the change: unknown key "per"; known keys: capacity, refill_rate, limit, window, '
                "burst, queue, requests_per_minute",
            ],
        )
        self.assertEqual(
            self.refusal({"capacity": 4}),
            [
                "the change: cost.methods.POST: found a cost of 5; "
                "allowed: at most 4, which is all there may be at once",
            ],
        )


numbers = st.fixed_dictionaries(
    {},
    optional={
        "capacity": st.integers(0, 2_000_000_000),
        "refill_rate": st.one_of(st.floats(0, 2e6), st.integers(0, 100)),
        "limit": st.integers(0, 2000),
        "window": st.sampled_from(["1ms", "1s", "1m", "365d", "366d"]),
        "burst": st.integers(0, 100),
        "queue": st.integers(0, 100),
        "requests_per_minute": st.integers(0, 100_000),
    },
)
limiters = st.builds(
    lambda base, more: base | more,
    numbers,
    st.fixed_dictionaries(
        {},
        optional={
            "algorithm": st.sampled_from(
                ["token_bucket", "gcra", "shaper", "sliding_log", "fixed_window", "adaptive"]
            ),
            "cost": st.one_of(st.integers(0, 9), st.dictionaries(st.text(max_size=3), numbers)),
            "overrides": st.dictionaries(st.sampled_from(["alice", "ip:::", "x"]), numbers),
            "plans": st.fixed_dictionaries(
                {"values": st.dictionaries(st.sampled_from(["gold", "x"]), numbers)}
            ),
        },
    ),
)


class AnyNumbers(SynchronousTestCase):
    """Random numbers."""

    @settings(max_examples=150, deadline=None)
    @given(limiters, numbers)
    def test_usable(self, section: dict[str, Any], change: dict[str, Any]) -> None:
        """What is accepted can be used; a change is a limiter, or problems."""
        try:
            found = limit(section)
        except ConfigError:
            return
        others = [*found.overrides.values(), *(found.plans.values.values() if found.plans else ())]
        for numbers_ in (found.numbers, *(quota.numbers for quota in others)):
            self.assertTrue(0 < numbers_.rate <= 1_000_000, numbers_)
            self.assertGreaterEqual(numbers_.at_once, 1)
            self.assertLessEqual(numbers_.at_once / numbers_.rate, 366 * 86400)
        self.assertLessEqual(found.cost.default, found.numbers.at_once)
        try:
            changed = found.effective(change)
        except ConfigError as error:
            self.assertTrue(error.problems)
        else:
            self.assertEqual(changed.per, found.per)
            self.assertIsInstance(changed.numbers, Numbers)

    def test_quota_alone(self) -> None:
        """A quota that belongs to no limiter says nothing of the rest."""
        self.assertEqual(Quota(capacity=3).own, {"capacity": 3})
        self.assertIn("a", parse("rate_limits: {a: {requests_per_minute: 1}}").rate_limits)
