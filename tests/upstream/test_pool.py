"""The pool of connections to an instance, under every order of events that Hypothesis finds."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Pool as PoolConfig
from rtgateway.core.deadlines import Wheel
from rtgateway.errors import GatewayError, UpstreamFailed
from rtgateway.upstream.connection import Connection
from rtgateway.upstream.pool import Pool
from tests.core.profile import PROPERTY

__all__: list[str] = []

PATIENCE = 5.0
"""Seconds that a call may wait in the queue."""


class FakeConnection:
    """What a pool knows of a connection."""

    deadline = float("inf")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.stale = False
        self.closed = False

    def usable(self) -> bool:
        return not self.stale

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True
        self.pool.forget(cast(Connection, self))
        self.pool.ended(cast(Connection, self))


class Request:
    """A call that wants a connection."""

    def __init__(self, asked: Deferred[Any] | None) -> None:
        self.asked = asked
        self.connection: FakeConnection | None = None
        self.error: BaseException | None = None

    @property
    def waits(self) -> bool:
        return self.connection is None and self.error is None

    def got(self, result: Any) -> None:
        assert self.waits, "answered twice"
        if isinstance(result, Failure):
            self.error = result.value
        else:
            self.connection = result


class Pools(RuleBasedStateMachine):
    """Requests come and go, connections are made, break, grow stale; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.attempts: list[Deferred[Any]] = []
        self.requests: list[Request] = []
        self.line: list[Request] = []
        self.closed = False

    @initialize(connections=st.integers(1, 4), idle=st.integers(0, 4), queue=st.integers(0, 4))
    def begin(self, connections: int, idle: int, queue: int) -> None:
        self.settings = PoolConfig(
            connections=connections, idle=idle, queue=queue, queue_timeout=PATIENCE
        )
        self.wheel = Wheel()
        self.pool = Pool(self.settings, self.connect, self.wheel)

    def connect(self, pool: Pool, timeout: float) -> Deferred[Any]:
        attempt: Deferred[Any] = Deferred(self.attempts.remove)
        self.attempts.append(attempt)
        return attempt

    # -- what the rules speak of ----------------------------------------------------------------

    @property
    def idle(self) -> list[FakeConnection]:
        return cast("list[FakeConnection]", self.pool.idle)

    @property
    def lent(self) -> list[FakeConnection]:
        return [each.connection for each in self.requests if each.connection is not None]

    @property
    def queued(self) -> list[Deferred[Any]]:
        return [deferred for _, _, deferred in self.pool._queue]

    def ask(self, *, fresh: bool) -> None:
        connection = None if fresh else self.pool.take()
        if connection is not None:
            request = Request(None)
            request.got(connection)
        else:
            asked = self.pool.borrow(1.0, self.now)
            request = Request(asked)
            if asked in self.queued:
                self.line.append(request)
            asked.addBoth(request.got)
        self.requests.append(request)

    def forget_the_answered(self) -> None:
        self.requests = [each for each in self.requests if each.error is None]

    # -- what happens ---------------------------------------------------------------------------

    @rule()
    def a_request_comes(self) -> None:
        was_full = len(self.pool._queue) >= self.settings.queue
        self.ask(fresh=False)
        error = self.requests[-1].error
        if error is not None:
            assert isinstance(error, GatewayError)
            assert error.status == 503
            assert was_full
        self.forget_the_answered()

    @rule()
    def a_request_wants_a_fresh_connection(self) -> None:
        """The one before it was dead."""
        attempts = len(self.attempts)
        idle = len(self.idle)
        self.ask(fresh=True)
        if idle:
            assert len(self.attempts) == attempts + 1, "an idle one makes room"
        self.forget_the_answered()

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def a_connection_is_made(self, data: st.DataObject) -> None:
        attempt = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        attempt.callback(FakeConnection(self.pool))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def a_connection_is_not_made(self, data: st.DataObject) -> None:
        attempt = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        attempt.errback(UpstreamFailed("refused", retryable=True))
        self.forget_the_answered()

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), broken=st.booleans())
    def a_request_ends(self, data: st.DataObject, broken: bool) -> None:
        request = data.draw(st.sampled_from([each for each in self.requests if each.connection]))
        self.requests.remove(request)
        connection = request.connection
        assert connection is not None
        if broken:
            connection.close()
        else:
            self.pool.release(cast(Connection, connection), self.now)

    @precondition(lambda self: any(each.waits for each in self.requests))
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([each for each in self.requests if each.waits]))
        assert request.asked is not None
        request.asked.cancel()
        assert isinstance(request.error, CancelledError)
        if request in self.line:
            self.line.remove(request)
        self.forget_the_answered()

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def an_idle_connection_ends(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.idle)).close()

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def an_idle_connection_grows_stale(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.idle)).stale = True

    @rule(seconds=st.sampled_from([0.5, 2.0, PATIENCE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        queued = self.queued
        if self.pool.deadline <= self.now:
            self.pool.expired(self.now)
            assert len(self.queued) < len(queued)
        assert not [entry for entry in self.pool._queue if entry[0] <= self.now]
        for request in self.requests:
            if request.error is not None:
                assert isinstance(request.error, GatewayError)
                assert request.error.status == 503
                self.line.remove(request)
        self.forget_the_answered()

    @precondition(lambda self: not self.closed)
    @rule()
    def the_gateway_stops(self) -> None:
        self.closed = True
        self.pool.close()
        assert not self.idle

    # -- what holds -----------------------------------------------------------------------------

    @invariant()
    def every_connection_is_in_one_place(self) -> None:
        places = [*self.idle, *self.lent]
        assert len(set(places)) == len(places)
        assert not [each for each in places if each.closed]
        assert self.pool.open == len(places) + len(self.attempts)

    @invariant()
    def everything_is_bounded(self) -> None:
        assert self.pool.open <= self.settings.connections
        assert len(self.idle) <= self.settings.idle
        assert self.pool.waiting <= self.settings.queue
        assert len(self.wheel) <= 1 + self.pool.open

    @invariant()
    def nobody_waits_without_need(self) -> None:
        if self.pool.waiting:
            assert self.pool.open == self.settings.connections
            assert not self.idle

    @invariant()
    def first_come_first_served(self) -> None:
        """Who leaves the queue was at its head; the deadline is that of the next."""
        left = len(self.line) - len(self.queued)
        assert [each.asked for each in self.line[left:]] == self.queued
        del self.line[:left]
        queue = self.pool._queue
        assert self.pool.deadline == (queue[0][0] if queue else float("inf"))

    def teardown(self) -> None:
        """All requests over, all connections closed: nothing is left."""
        if not hasattr(self, "pool"):
            return
        for request in list(self.requests):
            if request.waits and request.asked is not None:
                request.asked.cancel()
        for connection in self.lent:
            connection.close()
        for attempt in list(self.attempts):
            self.attempts.remove(attempt)
            attempt.callback(FakeConnection(self.pool))
        self.pool.close()
        assert (self.pool.open, self.pool.waiting, len(self.wheel)) == (0, 0, 0)


PoolTests = Pools.TestCase
PoolTests.settings = settings(PROPERTY, max_examples=250)


class ReuseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.attempts: list[Deferred[Any]] = []
        self.pool = Pool(PoolConfig(connections=3), self.connect, Wheel())

    def connect(self, pool: Pool, timeout: float) -> Deferred[Any]:
        self.attempts.append(Deferred())
        return self.attempts[-1]

    def lend(self) -> Any:
        borrowed = self.pool.borrow(1.0, 0.0)
        self.attempts.pop().callback(FakeConnection(self.pool))
        return self.successResultOf(borrowed)

    def test_the_last_used_comes_first(self) -> None:
        """So that those that are not needed grow old and are closed."""
        connections = [self.lend() for _ in range(3)]
        for connection in connections:
            self.pool.release(connection, 0.0)
        self.assertEqual([self.pool.take() for _ in range(3)], connections[::-1])
        self.assertIsNone(self.pool.take())

    def test_what_is_stale_is_closed_and_not_lent(self) -> None:
        old, new = self.lend(), self.lend()
        self.pool.release(old, 0.0)
        self.pool.release(new, 0.0)
        new.stale = True
        self.assertIs(self.pool.take(), old)
        self.assertTrue(new.closed)
        self.assertEqual(repr(self.pool), "<Pool 1 open 0 idle 0 waiting>")

    def test_a_failed_attempt_is_told_to_who_asked(self) -> None:
        borrowed = self.pool.borrow(1.0, 0.0)
        self.attempts.pop().errback(UpstreamFailed("refused"))
        self.failureResultOf(borrowed, UpstreamFailed)
        self.assertEqual(self.pool.open, 0)

    def test_a_fresh_one_where_all_places_are_taken_by_idle_ones(self) -> None:
        """The one that idles longest makes room."""
        connections = [self.lend() for _ in range(3)]
        for connection in connections:
            self.pool.release(connection, 0.0)
        fresh = self.lend()
        self.assertNotIn(fresh, connections)
        self.assertEqual([each.closed for each in connections], [True, False, False])
        self.assertEqual(repr(self.pool), "<Pool 3 open 2 idle 0 waiting>")
