"""WebSockets as the row ``upstream`` sees them: a 101, who gets the connection, what counts.

The service's part is played on a stage, an event at a time; connections and pools are the real
ones, on transports that a test holds in its hand. With sockets: ``tests/e2e``.
"""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import Mock

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from rtgateway import config
from rtgateway.core.deadlines import Wheel
from rtgateway.core.retry import RetryPolicy
from rtgateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from rtgateway.net.handover import hand_over
from rtgateway.net.tasks import Waiter
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.attempt import SocketAttempt
from rtgateway.upstream.connection import Connection
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.pool import Pool
from rtgateway.wire.http1 import HeadLimits, ResponseHead
from tests.upstream.stage import Client, FakeConnection, Plan, Wish, found
from tests.upstream.test_service import BREAKER, HEDGE, ServiceCase

__all__: list[str] = []

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"
PATIENCE = Plan(RetryPolicy.from_config(config.Retry()))
NEVER = float("inf")


class Transport(StringTransport):
    """One that may be aborted, and delivers to whoever has it."""

    aborted = False
    protocol: Any = None

    def abortConnection(self) -> None:
        self.aborted = True


class Heir(Protocol):
    """Who gets the connection."""

    def __init__(self) -> None:
        self.got = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        self.lost = True


class Talkative(Client):
    """Keeps the interim answers that come."""

    def __init__(self, upgrade: Wish | None = None) -> None:
        super().__init__(upgrade=upgrade)
        self.heard: list[int] = []

    def interim(self, head: ResponseHead) -> None:
        self.heard.append(head.status)


class Line:
    """A connection to an instance, the pool that it belongs to, and a call on it.

    :ivar made: all connections of the pool.
    """

    def __init__(self, connections: int = 1, queue: int = 10) -> None:
        self.wheel = Wheel()
        settings = config.Pool(connections=connections, queue=queue, queue_timeout=5.0)
        self.pool = Pool(settings, self._connect, self.wheel)
        self.made: list[Connection] = []

    def _connect(self, pool: Pool, timeout: float) -> Deferred[Connection]:
        connection = Connection(pool, HeadLimits(), 1000)
        transport = connection.transport = Transport()
        transport.protocol = connection
        transport.registerProducer(connection, True)
        self.made.append(connection)
        return succeed(connection)

    def borrow(self) -> Deferred[Connection]:
        return self.pool.borrow(1.0, 1000.0)

    def ask(self, call: Client | None = None, connection: Connection | None = None) -> Asked:
        """Ask for a WebSocket on a connection, a new one if need be."""
        if connection is None:
            assert self.borrow().called
            connection = self.made[-1]
        return Asked(connection, call or Talkative(Wish()))


class Asked:
    """A call, and what is known of its answer."""

    def __init__(self, connection: Connection, call: Client) -> None:
        self.call = call
        self.connection = connection
        self.transport: Transport = connection.transport
        self.waiter: Waiter[Answer] = connection.ask(call, REQUEST, PATIENCE, 1000.0)

    def comes(self, data: bytes) -> None:
        """From the instance, to whoever has the transport now."""
        self.transport.protocol.dataReceived(data)

    @property
    def answer(self) -> Answer | None:
        value = self.waiter._value
        return value if isinstance(value, Answer) else None

    @property
    def agreed(self) -> Answer:
        """A 101 that an attempt watches, as it does for the service."""
        answer = self.answer
        assert answer is not None
        assert answer.head.status == 101
        answer.watch(cast(Any, Mock(SocketAttempt)))
        return answer

    @property
    def error(self) -> GatewayError | None:
        return cast("GatewayError | None", self.waiter._error)


# -- a connection that is answered with 101 -------------------------------------------------------


@pytest.mark.parametrize("behind", [b"", b"\x81\x02hi"])
@pytest.mark.parametrize("before", [b"", HINTS, HINTS * 16])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_behind_the_head(before: bytes, behind: bytes, whole: bool) -> None:
    """Nothing of it is lost: it is in the answer, or comes to the heir."""
    call = Talkative(Wish())
    asked = Line().ask(call)
    data = before + HEAD + behind
    for piece in [data] if whole else [data[at : at + 1] for at in range(len(data))]:
        asked.comes(piece)
    answer, heir = asked.agreed, Heir()
    assert call.heard == [103] * (len(before) // len(HINTS))
    assert answer.body == behind
    assert asked.transport.producerState == "paused", "the kernel keeps the rest until it is taken"
    answer.hand_over(heir)
    assert asked.transport.producerState == "producing"
    assert asked.transport.producer is None
    assert answer.complete
    asked.comes(b"more")
    assert heir.got == b"more"
    assert heir.transport is asked.transport


@pytest.mark.parametrize("before", [b"", HINTS])
def test_a_101_that_nobody_asked_for(before: bytes) -> None:
    asked = Line().ask(Client())
    asked.comes(before + HEAD)
    assert isinstance(asked.error, UpstreamFailed)
    assert asked.error.kind == "invalid"
    assert asked.transport.aborted


def test_too_many_interim_answers_before_it() -> None:
    asked = Line().ask()
    asked.comes(HINTS * 17 + HEAD)
    assert isinstance(asked.error, UpstreamFailed)


def test_a_101_is_not_waited_for_once_it_is_there() -> None:
    """No deadline of the connection ends what has switched."""
    asked = Line().ask()
    assert asked.connection.deadline < NEVER
    asked.comes(HEAD)
    assert asked.connection.deadline == NEVER


@pytest.mark.parametrize("reason", [ConnectionDone(), ConnectionLost()])
def test_it_is_lost_before_it_is_handed_over(reason: Exception) -> None:
    line = Line()
    asked = line.ask()
    asked.comes(HEAD + b"\x81\x02hi")
    answer = asked.agreed
    asked.connection.connectionLost(Failure(reason))
    with pytest.raises(UpstreamFailed) as raised:
        answer.hand_over(Heir())
    assert raised.value.kind == "reset"
    assert line.pool.open == 0
    answer.abandon()


def test_it_is_given_up_before_it_is_handed_over() -> None:
    """The client has left."""
    line = Line()
    asked = line.ask()
    asked.comes(HEAD)
    asked.agreed.abandon()
    assert asked.transport.aborted
    assert line.pool.open == 0


def test_an_agreement_that_makes_no_sense() -> None:
    """Whoever reads the answer ends the connection, and says what is wrong with it."""
    line = Line()
    asked = line.ask()
    asked.comes(HEAD)
    answer = asked.answer
    assert answer is not None
    attempt, error = Mock(SocketAttempt), UpstreamFailed("nonsense")
    answer.watch(cast(Any, attempt))
    answer.fail(error)
    answer.fail(error)
    attempt.ended.assert_called_once_with(error)
    assert asked.transport.aborted
    assert line.pool.open == 0


def test_what_comes_while_it_is_paused() -> None:
    """TLS hands over whatever it has decrypted: it is kept, in its order."""
    asked = Line().ask()
    asked.comes(HEAD + b"a")
    asked.comes(b"b")
    asked.comes(b"c")
    assert asked.agreed.body == b"abc"


@pytest.mark.parametrize("body", [b"", b"no way"])
def test_a_refusal(body: bytes) -> None:
    """An answer as any other; its connection serves the next call, which may ask again."""
    line = Line()
    asked = line.ask()
    asked.comes(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = asked.answer
    assert answer is not None
    assert (answer.head.status, answer.body, answer.complete) == (403, body, True)
    assert line.pool.idle == [asked.connection]
    again = line.ask(connection=line.pool.idle.pop())
    again.comes(HEAD + b"x")
    heir = Heir()
    again.agreed.hand_over(heir)
    assert again.agreed.body == b"x"
    assert line.pool.open == 0


def test_a_refusal_in_pieces() -> None:
    line = Line()
    asked = line.ask()
    asked.comes(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n")
    answer = asked.answer
    assert answer is not None
    assert (answer.body, answer.complete) == (b"not", False)
    asked.comes(b"4\r\n now\r\n0\r\n\r\n")
    assert (answer.body, answer.complete) == (b"not now", True)
    assert line.pool.idle == [asked.connection]


# -- the pool -------------------------------------------------------------------------------------


def test_a_socket_does_not_take_a_place_of_the_pool() -> None:
    """However many there are; who waited for the place gets it."""
    line = Line(connections=1)
    for number in range(1, 4):
        asked = line.ask()
        waiting = line.borrow()
        assert not waiting.called
        asked.comes(HEAD)
        answer = asked.agreed
        assert not waiting.called, "it is still the call's"
        answer.hand_over(Heir())
        assert waiting.called
        assert len(line.made) == number * 2
        assert (line.pool.open, line.pool.waiting) == (1, 0)
        line.made[-1].close()
        assert line.pool.open == 0


def test_the_end_of_a_socket_is_nothing_to_the_pool() -> None:
    line = Line()
    asked = line.ask()
    asked.comes(HEAD)
    heir = Heir()
    asked.agreed.hand_over(heir)
    asked.transport.protocol.connectionLost(Failure(ConnectionDone()))
    assert heir.lost
    assert (line.pool.open, line.pool.idle) == (0, [])
    line.pool.close()
    assert not asked.transport.disconnecting


# -- a transport changes hands --------------------------------------------------------------------


def test_a_transport_is_handed_over() -> None:
    transport, heir = Transport(), Heir()
    transport.registerProducer(Mock(), True)
    hand_over(transport, heir)
    assert transport.protocol is heir
    assert heir.transport is transport
    assert transport.producer is None
    transport.registerProducer(Mock(), True)


def test_a_transport_of_twisteds_tls_is_handed_over() -> None:
    """What is decrypted goes to the heir; the transport below stays with TLS."""
    transport, heir = Mock(TLSMemoryBIOProtocol), Heir()
    tls = transport.protocol = object()
    hand_over(transport, heir)
    assert transport.wrappedProtocol is heir
    assert transport.protocol is tls
    assert heir.transport is transport
    transport.unregisterProducer.assert_called_once_with()


# -- what a service counts ------------------------------------------------------------------------


class SocketCase(ServiceCase):
    def opens(self, per_instance: int = 0, **fields: Any) -> Client:
        """A client asks for a WebSocket, and gets it."""
        client = self.stage.comes(upgrade=Wish(per_instance), **fields)
        self.reaches(client).switches()
        assert client.socket is not None
        return client

    def counts(self, name: str = "a") -> tuple[int, int]:
        instance = self.stage.instance(name)
        return instance.inflight, instance.sockets

    def assert_no_socket(self) -> None:
        """Nothing is left of any, at the one instance there is."""
        self.assertEqual([(x.sockets, x.bridged) for x in self.stage.everybody], [(0, 0)])
        self.assert_at_rest()


class CountTests(SocketCase):
    def test_from_the_handshake_to_the_end(self) -> None:
        self.begin("a")
        self.assertEqual(self.counts(), (0, 0))
        client = self.stage.comes(upgrade=Wish())
        self.assertEqual(self.counts(), (1, 1))
        self.reaches(client).switches()
        self.assertEqual((self.counts(), self.service.inflight), ((1, 1), 0))
        other = self.stage.comes()
        self.assertEqual(self.counts(), (2, 1))
        self.reaches(other).answers()
        self.assertEqual(self.counts(), (1, 1))
        client.hangs_up()
        self.assert_no_socket()

    def test_every_way_a_handshake_ends(self) -> None:
        """Nothing is left of it, and nothing is given back twice."""
        ways: list[Any] = [
            lambda client, pool: pool.connected().answers(200),
            lambda client, pool: pool.connected().answers(403),
            lambda client, pool: pool.connected().answers(429),
            lambda client, pool: pool.connected().answers(503),
            lambda client, pool: pool.connected().resets(),
            lambda client, pool: pool.connected().resets(heard=True),
            lambda client, pool: pool.connected().times_out(),
            lambda client, pool: pool.refused(),
            lambda client, pool: pool.refused(error=GatewayError(503, "upstream_busy", "")),
            lambda client, pool: client.leaves(),
            lambda client, pool: (pool.connected(), client.leaves()),
            lambda client, pool: _begun(pool).ends(),
            lambda client, pool: _begun(pool, 503).ends(),
            lambda client, pool: _begun(pool).resets(),
            lambda client, pool: _begun(pool, 503).resets(),
            lambda client, pool: (_begun(pool), client.leaves()),
            _nonsense,
            lambda client, pool: (pool.connected().switches(), client.hangs_up()),
        ]
        for settings in ({}, {"concurrency": {"limit": 5}}, {"service_breaker": BREAKER}):
            for number, way in enumerate(ways):
                self.begin("a", retry={"attempts": 1}, **settings)
                client = self.stage.comes(upgrade=Wish())
                self.assertEqual(self.counts(), (1, 1))
                way(client, self.pool("a"))
                self.assertTrue(client.over, number)
                self.assert_no_socket()

    def test_an_instance_that_leaves_with_them(self) -> None:
        """It is remembered until the last one is over."""
        self.begin("a", "b")
        client = self.opens()
        instance = client.chosen
        assert instance is not None
        self.service.remove(instance.id)
        self.stage.pass_time(2)
        self.assertEqual(self.service.leaving, (instance,))
        self.assertEqual(instance.sockets, 1)
        client.hangs_up()
        self.stage.pass_time(2)
        self.assertEqual(self.service.leaving, ())
        self.assertEqual((instance.inflight, instance.sockets, self.service.inflight), (0, 0, 0))

    def test_the_load_of_an_instance(self) -> None:
        """Live ones count: the next goes where there are fewer."""
        self.begin("a", "b", balance={"strategy": "least_connections", "slow_start": 0.0})
        clients = [self.opens() for _ in range(6)]
        self.assertEqual((self.counts("a"), self.counts("b")), ((3, 3), (3, 3)))
        for client in clients:
            if self.asked(client) == "a":
                client.hangs_up()
        for _ in range(3):
            self.assertEqual(self.asked(self.opens()), "a")


class PerInstanceTests(SocketCase):
    def test_all_are_full(self) -> None:
        self.begin("a", "b")
        clients = [self.opens(2) for _ in range(4)]
        refused = self.stage.comes(upgrade=Wish(2))
        self.assertEqual(self.error_of(refused).code, "no_instance")
        self.assertEqual(self.error_of(refused).status, 503)
        self.assertIn(b"Retry-After", dict(self.error_of(refused).headers))
        self.assertEqual((self.counts("a"), self.counts("b")), ((2, 2), (2, 2)))
        clients[2].hangs_up()
        again = self.opens(2)
        self.assertIs(again.chosen, clients[2].chosen)

    def test_other_requests_do_not_count(self) -> None:
        self.begin("a")
        for _ in range(3):
            self.reaches(self.stage.comes()).begins()
        self.opens(1)
        self.assertEqual(self.counts(), (4, 1))
        self.assertEqual(self.stage.comes().attempts, 1)

    def test_each_has_its_own_bound(self) -> None:
        """Routes differ; what one of them opened counts for all."""
        self.begin("a")
        self.opens(1)
        self.assertEqual(self.error_of(self.stage.comes(upgrade=Wish(1))).code, "no_instance")
        self.opens(2)
        self.opens()

    def test_a_handshake_that_fails_gives_its_place_back(self) -> None:
        self.begin("a", retry={"attempts": 1})
        client = self.stage.comes(upgrade=Wish(1))
        self.assertEqual(self.error_of(self.stage.comes(upgrade=Wish(1))).code, "no_instance")
        self.reaches(client).answers(403)
        self.opens(1)

    def test_backups(self) -> None:
        """Being full is not being away: backups stay in reserve until something failed."""
        self.begin("a")
        self.service.add(found("b", backup=True))
        self.stage.pass_time(1)
        self.opens(1)
        refused = self.stage.comes(upgrade=Wish(1))
        self.assertEqual(self.error_of(refused).code, "no_instance")

    def test_a_backup_for_one_that_fails(self) -> None:
        self.begin("a", circuit_breaker="off", retry={"attempts": 2})
        self.service.add(found("b", backup=True))
        self.stage.pass_time(1)
        first = self.stage.comes(upgrade=Wish(1))
        self.pool("a").refused()
        self.assertEqual(self.asked(first), "b")
        self.pool("b").connected().switches()
        second = self.stage.comes(upgrade=Wish(1))
        self.pool("a").refused()
        self.assertEqual(self.asked(second), "a", "the backup is full")
        self.pool("a").refused()
        self.assertIsInstance(second.error, UpstreamFailed)
        self.assertEqual((self.counts("a"), self.counts("b")), ((0, 0), (1, 1)))

    def test_the_next_try_does_not_go_to_a_full_one(self) -> None:
        self.begin("a", "b")
        full = self.opens(1)
        client = self.stage.comes(upgrade=Wish(1))
        tried = client.chosen
        assert tried is not None
        self.assertIsNot(tried, full.chosen)
        self.pool(tried.host).refused()
        self.assertIs(client.chosen, tried, "there is no other")

    def test_sticky(self) -> None:
        """A cookie does not make room."""
        balance = {"strategy": "sticky", "secret": "a secret of its own", "slow_start": 0.0}
        self.begin("a", "b", balance=balance)
        first = self.opens(1)
        cookie = first.answer_lines.split(b": ", 1)[1].split(b";")[0]
        second = self.opens(1, fields={b"cookie": cookie})
        self.assertIsNot(second.chosen, first.chosen)
        first.hangs_up()
        third = self.opens(1, fields={b"cookie": cookie})
        self.assertIs(third.chosen, first.chosen)
        self.assertEqual(third.answer_lines, b"")

    def test_a_probe_is_not_beyond_it(self) -> None:
        self.begin("a", retry={"attempts": 1})
        self.opens(1)
        breaker = self.stage.instance("a").breaker
        breaker.record(breaker.acquire(self.stage.now), self.stage.now, 0.1, True)
        self.stage.pass_time(5.1)
        self.assertEqual(self.error_of(self.stage.comes(upgrade=Wish(1))).code, "no_instance")
        self.assertEqual(breaker.probes, 0)
        self.opens(2)
        self.assertEqual(breaker.state, "closed")


class VerdictTests(SocketCase):
    def instance(self) -> Instance:
        return self.stage.instance("a")

    def calls(self) -> tuple[int, int]:
        stats = self.instance().breaker.stats()
        return stats.total_calls, stats.failed_calls

    def test_an_open_one_is_a_success_at_once(self) -> None:
        self.begin("a", service_breaker=BREAKER)
        client = self.opens()
        assert self.service.breaker is not None
        self.assertEqual(self.calls(), (1, 0))
        self.assertEqual(self.service.breaker.stats().total_calls, 1)
        client.hangs_up()
        self.assertEqual(self.calls(), (1, 0))
        self.assertEqual(self.service.breaker.stats().total_calls, 1)

    def test_one_that_makes_no_sense(self) -> None:
        for failure_on, failed in ((["invalid"], 1), (["connect", "reset", "timeout"], 0)):
            breaker = {**BREAKER, "failure_threshold": 9, "failure_on": failure_on}
            self.begin("a", retry={"attempts": 1}, circuit_breaker=breaker)
            nonsense = UpstreamFailed("its handshake is not valid")
            client = self.stage.comes(upgrade=Wish(agreed=nonsense))
            self.reaches(client).switches()
            self.assertIs(client.error, nonsense)
            self.assertEqual(self.calls(), (1, failed))
            self.assertEqual(self.instance().last_error, "its handshake is not valid")
            self.assertEqual(self.instance().failing, 1)
            self.assert_no_socket()

    def test_it_ends_a_row_of_errors(self) -> None:
        self.begin("a", retry={"attempts": 1}, circuit_breaker="off")
        self.reaches(self.stage.comes()).answers(503)
        self.assertEqual(self.instance().failing, 1)
        self.opens()
        self.assertEqual(self.instance().failing, 0)

    def test_a_probe_does_not_hold_its_slot(self) -> None:
        """One that lasts for days is judged by its beginning."""
        self.begin("a", retry={"attempts": 1}, service_breaker=BREAKER)
        self.reaches(self.stage.comes(b"POST")).resets()
        breaker, shared = self.instance().breaker, self.service.breaker
        assert shared is not None
        self.assertEqual((breaker.state, shared.state), ("open", "open"))
        self.stage.pass_time(5.1)
        client = self.stage.comes(upgrade=Wish())
        self.assertEqual((breaker.probes, shared.probes), (1, 1))
        self.reaches(client).switches()
        self.assertEqual((breaker.state, breaker.probes), ("closed", 0))
        self.assertEqual((shared.state, shared.probes), ("closed", 0))
        self.assertEqual(self.counts(), (1, 1))
        client.hangs_up()
        self.assertEqual((breaker.state, shared.state), ("closed", "closed"))
        self.assert_no_socket()

    def test_a_probe_that_makes_no_sense(self) -> None:
        self.begin("a", retry={"attempts": 1})
        self.reaches(self.stage.comes(b"POST")).resets()
        self.stage.pass_time(5.1)
        client = self.stage.comes(upgrade=Wish(agreed=UpstreamFailed("nonsense")))
        self.reaches(client).switches()
        breaker = self.instance().breaker
        self.assertEqual((breaker.state, breaker.probes), ("open", 0))
        self.assert_no_socket()


class LimitTests(SocketCase):
    def test_an_open_one_is_no_request(self) -> None:
        """It may last for days: its place is given to who waits for one."""
        self.begin("a", concurrency={"limit": 1, "queue": 1, "queue_timeout": 30})
        first = self.stage.comes(upgrade=Wish())
        waiting = self.stage.comes()
        self.assertEqual(waiting.attempts, 0)
        self.assertEqual(self.error_of(self.stage.comes(upgrade=Wish())).code, "overloaded")
        self.reaches(first).switches()
        self.assertEqual(waiting.attempts, 1)
        self.reaches(waiting).answers()
        clients = [self.opens() for _ in range(5)]
        self.assertEqual((self.counts(), self.service.inflight), ((6, 6), 0))
        for client in (first, *clients):
            client.hangs_up()
        self.assert_no_socket()

    def test_at_an_instance(self) -> None:
        self.begin("a", "b", concurrency={"per_instance": 1, "queue": 2, "queue_timeout": 30})
        clients = [self.stage.comes(upgrade=Wish()) for _ in range(2)]
        waiting = self.stage.comes()
        self.assertEqual(waiting.attempts, 0)
        self.reaches(clients[1]).switches()
        self.assertIs(waiting.chosen, clients[1].chosen)
        self.assertEqual(self.stage.comes().attempts, 0, "that one is a request")
        assert clients[1].chosen is not None
        self.assertEqual((clients[1].chosen.inflight, clients[1].chosen.bridged), (2, 1))
        clients[1].hangs_up()
        self.assertEqual((clients[1].chosen.inflight, clients[1].chosen.bridged), (1, 0))

    def test_a_handshake_that_does_not_come_to_its_turn(self) -> None:
        self.begin("a", concurrency={"limit": 1, "queue": 5, "queue_timeout": 1.0})
        self.stage.comes()
        waiting = self.stage.comes(upgrade=Wish())
        self.stage.pass_time(1.5)
        self.assertEqual(self.error_of(waiting).code, "overloaded")
        self.assertEqual(self.counts(), (1, 0))

    def test_how_long_one_lasts_is_no_latency(self) -> None:
        """The limit that follows latency learns from handshakes only."""
        self.begin("a", concurrency={"adaptive": True, "min_limit": 4})
        client = self.opens()
        before = self.service.limit
        self.stage.pass_time(600)
        client.hangs_up()
        self.assertEqual(self.service.limit, before)
        latency = self.stage.instance("a").latency
        self.assertLess(latency or 0.0, 1.0)


class RetryTests(SocketCase):
    def test_a_connection_that_does_not_come_about(self) -> None:
        self.begin("a", "b", "c")
        client = self.stage.comes(upgrade=Wish())
        first = self.asked(client)
        self.pool(first).refused()
        self.assertNotEqual(self.asked(client), first)
        self.reaches(client).switches()
        self.assertEqual(client.attempts, 2)
        self.assertEqual(self.counts(first), (0, 0))
        self.assertEqual(self.counts(self.asked(client)), (1, 1))
        self.assertEqual(self.service.retries, {2: 1})

    def test_as_often_as_configured(self) -> None:
        self.begin("a", "b", "c", retry={"attempts": 2})
        client = self.stage.comes(upgrade=Wish())
        for _ in range(2):
            self.pool(self.asked(client)).refused()
        self.assertEqual(client.attempts, 2)
        self.assertIsInstance(client.error, UpstreamFailed)
        self.assert_at_rest()

    def test_the_budget(self) -> None:
        budget = {"ratio": 0.0, "per_second": 0.0}
        self.begin("a", "b", retry={"budget": budget})
        client = self.stage.comes(upgrade=Wish())
        self.pool(self.asked(client)).refused()
        while client.attempts > 1 and not client.over:
            self.pool(self.asked(client)).refused()
        self.assertLessEqual(client.attempts, 2)
        self.assertIsInstance(client.error, UpstreamFailed)
        self.assert_at_rest()

    def test_a_refusal_that_is_worth_another_try(self) -> None:
        self.begin("a", "b")
        client = self.stage.comes(upgrade=Wish())
        first = self.asked(client)
        self.reaches(client).answers(503)
        self.assertNotEqual(self.asked(client), first)
        self.reaches(client).switches()
        self.assertEqual(self.counts(first), (0, 0))

    def test_a_refusal_that_is_the_last_word(self) -> None:
        self.begin("a", "b")
        client = self.stage.comes(upgrade=Wish())
        self.reaches(client).answers(403)
        self.assertEqual(client.attempts, 1)
        assert client.answer is not None
        self.assertEqual(client.answer.head.status, 403)
        self.assert_at_rest()

    def test_a_stale_connection(self) -> None:
        """A connection of the pool may be dead: once more, on a fresh one."""
        self.begin("a", retry={"attempts": 1}, circuit_breaker="off")
        self.reaches(self.stage.comes()).answers()
        client = self.stage.comes(upgrade=Wish())
        self.pool("a").lent[0].resets()
        self.pool("a").connected().switches()
        self.assertEqual((client.attempts, self.counts()), (2, (1, 1)))

    def test_an_agreement_is_never_asked_for_again(self) -> None:
        self.begin("a", "b", retry={"on": ["invalid", "connect"]})
        client = self.stage.comes(upgrade=Wish(agreed=UpstreamFailed("nonsense", retryable=True)))
        self.reaches(client).switches()
        self.assertEqual(client.attempts, 1)
        self.assertTrue(client.over)
        self.assert_at_rest()

    def test_no_second_one_beside_it(self) -> None:
        """Hedging would open two."""
        self.begin("a", "b", retry={"hedge": HEDGE})
        client = self.stage.comes(upgrade=Wish())
        self.stage.pass_time(5)
        self.assertEqual((client.attempts, self.service.hedges), (1, 0))
        self.reaches(client).switches()
        client.hangs_up()
        self.assert_at_rest()


class TimeTests(SocketCase):
    def test_the_time_of_the_request_ends_with_the_101(self) -> None:
        self.begin("a", retry={"attempts": 1})
        self.stage.plan.request = 1.0
        client = self.opens()
        self.stage.pass_time(30)
        self.assertIsNone(client.error)
        self.assertEqual(self.counts(), (1, 1))
        client.hangs_up()
        self.assert_no_socket()

    def test_no_101_in_time(self) -> None:
        self.begin("a", retry={"attempts": 1})
        self.stage.plan.request = 1.0
        client = self.stage.comes(upgrade=Wish())
        self.reaches(client)
        self.stage.pass_time(1.5)
        self.assertIsInstance(client.error, UpstreamTimeout)
        self.assert_no_socket()


def _begun(pool: Any, status: int = 200) -> FakeConnection:
    connection: FakeConnection = pool.connected()
    connection.begins(status)
    return connection


def _nonsense(client: Client, pool: Any) -> None:
    client.upgrade = Wish(agreed=UpstreamFailed("nonsense"))
    pool.connected().switches()
