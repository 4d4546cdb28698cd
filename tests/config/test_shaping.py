"""Splits, mirrors and faults on routes."""

from __future__ import annotations

from typing import Any

from rtgateway.config import Faults, Mirror, Route, Split, SplitTo, from_dict
from tests.config.case import ConfigTestCase, TextTestCase

SERVICES = {name: f"http://{name}" for name in ("users", "canary", "shadow")}


def mapping(**keys: Any) -> dict[str, Any]:
    """A configuration with one route to ``users``."""
    return {"services": SERVICES, "routes": [{"path": "/", "service": "users", **keys}]}


def route(**keys: Any) -> Route:
    """The route."""
    return from_dict(mapping(**keys)).routes[0]


def split(*targets: tuple[str, float], **keys: Any) -> dict[str, Any]:
    """A configuration with a split."""
    to = [{"service": service, "share": share} for service, share in targets]
    return mapping(split={"to": to, **keys})


class Splits(ConfigTestCase):
    """``routes[].split``."""

    def test_shares(self) -> None:
        """Shares add up to everything at most; a share of nothing is for header and cookie."""
        found = from_dict(split(("canary", 0.05), ("shadow", 0), header="x-variant")).routes[0]
        self.assertEqual(
            found.split,
            Split(
                to=(SplitTo(service="canary", share=0.05), SplitTo(service="shadow", share=0)),
                header="x-variant",
            ),
        )
        tenths = Split(to=tuple(SplitTo(service=f"s{n}", share=0.1) for n in range(10)))
        self.assertEqual(len(tenths.to), 10)
        self.assert_problem(
            split(("canary", 0.7), ("shadow", 0.4)),
            "routes[0].split.to: found shares of 1.1 together; allowed: at most 1",
        )

    def test_services(self) -> None:
        """Each service is there, is another one than the route's own, and is there once."""
        self.assert_problem(
            split(("canari", 0.1), ("users", 0.1)),
            'routes[0].split.to[0].service: found "canari"; '
            "allowed: a name under services: canary, users, shadow",
            'routes[0].split.to[1].service: the route\'s own service; found "users"; '
            "allowed: another service",
        )
        self.assert_problem(
            split(("canary", 0.1), ("canary", 0.1)),
            'routes[0].split.to[1].service: the service of to[0], too; found "canary"; '
            "allowed: each service once",
        )

    def test_incomplete(self) -> None:
        """A split without targets, or with half of one, is told."""
        self.assert_problem(
            mapping(split={}),
            "routes[0].split.to: is missing; allowed: a list of services with their shares",
        )
        self.assert_problem(
            mapping(split={"to": []}),
            "routes[0].split.to: found an empty list; "
            "allowed: a list of services with their shares, at least one",
        )
        self.assert_problem(
            mapping(split={"to": [{"service": "canary"}, {"service": "shadow", "share": 1.5}]}),
            "routes[0].split.to[0].share: is missing; allowed: a number from 0 to 1",
            "routes[0].split.to[1].share: found 1.5; allowed: a number from 0 to 1",
        )

    def test_names(self) -> None:
        """Fields and cookies have names that can be sent."""
        words = "allowed: a name of letters, digits and characters such as - and _"
        self.assert_problem(
            split(("canary", 0.1), header="x variant", cookie="a=b"),
            f'routes[0].split.header: found "x variant"; {words}',
            f'routes[0].split.cookie: found "a=b"; {words}',
        )


class Mirrors(ConfigTestCase):
    """``routes[].mirror``."""

    def test_defaults(self) -> None:
        """A service is enough; then everything is copied, within bounds."""
        found = route(mirror={"service": "shadow"}).mirror
        self.assertEqual(found, Mirror(service="shadow", share=1.0, body_limit=65536))

    def test_services(self) -> None:
        """The service is there, and is another one than the route's own."""
        self.assert_problem(
            mapping(mirror={"service": "users"}),
            'routes[0].mirror.service: the route\'s own service; found "users"; '
            "allowed: another service",
        )
        self.assert_problem(
            mapping(mirror={"service": "shade", "share": 2, "in_flight": 0}),
            "routes[0].mirror.share: found 2; allowed: a number from 0 to 1",
            "routes[0].mirror.in_flight: found 0; allowed: a whole number from 1 to 100000",
            'routes[0].mirror.service: found "shade"; '
            "allowed: a name under services: shadow, users, canary",
        )

    def test_unknown_twice(self) -> None:
        """The route's own service and the mirror's may both be missing: two problems, not three."""
        self.assert_problem(
            {"routes": [{"path": "/", "service": "a", "mirror": {"service": "b"}}]},
            'routes[0].service: found "a"; allowed: a name under services: none yet',
            'routes[0].mirror.service: found "b"; allowed: a name under services: none yet',
        )


class Drills(ConfigTestCase):
    """``routes[].faults``."""

    def test_faults(self) -> None:
        """Some requests wait, some fail, or those with a field only."""
        found = route(faults={"delay": "2s", "abort": "503", "abort_share": 0.1, "header": "x"})
        self.assertEqual(found.faults, Faults(delay=2.0, abort=503, abort_share=0.1, header="x"))
        self.assertEqual(Faults().abort, None)

    def test_bounds(self) -> None:
        """A fault is an error, and no request waits forever."""
        self.assert_problem(
            mapping(faults={"delay": "2h", "abort": 200, "delay_share": -1, "header": ""}),
            'routes[0].faults.delay: found "2h"; '
            "allowed: a duration such as 250ms, 30s, 5m or 1h, at most 1h",
            "routes[0].faults.delay_share: found -1; allowed: a number from 0 to 1",
            "routes[0].faults.abort: found 200; allowed: a whole number from 400 to 599",
            'routes[0].faults.header: found ""; '
            "allowed: a name of letters, digits and characters such as - and _",
        )


class Lines(TextTestCase):
    """Where the problems are."""

    def test_rules_between_keys(self) -> None:
        """Rules between sections point at the line of what is to be changed."""
        self.assert_problems(
            """
            services:
              users:
                instances: http://users
                circuit_breaker:
                  timeout: 10m
                discovery:
                  dns:
                    name: users.internal
            routes:
              - path: /
                service: users
                split:
                  to:
                    - service: users
                      share: 0.1
                mirror:
                  service: shadow
            """,
            "gateway:5: services.users.circuit_breaker.timeout: found 10m; "
            "allowed: at most max_timeout, which is 5m",
            "gateway:7: services.users.discovery.dns.port: is missing, but records of type a have "
            "no port; allowed: a port from 1 to 65535",
            "gateway:14: routes[0].split.to[0].service: the route's own service; "
            'found "users"; allowed: another service',
            'gateway:17: routes[0].mirror.service: found "shadow"; '
            "allowed: a name under services: users",
        )
