"""All sockets of a gateway: what is counted, and how they leave."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rtgateway.observe.durations import SUM
from rtgateway.testing.frames import BINARY, CLOSE, TEXT
from rtgateway.ws.sockets import Place
from tests.ws.stage import Instance, Peer, Stage

__all__: list[str] = []

QUIET: dict[str, Any] = {"ping_interval": 0}
ROUTE = "/ws/:service"


def leave_both(client: Peer, upstream: Peer) -> None:
    client.leaves()
    upstream.leaves()


# -- counts -------------------------------------------------------------------------------------


def test_places() -> None:
    """By route, address and identity; those without do not count."""
    with Stage().on() as stage:
        sockets = stage.sockets
        known = Place(ROUTE, (ROUTE, "192.0.2.1"), (ROUTE, "alice"))
        unknown = Place(ROUTE, None, None)
        elsewhere = Place("/chat", ("/chat", "192.0.2.1"), None)
        for place in (known, known, unknown, elsewhere):
            sockets.take(place)
        assert sockets.taken(known) == (3, 2, 2)
        assert sockets.taken(unknown) == (3, 0, 0)
        assert sockets.taken(elsewhere) == (1, 1, 0)
        for place in (known, unknown, known, elsewhere):
            sockets.give_back(place)
        assert sockets.taken(known) == sockets.taken(elsewhere) == (0, 0, 0)
        # Addresses and identities that are gone take no memory.
        assert (sockets._per_route, sockets._per_ip, sockets._per_identity) == ({}, {}, {})


def test_ids() -> None:
    """Each has its own, and none comes again."""
    with Stage(**QUIET).on() as stage:
        first, client, upstream = stage.open()
        leave_both(client, upstream)
        second, *_ = stage.open()
        assert (first.id, second.id) == ("ws-1", "ws-2")
        assert list(stage.sockets.live) == ["ws-2"]


def test_traffic() -> None:
    """Of those that are over and of those that are not, each direction by itself."""
    with Stage(**QUIET).on() as stage:
        sockets = stage.sockets
        assert sockets.totals() == {}
        said = {"in": 0, "out": 0}
        for number in range(3):
            _, client, upstream = stage.open()
            client.text("x" * number)
            upstream.text()
            upstream.says(upstream.frame(BINARY, bytes(100))[:50])
            said["in"] += len(client.said)
            said["out"] += len(upstream.said)
            if number:
                leave_both(client, upstream)
        assert sockets.totals() == {
            (ROUTE, "in"): (3, said["in"]),
            (ROUTE, "out"): (6, said["out"]),
        }
        before = sockets.totals()
        sockets.abort()
        stage.turn()
        assert sockets.totals() == before
        assert sockets.opened == {(ROUTE, "main"): 3}
        assert sum(sockets.closed.values()) == 3


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (1000, "1000"),
        (1014, "1014"),
        (3000, "3xxx"),
        (3999, "3xxx"),
        (4000, "4xxx"),
        (4001, "4001"),
        (4999, "4xxx"),
    ],
)
def test_codes_as_labels(code: int, label: str) -> None:
    """The reason of a client is none, and of its codes only the range is."""
    with Stage(**QUIET).on() as stage:
        _, client, upstream = stage.open()
        client.closes(code, "anything it likes")
        upstream.closes(code)
        upstream.leaves()
        assert stage.sockets.closed == {(ROUTE, "main", label, "client", ""): 1}


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("idle_timeout", "idle_timeout"),
        ("token_revoked", "token_revoked"),
        ("maintenance in Köln", "closed_by_operator"),
        ("", "closed_by_operator"),
    ],
)
def test_reasons_as_labels(reason: str, label: str) -> None:
    """The gateway's own words, and one for all that operators say."""
    with Stage(**QUIET).on() as stage:
        socket, client, upstream = stage.open()
        socket.close(1000, reason)
        leave_both(client, upstream)
        assert stage.sockets.closed == {(ROUTE, "main", "1000", "gateway", label): 1}


def test_labels_are_few() -> None:
    """Whatever clients and instances say when they go."""
    with Stage(**QUIET).on() as stage:
        codes = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000, 13), 4001]
        for code in codes:
            _, client, upstream = stage.open()
            (client if code % 2 else upstream).closes(code, f"reason {code}")
            leave_both(client, upstream)
        assert len(stage.sockets.closed) <= 2 * (12 + 3)
        assert sum(stage.sockets.closed.values()) == len(codes)


def test_refusals_and_handshakes() -> None:
    """Counted by route; how long is a histogram."""
    with Stage().on() as stage:
        sockets = stage.sockets
        sockets.refuse(ROUTE, "draining")
        sockets.refuse(ROUTE, "draining")
        assert sockets.refused == {(ROUTE, "draining"): 2}
        sockets.shook_hands(ROUTE, 0.25)
        sockets.shook_hands(ROUTE, 1e9)
        assert sockets.handshakes[ROUTE][SUM] == 1e9 + 0.25
        assert sum(sockets.handshakes[ROUTE][:SUM]) == 2


# -- leaving ------------------------------------------------------------------------------------


def when_closed(stage: Stage, clients: list[Peer], seconds: float) -> list[float]:
    """When each of them got its Close, in seconds from now."""
    began, found = stage.now, dict[int, float]()
    while stage.now < began + seconds:
        stage.passes(0.1)
        for number, client in enumerate(clients):
            if number not in found and client.close is not None:
                found[number] = stage.now - began
    return sorted(found.values())


def many(stage: Stage, count: int, at: Instance | None = None) -> list[Peer]:
    chance = random.Random(7)
    stage.sockets.random = chance.random
    return [stage.open(at=at)[1] for _ in range(count)]


def spread(times: list[float], over: float) -> bool:
    """Whether each tenth has about as many as the others."""
    tenths = [sum(at <= time < at + over / 10 for time in times) for at in _tenths(over)]
    return min(tenths) > len(times) / 30


def _tenths(over: float) -> list[float]:
    return [over / 10 * number for number in range(10)]


def test_a_drained_instance() -> None:
    """Its sockets leave spread over ``drain_timeout``, those of others stay."""
    with Stage(drain_timeout=10.0, **QUIET).on() as stage:
        other = Instance("b")
        stage.instances.append(other)
        clients, others = many(stage, 100), many(stage, 20, other)
        stage.passes(5.0)
        stage.instances[0].draining = True
        times = when_closed(stage, clients, 12.0)
        assert len(times) == 100
        assert times[-1] <= 11.3
        assert spread([time - times[0] for time in times], 10.0)
        assert {client.close for client in clients} == {(1012, "instance_draining")}
        assert all(client.close is None for client in others)


def test_an_instance_that_stays_after_all() -> None:
    """Who has not left yet stays; the next time they leave again."""
    with Stage(drain_timeout=100.0, **QUIET).on() as stage:
        clients = many(stage, 50)
        stage.instances[0].draining = True
        first = when_closed(stage, clients, 30.0)
        assert 0 < len(first) < 50
        stage.instances[0].draining = False
        assert len(when_closed(stage, clients, 200.0)) - len(first) <= 2
        stage.instances[0].draining = True
        assert len(when_closed(stage, clients, 103.0)) == 50


def test_an_instance_that_is_forgotten() -> None:
    """It leaves the service before its sockets have left it."""
    with Stage(drain_timeout=10.0, **QUIET).on() as stage:
        clients = many(stage, 20)
        leaving = stage.instances[0]
        leaving.draining = True
        stage.passes(2.0)
        stage.instances.clear()
        stage.passes(10.0)
        assert all(client.close is not None for client in clients)
        assert len(stage.sockets._leaving) == 0


def test_opened_while_its_instance_drains() -> None:
    """It was picked before that, and shook hands for long."""
    with Stage(drain_timeout=10.0, **QUIET).on() as stage:
        stage.instances[0].draining = True
        stage.passes(3.0)
        _, client, _ = stage.open()
        stage.passes(4.8)
        assert client.close is None
        stage.passes(0.4)
        assert client.close == (1012, "instance_draining")


def test_the_gateway_stops() -> None:
    """All leave in time to say goodbye before they are cut off."""
    with Stage(drain_timeout=60.0, close_timeout=5.0, **QUIET).on() as stage:
        clients = many(stage, 100)
        stage.sockets.drain(15.0)
        times = when_closed(stage, clients, 15.0)
        assert len(times) == 100
        assert times[-1] <= 10.3
        assert spread(times, 10.0)
        assert {client.close for client in clients} == {(1001, "going_away")}


@pytest.mark.parametrize("patience", [0.0, 1.0])
def test_the_gateway_stops_soon(patience: float) -> None:
    """With less time than a Close may take, half of it is for them to leave in."""
    with Stage(drain_timeout=60.0, close_timeout=5.0, **QUIET).on() as stage:
        clients = many(stage, 20)
        stage.sockets.drain(patience)
        times = when_closed(stage, clients, 2.0)
        assert len(times) == 20
        assert times[-1] <= patience / 2 + 0.3


@pytest.mark.parametrize("draining", [True, False])
def test_operators_while_the_gateway_stops(draining: bool) -> None:
    """What they say about instances keeps nobody longer."""
    with Stage(drain_timeout=10.0, **QUIET).on() as stage:
        clients = many(stage, 20)
        stage.instances[0].draining = not draining
        stage.passes(1.0)
        stage.sockets.drain(30.0)
        stage.instances[0].draining = draining
        stage.passes(10.5)
        assert all(client.close is not None for client in clients)


def test_leaving_takes_no_word_from_a_frame() -> None:
    """Who is in the middle of one ends it first."""
    with Stage(drain_timeout=1.0, **QUIET).on() as stage:
        _, client, upstream = stage.open()
        frame = upstream.frame(TEXT, b"hello")
        upstream.says(frame[:4])
        stage.instances[0].draining = True
        stage.passes(3.0)
        assert upstream.close == (1001, "instance_draining")
        assert client.close is None
        upstream.says(frame[4:])
        assert [each.opcode for each in client.frames] == [TEXT, CLOSE]
