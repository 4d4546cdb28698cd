"""What happens to a bridged WebSocket as time passes: pings, silence, lifetimes, stalls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rtgateway.testing.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode
from rtgateway.ws.socket import Socket
from tests.ws.stage import TICK, Peer, Stage

__all__: list[str] = []

PATIENCE = 30.0


def passes_until(stage: Stage, condition: Callable[[], object], patience: float = 200.0) -> float:
    """Seconds until ``condition``, to a tick."""
    began = stage.now
    while not condition():
        assert stage.now < began + patience
        stage.passes(TICK)
    return stage.now - began


def ended(socket: Socket) -> tuple[int, str]:
    return socket.close_code, socket.close_reason


# -- pings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pong_timeout", [1.0, 9.0, 11.0, 35.0])
def test_no_pong(pong_timeout: float) -> None:
    """The deadline counts from the ping, whether the next one would be sooner or not."""
    with Stage(ping_interval=10.0, pong_timeout=pong_timeout).on() as stage:
        socket, client, upstream = stage.open()
        passes_until(stage, lambda: client.pings)
        took = passes_until(stage, lambda: not socket.open)
        assert pong_timeout - TICK <= took <= pong_timeout + 2 * TICK
        assert client.close == upstream.close == (1001, "ping_timeout")
        assert len(client.pings) == 1
        assert upstream.pings == []


@pytest.mark.parametrize("pong_timeout", [1.0, 9.0, 11.0, 35.0])
@pytest.mark.parametrize("late", [0.2, 0.9, 8.5, 10.7])
def test_pongs_in_time(pong_timeout: float, late: float) -> None:
    """Each ping has all of its time: the answer to the one before takes nothing from it."""
    if late > pong_timeout:
        return
    with Stage(ping_interval=10.0, pong_timeout=pong_timeout).on() as stage:
        socket, client, _ = stage.open()
        for number in range(8):
            passes_until(stage, lambda number=number: len(client.pings) > number)  # type: ignore[misc]
            stage.passes(late)
            client.pongs()
            assert socket.rtt == pytest.approx(late, abs=0.01)
        assert socket.open
        assert sum(stage.sockets.rtts["/ws/:service", "client"][:-1]) == 8


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_both_are_pinged(side: str) -> None:
    """With ``ping_upstream``; whoever does not answer ends it."""
    with Stage(ping_interval=10.0, pong_timeout=5.0, ping_upstream=True).on() as stage:
        socket, client, upstream = stage.open()
        passes_until(stage, lambda: client.pings)
        silent, answers = (client, upstream) if side == "client" else (upstream, client)
        answers.pongs()
        assert socket.rtt is None if side == "client" else socket.rtt is not None
        passes_until(stage, lambda: not socket.open)
        assert silent.close == (1001, "ping_timeout")


def test_only_the_last_ping_has_an_answer_but_none_is_passed_on() -> None:
    """Pongs that are too late, repeated or made up are swallowed; those of others pass."""
    with Stage(ping_interval=1.0, pong_timeout=100.0).on() as stage:
        socket, client, upstream = stage.open()
        passes_until(stage, lambda: client.pings)
        first = client.pings[0]
        stage.passes(0.4)
        client.pongs(first)
        assert socket.rtt == pytest.approx(0.4, abs=0.01)
        stage.passes(0.2)
        client.pongs(first)
        passes_until(stage, lambda: len(client.pings) == 2)
        client.pongs(first)
        assert socket.rtt == pytest.approx(0.4, abs=0.01)
        assert upstream.frames == []
        client.says(client.frame(PONG, b"rtgw"))
        client.says(client.frame(PONG, b"x" * len(first.payload)))
        assert [each.opcode for each in upstream.frames] == [PONG, PONG]


def test_a_gateway_behind_a_gateway() -> None:
    """The pings of one pass through the other, and so do the answers to them."""
    with Stage(ping_interval=5.0, pong_timeout=2.0, ping_upstream=True).on() as stage:
        _, _, inner_side = stage.open()
        _, outer_side, upstream = stage.open()
        passes_until(stage, lambda: inner_side.pings and outer_side.pings)
        ping = inner_side.pings[0]
        # `inner_side` is the instance of the one and the client of the other.
        outer_side.says(outer_side.frame(PING, ping.payload))
        assert upstream.frames[-1].payload == ping.payload
        upstream.says(upstream.frame(PONG, ping.payload))
        assert outer_side.frames[-1].opcode == PONG
        assert outer_side.frames[-1].payload == ping.payload


def test_anything_is_a_sign_of_life() -> None:
    """Who sends something, but no pong, is there."""
    with Stage(ping_interval=10.0, pong_timeout=5.0).on() as stage:
        socket, client, _ = stage.open()
        for _ in range(20):
            stage.passes(4.0)
            client.text()
        assert socket.open
        assert len(client.pings) >= 5


def test_a_ping_waits_behind_a_frame() -> None:
    """Until then it is not judged; its time begins when it has been sent."""
    with Stage(ping_interval=10.0, pong_timeout=5.0).on() as stage:
        socket, client, upstream = stage.open()
        frame = upstream.frame(BINARY, bytes(1000))
        upstream.says(frame[:500])
        stage.passes(62.0)
        assert socket.open
        assert bytes(client.written) == frame[:500]
        # The moment before it would be looked at.
        passes_until(stage, lambda: socket._pong_at - stage.now < 2 * TICK)
        upstream.says(frame[500:])
        assert len(client.pings) == 1
        stage.passes(4.0)
        assert socket.open
        client.pongs()
        assert socket.rtt == pytest.approx(4.0, abs=0.01)


def test_a_ping_waits_and_nobody_answers() -> None:
    """After the frame it has as long as any other."""
    with Stage(ping_interval=10.0, pong_timeout=5.0).on() as stage:
        socket, client, upstream = stage.open()
        frame = upstream.frame(BINARY, bytes(1000))
        upstream.says(frame[:500])
        stage.passes(42.0)
        upstream.says(frame[500:])
        took = passes_until(stage, lambda: not socket.open)
        assert 5.0 - TICK <= took <= 5.0 + 4 * TICK
        assert client.close == (1001, "ping_timeout")


def test_a_ping_waits_and_a_close_comes() -> None:
    """Nothing follows a Close, not even a ping that has waited for the frame before it."""
    with Stage(ping_interval=10.0, pong_timeout=5.0).on() as stage:
        socket, client, upstream = stage.open()
        frame = upstream.frame(BINARY, bytes(100))
        upstream.says(frame[:50])
        stage.passes(12.0)
        assert socket.client.waiting
        upstream.says(frame[50:] + upstream.frame(CLOSE, b"\x03\xe8"))
        assert [each.opcode for each in client.frames] == [BINARY, CLOSE]


def test_a_blocked_client_is_not_judged_by_its_pongs() -> None:
    """What it has not got it can't answer. When it has, it has ``pong_timeout``."""
    with Stage(ping_interval=10.0, pong_timeout=5.0, write_stall=1000.0).on() as stage:
        socket, client, upstream = stage.open()
        client.blocks()
        upstream.says(upstream.frame(BINARY, bytes(100_000)))
        assert socket.client.blocked
        stage.passes(60.0)
        assert socket.open
        passes_until(stage, lambda: socket._pong_at - stage.now < 2 * TICK)
        client.takes()
        stage.passes(4.5)
        assert socket.open
        took = passes_until(stage, lambda: not socket.open)
        assert took < 1.0
        assert client.close == (1001, "ping_timeout")


def test_a_backlog_below_the_mark() -> None:
    """Bytes that wait in the kernel: as long as they become fewer, the ping is behind them."""
    with Stage(ping_interval=10.0, pong_timeout=5.0).on() as stage:
        socket, client, _ = stage.open()
        client.transport.kernel = 50_000
        passes_until(stage, lambda: client.pings)
        for left in (40_000, 30_000, 20_000):
            client.transport.kernel = left
            stage.passes(5.0)
            assert socket.open
        took = passes_until(stage, lambda: not socket.open)
        assert took <= 5.0 + 2 * TICK


def test_who_is_not_read_from_can_not_answer() -> None:
    """A client that is too fast is read later, and its pong with the rest."""
    limits: dict[str, Any] = {"bytes_per_second": 10, "byte_burst": 100, "over_rate": "pause"}
    with Stage(ping_interval=10.0, pong_timeout=5.0, **limits).on() as stage:
        socket, client, _ = stage.open()
        client.says(client.frame(BINARY, bytes(1000)))
        stage.passes(60.0)
        assert socket.open
        assert client.transport.paused
        passes_until(stage, lambda: not client.transport.paused)
        stage.passes(4.5)
        assert socket.open
        client.pongs()
        stage.passes(1.0)
        assert socket.open


def test_rtt_of_a_socket_without_pings() -> None:
    """None are sent when it is off."""
    with Stage(ping_interval=0, pong_timeout=5.0).on() as stage:
        socket, client, _ = stage.open()
        stage.passes(100.0)
        assert socket.open
        assert client.written == b""
        assert socket.rtt is None


@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
def test_first_pings_are_spread(random: float) -> None:
    """Between half an interval and a whole one."""
    with Stage(ping_interval=10.0, random=random).on() as stage:
        _, client, _ = stage.open()
        assert passes_until(stage, lambda: client.pings) == pytest.approx(5 + 5 * random, abs=0.2)


# -- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("spoken", [0.0, 0.1, 0.73])
def test_idle(timeout: float, spoken: float) -> None:
    """Never too soon, and at most a tenth too late."""
    with Stage(ping_interval=0, idle_timeout=timeout).on() as stage:
        socket, client, upstream = stage.open()
        if spoken:
            stage.passes(spoken * timeout)
            client.text()
        took = passes_until(stage, lambda: not socket.open)
        assert timeout - TICK <= took <= timeout * 1.1 + 4 * TICK
        assert client.close == upstream.close == (1001, "idle_timeout")


def test_messages_are_no_silence() -> None:
    """One way is enough, once within the time."""
    with Stage(ping_interval=0, idle_timeout=10.0).on() as stage:
        socket, client, upstream = stage.open()
        for number in range(12):
            (client if number % 3 else upstream).text()
            stage.passes(9.5)
        assert socket.open


def test_pings_are_silence() -> None:
    """Those of the gateway, and those of both sides."""
    with Stage(ping_interval=1.0, pong_timeout=0.5, idle_timeout=10.0).on() as stage:
        socket, client, upstream = stage.open()

        def talk() -> bool:
            if len(client.pings) > len(answered):
                answered.append(1)
                client.pongs()
                upstream.says(upstream.frame(PING, b"?"))
                client.says(client.frame(PONG, b"?"))
            return not socket.open

        answered: list[int] = []
        assert passes_until(stage, talk) <= 11.2
        assert ended(socket) == (1001, "idle_timeout")


def test_fragments_are_no_silence() -> None:
    """A message may take longer than that, if its parts come; whenever it is looked at."""
    with Stage(ping_interval=0, idle_timeout=10.0).on() as stage:
        socket, client, _ = stage.open()
        client.says(client.frame(TEXT, b"begin", fin=False))
        for _ in range(10):
            stage.passes(4.0)
            client.says(client.frame(CONTINUATION, b"go on", fin=False))
        assert socket.open
        passes_until(stage, lambda: not socket.open)
        assert ended(socket) == (1001, "idle_timeout")


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_frame_that_trickles(side: str) -> None:
    """While it comes it is no silence. When it stands still, it is."""
    with Stage(ping_interval=0, idle_timeout=10.0).on() as stage:
        socket, client, upstream = stage.open()
        peer = client if side == "client" else upstream
        frame = peer.frame(BINARY, bytes(100))
        peer.says(frame[:10])
        for at in range(10, 20):
            stage.passes(7.0)
            peer.says(frame[at : at + 1])
        assert socket.open
        took = passes_until(stage, lambda: not socket.open)
        assert took <= 11.2
        assert ended(socket) == (1001, "idle_timeout")


# -- lifetimes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
def test_lifetime(random: float) -> None:
    """Shorter by up to its jitter, whatever is said meanwhile."""
    stage = Stage(ping_interval=0, max_lifetime=100.0, lifetime_jitter=0.5, random=random)
    with stage.on():
        socket, client, upstream = stage.open()

        def talk() -> bool:
            if socket.open:
                client.text()
            return not socket.open

        took = passes_until(stage, talk)
        assert took == pytest.approx(100 - 50 * random, abs=0.3)
        assert client.close == upstream.close == (1001, "max_lifetime")


@pytest.mark.parametrize(
    ("switched_on", "lifetime", "reason"),
    [
        (True, 0, "token_expired"),
        (True, 50.0, "token_expired"),
        (True, 20.0, "max_lifetime"),
        (False, 50.0, "max_lifetime"),
        (False, 0, ""),
    ],
)
def test_expiry(switched_on: bool, lifetime: float, reason: str) -> None:
    """Whichever is sooner."""
    settings: dict[str, Any] = {"max_lifetime": lifetime, "lifetime_jitter": 0}
    with Stage(ping_interval=0, close_at_expiry=switched_on, **settings).on() as stage:
        socket, client, _ = stage.open(expires=stage.now + 30.0)
        stage.passes(60.0)
        assert (client.close or (0, ""))[1] == reason
        assert socket.open is not bool(reason)


def test_a_token_that_has_just_expired() -> None:
    """It ends in the next sweep."""
    with Stage(ping_interval=0).on() as stage:
        _, client, _ = stage.open(expires=stage.now)
        stage.passes(2 * TICK)
        assert client.close == (4001, "token_expired")


# -- stalls -------------------------------------------------------------------------------------


def blocked(stage: Stage) -> tuple[Socket, Peer, Peer]:
    socket, client, upstream = stage.open()
    client.blocks()
    upstream.says(upstream.frame(BINARY, bytes(100_000)))
    assert upstream.transport.paused
    return socket, client, upstream


def test_who_takes_nothing() -> None:
    """Closed after ``write_stall``, with pings or without."""
    for interval in (0, 1.0, 7.0, 20.0):
        with Stage(ping_interval=interval, write_stall=PATIENCE).on() as stage:
            socket, _, upstream = blocked(stage)
            took = passes_until(stage, lambda: not socket.open)  # noqa: B023
            assert took == pytest.approx(PATIENCE, abs=0.3)
            assert upstream.close == (1013, "backpressure")


def test_who_takes_a_little() -> None:
    """It is left alone as long as it does."""
    with Stage(ping_interval=0, write_stall=PATIENCE).on() as stage:
        socket, client, _ = blocked(stage)
        for _ in range(5):
            stage.passes(PATIENCE - 1)
            client.takes(10)
        assert socket.open
        took = passes_until(stage, lambda: not socket.open)
        assert PATIENCE - 1 <= took <= 2 * PATIENCE + 1
        assert ended(socket) == (1013, "backpressure")


def test_both_are_blocked_and_one_takes() -> None:
    """Each is judged by what it takes itself, and the other one's stall is its own."""
    with Stage(ping_interval=0, write_stall=PATIENCE).on() as stage:
        socket, client, upstream = blocked(stage)
        stage.passes(20.0)
        upstream.blocks()
        client.says(client.frame(BINARY, bytes(70_000)))
        assert socket.upstream.blocked
        for _ in range(7):
            stage.passes(9.0)
            client.takes(1000)
            upstream.takes(1000)
        assert socket.open
        client.takes(1000)
        began = stage.now
        # Now only the client takes something.
        while socket.open and stage.now < began + 200:
            client.takes(100)
            stage.passes(5.0)
        assert PATIENCE - 20 <= stage.now - began <= 2 * PATIENCE + 10
        assert ended(socket) == (1013, "backpressure")


def test_a_stalled_side_beside_a_busy_one() -> None:
    """The other side blocks again and again; that gives this one no more time."""
    with Stage(ping_interval=0, write_stall=PATIENCE).on() as stage:
        socket, client, upstream = stage.open()
        upstream.blocks()
        client.says(client.frame(BINARY, bytes(100_000)))
        began = stage.now
        while socket.open and stage.now < began + 200:
            client.blocks()
            upstream.says(upstream.frame(BINARY, bytes(100_000)))
            stage.passes(3.0)
            client.takes()
        assert stage.now - began <= PATIENCE + 4
        assert ended(socket) == (1013, "backpressure")


def test_early_bytes() -> None:
    """What came with the handshake is the first that passes, also a Close."""
    with Stage(ping_interval=0).on() as stage:
        early = encode(TEXT, b"early", mask=b"abcd")
        _, client, upstream = stage.open(
            from_client=early, from_instance=encode(TEXT, b"hello") + encode(CLOSE, b"")
        )
        assert client.texts == ["hello"]
        assert client.close == (1000, "upstream_closed")
        assert upstream.texts == ["early"]
