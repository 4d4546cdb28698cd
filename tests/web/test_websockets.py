"""``/ws/health``, and ``/gateway/websockets``: sockets seen, found, closed."""

from __future__ import annotations

from time import monotonic
from typing import Any, cast
from urllib.parse import quote

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from tests.observe.exchanges import Identity
from tests.observe.services import Instance
from tests.observe.sockets import Socket, Traffic
from tests.web.gateways import Asking, PageTestCase

PAGE = "/gateway/websockets"


class SocketPageTestCase(PageTestCase):
    """Asks for pages of a gateway with sockets."""

    def sockets(self, *sockets: Socket) -> None:
        self.gateway.sockets.add(*sockets)

    def many(self, count: int, **values: Any) -> None:
        self.sockets(*(Socket(f"ws-{number:x}", **values) for number in range(1, count + 1)))

    def ids(self, query: str = "") -> list[str]:
        """The sockets that a list shows."""
        return [str(each["id"]) for each in self.json(PAGE + query)["websockets"]]

    def closed(self) -> dict[str, tuple[int, str]]:
        """The sockets that were closed, with what."""
        return {
            each.id: (each.close_code, each.close_reason)
            for each in self.gateway.sockets.live.values()
            if each.state != "open"
        }

    def complaint(self, path: str, method: str = "GET") -> str:
        """Why a query is refused; nothing was closed."""
        document = self.json(path, 400, method)
        self.assertEqual(document["error"], "bad_request")
        self.assertEqual(self.closed(), {})
        return str(document["message"])


class HealthTests(SocketPageTestCase):
    """What everybody may know."""

    def test_numbers_and_settings(self) -> None:
        """How many there are, and what a client has to reckon with; nothing about any of them."""
        self.sockets(Socket("ws-1"), Socket("ws-2", state="closing"), Socket("ws-3"))
        self.assertEqual(
            self.json("/ws/health"),
            {
                "status": "healthy",
                "active_connections": 3,
                "connection_states": {"open": 2, "closing": 1},
                "config": {
                    "ping_interval": 30.0,
                    "pong_timeout": 10.0,
                    "inactivity_timeout": 0.0,
                    "max_lifetime": 0.0,
                    "close_timeout": 5.0,
                    "drain_timeout": 10.0,
                },
            },
        )

    def test_draining(self) -> None:
        """503: who has the choice connects elsewhere."""
        self.gateway.sockets.draining = True
        self.assertEqual(self.json("/ws/health", 503)["status"], "draining")


class ListTests(SocketPageTestCase):
    """What operators see."""

    def test_a_socket(self) -> None:
        """Whose it is, where it goes, what went over it, and how both sides keep up."""
        self.sockets(
            Socket(
                "ws-1f",
                identity="alice",
                subprotocol="chat.v2",
                compressed=True,
                opened=monotonic() - 60.0,
                received=Traffic(1, 2, 3),
                sent=Traffic(4, 5, 6),
                buffered_in=7,
                buffered_out=8,
                rtt=0.01234567,
            )
        )
        document = self.json(PAGE + "/ws-1f")
        self.assertEqual(
            self.json(PAGE)["websockets"][0] | {"age": document["age"]},
            document | {"opened": self.json(PAGE)["websockets"][0]["opened"]},
        )
        self.assertTrue(document.pop("opened").endswith("Z"))
        self.assertTrue(60.0 <= document.pop("age") < 70.0)
        self.assertEqual(
            document,
            {
                "id": "ws-1f",
                "request_id": "r-1",
                "state": "open",
                "client_ip": "192.0.2.1",
                "identity": "alice",
                "route": "/ws/:service",
                "path": "/ws/users",
                "service": "users",
                "instance": "a:3001",
                "subprotocol": "chat.v2",
                "compressed": True,
                "received": {"messages": 1, "frames": 2, "bytes": 3},
                "sent": {"messages": 4, "frames": 5, "bytes": 6},
                "buffered": {"in": 7, "out": 8},
                "rtt": 0.012346,
                "close": None,
            },
        )

    def test_what_is_not_known_is_null(self) -> None:
        """No token, no subprotocol, no pong yet."""
        self.sockets(Socket())
        document = self.json(PAGE + "/ws-1")
        told = [document[key] for key in ("identity", "subprotocol", "rtt", "close")]
        self.assertEqual(told, [None] * 4)

    def test_one_that_closes(self) -> None:
        """Who began, and what was said."""
        self.sockets(
            Socket(state="closing", close_code=4000, close_reason="bye", closed_by="client")
        )
        expected = {"code": 4000, "reason": "bye", "by": "client"}
        self.assertEqual(self.json(PAGE + "/ws-1")["close"], expected)

    def test_text_of_others(self) -> None:
        """Subjects with halves of characters, and paths with any bytes, can be shown and found."""
        self.sockets(Socket(identity="\ud800", path=b"/\xff\x00"))
        (document,) = self.json(PAGE + "?identity=" + quote("\\ud800"))["websockets"]
        self.assertEqual((document["identity"], document["path"]), ("\\ud800", "/\xff\x00"))

    def test_filters(self) -> None:
        """Each alone, and all together."""
        b = Instance("orders", "http://b:80")
        self.sockets(
            Socket("ws-1", identity="ann", state="closing"),
            Socket("ws-2", identity="ann", instance=b),
            Socket("ws-3", identity="bob smith", route="chat", client_ip="2001:db8::1"),
        )
        found = {
            "identity=ann": ["ws-1", "ws-2"],
            "identity=bob%20smith": ["ws-3"],
            "route=chat": ["ws-3"],
            "service=orders": ["ws-2"],
            "instance=a:3001": ["ws-1", "ws-3"],
            "ip=192.0.2.1": ["ws-1", "ws-2"],
            "ip=::ffff:192.0.2.1": ["ws-1", "ws-2"],
            "ip=2001:DB8:0::1": ["ws-3"],
            "state=open": ["ws-2", "ws-3"],
            "state=closing": ["ws-1"],
            "identity=ann&state=open&service=orders": ["ws-2"],
            "identity=ann&route=chat": [],
            "identity=nobody": [],
        }
        for query, ids in found.items():
            self.assertEqual(self.ids("?" + query), ids, query)
            self.assertEqual(self.json(f"{PAGE}?{query}")["total"], len(ids))

    def test_pages(self) -> None:
        """A hundred at a time, or as many as are asked for, oldest first, none of them twice."""
        self.many(250)
        document = self.json(PAGE)
        self.assertEqual((document["total"], document["next"]), (250, "ws-64"))
        self.assertEqual(document["websockets"][0]["id"], "ws-1")
        for limit in (1000, 250, 100, 7):
            seen: list[str] = []
            after: str | None = ""
            while after is not None:
                more = f"&after={after}" if after else ""
                document = self.json(f"{PAGE}?limit={limit}{more}")
                self.assertEqual(document["total"], 250)
                seen += [each["id"] for each in document["websockets"]]
                after = document["next"]
            self.assertEqual(seen, list(self.gateway.sockets.live))

    def test_sockets_that_go_between_two_pages(self) -> None:
        """Also that which the next page begins behind: no other is left out for it."""
        self.many(20)
        after = self.json(PAGE + "?limit=10")["next"]
        del self.gateway.sockets.live["ws-3"], self.gateway.sockets.live[after]
        self.sockets(Socket("ws-100"))
        expected = [f"ws-{number:x}" for number in range(11, 21)] + ["ws-100"]
        self.assertEqual(self.ids(f"?after={after}"), expected)

    def test_wrong_queries(self) -> None:
        """400 in plain words; nothing is guessed, and nothing is passed over."""
        for limit in ("0", "1001", "-1", "x", "1e3", "1.5", "\u0661", "9" * 5000):
            words = self.complaint(f"{PAGE}?limit={quote(limit)}")
            self.assertEqual(words, "limit has to be a number from 1 to 1000")
        self.assertEqual(self.complaint(PAGE + "?state=closed"), "state has to be open or closing")
        self.assertEqual(self.complaint(PAGE + "?ip=10.0.0"), "ip has to be an IP address")
        self.assertEqual(self.complaint(PAGE + "?identity=%ff"), "identity is not UTF-8")
        for query in ("identity=", "identity=a&identity=b"):
            words = self.complaint(f"{PAGE}?{query}")
            self.assertEqual(words, "identity has to be there once, with a value")
        for query in ("identity", "identity=a&state", "identity=a&", "&"):
            words = self.complaint(f"{PAGE}?{query}")
            self.assertEqual(words, "The query has to be name=value&name=value")
        words = self.complaint(PAGE + "?user=x")
        self.assertIn("there are identity, route, service, instance, ip, state, limit", words)
        self.assertNotIn("user", words)

    def test_no_such_socket(self) -> None:
        """404, whatever is asked of it and of what is below."""
        for path in ("/ws-9", "/ws-9/x", "/%ff"):
            for method in ("GET", "DELETE"):
                self.assertEqual(self.refused(PAGE + path, 404, method), "unknown_websocket")

    def test_ids_are_no_labels(self) -> None:
        """All of them are one page in metrics."""
        self.sockets(Socket())
        for path, status in (("/ws-1", 200), ("/ws-2", 404)):
            self.asking = Asking()
            self.assertEqual(self.ask(PAGE + path).status, status)
            self.assertEqual(self.asking.label, "/gateway/websockets/:id")


class ClosingTests(SocketPageTestCase):
    """What operators close."""

    def setUp(self) -> None:
        super().setUp()
        b = Instance(label="http://b:80")
        self.sockets(
            Socket("ws-1", identity="ann"),
            Socket("ws-2", identity="ann", instance=b),
            Socket("ws-3", identity="bob", instance=b, route="chat"),
        )
        self.events: list[LogEvent] = []
        observer = cast("ILogObserver", self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def logged(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def test_one(self) -> None:
        """202: it is closing, and says with what."""
        document = self.json(PAGE + "/ws-2", 202, "DELETE")
        expected = {"code": 1000, "reason": "closed_by_operator", "by": "gateway"}
        self.assertEqual((document["state"], document["close"]), ("closing", expected))
        self.assertEqual(self.closed(), {"ws-2": (1000, "closed_by_operator")})

    def test_one_that_closes_already(self) -> None:
        """It is not closed again."""
        self.json(PAGE + "/ws-1?code=3000&reason=x", 202, "DELETE")
        document = self.json(PAGE + "/ws-1", 202, "DELETE")
        self.assertEqual(document["close"]["code"], 3000)
        self.assertEqual(len(self.logged()), 1)

    def test_all_of_an_identity(self) -> None:
        """Of nobody else, and how many they are."""
        document = self.json(PAGE + "?identity=ann", 202, "DELETE")
        self.assertEqual(document, {"closing": 2, "code": 1000, "reason": "closed_by_operator"})
        self.assertEqual(set(self.closed()), {"ws-1", "ws-2"})
        self.assertEqual(self.json(PAGE + "?identity=ann", 202, "DELETE")["closing"], 0)

    def test_all_of_an_instance(self) -> None:
        """With the code and the reason that were asked for."""
        self.json(PAGE + "?instance=b:80&code=1012&reason=new%20version", 202, "DELETE")
        self.assertEqual(set(self.closed().values()), {(1012, "new version")})
        self.assertEqual(set(self.closed()), {"ws-2", "ws-3"})

    def test_what_several_filters_mean(self) -> None:
        """Those that all of them mean."""
        self.json(PAGE + "?instance=b:80&identity=ann", 202, "DELETE")
        self.assertEqual(set(self.closed()), {"ws-2"})

    def test_a_token_was_revoked(self) -> None:
        """4001, as at its expiry, with its own reason."""
        self.json(PAGE + "?identity=ann&revoked=true", 202, "DELETE")
        self.json(PAGE + "/ws-3?revoked=true", 202, "DELETE")
        self.assertEqual(set(self.closed().values()), {(4001, "token_revoked")})
        self.assertEqual(len(self.closed()), 3)

    def test_codes_that_may_be_sent(self) -> None:
        """RFC 6455, 7.4: not those that only tell what happened, nor those that mean nothing."""
        may = {*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999}
        for code in (*range(995, 1020), 2999, 3000, 3999, 4000, 4999, 5000, 65536):
            self.gateway.sockets.live["ws-1"] = Socket("ws-1", identity="ann")
            path = f"{PAGE}/ws-1?code={code}"
            if code in may:
                self.json(path, 202, "DELETE")
                self.assertEqual(self.closed(), {"ws-1": (code, "closed_by_operator")})
            else:
                self.assertIn("1007 to 1014", self.complaint(path, "DELETE"))
        self.gateway.sockets.live["ws-1"] = Socket("ws-1")
        for code in ("x", "-1000", "+1000", "1000.0", "1000000000", "\u0661000"):
            self.complaint(f"{PAGE}/ws-1?code={quote(code)}", "DELETE")

    def test_reasons_have_to_fit(self) -> None:
        """123 bytes, which are fewer characters; and they are text."""
        path = PAGE + "/ws-1?reason="
        words = self.complaint(path + quote("\u00e4" * 62), "DELETE")
        self.assertEqual(words, "reason has to be at most 123 bytes long")
        self.assertEqual(self.complaint(path + "%ff", "DELETE"), "reason is not UTF-8")
        self.json(path + quote("\u00e4" * 61 + "x"), 202, "DELETE")
        self.assertEqual(len(self.closed()["ws-1"][1].encode()), 123)

    def test_everybody_is_nobody(self) -> None:
        """One has to say who is meant: not by a slip of the pen, and not with an empty variable."""
        words = self.complaint(PAGE, "DELETE")
        self.assertEqual(words, "Say which WebSockets: identity, route, service, instance and ip")
        for query in (
            "code=1000",
            "revoked=true",
            "identity=",
            "identiy=ann",
            "identity=ann&identity=bob",
            "identity=ann&instace=b:80",
            "state=open",
            "identity=ann&state=open",
            "identity=ann&instance",
            "identity=ann&limit=1",
            "identity=ann&after=ws-1",
        ):
            self.complaint(f"{PAGE}?{query}", "DELETE")
        self.complaint(PAGE + "/ws-1?identity=bob", "DELETE")

    def test_revoked_is_what_it_is(self) -> None:
        """True or false, and with no other code."""
        for query in ("revoked=1", "revoked=true&code=1000", "revoked=true&reason=x"):
            self.complaint(f"{PAGE}?identity=ann&{query}", "DELETE")
        self.json(PAGE + "?identity=ann&revoked=false", 202, "DELETE")
        self.assertEqual(set(self.closed().values()), {(1000, "closed_by_operator")})

    def test_changes_are_logged(self) -> None:
        """Who closed what, on one line, whatever was asked for."""
        self.asking = Asking(identity=Identity("root"))
        self.json(PAGE + "/ws-1?code=3001&reason=a%0ab", 202, "DELETE")
        self.json(PAGE + "?instance=b:80&identity=%0a", 202, "DELETE")
        self.assertEqual(
            self.logged(),
            [
                "Administration: closing of WebSocket ws-1 by 'root': 3001 'a\\nb'",
                "Administration: closing of 0 WebSockets with identity '\\n', instance 'b:80'"
                " by 'root': 1000 'closed_by_operator'",
            ],
        )
