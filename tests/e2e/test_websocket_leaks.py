"""However a WebSocket ends, nothing of it is left; and mostly at once, without the collector."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted

from rtgateway.testing import (
    RunningGateway,
    WebSocketClient,
    WebSocketConnection,
    WebSocketUpstream,
    eventually,
)
from rtgateway.testing.websocket import CLOSE, TEXT, Frame, WebSocketEnd, agree, echo, encode
from tests.e2e.sockets.bridged import connect, live, open_socket, start, upstream_of
from tests.e2e.test_tls import ca_file, files, secure
from tests.e2e.test_websocket_tls import NAME, dial, secure_upstream
from tests.e2e.world import World, only_instance, with_length

__all__: list[str] = []

WARM, CYCLES = 2, 6
"""Of each way: some to fill what is kept for later, and those that are counted."""


class Place(NamedTuple):
    """Where it happens."""

    world: World
    gateway: RunningGateway
    upstream: WebSocketUpstream

    async def pair(self, route: str = "plain") -> tuple[WebSocketClient, WebSocketConnection]:
        """A client and an instance, bridged."""
        number = len(self.upstream.sockets)
        client = await open_socket(self.world, self.gateway, f"/{route}/room")
        return client, await self.upstream.socket(number)

    def the_one(self) -> Any:
        """The only WebSocket there is."""
        (socket,) = live(self.gateway)
        return socket


Way = Callable[[Place], Awaitable[None]]


# -- the ways ---------------------------------------------------------------------------------


def polite(end: WebSocketEnd, frame: Frame) -> None:
    """Answers a Close, and waits for the other side to end the connection."""
    if frame.opcode == CLOSE:
        end.send_frame(CLOSE, frame.payload)


async def client_closes(place: Place) -> None:
    client, _ = await place.pair()
    client.text("hello")
    await client.frame()
    client.closing(1000, "done")


async def client_closes_without_a_code(place: Place) -> None:
    client, _ = await place.pair()
    client.closing()


async def instance_closes(place: Place) -> None:
    client, instance = await place.pair()
    client.talk, instance.talk = polite, None
    instance.closing(1000, "done")
    await instance.close_frame()
    instance.close()


async def client_resets(place: Place) -> None:
    client, _ = await place.pair()
    client.abort()


async def client_hangs_up(place: Place) -> None:
    client, _ = await place.pair()
    client.transport.loseConnection()


async def instance_resets(place: Place) -> None:
    client, instance = await place.pair()
    client.talk = polite
    instance.abort()


async def instance_hangs_up(place: Place) -> None:
    client, instance = await place.pair()
    client.talk = polite
    instance.close()


async def both_reset_in_a_frame(place: Place) -> None:
    client, instance = await place.pair()
    client.send(encode(TEXT, bytes(1000), mask=b"abcd")[:500])
    client.abort()
    instance.abort()


async def client_breaks_the_rules(place: Place) -> None:
    client, _ = await place.pair()
    client.talk = polite
    client.send(encode(TEXT, b"not masked"))


async def instance_breaks_the_rules(place: Place) -> None:
    client, instance = await place.pair()
    client.talk = instance.talk = polite
    instance.send(encode(TEXT, b"masked", mask=b"abcd"))
    await instance.close_frame()
    instance.close()


async def too_large(place: Place) -> None:
    client, _ = await place.pair("small")
    client.talk = polite
    client.binary(bytes(1000))


async def too_many(place: Place) -> None:
    client, _ = await place.pair("rated")
    client.talk = polite
    for _ in range(3):
        client.text("again")


async def idle(place: Place) -> None:
    client, _ = await place.pair("idle")
    client.talk = polite


async def old(place: Place) -> None:
    client, _ = await place.pair("brief")
    client.talk = polite


async def no_pong(place: Place) -> None:
    await place.pair("pinging")


async def no_answer_to_a_close(place: Place) -> None:
    _, instance = await place.pair()
    instance.talk = None
    place.the_one().close(1000, "enough")


async def closed_by_an_operator(place: Place) -> None:
    client, _ = await place.pair()
    client.talk = polite
    place.the_one().close(4001, "token_revoked")


async def slow_reader(place: Place) -> None:
    client, instance = await place.pair("full")
    client.pause()
    instance.binary(os.urandom(8_000_000))
    one = place.the_one()
    await eventually(lambda: one.close_code)
    client.abort()


async def answered(place: Place, target: str, status: int, *lines: str) -> None:
    client = await connect(place.world, place.gateway)
    client.upgrade(target, *lines)
    assert (await client.answer()).status == status
    client.transport.loseConnection()


async def refused_by_the_instance(place: Place) -> None:
    await answered(place, "/plain/refused", 403)


async def refused_by_the_gateway(place: Place) -> None:
    await answered(place, "/plain/", 403, "Origin: https://evil.example")


async def a_wrong_answer(place: Place) -> None:
    await answered(place, "/plain/nonsense", 502)


async def a_place_is_missing(place: Place) -> None:
    client, _ = await place.pair("few")
    await answered(place, "/few/room", 503)
    client.closing(1000)


async def no_instance(place: Place) -> None:
    await answered(place, "/plain/room", 502)


async def client_leaves_before(place: Place) -> None:
    number = len(place.upstream.requests)
    client = await connect(place.world, place.gateway)
    client.upgrade("/plain/silent")
    await place.upstream.request(number)
    client.abort()


async def unknown_service(place: Place) -> None:
    client = await open_socket(place.world, place.gateway, "/ws/nobody")
    assert (await client.close_frame())[0] == 1008
    client.closing(1008)


AT_ONCE: list[Way] = [
    client_closes,
    client_closes_without_a_code,
    instance_closes,
    client_resets,
    client_hangs_up,
    instance_resets,
    instance_hangs_up,
    both_reset_in_a_frame,
    client_breaks_the_rules,
    instance_breaks_the_rules,
    too_large,
    too_many,
    idle,
    old,
    no_pong,
    no_answer_to_a_close,
    closed_by_an_operator,
    slow_reader,
    refused_by_the_instance,
    refused_by_the_gateway,
    a_place_is_missing,
    client_leaves_before,
    unknown_service,
]
"""What belonged to these WebSockets is freed when the last one lets it go."""
BY_THE_COLLECTOR: list[Way] = [a_wrong_answer, no_instance]
"""These end by an exception, which holds on to what its traceback has seen."""


# -- what is left -----------------------------------------------------------------------------


@pytest.fixture
def collector_off() -> Iterator[None]:
    """What only the collector would find stays to be seen."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def of_the_gateway() -> Counter[str]:
    """How many objects of the gateway's own types there are, garbage included."""
    kinds = (type(each) for each in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return Counter(
        name for name in names if name.startswith("rtgateway.") and ".testing." not in name
    )


class Left(NamedTuple):
    """What there is when nobody is connected any more."""

    objects: Counter[str]
    deadlines: int
    descriptors: int
    places: tuple[int, ...]

    @classmethod
    async def behind(cls, place: Place) -> Left:
        """Wait until everything has ended, and look."""
        await settled(place)
        service = place.gateway.service
        sockets, instance = service.sockets, only_instance(place.gateway)
        return cls(
            of_the_gateway(),
            len(service.wheel),
            len(os.listdir("/proc/self/fd")),
            (
                len(sockets._per_route),
                len(sockets._per_ip),
                len(sockets._per_identity),
                instance.inflight,
                instance.sockets,
                instance.pool.open - len(instance.pool.idle),
            ),
        )

    def grown_since(self, before: Left) -> dict[str, int]:
        """What there is more of."""
        grown = dict(self.objects - before.objects)
        for name, now, then in (
            ("deadlines", self.deadlines, before.deadlines),
            ("descriptors", self.descriptors, before.descriptors),
            ("places", sum(self.places), 0),
        ):
            if now > then:
                grown[name] = now - then
        return grown


async def settled(place: Place) -> None:
    """Wait until nobody is connected any more, and forget who was."""
    service, clients = place.gateway.service, place.world._clients
    await eventually(lambda: not live(place.gateway))
    for client in clients:
        if client.lost is None:
            client.abort()
    await eventually(lambda: all(client.lost for client in clients))
    clients.clear()
    await eventually(lambda: not service.site.channels)
    await place.world.at_rest(place.gateway)
    connections = place.upstream.connections
    for each in connections:
        if isinstance(each, WebSocketConnection) and each.upgraded:
            await eventually(partial(getattr, each, "lost"))
    connections[:] = [each for each in connections if each.lost is None]


def answering(connection: Any, request: bytes) -> bytes | None:
    """Agrees, or not, as the path says."""
    target = request.split(b" ", 2)[1]
    if target.endswith(b"/refused"):
        return with_length(b"no").replace(b"200 OK", b"403 Forbidden")
    if target.endswith(b"/nonsense"):
        return agree(request).replace(b"Accept: ", b"Accept: x")
    if target.endswith(b"/silent"):
        return None
    connection.talk = echo
    return agree(request)


def route(name: str, **rules: Any) -> dict[str, Any]:
    return {"name": name, "path": f"/{name}", "service": "main", "websocket": rules or True}


ROUTES = [
    route("plain", origins=["https://app.example"]),
    route("small", max_message=100),
    route("rated", messages_per_second=1),
    route("idle", idle_timeout="30ms"),
    route("brief", max_lifetime="30ms"),
    route("pinging", ping_interval="30ms", pong_timeout="30ms"),
    route("full", max_buffered=20_000),
    route("few", connections=1),
]
# Who fails on purpose is not to be cut off for that.
PATIENT = {"circuit_breaker": {"enabled": False}, "outliers": {"enabled": False}}


async def grown(place: Place, way: Way, number: int = CYCLES) -> dict[str, int]:
    """What ``number`` WebSockets leave behind, when those before have filled what is kept."""
    for _ in range(WARM):
        await way(place)
        await settled(place)
    before = await Left.behind(place)
    for _ in range(number):
        await way(place)
        await settled(place)
    return (await Left.behind(place)).grown_since(before)


async def placed(world: World) -> Place:
    upstream = await upstream_of(world, answering)
    service = {"instances": [upstream.url], **PATIENT}
    rules = {"close_timeout": "50ms"}
    return Place(world, await start(world, service, routes=ROUTES, websocket=rules), upstream)


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("way", AT_ONCE, ids=lambda way: way.__name__)
@pytest_twisted.ensureDeferred
async def test_nothing_is_left(world: World, way: Way) -> None:
    """No object of the gateway's, no deadline, no place, no descriptor."""
    assert await grown(await placed(world), way) == {}


@pytest.mark.parametrize("way", BY_THE_COLLECTOR, ids=lambda way: way.__name__)
@pytest_twisted.ensureDeferred
async def test_nothing_is_left_in_the_end(world: World, way: Way) -> None:
    """The same, when garbage has been collected."""
    place = await placed(world)
    if way is no_instance:
        await place.upstream.stop()

    async def and_collected(place: Place) -> None:
        await way(place)
        await settled(place)
        gc.collect()

    assert await grown(place, and_collected) == {}


@pytest.mark.parametrize("how", ["closed", "client resets", "instance resets"])
@pytest_twisted.ensureDeferred
async def test_over_tls(world: World, tmp_path: Path, how: str) -> None:
    """TLS on both sides leaves nothing of the gateway's either. OpenSSL's objects are in cycles."""
    upstream = await secure_upstream(world, talk=echo)
    service = {"instances": [f"wss://{NAME}:{upstream.port}"], "tls": {"ca": ca_file(tmp_path)}}
    gateway = await start(world, service, **secure(files(tmp_path, NAME)))

    async def one(place: Place) -> None:
        client = await dial(world, gateway)
        (instance,) = upstream.sockets
        if how == "closed":
            client.closing(1000)
        elif how == "client resets":
            client.abort()
        else:
            client.talk = polite
            instance.abort()
        await settled(place)
        del client, instance
        gc.collect()

    assert await grown(Place(world, gateway, upstream), one) == {}
