"""The same bytes, judged by somebody else's parser."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from websockets.frames import Frame
from websockets.protocol import CLIENT, SERVER, Protocol

from rtgateway.wire.websocket import CLOSE, FrameRules, FrameScanner
from tests.core.profile import PROPERTY
from tests.wire.frames import Stream, read_all, streams
from tests.wire.test_websocket_illegal import ILLEGAL, Illegal


def heard(
    data: bytes, masked: bool, limit: int | None = None
) -> tuple[list[Frame], Exception | None]:
    """Its frames, and its exception if it has one."""
    peer = Protocol(SERVER if masked else CLIENT, max_size=limit)
    peer.receive_data(data)
    return [event for event in peer.events_received() if isinstance(event, Frame)], peer.parser_exc


@PROPERTY
@given(streams(compressed=False))
def test_legal(stream: Stream) -> None:
    """As many frames of the same kinds, with the same control frames among them."""
    calls = []

    def control(opcode: int, payload: bytes, raw: bytes) -> bytes:
        calls.append((opcode, payload))
        return raw

    rules = FrameRules(masked=stream.masked, compressed=False, max_frame=0, max_message=0)
    scanner = FrameScanner(rules, control)
    output = scanner.feed(stream.data)
    found = read_all(output, masked=stream.masked)
    if scanner.closed:
        # It refuses a Close in the middle of a message, which RFC 6455, 5.4, lets a peer send.
        ends = [read.first for read in found if read.opcode < CLOSE]
        assume(not ends or ends[-1] & 0x80)
    events, error = heard(output, stream.masked)
    assert error is None
    assert len(events) == scanner.frames == len(found)
    theirs = [(event.opcode, event.data) for event in events if event.opcode >= CLOSE]
    assert theirs == calls


def _comparable(illegal: Illegal) -> bool:
    """That library takes a length in any form, waits for a payload of any length, counts pings as
    a part of the message around them, and has no limit on frames."""
    other = ("in 16 bits", "in 64 bits", "with a length of", "length of", "behind a ping")
    about_lengths = any(words in illegal.name for words in other) and not illegal.turned
    return not (about_lengths or illegal.compressed or illegal.max_frame)


COMPARED = {name: illegal for name, illegal in ILLEGAL.items() if _comparable(illegal)}


@pytest.mark.parametrize("masked", [True, False], ids=["from client", "from instance"])
@pytest.mark.parametrize("illegal", COMPARED.values(), ids=COMPARED)
def test_illegal(illegal: Illegal, masked: bool) -> None:
    """It refuses the same frame, and has taken all that comes before it."""
    good, bad = illegal.wire(masked)
    events, error = heard(good + bad + bytes(70_000), masked, illegal.max_message or None)
    assert error is not None
    assert len(events) == len(illegal.before)
