"""Circuit breakers, retries, outliers and limits: switches, conditions, windows, ranges."""

from __future__ import annotations

from typing import Any

from rtgateway.config import (
    Budget,
    CircuitBreaker,
    Concurrency,
    Config,
    Hedge,
    Outliers,
    Retry,
    Service,
    from_dict,
)
from tests.config.case import ConfigTestCase, TextTestCase


def mapping(**keys: Any) -> dict[str, Any]:
    """A configuration of one service with these keys."""
    return {"services": {"s": {"instances": "http://a", **keys}}}


def service(**keys: Any) -> Service:
    """The service."""
    return from_dict(mapping(**keys)).services["s"]


class Switches(ConfigTestCase):
    """What is turned on and off by a word."""

    def test_defaults(self) -> None:
        """Without a word, breakers, retries with a budget and outliers are on; the rest is off."""
        plain = service()
        self.assertEqual(plain.circuit_breaker, CircuitBreaker())
        self.assertEqual(plain.retry, Retry())
        self.assertEqual(plain.outliers, Outliers())
        self.assertEqual(plain.concurrency, Concurrency())
        self.assertTrue(plain.circuit_breaker.enabled)
        self.assertTrue(plain.outliers.enabled)
        self.assertTrue(plain.retry.budget.enabled)
        self.assertFalse(plain.retry.hedge.enabled)
        self.assertIsNone(plain.service_breaker)
        self.assertIsNone(plain.health)
        self.assertFalse(plain.critical)
        self.assertEqual((plain.concurrency.limit, plain.concurrency.per_instance), (0, 0))
        self.assertEqual(Config().timeouts.request, 0)
        self.assertIsNone(plain.timeouts.request)

    def test_off(self) -> None:
        """``off`` and false turn a section off; text, too, as it comes from the environment."""
        for off in ("off", False, "false", " OFF "):
            found = service(circuit_breaker=off, outliers=off, retry=off)
            self.assertEqual(found.circuit_breaker, CircuitBreaker(enabled=False))
            self.assertEqual(found.outliers, Outliers(enabled=False))
            self.assertEqual(found.retry, Retry(attempts=1))
        retry = service(retry={"budget": "off", "hedge": "off"}).retry
        self.assertEqual((retry.budget, retry.hedge), (Budget(enabled=False), Hedge()))

    def test_on(self) -> None:
        """``on`` and true mean the defaults."""
        spellings: tuple[Any, ...] = ("on", True, "true", {})
        for on in spellings:
            found = service(circuit_breaker=on, service_breaker=on, retry=on, outliers=on)
            self.assertEqual(found, service(service_breaker=CircuitBreaker()))
        self.assertTrue(service(retry={"hedge": "on"}).retry.hedge.enabled)

    def test_shared(self) -> None:
        """``shared`` is a breaker like any other, that gateways have in common."""
        for shared in ("shared", " Shared ", {"shared": True}, {"shared": "true"}):
            found = service(circuit_breaker=shared, service_breaker=shared)
            self.assertEqual(found.circuit_breaker, CircuitBreaker(shared=True))
            self.assertEqual(found.service_breaker, CircuitBreaker(shared=True))
        self.assertFalse(service(circuit_breaker="on").circuit_breaker.shared)

    def test_neither(self) -> None:
        """Another word is told with the keys that there are."""
        for key in ("circuit_breaker", "service_breaker", "outliers", "retry", "concurrency"):
            (problem,) = self.problems(mapping(**{key: "maybe"}))
            self.assertTrue(problem.startswith(f"services.s.{key}: found text; "), problem)
            switch = "on, off"
            if key in ("circuit_breaker", "service_breaker"):
                switch += ", shared"
            words = "" if key == "concurrency" else f"{switch} or "
            self.assertIn(f"allowed: {words}a mapping with ", problem)

    def test_on_a_route(self) -> None:
        """A route has its own retries, or its service's."""
        routes = [
            {"path": "/a", "service": "s", "retry": "off"},
            {"path": "/b", "service": "s", "retry": {"attempts": 2}, "timeouts": {"request": 0}},
            {"path": "/c", "service": "s", "proxy_headers": True},
        ]
        first, second, third = from_dict({**mapping(), "routes": routes}).routes
        self.assertEqual((first.retry, second.retry), (Retry(attempts=1), Retry(attempts=2)))
        self.assertEqual((third.retry, third.proxy_headers), (None, True))
        self.assertEqual((second.timeouts.request, third.timeouts.request), (0.0, None))


class OnAsAKey(TextTestCase):
    """The key ``on``, which is a boolean to YAML 1.1."""

    def test_yaml(self) -> None:
        """``on`` is a key like any other; so are ``off`` and numbers values like any others."""
        config = self.parse(
            """
            services:
              s:
                instances: http://a
                retry:
                  on: [503, connect, 5XX]
                circuit_breaker: off
                service_breaker: on
            """
        )
        found = config.services["s"]
        self.assertEqual(found.retry.on, ("503", "connect", "5xx"))
        self.assertFalse(found.circuit_breaker.enabled)
        self.assertEqual(found.service_breaker, CircuitBreaker())

    def test_lines(self) -> None:
        """What is wrong below ``on`` has its line."""
        self.assert_problems(
            """
            services:
              s:
                instances: http://a
                retry:
                  max_delay: 1s
                  on:
                    - 200
                  base_delay: 2s
            """,
            "gateway:7: services.s.retry.on[0]: found 200; allowed: one of connect, reset, "
            "timeout, invalid, a status from 400 to 599, 4xx or 5xx",
        )

    def test_other_loaders(self) -> None:
        """A mapping from a YAML 1.1 loader, with true for ``on``, means the same."""
        retry: dict[Any, Any] = {True: [503], "attempts": 2}
        self.assertEqual(service(retry=retry).retry, Retry(on=("503",), attempts=2))


class Conditions(ConfigTestCase):
    """What counts as a failure, and what is tried again."""

    def test_spellings(self) -> None:
        """Numbers, text, lists and commas mean the same."""
        for given in ((503, "connect"), ["503", "CONNECT"], "503, connect"):
            self.assertEqual(service(retry={"on": given}).retry.on, ("503", "connect"))
            breaker = service(circuit_breaker={"failure_on": given}).circuit_breaker
            self.assertEqual(breaker.failure_on, ("503", "connect"))
        self.assertEqual(service(retry={"on": 503}).retry.on, ("503",))
        self.assertEqual(service(retry={"on": []}).retry.on, ())

    def test_a_clients_mistake(self) -> None:
        """No instance is blamed for what its client did wrong; for refusing too many, it may be."""
        breaker = service(circuit_breaker={"failure_on": [429, "5xx"]}).circuit_breaker
        self.assertEqual(breaker.failure_on, ("429", "5xx"))
        words = "allowed: one of connect, reset, timeout, invalid, 429, a status from 500 to 599"
        for wrong in (404, "4xx", 499, "client", True, 600, 10**9, -1, 5.0, ""):
            (problem,) = self.problems(mapping(circuit_breaker={"failure_on": [wrong]}))
            self.assertTrue(
                problem.startswith("services.s.circuit_breaker.failure_on[0]: found "), problem
            )
            self.assertTrue(problem.endswith(f"; {words}, or 5xx"), problem)

    def test_retried(self) -> None:
        """Answers that are fine are never asked for again."""
        self.assertEqual(service(retry={"on": "4xx,429,599"}).retry.on, ("4xx", "429", "599"))
        for wrong in (200, "2xx", 302, 600, "error", None, [503]):
            (problem,) = self.problems(mapping(retry={"on": [wrong]}))
            self.assertIn("allowed: one of connect, reset, timeout, invalid, a status", problem)
        (problem,) = self.problems(mapping(retry={"on": {"status": 503}}))
        self.assertTrue(problem.startswith("services.s.retry.on: found a mapping; "), problem)

    def test_methods(self) -> None:
        """Methods are written as everywhere."""
        self.assertEqual(service(retry={"methods": "GET,POST"}).retry.methods, ("GET", "POST"))
        self.assert_problem(
            mapping(retry={"methods": ["get"]}),
            'services.s.retry.methods[0]: found "get"; '
            "allowed: a method in capitals such as GET or POST",
        )


class Breakers(ConfigTestCase):
    """Windows and thresholds."""

    def test_window(self) -> None:
        """A number is calls, a duration is time."""
        for given, calls, seconds in (
            (100, 100, 0.0),
            ("50", 50, 0.0),
            (10_000, 10_000, 0.0),
            ("30s", 0, 30.0),
            ("1500 ms", 0, 1.5),
            (" 1h ", 0, 3600.0),
        ):
            breaker = service(circuit_breaker={"window_size": given}).circuit_breaker
            self.assertEqual((breaker.window_calls, breaker.window_seconds), (calls, seconds))
            self.assertEqual(CircuitBreaker.model_validate(breaker.model_dump()), breaker)

    def test_bad_windows(self) -> None:
        """What is neither, or too long, is refused."""
        for wrong, shown in (
            (0, "0"),
            (10_001, "10001"),
            ("10001", '"10001"'),
            ("999ms", '"999ms"'),
            ("2h", '"2h"'),
            (1.5, "1.5"),
            (True, "true"),
            ("", '""'),
            ("many", '"many"'),
            ("-5", '"-5"'),
            ([5], "a list"),
        ):
            self.assert_problem(
                mapping(circuit_breaker={"window_size": wrong}),
                f"services.s.circuit_breaker.window_size: found {shown}; "
                "allowed: calls from 1 to 10000, or a duration from 1s to 1h such as 30s",
            )

    def test_thresholds(self) -> None:
        """Closing may need more successes than there are probes at once; each has its bounds."""
        breaker = service(circuit_breaker={"success_threshold": 5}).circuit_breaker
        self.assertEqual((breaker.success_threshold, breaker.half_open_calls), (5, 1))
        key = "services.s.circuit_breaker"
        self.assert_problem(
            mapping(
                circuit_breaker={
                    "failure_threshold": -1,
                    "success_threshold": 0,
                    "timeout_factor": 0.5,
                    "jitter": 2,
                    "minimum_calls": 0,
                    "failure_rate_threshold": "50%",
                    "half_open_calls": 0,
                    "enabled": 5,
                }
            ),
            f"{key}.enabled: found 5; allowed: true or false",
            f"{key}.failure_threshold: found -1; allowed: a whole number from 0 to 1000000",
            f"{key}.success_threshold: found 0; allowed: a whole number from 1 to 1000000",
            f"{key}.timeout_factor: found 0.5; allowed: a number from 1 to 100",
            f"{key}.jitter: found 2; allowed: a number from 0 to 1",
            f"{key}.minimum_calls: found 0; allowed: a whole number from 1 to 1000000",
            f'{key}.failure_rate_threshold: found "50%"; allowed: a number from 0 to 1',
            f"{key}.half_open_calls: found 0; allowed: a whole number from 1 to 1000",
        )

    def test_unknown_key(self) -> None:
        """A misspelled key is told with the nearest one."""
        self.assert_problem(
            mapping(circuit_breaker={"failures_threshold": 5}),
            'services.s.circuit_breaker: unknown key "failures_threshold"; '
            'did you mean "failure_threshold"?',
        )


class Ranges(ConfigTestCase):
    """Two keys that are the ends of a range."""

    def test_order(self) -> None:
        """The lower end is not above the upper one, be that written or a default."""
        found, allowed = "found 10m; allowed: at most", "which is 5m"
        self.assert_problem(
            mapping(
                circuit_breaker={"timeout": "10m"},
                service_breaker={"timeout": "10m", "max_timeout": "5m"},
                outliers={"base_ejection": "10m"},
                retry={"base_delay": "2s", "hedge": {"min_delay": "3s", "max_delay": "2500ms"}},
                concurrency={"min_limit": 5, "max_limit": 4},
            ),
            "services.s.retry.hedge.min_delay: found 3s; allowed: at most max_delay, "
            "which is 2500ms",
            f"services.s.circuit_breaker.timeout: {found} max_timeout, {allowed}",
            f"services.s.service_breaker.timeout: {found} max_timeout, {allowed}",
            f"services.s.outliers.base_ejection: {found} max_ejection, {allowed}",
            "services.s.concurrency.min_limit: found 5; allowed: at most max_limit, which is 4",
        )
        self.assert_problem(
            mapping(retry={"base_delay": "2s"}),
            "services.s.retry.base_delay: found 2s; allowed: at most max_delay, which is 1s",
        )

    def test_equal(self) -> None:
        """Both ends may be the same."""
        breaker = service(circuit_breaker={"timeout": 300}).circuit_breaker
        self.assertEqual(breaker.timeout, breaker.max_timeout)

    def test_huge(self) -> None:
        """Numbers that no range can have are told as such, once."""
        self.assert_problem(
            mapping(retry={"base_delay": 10**400, "max_delay": 5, "factor": 10**400}),
            "services.s.retry.base_delay: found a huge number; "
            "allowed: a duration such as 250ms, 30s, 5m or 1h, at most 1h",
            "services.s.retry.factor: found a huge number; allowed: a number from 1 to 100",
        )

    def test_bounds(self) -> None:
        """Numbers, sizes and times have bounds."""
        self.assert_problem(
            mapping(
                retry={
                    "attempts": 0,
                    "body_limit": "17MiB",
                    "factor": True,
                    "budget": {"ratio": 1.1, "per_second": -3},
                    "hedge": {"quantile": 1},
                },
                outliers={"deviations": -0.1, "margin": 3, "minimum_calls": 0},
                concurrency={"queue": -1, "queue_timeout": 0, "min_limit": 0},
            ),
            "services.s.retry.attempts: found 0; allowed: a whole number from 1 to 20",
            "services.s.retry.factor: found true; allowed: a number from 1 to 100",
            'services.s.retry.body_limit: found "17MiB"; '
            "allowed: a size such as 512, 64KiB or 10MiB, at most 16MiB",
            "services.s.retry.budget.ratio: found 1.1; allowed: a number from 0 to 1",
            "services.s.retry.budget.per_second: found -3; allowed: a number from 0 to 1000000",
            "services.s.retry.hedge.quantile: found 1; allowed: a number from 0.5 to 0.999",
            "services.s.outliers.minimum_calls: found 0; allowed: a whole number from 1 to 1000000",
            "services.s.outliers.deviations: found -0.1; allowed: a number from 0 to 100",
            "services.s.outliers.margin: found 3; allowed: a number from 0 to 1",
            "services.s.concurrency.queue: found -1; allowed: a whole number from 0 to 1000000",
            "services.s.concurrency.queue_timeout: found 0; "
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0, at most 1h",
            "services.s.concurrency.min_limit: found 0; allowed: a whole number from 1 to 1000000",
        )

    def test_numbers_as_text(self) -> None:
        """Numbers may be text, which is all that the environment has."""
        found = service(retry={"factor": " 1.5 ", "attempts": "2", "budget": {"ratio": "0.1"}})
        self.assertEqual((found.retry.factor, found.retry.attempts), (1.5, 2))
        self.assertEqual(found.retry.budget.ratio, 0.1)
