"""What the demo's instances answer, byte by byte and with a clock in the test's hand."""

from __future__ import annotations

import re
from typing import Any

import orjson
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.demo.instance import make_site
from rtgateway.demo.outage import LONGEST
from rtgateway.demo.pages import SLOW_SECONDS
from rtgateway.demo.ticker import REPLAY


class Instance(SynchronousTestCase):
    """An instance, and a connection to it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.site = make_site("users-1", self.clock)
        self.connect()

    def connect(self) -> None:
        self.channel: Any = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.transport = StringTransport()
        # What a real transport has, and Autobahn replaces.
        self.transport.protocol = self.channel  # type: ignore[attr-defined]
        self.channel.makeConnection(self.transport)

    def send(self, method: str, path: str, *fields: str, body: bytes = b"") -> None:
        lines = (f"{method} {path} HTTP/1.1", "Host: demo", f"Content-Length: {len(body)}", *fields)
        self.channel.dataReceived("\r\n".join((*lines, "", "")).encode() + body)

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"") -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        self.send(method, path, *fields, body=body)
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        self.transport.clear()
        self.assertIn(b"\r\nX-Instance: users-1", head)
        self.assertIn(b"\r\nContent-Type: application/json", head)
        return int(head.split()[1]), orjson.loads(rest)


class PagesTests(Instance):
    def test_the_root_lists_the_paths(self) -> None:
        status, body = self.ask("GET", "/")
        self.assertEqual((status, body["instance"]), (200, "users-1"))
        self.assertIn("/users", body["paths"])

    def test_health(self) -> None:
        expected = {"status": "ok", "instance": "users-1"}
        self.assertEqual(self.ask("GET", "/health"), (200, expected))

    def test_ok(self) -> None:
        self.assertEqual(self.ask("GET", "/ok"), (200, {"ok": True}))

    def test_fail(self) -> None:
        self.assertEqual(self.ask("GET", "/fail")[0], 500)

    def test_collections_answer_with_all_one_or_none_of_their_items(self) -> None:
        for path in ("/users", "/products"):
            with self.subTest(path):
                status, items = self.ask("GET", path)
                self.assertEqual((status, [item["id"] for item in items]), (200, [1, 2, 3]))
                self.assertEqual(self.ask("GET", f"{path}/2"), (200, items[1]))
                self.assertEqual(self.ask("GET", f"{path}/4")[0], 404)
                self.assertEqual(self.ask("GET", f"{path}/2/more")[0], 404)

    def test_unknown_paths_are_not_found(self) -> None:
        for path in ("/nothing", "/ok/more", "/nothing/at/all"):
            self.assertEqual(self.ask("GET", path), (404, {"error": "not_found"}), path)

    def test_echo_shows_what_arrived(self) -> None:
        status, body = self.ask("PATCH", "/echo?a=1&a=2", "X-Some: thing", body="hällo".encode())
        self.assertEqual(status, 200)
        self.assertEqual(body["method"], "PATCH")
        self.assertEqual(body["target"], "/echo?a=1&a=2")
        self.assertIn(["x-some", "thing"], body["headers"])
        self.assertEqual((body["body"], body["body_bytes"]), ("hällo", 6))

    def test_echo_cuts_a_long_body(self) -> None:
        body = self.ask("POST", "/echo", body=b"x" * 100_000)[1]
        self.assertEqual((len(body["body"]), body["body_bytes"]), (65536, 100_000))

    def test_head_has_the_length_and_no_body(self) -> None:
        self.send("HEAD", "/ok")
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"\r\nContent-Length: 12", head)
        self.assertEqual(rest, b"")

    def test_slow_answers_after_two_seconds(self) -> None:
        self.send("GET", "/slow")
        self.clock.advance(SLOW_SECONDS - 0.1)
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(0.1)
        self.assertIn(b'"waited_seconds":2.0', self.transport.value())

    def test_slow_forgets_a_client_that_left(self) -> None:
        self.send("GET", "/slow")
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_plain_request_for_the_websocket_is_told_to_upgrade(self) -> None:
        self.send("GET", "/ws")
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 426 "))


class OutageTests(Instance):
    def test_it_tells_what_was_broken_and_for_how_long(self) -> None:
        expected = {"instance": "users-1", "broken": "500", "seconds": 60}
        self.assertEqual(self.ask("POST", "/break?how=500&seconds=60"), (200, expected))

    def test_without_more_words_it_is_503_for_20_seconds(self) -> None:
        expected = {"instance": "users-1", "broken": "503", "seconds": 20}
        self.assertEqual(self.ask("POST", "/break"), (200, expected))

    def test_every_page_fails_until_the_time_is_over(self) -> None:
        for how in ("503", "500"):
            with self.subTest(how):
                self.ask("POST", f"/break?how={how}&seconds=5")
                self.clock.advance(4.9)
                for path in ("/", "/health", "/users/2", "/nothing", "/events"):
                    expected = {"error": "broken", "instance": "users-1"}
                    self.assertEqual(self.ask("GET", path), (int(how), expected), path)
                self.clock.advance(0.1)
                self.assertEqual(self.ask("GET", "/health")[0], 200)

    def test_a_request_hangs_until_the_time_is_over(self) -> None:
        self.ask("POST", "/break?how=hang&seconds=5")
        self.clock.advance(2)
        self.send("GET", "/health")
        self.clock.advance(2.9)
        self.assertEqual((self.transport.value(), self.transport.disconnecting), (b"", False))
        self.clock.advance(0.1)
        self.assertEqual((self.transport.value(), self.transport.disconnecting), (b"", True))

    def test_a_client_that_leaves_is_no_longer_held(self) -> None:
        self.ask("POST", "/break?how=hang")
        self.send("GET", "/ok")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_connection_is_closed_instead_of_an_answer(self) -> None:
        self.ask("POST", "/break?how=close")
        self.send("GET", "/ok")
        self.assertEqual((self.transport.value(), self.transport.disconnecting), (b"", True))

    def test_it_can_be_mended_while_it_is_broken(self) -> None:
        for how in ("503", "500", "hang", "close"):
            with self.subTest(how):
                self.ask("POST", f"/break?how={how}")
                expected = {"instance": "users-1", "broken": None}
                self.assertEqual(self.ask("POST", "/mend"), (200, expected))
                self.assertEqual(self.ask("GET", "/health")[0], 200)

    def test_it_can_be_broken_in_another_way_while_it_is_broken(self) -> None:
        self.ask("POST", "/break?how=500&seconds=60")
        self.ask("POST", "/break?how=503&seconds=1")
        self.assertEqual(self.ask("GET", "/ok")[0], 503)
        self.clock.advance(1)
        self.assertEqual(self.ask("GET", "/ok")[0], 200)

    def test_a_wrong_order_is_refused_in_a_sentence_and_breaks_nothing(self) -> None:
        ways = "how has to be one of 503, 500, hang, close"
        times = f"seconds has to be a whole number from 1 to {LONGEST}"
        for query, message in {
            "how=404": ways,
            "how=": ways,
            "how=%ff": ways,
            "seconds=0": times,
            "seconds=61": times,
            "seconds=-1": times,
            "seconds=1.5": times,
            "seconds=soon": times,
            "seconds=%c2%b2": times,
            f"seconds={'9' * 5000}": times,
        }.items():
            with self.subTest(query[:20]):
                expected = {"error": "bad_request", "message": message}
                self.assertEqual(self.ask("POST", f"/break?{query}"), (400, expected))
        self.assertEqual(self.ask("GET", "/ok")[0], 200)

    def test_looking_at_an_order_does_not_carry_it_out(self) -> None:
        self.send("GET", "/break")
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 405 "))
        self.assertIn(b"\r\nAllow: POST\r\n", self.transport.value())
        self.transport.clear()
        self.assertEqual(self.ask("GET", "/ok")[0], 200)


class EventsTests(Instance):
    def ids(self) -> list[int]:
        """The numbers of the events that have arrived."""
        return [int(number) for number in re.findall(rb"^id: (\d+)$", self.transport.value(), re.M)]

    def listen(self, *fields: str) -> None:
        self.send("GET", "/events", *fields)

    def test_a_stream_says_what_it_is_and_when_to_come_back(self) -> None:
        self.listen()
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"\r\nContent-Type: text/event-stream", head)
        self.assertIn(b"retry: 2000\n\n", rest)

    def test_an_event_has_its_number_its_type_and_its_data(self) -> None:
        self.listen()
        event = b'id: 1\nevent: tick\ndata: {"tick":1,"instance":"users-1"}\n\n'
        self.assertIn(event, self.transport.value())

    def test_it_begins_with_the_newest_event_and_goes_on_every_second(self) -> None:
        self.clock.advance(3)
        self.listen()
        self.clock.pump([1, 1])
        self.assertEqual(self.ids(), [4, 5, 6])

    def test_a_client_that_comes_back_gets_what_it_missed(self) -> None:
        self.clock.advance(5)
        self.listen("Last-Event-ID: 2")
        self.assertEqual(self.ids(), [3, 4, 5, 6])

    def test_only_so_much_is_sent_again(self) -> None:
        self.clock.advance(1000)
        self.connect()
        self.listen("Last-Event-ID: 2")
        self.assertEqual(self.ids(), list(range(1002 - REPLAY, 1002)))

    def test_a_number_from_the_future_brings_what_follows_from_now_on(self) -> None:
        self.listen("Last-Event-ID: 99999")
        self.clock.advance(1)
        self.assertEqual(self.ids(), [2])

    def test_nonsense_for_a_number_counts_as_none(self) -> None:
        self.listen("Last-Event-ID: seven")
        self.assertEqual(self.ids(), [1])

    def test_a_full_connection_gets_its_events_later(self) -> None:
        self.listen()
        connection: Any = self.transport.producer
        connection.pauseProducing()
        self.clock.pump([1, 1, 1])
        self.assertEqual(self.ids(), [1])
        connection.resumeProducing()
        self.clock.advance(1)
        self.assertEqual(self.ids(), [1, 2, 3, 4, 5])

    def test_nothing_ticks_when_nobody_listens(self) -> None:
        self.listen()
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
