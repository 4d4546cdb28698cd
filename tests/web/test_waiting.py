"""Pages that answer later."""

from __future__ import annotations

import json
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import server
from twisted.web.test.requesthelper import DummyChannel

from rtgateway.net.tasks import Waiter
from rtgateway.store.errors import StoreError
from rtgateway.web.admin.page import Answer, answer, refusal
from rtgateway.web.admin.waiting import PATIENCE, WaitingPage


class WaitingPageTests(SynchronousTestCase):
    """A page that waits for ``self.wait``, asked as ``twisted.web`` does."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wait: Any = Waiter()
        self.given_up: list[BaseException] = []
        self.transport: Any = None
        page = WaitingPage(cast("Any", self.clock), GET=self.answer)
        page.isLeaf = True
        self.site = server.Site(page, reactor=cast("Any", self.clock))

    async def answer(self, request: server.Request) -> Answer:
        try:
            return answer(200, {"it": await self.wait})
        except BaseException as error:
            self.given_up.append(error)
            raise

    def ask(self, method: bytes = b"GET") -> server.Request:
        channel = DummyChannel()
        channel.site = self.site
        self.transport = channel.transport
        request = server.Request(channel, False)
        request.gotLength(0)
        request.requestReceived(method, b"/", b"HTTP/1.1")
        return request

    def written(self) -> bytes:
        """What the last one who asked got."""
        return cast("bytes", self.transport.written.getvalue())

    def refused(self, status: int) -> dict[str, str]:
        head, _, body = self.written().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), head)
        return cast("dict[str, str]", json.loads(body))

    def nothing_is_left(self, request: server.Request) -> None:
        """No timer, nobody who waits; the answer is over."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(request.finished)

    def test_what_is_known_at_once(self) -> None:
        """Needs no wait."""
        self.wait.succeed(1)
        request = self.ask()
        self.assertTrue(self.written().endswith(b'\r\n\r\n{"it":1}'))
        self.nothing_is_left(request)

    def test_what_is_known_later(self) -> None:
        """Nothing is said before."""
        for self.wait in (Waiter(), Deferred()):
            request = self.ask()
            self.clock.advance(PATIENCE - 0.1)
            self.assertEqual(self.written(), b"")
            settle = self.wait.succeed if isinstance(self.wait, Waiter) else self.wait.callback
            settle(2)
            self.assertTrue(self.written().endswith(b'\r\n\r\n{"it":2}'))
            self.nothing_is_left(request)

    def test_head(self) -> None:
        """The same head, no body."""
        self.ask(b"HEAD")
        self.wait.succeed(1)
        self.assertIn(b"200 OK", self.written())
        self.assertIn(b"ontent-Length: 8\r\n", self.written())
        self.assertTrue(self.written().endswith(b"\r\n\r\n"))

    def test_another_method(self) -> None:
        """405; nobody is asked to wait for it."""
        request = self.ask(b"PUT")
        self.assertEqual(self.refused(405)["error"], "method_not_allowed")
        self.assertIn(b"Allow: GET, HEAD", self.written())
        self.nothing_is_left(request)

    def test_patience_ends(self) -> None:
        """503, and what waited is cancelled: a store's answer comes too late then."""
        for self.wait in (Waiter(), Deferred()):
            request = self.ask()
            self.clock.advance(PATIENCE)
            document = self.refused(503)
            self.assertEqual(document["error"], "store_unavailable")
            self.assertIn(b"Retry-After: 1\r\n", self.written())
            self.nothing_is_left(request)
            said = self.written()
            if isinstance(self.wait, Waiter):
                self.wait.succeed(3)
            else:
                self.assertTrue(self.wait.called)
            self.assertEqual(self.written(), said)

    def test_the_store_does_not_answer(self) -> None:
        """503 with the reason, and with nothing that a store said itself."""
        for reason in ("down", "timeout", "lost", "busy", "refused"):
            self.wait = Waiter()
            request = self.ask()
            self.wait.fail(StoreError(cast("Any", reason), "ERR at 10.0.0.5"))
            document = self.refused(503)
            self.assertEqual(document["error"], "store_unavailable")
            self.assertIn(reason, document["message"])
            self.assertNotIn(b"10.0.0.5", self.written())
            self.nothing_is_left(request)

    def test_a_refusal(self) -> None:
        """As those of other pages."""
        request = self.ask()
        self.wait.fail(refusal(409, "conflict", "No"))
        self.assertEqual(self.refused(409), {"error": "conflict", "message": "No"})
        self.nothing_is_left(request)

    def test_a_client_that_leaves(self) -> None:
        """Nothing is written, what waited is cancelled, no timer is left."""
        for self.wait in (Waiter(), Deferred()):
            request = self.ask()
            request.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(repr(self.given_up.pop()), "<ClientGone 499 client_gone fault=client>")
            if isinstance(self.wait, Waiter):
                self.wait.succeed(4)
            self.assertEqual(self.written(), b"")

    def test_a_mistake_of_ours(self) -> None:
        """500, and the log has it."""
        request = self.ask()
        self.wait.fail(ZeroDivisionError("ours"))
        self.assertIn(b"500 Internal Server Error", self.written())
        self.assertNotIn(b"ours", self.written())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.nothing_is_left(request)
