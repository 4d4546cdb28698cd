"""What does not fit together in ``rate_limits``, each rule in its words."""

from __future__ import annotations

from typing import Any

from rtgateway.config import Numbers
from tests.config.case import ConfigTestCase, TextTestCase
from tests.config.test_rate_limits import BUCKET, WINDOW, limit, mapping

NO_TOKENS = "no token is verified, as there is no auth.jwt"


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
        self.assert_limit(
            {**BUCKET, "cost": {"methods": {"post": 2}}},
            '.cost.methods.post: found the name "post"; '
            "allowed: a method in capitals such as GET or POST",
        )

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
        self.assert_limit(
            {**BUCKET, "per": ["ip", "service", "route", "header:a", "header:b"]},
            f".per: found a list; allowed: a list; each item {words}, at most 4 of them",
        )

    def test_tokens(self) -> None:
        """What needs tokens needs somebody who verifies them."""
        self.assert_limit(
            {
                **BUCKET,
                "per": ["ip", "identity", "claim:tenant"],
                "exempt": {"identities": "alice", "claims": {"a": "b"}},
                "plans": {"values": {"gold": {"capacity": 20}}},
                "overrides": {
                    "alice": {"capacity": 20},
                    "ip:192.0.2.7": {"capacity": 20},
                    "x-tenant:acme": {"capacity": 20},
                },
            },
            f".per[1]: {NO_TOKENS}",
            f".per[2]: {NO_TOKENS}",
            f".exempt.identities: {NO_TOKENS}",
            f".exempt.claims: {NO_TOKENS}",
            f".plans: {NO_TOKENS}",
            f".overrides.alice: {NO_TOKENS}; allowed: keys such as ip:192.0.2.7",
            '.overrides."x-tenant:acme": nothing is counted so; '
            "allowed: a key of ip, service, route, tenant, as no token is verified (auth.jwt)",
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
            {
                **BUCKET,
                "per": ["ip", "header:X-Tenant"],
                "overrides": {
                    "X-Tenant:acme": {"capacity": 3},
                    "x-tenant:acme": {"capacity": 3},
                    "X-Other:acme": {"capacity": 3},
                },
            },
            '.overrides."X-Tenant:acme": the name of a header is counted in lower case; '
            "allowed: x-tenant:acme",
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
        self.assert_limit(
            {**BUCKET, "adaptive_threshold": 0.5, "adaptive": {"cpu": 0.7}},
            ".adaptive_threshold: found adaptive_threshold and adaptive.cpu; "
            "allowed: one of them, as they are the same",
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
