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
from tests.config.case import ConfigTestCase, TextTestCase

SECRET = "correct horse battery staple, twice"
JWT = {"jwt": {"secret": SECRET}}
BUCKET = {"capacity": 10, "refill_rate": 5}
WINDOW = {"limit": 10, "window": "1m"}
NO_TOKENS = "no token is verified, as there is no auth.jwt"


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
            ({"adaptive_threshold": 0.5, "adaptive": {"cpu": 0.7}}, Adaptive(cpu=0.7)),
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


class Refused(ConfigTestCase):
    """What is wrong, in words."""

    def assert_limit(self, section: Any, *expected: str, **keys: Any) -> None:
        """The limiter ``a`` has these problems, told at its keys."""
        self.assert_problem(
            mapping(section, **keys), *(f"rate_limits.a{problem}" for problem in expected)
        )

    def test_missing(self) -> None:
        """An algorithm without its numbers says which, and what would do."""
        bucket = "capacity and refill_rate, or requests_per_minute"
        window = "limit and window, or requests_per_minute"
        for name, missing, allowed in (
            ("token_bucket", "capacity and refill_rate", bucket),
            ("leaky_bucket", "capacity and refill_rate", bucket),
            ("adaptive", "capacity and refill_rate", bucket),
            (
                "shaper",
                "refill_rate and queue",
                "refill_rate and queue, or requests_per_minute and queue",
            ),
            ("gcra", "limit and window", window),
            ("fixed_window", "limit and window", window),
            ("sliding_window", "limit and window", window),
            ("sliding_log", "limit and window", window),
        ):
            self.assert_limit(
                {"algorithm": name}, f": {name} without {missing}; allowed: {allowed}"
            )
        self.assert_limit({"capacity": 3}, f": token_bucket without refill_rate; allowed: {bucket}")
        self.assert_limit(
            {"algorithm": "shaper", "requests_per_minute": 3},
            ": shaper without queue; "
            "allowed: refill_rate and queue, or requests_per_minute and queue",
        )

    def test_foreign(self) -> None:
        """Keys of another algorithm are told, also for plans and overrides."""
        self.assert_limit(
            {**BUCKET, "limit": 3, "queue": 0},
            ".limit: not a key of token_bucket; allowed: capacity and refill_rate",
            ".queue: not a key of token_bucket; allowed: capacity and refill_rate",
        )
        self.assert_limit(
            {"algorithm": "gcra", **WINDOW, "capacity": 3},
            ".capacity: not a key of gcra; allowed: limit, window and burst",
        )
        self.assert_limit(
            {
                "algorithm": "fixed_window",
                **WINDOW,
                "plans": {"values": {"gold": {"capacity": 9}}},
                "overrides": {"alice": {"burst": 9}},
            },
            ".plans.values.gold.capacity: not a key of fixed_window; allowed: limit and window",
            ".overrides.alice.burst: not a key of fixed_window; allowed: limit and window",
        )

    def test_said_twice(self) -> None:
        """A rate is said in one way."""
        words = "requests_per_minute says it, too; allowed: one of them"
        self.assert_limit(
            {"requests_per_minute": 3, **BUCKET}, f".capacity: {words}", f".refill_rate: {words}"
        )
        self.assert_limit(
            {
                "requests_per_minute": 3,
                "overrides": {"x": {"requests_per_minute": 3, "capacity": 1}},
            },
            f".overrides.x.capacity: {words}",
        )

    def test_bounds(self) -> None:
        """Logs are short, rates are what clocks can tell, quotas are back within a year."""
        self.assert_limit(
            {"algorithm": "sliding_log", "limit": 1001, "window": "1h"},
            ".limit: found a log of 1001; allowed: at most 1000, or sliding_window",
        )
        self.assert_limit(
            {"algorithm": "sliding_log", "requests_per_minute": 1001},
            ".requests_per_minute: found a log of 1001; allowed: at most 1000, or sliding_window",
        )
        self.assert_limit(
            {"algorithm": "gcra", "limit": 10_000, "window": "1ms"},
            ".limit: found 10000000 per second; allowed: at most 1000000 per second",
        )
        self.assert_limit(
            {"capacity": 1_000_000, "refill_rate": 0.001},
            ".capacity: found 1000000 units, but 0.001 per second; "
            "allowed: so many that they are back within 365d",
        )
        self.assert_limit(
            {**BUCKET, "overrides": {"x": {"refill_rate": "0.0000001"}}},
            ".overrides.x.refill_rate: found 10 units, but 1e-07 per second; "
            "allowed: so many that they are back within 365d",
        )
        self.assert_limit(
            {"capacity": 0, "refill_rate": 0},
            ".capacity: found 0; allowed: a whole number from 1 to 1000000000",
            ".refill_rate: found 0; allowed: a number, more than 0, at most 1000000",
        )
        self.assertEqual(
            limit({"algorithm": "fixed_window", "limit": 1, "window": "365d"}).numbers.limit, 1
        )

    def test_costs(self) -> None:
        """What can never be admitted is told: at the cost, or at what lowers the limit."""
        self.assert_limit(
            {**BUCKET, "cost": 11},
            ".cost.default: found a cost of 11; "
            "allowed: at most 10, which is all there may be at once",
        )
        self.assert_limit(
            {**BUCKET, "cost": {"methods": {"POST": 11, "PUT": 10}, "header": "x-cost"}},
            ".cost.methods.POST: found a cost of 11; "
            "allowed: at most 10, which is all there may be at once",
            ".cost.most: found a cost of 100; "
            "allowed: at most 10, which is all there may be at once",
        )
        self.assert_limit(
            {**BUCKET, "cost": 5, "overrides": {"x": {"capacity": 4}, "y": {"refill_rate": 1}}},
            ".overrides.x: found 4 at once, but a cost of 5 (cost.default); allowed: at least 5",
        )
        self.assert_limit(
            {"algorithm": "shaper", "refill_rate": 1, "queue": 2, "cost": 4},
            ".cost.default: found a cost of 4; "
            "allowed: at most 3, which is all there may be at once",
        )
        self.assert_limit(
            {"algorithm": "gcra", **WINDOW, "burst": 2, "cost": 3},
            ".cost.default: found a cost of 3; "
            "allowed: at most 2, which is all there may be at once",
        )
        self.assertEqual(limit({**BUCKET, "cost": {"most": 1000}}).cost.most, 1000)

    def test_names(self) -> None:
        """Limiters have names for metrics and keys; what they name is there."""
        self.assert_problem(
            {"rate_limits": {"a b": BUCKET, "x" * 65: BUCKET}},
            'rate_limits."a b": found the name "a b"; '
            "allowed: names of 1 to 64 letters, digits and . _ ~ -",
            f'rate_limits.{"x" * 65}: found the name "{"x" * 65}"; '
            "allowed: names of 1 to 64 letters, digits and . _ ~ -",
        )
        self.assert_limit(
            {**BUCKET, "services": ["user", "users"], "routes": ["report"]},
            '.services[0]: found "user"; allowed: a name under services: users',
            '.routes[0]: found "report"; allowed: the name or path of a route: reports, '
            "/ws/:service, /sse/:service/*, /api/:service/*, /v1",
        )
        self.assert_limit(
            {**BUCKET, "routes": "/api/:service/*"},
            '.routes[0]: found "/api/:service/*"; '
            "allowed: the name or path of a route: /v1, reports",
            builtin_routes=False,
        )

    def test_per(self) -> None:
        """Parts are known words, each once, at most four; everybody is nobody else."""
        words = "ip, identity, service, route, global, header:NAME or claim:NAME"
        self.assert_limit(
            {**BUCKET, "per": ["user", "ip:x", "header:", "header:a b", "claim:", 5]},
            f'.per[0]: found "user"; allowed: {words}',
            f'.per[1]: found "ip:x"; allowed: {words}',
            f'.per[2]: found "header:"; allowed: {words}',
            f'.per[3]: found "header:a b"; allowed: {words}',
            f'.per[4]: found "claim:"; allowed: {words}',
            f".per[5]: found 5; allowed: {words}",
        )
        self.assert_limit(
            {**BUCKET, "per": ["ip", "ip", "global"]},
            ".per[1]: twice; allowed: each once",
            ".per: global is everybody together; allowed: global alone",
        )
        self.assert_limit(
            {**BUCKET, "per": []},
            f".per: found an empty list; allowed: a list; each item {words}, at least one",
        )

    def test_tokens(self) -> None:
        """What needs tokens needs somebody who verifies them."""
        self.assert_limit(
            {
                **BUCKET,
                "per": ["ip", "identity", "claim:tenant"],
                "exempt": {"identities": "alice", "claims": {"a": "b"}},
                "plans": {"values": {"gold": {"capacity": 20}}},
                "overrides": {"alice": {"capacity": 20}, "ip:192.0.2.7": {"capacity": 20}},
            },
            f".per[1]: {NO_TOKENS}",
            f".per[2]: {NO_TOKENS}",
            f".exempt.identities: {NO_TOKENS}",
            f".exempt.claims: {NO_TOKENS}",
            f".plans: {NO_TOKENS}",
            f".overrides.alice: {NO_TOKENS}; allowed: keys such as ip:192.0.2.7",
            auth=None,
        )

    def test_overrides(self) -> None:
        """A key is spelled as it is counted; numbers that differ are there, and not too many."""
        self.assert_limit(
            {
                **BUCKET,
                "overrides": {
                    "ip:2001:db8::1": {"capacity": 3},
                    "ip:2001:db8:0:1::": {"capacity": 3},
                    "ip:10.0.0.0/8": {"capacity": 3},
                    "": {"capacity": 3},
                    "x" * 257: {"capacity": 3},
                    "alice": {},
                },
            },
            '.overrides."ip:2001:db8::1": an address is counted as ip:2001:db8::; '
            "allowed: ip:2001:db8::",
            '.overrides."ip:10.0.0.0/8": no address; allowed: ip:203.0.113.7',
            '.overrides."": found the name ""; allowed: a subject or a key of 1 to 256 characters',
            f'.overrides.{"x" * 257}: found the name "{"x" * 80}..."; '
            "allowed: a subject or a key of 1 to 256 characters",
            ".overrides.alice: no number that differs; allowed: at least one",
        )
        self.assert_limit(
            {**BUCKET, "overrides": {f"s{n}": {"capacity": 3} for n in range(1001)}},
            ".overrides: found 1001 of them; allowed: at most 1000",
        )
        self.assert_limit(
            {**BUCKET, "plans": {"values": {f"p{n}": {"capacity": 3} for n in range(101)}}},
            ".plans.values: found 101 of them; allowed: at most 100",
        )
        self.assert_problem(
            {"rate_limits": {f"l{n}": BUCKET for n in range(101)}},
            "rate_limits: found 101 limiters; allowed: at most 100",
        )

    def test_adaptive(self) -> None:
        """The parts are a range, and something is looked at; a wrong threshold is told once."""
        self.assert_limit(
            {**BUCKET, "adaptive": {"cpu": 0, "event_loop_delay": 0}},
            ".adaptive: cpu, event_loop_delay and latency are all off; "
            "allowed: at least one of them above 0",
        )
        self.assert_limit(
            {**BUCKET, "adaptive": {"floor": 0.5, "ceiling": 0.3}},
            ".adaptive.floor: found 0.5; allowed: at most ceiling, which is 0.3",
        )
        for threshold, found in ((80, "80"), ("80%", '"80%"')):
            allowed = "a number from 0 to 1"
            self.assert_limit(
                {**BUCKET, "adaptive_threshold": threshold},
                f".adaptive_threshold: found {found}; allowed: {allowed}",
            )

    def test_unknown(self) -> None:
        """Unknown algorithms and keys; nothing else is made of them."""
        self.assert_limit(
            {"algorithm": "leaky", "limit": 3},
            '.algorithm: found "leaky"; allowed: one of token_bucket, sliding_window, sliding_log, '
            "leaky_bucket, shaper, gcra, fixed_window, adaptive",
        )
        self.assert_limit(
            {**BUCKET, "burst_size": 3}, ': unknown key "burst_size"; did you mean "burst"?'
        )


class Lines(TextTestCase):
    """Problems have their lines."""

    def test_lines(self) -> None:
        """Of the key, or else of the limiter."""
        self.assert_problems(
            """
            rate_limits:
              a:
                algorithm: gcra
                capacity: 5
              b:
                capacity: 5
                refill_rate: 1
                cost:
                  methods:
                    POST: 9
            """,
            "gateway:2: rate_limits.a: gcra without limit and window; "
            "allowed: limit and window, or requests_per_minute",
            "gateway:4: rate_limits.a.capacity: not a key of gcra; "
            "allowed: limit, window and burst",
            "gateway:10: rate_limits.b.cost.methods.POST: found a cost of 9; "
            "allowed: at most 5, which is all there may be at once",
        )

    def test_substituted(self) -> None:
        """Numbers may come from the environment."""
        text = "rate_limits: {a: {capacity: '${C}', refill_rate: '${R}', cost: '${COST}'}}"
        found = self.parse(text, C="10", R="0.5", COST="2").rate_limits["a"]
        self.assertEqual(found.numbers, Numbers("token_bucket", 10, 0.5))
        self.assertEqual(found.cost.default, 2)


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
