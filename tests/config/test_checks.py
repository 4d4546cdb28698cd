"""Health checks of instances and of other things: what is asked, and what is expected."""

from __future__ import annotations

from typing import Any

from rtgateway.config import DependencyCheck, HealthCheck, from_dict
from tests.config.case import ConfigTestCase


def mapping(health: Any) -> dict[str, Any]:
    """A configuration of a service with these checks."""
    return {"services": {"s": {"instances": "http://a", "health": health}}}


class Instances(ConfigTestCase):
    """``services.<name>.health``."""

    def check(self, health: Any) -> HealthCheck | None:
        """The check of the service."""
        return from_dict(mapping(health)).services["s"].health

    def test_shorthands(self) -> None:
        """Nothing is checked unless asked for; then a path is enough, or nothing but yes."""
        self.assertIsNone(self.check(None))
        self.assertEqual(self.check("/healthz?full=1"), HealthCheck(path="/healthz?full=1"))
        self.assertEqual(self.check({}), HealthCheck())
        self.assertEqual(self.check(True), HealthCheck())
        self.assertEqual(self.check({"tcp": True, "port": 9000}), HealthCheck(tcp=True, port=9000))

    def test_paths(self) -> None:
        """What can't be asked for is no path."""
        for path in ("health", "", "/a b", "/a#b", "/é", "/%zz", "http://a/", "off"):
            (problem,) = self.problems(mapping({"path": path}))
            self.assertEqual(
                problem,
                f'services.s.health.path: found "{path}"; allowed: a path such as /health',
            )
        (problem,) = self.problems(mapping("healthz"))
        self.assertIn('services.s.health.path: found "healthz"', problem)

    def test_statuses(self) -> None:
        """Statuses are numbers or classes, one or several."""
        for given, statuses in (
            (204, ("204",)),
            ("2XX, 301", ("2xx", "301")),
            ([200, "4xx"], ("200", "4xx")),
        ):
            check = self.check({"statuses": given})
            assert check is not None
            self.assertEqual(check.statuses, statuses)
        for wrong in (199, 600, "6xx", "ok", 1.5, True):
            (problem,) = self.problems(mapping({"statuses": [wrong]}))
            self.assertTrue(problem.startswith("services.s.health.statuses[0]: found "), problem)
            self.assertIn("allowed: a status from 200 to 599, or a class such as 2xx", problem)
        (problem,) = self.problems(mapping({"statuses": []}))
        self.assertTrue(problem.endswith("a class such as 2xx, at least one"), problem)

    def test_body(self) -> None:
        """A body is looked into only where there is one."""
        self.assert_problem(
            mapping({"tcp": True, "body": "ok"}),
            "services.s.health.body: a TCP check has no answer; allowed: body only without tcp",
        )
        self.assert_problem(
            mapping({"method": "HEAD", "body": "ok"}),
            "services.s.health.body: the answer to HEAD has no body; allowed: body only with GET",
        )
        self.assert_problem(
            mapping({"body": ""}),
            'services.s.health.body: found ""; allowed: text of at most 1024 characters',
        )

    def test_headers(self) -> None:
        """Fields are sent as they are: a name, a value on one line, and no framing."""
        check = self.check({"headers": {"Host": "a.example", "X-Number": 5}})
        assert check is not None
        self.assertEqual(check.headers, {"Host": "a.example", "X-Number": "5"})
        self.assert_problem(
            mapping({"headers": {"a b": "x", "Content-Length": "1", "X": "1\r\nY: 2"}}),
            'services.s.health.headers."a b": found the name "a b"; '
            "allowed: names of fields that are not framing",
            'services.s.health.headers.Content-Length: found the name "Content-Length"; '
            "allowed: names of fields that are not framing",
            "services.s.health.headers.X: found text with control characters; "
            "allowed: text on one line",
        )

    def test_headers_are_not_shown(self) -> None:
        """A field may be a password: neither problems nor the configuration's text repeat it."""
        for wrong in ({"X": ["hunter2"]}, {"X": {"hunter2": 1}}, {"X": "hunter2\n"}, "hunter2"):
            self.assertNotIn("hunter2", "\n".join(self.problems(mapping({"headers": wrong}))))
        (problem,) = self.problems(mapping({"headers": {"X": 1.5}}))
        self.assertEqual(
            problem, "services.s.health.headers.X: found something else; allowed: text"
        )
        config = from_dict(mapping({"headers": {"Authorization": "hunter2"}}))
        self.assertNotIn("hunter2", repr(config))

    def test_bounds(self) -> None:
        """Numbers and times have bounds."""
        key = "services.s.health"
        self.assert_problem(
            mapping({"port": 0, "method": "POST", "interval": 0, "jitter": 2, "rise": 0}),
            f"{key}.port: found 0; allowed: a whole number from 1 to 65535",
            f'{key}.method: found "POST"; allowed: one of GET, HEAD',
            f"{key}.interval: found 0; "
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0, at most 24h",
            f"{key}.jitter: found 2; allowed: a number from 0 to 1",
            f"{key}.rise: found 0; allowed: a whole number from 1 to 1000",
        )


class Dependencies(ConfigTestCase):
    """``health_checks``."""

    def test_shorthands(self) -> None:
        """A URL says what to do, by its scheme."""
        checks = from_dict(
            {
                "health_checks": {
                    "redis": "tcp://127.0.0.1:6379",
                    "search": "https://a:9200/_cluster/health?local=true",
                    "queue": {"tcp": "[::1]:5672", "critical": True},
                }
            }
        ).health_checks
        self.assertEqual(checks["redis"], DependencyCheck(tcp="127.0.0.1:6379"))
        self.assertEqual(checks["redis"].address, ("127.0.0.1", 6379))
        self.assertEqual(checks["search"].url, "https://a:9200/_cluster/health?local=true")
        self.assertIsNone(checks["search"].address)
        self.assertEqual((checks["queue"].address, checks["queue"].critical), (("::1", 5672), True))
        self.assertEqual(checks["queue"].statuses, HealthCheck().statuses)

    def test_exactly_one(self) -> None:
        """One thing is checked at a time."""
        self.assert_problem(
            {"health_checks": {"a": {}, "b": {"url": "http://a", "tcp": "a:1"}}},
            "health_checks.a: found neither; allowed: either url or tcp",
            "health_checks.b: found url and tcp; allowed: either url or tcp",
        )

    def test_bad_urls(self) -> None:
        """What is not a URL is refused; passwords in it are not repeated."""
        for url in ("localhost", "ftp://a", "http://u:s3cret@a", "http://a/#x", "http://a?b c", ""):
            (problem,) = self.problems({"health_checks": {"a": url}})
            self.assertTrue(problem.startswith("health_checks.a.url: found "), problem)
            self.assertIn("allowed: a URL such as http://localhost:3001", problem)
            self.assertNotIn("s3cret", problem)

    def test_bad_addresses(self) -> None:
        """An address without a port can't be connected to."""
        for address in ("localhost", "a:0", "a:65536", "::1:5", "a b:1", "[::g]:1", ":1", ""):
            for given in (f"tcp://{address}", {"tcp": address}):
                (problem,) = self.problems({"health_checks": {"a": given}})
                self.assertTrue(problem.startswith("health_checks.a.tcp: found "), problem)
                self.assertIn("allowed: a host and port such as localhost:6379", problem)

    def test_names(self) -> None:
        """Names are as those of services."""
        self.assert_problem(
            {"health_checks": {"a b": "tcp://a:1"}},
            'health_checks."a b": found the name "a b"; '
            "allowed: names of 1 to 64 letters, digits and . _ ~ -",
        )

    def test_body_of_nothing(self) -> None:
        """Rules of checks hold here, too."""
        self.assert_problem(
            {"health_checks": {"a": {"tcp": "a:1", "body": "ok"}}},
            "health_checks.a.body: a TCP check has no answer; allowed: body only without tcp",
        )
