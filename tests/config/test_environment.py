"""Configuration by environment variables alone."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import (
    CircuitBreaker,
    Config,
    ConfigError,
    Numbers,
    Per,
    State,
    from_environment,
)

SECRET = "correct horse battery staple, twice"


class EnvironmentDialect(SynchronousTestCase):
    """The variables of the Real-Time API Gateway."""

    def assert_problems(self, env: dict[str, str], *expected: str) -> None:
        """``env`` has exactly the ``expected`` problems."""
        with self.assertRaises(ConfigError) as caught:
            from_environment(env)
        found = [str(item).removeprefix("environment: ") for item in caught.exception.problems]
        self.assertEqual(found, list(expected))

    def test_defaults(self) -> None:
        """Nothing set: port 8080, no services, no authentication, bodies up to 1 MiB."""
        config = from_environment({})
        self.assertEqual(config.listeners, Config().listeners)
        self.assertEqual(config.services, {})
        self.assertFalse(config.auth.required)
        self.assertEqual(config.limits.body, 1 << 20)
        self.assertEqual((config.timeouts.connect, config.timeouts.first_byte), (5.0, 30.0))
        self.assertEqual(config.environment, "development")
        self.assertFalse(config.admin.open)
        self.assertEqual((config.rate_limits, config.state), ({}, State()))

    def test_everything(self) -> None:
        """Every variable has its effect."""
        config = from_environment(
            {
                "UPSTREAMS": '{"users":["http://localhost:3001","http://localhost:3002/base"]}',
                "HOST": "::1",
                "PORT": "9000",
                "NODE_ENV": "test",
                "LOG_LEVEL": "silent",
                "AUTH_REQUIRED": "Yes",
                "JWT_SECRET": SECRET,
                "HTTP_PROXY_TIMEOUT_MS": "1500",
                "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0",
                "UNDER_PRESSURE_MAX_RSS_BYTES": "1000000",
                "WS_MAX_BUFFERED_BYTES": "65536",
                "WS_PING_INTERVAL_MS": "2500",
                "CACHE_ENABLED": "not looked at",
            }
        )
        self.assertEqual(config.listeners[0].address, ("::1", 9000))
        self.assertEqual(config.services["users"].instances[1].base_path, "/base")
        self.assertEqual((config.environment, config.log_level), ("test", "silent"))
        assert config.auth.jwt is not None
        self.assertEqual((config.auth.required, config.auth.jwt.key), (True, SECRET.encode()))
        timeouts = config.timeouts
        self.assertEqual(
            (timeouts.connect, timeouts.first_byte, timeouts.between_bytes), (1.5, 1.5, 1.5)
        )
        self.assertEqual(config.pressure.max_event_loop_delay, 0)
        self.assertEqual(config.pressure.max_rss, 1_000_000)
        websocket = config.websocket
        self.assertEqual((websocket.max_buffered, websocket.ping_interval), (65536, 2.5))

    def test_websocket(self) -> None:
        """Nothing set is as everywhere; pings can be turned off; ``ws`` is ``http``."""
        self.assertEqual(from_environment({}).websocket, Config().websocket)
        config = from_environment(
            {"WS_PING_INTERVAL_MS": "0", "UPSTREAMS": '{"chat":["ws://a:81","WSS://b/x"]}'}
        )
        self.assertEqual(config.websocket.ping_interval, 0)
        labels = [instance.label for instance in config.services["chat"].instances]
        self.assertEqual(labels, ["http://a:81", "https://b/x"])

    def test_rate_limits(self) -> None:
        """Off unless one of a pair is set; the other one has its default then."""
        window = Numbers("fixed_window", limit=200, window=60.0)
        bucket = Numbers("token_bucket", capacity=100, refill_rate=10.0)
        cases: tuple[tuple[dict[str, str], dict[str, Numbers]], ...] = (
            ({}, {}),
            ({"RATE_LIMIT_MAX": "", "RATE_LIMIT_CAPACITY": ""}, {}),
            ({"RATE_LIMIT_MAX": "5"}, {"rate_limit_max": window._replace(limit=5)}),
            ({"RATE_LIMIT_WINDOW_MS": "1500"}, {"rate_limit_max": window._replace(window=1.5)}),
            (
                {"RATE_LIMIT_MAX": "7", "RATE_LIMIT_WINDOW_MS": "100"},
                {"rate_limit_max": window._replace(limit=7, window=0.1)},
            ),
            (
                {"RATE_LIMIT_CAPACITY": "1000"},
                {"rate_limit_capacity": bucket._replace(capacity=1000)},
            ),
            (
                {"RATE_LIMIT_REFILL_RATE": "0.5"},
                {"rate_limit_capacity": bucket._replace(refill_rate=0.5)},
            ),
            (
                {"RATE_LIMIT_MAX": "200", "RATE_LIMIT_CAPACITY": "100"},
                {"rate_limit_max": window, "rate_limit_capacity": bucket},
            ),
        )
        for env, limits in cases:
            config = from_environment(env)
            found = {name: each.numbers for name, each in config.rate_limits.items()}
            self.assertEqual(found, limits, env)
            for each in config.rate_limits.values():
                self.assertEqual(each.per, (Per("ip"),))
                self.assertEqual(
                    (each.services, each.routes, each.on_store_failure), ((), (), "local")
                )

    def test_redis(self) -> None:
        """REDIS_URL goes before REDIS_HOST; what the URL does not say may be said besides."""
        cases: tuple[tuple[dict[str, str], str, bytes], ...] = (
            ({"REDIS_HOST": "redis"}, "redis://redis:6379/0", b""),
            ({"REDIS_HOST": "::1", "REDIS_PORT": "7"}, "redis://[::1]:7/0", b""),
            ({"REDIS_HOST": "[::1]"}, "redis://[::1]:6379/0", b""),
            (
                {"REDIS_HOST": "10.0.0.7", "REDIS_PASSWORD": "a/b@c", "REDIS_DB": "3"},
                "redis://10.0.0.7:6379/3",
                b"a/b@c",
            ),
            ({"REDIS_URL": "rediss://u:p@a/1", "REDIS_HOST": "b"}, "rediss://a:6379/1", b"p"),
            (
                {"REDIS_URL": "redis://a", "REDIS_PASSWORD": "p", "REDIS_DB": "2"},
                "redis://a:6379/2",
                b"p",
            ),
            (
                {"REDIS_URL": "redis://:p@a/1", "REDIS_PASSWORD": "q", "REDIS_DB": "2"},
                "redis://a:6379/1",
                b"p",
            ),
            ({"REDIS_URL": "unix:///run/redis.sock"}, "unix:///run/redis.sock?db=0", b""),
            ({"REDIS_URL": "", "REDIS_HOST": "", "REDIS_PASSWORD": ""}, "memory", b""),
            ({"REDIS_URL": "memory", "REDIS_PORT": "6379"}, "memory", b""),
        )
        for env, label, key in cases:
            state = from_environment(env).state
            self.assertEqual((state.label, state.key), (label, key), env)
            self.assertEqual(state.shared, label != "memory")

    def test_wrong_redis(self) -> None:
        """What is wrong is told by variable, and passwords are not."""
        words = "allowed: memory, or a URL such as redis://localhost:6379/0"
        self.assert_problems(
            {"REDIS_URL": "redis://:hunter/2@a"},
            f"REDIS_URL: a / ? # or @ in a password is percent-encoded; {words}",
        )
        self.assert_problems(
            {"REDIS_HOST": "a b", "REDIS_PORT": "0", "REDIS_DB": "x", "REDIS_PASSWORD": "hunter2"},
            'REDIS_PORT: found "0"; allowed: a whole number from 1 to 65535',
            'REDIS_HOST: found "a b"; allowed: a host name or an address such as redis or 10.0.0.7',
            'REDIS_DB: found "x"; allowed: a whole number from 0 to 9999',
        )
        self.assert_problems(
            {"REDIS_PORT": "6379", "REDIS_PASSWORD": "hunter2", "REDIS_DB": "0"},
            *(
                f"{name}: no Redis at all; allowed: REDIS_HOST or REDIS_URL"
                for name in ("REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB")
            ),
        )

    def test_circuits(self) -> None:
        """CIRCUIT_BREAKER_* are for every service; the others are as without."""
        upstreams = {"UPSTREAMS": '{"a":["http://a"],"b":["http://b"]}'}
        plain = CircuitBreaker()
        cases: tuple[tuple[dict[str, str], CircuitBreaker], ...] = (
            ({}, plain),
            ({"CIRCUIT_BREAKER_FAILURE_THRESHOLD": ""}, plain),
            ({"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3"}, CircuitBreaker(failure_threshold=3)),
            ({"CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "0.5"}, CircuitBreaker(timeout=0.5)),
            (
                {"CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "600"},
                CircuitBreaker(timeout=600, max_timeout=600),
            ),
            (
                {"CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD": "4"},
                CircuitBreaker(success_threshold=4),
            ),
        )
        for env, breaker in cases:
            services = from_environment({**upstreams, **env}).services
            for service in services.values():
                self.assertEqual(service.circuit_breaker, breaker, env)

    def test_shared_circuits(self) -> None:
        """With a Redis they are shared, where they are asked for at all."""
        upstreams = {"UPSTREAMS": '{"a":["http://a"]}'}
        asked = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3"}
        redis = {"REDIS_HOST": "redis"}
        for env, shared in (
            (asked, False),
            (redis, False),
            (redis | asked, True),
            ({"REDIS_URL": "memory"} | asked, False),
        ):
            service = from_environment(upstreams | env).services["a"]
            self.assertEqual(service.circuit_breaker.shared, shared, env)

    def test_booleans(self) -> None:
        """The usual spellings of true and false, in any case."""
        for text, required in (
            *((text, True) for text in ("true", "1", "yes", "y", "on", "TRUE")),
            *((text, False) for text in ("false", "0", "no", "n", "off", "Off", "")),
        ):
            config = from_environment({"AUTH_REQUIRED": text, "JWT_SECRET": SECRET})
            self.assertEqual(config.auth.required, required, text)

    def test_secret_required(self) -> None:
        """Authentication needs its secret; in production it is on by default."""
        message = "JWT_SECRET is required when AUTH_REQUIRED is true"
        self.assert_problems({"AUTH_REQUIRED": "true"}, message)
        self.assert_problems({"NODE_ENV": "production"}, message)
        self.assert_problems({"NODE_ENV": "production", "JWT_SECRET": ""}, message)
        open_production = {"NODE_ENV": "production", "AUTH_REQUIRED": "false"}
        self.assertFalse(from_environment(open_production).auth.required)
        production = {"NODE_ENV": "production", "JWT_SECRET": SECRET}
        self.assertTrue(from_environment(production).auth.required)

    def test_short_secret(self) -> None:
        """A short secret is refused, without being shown."""
        self.assert_problems(
            {"JWT_SECRET": "hunter2"},
            "JWT_SECRET: found a secret of 7 characters; "
            "allowed: a secret of at least 32 characters",
        )

    def test_json(self) -> None:
        """UPSTREAMS is JSON, and an object."""
        self.assert_problems({"UPSTREAMS": "{users"}, "UPSTREAMS must be valid JSON")
        self.assert_problems({"UPSTREAMS": "[" * 100_000}, "UPSTREAMS must be valid JSON")
        self.assert_problems(
            {"UPSTREAMS": "[]"},
            'UPSTREAMS: found "[]"; allowed: an object such as {"users": ["http://localhost:3001"]}',
        )

    def test_upstreams(self) -> None:
        """Each service has at least one URL; problems name the variable and the place in it."""
        self.assert_problems(
            {
                "UPSTREAMS": '{"a":[],"b":"http://b","c":["http://c",5,"ftp://c"],'
                '"d":["http://u:hunter2@d"],"e/e":["http://e"]}'
            },
            "UPSTREAMS.a: found an empty list; allowed: a list of URLs, at least one",
            'UPSTREAMS.b: found "http://b"; allowed: a list of URLs, at least one',
            "UPSTREAMS.c[1]: found 5; allowed: a URL such as http://localhost:3001",
            'UPSTREAMS.c[2]: found "ftp://c"; allowed: a URL such as http://localhost:3001',
            'UPSTREAMS.d[0]: found "http://***@d"; '
            "allowed: a URL such as http://localhost:3001, without a user name and password",
            'UPSTREAMS."e/e": found the name "e/e"; '
            "allowed: names of 1 to 64 letters, digits and . _ ~ -",
        )

    def test_all_at_once(self) -> None:
        """Every wrong variable is told in one go."""
        self.assert_problems(
            {
                "NODE_ENV": "staging",
                "HTTP_PROXY_TIMEOUT_MS": "0",
                "PORT": "http",
                "HOST": "a b",
                "AUTH_REQUIRED": "maybe",
                "LOG_LEVEL": "loud",
                "UNDER_PRESSURE_MAX_RSS_BYTES": "-1",
                "WS_MAX_BUFFERED_BYTES": "100",
                "WS_PING_INTERVAL_MS": "30s",
                "RATE_LIMIT_MAX": "0",
                "RATE_LIMIT_WINDOW_MS": "1m",
                "RATE_LIMIT_CAPACITY": "-1",
                "RATE_LIMIT_REFILL_RATE": "0",
                "REDIS_DB": "0x1",
                "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "0",
                "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "30s",
                "CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD": "x",
                "UPSTREAMS": '{"a":["b"]}',
            },
            'NODE_ENV: found "staging"; allowed: one of development, test, production',
            'HTTP_PROXY_TIMEOUT_MS: found "0"; allowed: a whole number from 1 to 86400000',
            'REDIS_DB: found "0x1"; allowed: a whole number from 0 to 9999',
            "REDIS_DB: no Redis at all; allowed: REDIS_HOST or REDIS_URL",
            'PORT: found "http"; allowed: a whole number from 0 to 65535',
            'HOST: found "a b"; allowed: an address such as 0.0.0.0 or ::1',
            'CIRCUIT_BREAKER_FAILURE_THRESHOLD: found "0"; '
            "allowed: a whole number from 1 to 1000000",
            'CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS: found "30s"; '
            "allowed: a number above 0, at most 86400",
            'CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD: found "x"; '
            "allowed: a whole number from 1 to 1000000",
            'AUTH_REQUIRED: found "maybe"; '
            "allowed: one of true, 1, yes, y, on, false, 0, no, n, off",
            'LOG_LEVEL: found "loud"; '
            "allowed: one of fatal, error, warn, info, debug, trace, silent",
            'UNDER_PRESSURE_MAX_RSS_BYTES: found "-1"; '
            "allowed: a whole number from 0 to 1099511627776",
            'WS_MAX_BUFFERED_BYTES: found "100"; '
            "allowed: a whole number from 16384 to 1099511627776",
            'WS_PING_INTERVAL_MS: found "30s"; allowed: a whole number from 0 to 86400000',
            'RATE_LIMIT_MAX: found "0"; allowed: a whole number from 1 to 1000000000',
            'RATE_LIMIT_WINDOW_MS: found "1m"; allowed: a whole number from 1 to 86400000',
            'RATE_LIMIT_CAPACITY: found "-1"; allowed: a whole number from 1 to 1000000000',
            'RATE_LIMIT_REFILL_RATE: found "0"; allowed: a number above 0, at most 1000000',
            'UPSTREAMS.a[0]: found "b"; allowed: a URL such as http://localhost:3001',
        )
