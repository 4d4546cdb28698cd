"""A bridged WebSocket under every order of events that Hypothesis finds.

Both sides speak in pieces, break the rules, block, take, close and vanish; operators interfere;
time passes. Whatever happens, each side gets a legal stream that holds what the other one said,
and the socket ends in bounded time with everything given back.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from rtgateway.testing.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, encode
from rtgateway.ws.sockets import Place
from tests.core.profile import PROPERTY
from tests.ws.stage import OURS, Peer, Stage, frames_in

__all__: list[str] = []

CLOSE_TIMEOUT = 1.0
LONGEST_END = CLOSE_TIMEOUT + 2.0 + 0.5
SETTINGS = st.fixed_dictionaries(
    {
        "close_timeout": st.just(CLOSE_TIMEOUT),
        "ping_interval": st.sampled_from([0, 1.0, 2.0, 30.0]),
        "pong_timeout": st.sampled_from([0.5, 3.0, 100.0]),
        "ping_upstream": st.booleans(),
        "idle_timeout": st.sampled_from([0, 0, 6.0]),
        "max_lifetime": st.sampled_from([0, 0, 20.0]),
        "drain_timeout": st.sampled_from([0, 2.0]),
    },
    optional={
        "max_frame": st.sampled_from([0, 0, 0, 0, 300]),
        "max_message": st.sampled_from([0, 0, 0, 0, 500]),
        "messages_per_second": st.sampled_from([1, 3]),
        "bytes_per_second": st.sampled_from([100, 1000]),
        "over_rate": st.sampled_from(["close", "pause", "pause"]),
    },
)
SIDES = st.sampled_from(["client", "upstream"])
KINDS = [*["text", "begin", "go on", "end"] * 2, *["large", "empty", "ping", "pong", "late answer"]]
CLOSES: list[bytes] = [b"", b"\x03\xe8", b"\x03\xe8bye", b"\x0f\xa1expired", b"\x03\xf3"]
WRONG = ["opcode", "reserved", "mask", "order", "code", "long ping"]
TRAFFIC = [
    *["all"] * 8,
    *["piece"] * 5,
    *["begin a frame", "much", "answer", "take"] * 4,
    *["time"] * 6,
    *["block"] * 3,
    *["close", "go"] * 2,
    *["illegal", "vanish", "operator"],
]

EVENTS = st.lists(
    st.tuples(st.sampled_from([*TRAFFIC, *KINDS]), SIDES, st.integers(0, 7)), min_size=1, max_size=5
)


class Bridged(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patches = ExitStack()

    @initialize(
        keys=SETTINGS,
        tls=st.sampled_from(["", "", "client", "upstream", "client upstream"]),
        max_buffered=st.sampled_from([400, 2000, 10_000]),
        stall=st.sampled_from([2.0, 60.0]),
        expires=st.sampled_from([float("inf"), float("inf"), 15.0]),
        random=st.sampled_from([0.0, 0.5, 0.99]),
        early=st.tuples(st.booleans(), st.booleans()),
    )
    def begin(
        self,
        keys: dict[str, Any],
        tls: str,
        max_buffered: int,
        stall: float,
        expires: float,
        random: float,
        early: tuple[bool, bool],
    ) -> None:
        self.stage = Stage(write_stall=stall, tls=tls, buffer=200, random=random, **keys)
        # Less than the configuration allows: frames are small here.
        self.stage.rules.max_buffered = max_buffered
        self.patches.enter_context(self.stage.on())
        self.opened = 0
        self.checked: dict[bool, object] = {}
        self.open_one(expires, early)

    def open_one(self, expires: float, early: tuple[bool, bool]) -> None:
        self.opened += 1
        self.socket, self.client, self.upstream = self.stage.open(
            expires=self.stage.now + expires,
            from_client=encode(TEXT, b"early", mask=b"abcd") if early[0] else b"",
            from_instance=encode(TEXT, b"early") if early[1] else b"",
        )
        self.attempt: Any = self.socket.attempt
        self.outbox = {"client": bytearray(), "upstream": bytearray()}
        # Bytes of each that are legal: behind them is a violation or a Close.
        self.legal: dict[str, int | None] = {"client": None, "upstream": None}
        self.composed = {
            "client": len(self.client.said),
            "upstream": len(self.upstream.said),
        }
        self.inside = {"client": False, "upstream": False}
        self.vanished: set[str] = set()
        self.aborted = False
        self.closing_since = 0.0
        self.check()

    def peer(self, name: str) -> Peer:
        return self.client if name == "client" else self.upstream

    def over(self) -> bool:
        return bool(self.attempt.ended)

    @rule(events=EVENTS)
    def happens(self, events: list[tuple[str, str, int]]) -> None:
        # One rule for all: Hypothesis would leave some out of most runs.
        for what, name, number in events:
            if self.over():
                self.open_one(float("inf"), (number > 5, number % 2 > 0))
            self.one(what, name, number)
            self.check()

    def one(self, what: str, name: str, number: int) -> None:
        match what:
            case "close":
                self.compose_close(name, CLOSES[number % len(CLOSES)], number > 4)
            case "illegal":
                self.compose_violation(name, WRONG[number % len(WRONG)])
            case "piece":
                self.deliver(name, (1, 2, 5, 20, 60, 200, 300, 3000)[number])
            case "all":
                self.deliver(name, 100_000)
            case "begin a frame":
                self.begin_a_frame(name, number % 2 > 0)
            case "much":
                if number % 2:
                    self.block("client" if name == "upstream" else "upstream")
                self.says_much(name)
            case "block":
                self.block(name)
            case "take":
                self.take(name, (None, None, None, None, 1, 30, 200, 1000)[number])
            case "answer":
                self.both_answer()
            case "vanish":
                self.vanish(name, number % 2 > 0)
            case "go":
                if self.socket.close_code:
                    self.vanish(name, True)
            case "time":
                self.time_passes((0.1, 0.1, 0.1, 0.5, 0.5, 1.0, 1.0, 3.0)[number])
            case "operator":
                what = ("close", "close", "drain", "undrain", "undrain", "stop", "abort", "")[
                    number
                ]
                self.interfere(what)
            case kind:
                self.compose(name, kind)

    # -- what the two sides say ----------------------------------------------------------------

    def put(self, name: str, raw: bytes) -> None:
        self.outbox[name] += raw
        self.composed[name] += len(raw)

    def compose(self, name: str, kind: str) -> None:
        peer, inside = self.peer(name), self.inside
        if self.legal[name] is not None:
            return
        if kind in ("begin", "text", "large", "empty") and inside[name]:
            kind = "end" if kind == "begin" else "go on"
        if kind in ("go on", "end") and not inside[name]:
            kind = "begin"
        if kind in ("answer", "late answer"):
            if not peer.pings:
                return
            self.put(name, peer.frame(PONG, peer.pings[-1 if kind == "answer" else 0].payload))
            return
        frame = {
            "text": lambda: peer.frame(TEXT, b"hello"),
            "empty": lambda: peer.frame(BINARY),
            "large": lambda: peer.frame(BINARY, bytes(range(250)) * 2),
            "begin": lambda: peer.frame(TEXT, b"be" * 70, fin=False),
            "go on": lambda: peer.frame(CONTINUATION, b"go" * 10, fin=False),
            "end": lambda: peer.frame(CONTINUATION, b"end"),
            "ping": lambda: peer.frame(PING, b"are you there?"),
            "pong": lambda: peer.frame(PONG, b"of its own"),
        }[kind]()
        if kind in ("begin", "end"):
            inside[name] = kind == "begin"
        self.put(name, frame)

    def compose_close(self, name: str, payload: bytes, more: bool) -> None:
        if self.legal[name] is None:
            self.legal[name] = self.composed[name]
            self.put(name, self.peer(name).frame(CLOSE, payload))
            if more:
                self.put(name, self.peer(name).frame(TEXT, b"too late"))

    def compose_violation(self, name: str, wrong: str) -> None:
        if self.legal[name] is not None:
            return
        self.legal[name] = self.composed[name]
        peer = self.peer(name)
        raw = {
            "opcode": lambda: peer.frame(3, b"?"),
            "reserved": lambda: peer.frame(TEXT, b"?", rsv=2),
            "mask": lambda: encode(TEXT, b"?", mask=b"" if peer.masks else b"1234"),
            "order": lambda: peer.frame(TEXT if self.inside[name] else CONTINUATION, b"?"),
            "code": lambda: peer.frame(CLOSE, b"\x03\xed"),
            "long ping": lambda: peer.frame(PING, bytes(126)),
        }[wrong]()
        self.put(name, raw + bytes(5))

    def deliver(self, name: str, size: int) -> None:
        peer, outbox = self.peer(name), self.outbox[name]
        if outbox and peer.transport.readable:
            piece = bytes(outbox[:size])
            del outbox[:size]
            peer.says(piece)
        self.check()

    def begin_a_frame(self, name: str, large: bool) -> None:
        """And leave it at that."""
        if self.legal[name] is None:
            self.deliver(name, 100_000)
            before = len(self.outbox[name])
            self.compose(name, "large" if large else "text")
            self.deliver(name, before + (400 if large else 9))

    def says_much(self, name: str) -> None:
        """More than is taken at once."""
        for _ in range(3):
            self.compose(name, "large")
        self.deliver(name, 100_000)

    def answer(self, name: str) -> None:
        """It answers pings and a Close, if it is in a position to."""
        peer = self.peer(name)
        if self.legal[name] is None and peer.pings:
            self.compose(name, "answer")
        if self.legal[name] is None and peer.close is not None:
            self.compose_close(name, b"\x03\xe8", False)
        self.deliver(name, 100_000)

    # -- connections --------------------------------------------------------------------------

    def both_answer(self) -> None:
        self.answer("client")
        self.answer("upstream")

    def block(self, name: str) -> None:
        self.peer(name).blocks()

    def take(self, name: str, most: int | None) -> None:
        self.peer(name).takes(most)
        self.check()

    def vanish(self, name: str, clean: bool) -> None:
        peer = self.peer(name)
        if peer.transport.connected:
            self.vanished.add(name)
            peer.leaves(clean=clean)
        self.check()

    # -- time and operators -------------------------------------------------------------------

    def time_passes(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.stage.passes(0.1)
            self.check()

    def interfere(self, what: str) -> None:
        stage = self.stage
        if what == "close":
            self.socket.close(1000, "closed_by_operator")
        elif what in ("drain", "undrain"):
            stage.instances[0].draining = what == "drain"
        elif what == "stop":
            stage.sockets.drain(5.0)
        elif what == "abort" and not self.over():
            stage.sockets.abort()
            self.aborted = True
        stage.turn()
        self.check()

    # -- what holds ---------------------------------------------------------------------------

    def check(self) -> None:
        assert self.stage.problems == []
        self.check_end()
        self.check_stream(self.client, self.upstream)
        self.check_stream(self.upstream, self.client)
        if not self.over():
            self.check_reading(self.client, self.upstream)
            self.check_reading(self.upstream, self.client)
            for peer in (self.client, self.upstream):
                assert peer.side.lost is not peer.transport.connected

    def check_end(self) -> None:
        socket, stage, now = self.socket, self.stage, self.stage.now
        if socket.close_code and not self.closing_since:
            self.closing_since = now
        place = Place(socket.route, (socket.route, "192.0.2.1"), (socket.route, "alice"))
        if self.over():
            assert self.attempt.ended == 1
            assert stage.sockets.taken(place) == (0, 0, 0)
            assert (len(stage.wheel), len(stage.sockets.live)) == (0, 0)
            assert sum(stage.sockets.closed.values()) == len(stage.log.sockets) == self.opened
            assert not self.client.transport.connected
            assert not self.upstream.transport.connected
        else:
            assert stage.sockets.taken(place) == (1, 1, 1)
            assert (len(stage.wheel), len(stage.sockets.live)) == (1, 1)
            if self.closing_since:
                assert now <= self.closing_since + LONGEST_END, "it ends in bounded time"
        for (_, direction), (messages, size) in stage.sockets.totals().items():
            said = [each.said for each in stage.peers if each.masks is (direction == "in")]
            assert messages <= size <= sum(map(len, said))

    def check_stream(self, sender: Peer, receiver: Peer) -> None:
        socket, over = self.socket, self.over()
        state = (receiver, len(receiver.written), len(sender.said), socket.close_code, over)
        if state == self.checked.get(sender.masks):
            return
        self.checked[sender.masks] = state
        frames, rest = frames_in(receiver.written)
        legal_stream(frames, rest, masked=not receiver.masks)
        closes = [at for at, each in enumerate(frames) if each.opcode == CLOSE]
        if closes:
            assert closes == [len(frames) - 1], "one Close"
            assert not rest, "nothing behind it"
        got = b"".join(each.raw for each in frames if not (each.opcode == CLOSE or ours(each)))
        got += rest
        name = "client" if sender is self.client else "upstream"
        limit = self.legal[name]
        said, tail = frames_in(sender.said[:limit])
        whole = b"".join(each.raw for each in said if not (each.opcode == PONG and is_ours(each)))
        assert (whole + tail).startswith(got), "what it gets is what was said"
        complete = whole + (tail if may_pass(tail) else b"")
        receiver_name = "upstream" if sender is self.client else "client"
        if not socket.close_code:
            assert got == complete, "everything so far has been passed on"
        elif socket.closed_by == name and socket.close_code != 1006:
            assert got == complete, "a Close passes behind all that came before it"
            assert closes
        if over and not closes:
            assert rest or self.aborted or receiver_name in self.vanished, "it was told"

    def check_reading(self, sender: Peer, receiver: Peer) -> None:
        if not sender.transport.connected or sender.transport.disconnecting:
            return
        blocked = receiver.transport.producer is not None and receiver.transport.producer_paused
        too_fast = sender is self.client and self.socket._resume_at != float("inf")
        if too_fast and self.socket.open:
            assert self.socket._resume_at > self.stage.now - 0.2
        assert sender.transport.paused is (blocked or (too_fast and self.socket.open))

    def teardown(self) -> None:
        try:
            if hasattr(self, "vanished"):
                self.socket.close(1000, "closed_by_operator")
                self.stage.turn()
                self.check()
                for _ in range(round(LONGEST_END * 10) + 10):
                    self.stage.passes(0.1)
                    self.check()
                assert self.over()
        finally:
            self.patches.close()


def ours(frame: Frame) -> bool:
    """A ping of the gateway."""
    return frame.opcode == PING and is_ours(frame)


def is_ours(frame: Frame) -> bool:
    return frame.payload[:4] == OURS


def may_pass(tail: bytes) -> bool:
    """Whether an incomplete frame may be passed on: it has a whole header, and it is data."""
    if len(tail) < 2 or tail[0] & 0x08:
        return False
    extra = {126: 2, 127: 8}.get(tail[1] & 0x7F, 0)
    return len(tail) >= 2 + extra + (4 if tail[1] & 0x80 else 0)


def legal_stream(frames: list[Frame], rest: bytes, *, masked: bool) -> None:
    inside = False
    for frame in frames:
        assert frame.masked is masked
        assert frame.rsv == 0
        if frame.opcode in (CLOSE, PING, PONG):
            assert frame.fin
            assert len(frame.payload) <= 125
        else:
            assert frame.opcode == CONTINUATION if inside else frame.opcode in (TEXT, BINARY)
            inside = not frame.fin
    if rest:
        assert may_pass(rest), "no part of a header, and no part of a control frame"
        assert bool(rest[1] & 0x80) is masked
        assert (rest[0] & 0x0F == CONTINUATION) is inside


def test_any_order_of_events() -> None:
    """See the module."""
    run_state_machine_as_test(
        Bridged, settings=settings(PROPERTY, max_examples=100, stateful_step_count=40)
    )
