"""Configuration by environment variables alone."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Config, ConfigError, from_environment

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
                "RATE_LIMIT_MAX": "not looked at",
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
                "UPSTREAMS": '{"a":["b"]}',
            },
            'NODE_ENV: found "staging"; allowed: one of development, test, production',
            'HTTP_PROXY_TIMEOUT_MS: found "0"; allowed: a whole number from 1 to 86400000',
            'PORT: found "http"; allowed: a whole number from 0 to 65535',
            'HOST: found "a b"; allowed: an address such as 0.0.0.0 or ::1',
            'AUTH_REQUIRED: found "maybe"; '
            "allowed: one of true, 1, yes, y, on, false, 0, no, n, off",
            'LOG_LEVEL: found "loud"; '
            "allowed: one of fatal, error, warn, info, debug, trace, silent",
            'UNDER_PRESSURE_MAX_RSS_BYTES: found "-1"; '
            "allowed: a whole number from 0 to 1099511627776",
            'WS_MAX_BUFFERED_BYTES: found "100"; '
            "allowed: a whole number from 16384 to 1099511627776",
            'WS_PING_INTERVAL_MS: found "30s"; allowed: a whole number from 0 to 86400000',
            'UPSTREAMS.a[0]: found "b"; allowed: a URL such as http://localhost:3001',
        )
