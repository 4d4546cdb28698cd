"""The queue in front of a service, under every order of events that Hypothesis finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.deadlines import Wheel
from rtgateway.errors import GatewayError
from rtgateway.upstream.waiting_room import WaitingRoom
from tests.core.profile import PROPERTY

__all__: list[str] = []

PATIENCE = 5.0
"""Seconds that a request may wait."""


class Request:
    """Wants a place at the service; ``fate`` is what it does once it has one."""

    def __init__(self, service: Rooms, fate: Callable[[Request], None] | None) -> None:
        self.service = service
        self.fate = fate
        self.asked: Deferred[None] | None = None
        self.served = False
        self.error: BaseException | None = None

    @property
    def waits(self) -> bool:
        return not self.served and self.error is None

    def go_on(self, result: None = None) -> None:
        assert self.waits, "let in twice"
        self.served = True
        self.service.enter(self)
        if self.fate is not None:
            self.fate(self)

    def refused(self, failure: Failure) -> None:
        assert self.waits, "refused after it was let in"
        self.error = failure.value


class Rooms(RuleBasedStateMachine):
    """Requests come, are served, leave; the limit moves; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.serving: list[Request] = []
        self.line: list[Request] = []
        self.refusals = 0
        self.closed = False

    @initialize(limit=st.integers(0, 3), size=st.integers(0, 5))
    def begin(self, limit: int, size: int) -> None:
        self.limit = limit
        self.size = size
        self.wheel = Wheel()
        self.room = WaitingRoom(size, PATIENCE, lambda: len(self.serving) < self.limit, self.wheel)

    # -- what the rules speak of ----------------------------------------------------------------

    def enter(self, request: Request) -> None:
        assert len(self.serving) < self.limit, "more than the limit"
        if request.asked is not None:
            # First come, first served; nobody overtook it.
            while self.line[0].error is not None:
                self.line.pop(0)
            assert self.line.pop(0) is request
        self.serving.append(request)

    def come(self, fate: Callable[[Request], None] | None = None) -> Request:
        request = Request(self, fate)
        waiting = self.room.waiting
        free = len(self.serving) < self.limit
        asked = self.room.full_or_wait(self.now)
        if asked is None:
            assert free, "nobody goes on without room"
            assert not waiting, "nobody goes on before those who wait"
            request.go_on()
            return request
        request.asked = asked
        self.line.append(request)
        asked.addCallbacks(request.go_on, request.refused)
        if request.error is not None:
            self.line.remove(request)
            self.assert_overloaded(request)
            assert waiting >= self.size or self.closed
        return request

    def end(self, request: Request) -> None:
        self.serving.remove(request)
        self.room.wake()

    def assert_overloaded(self, request: Request) -> None:
        error = request.error
        assert isinstance(error, GatewayError)
        assert (error.status, error.code) == (503, "overloaded")
        assert (b"Retry-After", b"1") in error.headers
        self.refusals += 1

    # -- what happens ---------------------------------------------------------------------------

    @rule()
    def a_request_comes(self) -> None:
        self.come()

    @rule()
    def a_request_comes_that_fails_at_once(self) -> None:
        """It gives its place back while it is being let in."""
        self.come(self.end)

    @rule()
    def a_request_comes_that_brings_another(self) -> None:
        """A second one comes while the first is being let in."""

        def another(_: Request) -> None:
            self.come()

        self.come(another)

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def a_request_is_done(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.serving)))

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.line))
        assert request.asked is not None
        request.asked.cancel()
        assert isinstance(request.error, CancelledError)
        self.line.remove(request)

    @precondition(lambda self: len(self.line) > 1)
    @rule()
    def a_client_takes_another_with_it(self) -> None:
        """When the first is let in, the client of the next one leaves."""
        first, second = self.line[:2]
        asked = second.asked
        assert asked is not None
        first.fate = lambda _: asked.cancel()

    @rule(limit=st.integers(0, 4))
    def the_limit_moves(self, limit: int) -> None:
        self.limit = limit
        self.room.wake()

    @rule(seconds=st.sampled_from([0.5, 2.0, PATIENCE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        late = self.room.deadline <= self.now
        waiting = self.room.waiting
        if late:
            self.room.expired(self.now)
            assert self.room.waiting < waiting
        for request in [each for each in self.line if each.error is not None]:
            self.line.remove(request)
            if not isinstance(request.error, CancelledError):
                self.assert_overloaded(request)

    @precondition(lambda self: not self.closed)
    @rule()
    def the_gateway_stops(self) -> None:
        self.closed = True
        self.room.close()
        for request in self.line:
            if not isinstance(request.error, CancelledError):
                self.assert_overloaded(request)
        self.line.clear()

    # -- what holds -----------------------------------------------------------------------------

    @invariant()
    def the_line_is_the_queue(self) -> None:
        self.line = [each for each in self.line if each.error is None]
        assert [each.asked for each in self.line] == list(self.room._queue)
        assert all(each.waits for each in self.line)

    @invariant()
    def everything_is_bounded(self) -> None:
        assert self.room.waiting <= self.size
        assert len(self.wheel) == (0 if self.closed else 1)

    @invariant()
    def nobody_waits_without_need(self) -> None:
        if self.room.waiting:
            assert len(self.serving) >= self.limit

    @invariant()
    def the_deadline_is_that_of_the_first(self) -> None:
        first = next(iter(self.room._queue.values()), float("inf"))
        assert self.room.deadline == first
        assert not [until for until in self.room._queue.values() if until <= self.now]

    @invariant()
    def refusals_are_counted(self) -> None:
        assert self.room.refused == self.refusals


RoomTests = Rooms.TestCase
RoomTests.settings = settings(PROPERTY, max_examples=100)


class WaitingRoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wheel = Wheel(tick=0.1)
        self.places = 0
        self.room = WaitingRoom(1000, PATIENCE, lambda: self.places > 0, self.wheel)

    def wait(self, now: float = 0.0) -> Deferred[None]:
        waiting = self.room.full_or_wait(now)
        assert waiting is not None
        return waiting

    def take(self, _: Any = None) -> None:
        self.places -= 1

    def test_goes_on_at_once(self) -> None:
        """No Deferred where there is room."""
        self.places = 1
        self.assertIsNone(self.room.full_or_wait(0.0))
        self.assertEqual(repr(self.room), "<WaitingRoom 0 of 1000 waiting 0 refused>")

    def test_as_many_as_there_is_room_for(self) -> None:
        """A limit that rises by two lets two in, the first two."""
        waiting = [self.wait().addCallback(self.take) for _ in range(3)]
        self.places = 2
        self.room.wake()
        self.assertEqual([each.called for each in waiting], [True, True, False])
        self.assertEqual(self.places, 0)
        self.assertEqual(self.room.waiting, 1)

    def test_no_barging(self) -> None:
        """Who comes while others wait goes behind them, even if there is room by now."""
        first = self.wait().addCallback(self.take)
        self.places = 1
        second = self.wait()
        self.successResultOf(first)
        self.assertNoResult(second)

    def test_no_barging_while_others_are_let_in(self) -> None:
        """There is room for two and two wait; who comes while the first is let in is the third."""
        late = []

        def enters(_: None) -> None:
            self.take()
            late.append(self.wait())

        first = self.wait().addCallback(enters)
        second = self.wait().addCallback(self.take)
        self.places = 2
        self.room.wake()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertNoResult(late[0])

    def test_little_patience(self) -> None:
        """Less than the sweep's period: it is told that there is something to look at."""
        wheel = Wheel(tick=0.1, period=1.0)
        room = WaitingRoom(1, 0.3, lambda: False, wheel)
        wheel.advance(100.0)
        # As at the start of a real one: looked at in a second, as there is no deadline yet.
        wheel.add(room, 100.0)
        room.full_or_wait(100.05)
        self.assertEqual(wheel.advance(100.5), [room])

    def test_impatience(self) -> None:
        """The sweep finds the room by one deadline, and each is refused in its turn."""
        early, late = self.wait(100.0), self.wait(102.0)
        self.assertEqual(self.wheel.advance(104.9), [])
        (found,) = self.wheel.advance(105.2)
        self.assertIs(found, self.room)
        found.expired(105.2)
        error = self.failureResultOf(early, GatewayError).value
        self.assertEqual((error.status, error.code, error.fault), (503, "overloaded", "gateway"))
        self.assertNoResult(late)
        self.assertEqual(self.wheel.advance(106.9), [])
        self.assertEqual(self.wheel.advance(107.2), [self.room])
        self.room.expired(107.2)
        self.failureResultOf(late, GatewayError)
        self.assertEqual(self.wheel.advance(200.0), [])
        self.assertEqual(self.room.refused, 2)

    def test_a_long_line_that_ends_at_once(self) -> None:
        """Each is let in, fails, and lets the next in: the stack does not grow with the line."""

        def fails(_: None) -> None:
            self.take()
            self.places += 1
            self.room.wake()

        waiting = [self.wait().addCallback(fails) for _ in range(1000)]
        self.places = 1
        self.room.wake()
        self.assertTrue(all(each.called for each in waiting))
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual((self.room.waiting, self.places), (0, 1))

    def test_refusals_that_take_others_with_them(self) -> None:
        """Two requests of one client expire in the same sweep; the first cancels the second."""
        first, second = self.wait(), self.wait()
        first.addErrback(lambda _: second.cancel())
        self.room.expired(PATIENCE)
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_closing(self) -> None:
        """Who waits gets 503; nobody waits any more; who is done wakes nobody."""
        waiting = self.wait()
        self.room.close()
        self.failureResultOf(waiting, GatewayError)
        self.failureResultOf(self.wait(), GatewayError)
        self.places = 1
        self.room.wake()
        self.assertIsNone(self.room.full_or_wait(0.0))
        self.assertEqual(len(self.wheel), 0)
