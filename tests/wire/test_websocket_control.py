"""Control frames as we make and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgateway.wire.websocket import (
    CLOSE,
    PING,
    FrameError,
    FrameRules,
    FrameScanner,
    close_frame,
    parse_close,
    ping_frame,
)
from tests.core.profile import PROPERTY
from tests.wire.frames import read_all

CODES = st.one_of(
    st.sampled_from([*range(1000, 1004), *range(1007, 1015)]), st.integers(3000, 4999)
)


def scanned(data: bytes, masked: bool) -> tuple[int, bytes]:
    """Opcode and payload as a scanner tells them; the frame is legal and goes on as it is."""
    calls = []

    def control(opcode: int, payload: bytes, raw: bytes) -> bytes:
        calls.append((opcode, payload))
        return raw

    rules = FrameRules(masked=masked, compressed=False, max_frame=0, max_message=0)
    assert FrameScanner(rules, control).feed(data) == data
    assert [(read.opcode, read.payload) for read in read_all(data, masked=masked)] == calls
    return calls[0]


@PROPERTY
@given(CODES, st.text(), st.booleans())
def test_close(code: int, reason: str, masked: bool) -> None:
    """What is put in comes out, as far as there is room for it."""
    opcode, payload = scanned(close_frame(code, reason, masked=masked), masked)
    assert opcode == CLOSE
    got, words = parse_close(payload)
    assert got == code
    whole = reason.encode()
    if len(whole) <= 123:
        assert words == reason
    else:
        assert reason.startswith(words)
        assert 120 <= len(words.encode()) <= 123


@pytest.mark.parametrize("character", ["a", "ä", "€", "🙂"])
@pytest.mark.parametrize("before", range(5))
def test_close_is_cut_at_a_character(character: str, before: int) -> None:
    """No more than 125 bytes, and as many as fit."""
    size = len(character.encode())
    _, payload = scanned(
        close_frame(1000, "x" * before + character * 200, masked=False), masked=False
    )
    _, words = parse_close(payload)
    assert words == "x" * before + character * ((123 - before) // size)


def test_close_of_half_a_character() -> None:
    """What can't be UTF-8 is replaced."""
    _, payload = scanned(close_frame(1000, "a\udc80b", masked=True), masked=True)
    assert parse_close(payload) == (1000, "a?b")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000, -1])
def test_close_codes_that_are_not_sent(code: int) -> None:
    with pytest.raises(ValueError, match="close code"):
        close_frame(code, masked=False)


def test_parse_close_without_a_code() -> None:
    assert parse_close(b"") == (1005, "")


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xed", b"\x00\x00ok", b"\x03\xe8\xff"])
def test_parse_close_of_what_is_illegal(payload: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        parse_close(payload)
    assert (caught.value.code, caught.value.reason) == (1002, "protocol_error")


@PROPERTY
@given(st.binary(max_size=125), st.booleans())
def test_ping(payload: bytes, masked: bool) -> None:
    assert scanned(ping_frame(payload, masked=masked), masked) == (PING, payload)


def test_ping_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="126"):
        ping_frame(bytes(126), masked=False)


def test_masks_differ() -> None:
    """Nobody can foresee them (RFC 6455, 10.3)."""
    assert len({ping_frame(b"a", masked=True)[2:6] for _ in range(50)}) > 45
    assert len({close_frame(1000, masked=True)[2:6] for _ in range(50)}) > 45
