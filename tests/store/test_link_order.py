"""No reply ever goes to another call: any order of commands, replies, deadlines and cancels."""

from __future__ import annotations

from typing import Any

from hiredis import Reader
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock

from rtgateway.store.errors import StoreError
from rtgateway.store.redis.calls import Call
from rtgateway.store.redis.protocol import CommandProtocol
from rtgateway.store.redis.script import Script

TIMEOUT = 0.05
SCRIPT = Script("say", "return ARGV[1]")


class _Wire:
    """A transport, and a server behind it that answers when it is told to."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.commands: list[list[bytes]] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.reader.feed(data)
        while (command := self.reader.gets()) is not False:
            self.commands.append(command)

    def abortConnection(self) -> None:
        self.aborted = True


class _Owner:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.answers = self.timeouts = self.dropped_calls = self.lost_times = 0

    def answered(self, call: Call, now: float) -> None:
        assert now <= call.deadline
        self.answers += 1

    def late(self) -> None:
        pass

    def timed_out(self, call: Call) -> None:
        self.timeouts += 1

    def refused(self, call: Call, detail: str, now: float) -> None:
        pass

    def unfit(self, detail: str) -> None:
        pass

    def dropped(self, call: Call) -> None:
        self.dropped_calls += 1

    def lost(self, connection: CommandProtocol, why: str) -> None:
        self.lost_times += 1


class Connection(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.wire = _Wire()
        self.owner = _Owner()
        self.protocol = CommandProtocol(self.clock, self.clock.seconds)
        self.protocol.makeConnection(self.wire)
        self.protocol.owner = self.owner
        self.known = False
        self.calls: list[Call] = []
        self.outcomes: dict[int, Any] = {}
        self.replies = b""
        self.wrong: list[str] = []

    def _call(self, timeout: float, script: bool) -> tuple[Call, bytes]:
        number = len(self.calls)

        def done(reply: Any, error: StoreError | None) -> None:
            # What is raised here is logged, and goes no further.
            if number in self.outcomes:
                self.wrong.append(f"{number} was called twice")
            self.outcomes[number] = self.clock.seconds()
            if error is None:
                if reply != b"%d" % number:
                    self.wrong.append(f"{number} got {reply!r}")
                if self.clock.seconds() > call.deadline:
                    self.wrong.append(f"{number} is late")
            elif error.reason not in {"timeout", "lost"}:
                self.wrong.append(f"{number} got {error!r}")

        now = self.clock.seconds()
        text = b"%d" % number
        call = Call("x", now, now + timeout, done)
        command = b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(text), text)
        if script:
            call = Call("x", now, now + timeout, done, SCRIPT, (), (text,))
            command = b"*4\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n0\r\n$%d\r\n%b\r\n" % (
                SCRIPT.sha,
                len(text),
                text,
            )
        self.calls.append(call)
        return call, command

    @precondition(lambda self: not self.protocol.ended)
    @rule(count=st.integers(1, 5), script=st.booleans())
    def send(self, count: int, script: bool) -> None:
        for _ in range(count):
            self.protocol.send_timed(*self._call(TIMEOUT, script))

    @precondition(lambda self: not self.protocol.ended)
    @rule(timeout=st.sampled_from([0.001, 0.2, 3.0]))
    def send_with_another_deadline(self, timeout: float) -> None:
        call, command = self._call(timeout, script=False)
        number = len(self.calls) - 1

        def too_late() -> None:
            if call.done is not None:
                call.done = None
                self.outcomes[number] = self.clock.seconds()

        self.clock.callLater(timeout, too_late)
        self.protocol.send(call, command)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        pending = [n for n in range(len(self.calls)) if n not in self.outcomes]
        if pending:
            number = data.draw(st.sampled_from(pending))
            self.calls[number].done = None
            self.outcomes[number] = self.clock.seconds()

    @precondition(lambda self: not self.protocol.ended)
    @rule(count=st.integers(1, 12), cut=st.integers(0, 3))
    def reply(self, count: int, cut: int) -> None:
        """The server answers some commands; the last bytes may stay on the way."""
        for _ in range(min(count, len(self.wire.commands))):
            word, *rest = self.wire.commands.pop(0)
            if word == b"EVAL":
                self.known = True
            if word == b"EVALSHA" and not self.known:
                self.replies += b"-NOSCRIPT No matching script.\r\n"
            else:
                self.replies += b"$%d\r\n%b\r\n" % (len(rest[-1]), rest[-1])
        until = len(self.replies) - cut
        sent, self.replies = self.replies[:until], self.replies[until:]
        self.protocol.dataReceived(sent)

    @rule()
    def forget_scripts(self) -> None:
        self.known = False

    @rule(seconds=st.sampled_from([0.0, 0.0004, 0.01, 0.03, 0.05, 0.4, 1.9]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def lose(self) -> None:
        if len(self.calls) > 30 and not self.protocol.ended:
            self.protocol.abort("the end")

    @invariant()
    def every_call_gets_its_own(self) -> None:
        assert self.wrong == []

    @invariant()
    def every_deadline_is_kept(self) -> None:
        for number, call in enumerate(self.calls):
            if number not in self.outcomes:
                assert call.deadline > self.clock.seconds()

    @invariant()
    def an_end_leaves_nobody_waiting(self) -> None:
        if self.protocol.ended:
            assert len(self.outcomes) == len(self.calls)
            assert self.owner.lost_times == 1
            assert self.protocol._timer is None

    def teardown(self) -> None:
        self.clock.advance(TIMEOUT)
        assert not self.protocol._due
        self.every_call_gets_its_own()


Connection.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
test_any_order = Connection.TestCase
