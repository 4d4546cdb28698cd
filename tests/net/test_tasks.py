"""Tasks and waiters: what drives a request, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.net.tasks import Task, Waiter

__all__: list[str] = []


class Stop(Exception):
    """What a task is cancelled with here."""


class TaskTestCase(SynchronousTestCase):
    """``said`` is what a coroutine has done so far."""

    def setUp(self) -> None:
        self.said: list[object] = []

    def start(self, coroutine: Coroutine[Any, None, None]) -> Task:
        task = Task(coroutine)
        task.step()
        return task

    async def waits(self, *awaitables: Any) -> None:
        """Says what it gets from each of ``awaitables``."""
        for awaitable in awaitables:
            try:
                self.said.append(await awaitable)
            except Exception as error:
                self.said.append(error)
        self.said.append("end")


class WaiterTests(TaskTestCase):
    def test_a_result_that_comes_later(self) -> None:
        """The coroutine goes on inside the call that settles its waiter."""
        waiter: Waiter[int] = Waiter()
        task = self.start(self.waits(waiter))
        self.assertEqual(self.said, [])
        self.assertTrue(task.waiting)
        waiter.succeed(7)
        self.assertEqual(self.said, [7, "end"])
        self.assertFalse(task.waiting)

    def test_a_result_that_was_there_before(self) -> None:
        """Nobody has to wait for it."""
        good: Waiter[str] = Waiter()
        bad: Waiter[str] = Waiter()
        error = Stop()
        good.succeed("value")
        bad.fail(error)
        self.start(self.waits(good, bad))
        self.assertEqual(self.said, ["value", error, "end"])

    def test_a_failure_that_comes_later(self) -> None:
        """It is raised where the coroutine waits."""
        waiter: Waiter[int] = Waiter()
        self.start(self.waits(waiter))
        error = Stop()
        waiter.fail(error)
        self.assertEqual(self.said, [error, "end"])

    def test_nothing_is_a_result_too(self) -> None:
        """None, False and b"" come through as they are."""
        waiters: list[Waiter[Any]] = [Waiter() for _ in range(3)]
        self.start(self.waits(*waiters))
        for waiter, value in zip(waiters, (None, False, b""), strict=True):
            waiter.succeed(value)
        self.assertEqual(self.said, [None, False, b"", "end"])

    def test_settled_without_anybody(self) -> None:
        """A result that nobody waits for is no error."""
        waiter: Waiter[int] = Waiter()
        self.assertEqual(repr(waiter), "<Waiter pending>")
        waiter.succeed(1)
        self.assertEqual(repr(waiter), "<Waiter settled>")

    def test_repr_while_awaited(self) -> None:
        waiter: Waiter[int] = Waiter()
        task = self.start(self.waits(waiter))
        self.assertEqual(repr(waiter), "<Waiter awaited>")
        self.assertEqual(repr(task), "<Task waiting for <Waiter awaited>>")
        waiter.succeed(1)


class DeferredTests(TaskTestCase):
    def test_one_that_fires_later(self) -> None:
        """Its result, or its failure, is what the coroutine gets."""
        good: Deferred[str] = Deferred()
        bad: Deferred[str] = Deferred()
        self.start(self.waits(good, bad))
        good.callback("value")
        self.assertEqual(self.said, ["value"])
        error = Stop()
        bad.errback(error)
        self.assertEqual(self.said, ["value", error, "end"])

    def test_one_that_has_fired(self) -> None:
        """The coroutine goes on at once."""
        error = Stop()
        self.start(self.waits(succeed(1), fail(error), succeed(None)))
        self.assertEqual(self.said, [1, error, None, "end"])

    def test_a_failure_is_handled_by_being_raised(self) -> None:
        """Nothing is logged as unhandled afterwards."""
        deferred: Deferred[str] = Deferred()
        self.start(self.waits(deferred))
        deferred.errback(Stop())
        del deferred
        self.assertEqual(self.flushLoggedErrors(Stop), [])

    def test_mixed(self) -> None:
        """Waiters and Deferreds in any order."""
        first: Waiter[int] = Waiter()
        second: Deferred[int] = Deferred()
        third: Waiter[int] = Waiter()
        self.start(self.waits(first, second, third))
        first.succeed(1)
        second.callback(2)
        third.succeed(3)
        self.assertEqual(self.said, [1, 2, 3, "end"])


class CancelTests(TaskTestCase):
    def test_where_it_waits_for_a_waiter(self) -> None:
        """The error is raised there; a result that comes later wakes nobody."""
        waiter: Waiter[int] = Waiter()
        task = self.start(self.waits(waiter))
        error = Stop()
        task.cancel(error)
        self.assertEqual(self.said, [error, "end"])
        waiter.succeed(1)
        self.assertEqual(self.said, [error, "end"])
        self.assertFalse(task.waiting)

    def test_where_it_waits_for_a_deferred(self) -> None:
        """The Deferred is cancelled too, after the error has been raised."""
        cancelled: list[object] = []

        def cancel(deferred: Deferred[int]) -> None:
            cancelled.append(list(self.said))

        deferred: Deferred[int] = Deferred(cancel)
        error = Stop()
        self.start(self.waits(deferred)).cancel(error)
        self.assertEqual(self.said, [error, "end"])
        self.assertEqual(cancelled, [[error, "end"]])
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])

    def test_a_deferred_that_fires_although_it_was_cancelled(self) -> None:
        """Its result is dropped."""
        deferred: Deferred[int] = Deferred(lambda deferred: deferred.callback(1))
        error = Stop()
        self.start(self.waits(deferred)).cancel(error)
        self.assertEqual(self.said, [error, "end"])

    def test_before_the_start_and_after_the_end(self) -> None:
        """Nothing happens to a task that does not wait."""
        task = Task(self.waits(succeed(1)))
        task.cancel(Stop())
        self.assertEqual(self.said, [])
        task.step()
        self.assertEqual(self.said, [1, "end"])
        task.cancel(Stop())
        self.assertEqual(self.said, [1, "end"])

    def test_a_task_that_goes_on(self) -> None:
        """It may wait for something else after that, and be cancelled again."""
        waiters: list[Waiter[int]] = [Waiter() for _ in range(3)]
        task = self.start(self.waits(*waiters))
        errors = Stop(), Stop()
        task.cancel(errors[0])
        self.assertTrue(task.waiting)
        waiters[0].succeed(0)
        self.assertEqual(self.said, [errors[0]])
        task.cancel(errors[1])
        waiters[2].succeed(2)
        self.assertEqual(self.said, [*errors, 2, "end"])

    def test_finally_runs(self) -> None:
        """Whatever was lent is given back."""

        async def lends() -> None:
            try:
                await Waiter()
            except Stop:
                self.said.append("stopped")
            finally:
                self.said.append("given back")

        self.start(lends()).cancel(Stop())
        self.assertEqual(self.said, ["stopped", "given back"])


class ReentrancyTests(TaskTestCase):
    def test_settled_inside_the_task_itself(self) -> None:
        """What a coroutine settles before it waits is there when it waits."""
        waiter: Waiter[int] = Waiter()

        async def both() -> None:
            waiter.succeed(1)
            self.said.append(await waiter)

        self.start(both())
        self.assertEqual(self.said, [1])

    def test_one_task_wakes_another(self) -> None:
        """Everything happens inside the first call, in order."""
        first: Waiter[str] = Waiter()
        second: Waiter[str] = Waiter()

        async def hands_on() -> None:
            self.said.append(await first)
            second.succeed("second")
            self.said.append("handed on")

        self.start(hands_on())
        self.start(self.waits(second))
        first.succeed("first")
        self.assertEqual(self.said, ["first", "second", "end", "handed on"])

    def test_a_deferred_that_is_fired_inside_a_waiters_task(self) -> None:
        """The same with a Deferred between them."""
        waiter: Waiter[str] = Waiter()
        deferred: Deferred[str] = Deferred()

        async def fires() -> None:
            await waiter
            deferred.callback("fired")
            self.said.append("after")

        self.start(self.waits(deferred))
        self.start(fires())
        waiter.succeed("")
        self.assertEqual(self.said, ["fired", "end", "after"])

    def test_cancelled_from_inside_another_task(self) -> None:
        """A task that is cancelled while a third one runs is cancelled at once."""
        victims: Waiter[str] = Waiter()
        trigger: Waiter[str] = Waiter()
        victim = self.start(self.waits(victims))
        error = Stop()

        async def cancels() -> None:
            await trigger
            victim.cancel(error)
            self.said.append("cancelled")

        self.start(cancels())
        trigger.succeed("")
        self.assertEqual(self.said, [error, "end", "cancelled"])

    def test_many_results_in_a_row(self) -> None:
        """A chain of a thousand waits that are over at once does not exhaust the stack."""

        async def chain() -> None:
            for number in range(1000):
                waiter: Waiter[int] = Waiter()
                waiter.succeed(number)
                self.said.append(await waiter)

        self.start(chain())
        self.assertEqual(len(self.said), 1000)


class EscapeTests(TaskTestCase):
    def escape(self, how: Callable[[Waiter[int], Task], None]) -> None:
        waiter: Waiter[int] = Waiter()

        async def careless() -> None:
            await waiter
            raise Stop

        how(waiter, self.start(careless()))
        self.assertEqual(len(self.flushLoggedErrors(Stop)), 1)

    def test_an_error_that_nobody_handles_is_logged(self) -> None:
        """It does not reach whoever settled the waiter, who has nothing to do with it."""
        self.escape(lambda waiter, task: waiter.succeed(1))
        self.escape(lambda waiter, task: waiter.fail(Stop()))
        self.escape(lambda waiter, task: task.cancel(Stop()))

    def test_an_error_at_once_is_logged_too(self) -> None:
        async def careless() -> None:
            raise Stop

        self.start(careless())
        self.assertEqual(len(self.flushLoggedErrors(Stop)), 1)
