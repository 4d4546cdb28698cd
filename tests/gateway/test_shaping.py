"""What a route does with some of its requests: split, mirrored, delayed, refused.

Against services that do what the test says; with sockets: ``tests/e2e/test_shaping.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.core.deadlines import Wheel
from rtgateway.errors import ClientGone, GatewayError, UpstreamFailed
from rtgateway.gateway.body import RequestBody
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.mirror import Mirror, MirrorCall
from rtgateway.gateway.shaping import Shaping, make_shaping
from rtgateway.net.tasks import Task, Waiter
from rtgateway.upstream.answer import Answer
from rtgateway.wire.http1 import HeadLimits, RequestParser, ResponseParser

__all__: list[str] = []

PATIENCE = SimpleNamespace(connect=1.0, first_byte=20.0, between_bytes=300.0)
INSTANCE = cast("Any", SimpleNamespace(base=b"/base", authority=b"shadow:1"))


class FakeClient:
    """Who asked."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class FakeService:
    """Takes every call, and answers when the test says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[MirrorCall] = []
        self.plans: list[Any] = []
        self.answers: list[Waiter[Answer]] = []
        self.cancelled = 0

    async def forward(self, call: MirrorCall, plan: Any) -> Answer:
        waiter: Waiter[Answer] = Waiter()
        self.calls.append(call)
        self.plans.append(plan)
        self.answers.append(waiter)
        try:
            return await waiter
        except ClientGone:
            self.cancelled += 1
            raise


class FakeConnection:
    """Where an answer comes from."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.sink: Any = None
        self.end: Waiter[bytes] = Waiter()

    def resume(self) -> None:
        self.said.append("resume")

    def abort(self) -> None:
        self.said.append("abort")

    def wait_for_ever(self) -> None:
        self.said.append("endless")

    def stream_to(self, sink: Any) -> Waiter[bytes]:
        self.sink = sink
        return self.end


def answer(*lines: str, complete: bool = False, connection: FakeConnection | None = None) -> Answer:
    """A 200 with these header lines."""
    data = "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode()
    head = ResponseParser(HeadLimits()).feed(data)
    assert head is not None
    made = Answer(cast("Any", connection or FakeConnection()), head)
    made.complete = complete
    return made


def exchange(*lines: str, method: str = "GET") -> Exchange:
    """A request with these header lines, as the pipeline has it when it is shaped."""
    data = "\r\n".join((f"{method} /x HTTP/1.1", "Host: test", *lines, "", "")).encode()
    head = RequestParser(HeadLimits()).feed(data)
    assert head is not None
    made = Exchange(cast("Any", FakeClient()), head, 0.0)
    made.client_ip, made.host, made.path, made.rest = "192.0.2.1", b"test", b"/x", b"/x?q"
    made.forwarding, made.request_id, made.trace = b"X-Forwarded-Proto: https\r\n", b"1", b""
    made.route = cast("Any", SimpleNamespace(preserve_host=False))
    if head.length:
        made.body = RequestBody(cast("Any", made.client), head.length)
    return made


class ShapingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel()
        self.services = {name: FakeService(name) for name in ("main", "canary", "shadow")}
        self.numbers: list[float] = []

    def shaping(self, **settings: Any) -> Shaping:
        """The stages of a route to ``main``; chance gives ``numbers`` one by one."""
        route = config.Route(path="/", service="main", **settings)
        shaping = make_shaping(
            route,
            cast("Any", self.services),
            lambda service: cast("Any", PATIENCE),
            random=lambda: self.numbers.pop(0),
            reactor=self.clock,
            wheel=self.wheel,
        )
        assert shaping is not None
        return shaping

    def entered(self, shaping: Shaping, request: Exchange) -> list[object]:
        """What became of ``request``: a list that gets a service's name, or an error."""
        said: list[object] = []

        async def enter() -> None:
            try:
                service = await shaping.enter(request, cast("Any", self.services["main"]))
                said.append(service.name)
            except GatewayError as error:
                said.append(error)

        self.task = Task(enter())
        self.task.step()
        return said


class RouteTests(ShapingTestCase):
    def test_a_route_without_any_of_it(self) -> None:
        """It has no shaping at all."""
        made = make_shaping(
            config.Route(path="/", service="main"),
            {},
            cast("Any", None),
            random=lambda: 0.0,
            reactor=self.clock,
            wheel=self.wheel,
        )
        self.assertIsNone(made)

    def test_what_it_says(self) -> None:
        """The admin pages show the counts of what is on, and nothing of what is off."""
        split = {"to": [{"service": "canary", "share": 0.1}]}
        self.assertEqual(self.shaping(split=split).describe(), {})
        shaping = self.shaping(mirror={"service": "shadow"}, faults={"delay": 1})
        self.numbers = [0.0]
        self.entered(shaping, exchange())
        self.clock.advance(1)
        self.assertEqual(
            shaping.describe(),
            {
                "mirror": {
                    "service": "shadow",
                    "in_flight": 1,
                    "sent": 1,
                    "failed": 0,
                    "dropped": 0,
                    "skipped": 0,
                },
                "faults": {"delayed": 1, "aborted": 0},
            },
        )

    def test_repr(self) -> None:
        shaping = self.shaping(
            split={"to": [{"service": "canary", "share": 0.1}]},
            mirror={"service": "shadow"},
            faults={"abort": 503},
        )
        self.assertEqual(
            repr(shaping),
            "<Shaping <Splitter <Split 2 ways>> <Mirror shadow 0 in flight> "
            "<FaultInjection 0 waiting>>",
        )


class SplitTests(ShapingTestCase):
    def to(self, *lines: str, numbers: Sequence[float] = (), **settings: Any) -> tuple[str, bytes]:
        """Where a request with these header lines goes, and what its client is told."""
        self.numbers[:] = numbers
        request = exchange(*lines)
        split = {"to": [{"service": "canary", "share": 0.2}], **settings}
        (service,) = self.entered(self.shaping(split=split), request)
        self.assertEqual(self.numbers, [], "chance was not asked")
        return str(service), request.answer_lines

    def test_by_chance(self) -> None:
        """A share goes to the canary; nothing is kept without a cookie to keep it in."""
        self.assertEqual(self.to(numbers=[0.19]), ("canary", b""))
        self.assertEqual(self.to(numbers=[0.2]), ("main", b""))

    def test_by_header(self) -> None:
        """For one request; the name of the field in any spelling, that of the service exactly."""
        kept: dict[str, Any] = {"header": "X-Service", "cookie": "version"}
        for line, service in (
            ("X-Service: canary", "canary"),
            ("x-SERVICE: main", "main"),
            ("X-Service:  canary ", "canary"),
            ("X-Service: nobody\r\nX-Service: canary", "canary"),
        ):
            self.assertEqual(self.to(line, "Cookie: version=main", **kept), (service, b""))

    def test_by_header_of_another_service(self) -> None:
        """Nobody can name a service that is not in the split."""
        for value in ("shadow", "Canary", "", "canary, main"):
            to, _ = self.to(f"X-Service: {value}", numbers=[0.5], header="X-Service")
            self.assertEqual(to, "main", value)

    def test_no_header_configured(self) -> None:
        self.assertEqual(self.to("X-Service: canary", numbers=[0.5])[0], "main")

    def test_a_choice_is_kept(self) -> None:
        """For the default as for the canary, so that a client sees one version of everything."""
        for number, service in ((0.1, b"canary"), (0.9, b"main")):
            to, lines = self.to("Cookie: other=1", numbers=[number], cookie="version")
            self.assertEqual(to, service.decode())
            self.assertEqual(
                lines, b"Set-Cookie: version=%b; Path=/; HttpOnly; SameSite=Lax\r\n" % service
            )
            self.assertEqual(self.to(f"Cookie: a=1; version={to}", cookie="version"), (to, b""))

    def test_a_choice_outlives_its_share(self) -> None:
        """Another share moves nobody who was sent somewhere before."""
        none: dict[str, Any] = {"to": [{"service": "canary", "share": 0}], "cookie": "version"}
        self.assertEqual(self.to("Cookie: version=canary", **none), ("canary", b""))

    def test_a_choice_of_the_past(self) -> None:
        """A cookie that names a service which is no longer in the split is replaced."""
        to, lines = self.to("Cookie: version=shadow", numbers=[0.1], cookie="version")
        self.assertEqual(to, "canary")
        self.assertIn(b"version=canary", lines)


class FaultTests(ShapingTestCase):
    def test_refused(self) -> None:
        """With the status that was asked for, and a header that says who did it."""
        shaping = self.shaping(faults={"abort": 429, "abort_share": 0.5})
        self.numbers = [0.5, 0.49]
        self.assertEqual(self.entered(shaping, exchange()), ["main"])
        (error,) = self.entered(shaping, exchange())
        assert isinstance(error, GatewayError)
        self.assertEqual((error.status, error.code), (429, "fault_injected"))
        self.assertEqual(error.headers, ((b"X-Fault-Injected", b"abort"),))
        self.assertEqual(shaping.faults and shaping.faults.aborted, 1)

    def test_delayed(self) -> None:
        """It goes on after the delay, and says that there was one."""
        shaping = self.shaping(faults={"delay": 2, "delay_share": 0.5})
        self.numbers = [0.5, 0.49]
        self.assertEqual(self.entered(shaping, exchange()), ["main"])
        request = exchange()
        said = self.entered(shaping, request)
        self.clock.advance(1.9)
        self.assertEqual(said, [])
        self.clock.advance(0.1)
        self.assertEqual(said, ["main"])
        self.assertEqual(request.answer_lines, b"X-Fault-Injected: delay\r\n")
        self.assertEqual(shaping.faults and shaping.faults.delayed, 1)

    def test_both(self) -> None:
        """Independent shares: a request may be delayed and then refused."""
        shaping = self.shaping(
            faults={"delay": 2, "delay_share": 0.5, "abort": 500, "abort_share": 0.5}
        )
        self.numbers = [0.1, 0.1]
        said = self.entered(shaping, exchange())
        self.assertEqual(said, [])
        self.clock.advance(2)
        self.assertEqual([getattr(error, "status", 0) for error in said], [500])

    def test_only_with_a_header(self) -> None:
        """A drill for those who asked for it; its value does not matter."""
        shaping = self.shaping(faults={"abort": 503, "header": "X-Drill"})
        self.numbers = [0.0]
        self.assertEqual(self.entered(shaping, exchange("X-Other: 1")), ["main"])
        (error,) = self.entered(shaping, exchange("x-drill: anything"))
        self.assertIsInstance(error, GatewayError)

    def test_the_client_leaves(self) -> None:
        """Its delay ends with it, and no timer is left."""
        shaping = self.shaping(faults={"delay": 60})
        self.numbers = [0.0]
        said = self.entered(shaping, exchange())
        gone = ClientGone()
        self.task.cancel(gone)
        self.assertEqual(said, [gone])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(repr(shaping.faults), "<FaultInjection 0 waiting>")

    def test_the_gateway_stops(self) -> None:
        """Who still waits is treated as gone, and no timer is left."""
        shaping = self.shaping(faults={"delay": 60})
        self.numbers = [0.0, 0.0]
        said = [*[self.entered(shaping, exchange()) for _ in range(2)]]
        shaping.stop()
        self.assertEqual([type(error) for (error,) in said], [ClientGone, ClientGone])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_refused_is_not_mirrored(self) -> None:
        shaping = self.shaping(faults={"abort": 503}, mirror={"service": "shadow"})
        self.numbers = [0.0]
        self.entered(shaping, exchange())
        self.clock.advance(0)
        self.assertEqual(self.services["shadow"].calls, [])


class MirrorTests(ShapingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.shadow = self.services["shadow"]

    def mirror(self, **settings: Any) -> Mirror:
        self.shaped = self.shaping(mirror={"service": "shadow", **settings})
        assert self.shaped.mirror is not None
        return self.shaped.mirror

    def enter(self, *lines: str, method: str = "GET") -> Exchange:
        request = exchange(*lines, method=method)
        self.assertEqual(self.entered(self.shaped, request), ["main"])
        return request

    def sent(self) -> MirrorCall:
        """The one copy, which the reactor has got round to."""
        self.clock.advance(0)
        (call,) = self.shadow.calls
        return call

    def counts(self, mirror: Mirror, **expected: int) -> None:
        actual = {name: getattr(mirror, name) for name in ("sent", "failed", "dropped", "skipped")}
        self.assertEqual(actual, dict.fromkeys(actual, 0) | expected)

    def at_rest(self, mirror: Mirror) -> None:
        """Nothing is left of any copy."""
        self.assertEqual(mirror.in_flight, 0)
        self.assertEqual(len(self.wheel), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_copy(self) -> None:
        """The same request as the route would send it, marked; after the request itself."""
        mirror = self.mirror()
        request = self.enter("X-Mine: 1", "Idempotency-Key: k")
        self.assertEqual(self.shadow.calls, [])
        call = self.sent()
        original = request.head_for(INSTANCE)
        self.assertEqual(call.head_for(INSTANCE), original[:-2] + b"X-Rtgateway-Mirror: 1\r\n\r\n")
        self.assertTrue(original.startswith(b"GET /base/x?q HTTP/1.1\r\nHost: shadow:1\r\n"))
        self.assertEqual((call.method, call.path, call.client_ip), (b"GET", b"/x", "192.0.2.1"))
        self.assertEqual((call.to_head, call.secure, call.body), (False, True, None))
        self.assertEqual(call.values(b"idempotency-key"), [b"k"])
        self.assertEqual(repr(mirror), "<Mirror shadow 1 in flight>")
        self.assertEqual(repr(call), "<MirrorCall GET sent>")
        self.shadow.answers[0].succeed(answer("Content-Length: 2", complete=True))
        self.counts(mirror, sent=1)
        self.at_rest(mirror)

    def test_one_try(self) -> None:
        """With the timeouts of its own service."""
        self.mirror()
        self.enter()
        self.sent()
        (plan,) = self.shadow.plans
        self.assertEqual((plan.retry.attempts, plan.retry.hedge, plan.request), (1, None, 0))
        self.assertEqual((plan.connect, plan.first_byte, plan.between_bytes), (1, 20, 300))

    def test_a_share(self) -> None:
        mirror = self.mirror(share=0.5)
        self.numbers = [0.5, 0.49]
        self.enter()
        self.enter()
        self.sent()
        self.counts(mirror, sent=1)

    def test_its_body(self) -> None:
        """A copy waits until the body is complete, and has all of it at once."""
        mirror = self.mirror()
        request = self.enter("Transfer-Encoding: chunked", method="POST")
        body = request.body
        assert body is not None
        body.received(b"one ")
        self.clock.advance(1)
        self.assertEqual((self.shadow.calls, mirror.in_flight), ([], 1))
        body.received(b"two")
        body.finished([(b"X-Sum", b"1")])
        body.over()
        copy = self.sent().body
        assert copy is not None
        self.assertTrue(copy.ended and copy.chunked and copy.repeatable)
        self.assertEqual(copy.trailers, [(b"X-Sum", b"1")])
        for _ in range(2):
            self.assertEqual(copy.attach(cast("Any", None)), b"one two")
            copy.detach(cast("Any", None))
        self.counts(mirror, sent=1)

    def test_a_body_that_came_with_its_head(self) -> None:
        self.mirror()
        request = exchange("Content-Length: 5", method="PUT")
        assert request.body is not None
        request.body.received(b"hello")
        request.body.finished([])
        self.entered(self.shaped, request)
        call = self.sent()
        assert call.body is not None
        self.assertEqual(
            (call.body.attach(cast("Any", None)), call.body.chunked), (b"hello", False)
        )
        self.assertIn(b"Content-Length: 5\r\n", call.head_for(INSTANCE))

    def test_a_body_that_is_too_large(self) -> None:
        """Announced or not: it is not mirrored, and nothing of it is kept."""
        mirror = self.mirror(body_limit=4)
        self.enter("Content-Length: 5", method="POST")
        self.counts(mirror, skipped=1)
        for size in (4, 5):
            request = self.enter("Transfer-Encoding: chunked", method="POST")
            assert request.body is not None
            for _ in range(size):
                request.body.received(b"x")
            request.body.finished([])
            request.body.over()
        self.sent()
        self.counts(mirror, skipped=2, sent=1)

    def test_a_body_that_never_ends(self) -> None:
        """Its client leaves, and so does the copy."""
        mirror = self.mirror()
        request = self.enter("Content-Length: 5", method="POST")
        assert request.body is not None
        request.body.received(b"hell")
        request.body.over()
        self.clock.advance(0)
        self.counts(mirror, skipped=1)
        self.at_rest(mirror)

    def test_no_more_than_that(self) -> None:
        """Copies beyond the limit are not made; one that has ended makes room for another."""
        mirror = self.mirror(in_flight=2)
        self.enter("Content-Length: 5", method="POST")
        self.enter()
        self.enter()
        self.counts(mirror, dropped=1)
        self.sent()
        self.shadow.answers[0].fail(UpstreamFailed("refused"))
        self.enter()
        self.clock.advance(0)
        self.counts(mirror, sent=2, failed=1, dropped=1)

    def test_its_failure(self) -> None:
        """Is counted, and nobody else hears of it."""
        mirror = self.mirror()
        self.enter()
        self.sent()
        self.shadow.answers[0].fail(UpstreamFailed("refused", kind="connect"))
        self.counts(mirror, sent=1, failed=1)
        self.at_rest(mirror)

    def test_a_long_answer(self) -> None:
        """Is read and dropped, up to a mebibyte; then its connection is closed."""
        mirror, connection = self.mirror(), FakeConnection()
        self.enter()
        call = self.sent()
        self.shadow.answers[0].succeed(answer("Content-Length: 9999999", connection=connection))
        self.assertIs(connection.sink, call)
        connection.sink.payload(bytes(1 << 20))
        self.assertEqual(connection.said, ["resume"])
        connection.sink.payload(b"x")
        self.assertEqual(connection.said, ["resume", "endless", "abort"])
        self.counts(mirror, sent=1)
        self.at_rest(mirror)

    def test_an_answer_that_comes_in_parts(self) -> None:
        mirror, connection = self.mirror(), FakeConnection()
        self.enter()
        self.sent()
        streamed = answer("Transfer-Encoding: chunked", connection=connection)
        self.shadow.answers[0].succeed(streamed)
        connection.sink.payload(b"some")
        streamed.complete = True
        connection.end.succeed(b"rest")
        self.assertEqual(connection.said, ["resume"])
        self.at_rest(mirror)

    def test_an_answer_that_breaks_off(self) -> None:
        mirror, connection = self.mirror(), FakeConnection()
        self.enter()
        self.sent()
        self.shadow.answers[0].succeed(answer("Content-Length: 9", connection=connection))
        connection.end.fail(UpstreamFailed("reset", kind="reset"))
        self.counts(mirror, sent=1, failed=1)
        self.at_rest(mirror)

    def test_a_stream_of_events(self) -> None:
        """That it has begun is enough: nobody listens."""
        mirror, connection = self.mirror(), FakeConnection()
        self.enter()
        self.sent()
        events = ("Content-Type: text/event-stream", "Transfer-Encoding: chunked")
        self.shadow.answers[0].succeed(answer(*events, connection=connection))
        self.assertEqual(connection.said, ["endless", "abort"])
        self.counts(mirror, sent=1)
        self.at_rest(mirror)

    def test_an_answer_that_drips(self) -> None:
        """However steadily it comes, a copy takes no longer than all timeouts together."""
        mirror = self.mirror()
        self.enter()
        call = self.sent()
        late = self.wheel.advance(call.deadline + 0.2)
        self.assertEqual(late, [call])
        late[0].expired(call.deadline)
        self.assertEqual(self.shadow.cancelled, 1)
        self.counts(mirror, sent=1, failed=1)
        self.at_rest(mirror)

    def test_interim_answers(self) -> None:
        """Go nowhere: the client is not to hear from two services."""
        self.mirror()
        request = self.enter("Expect: 100-continue")
        self.assertFalse(hasattr(request.client, "write"))
        self.sent().interim(answer("X: 1").head)
        self.assertEqual(request.status, 0)

    def test_the_gateway_stops(self) -> None:
        """Copies end at whatever point they are, and there are no new ones."""
        mirror = self.mirror()
        collecting = self.enter("Content-Length: 5", method="POST")
        self.enter()
        self.sent()
        self.enter()  # not sent yet
        self.assertEqual(mirror.in_flight, 3)
        self.shaped.stop()
        self.at_rest(mirror)
        self.assertEqual(self.shadow.cancelled, 1)
        assert collecting.body is not None
        collecting.body.received(b"hello")
        collecting.body.finished([])
        collecting.body.over()
        self.enter()
        self.clock.advance(0)
        self.assertEqual(len(self.shadow.calls), 1)
        self.counts(mirror, sent=1, dropped=1)
        self.at_rest(mirror)

    def test_the_gateway_drains(self) -> None:
        """Copies end at once; requests go on, with their delays, but are no longer mirrored."""
        shaping = self.shaping(mirror={"service": "shadow"}, faults={"delay": 1})
        self.numbers = [0.0]
        said = self.entered(shaping, exchange())
        shaping.drain()
        self.clock.advance(1)
        self.clock.advance(0)
        self.assertEqual((said, self.shadow.calls), (["main"], []))

    def test_nothing_secret_is_shown(self) -> None:
        """Neither a head nor a body is part of what a log could show of a copy."""
        self.mirror()
        request = self.enter("Content-Length: 6", "Cookie: secret", method="POST")
        assert request.body is not None
        request.body.received(b"secret")
        request.body.finished([])
        call = self.sent()
        self.assertEqual(repr(call), "<MirrorCall POST sent>")
        self.assertEqual(repr(call.body), "<_WholeBody 6 bytes>")
