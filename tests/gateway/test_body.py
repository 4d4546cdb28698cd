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
        body.detach()
        body.received(b"three ")
        second = FakeSink()
        self.assertTrue(body.repeatable)
        second.taken = body.attach(second)
        body.received(b"four")
        self.assertEqual(second.taken, b"one two three four")
        self.assertEqual(self.sink.taken, b"two ")

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
