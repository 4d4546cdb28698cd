"""``/gateway/bans``: seen, imposed, lifted."""

from __future__ import annotations

from datetime import datetime
from time import time
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from rtgateway.store.bans import LONGEST_BAN
from rtgateway.store.errors import StoreError
from rtgateway.web.admin.waiting import PATIENCE
from tests.observe.exchanges import Identity
from tests.observe.limits import Ban
from tests.web.gateways import Asking, PageTestCase

PAGE = "/gateway/bans"


class BansPageTestCase(PageTestCase):
    """Asks for the page; looks into the log."""

    def setUp(self) -> None:
        super().setUp()
        self.bans = self.gateway.bans
        self.events: list[LogEvent] = []
        observer = cast("ILogObserver", self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def logged(self) -> list[str]:
        prefix = "Administration: "
        lines = [formatEvent(event) for event in self.events]
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]

    def complaint(self, path: str, method: str = "GET", body: object = None) -> str:
        """Why something is refused; nobody was banned or freed."""
        before = dict(self.bans.there)
        document = self.json(path, 400, method, body)
        self.assertEqual(document["error"], "bad_request")
        self.assertEqual((self.bans.there, self.logged()), (before, []))
        return str(document["message"])


class ListTests(BansPageTestCase):
    """Those that hold."""

    def some(self, *numbers: int) -> None:
        for number in numbers:
            subject = f"ip:192.0.2.{number:03}"
            self.bans.there[subject] = Ban(subject, time() + number)

    def test_a_ban(self) -> None:
        """Whom it is about, how long it lasts, and why it is there."""
        self.bans.there = {"x": Ban("identity:bob", time() + 60.0, "10 refusals", 3)}
        document = self.json(PAGE)
        (ban,) = document["bans"]
        self.assertTrue(50.0 < ban.pop("seconds") <= 60.0)
        until = datetime.fromisoformat(ban.pop("until")).timestamp()
        self.assertLess(abs(until - time() - 60.0), 5.0)
        expected = {"subject": "identity:bob", "reason": "10 refusals", "strikes": 3}
        self.assertEqual(ban, expected | {"local": False})
        self.assertEqual((document["total"], document["next"]), (1, None))

    def test_one_that_is_over(self) -> None:
        """Has no time left, not less than none."""
        self.bans.there = {"x": Ban("ip:192.0.2.1", time() - 60.0)}
        self.assertEqual(self.json(PAGE)["bans"][0]["seconds"], 0.0)

    def test_parts(self) -> None:
        """All of them once, in one order, whatever comes and goes between."""
        self.some(*reversed(range(250)))
        self.assertEqual(len(self.json(PAGE)["bans"]), 100)
        for limit in (1000, 250, 100, 60):
            seen: list[str] = []
            after: str | None = ""
            while after is not None:
                more = f"&after={after}" if after else ""
                document = self.json(f"{PAGE}?limit={limit}{more}")
                self.assertEqual(document["total"], 250)
                seen += [each["subject"] for each in document["bans"]]
                after = document["next"]
            self.assertEqual(seen, sorted(self.bans.there))

    def test_one_subject(self) -> None:
        """In whatever spelling."""
        self.bans.there["x"] = Ban("ip:2001:db8::", time() + 9.0)
        self.some(1, 2)
        document = self.json(PAGE + "?subject=ip:2001:DB8::7")
        self.assertEqual([each["subject"] for each in document["bans"]], ["ip:2001:db8::"])
        self.assertEqual(document["total"], 1)
        self.assertEqual(self.json(PAGE + "?subject=identity:x")["total"], 0)

    def test_wrong_queries(self) -> None:
        """Nothing is guessed."""
        for query in ("limit=0", "limit=1001", "limit=x", "limit=", "after", "ip=10.0.0.1"):
            self.complaint(f"{PAGE}?{query}")
        for subject in ("ip:x", "bob", "tenant:a", "identity:", "%00"):
            self.complaint(f"{PAGE}?subject={subject}")


class BanTests(BansPageTestCase):
    """Those that operators impose and lift."""

    def ban(self, status: int = 201, **body: object) -> Any:
        return self.json(PAGE, status, "POST", {"subject": "ip:192.0.2.1", "seconds": 60} | body)

    def test_a_ban(self) -> None:
        """It holds, and it is told until when."""
        self.asking = Asking(identity=Identity("root"))
        document = self.ban(reason="scraping")
        until = datetime.fromisoformat(document.pop("until")).timestamp()
        self.assertLess(abs(until - time() - 60.0), 5.0)
        expected = {"subject": "ip:192.0.2.1", "seconds": 60.0, "reason": "scraping"}
        self.assertEqual(document, expected)
        (ban,) = self.bans.all()
        self.assertEqual((ban.until - self.bans.now, ban.reason), (60.0, "scraping"))
        self.assertEqual(self.logged(), ["ban of 'ip:192.0.2.1' by 'root': 60 s, 'scraping'"])

    def test_without_a_reason(self) -> None:
        """It has one that says so."""
        self.assertEqual(self.ban(seconds=0.5)["reason"], "banned by an operator")

    def test_spellings(self) -> None:
        """A network of IPv6 is banned, and subjects are known by the keys of limiters."""
        self.ban(subject="ip:2001:DB8::1")
        self.ban(subject="identity:bob")
        self.ban(subject="identity:" + "x" * 200)
        first, second, third = self.bans.there
        self.assertEqual((first, second), ("ip:2001:db8::", "identity:bob"))
        self.assertTrue(third.startswith("identity:#"))

    def test_the_log_stays_in_one_line(self) -> None:
        """Whatever reason is given."""
        self.ban(reason="a\nb\u2028" + "x" * 200)
        self.assertIn(r"a\nb\u2028xxx", self.logged()[0])
        self.assertLess(len(self.logged()[0]), 400)

    def test_bodies_that_are_none(self) -> None:
        """Everything has to be there, and of its type."""
        good: dict[str, object] = {"subject": "ip:192.0.2.1", "seconds": 60}
        partial: tuple[object, ...] = ({"subject": "ip:192.0.2.1"}, {"seconds": 1})
        bodies: tuple[object, ...] = ([], "x", {}, *partial, good | {"x": 1})
        for body in bodies:
            self.assertIn("The body has to be", self.complaint(PAGE, "POST", body))
        no_numbers: tuple[object, ...] = (None, True, "60", [], {})
        for value in no_numbers:
            words = self.complaint(PAGE, "POST", good | {"seconds": value})
            self.assertEqual(words, "seconds has to be a number")
        for seconds in (0, -1, LONGEST_BAN + 1, 1e300):
            words = self.complaint(PAGE, "POST", good | {"seconds": seconds})
            self.assertEqual(words, "seconds has to be over 0, and 316224000 at most")
        for reason in (None, 1, "", "x" * 257, ["x"]):
            words = self.complaint(PAGE, "POST", good | {"reason": reason})
            self.assertEqual(words, "reason has to be a text of 1 to 256 characters")
        for subject in (None, 1, "", "bob", "ip:10.0.0.0/8", "tenant:a", "identity:", "x" * 300):
            words = self.complaint(PAGE, "POST", good | {"subject": subject})
            self.assertTrue(words.startswith("subject "), words)
        self.assertEqual(self.complaint(PAGE, "POST", b"{"), "The body is not JSON")
        self.complaint(PAGE + "?subject=ip:192.0.2.1", "POST", good)
        self.assertEqual(self.ask(PAGE, "POST", good, "").status, 415)

    def test_what_makes_no_sense(self) -> None:
        """400, in the words of who keeps them."""
        body = {"subject": "ip:192.0.2.1", "seconds": 60, "reason": "nonsense"}
        self.assertEqual(self.complaint(PAGE, "POST", body), "this makes no sense")

    def test_lifting(self) -> None:
        """It is over; a second time there is none."""
        self.ban()
        path = PAGE + "?subject=ip:192.0.2.1"
        document = self.json(path, method="DELETE")
        self.assertEqual(document, {"subject": "ip:192.0.2.1", "lifted": True})
        self.assertEqual(self.bans.all(), [])
        self.assertEqual(self.refused(path, 404, "DELETE"), "unknown_ban")
        self.assertEqual(
            self.logged()[1:],
            [
                "ban of 'ip:192.0.2.1' by local: lifting; there was one",
                "ban of 'ip:192.0.2.1' by local: lifting; there was none",
            ],
        )

    def test_everybody_is_nobody(self) -> None:
        """One has to say who is meant."""
        self.assertEqual(self.complaint(PAGE, "DELETE"), "Say whose ban: ?subject=ip:<address>")
        for query in ("subject=", "subject", "subject=a&subject=b", "subjects=x", "limit=1"):
            self.complaint(f"{PAGE}?{query}", "DELETE")

    def test_no_answer_of_the_store(self) -> None:
        """503, and the log says that nobody knows."""
        self.bans.error = StoreError("lost")
        self.assertEqual(self.ban(503)["error"], "store_unavailable")
        path = PAGE + "?subject=ip:192.0.2.1"
        self.assertEqual(self.refused(path, 503, "DELETE"), "store_unavailable")
        self.assertEqual(len(self.logged()), 2)
        for line in self.logged():
            self.assertIn("; it may not have been done (lost)", line)

    def test_an_answer_that_does_not_come(self) -> None:
        """503 after two seconds, and the wait is cancelled."""
        wait: Deferred[bool] = Deferred()
        self.bans.lift = lambda subject: wait  # type: ignore[method-assign]
        request = self.start(PAGE + "?subject=ip:192.0.2.1", "DELETE")
        self.gateway.reactor.advance(PATIENCE)
        self.assertEqual(self.shown(request).status, 503)
        self.assertTrue(wait.called)
