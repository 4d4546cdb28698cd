"""What passes a bridged WebSocket, what slows it down, and how it comes to its end."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from rtgateway.testing.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, encode
from rtgateway.ws.relay import Side
from rtgateway.ws.socket import Socket
from tests.ws.stage import Peer, Stage

__all__: list[str] = []

QUIET: dict[str, Any] = {"ping_interval": 0}
sides = pytest.mark.parametrize("side", ["client", "upstream"])


def of(side: str, client: Peer, upstream: Peer) -> tuple[Peer, Peer]:
    """The peer that is meant, and the other one."""
    return (client, upstream) if side == "client" else (upstream, client)


# -- the end ------------------------------------------------------------------------------------


@sides
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0f\xa0bye"])
def test_a_close_is_answered(side: str, payload: bytes) -> None:
    """The Close passes, its answer passes; the client's connection ends, then the instance's."""
    with Stage(**QUIET).on() as stage:
        socket, client, upstream = stage.open()
        first, second = of(side, client, upstream)
        first.says(first.frame(CLOSE, payload))
        code = int.from_bytes(payload[:2], "big") or 1000
        reason = payload[2:].decode() or ("" if payload else f"{side}_closed")
        assert second.close == (code, reason)
        assert first.close is None
        assert client.transport.connected
        second.closes(code, "me too")
        assert first.close == (code, "me too")
        assert not client.transport.connected
        assert socket.state == "closing"
        upstream.leaves()
        assert stage.log.sockets == [(code if payload else 1005, payload[2:].decode(), side)]
        assert (len(stage.wheel), len(stage.sockets.live)) == (0, 0)


def test_both_close_at_once() -> None:
    """Each one's Close is the answer to the other's."""
    with Stage(**QUIET).on() as stage:
        _, client, upstream = stage.open()
        client.closes(4000, "c")
        upstream.closes(4001, "u")
        assert client.close == (4001, "u")
        assert upstream.close == (4000, "c")
        upstream.leaves()
        assert stage.log.sockets == [(4000, "c", "client")]


@sides
def test_a_close_that_is_never_answered(side: str) -> None:
    """After ``close_timeout`` the gateway answers it, and ends both connections."""
    with Stage(close_timeout=3.0, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        first, second = of(side, client, upstream)
        first.closes(4000, "bye")
        stage.passes(2.8)
        assert first.close is None
        assert client.transport.connected
        stage.passes(0.5)
        assert first.close == second.close == (4000, "bye")
        assert socket.closed
        assert stage.log.sockets == [(4000, "bye", side)]


@pytest.mark.parametrize(("code", "upstream_code"), [(1012, 1001), (1000, 1000), (4001, 4001)])
def test_the_gateway_closes(code: int, upstream_code: int) -> None:
    """Both are told once, and what they answer goes no further."""
    with Stage(**QUIET).on() as stage:
        socket, client, upstream = stage.open()
        socket.close(code, "why")
        socket.close(1000, "again")
        assert client.close == (code, "why")
        assert upstream.close == (upstream_code, "why")
        upstream.text("too late")
        upstream.closes(upstream_code)
        client.says(client.frame(TEXT, b"too late") + client.frame(CLOSE, b""))
        assert [each.opcode for each in client.frames] == [CLOSE]
        assert [each.opcode for each in upstream.frames] == [CLOSE]
        assert not client.transport.connected
        upstream.leaves()
        assert stage.log.sockets == [(code, "why", "gateway")]


@sides
@pytest.mark.parametrize("clean", [True, False])
def test_a_loss(side: str, clean: bool) -> None:
    """The other one is told, and has time to answer."""
    with Stage(close_timeout=3.0, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        gone, left = of(side, client, upstream)
        gone.leaves(clean=clean)
        expected = (1001, "client_gone") if side == "client" else (1011, "upstream_error")
        assert left.close == expected
        assert left.transport.connected
        stage.passes(3.3)
        assert socket.closed
        assert stage.log.sockets == [(1006, "", side)]


@sides
def test_a_loss_before_the_answer(side: str) -> None:
    """Whoever sent a Close gets it back from the gateway."""
    with Stage(**QUIET).on() as stage:
        _, client, upstream = stage.open()
        first, second = of(side, client, upstream)
        first.closes(4000, "bye")
        second.leaves()
        assert first.close == (4000, "bye")
        if side == "upstream":
            first.leaves()
        assert stage.log.sockets == [(4000, "bye", side)]


@sides
@pytest.mark.parametrize("closing", [True, False])
def test_a_loss_within_a_frame(side: str, closing: bool) -> None:
    """There is no place for a Close any more, and nothing to wait for."""
    with Stage(close_timeout=60.0, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        gone, left = of(side, client, upstream)
        gone.says(gone.frame(BINARY, bytes(100))[:50])
        if closing:
            socket.close(1000, "closed_by_operator")
        gone.leaves()
        assert left.close is None
        assert socket.closed
        assert not left.transport.connected


@sides
def test_a_close_waits_for_a_frame(side: str) -> None:
    """And for those that came whole in the same read; nothing is behind it."""
    with Stage(**QUIET).on() as stage:
        socket, client, upstream = stage.open()
        sender, receiver = of(side, client, upstream)
        frame = sender.frame(BINARY, bytes(100))
        sender.says(frame[:50])
        socket.close(1000, "closed_by_operator")
        assert sender.close == (1000, "closed_by_operator")
        assert bytes(receiver.written) == frame[:50]
        sender.says(frame[50:] + sender.frame(TEXT, b"more") + sender.frame(TEXT, b"late")[:5])
        assert [each.opcode for each in receiver.frames] == [BINARY, TEXT, CLOSE]
        sender.text("later")
        assert receiver.close == (1000, "closed_by_operator")


@sides
@pytest.mark.parametrize("answer", [True, False])
def test_closes_that_cross_behind_a_frame(side: str, answer: bool) -> None:
    """Whoever has a frame to end has one Close behind it, and its own is none of them."""
    with Stage(**QUIET).on() as stage:
        socket, client, upstream = stage.open()
        sender, receiver = of(side, client, upstream)
        frame = sender.frame(BINARY, bytes(100))
        sender.says(frame[:50])
        socket.close(1012, "instance_draining")
        if answer:
            # It says so itself before it has been told.
            receiver.closes(1000)
            assert receiver.transport.connected
        sender.says(frame[50:] + sender.frame(CLOSE, b"\x03\xe8"))
        assert [each.opcode for each in receiver.frames] == [BINARY, CLOSE]
        assert receiver.close == (1001 if side == "client" else 1012, "instance_draining")
        assert sender.close == (1012 if side == "client" else 1001, "instance_draining")
        for peer in (client, upstream):
            if peer.transport.connected:
                peer.leaves()
        assert socket.closed


def test_a_frame_without_an_end() -> None:
    """It is cut off; what still comes of it goes nowhere."""
    with Stage(close_timeout=3.0, tls="upstream", **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        upstream.says(upstream.frame(BINARY, bytes(1000))[:500])
        client.blocks()
        upstream.says(bytes(10))
        upstream.blocks()
        socket.close(1000, "closed_by_operator")
        stage.passes(3.3)
        assert client.transport.disconnecting
        assert not socket.closed
        before = bytes(client.written)
        upstream.transport.reads(bytes(10))
        assert bytes(client.written) == before
        stage.passes(2.3)
        assert socket.closed


@sides
@pytest.mark.parametrize("before", [0, 3])
def test_a_violation(side: str, before: int) -> None:
    """What came before it passes. Both are told."""
    with Stage(close_timeout=3.0, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        bad, good = of(side, client, upstream)
        bad.says(bad.frame(TEXT, b"ok") * before + bad.frame(3, b"?") + bad.frame(TEXT, b"no"))
        assert good.texts == ["ok"] * before
        assert client.close == upstream.close == (1002, "protocol_error")
        bad.text("still here")
        assert good.texts == ["ok"] * before
        stage.passes(3.3)
        assert socket.closed
        assert stage.log.sockets == [(1002, "protocol_error", "gateway")]


def test_a_violation_of_who_is_to_answer_a_close() -> None:
    """It counts as no answer; the end comes all the same."""
    with Stage(close_timeout=3.0, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        client.closes(4000)
        upstream.says(b"\xff\xff\xff")
        stage.passes(3.3)
        assert socket.closed
        assert client.close == (4000, "")


def test_who_does_not_go() -> None:
    """The client has said goodbye, but takes nothing: it is reset."""
    with Stage(close_timeout=3.0, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        client.blocks()
        upstream.text()
        socket.close(1000, "closed_by_operator")
        client.closes()
        upstream.closes()
        assert client.transport.disconnecting
        stage.passes(3.2)
        assert not client.transport.taken
        assert not socket.closed
        stage.passes(2.3)
        assert socket.closed


@sides
def test_a_close_without_a_code_that_nobody_answers(side: str) -> None:
    """There is none to repeat."""
    for lost in (True, False):
        with Stage(close_timeout=0.3, **QUIET).on() as stage:
            socket, client, upstream = stage.open()
            first, second = of(side, client, upstream)
            first.says(first.frame(CLOSE))
            if lost:
                second.leaves()
            stage.passes(0.6)
            assert first.close == (1000, "")
            assert socket.closed


def test_a_short_close_timeout() -> None:
    """It is kept to the tick."""
    with Stage(close_timeout=0.3, ping_interval=30.0, random=0.1).on() as stage:
        stage.passes(0.4)
        socket, client, _ = stage.open()
        stage.passes(1.3)
        socket.close(1000, "closed_by_operator")
        stage.passes(0.5)
        assert not client.transport.connected
        assert socket.closed


def test_cut_off() -> None:
    """Without a word."""
    with Stage(**QUIET).on() as stage:
        socket, client, upstream = stage.open()
        stage.sockets.abort()
        stage.turn()
        assert socket.closed
        assert client.written == upstream.written == b""
        assert stage.log.sockets == [(1006, "cut_off", "gateway")]


def test_nothing_is_left() -> None:
    """No cycle keeps a socket that is over, however it ended."""
    gc.collect()
    gc.disable()
    try:
        with Stage(messages_per_second=1000).on() as stage:
            for number in range(4):
                socket, client, upstream = stage.open()
                client.text()
                if number % 2:
                    upstream.closes()
                    client.closes()
                if number > 1:
                    client.leaves()
                upstream.leaves()
                client.leaves()
                assert socket.closed
                assert "lost" in repr(socket)
            del socket, client, upstream
            stage.peers.clear()
            left = [each for each in gc.get_objects() if isinstance(each, Side | Socket)]
            assert left == []
    finally:
        gc.enable()


# -- who is slow --------------------------------------------------------------------------------


@sides
def test_backpressure(side: str) -> None:
    """Who is faster waits; the other way is free; nothing is lost."""
    with Stage(**QUIET).on() as stage:
        socket, client, upstream = stage.open()
        slow, fast = of(side, client, upstream)
        slow.blocks()
        fast.says(fast.frame(BINARY, bytes(60_000)))
        assert not fast.transport.paused
        fast.says(fast.frame(BINARY, bytes(60_000)))
        assert fast.transport.paused
        slow.text("I am busy")
        assert fast.texts == ["I am busy"]
        amount = socket.buffered_out if side == "client" else socket.buffered_in
        assert amount == len(slow.transport.buffer) > 120_000
        slow.takes(100_000)
        assert fast.transport.paused
        slow.takes()
        assert not fast.transport.paused
        fast.text("at last")
        assert [each.opcode for each in slow.frames] == [BINARY, BINARY, TEXT]
        assert socket.client.easy
        assert socket.upstream.easy


@pytest.mark.parametrize("tls", ["", "client upstream"])
@sides
def test_a_small_buffer(side: str, tls: str) -> None:
    """Who sends is slowed down at the half, so that only a burst goes beyond."""
    with Stage(max_buffered=16_384, tls=tls, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        slow, fast = of(side, client, upstream)
        for _ in range(3):
            slow.blocks()
            fast.says(fast.frame(BINARY, bytes(10_000)))
            assert fast.transport.paused
            stage.passes(5.0)
            slow.takes()
            assert not fast.transport.paused
        assert socket.open
        slow.blocks()
        fast.says(fast.frame(BINARY, bytes(17_000)))
        stage.passes(0.2)
        assert fast.close == (1013, "backpressure")
        slow.takes()
        assert [each.opcode for each in slow.frames] == [BINARY] * 4 + [CLOSE]


def test_a_burst_that_is_taken_in_time() -> None:
    """More than ``max_buffered`` for a moment is no reason."""
    with Stage(max_buffered=16_384, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        client.blocks()
        upstream.says(upstream.frame(BINARY, bytes(50_000)))
        client.takes()
        stage.passes(5.0)
        assert socket.open


@sides
def test_reads_go_on_under_tls(side: str) -> None:
    """What had been decrypted comes, however little is wanted; too much of it ends it in order."""
    with Stage(max_buffered=16_384, tls="client upstream", **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        slow, fast = of(side, client, upstream)
        slow.blocks()
        fast.says(fast.frame(TEXT, b"x" * 1000) * 40)
        assert fast.transport.paused
        stage.passes(0.2)
        assert not socket.open
        slow.takes()
        assert {each.opcode for each in slow.frames[:-1]} == {TEXT}
        assert slow.close == (1013, "backpressure")


def test_many_small_reads_while_it_is_blocked() -> None:
    """They cost no look at the kernel each, and are no sign that something is taken."""
    with Stage(tls="upstream", write_stall=10.0, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        client.blocks()
        upstream.says(upstream.frame(BINARY, bytes(66_000)))
        stall_at, looks = socket.client.stall_at, client.transport.looks
        stage.passes(5.0)
        assert upstream.transport.paused
        upstream.transport.reads(upstream.frame(BINARY, bytes(3000)))
        assert (socket.client.stall_at, client.transport.looks) == (stall_at, looks)
        stage.passes(5.2)
        assert upstream.close == (1013, "backpressure")


def test_the_end_of_one_who_was_waited_for() -> None:
    """When the slow side is gone, the other one is read from again."""
    with Stage(**QUIET).on() as stage:
        _, client, upstream = stage.open()
        client.blocks()
        upstream.says(upstream.frame(BINARY, bytes(100_000)))
        assert upstream.transport.paused
        client.leaves()
        assert not upstream.transport.paused
        assert upstream.close == (1001, "client_gone")
        upstream.closes(1001)
        upstream.leaves()


# -- who is too fast ------------------------------------------------------------------------------


def test_too_many_messages() -> None:
    """What was read with the last one is passed on; then both are told."""
    with Stage(messages_per_second=2, message_burst=5, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        for number in range(5):
            client.text(str(number))
        stage.passes(1.0)
        client.text("5")
        client.text("6")
        assert socket.open
        client.text("one too many")
        assert client.close == upstream.close == (1008, "rate_limit")
        assert upstream.texts == [*map(str, range(7)), "one too many"]
        client.text("dropped")
        assert len(upstream.texts) == 8


@pytest.mark.parametrize("cut", [1, 5, 30, 99])
def test_too_much_within_a_frame(cut: int) -> None:
    """The Close stands behind the frame, not in it."""
    with Stage(bytes_per_second=50, byte_burst=120, **QUIET).on() as stage:
        _, client, upstream = stage.open()
        first, second = client.frame(BINARY, bytes(90)), client.frame(BINARY, bytes(90))
        client.says(first + second[:cut])
        client.says(second[cut:] + client.frame(TEXT, b"more")[:3])
        assert client.close == (1008, "rate_limit")
        assert [each.opcode for each in upstream.frames] == [BINARY, BINARY, CLOSE]
        assert bytes(upstream.written).startswith(first + second)


def test_too_much_in_the_middle_of_a_frame() -> None:
    """The frame ends first."""
    with Stage(bytes_per_second=50, byte_burst=120, **QUIET).on() as stage:
        _, client, upstream = stage.open()
        frame = client.frame(BINARY, bytes(1000))
        client.says(frame[:100])
        client.says(frame[100:200])
        assert client.close == (1008, "rate_limit")
        assert bytes(upstream.written) == frame[:200]
        client.says(frame[200:])
        client.text("no")
        assert bytes(upstream.written).startswith(frame)
        assert [each.opcode for each in upstream.frames] == [BINARY, CLOSE]


@pytest.mark.parametrize("tls", ["", "client"])
def test_too_much_is_read_later(tls: str) -> None:
    """It is not read from until the debt is paid; what is sent to it passes."""
    limits: dict[str, Any] = {"messages_per_second": 2, "message_burst": 5, "over_rate": "pause"}
    with Stage(tls=tls, **limits, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        client.says(b"".join(client.frame(TEXT, b"%d" % number) for number in range(15)))
        assert upstream.texts == [str(number) for number in range(15)]
        assert client.transport.paused
        upstream.text()
        assert client.texts == ["hello"]
        stage.passes(4.8)
        assert client.transport.paused
        stage.passes(0.4)
        assert not client.transport.paused
        client.text("15")
        assert client.transport.paused
        assert socket.open


@pytest.mark.parametrize("over_rate", ["pause", "close"])
def test_who_has_a_rate_is_read_in_small_pieces(over_rate: str) -> None:
    """What a read brings is passed on, so that no read may bring much."""
    with Stage(messages_per_second=5, over_rate=over_rate, **QUIET).on() as stage:
        _, client, upstream = stage.open()
        assert (client.transport.most, upstream.transport.most) == (1024, 0)
    with Stage(**QUIET).on() as stage:
        _, client, upstream = stage.open()
        assert (client.transport.most, upstream.transport.most) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"messages_per_second": 5}, 1024),
        ({"messages_per_second": 1000}, 6000),
        ({"messages_per_second": 5, "message_burst": 500}, 3000),
        ({"messages_per_second": 1_000_000}, 65536),
        ({"bytes_per_second": 100}, 1024),
        ({"bytes_per_second": 2000, "byte_burst": 4000}, 4000),
        ({"bytes_per_second": 10_000_000, "messages_per_second": 1000}, 6000),
    ],
)
def test_a_read_brings_no_more_than_a_burst(limits: dict[str, Any], size: int) -> None:
    """Or 1 KiB: smaller reads would cost more than they keep out."""
    with Stage(**limits, **QUIET).on() as stage:
        _, client, _ = stage.open()
        assert client.transport.most == size


def test_who_breaks_the_protocol_has_little_time() -> None:
    """Its answer to the Close would not be understood: there is no reason to wait for long."""
    with Stage(close_timeout=60, **QUIET).on() as stage:
        socket, client, _ = stage.open()
        client.says(b"\xff" * 20)
        assert socket.close_detail.startswith("client: ")
        stage.passes(5)
        assert stage.sockets.live == {}


def test_bytes_are_counted_with_their_headers() -> None:
    """By what comes in, pings as well."""
    limits: dict[str, Any] = {"bytes_per_second": 100, "byte_burst": 100, "over_rate": "pause"}
    with Stage(**limits, **QUIET).on() as stage:
        _, client, _ = stage.open()
        ping = client.frame(PING, bytes(44))
        client.says(ping)
        client.says(ping)
        assert not client.transport.paused
        client.says(ping)
        assert client.transport.paused


def test_fragments_are_one_message() -> None:
    """However many there are."""
    with Stage(messages_per_second=0.01, message_burst=1, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        client.says(client.frame(TEXT, b"a", fin=False))
        for _ in range(20):
            client.says(client.frame(CONTINUATION, b"b", fin=False))
        assert socket.open
        assert len(upstream.frames) == 21


def test_closing_ends_a_pause() -> None:
    """The answer to a Close is read, however fast the client was."""
    limits: dict[str, Any] = {"messages_per_second": 0.01, "message_burst": 1, "over_rate": "pause"}
    with Stage(**limits, **QUIET).on() as stage:
        socket, client, upstream = stage.open()
        client.says(client.frame(TEXT, b"?") * 10)
        assert client.transport.paused
        socket.close(1000, "closed_by_operator")
        assert not client.transport.paused
        client.closes()
        assert not client.transport.connected
        upstream.leaves()


def test_both_reasons_not_to_read() -> None:
    """It is read from when neither holds any more."""
    limits: dict[str, Any] = {
        "bytes_per_second": 10_000,
        "byte_burst": 10_000,
        "over_rate": "pause",
    }
    with Stage(**limits, **QUIET).on() as stage:
        _, client, upstream = stage.open()
        upstream.blocks()
        client.says(client.frame(BINARY, bytes(100_000)))
        assert client.transport.paused
        stage.passes(5.0)
        upstream.takes()
        assert client.transport.paused
        stage.passes(5.0)
        assert not client.transport.paused


def test_a_socket_of_a_gateway_that_stops() -> None:
    """One that is opened in the last moment leaves at once, with what came early."""
    with Stage(**QUIET).on() as stage:
        stage.sockets.drain(10.0)
        _, client, upstream = stage.open(from_instance=encode(TEXT, b"hello"))
        stage.passes(0.2)
        assert client.texts == ["hello"]
        assert client.close == upstream.close == (1001, "going_away")
