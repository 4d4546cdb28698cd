"""A request body between a client and an instance: what is held, passed on, paused, refused."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.errors import GatewayError
from rtgateway.gateway.body import RequestBody

__all__: list[str] = []

KEPT = 65536
"""Bytes that stay held for a second attempt."""


class FakeSource:
    """A client whose reading can be stopped."""

    def __init__(self) -> None:
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class FakeSink:
    """An instance that takes everything."""

    def __init__(self) -> None:
        self.taken = b""
        self.trailers: list[tuple[bytes, bytes]] | None = None

    def body_payload(self, payload: bytes) -> None:
        self.taken += payload

    def body_ended(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = trailers


class FakeCopy:
    """Somebody who copies."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def copied(self, payload: bytes) -> None:
        self.said.append(payload)

    def copy_complete(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.said.append(trailers)

    def copy_cut_off(self) -> None:
        self.said.append("cut off")


class RequestBodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source = FakeSource()
        self.sink = FakeSink()

    def body(self, length: int = -1) -> RequestBody:
        return RequestBody(self.source, length)

    def test_what_came_early_is_held(self) -> None:
        """Until an instance has been found; then the rest goes straight through."""
        body = self.body()
        body.received(b"early ")
        self.sink.taken = body.attach(self.sink)
        body.received(b"late")
        body.finished([(b"X-Sum", b"1")])
        self.assertEqual(self.sink.taken, b"early late")
        self.assertEqual(self.sink.trailers, [(b"X-Sum", b"1")])
        self.assertEqual((body.size, body.ended), (10, True))

    def test_all_of_it_came_early(self) -> None:
        body = self.body(5)
        body.received(b"hello")
        body.finished([])
        self.assertEqual(body.attach(self.sink), b"hello")
        self.assertTrue(body.ended)

    def test_a_client_that_is_early_is_paused(self) -> None:
        """No more than is kept anyway waits for an instance, and one read."""
        body = self.body()
        body.received(bytes(KEPT))
        self.assertFalse(self.source.paused)
        body.received(b"more")
        self.assertTrue(self.source.paused)
        self.assertEqual(len(body.attach(self.sink)), KEPT + 4)
        self.assertFalse(self.source.paused)

    def test_an_instance_that_is_slow(self) -> None:
        body = self.body()
        body.attach(self.sink)
        body.pause()
        self.assertTrue(self.source.paused)
        body.resume()
        self.assertFalse(self.source.paused)

    def test_a_second_attempt(self) -> None:
        """A small body can be sent again from its start, also while more of it comes."""
        body = self.body()
        body.received(b"one ")
        body.attach(self.sink)
        body.received(b"two ")
        body.detach(FakeSink())  # one that had it before, and says so late
        body.received(b"more ")
        self.assertIn(b"more ", self.sink.taken)
        body.detach(self.sink)
        body.received(b"three ")
        second = FakeSink()
        self.assertTrue(body.repeatable)
        second.taken = body.attach(second)
        body.received(b"four")
        self.assertEqual(second.taken, b"one two more three four")
        self.assertEqual(self.sink.taken, b"two more ")

    def test_no_second_attempt_for_a_large_one(self) -> None:
        """What is passed on and was not kept is gone."""
        body = self.body()
        body.received(bytes(KEPT))
        body.attach(self.sink)
        self.assertTrue(body.repeatable)
        body.received(b"x")
        self.assertFalse(body.repeatable)

    def test_no_second_attempt_for_one_that_was_large_at_first(self) -> None:
        body = self.body()
        body.received(bytes(KEPT + 1))
        body.attach(self.sink)
        self.assertFalse(body.repeatable)

    def test_as_much_is_held_as_is_asked_for(self) -> None:
        """More or less than by default, to the byte."""
        for limit in (0, 10, KEPT + 10):
            for size, repeatable in ((limit, True), (limit + 1, False)):
                body = self.body()
                body.hold(limit)
                body.attach(self.sink)
                for _ in range(size):
                    body.received(b"x")
                self.assertEqual(body.repeatable, repeatable, (limit, size))
                if repeatable:
                    self.assertEqual(body.attach(FakeSink()), b"x" * size)

    def test_a_third_attempt(self) -> None:
        """While it is held, a body can be sent again and again."""
        body = self.body()
        body.hold(100)
        body.received(b"one ")
        for text in (b"one ", b"one two ", b"one two two "):
            self.assertEqual(body.attach(self.sink), text)
            body.detach(self.sink)
            body.received(b"two ")
        self.assertTrue(body.repeatable)

    def test_much_is_held_but_not_ahead(self) -> None:
        """A client that nobody has an instance for is not read any further than others are."""
        body = self.body()
        body.hold(10 * KEPT)
        body.received(bytes(KEPT))
        self.assertFalse(self.source.paused)
        body.received(b"x")
        self.assertTrue(self.source.paused)
        body.attach(self.sink)
        self.assertFalse(self.source.paused)
        body.received(bytes(KEPT))
        self.assertFalse(self.source.paused)
        self.assertTrue(body.repeatable)

    def test_little_is_held(self) -> None:
        """A small limit holds for what came before it was set, too."""
        body = self.body()
        body.received(b"hello")
        body.hold(5)
        self.assertFalse(self.source.paused)
        body.hold(4)
        self.assertTrue(self.source.paused)
        self.assertEqual(body.attach(self.sink), b"hello")
        self.assertFalse(self.source.paused)
        self.assertFalse(body.repeatable)

    def test_between_two_attempts(self) -> None:
        """What comes while nobody takes it is lost to nobody, even if it is too much to hold on."""
        body = self.body()
        body.hold(5)
        body.attach(self.sink)
        body.received(b"one ")
        body.detach(self.sink)
        body.received(b"two ")
        self.assertTrue(self.source.paused)
        self.assertEqual(body.attach(self.sink), b"one two ")
        self.assertFalse(body.repeatable)

    def test_a_copy(self) -> None:
        """It gets what has come and what comes, and the end; nothing waits for it."""
        body, copy = self.body(), FakeCopy()
        body.received(b"one")
        body.copy_to(copy)
        body.attach(self.sink)
        body.received(b"two")
        body.finished([(b"X-Sum", b"1")])
        body.over()
        self.assertEqual(copy.said, [b"one", b"two", [(b"X-Sum", b"1")]])
        self.assertEqual(self.sink.taken, b"two")
        self.assertFalse(self.source.paused)

    def test_a_copy_of_what_is_complete(self) -> None:
        body, copy = self.body(), FakeCopy()
        body.received(b"one")
        body.finished([])
        body.copy_to(copy)
        body.over()
        self.assertEqual(copy.said, [b"one", []])

    def test_a_copy_of_what_does_not_end(self) -> None:
        """A client that leaves in the middle leaves no copy waiting."""
        body, copy = self.body(), FakeCopy()
        body.copy_to(copy)
        body.received(b"one")
        body.over()
        body.over()
        self.assertEqual(copy.said, [b"one", "cut off"])

    def test_no_copy_of_what_is_refused(self) -> None:
        """Not a byte of the payload that passes the limit is copied."""
        body, copy = self.body(), FakeCopy()
        body.bound(4)
        body.copy_to(copy)
        self.refused(lambda: body.received(b"hello"))
        body.over()
        self.assertEqual(copy.said, ["cut off"])

    def test_when_it_is_over(self) -> None:
        """Nothing is held for a request that has been answered."""
        body = self.body()
        body.received(b"hello")
        body.attach(self.sink)
        body.over()
        self.assertFalse(body.repeatable)

    def test_the_limit(self) -> None:
        """Early by what is announced, and then to the byte."""
        self.refused(lambda: self.body(11).bound(10))
        self.body(10).bound(10)
        self.body(10**12).bound(0)
        body = self.body()
        body.bound(10)
        body.received(bytes(10))
        self.refused(lambda: body.received(b"x"))
        body = self.body()
        body.received(bytes(11))
        self.refused(lambda: body.bound(10))

    def refused(self, call: Callable[[], object]) -> None:
        error = self.assertRaises(GatewayError, call)
        self.assertEqual((error.status, error.fault), (413, "client"))

    def test_repr(self) -> None:
        body = self.body()
        body.received(b"secret")
        self.assertEqual(repr(body), "<RequestBody open 6 bytes>")
        body.finished([])
        self.assertEqual(repr(body), "<RequestBody ended 6 bytes>")
