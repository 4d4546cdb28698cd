"""``/gateway/circuit-breakers``: seen, reset, forced open, disabled."""

from __future__ import annotations

from datetime import datetime
from time import monotonic, time
from typing import cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from rtgateway.core.breaker import Breaker, BreakerSettings
from tests.observe.exchanges import Identity
from tests.observe.services import Instance, Service, a_breaker
from tests.web.gateways import Asking, PageTestCase

A, B = "users/a:3001", "users/b:80"


class BreakerTests(PageTestCase):
    """What is shown and done."""

    def setUp(self) -> None:
        super().setUp()
        self.logged: list[str] = []

        def observe(event: LogEvent) -> None:
            self.logged.append(formatEvent(event))

        globalLogPublisher.addObserver(cast("ILogObserver", observe))
        self.addCleanup(globalLogPublisher.removeObserver, cast("ILogObserver", observe))

    def states(self) -> dict[str, str]:
        document = self.json("/gateway/circuit-breakers")
        return {name: each["state"] for name, each in document.items()}

    def trip(self, breaker: Breaker, now: float) -> None:
        """Let it open."""
        breaker.record(breaker.acquire(now), now, 0.5, False)
        for _ in range(5):
            breaker.record(breaker.acquire(now), now, 0.5, True)

    def test_an_open_breaker(self) -> None:
        """State, numbers, settings and the latest changes, as other gateways name them."""
        now = monotonic()
        self.trip(self.gateway.users.instances[0].breaker, now)
        document = self.json("/gateway/circuit-breakers")
        self.assertEqual(list(document), [A, B])
        a = document[A]
        opened = datetime.fromisoformat(a["state_changes"][0].pop("timestamp")).timestamp()
        self.assertLess(abs(opened - time()), 5)
        self.assertEqual(
            a["state_changes"], [{"from": "closed", "to": "open", "reason": "5 failures in a row"}]
        )
        until = datetime.fromisoformat(a["open_until"]).timestamp()
        self.assertAlmostEqual(until - opened, 30.0, delta=0.002)
        stats = a["stats"]
        for key in ("last_failure", "last_success"):
            at = datetime.fromisoformat(stats.pop(key)).timestamp()
            self.assertAlmostEqual(at, opened, delta=0.002)
        self.assertEqual(
            stats,
            {
                "total_calls": 6,
                "failed_calls": 5,
                "successful_calls": 1,
                "slow_calls": 0,
                "failure_rate": 0.8333,
                "consecutive_failures": 5,
                "consecutive_successes": 0,
                "average_duration": 0.5,
            },
        )
        self.assertEqual(
            (a["name"], a["state"], a["config"]["failure_threshold"], a["config"]["timeout"]),
            (A, "open", 5, 30.0),
        )
        self.assertEqual((a["shared"], a["mode"]), (False, "own"))
        self.assertEqual(a["config"]["window_size"], 100)
        b = document[B]
        self.assertEqual((b["state"], b["open_until"], b["state_changes"]), ("closed", None, []))
        self.assertIsNone(b["stats"]["last_failure"])

    def test_time_based_windows(self) -> None:
        """Their size is a duration, in words."""
        settings = BreakerSettings(window_calls=0, window_seconds=30.0)
        self.gateway.users.instances[0].breaker = Breaker(settings, lambda: 0.5)
        document = self.json("/gateway/circuit-breakers")
        self.assertEqual(document[A]["config"]["window_size"], "30s")

    def test_at_most_twenty_changes(self) -> None:
        """The latest ones, the newest last."""
        breaker = self.gateway.users.instances[0].breaker
        for number in range(15):
            breaker.force_open(float(number))
            breaker.reset(float(number))
        changes = self.json("/gateway/circuit-breakers")[A]["state_changes"]
        self.assertEqual((len(changes), changes[-1]["to"]), (20, "closed"))

    def test_all_at_once(self) -> None:
        """Forced open, disabled, and back to normal; that of a service too."""
        self.gateway.users.breaker = a_breaker()
        self.gateway.services["mail"] = Service("mail", (Instance("mail", "http://m:1"),))
        names = ["users", A, B, "mail/m:1"]
        for action, state in (
            ("force_open", "forced_open"),
            ("disable", "disabled"),
            ("reset", "closed"),
        ):
            document = self.json(f"/gateway/circuit-breakers/{action}", method="POST")
            self.assertEqual(
                {name: each["state"] for name, each in document.items()},
                dict.fromkeys(names, state),
            )
            self.assertEqual(self.states(), dict.fromkeys(names, state))

    def test_those_of_one_service(self) -> None:
        """No other is touched, and no other is shown."""
        self.gateway.services["mail"] = Service("mail", (Instance("mail", "http://m:1"),))
        document = self.json("/gateway/circuit-breakers/users/force_open", method="POST")
        self.assertEqual(list(document), [A, B])
        self.assertEqual(self.states(), {A: "forced_open", B: "forced_open", "mail/m:1": "closed"})
        self.assertEqual(list(self.json("/gateway/circuit-breakers/mail")), ["mail/m:1"])

    def test_one_instance(self) -> None:
        """By its id."""
        path = "/gateway/circuit-breakers/users/disable?instance=b:80"
        self.assertEqual(list(self.json(path, method="POST")), [B])
        self.assertEqual(self.states(), {A: "closed", B: "disabled"})
        path = "/gateway/circuit-breakers/users/reset?instance=c:80"
        self.assertEqual(self.refused(path, 404), "unknown_instance")
        self.assertEqual(self.states(), {A: "closed", B: "disabled"})

    def test_an_instance_of_no_service_is_nobody(self) -> None:
        """An id without its service: nothing is done rather than everything."""
        path = "/gateway/circuit-breakers/force_open?instance=b:80"
        self.assertEqual(self.refused(path, 400), "bad_request")
        self.assertEqual(self.states(), {A: "closed", B: "closed"})

    def test_a_service_called_like_an_action(self) -> None:
        """Both can be reached."""
        self.gateway.services["reset"] = Service("reset", (Instance("reset", "http://r:1"),))
        path = "/gateway/circuit-breakers/reset/force_open"
        self.assertEqual(list(self.json(path, method="POST")), ["reset/r:1"])
        document = self.json("/gateway/circuit-breakers/reset", method="POST")
        self.assertEqual(document["reset/r:1"]["state"], "closed")

    def test_who_did_it_is_logged(self) -> None:
        """The subject of the token, on one line; else the machine itself, or where it came from."""
        path = "/gateway/circuit-breakers/users/force_open?instance=b:80"
        self.json(path, method="POST")
        self.asking = Asking(identity=Identity("alice\n" + "x" * 500))
        self.json(path.replace("force_open", "reset"), method="POST")
        self.asking = Asking("203.0.113.9")
        self.json(path, method="POST")
        changes = [line for line in self.logged if line.startswith("Administration")]
        self.assertEqual(
            changes[0],
            f"Administration: circuit force_open of {B} by local: from closed to forced_open",
        )
        self.assertIn(r"by 'alice\nxxx", changes[1])
        self.assertNotIn("\n", changes[1])
        self.assertLess(len(changes[1]), 250)
        self.assertIn("by 203.0.113.9: from closed", changes[2])
