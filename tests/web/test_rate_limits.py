"""``/gateway/rate-limits``: limiters seen, changed, restored; subjects that start anew."""

from __future__ import annotations

from datetime import datetime
from time import monotonic, time
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from rtgateway.config import Admin, Jwt
from rtgateway.core.tokens import TokenVerifier
from rtgateway.errors import GatewayError
from rtgateway.gateway.auth import JwtAuth
from rtgateway.net.tasks import Waiter
from rtgateway.store.errors import StoreError
from rtgateway.web.admin.waiting import PATIENCE
from rtgateway.web.guard import Guard
from tests.observe.exchanges import Identity
from tests.observe.limits import Ban, Leases, Limiter, Limits, Usage
from tests.web.gateways import Asking, PageTestCase
from tests.web.test_guard import SECRET, exchange

PAGE = "/gateway/rate-limits"
ONE = PAGE + "/per-ip"
RESET = PAGE + "/reset"


class LimitPageTestCase(PageTestCase):
    """Asks for pages of a gateway with limiters; looks into the log."""

    def setUp(self) -> None:
        super().setUp()
        self.limits.limiters = {"per-ip": Limiter(), "per-user": Limiter(per=("identity",))}
        self.events: list[LogEvent] = []
        observer = cast("ILogObserver", self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    @property
    def limits(self) -> Limits:
        return self.gateway.limits

    def logged(self) -> list[str]:
        prefix = "Administration: "
        lines = [formatEvent(event) for event in self.events]
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]

    def complaint(self, path: str, method: str = "GET", body: object = None) -> str:
        """Why something is refused; nothing was changed, and nothing is in the log."""
        document = self.json(path, 400, method, body)
        self.assertEqual(document["error"], "bad_request")
        self.assertEqual(self.logged(), [])
        self.assertFalse(any(each.changed for each in self.limits.limiters.values()))
        return str(document["message"])


class SeenTests(LimitPageTestCase):
    """What operators see."""

    def test_the_whole_document(self) -> None:
        """The keys of the TracSeq gateway, and ours."""
        self.gateway.ip_lists.lists["deny"] = {"10.0.0.0/8": "config", "192.0.2.1/32": "runtime"}
        self.gateway.ip_lists.lists["allow"] = {"127.0.0.1/32": "config"}
        self.gateway.bans.there = {"ip:192.0.2.1": Ban("ip:192.0.2.1", 0.0)}
        self.limits.used = {"per-ip": [Usage("ip:192.0.2.1"), Usage("ip:192.0.2.2", 9, 0, 1.23456)]}
        document = self.json(PAGE)
        configs = document.pop("configs")
        self.assertEqual(
            document,
            {
                "configured_limiters": ["per-ip", "per-user"],
                "blacklisted_ips": 2,
                "whitelisted_ips": 1,
                "active_penalties": 1,
                "mode": "memory",
                "degraded": False,
                "degraded_since": None,
                "gateways": 1,
                "top": {
                    "per-ip": [
                        {"key": "ip:192.0.2.1", "limit": 100, "remaining": 40, "reset": 6.0},
                        {"key": "ip:192.0.2.2", "limit": 9, "remaining": 0, "reset": 1.235},
                    ],
                    "per-user": [],
                },
            },
        )
        self.assertEqual(
            configs["per-ip"],
            {
                "requests_per_minute": 600.0,
                "algorithm": "token_bucket",
                "per": ["ip"],
                "per_user": False,
                "per_endpoint": False,
                "capacity": 100,
                "refill_rate": 10.0,
                "factor": None,
                "changed": False,
                "persisted": False,
                "configured": {},
            },
        )
        self.assertTrue(configs["per-user"]["per_user"])

    def test_no_limiters(self) -> None:
        """The page is there all the same."""
        self.limits.limiters = {}
        document = self.json(PAGE)
        self.assertEqual((document["configured_limiters"], document["configs"]), ([], {}))

    def test_without_an_answer_of_the_store(self) -> None:
        """The page is there: it is needed most then. What keys have left is not known."""
        limits = self.limits
        limits.mode, limits.gateways, limits.degraded = "redis", 8, True
        limits.degraded_since, limits.error = monotonic() - 60.0, StoreError("down")
        document = self.json(PAGE)
        since = datetime.fromisoformat(document["degraded_since"]).timestamp()
        self.assertLess(abs(since - (time() - 60.0)), 5.0)
        self.assertEqual((document["mode"], document["gateways"]), ("redis", 8))
        self.assertEqual(document["top"], {"per-ip": None, "per-user": None})
        self.assertEqual(self.refused(ONE, 503, "GET"), "store_unavailable")

    def test_one(self) -> None:
        """With all that is counted about it."""
        limits = self.limits
        limits.decisions = {
            ("per-ip", "ip", "admitted"): 5,
            ("per-ip", "ip", "refused"): 1,
            ("per-user", "identity", "refused"): 7,
        }
        document = self.json(ONE)
        self.assertEqual((document["name"], document["capacity"]), ("per-ip", 100))
        self.assertEqual(document["decisions"], {"admitted": 5, "refused": 1})
        self.assertEqual((document["keys"], document["leased"]), (None, None))
        limits.keys, limits.leases = {"per-ip": 1000}, {"per-ip": Leases(1, 2, 3, 4)}
        document = self.json(ONE)
        self.assertEqual(document["keys"], 1000)
        self.assertEqual(
            document["leased"],
            {"live": 1, "leased_units": 2, "returned_units": 3, "local_decisions": 4},
        )

    def test_how_many_keys(self) -> None:
        """Ten, or as many as are asked for: a hundred at most, each is asked of the store."""
        self.limits.used = {"per-ip": [Usage(f"ip:192.0.2.{n}") for n in range(200)]}
        for query, count in (("", 10), ("?limit=1", 1), ("?limit=100", 100)):
            self.assertEqual(len(self.json(ONE + query)["top"]), count)
        for text in ("0", "101", "-1", "x", "1.5", "9" * 99):
            words = self.complaint(f"{ONE}?limit={text}")
            self.assertEqual(words, "limit has to be a number from 1 to 100")
        self.complaint(ONE + "?after=x")
        self.complaint(PAGE + "?limit=1")

    def test_unknown_limiters(self) -> None:
        """404, whatever is asked of them and below them."""
        for path in ("/nobody", "/nobody/reset", "/%ff", "/PER-IP"):
            for method in ("GET", "POST", "PUT", "DELETE"):
                self.assertEqual(self.refused(PAGE + path, 404, method), "unknown_limiter")

    def test_other_methods(self) -> None:
        """405, with those that there are."""
        for path, allowed in (
            (PAGE, "GET, HEAD"),
            (ONE, "DELETE, GET, HEAD, PUT"),
            (RESET, "POST"),
        ):
            for method in ("PATCH", "OPTIONS"):
                shown = self.ask(path, method)
                self.assertEqual((shown.status, shown.headers["allow"]), (405, allowed))
        self.assertEqual(self.ask(ONE, "HEAD").body, b"")

    def test_names_are_no_labels(self) -> None:
        """All limiters are one page in metrics."""
        for path, label in (
            (ONE, PAGE + "/:limiter"),
            (PAGE + "/x", PAGE + "/:limiter"),
            (PAGE + "/reset", "as it was"),
        ):
            self.asking = Asking(label="as it was")
            self.ask(path)
            self.assertEqual(self.asking.label, label)


class ChangeTests(LimitPageTestCase):
    """Other numbers."""

    def change(self, body: object, query: str = "", status: int = 200) -> Any:
        return self.json(ONE + query, status, "PUT", body)

    def test_a_change(self) -> None:
        """Holds here; both what holds and what is configured are shown, and who did it."""
        self.asking = Asking(identity=Identity("alice"))
        document = self.change({"capacity": 50})
        expected = ("per-ip", 50, 10.0, True, False, {"capacity": 100})
        keys = ("name", "capacity", "refill_rate", "changed", "persisted", "configured")
        self.assertEqual(tuple(document[key] for key in keys), expected)
        self.assertTrue(self.json(PAGE)["configs"]["per-ip"]["changed"])
        self.assertEqual(self.logged(), ["limit of per-ip by 'alice': capacity from 100 to 50"])

    def test_what_is_left_out_is_as_configured(self) -> None:
        """The body is the whole change."""
        self.change({"capacity": 50})
        document = self.change({"refill_rate": 5})
        self.assertEqual((document["capacity"], document["refill_rate"]), (100, 5))
        self.assertEqual(document["configured"], {"refill_rate": 10.0})
        document = self.change({"requests_per_minute": "60"})
        self.assertIn("requests_per_minute from None to '60'", self.logged()[2])

    def test_for_all_gateways(self) -> None:
        """Where there is something to keep it in."""
        self.assertEqual(self.change({"capacity": 5}, "?persist=true", 409)["error"], "conflict")
        self.assertEqual(self.logged(), [])
        self.assertFalse(self.change({"capacity": 5}, "?persist=false")["persisted"])
        self.limits.mode = "redis"
        self.assertTrue(self.change({"capacity": 5}, "?persist=true")["persisted"])
        self.assertIn("capacity from 5 to 5 in all gateways", self.logged()[1])

    def test_back_to_what_is_configured(self) -> None:
        """By DELETE; also if nothing was changed."""
        self.change({"capacity": 50})
        for _ in range(2):
            document = self.json(ONE, method="DELETE")
            self.assertEqual((document["capacity"], document["changed"]), (100, False))
        self.assertEqual(self.logged()[1:], ["limit of per-ip by local: as configured"] * 2)
        self.events.clear()
        self.complaint(ONE + "?persist=true", "DELETE")

    def test_numbers_that_do_not_fit(self) -> None:
        """400, in the words of who takes them."""
        words = self.complaint(ONE, "PUT", {"capacity": 0})
        self.assertEqual(words, "capacity: found 0; allowed: a whole number from 1 to 1000000000")
        words = self.complaint(ONE, "PUT", {"capacity": 1.5, "refill_rate": -1})
        self.assertIn("; refill_rate: found -1", words)
        words = self.complaint(ONE, "PUT", {"limit": 10})
        self.assertIn("limit: not a key of token_bucket", words)

    def test_too_much_to_keep(self) -> None:
        """409, in the words of who keeps it."""
        self.limits.most_numbers = 0
        document = self.change({"capacity": 5}, status=409)
        self.assertEqual(document["message"], "this is too much to keep")

    def test_bodies_that_are_none(self) -> None:
        """Wrong types, keys that are about something else, nothing at all."""
        bodies: tuple[object, ...] = ([], "x", 1, b"null", {}, [{"capacity": 1}])
        for body in bodies:
            words = self.complaint(ONE, "PUT", body)
            self.assertIn("The body has to be an object", words)
        for key in ("per", "algorithm", "exempt", "routes", "name", ""):
            words = self.complaint(ONE, "PUT", {"capacity": 1, key: 1})
            self.assertIn("What can be changed is capacity, refill_rate, limit", words)
        values: tuple[object, ...] = (None, True, [], {}, "", "9" * 65)
        for value in values:
            words = self.complaint(ONE, "PUT", {"capacity": value})
            self.assertEqual(words, "capacity has to be a number, or a duration such as 1m")
        for content in (b"", b"{", b'{"capacity": NaN}', b'{"capacity": 1e999}', b"\xff"):
            self.assertEqual(self.complaint(ONE, "PUT", content), "The body is not JSON")
        for query in ("?persist=yes", "?persist=", "?persist", "?keep=true"):
            self.complaint(ONE + query, "PUT", {"capacity": 1})
        shown = self.ask(ONE, "PUT", {"capacity": 1}, "text/plain")
        self.assertEqual(shown.status, 415)
        self.assertEqual(self.ask(ONE, "PUT").status, 415)

    def test_no_answer_of_the_store(self) -> None:
        """503, and the log says that nobody knows."""
        self.limits.error = StoreError("timeout")
        for method, body in (("PUT", {"capacity": 1}), ("DELETE", None)):
            shown = self.ask(ONE, method, body)
            self.assertEqual((shown.status, shown.headers["retry-after"]), (503, "1"))
            self.assertEqual(shown.json["error"], "store_unavailable")
            self.assertIn("; it may not have been done (timeout)", self.logged()[-1])
        self.assertEqual(len(self.logged()), 2)

    def test_an_answer_that_does_not_come(self) -> None:
        """503 after two seconds, and that is in the log; so is a client that leaves."""
        self.limits.waits_for = Waiter()
        request = self.start(ONE, "PUT", {"capacity": 1})
        self.gateway.reactor.advance(PATIENCE - 0.01)
        self.assertFalse(request.finished)
        self.gateway.reactor.advance(0.01)
        self.assertEqual(self.shown(request).status, 503)
        self.assertIn("it may not have been done (The store", self.logged()[0])
        request = self.start(ONE, "DELETE")
        request.processingFailed(ConnectionError())
        self.assertFalse(request.written)
        self.assertIn("it may not have been done (The client", self.logged()[1])

    def test_a_limiter_called_reset(self) -> None:
        """It can be seen and changed, and subjects can be reset."""
        self.limits.limiters["reset"] = Limiter()
        self.assertEqual(self.json(RESET)["name"], "reset")
        self.assertEqual(self.json(RESET, method="PUT", body={"capacity": 1})["capacity"], 1)
        self.assertEqual(self.reset("ip:192.0.2.1")["reset"], 0)

    def reset(self, subject: str) -> Any:
        return self.json(RESET, method="POST", body={"subject": subject})


class ResetTests(LimitPageTestCase):
    """Subjects that start anew."""

    def reset(self, subject: object, status: int = 200) -> Any:
        return self.json(RESET, status, "POST", {"subject": subject})

    def test_a_subject(self) -> None:
        """How many limits knew it, in the spelling that they know it by."""
        keys = {
            "ip:192.0.2.1": "ip:192.0.2.1",
            "ip:::ffff:192.0.2.1": "ip:192.0.2.1",
            "ip:192.0.2.1/32": "ip:192.0.2.1",
            "ip:2001:DB8:0::1": "ip:2001:db8::",
            "ip:2001:db8::/64": "ip:2001:db8::",
            "ip:local": "ip:local",
            "identity:alice": "identity:alice",
            "identity:urn:alice": "identity:urn:alice",
            "identity:#00ff": "identity:#00ff",
            "tenant:acme": "tenant:acme",
            "identity:alice|ip:192.0.2.1": "identity:alice|ip:192.0.2.1",
            "global": "global",
        }
        for subject, key in keys.items():
            self.limits.known = {key: 2}
            self.assertEqual(self.reset(subject), {"subject": key, "reset": 2})
        line = self.logged()[0]
        self.assertEqual(
            line, "reset of limits of 'ip:192.0.2.1' by local: all limiters; 2 knew it"
        )
        # A subject that keys do not name as it is has a digest there, and here.
        self.assertTrue(self.reset("identity:\u00e4")["subject"].startswith("identity:#"))

    def test_subjects_that_are_none(self) -> None:
        """400, and no limiter is asked."""
        for subject in (
            "",
            "ip:",
            "ip:10.0.0",
            "ip:10.0.0.0/8",
            "ip:2001:db8::/48",
            "identity:",
            "tenant:\u00e4",
            "a\nb",
            "x" * 257,
            None,
            1,
            ["ip:192.0.2.1"],
        ):
            self.complaint(RESET, "POST", {"subject": subject})
        bodies: tuple[object, ...] = ({}, [], "x", {"subject": "global", "x": 1}, {"subjects": []})
        for body in bodies:
            self.complaint(RESET, "POST", body)
        self.complaint(RESET + "?subject=ip:192.0.2.1", "POST", {"subject": "ip:192.0.2.1"})
        self.assertEqual(self.ask(RESET, "POST").status, 415)

    def test_a_store_that_answers_only_in_part(self) -> None:
        """Is one that did not answer."""
        self.limits.known = {"ip:192.0.2.1": -1}
        self.assertEqual(self.reset("ip:192.0.2.1", 503)["error"], "store_unavailable")
        self.assertIn("it may not have been done", self.logged()[0])


class GuardedTests(PageTestCase):
    """These pages are behind the same door as the others."""

    PATHS = (PAGE, ONE, RESET, "/gateway/bans", "/gateway/ip-lists", "/gateway/ip-lists/deny")

    def refused_with(self, guard: Guard, path: str, **fields: Any) -> int:
        asked = exchange(path.encode(), **fields)
        error = cast("GatewayError", self.assertRaises(GatewayError, guard.admit, asked))
        return error.status

    def test_who_is_let_in(self) -> None:
        """This machine; with authentication on, holders of a token; no page of somebody else."""
        auth = JwtAuth(TokenVerifier(Jwt(secret=cast("Any", SECRET))))
        for path in self.PATHS:
            local = Guard(Admin(), None)
            local.admit(exchange(path.encode()))
            self.assertEqual(self.refused_with(local, path, ip="10.0.0.1"), 403)
            self.assertEqual(self.refused_with(Guard(Admin(), auth), path), 401)
            for method in (b"POST", b"PUT", b"DELETE"):
                status = self.refused_with(local, path, method=method, origin=b"http://evil.test")
                self.assertEqual(status, 403)
