"""What lines of the access log tell, and when they are handed over."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, cast

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import AccessLog as Settings
from rtgateway.observe.access_log import BATCH, AccessLog
from tests.observe.exchanges import Body, Exchange, Identity, Repeats, Route, fields, outcome
from tests.observe.sockets import Socket, Traffic

NOW = 1763716170.125
"""2025-11-21T09:09:30.125Z"""


class Sink:
    """Keeps what it is given, and what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.text = ""
        self.dropped = 0
        self.error = ""

    def start(self) -> None:
        self.calls.append("start")

    def write(self, batch: bytes, lines: int) -> None:
        self.calls.append(f"write {lines}")
        self.text += batch.decode("ascii")

    def reopen(self) -> None:
        self.calls.append("reopen")

    def close(self) -> None:
        self.calls.append("close")


def logged(format: Literal["json", "combined"], *exchanges: Exchange) -> list[str]:
    """The lines for ``exchanges``."""
    sink = Sink()
    access_log = AccessLog(Settings(format=format), sink, clock=lambda: NOW)
    for exchange in exchanges:
        access_log.log(exchange, outcome(exchange))
    access_log.flush()
    return sink.text.splitlines()


class JsonTests(SynchronousTestCase):
    """One JSON object per line."""

    def one(self, exchange: Exchange) -> dict[str, Any]:
        (line,) = logged("json", exchange)
        document = json.loads(line)
        assert isinstance(document, dict)
        return document

    def test_an_ordinary_request(self) -> None:
        """Who asked what, what came of it, how long it took, who answered."""
        agent = fields(host=b"h", user_agent=b"curl/8.0", accept=b"*/*")
        self.assertEqual(
            self.one(Exchange(named=agent, body=Body(17), finished=100.0025)),
            {
                "time": "2025-11-21T09:09:30.125Z",
                "request_id": "r-1",
                "client_ip": "192.0.2.1",
                "method": "GET",
                "status": 200,
                "route": "/api/:service/*",
                "service": "users",
                "instance": "http://a:3001",
                "path": "/api/users/1",
                "bytes_in": 17,
                "bytes_out": 150,
                "first_byte_us": 1000,
                "duration_us": 2500,
                "user_agent": "curl/8.0",
            },
        )

    def test_a_request_that_went_nowhere(self) -> None:
        """There is no service, no instance and no first byte; the error has its code."""
        line = self.one(
            Exchange(
                status=404,
                label="unmatched",
                service=None,
                chosen=None,
                first_byte=0.0,
                error_code="not_found",
            )
        )
        self.assertEqual((line["route"], line["error"]), ("unmatched", "not_found"))
        self.assertIsNone(line["first_byte_us"])
        self.assertEqual({"service", "instance", "kind", "subject"} & set(line), set())

    def test_a_request_that_did_not_get_to_its_service(self) -> None:
        """The service is told that it was for; whoever went further tells who was asked, once."""
        refused = Exchange(
            status=429, route=Route(), service=None, chosen=None, error_code="rate_limited"
        )
        self.assertEqual(self.one(refused)["service"], "users")
        (line,) = logged("json", Exchange(route=Route(), error_code="upstream_timeout"))
        self.assertEqual(line.count('"service"'), 1)

    def test_streams_and_identities_are_told(self) -> None:
        """An event stream says so; with authentication the subject is there, escaped."""
        for subject in ("alice", 'a"b\n', "\ud800"):
            line = self.one(Exchange(kind="sse", identity=Identity(subject)))
            self.assertEqual((line["kind"], line["subject"]), ("sse", subject))

    def test_further_tries_are_told(self) -> None:
        """How many attempts there were, and why an instance failed; nothing if all went well."""
        line = self.one(Exchange(attempts=3, error_detail='connection "refused"'))
        self.assertEqual((line["attempts"], line["detail"]), (3, 'connection "refused"'))
        line = self.one(Exchange(status=502, error_code="upstream_unavailable", error_detail="x"))
        self.assertEqual((line["error"], line["detail"]), ("upstream_unavailable", "x"))
        self.assertEqual({"attempts", "detail"} & set(self.one(Exchange())), set())
        line = self.one(Exchange(attempts=0, service=None, chosen=None))
        self.assertNotIn("attempts", line)

    def test_requests_that_are_repeated(self) -> None:
        """Their lines are those of requests that are not, however each of them comes out."""
        agent = fields(user_agent=b'a "b"')
        ways: list[dict[str, Any]] = [
            {},
            {"status": 502, "error_code": "upstream_unavailable", "error_detail": "x"},
            {"identity": Identity("ann")},
            {"identity": Identity('b"c'), "attempts": 2, "bytes_out": 7},
            {"status": 401, "service": None, "chosen": None, "error_code": "Unauthorized"},
        ]
        shared = Repeats()
        repeated = [Exchange(named=agent, repeats=shared, **way) for way in ways * 2]
        others = [Exchange(named=agent, **way) for way in ways * 2]
        self.assertEqual(logged("json", *repeated), logged("json", *others))
        self.assertEqual(len(shared.log_texts), 3)
        for status in range(100, 600):
            logged("json", Exchange(status=status, repeats=shared))
        self.assertLess(len(shared.log_texts), 65)

    def test_long_details_are_cut(self) -> None:
        """256 characters say why."""
        self.assertEqual(
            len(self.one(Exchange(error_code="e", error_detail="x" * 5000))["detail"]), 256
        )

    def test_what_clients_send_can_not_break_a_line(self) -> None:
        """Quotes, line breaks and bytes that are no text stay inside their value."""
        nasty = b'/"},{"x":"\\\n\r\x00\x7f\xff\xc3'
        exchange = Exchange(
            path=nasty, named=fields(user_agent=nasty), client_ip='x"\n', label='la"bel'
        )
        (line,) = logged("json", exchange)
        document = json.loads(line)
        text = nasty.decode("latin-1")
        self.assertEqual((document["path"], document["user_agent"]), (text, text))
        self.assertEqual((document["client_ip"], document["route"]), ('x"\n', 'la"bel'))

    def test_long_user_agents_are_cut(self) -> None:
        """512 bytes say who it is."""
        line = self.one(Exchange(named=fields(user_agent=b"a" * 5000)))
        self.assertEqual(len(line["user_agent"]), 512)

    def test_many_different_clients_are_all_told_right(self) -> None:
        """What is remembered of clients is bounded, and forgetting it changes no line."""
        exchanges = [
            Exchange(client_ip=f"10.0.{n // 256}.{n % 256}", named=fields(user_agent=b"%d" % n))
            for n in range(3000)
        ]
        lines = [json.loads(line) for line in logged("json", *exchanges, *exchanges)]
        expected = [(exchange.client_ip, str(n)) for n, exchange in enumerate(exchanges)] * 2
        self.assertEqual([(line["client_ip"], line["user_agent"]) for line in lines], expected)

    def test_the_time_goes_on(self) -> None:
        """Lines that are a millisecond apart have different times, also when time is set back."""
        sink = Sink()
        now = [NOW]
        access_log = AccessLog(Settings(), sink, clock=lambda: now[0])
        for finished, time_of_day in ((100.0, NOW), (100.002, NOW + 0.875), (200.0, NOW - 3600)):
            now[0] = time_of_day
            exchange = Exchange(finished=finished)
            access_log.log(exchange, outcome(exchange))
        access_log.flush()
        times = [json.loads(line)["time"] for line in sink.text.splitlines()]
        self.assertEqual(
            times,
            ["2025-11-21T09:09:30.125Z", "2025-11-21T09:09:31.000Z", "2025-11-21T08:09:30.125Z"],
        )


class CombinedTests(SynchronousTestCase):
    """Apache's combined format."""

    def test_an_ordinary_request(self) -> None:
        """The line that every log analyser reads."""
        exchange = Exchange(named=fields(referer=b"http://x/", user_agent=b"curl/8.0"))
        self.assertEqual(
            logged("combined", exchange),
            [
                '192.0.2.1 - - [21/Nov/2025:09:09:30 +0000] "GET /api/users/1 HTTP/1.1" 200 150'
                ' "http://x/" "curl/8.0"'
            ],
        )

    def test_what_is_missing_is_a_hyphen(self) -> None:
        """A request that was not understood has neither method nor path."""
        exchange = Exchange(method=b"", path=b"", client_ip="", status=400, version=10)
        self.assertEqual(
            logged("combined", exchange),
            ['- - - [21/Nov/2025:09:09:30 +0000] "- - HTTP/1.0" 400 150 "-" "-"'],
        )

    def test_a_referer_loses_its_query(self) -> None:
        """Tokens travel in queries, other people's too."""
        (line,) = logged("combined", Exchange(named=fields(referer=b"http://x/a?token=s3cret")))
        self.assertIn('"http://x/a" "-"', line)
        self.assertNotIn("s3cret", line)

    def test_what_clients_send_can_not_break_a_line(self) -> None:
        """Unusual bytes are written as Apache writes them; a user name has no spaces."""
        exchange = Exchange(
            path=b'/a"\\\n\xff', named=fields(user_agent=b'"\t'), identity=Identity("a b\n")
        )
        (line,) = logged("combined", exchange)
        self.assertIn('"GET /a\\x22\\x5c\\x0a\\xff HTTP/1.1"', line)
        self.assertIn(" - a%20b\\x0a [", line)
        self.assertTrue(line.endswith('"\\x22\\x09"'), line)
        (line,) = logged("combined", Exchange(identity=Identity("\ud800")))
        self.assertIn(" - \\x5cud800 [", line)


def ended(**values: Any) -> Socket:
    """A WebSocket that a client closed after 2.5 s."""
    usual: dict[str, Any] = {
        "closed": 102.5,
        "state": "closing",
        "close_code": 1000,
        "close_reason": "bye",
        "closed_by": "client",
        "received": Traffic(3, 4, 300),
        "sent": Traffic(5, 5, 5000),
    }
    return Socket(**{**usual, **values})


class SocketTests(SynchronousTestCase):
    """A line at the end of a WebSocket."""

    def logged(self, format: Literal["json", "combined", "off"], socket: Socket) -> str:
        sink = Sink()
        access_log = AccessLog(Settings(format=format), sink, clock=lambda: NOW)
        access_log.socket(socket)
        access_log.flush()
        return sink.text

    def test_whose_fault_it_was(self) -> None:
        """Only where the gateway knows."""
        text = self.logged("json", ended(close_detail="client: a reserved opcode"))
        self.assertEqual(json.loads(text)["detail"], "client: a reserved opcode")
        self.assertNotIn("detail", json.loads(self.logged("json", ended())))

    def test_json(self) -> None:
        """How long it lasted, how it ended, what went over it."""
        text = self.logged("json", ended())
        self.assertTrue(text.endswith("}\n"))
        self.assertEqual(
            json.loads(text),
            {
                "time": "2025-11-21T09:09:30.125Z",
                "event": "websocket_closed",
                "request_id": "r-1",
                "websocket": "ws-1",
                "client_ip": "192.0.2.1",
                "route": "/ws/:service",
                "service": "users",
                "instance": "http://a:3001",
                "path": "/ws/users",
                "duration_us": 2_500_000,
                "close_code": 1000,
                "close_reason": "bye",
                "closed_by": "client",
                "messages_in": 3,
                "bytes_in": 300,
                "messages_out": 5,
                "bytes_out": 5000,
            },
        )

    def test_combined(self) -> None:
        """The shape of all lines, and a method that no request has."""
        text = self.logged("combined", ended(identity="ann b"))
        self.assertEqual(
            text,
            "192.0.2.1 - ann%20b [21/Nov/2025:09:09:30 +0000]"
            ' "CLOSE /ws/users HTTP/1.1" 101 5000 "-" "code=1000 by=client reason=bye'
            ' duration_us=2500000 in=3/300 out=5/5000 websocket=ws-1"\n',
        )

    def test_what_others_send_can_not_break_a_line(self) -> None:
        """Reasons, paths and subjects are anybody's text."""
        nasty = 'a"b\\\r\n\u2028\x1b[0m'
        for subject in (nasty, "\ud800"):
            socket = ended(close_reason=nasty, path=nasty.encode(), identity=subject)
            text = self.logged("json", socket)
            line = json.loads(text)
            self.assertEqual((line["close_reason"], line["subject"]), (nasty, subject))
            self.assertEqual(line["path"].encode("latin-1"), nasty.encode())
            self.assertEqual((text.isascii(), text.count("\n")), (True, 1))
            text = self.logged("combined", socket)
            shape = r'\S+ - \S+ \[[^]]+] "CLOSE [^" ]+ HTTP/1.1" 101 \d+ "-" "[^"]+"\n'
            self.assertRegex(text, re.compile(shape + r"\Z"))
            self.assertTrue(text.isascii())

    def test_nobody_closed(self) -> None:
        """What is missing is a hyphen."""
        text = self.logged("combined", ended(closed_by="", close_reason="", client_ip=""))
        self.assertTrue(text.startswith("- - - ["))
        self.assertIn("by=- reason=- ", text)

    def test_off_is_off(self) -> None:
        """Nothing is written."""
        self.assertEqual(self.logged("off", ended()), "")


class AccessLogTests(SynchronousTestCase):
    """When lines are handed over."""

    def setUp(self) -> None:
        self.sink = Sink()
        self.access_log = AccessLog(Settings(flush=0.5), self.sink)

    def test_lines_wait_for_the_flush(self) -> None:
        """They are written together; a flush of nothing writes nothing."""
        self.access_log.start()
        self.access_log.log(Exchange(), "")
        self.access_log.log(Exchange(), "")
        self.assertIn("2 lines to hand over", repr(self.access_log))
        self.assertEqual(self.sink.calls, ["start"])
        self.access_log.flush()
        self.access_log.flush()
        self.assertEqual(self.sink.calls, ["start", "write 2"])
        self.assertEqual(self.access_log.interval, 0.5)

    def test_many_lines_do_not_wait(self) -> None:
        """Memory for lines is bounded: a full batch goes at once."""
        for _ in range(BATCH):
            self.access_log.log(Exchange(), "")
        for _ in range(BATCH):
            self.access_log.socket(ended())
        self.assertEqual(self.sink.calls, [f"write {BATCH}"] * 2)

    def test_rotation_and_the_end_lose_nothing(self) -> None:
        """Lines so far go to the old file; the last ones are written before closing."""
        self.access_log.log(Exchange(), "")
        self.access_log.reopen()
        self.access_log.log(Exchange(), "")
        self.access_log.close()
        self.assertEqual(self.sink.calls, ["write 1", "reopen", "write 1", "close"])

    def test_off_is_off(self) -> None:
        """Nothing is opened, nothing is written."""
        access_log = AccessLog(Settings(format="off"), self.sink)
        access_log.start()
        access_log.log(Exchange(), "")
        access_log.flush()
        access_log.reopen()
        access_log.close()
        self.assertEqual((self.sink.calls, access_log.dropped), ([], 0))

    def test_a_log_that_can_not_be_written_is_told_once(self) -> None:
        """And that it is written again, too; the lost lines are counted."""
        events: list[LogEvent] = []
        observer = cast("ILogObserver", events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for error in ("", "No space left on device", "No space left on device", ""):
            self.sink.error = error
            self.access_log.flush()
        told = [event.get("error") for event in events]
        self.assertEqual(told, ["No space left on device", None])
        self.sink.dropped = 5
        self.assertEqual(self.access_log.dropped, 5)

    def test_queries_and_credentials_are_in_no_line(self) -> None:
        """Whatever the format."""
        headers = fields(
            authorization=b"Bearer s3cret", cookie=b"s=s3cret", referer=b"http://x/?s3cret"
        )
        for line in logged("json", Exchange(named=headers)):
            self.assertNotIn("s3cret", line)
        for line in logged("combined", Exchange(named=headers)):
            self.assertNotIn("s3cret", line)
