"""What a service does with a request: each way that one can go, an event at a time."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.core.retry import RetryPolicy
from rtgateway.errors import ClientGone, GatewayError, UpstreamFailed, UpstreamTimeout
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.connection import Connection
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.pool import Pool
from rtgateway.upstream.service import Service
from rtgateway.wire.http1 import HeadLimits
from tests.upstream.stage import Client, FakeConnection, FakePool, Payload, Plan, Stage, found

__all__: list[str] = []

BREAKER = {"failure_threshold": 1, "success_threshold": 1, "timeout": 5.0, "jitter": 0.0}
HEDGE = {"enabled": True, "min_delay": 0.1, "max_delay": 0.1}


class ServiceCase(SynchronousTestCase):
    """Instances in turn (b first, then c, a), no waits between tries, no budget."""

    def begin(self, *names: str, retry: dict[str, Any] | None = None, **settings: Any) -> None:
        balance = {"strategy": "round_robin", "slow_start": 0.0}
        self.stage = Stage(
            *names,
            **{
                "balance": balance,
                "circuit_breaker": BREAKER,
                "retry": {"base_delay": 0.0, "budget": "off", **(retry or {})},
                **settings,
            },
        )
        context = self.stage.on()
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    @property
    def service(self) -> Service:
        return self.stage.service

    def pool(self, name: str) -> FakePool:
        return self.stage.pool(name)

    def asked(self, client: Client) -> str:
        assert client.chosen is not None
        return client.chosen.host

    def reaches(self, client: Client) -> FakeConnection:
        """The connection on which ``client`` is asked for; made, if it is not there yet."""
        assert client.chosen is not None
        pool = self.pool(client.chosen.host)
        if pool.making:
            return pool.connected()
        return pool.lent[-1]

    def assert_at_rest(self) -> None:
        """Nothing is left of any request."""
        for instance in self.stage.everybody:
            self.assertEqual((instance.inflight, instance.breaker.probes), (0, 0))
            self.assertEqual(self.stage.pool(instance.host).busy, 0)
        self.assertEqual(self.service.inflight, 0)
        self.assertEqual(self.stage.clock.getDelayedCalls(), [])

    def error_of(self, client: Client) -> GatewayError:
        assert isinstance(client.error, GatewayError), client
        return client.error


class RetrialTests(ServiceCase):
    def test_the_last_answer_whatever_keeps_the_next_try_from_one(self) -> None:
        """No connection, no room in the pool, nobody left: what an instance said is passed on."""
        for problem in (None, GatewayError(503, "upstream_busy", "busy", fault="gateway")):
            self.begin("a", "b")
            client = self.stage.comes()
            self.reaches(client).answers(503)
            self.pool(self.asked(client)).refused(error=problem)
            assert client.answer is not None, client
            self.assertEqual(client.answer.head.status, 503)
            self.assert_at_rest()
        self.begin("a")
        client = self.stage.comes()
        self.reaches(client).answers(503)
        assert client.answer is not None, "its circuit has opened: there is nobody to ask"
        self.assertEqual(client.attempts, 1)

    def test_a_held_answer_is_given_up_for_a_better_one(self) -> None:
        """Its connection too, for the rest of it may be long."""
        self.begin("a", "b")
        client = self.stage.comes()
        held = self.reaches(client)
        held.begins(503)
        self.assertEqual(self.service.inflight, 2)
        self.reaches(client).answers(200)
        self.assertTrue(held.closed)
        assert client.answer is not None
        self.assertEqual(client.answer.head.status, 200)
        self.assert_at_rest()

    def test_a_held_answer_is_given_up_by_a_client_that_leaves(self) -> None:
        self.begin("a", "b", retry={"base_delay": 1.0})
        client = self.stage.comes()
        held = self.reaches(client)
        held.begins(503)
        self.assertEqual(len(self.stage.clock.getDelayedCalls()), 1)
        client.leaves()
        self.assertTrue(held.closed)
        self.assert_at_rest()

    def test_a_held_answer_breaks(self) -> None:
        """The client gets its head, and sees that the rest is missing."""
        self.begin("a", "b", retry={"attempts": 2})
        client = self.stage.comes()
        held = self.reaches(client)
        held.begins(503)
        held.resets()
        self.pool(self.asked(client)).refused()
        assert client.answer is not None
        self.assertEqual(client.answer.head.status, 503)
        self.assertIsInstance(client.error, UpstreamFailed)
        self.assert_at_rest()

    def test_the_held_one_is_who_answered(self) -> None:
        """For the log, and for a client that is told."""
        self.begin("a", "b", retry={"attempts": 2})
        client = self.stage.comes()
        first = client.chosen
        self.reaches(client).answers(503)
        self.assertIsNot(client.chosen, first)
        self.pool(self.asked(client)).refused()
        self.assertIs(client.chosen, first)
        self.assertEqual(client.attempts, 2)

    def test_a_place_that_a_held_answer_has(self) -> None:
        """Under a limit, nobody waits for a place that is his own."""
        self.begin("a", "b", concurrency={"limit": 1})
        client = self.stage.comes()
        connection = self.reaches(client)
        connection.begins(503)
        assert self.service.room is not None
        self.assertEqual(self.service.room.waiting, 0)
        connection.ends()
        assert client.answer is not None
        self.assertEqual((client.answer.head.status, client.attempts), (503, 1))
        self.assert_at_rest()

    def test_a_place_that_an_answer_gave_back(self) -> None:
        """One that came whole has none any more."""
        self.begin("a", "b", concurrency={"limit": 1})
        client = self.stage.comes()
        self.reaches(client).answers(503)
        self.assertEqual(self.service.inflight, 1)
        self.reaches(client).answers(200)
        self.assert_at_rest()

    def test_a_stale_connection(self) -> None:
        """Once more, at once and on a fresh one, though retries are off."""
        self.begin("a", retry={"attempts": 1}, circuit_breaker="off")
        self.reaches(self.stage.comes()).answers()
        client = self.stage.comes()
        self.pool("a").lent[0].resets()
        self.assertEqual((client.attempts, client.over), (2, False))
        self.reaches(client).answers()
        self.assertTrue(client.over)
        client = self.stage.comes(b"POST")
        self.pool("a").lent[0].resets()
        self.assertEqual(self.error_of(client).status, 502)
        self.assertEqual(client.attempts, 1, "it may have been carried out")

    def test_a_body_that_is_not_kept(self) -> None:
        self.begin("a", "b")
        client = self.stage.comes(b"PUT", body=Payload(keeps=False))
        self.reaches(client).resets()
        self.assertEqual((client.attempts, self.error_of(client).status), (1, 502))
        client = self.stage.comes(b"PUT", body=Payload())
        self.reaches(client).answers()
        self.assertTrue(client.over)

    def test_a_request_that_may_not_be_repeated(self) -> None:
        """But without a connection nothing was sent."""
        self.begin("a", "b", "c", circuit_breaker="off")
        for fails in (FakeConnection.resets, FakeConnection.times_out):
            client = self.stage.comes(b"POST")
            fails(self.reaches(client))
            self.assertEqual((client.attempts, client.over), (1, True))
        client = self.stage.comes(b"POST")
        self.pool(self.asked(client)).refused()
        self.reaches(client).answers(503)
        assert client.answer is not None
        self.assertEqual((client.attempts, len(client.sent)), (2, 1))
        self.assert_at_rest()

    def test_a_bug_on_the_way(self) -> None:
        """What is not an error of ours gives everything back as well, and is not tried again."""
        self.begin("a", "b", service_breaker=BREAKER)
        for _ in range(2):
            client = _Defective()
            client.ask(self.service, self.stage.plan)
            self.pool(self.asked(client)).connected()
            self.assertIsInstance(client.error, ZeroDivisionError)
            self.assertEqual(client.attempts, 1)
            self.assert_at_rest()
        assert self.service.breaker is not None
        self.assertEqual(self.service.breaker.stats().total_calls, 0)

    def test_the_budget(self) -> None:
        """As many further tries as there is budget for; stale connections pay, too."""
        budget = {"ratio": 0.0, "per_second": 0.2}
        self.begin("a", "b", retry={"budget": budget}, circuit_breaker="off", outliers="off")
        for _ in range(5):
            client = self.stage.comes()
            while not client.over:
                self.pool(self.asked(client)).refused()
        self.assertEqual(sum(self.service.retries.values()), 2)
        self.assertEqual(self.service.budget_refusals, 4)
        self.stage.pass_time(60)
        client = self.stage.comes()
        self.pool(self.asked(client)).refused()
        self.assertFalse(client.over)


class TimeLimitTests(ServiceCase):
    def limited(self, **settings: Any) -> None:
        self.begin("a", "b", **settings)
        self.stage.plan.request = 2.0

    def assert_too_late(self, client: Client) -> None:
        self.assertFalse(client.over)
        self.stage.pass_time(2.2)
        self.assertEqual(self.error_of(client).status, 504)
        self.assert_at_rest()
        self.assertEqual(len(self.stage.wheel), 0)

    def test_nobody_is_to_blame_who_was_not_asked(self) -> None:
        """The time of the request is over while it waits for a connection."""
        self.limited()
        self.assert_too_late(self.stage.comes())
        states = [each.breaker.state for each in self.service.instances]
        self.assertEqual(states, ["closed", "closed"])

    def test_no_answer(self) -> None:
        self.limited()
        client = self.stage.comes()
        self.reaches(client)
        self.assert_too_late(client)
        self.assertEqual(client.attempts, 1)

    def test_a_connection_takes_most_of_the_time(self) -> None:
        """The answer has the rest, and not as much again."""
        self.limited()
        client = self.stage.comes()
        self.stage.pass_time(1.5)
        self.reaches(client)
        self.stage.pass_time(0.7)
        self.assertEqual(self.error_of(client).status, 504)
        self.assert_at_rest()

    def test_in_the_waiting_room(self) -> None:
        self.limited(concurrency={"limit": 1, "queue_timeout": 30.0})
        self.stage.plan.request = 0.0
        first = self.stage.comes()
        self.stage.plan.request = 2.0
        client = self.stage.comes()
        self.assertEqual(client.attempts, 0)
        self.stage.pass_time(2.2)
        self.assertEqual(self.error_of(client).status, 504)
        self.reaches(first).answers()
        self.assert_at_rest()

    def test_between_two_tries(self) -> None:
        """What an instance said is passed on."""
        self.limited(retry={"base_delay": 3.0, "max_delay": 3.0}, circuit_breaker="off")
        client = self.stage.comes()
        self.stage.pass_time(1)
        self.reaches(client).answers(503)
        assert client.answer is not None, "there is no time for another try"
        client = self.stage.comes()
        self.reaches(client).answers(503)
        self.assertFalse(client.over)
        self.stage.pass_time(1.6)
        self.reaches(client)
        self.stage.pass_time(0.6)
        assert client.answer is not None
        self.assertEqual((client.answer.head.status, client.attempts), (503, 2))
        self.assert_at_rest()

    def test_a_stream_goes_on(self) -> None:
        """The limit is one on the head of the answer."""
        self.limited()
        client = self.stage.comes()
        connection = self.reaches(client)
        connection.begins()
        self.stage.pass_time(30)
        self.assertFalse(client.over)
        connection.ends()
        self.assertIsNone(client.error)
        self.assert_at_rest()


class HedgeTests(ServiceCase):
    def begin(self, *names: str, retry: dict[str, Any] | None = None, **settings: Any) -> None:
        super().begin(*names, retry={"hedge": HEDGE, **(retry or {})}, **settings)

    def hedged(self) -> tuple[Client, FakeConnection, FakeConnection]:
        """A request with two tries under way."""
        client = self.stage.comes()
        first = self.reaches(client)
        self.stage.pass_time(0.15)
        return client, first, self.reaches(client)

    def test_either_may_win(self) -> None:
        """The other one is given up, and nobody holds that against its instance."""
        for winner in (0, 1):
            self.begin("a", "b")
            client, *both = self.hedged()
            both[winner].answers()
            self.assertIsNone(client.error)
            self.assertTrue(both[1 - winner].closed)
            self.assertEqual(client.attempts, 2)
            self.assertEqual([each.failing for each in self.service.instances], [0, 0])
            self.assertEqual(
                [each.breaker.stats().total_calls for each in self.service.instances].count(1), 1
            )
            self.assert_at_rest()

    def test_the_winner_streams(self) -> None:
        self.begin("a", "b")
        client, first, second = self.hedged()
        second.begins()
        self.assertTrue(first.closed)
        self.assertFalse(client.over)
        self.assertEqual(self.service.inflight, 1)
        second.ends()
        self.assert_at_rest()

    def test_one_fails(self) -> None:
        """The other goes on."""
        for loser in (0, 1):
            self.begin("a", "b")
            client, *both = self.hedged()
            both[loser].resets()
            self.assertFalse(client.over)
            both[1 - loser].answers()
            self.assertIsNone(client.error)
            self.assert_at_rest()

    def test_both_fail(self) -> None:
        """A third instance is asked, and neither of these two again."""
        self.begin("a", "b", "c", circuit_breaker="off", outliers="off")
        for _ in range(6):
            client, first, second = self.hedged()
            both = {first.pool, second.pool}
            first.resets()
            second.resets()
            self.assertEqual(client.attempts, 3)
            self.assertNotIn(self.pool(self.asked(client)), both)
            self.reaches(client).answers()
            self.assertIsNone(client.error)
        self.assert_at_rest()

    def test_the_client_leaves(self) -> None:
        """At any time: before the second try, and while both are under way."""
        self.begin("a", "b")
        client = self.stage.comes()
        client.leaves()
        self.assert_at_rest()
        client, first, second = self.hedged()
        client.leaves()
        self.assertIsInstance(client.error, ClientGone)
        self.assertTrue(first.closed)
        self.assertTrue(second.closed)
        self.assert_at_rest()

    def test_an_answer_before_the_second_try(self) -> None:
        self.begin("a", "b")
        client = self.stage.comes()
        self.reaches(client).answers()
        self.assertTrue(client.over)
        self.assert_at_rest()
        self.assertEqual(self.service.hedges, 0)

    def test_the_same_instance_is_no_other(self) -> None:
        """Not where the others are at their limit, nor where they have just become unavailable."""
        self.begin("a", "b", concurrency={"per_instance": 2})
        client = self.stage.comes()
        other = next(each for each in self.service.instances if each is not client.chosen)
        other.inflight += 2
        self.stage.pass_time(0.15)
        self.assertEqual(client.attempts, 1)
        other.inflight -= 2
        client.leaves()
        self.begin("a", "b")
        client = self.stage.comes()
        other = next(each for each in self.service.instances if each is not client.chosen)
        self.service.drain(other.id)
        self.stage.pass_time(0.15)
        self.assertEqual(client.attempts, 1)

    def test_what_may_not_be_repeated(self) -> None:
        self.begin("a", "b")
        client = self.stage.comes(b"POST")
        other = self.stage.comes(b"PUT", body=Payload())
        self.stage.pass_time(5)
        self.assertEqual((client.attempts, other.attempts), (1, 1))


class LimitTests(ServiceCase):
    def test_a_probe_is_not_beyond_the_limit(self) -> None:
        """An instance whose circuit opened may still be full of streams."""
        self.begin("a", "b", concurrency={"per_instance": 1})
        streaming = self.stage.comes()
        self.reaches(streaming).begins()
        assert streaming.chosen is not None
        breaker = streaming.chosen.breaker
        breaker.record(breaker.acquire(self.stage.now), self.stage.now, 0.1, True)
        self.stage.pass_time(6)
        client = self.stage.comes()
        self.assertIsNot(client.chosen, streaming.chosen)
        self.assertEqual(streaming.chosen.inflight, 1)

    def test_a_probe_while_all_others_are_full(self) -> None:
        """Else nobody would find out that an instance has recovered."""
        self.begin("a", "b", concurrency={"per_instance": 1})
        streaming = self.stage.comes()
        self.reaches(streaming).begins()
        other = next(each for each in self.service.instances if each is not streaming.chosen)
        other.breaker.record(other.breaker.acquire(self.stage.now), self.stage.now, 0.1, True)
        waiting = self.stage.comes(b"POST")
        self.assertEqual(waiting.attempts, 0)
        self.stage.pass_time(1.5)
        self.assertEqual(self.error_of(waiting).code, "overloaded")
        self.stage.pass_time(4.5)
        client = self.stage.comes(b"POST")
        self.assertIs(client.chosen, other)
        self.reaches(client).answers()
        self.assertEqual(other.breaker.state, "closed")

    def test_first_come_first_served(self) -> None:
        self.begin("a", concurrency={"limit": 1, "queue": 2})
        clients = [self.stage.comes() for _ in range(4)]
        self.assertEqual(self.error_of(clients[3]).code, "overloaded")
        clients[1].leaves()
        self.reaches(clients[0]).answers()
        self.assertEqual([each.attempts for each in clients], [1, 0, 1, 0])
        self.reaches(clients[2]).answers()
        self.assert_at_rest()

    def test_a_new_instance_is_room(self) -> None:
        """For those who wait, within a second."""
        self.begin("a", concurrency={"per_instance": 1, "queue_timeout": 30})
        self.stage.comes()
        client = self.stage.comes()
        self.assertEqual(client.attempts, 0)
        self.service.add(found("b"))
        self.stage.pass_time(1)
        self.assertEqual(self.asked(client), "b")

    def test_many_that_end_at_once(self) -> None:
        """However many wait, and are refused as soon as they are let in."""
        self.begin("a", concurrency={"limit": 1, "queue": 3000, "queue_timeout": 30})
        first = self.stage.comes()
        clients = [self.stage.comes() for _ in range(2000)]
        self.service.drain("a:80")
        self.reaches(first).answers()
        self.stage.pass_time(1)
        self.assertEqual({self.error_of(each).code for each in clients}, {"no_instance"})
        self.assert_at_rest()

    def test_the_end(self) -> None:
        """Who waits is told; who is served is served to the end."""
        self.begin("a", concurrency={"limit": 1})
        first, second = self.stage.comes(), self.stage.comes()
        self.service.close()
        self.assertEqual(self.error_of(second).status, 503)
        self.assertEqual(self.error_of(self.stage.comes()).status, 503)
        self.reaches(first).answers()
        self.assertTrue(first.over)
        self.assertTrue(self.pool("a").closed)
        self.assert_at_rest()


class CircuitTests(ServiceCase):
    def probed(self, *names: str, **settings: Any) -> Client:
        """A request that is the probe of the one instance whose circuit was open."""
        self.begin(*names, **settings)
        client = self.stage.comes(b"POST")
        self.reaches(client).resets()
        self.stage.pass_time(5.1)
        return self.stage.comes()

    def test_every_way_a_probe_ends(self) -> None:
        """Its slot is free again, and the verdict is what it ought to be."""
        ways: list[tuple[Any, str]] = [
            (lambda client, pool: pool.connected().answers(), "closed"),
            (lambda client, pool: pool.connected().answers(404), "closed"),
            (lambda client, pool: pool.connected().answers(500), "open"),
            (lambda client, pool: pool.connected().resets(), "open"),
            (lambda client, pool: pool.connected().times_out(), "open"),
            (lambda client, pool: pool.refused(), "open"),
            (lambda client, pool: client.leaves(), "half_open"),
            (lambda client, pool: (pool.connected(), client.leaves()), "half_open"),
            (lambda client, pool: (pool.connected().begins(), client.leaves()), "half_open"),
            (lambda client, pool: _streams(pool).ends(), "closed"),
            (lambda client, pool: _streams(pool).resets(), "open"),
            (lambda client, pool: _streams(pool).times_out(), "open"),
            (
                lambda client, pool: pool.refused(error=GatewayError(503, "upstream_busy", "")),
                "half_open",
            ),
        ]
        for number, (way, state) in enumerate(ways):
            client = self.probed("a", retry={"attempts": 1})
            breaker = self.stage.instance("a").breaker
            self.assertEqual((breaker.state, breaker.probes), ("half_open", 1))
            way(client, self.pool("a"))
            self.assertEqual((number, breaker.state), (number, state))
            self.assertTrue(client.over)
            self.assert_at_rest()

    def test_a_stream_of_events_is_judged_by_its_beginning(self) -> None:
        """A probe does not hold its slot for days."""
        client = self.probed("a")
        connection = self.pool("a").connected()
        connection.begins()
        assert client.answer is not None
        client.answer.endless()
        breaker = self.stage.instance("a").breaker
        self.assertEqual((breaker.state, breaker.probes), ("closed", 0))
        self.assertEqual(self.service.inflight, 1)
        connection.resets()
        self.assertEqual(breaker.state, "closed")
        self.assert_at_rest()

    def test_an_operator_in_the_middle_of_it(self) -> None:
        """The verdict on what began before says nothing about what came after."""
        for order, state in (("reset", "closed"), ("force_open", "forced_open")):
            client = self.probed("a")
            breaker = self.stage.instance("a").breaker
            getattr(breaker, order)(self.stage.now)
            self.pool("a").connected().resets()
            self.assertTrue(client.over or order == "reset")
            self.assertEqual((breaker.state, breaker.probes), (state, 0))

    def test_the_circuit_of_the_service(self) -> None:
        """One probe at a time, whichever instance it goes to; its slot is given back, too."""
        self.begin("a", "b", service_breaker=BREAKER, circuit_breaker="off", outliers="off")
        client = self.stage.comes(b"POST")
        self.reaches(client).answers(500)
        self.assertEqual(self.error_of(self.stage.comes()).code, "circuit_open")
        self.stage.pass_time(5.1)
        client = self.stage.comes()
        self.assertEqual(self.error_of(self.stage.comes()).code, "circuit_open")
        client.leaves()
        assert self.service.breaker is not None
        self.assertEqual(self.service.breaker.probes, 0)
        client = self.stage.comes()
        self.reaches(client).answers()
        self.assertEqual(self.service.breaker.state, "closed")
        self.assert_at_rest()

    def test_in_panic_an_open_circuit_is_no_obstacle(self) -> None:
        """What comes of it counts for nothing, whatever it is."""
        balance = {"strategy": "round_robin", "slow_start": 0.0, "panic_threshold": 1.0}
        self.begin("a", "b", balance=balance, retry={"attempts": 1})
        client = self.stage.comes(b"POST")
        broken = client.chosen
        self.reaches(client).resets()
        assert broken is not None
        for status in (200, 503):
            clients = [self.stage.comes(b"POST") for _ in range(2)]
            client = next(each for each in clients if each.chosen is broken)
            other = next(each for each in clients if each is not client)
            self.reaches(client).answers(status)
            self.reaches(other).answers()
            self.assertEqual(broken.breaker.state, "open")
            self.assertEqual(broken.breaker.stats().total_calls, 1)
        self.assert_at_rest()


class VerdictTests(ServiceCase):
    def test_who_is_to_blame(self) -> None:
        """Instances; never a client, nor a pool that is full."""
        busy = GatewayError(503, "upstream_busy", "busy")
        for error, calls, failing in (
            (ClientGone(), 0, 0),
            (busy, 0, 0),
            (GatewayError(413, "body_too_large", "", fault="client"), 0, 0),
            (UpstreamTimeout("first_byte"), 1, 1),
            (UpstreamFailed("nonsense", kind="invalid"), 1, 1),
        ):
            self.begin("a", retry={"attempts": 1})
            client = self.stage.comes()
            self.reaches(client)
            self.stage.now += 1.5
            client.interrupt(error)
            instance = self.stage.instance("a")
            self.assertEqual(instance.breaker.stats().failed_calls, calls)
            self.assertEqual(instance.failing, failing)
            self.assert_at_rest()

    def test_errors_in_a_row(self) -> None:
        """Any answer that is not a gateway's error ends the row, a 500 too."""
        self.begin("a", retry={"attempts": 1}, circuit_breaker="off")
        instance = self.stage.instance("a")
        for status, row in ((503, 1), (504, 2), (500, 0), (502, 1), (200, 0), (429, 0), (502, 1)):
            self.reaches(self.stage.comes()).answers(status)
            self.assertEqual(instance.failing, row)

    def test_a_body_cut_off(self) -> None:
        """That is a failure, also of an answer that began well."""
        self.begin("a")
        client = self.stage.comes()
        self.reaches(client).begins()
        instance = self.stage.instance("a")
        self.assertEqual(instance.breaker.stats().total_calls, 0)
        self.pool("a").lent[0].resets()
        self.assertEqual(instance.breaker.stats().failed_calls, 1)
        self.assertEqual(instance.last_error, "reset")
        self.assertIsInstance(client.error, UpstreamFailed)
        self.assert_at_rest()

    def test_a_failure_is_counted_once(self) -> None:
        """A 503 whose body breaks off as well."""
        self.begin("a", retry={"attempts": 1}, circuit_breaker={**BREAKER, "failure_threshold": 9})
        client = self.stage.comes()
        connection = self.reaches(client)
        connection.begins(503)
        connection.resets()
        self.assertTrue(client.over)
        self.assertEqual(self.stage.instance("a").breaker.stats().total_calls, 1)
        self.assertEqual(self.stage.instance("a").failing, 1)
        self.assert_at_rest()


class _Defective(Client):
    """Something about it is not as it should be."""

    def head_for(self, instance: Instance) -> bytes:
        raise ZeroDivisionError


class HeldTests(SynchronousTestCase):
    """A connection whose answer nobody reads yet, because a better one is asked for."""

    def setUp(self) -> None:
        self.pool = _Taking()
        self.connection = Connection(cast(Pool, self.pool), HeadLimits(), 1000)
        self.connection.transport = StringTransport()
        plan = Plan(RetryPolicy.from_config(config.Retry()))
        asked = self.connection.ask(Client(), b"GET / HTTP/1.1\r\n\r\n", plan, 0.0)
        self.connection.dataReceived(
            b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
        )
        self.answer = cast(Answer, asked._value)

    def test_its_reading_is_paused(self) -> None:
        self.assertEqual(self.connection.transport.producerState, "paused")
        self.assertEqual(self.answer.body, b"a")

    def test_what_tls_has_decrypted_comes_all_the_same(self) -> None:
        """It is kept with what came before."""
        self.connection.dataReceived(b"1\r\nb\r\n")
        answer = self.answer
        self.assertEqual((answer.body, answer.complete), (b"ab", False))
        self.connection.dataReceived(b"1\r\nc\r\n0\r\n\r\n")
        self.assertEqual((answer.body, answer.complete), (b"abc", True))
        self.assertEqual(self.pool.released, [self.connection])
        answer.abandon()
        self.assertFalse(self.connection.transport.disconnecting)


class _Taking:
    """A pool that takes what comes back."""

    def __init__(self) -> None:
        self.released: list[Connection] = []

    def release(self, connection: Connection, now: float) -> None:
        self.released.append(connection)


def _streams(pool: FakePool) -> FakeConnection:
    connection = pool.connected()
    connection.begins()
    return connection
