"""``/gateway/ip-lists``: networks seen, added, removed."""

from __future__ import annotations

from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from rtgateway.store.errors import StoreError
from rtgateway.web.admin.waiting import PATIENCE
from tests.web.gateways import PageTestCase

PAGE = "/gateway/ip-lists"
DENY = PAGE + "/deny"


class IpListsPageTestCase(PageTestCase):
    """Asks for the pages; looks into the log."""

    def setUp(self) -> None:
        super().setUp()
        self.ip_lists = self.gateway.ip_lists
        self.deny = self.ip_lists.lists["deny"]
        self.deny.update({"10.0.0.0/8": "config", "192.0.2.1/32": "runtime"})
        self.events: list[LogEvent] = []
        observer = cast("ILogObserver", self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def logged(self) -> list[str]:
        prefix = "Administration: "
        lines = [formatEvent(event) for event in self.events]
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]

    def complaint(self, path: str, method: str = "GET", body: object = None) -> str:
        """Why something is refused; no list was changed."""
        before = dict(self.deny)
        document = self.json(path, 400, method, body)
        self.assertEqual(document["error"], "bad_request")
        self.assertEqual((self.deny, self.logged()), (before, []))
        return str(document["message"])


class SeenTests(IpListsPageTestCase):
    """What is on the lists."""

    def test_both(self) -> None:
        """How many, and from where."""
        self.assertEqual(
            self.json(PAGE),
            {
                "allow": {"total": 0, "configured": 0, "runtime": 0},
                "deny": {"total": 2, "configured": 1, "runtime": 1},
            },
        )

    def test_a_verdict(self) -> None:
        """About an address, as clients' addresses are written."""
        for ip, verdict in (
            ("192.0.2.1", "deny"),
            ("::ffff:192.0.2.1", "deny"),
            ("192.0.2.2", None),
            ("fe80::1%25eth0", None),
        ):
            document = self.json(f"{PAGE}?ip={ip}")
            self.assertEqual(document["verdict"], verdict)
        self.assertEqual(document["ip"], "fe80::1")
        for query in ("ip=x", "ip=10.0.0.0/8", "ip=", "address=10.0.0.1", "limit=1"):
            self.complaint(f"{PAGE}?{query}")

    def test_one(self) -> None:
        """Each network, and where it is from."""
        self.assertEqual(
            self.json(DENY),
            {
                "total": 2,
                "next": None,
                "networks": [
                    {"network": "10.0.0.0/8", "source": "config"},
                    {"network": "192.0.2.1/32", "source": "runtime"},
                ],
            },
        )
        self.assertEqual(self.json(PAGE + "/allow")["networks"], [])

    def test_parts(self) -> None:
        """All of them once, in one order."""
        self.deny.update({f"10.1.{number}.0/24": "runtime" for number in range(250)})
        self.assertEqual(len(self.json(DENY)["networks"]), 100)
        for limit in (1000, 252, 100):
            seen: list[str] = []
            after: str | None = ""
            while after is not None:
                more = f"&after={after}" if after else ""
                document = self.json(f"{DENY}?limit={limit}{more}")
                seen += [each["network"] for each in document["networks"]]
                after = document["next"]
            self.assertEqual(seen, sorted(self.deny))
        for query in ("limit=0", "limit=1001", "limit=x", "after=", "ip=10.0.0.1"):
            self.complaint(f"{DENY}?{query}")

    def test_other_methods(self) -> None:
        """405, with those that there are."""
        for path, allowed in ((PAGE, "GET, HEAD"), (DENY, "DELETE, GET, HEAD, POST")):
            shown = self.ask(path, "PUT", {"networks": []})
            self.assertEqual((shown.status, shown.headers["allow"]), (405, allowed))


class ChangeTests(IpListsPageTestCase):
    """What operators put there and take away."""

    def change(self, method: str, *networks: str, status: int = 200) -> Any:
        return self.json(DENY, status, method, {"networks": networks})

    def test_adding(self) -> None:
        """In one spelling; what is there already is not new."""
        document = self.change(
            "POST", "192.0.2.1", "203.0.113.0/24", "2001:DB8::/48", "::ffff:198.51.100.1"
        )
        self.assertEqual(document, {"list": "deny", "added": 3, "total": 5})
        new = ["203.0.113.0/24", "2001:db8::/48", "198.51.100.1/32"]
        self.assertEqual(list(self.deny)[2:], new)
        self.assertEqual(
            self.logged(),
            [
                "addition of networks on the deny list by local: 192.0.2.1/32, 203.0.113.0/24, "
                "2001:db8::/48 and 1 more; 3 new"
            ],
        )

    def test_the_other_list(self) -> None:
        """Each has a page of its own."""
        self.json(PAGE + "/allow", method="POST", body={"networks": ["127.0.0.1"]})
        self.assertEqual(self.ip_lists.lists["allow"], {"127.0.0.1/32": "runtime"})
        self.assertEqual(len(self.deny), 2)

    def test_removing(self) -> None:
        """What is not there is no error."""
        document = self.change("DELETE", "192.0.2.1", "192.0.2.2")
        self.assertEqual(document, {"list": "deny", "removed": 1, "total": 1})
        line = "removal of networks on the deny list by local: 192.0.2.1/32, 192.0.2.2/32"
        self.assertEqual(self.logged(), [line + "; 1 were there"])

    def test_what_is_configured(self) -> None:
        """Stays, and with it all that was to go at once."""
        document = self.change("DELETE", "192.0.2.1", "10.0.0.0/8", status=409)
        self.assertEqual(document["error"], "conflict")
        self.assertEqual(document["message"], "one of them is configured")
        self.assertEqual((len(self.deny), self.logged()), (2, []))

    def test_ten_thousand(self) -> None:
        """At most; others have their turn while they are read."""
        networks = [f"10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(10_000)]
        clock = self.gateway.reactor
        call_later, delays = clock.callLater, []

        def counted(delay: float, *args: Any, **kwargs: Any) -> Any:
            delays.append(delay)
            return call_later(delay, *args, **kwargs)

        self.patch(clock, "callLater", counted)
        request = self.start(DENY, "POST", {"networks": networks})
        self.assertFalse(request.finished)
        clock.advance(0.0)
        self.assertEqual(self.shown(request).json["added"], 10_000)
        self.assertEqual(delays, [PATIENCE] + [0.0] * 9)
        self.assertLess(len(self.logged()[0]), 200)
        self.events.clear()
        words = self.complaint(DENY, "POST", {"networks": [*networks, "10.9.9.9"]})
        self.assertEqual(words, "networks has to be a list of 1 to 10000 networks")

    def test_too_many_in_all(self) -> None:
        """409, in the words of who keeps them."""
        self.ip_lists.most = 2
        document = self.change("POST", "203.0.113.1", status=409)
        self.assertEqual(document["message"], "there may be 2 networks at most")
        self.assertEqual(self.logged(), [])

    def test_bodies_that_are_none(self) -> None:
        """400, and which of the networks is wrong."""
        extra = {"networks": ["::1"], "x": 1}
        bodies: tuple[object, ...] = ([], {}, "x", {"network": "10.0.0.1"}, extra)
        no_lists: tuple[object, ...] = ([], {}, "10.0.0.1", None, 1)
        for method in ("POST", "DELETE"):
            for body in bodies:
                words = self.complaint(DENY, method, body)
                self.assertEqual(words, 'The body has to be {"networks": [...]}')
            for networks in no_lists:
                words = self.complaint(DENY, method, {"networks": networks})
                self.assertEqual(words, "networks has to be a list of 1 to 10000 networks")
            for network in (
                1,
                None,
                ["::1"],
                "",
                "x",
                "10.0.0.1/8",
                "10.0.0.0/33",
                "fe80::1%eth0",
                "1" * 500,
            ):
                words = self.complaint(DENY, method, {"networks": ["192.0.2.9", network]})
                self.assertTrue(words.startswith("networks[1]: "), words)
                self.assertLess(len(words), 200)
            self.assertEqual(self.complaint(DENY, method, b"["), "The body is not JSON")
            self.complaint(DENY + "?networks=x", method, {"networks": ["::1"]})
            self.assertEqual(self.ask(DENY, method).status, 415)

    def test_no_answer_of_the_store(self) -> None:
        """503, and the log says that nobody knows."""
        self.ip_lists.error = StoreError("down")
        for method in ("POST", "DELETE"):
            document = self.change(method, "192.0.2.1", status=503)
            self.assertEqual(document["error"], "store_unavailable")
            self.assertIn("; it may not have been done (down)", self.logged()[-1])
