"""Requests for a WebSocket on their way through the pipeline: what is done with them, and when.

The bridge, the services and the client are played here; with sockets: ``tests/e2e``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.core.deadlines import Wheel
from rtgateway.core.retry import RetryPolicy
from rtgateway.core.tokens import Identity
from rtgateway.errors import ClientGone, GatewayError, Unauthorized, UpstreamFailed
from rtgateway.gateway.auth import JwtAuth
from rtgateway.gateway.exchange import Exchange
from rtgateway.gateway.pipeline import Pipeline
from rtgateway.gateway.route import Route
from rtgateway.gateway.shaping import make_shaping
from rtgateway.net.tasks import Task, Waiter
from rtgateway.upstream.answer import Answer
from rtgateway.wire.http1 import HeadLimits, RequestParser, ResponseParser

__all__: list[str] = []

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
LINES = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: new\r\n"
PATIENCE = SimpleNamespace(connect=1.0, first_byte=20.0, between_bytes=300.0)
INSTANCE = cast("Any", SimpleNamespace(base=b"", authority=b"instance:1", id="instance:1"))


class Client:
    """Who asked, and the one who waits for it."""

    source = None
    blocked = False

    def __init__(self, did: list[str]) -> None:
        self.did = did
        self.written = b""
        self.task: Task | None = None

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.did.append("abort")

    def done(self, exchange: Exchange) -> None:
        self.did.append("done")

    def finished(self, exchange: Exchange) -> None:
        self.did.append("observed")

    @property
    def status(self) -> int:
        return int(self.written.split(b" ", 2)[1]) if self.written else 0


class Bridge:
    """Takes all that have the field, and writes down when it is asked.

    :ivar refuse: raised at these stages.
    """

    only = False

    def __init__(self, did: list[str]) -> None:
        self.did = did
        self.refuse: dict[str, GatewayError] = {}
        self.token: bytes | None = None

    def _did(self, stage: str) -> None:
        self.did.append(stage)
        if stage in self.refuse:
            raise self.refuse[stage]

    def admit(self, exchange: Exchange) -> None:
        self._did("admit")
        exchange.upgrade = cast(
            "Any", SimpleNamespace(lines=LINES, token=self.token, per_instance=0)
        )

    def enter(self, exchange: Exchange) -> None:
        self._did("enter")

    def open(self, exchange: Exchange, answer: Answer) -> None:
        try:
            self._did("open")
        except UpstreamFailed as error:
            answer.fail(error)
            raise
        exchange.status = 101
        exchange.started_answering = True
        answer.hand_over(object())

    def left(self, exchange: Exchange) -> None:
        self._did("left")


class Connection:
    """Where an answer comes from."""

    def __init__(self, did: list[str]) -> None:
        self.did = did

    def abort(self) -> None:
        self.did.append("abandoned")

    def fail(self, error: GatewayError) -> None:
        self.did.append("blamed")

    def hand_over(self, protocol: object) -> None:
        self.did.append("handed over")


class Service:
    """Takes every call; answers when the test says so."""

    def __init__(self, name: str, did: list[str]) -> None:
        self.name = name
        self.did = did
        self.calls: list[Any] = []
        self.answers: list[Waiter[Answer]] = []

    async def forward(self, call: Any, plan: Any) -> Answer:
        self.did.append(f"forward to {self.name}")
        call.chosen = INSTANCE
        call.attempts = 1
        self.calls.append(call)
        self.answers.append(Waiter())
        return await self.answers[-1]


class Verifier:
    """Believes one token."""

    def verify(self, token: bytes, now: float) -> Identity:
        if token != b"good":
            raise Unauthorized("invalid_token")
        return Identity("alice", {})


class UpgradeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.did: list[str] = []
        self.clock = Clock()
        self.numbers: list[float] = []
        self.bridge = Bridge(self.did)
        self.client = Client(self.did)
        names = ("main", "canary", "shadow")
        self.services = {name: Service(name, self.did) for name in names}

    def route(self, *, auth: bool = False, proxy_headers: bool = False, **settings: Any) -> Route:
        """A route to ``main`` whose bridge is ours."""
        shaping = make_shaping(
            config.Route(path="/", service="main", **settings),
            cast("Any", self.services),
            lambda service: cast("Any", PATIENCE),
            random=lambda: self.numbers.pop(0),
            reactor=self.clock,
            wheel=Wheel(),
        )
        return Route(
            label="/x",
            service=cast("Any", self.services["main"]),
            auth=JwtAuth(cast("Any", Verifier())) if auth else None,
            limits=None,
            strip=False,
            preserve_host=False,
            body_limit=0,
            cancel=True,
            connect=1.0,
            first_byte=1.0,
            between_bytes=1.0,
            request=0.0,
            retry=RetryPolicy.from_config(config.Retry()),
            proxy_headers=proxy_headers,
            shaping=shaping,
            websocket=self.bridge,
        )

    def asks(self, route: Route, *lines: str, plain: bool = False) -> Exchange:
        """A client asks for a WebSocket; the pipeline goes as far as it can."""
        fields = lines if plain else (*UPGRADE, *lines)
        data = "\r\n".join(("GET /x?q HTTP/1.1", "Host: test", *fields, "", "")).encode()
        head = RequestParser(HeadLimits()).feed(data)
        assert head is not None
        made = Exchange(cast("Any", self.client), head, 0.0)
        made.client_ip, made.host, made.path, made.rest = "192.0.2.1", b"test", b"/x", b"/x?q"
        made.forwarding, made.request_id, made.trace = b"", b"1", b""
        self.task = Task(Pipeline(self.client, None).serve(made, route))
        self.task.step()
        return made

    def answers(self, status: int, body: bytes = b"", service: str = "main") -> Answer:
        """The instance answers the last call; a body is the whole of it."""
        framing = b"Content-Length: %d\r\n" % len(body) if status != 101 else b""
        data = b"HTTP/1.1 %d X\r\nX-Said: yes\r\n%b\r\n" % (status, framing)
        parser = ResponseParser(HeadLimits())
        parser.to_head = False
        head = parser.feed(data)
        assert head is not None
        complete = status != 101
        answer = Answer(cast("Any", Connection(self.did)), head, body, complete)
        if not complete:
            answer.watch(cast("Any", SimpleNamespace(endless=lambda: None, ended=self.did.append)))
        self.services[service].answers[-1].succeed(answer)
        return answer

    # -- the order of things -----------------------------------------------------------------

    def test_all_goes_well(self) -> None:
        exchange = self.asks(self.route())
        self.assertEqual(self.did, ["admit", "enter", "forward to main"])
        self.answers(101)
        self.assertEqual(
            self.did[3:], ["open", "handed over", "left", "observed", "done"], "nothing is aborted"
        )
        self.assertEqual((exchange.status, exchange.error_code), (101, ""))
        self.assertEqual(self.client.written, b"", "the bridge says it")

    def test_other_requests_of_the_route(self) -> None:
        """The bridge does not hear of them."""
        self.asks(self.route(), plain=True)
        self.answers(200, b"hi")
        self.assertEqual(self.did, ["forward to main", "observed", "done"])

    def test_other_requests_where_there_are_only_websockets(self) -> None:
        self.bridge.only = True
        self.bridge.refuse["admit"] = GatewayError(426, "upgrade_required", "", fault="client")
        self.asks(self.route(), plain=True)
        self.assertEqual(self.did, ["admit", "observed", "done"])
        self.assertEqual(self.client.status, 426)

    def test_refused_at_each_stage(self) -> None:
        """Whoever was let in by the bridge leaves it, once, before the end is observed."""
        refusal = GatewayError(400, "no", "No", fault="client")
        for stage, did in (
            ("admit", ["admit"]),
            ("enter", ["admit", "enter", "left"]),
        ):
            self.setUp()
            self.bridge.refuse[stage] = refusal
            exchange = self.asks(self.route())
            self.assertEqual(self.did, [*did, "observed", "done"])
            self.assertEqual((self.client.status, exchange.error_code), (400, "no"))

    def test_a_refusal_of_the_instance(self) -> None:
        """With its own status and body."""
        self.asks(self.route())
        self.answers(403, b"no way")
        self.assertEqual(self.did[3:], ["left", "observed", "done"])
        self.assertEqual(self.client.status, 403)
        self.assertTrue(self.client.written.endswith(b"\r\n\r\nno way"))
        self.assertIn(b"X-Said: yes\r\n", self.client.written)

    def test_an_agreement_that_makes_no_sense(self) -> None:
        self.bridge.refuse["open"] = UpstreamFailed("nonsense")
        exchange = self.asks(self.route())
        self.answers(101)
        self.assertEqual(self.did[3:5], ["open", "blamed"])
        self.assertEqual(self.did[-3:], ["left", "observed", "done"])
        self.assertEqual(self.client.status, 502)
        self.assertEqual(exchange.error_detail, "nonsense")

    def test_no_answer(self) -> None:
        self.asks(self.route())
        self.services["main"].answers[0].fail(UpstreamFailed("refused", kind="connect"))
        self.assertEqual(self.did[3:], ["left", "observed", "done"])
        self.assertEqual(self.client.status, 502)

    def test_the_client_leaves(self) -> None:
        exchange = self.asks(self.route())
        self.task.cancel(ClientGone())
        self.assertEqual(self.did[3:], ["left", "observed", "done"])
        self.assertEqual((exchange.status, self.client.written), (499, b""))

    def test_a_bug(self) -> None:
        """It does not keep a place."""
        self.asks(self.route())
        self.services["main"].answers[0].fail(ValueError("a bug"))
        self.assertEqual(self.did[3:], ["left", "observed", "done"])
        self.assertEqual(self.client.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_who_has_refused_is_named_once(self) -> None:
        self.bridge.refuse["open"] = UpstreamFailed("nonsense")
        self.asks(self.route(proxy_headers=True))
        self.answers(101)
        self.assertEqual(self.client.written.count(b"X-Proxy-Instance"), 1)

    # -- who asks ------------------------------------------------------------------------------

    def test_the_token(self) -> None:
        """That of the field counts, else the one that the bridge has found."""
        for field, found, status in (
            ("good", None, 0),
            (None, b"good", 0),
            ("good", b"bad", 0),
            ("bad", b"good", 401),
            (None, b"bad", 401),
            (None, None, 401),
        ):
            self.setUp()
            self.bridge.token = found
            lines = [f"Authorization: Bearer {field}"] if field else []
            exchange = self.asks(self.route(auth=True), *lines)
            self.assertEqual((field, found, self.client.status), (field, found, status))
            if status:
                self.assertEqual(self.did, ["admit", "left", "observed", "done"])
            else:
                self.assertEqual(self.did, ["admit", "enter", "forward to main"])
                self.assertEqual(exchange.identity and exchange.identity.subject, "alice")

    # -- what the instance is asked ------------------------------------------------------------

    def test_the_head(self) -> None:
        """The bridge's lines are in it, once; none that asks for another thing."""
        exchange = self.asks(self.route(), "TE: trailers", "Content-Length: 0", "X-Mine: 1")
        head = exchange.head_for(INSTANCE)
        self.assertTrue(head.startswith(b"GET /x?q HTTP/1.1\r\nHost: instance:1\r\n"))
        self.assertTrue(head.endswith(LINES + b"\r\n"))
        self.assertEqual(head.lower().count(b"connection:"), 1)
        self.assertEqual(head.lower().count(b"upgrade:"), 1)
        self.assertNotIn(b"TE:", head)
        self.assertNotIn(b"Content-Length", head)
        self.assertIn(b"X-Mine: 1\r\n", head)

    def test_the_head_is_made_anew(self) -> None:
        """Another try, at another instance."""
        exchange = self.asks(self.route())
        other = cast("Any", SimpleNamespace(base=b"/base", authority=b"other:1"))
        self.assertIn(LINES, exchange.head_for(INSTANCE))
        head = exchange.head_for(other)
        self.assertTrue(head.startswith(b"GET /base/x?q HTTP/1.1\r\nHost: other:1\r\n"))
        self.assertTrue(head.endswith(LINES + b"\r\n"))

    # -- split, copied, delayed, refused on purpose --------------------------------------------

    def test_it_is_not_mirrored(self) -> None:
        """A copy would be a WebSocket of nobody."""
        route = self.route(mirror={"service": "shadow"})
        self.asks(route)
        self.answers(101)
        self.clock.advance(1)
        self.assertEqual(self.services["shadow"].calls, [])
        assert route.shaping is not None
        assert route.shaping.mirror is not None
        self.assertEqual((route.shaping.mirror.sent, route.shaping.mirror.skipped), (0, 0))

    def test_other_requests_of_the_route_are(self) -> None:
        self.numbers = [0.0]
        self.asks(self.route(mirror={"service": "shadow"}), plain=True)
        self.clock.advance(1)
        self.assertEqual(len(self.services["shadow"].calls), 1)

    def test_it_is_split(self) -> None:
        split = {"to": [{"service": "canary", "share": 0.2}], "cookie": "v", "header": "x-v"}
        for line, numbers, service, kept in (
            ("X-Other: 1", [0.1], "canary", True),
            ("X-Other: 1", [0.9], "main", True),
            ("X-V: canary", [], "canary", False),
            ("Cookie: v=canary", [], "canary", False),
        ):
            self.setUp()
            self.numbers = list(numbers)
            exchange = self.asks(self.route(split=split), line)
            self.assertEqual(self.did[-1], f"forward to {service}")
            self.assertEqual(b"Set-Cookie: v=" in exchange.answer_lines, kept)
            assert exchange.service is not None
            self.assertEqual(exchange.service.name, service)
            self.answers(101, service=service)
            self.assertEqual(exchange.status, 101)

    def test_it_is_refused_on_purpose(self) -> None:
        self.numbers = [0.0]
        self.asks(self.route(faults={"abort": 503}))
        self.assertEqual(self.did, ["admit", "enter", "left", "observed", "done"])
        self.assertEqual(self.client.status, 503)
        self.assertIn(b"X-Fault-Injected: abort\r\n", self.client.written)

    def test_it_is_delayed(self) -> None:
        """Its place is taken meanwhile, and given back if the client does not wait."""
        route = self.route(faults={"delay": 2})
        self.numbers = [0.0, 0.0]
        exchange = self.asks(route)
        self.assertEqual(self.did, ["admit", "enter"])
        self.clock.advance(2)
        self.assertEqual(self.did[2:], ["forward to main"])
        self.answers(101)
        self.assertIn(b"X-Fault-Injected: delay\r\n", exchange.answer_lines)
        self.did.clear()
        self.asks(route)
        self.task.cancel(ClientGone())
        self.assertEqual(self.did, ["admit", "enter", "left", "observed", "done"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
