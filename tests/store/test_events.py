"""Copies kept in step by what is said: in order, out of order, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from rtgateway.store.errors import StoreError
from rtgateway.store.redis import events as events_module
from rtgateway.store.redis.events import Event, Events, Replica


class _Link:
    """A link on which the test says what is heard, and answers what is asked."""

    def __init__(self) -> None:
        self.deaf = False
        self.looks: list[Callable[[Any, StoreError | None], None]] = []
        self.heard: list[Callable[[bytes], None]] = []
        self.connected: list[Callable[[], None]] = []
        self.asked: list[Deferred[Any]] = []

    def key(self, *parts: Any) -> bytes:
        return b":".join(part.encode() for part in parts)

    def subscribe(self, channel: bytes, heard: Callable[[bytes], None]) -> None:
        assert channel == b"events"
        self.heard.append(heard)

    def on_connected(self, callback: Callable[[], None]) -> None:
        self.connected.append(callback)

    def run(self, *args: Any, timeout: float | None = None) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def script(self, *args: Any) -> None:
        raise AssertionError

    def call(
        self, command: tuple[Any, ...], done: Callable[[Any, StoreError | None], None]
    ) -> None:
        assert command == ("GET", b"numbers:version")
        self.looks.append(done)


class _Copy:
    """Numbers, each of which is said to be there."""

    def __init__(self) -> None:
        self.link = _Link()
        self.numbers: set[int] = set()
        self.replica = Replica[int](
            self.link,
            Events(self.link),
            "numbers",
            read=lambda field, value, now: (
                (field.decode(), int(field)) if value != b"over" else None
            ),
            replace=self._replace,
            apply=self._apply,
        )

    def _replace(self, entries: dict[str, int]) -> None:
        self.numbers = set(entries.values())

    def _apply(self, event: Event) -> None:
        self.numbers.add(event["number"])

    def connected(self) -> None:
        for callback in self.link.connected:
            callback()

    def page(self, version: int, *numbers: int, cursor: bytes = b"0") -> None:
        items = [word for number in numbers for word in (b"%d" % number, b"")]
        self.link.asked.pop(0).callback([b"%d" % version, b"5", cursor, items])

    def say(self, version: int, kind: str = "numbers") -> None:
        """The number of a change is its version."""
        event = {"kind": kind, "version": str(version), "number": version}
        for heard in self.link.heard:
            heard(json.dumps(event).encode())


@pytest.fixture
def copy() -> _Copy:
    """A copy of nothing, at version 10."""
    copy = _Copy()
    copy.connected()
    copy.page(10)
    return copy


def test_changes_in_order(copy: _Copy) -> None:
    """They are applied as they are heard, and once; other kinds are of no interest."""
    for version in (11, 12, 12, 11, 10, 9, 13):
        copy.say(version)
    copy.say(14, kind="others")
    copy.say(14)
    assert copy.numbers == {11, 12, 13, 14}
    assert copy.replica.in_step
    copy.replica.tick(1e9)
    assert not copy.link.asked


def test_changes_out_of_order(copy: _Copy) -> None:
    """One that comes too early waits for a while; then all is read anew."""
    copy.say(12)
    copy.say(13)
    assert not copy.numbers
    copy.replica.tick(100.0)
    copy.replica.tick(100.9)
    assert not copy.link.asked
    copy.say(11)
    assert copy.numbers == {11, 12, 13}
    copy.replica.tick(200.0)
    copy.say(15)
    copy.replica.tick(200.0)
    copy.replica.tick(201.0)
    copy.replica.tick(202.0)
    assert len(copy.link.asked) == 1
    copy.page(16, 14, 15, 16)
    assert copy.numbers == {14, 15, 16}
    copy.say(17)
    assert copy.numbers == {14, 15, 16, 17}


def test_changes_while_reading() -> None:
    """They wait until all pages are there; those that the first page may lack are applied again."""
    copy = _Copy()
    copy.say(12)
    copy.connected()
    copy.say(11)
    copy.page(12, 1, 12, cursor=b"7")
    copy.say(13)
    assert copy.numbers == set()
    assert not copy.replica.in_step
    copy.page(13, 2, 3, cursor=b"9")
    copy.say(14)
    copy.page(13, 3)
    assert copy.numbers == {1, 2, 3, 12, 13, 14}
    copy.say(15)
    assert copy.numbers == {1, 2, 3, 12, 13, 14, 15}


def test_too_many_changes_while_reading(copy: _Copy) -> None:
    """Those that had no room are read then."""
    copy.connected()
    for version in range(11, 2000):
        copy.say(version)
    copy.page(10)
    assert len(copy.numbers) == 1000
    copy.replica.tick(100.0)
    copy.replica.tick(101.0)
    copy.page(1999, *range(11, 2000))
    assert len(copy.numbers) == 1989
    copy.replica.tick(1e9)
    assert not copy.link.asked


def test_connected_again_while_reading(copy: _Copy) -> None:
    """What was read before counts for nothing, whenever it comes."""
    copy.connected()
    copy.connected()
    first = copy.link.asked.pop(0)
    copy.page(3, 7)
    assert copy.numbers == {7}
    first.callback([b"50", b"5", b"0", [b"1", b""]])
    assert copy.numbers == {7}
    copy.say(4)
    assert copy.numbers == {7, 4}


def test_versions_begin_anew(copy: _Copy) -> None:
    """A server that has forgotten everything may be behind in them."""
    copy.say(11)
    copy.connected()
    copy.page(2, 2)
    copy.say(3)
    assert copy.numbers == {2, 3}


def test_reading_fails(copy: _Copy) -> None:
    """The copy stays, and it is tried again after a while, or as soon as there is a connection."""
    copy.say(11)
    copy.connected()
    copy.link.asked.pop(0).errback(StoreError("timeout"))
    assert copy.numbers == {11}
    assert not copy.replica.in_step
    copy.replica.tick(100.0)
    copy.replica.tick(100.5)
    assert not copy.link.asked
    copy.replica.tick(101.0)
    copy.link.asked.pop(0).errback(StoreError("lost"))
    copy.say(12)
    assert copy.numbers == {11}
    copy.connected()
    copy.page(12, 12)
    assert copy.numbers == {12}
    assert copy.replica.in_step


def test_what_is_nothing(copy: _Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes no sense is logged, and harms nothing."""
    logged: list[str] = []
    monkeypatch.setattr(events_module.log, "failure", lambda text, *_, **__: logged.append(text))
    for payload in (b"", b"\xff", b"[]", b"{}", b'{"kind":"numbers"}'):
        copy.link.heard[0](payload)
    assert len(logged) == 5
    copy.say(11)
    assert copy.numbers == {11}
    copy.connected()
    copy.link.asked.pop(0).callback([b"12", b"5", b"0", [b"x", b""]])
    assert copy.numbers == {11}
    assert logged[5:] == ["A copy of {kind} could not be read"]


def test_what_is_over_is_not_read(copy: _Copy) -> None:
    copy.connected()
    copy.link.asked.pop(0).callback([b"12", b"5", b"0", [b"1", b"over", b"2", b""]])
    assert copy.numbers == {2}


def test_names(copy: _Copy) -> None:
    assert repr(copy.replica) == "<Replica of numbers in step, version 10>"
    assert repr(Events(_Link())) == "<Events for nobody>"


@given(st.data())
def test_any_order(data: st.DataObject) -> None:
    """However changes and pages come, with whatever is lost, the copy is right in the end."""
    copy = _Copy()
    copy.connected()
    there: set[int] = set()
    copy.page(0)
    on_the_way: list[int] = []
    time = 100.0
    for _ in range(data.draw(st.integers(0, 15))):
        step = data.draw(st.sampled_from(["change", "hear", "lose", "tick", "connect", "page"]))
        if step == "change":
            there.add(len(there) + 1)
            on_the_way.append(len(there))
        elif step in ("hear", "lose") and on_the_way:
            version = on_the_way.pop(data.draw(st.integers(0, len(on_the_way) - 1)))
            if step == "hear":
                copy.say(version)
        elif step == "tick":
            time += 1.0
            copy.replica.tick(time)
        elif step == "connect":
            copy.connected()
        elif step == "page" and copy.link.asked:
            copy.page(len(there), *there)
    # The last change shows what was missed.
    there.add(len(there) + 1)
    copy.say(len(there))
    for _ in range(4):
        while copy.link.asked:
            copy.page(len(there), *there)
        time += 1.0
        copy.replica.tick(time)
    assert copy.numbers == there


def test_while_nothing_is_heard(copy: _Copy) -> None:
    """The version is looked at now and then; only a new one is read."""
    copy.link.deaf = True
    copy.replica.tick(100.0)
    copy.replica.tick(100.4)
    assert not copy.link.looks
    copy.replica.tick(100.5)
    copy.link.looks.pop()(b"10", None)
    assert not copy.link.asked
    copy.replica.tick(101.4)
    assert not copy.link.looks
    copy.replica.tick(101.5)
    copy.link.looks.pop()(None, StoreError("timeout"))
    assert not copy.link.asked
    copy.replica.tick(102.5)
    copy.link.looks.pop()(b"12", None)
    copy.replica.tick(103.5)
    assert not copy.link.looks, "it is being read"
    copy.page(12, 11, 12)
    assert copy.numbers == {11, 12}
    copy.link.deaf = False
    copy.replica.tick(200.0)
    copy.replica.tick(201.0)
    assert not copy.link.looks


def test_nothing_has_ever_been_heard() -> None:
    copy = _Copy()
    copy.link.deaf = True
    copy.replica.tick(100.0)
    copy.replica.tick(100.5)
    copy.page(10, 10)
    assert copy.numbers == {10}
    assert copy.replica.in_step


def test_all_was_lost_while_nothing_was_heard(copy: _Copy) -> None:
    """A Redis without a version has no entries."""
    copy.numbers = {1}
    copy.link.deaf = True
    copy.replica.tick(100.0)
    copy.replica.tick(100.5)
    with capturedLogs() as events:
        copy.link.looks.pop()(None, None)
        copy.page(0)
    assert copy.numbers == set()
    assert list(map(formatEvent, events)) == ["Redis has lost numbers: what it has now holds"]
