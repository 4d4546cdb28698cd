"""A Redis Cluster: the gateway is where its keys are, whichever node is configured."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from hiredis import Reader
from twisted.internet.protocol import Factory, Protocol

from rtgateway.store.errors import StoreError
from rtgateway.store.redis.link import Link
from rtgateway.store.redis.script import Script
from rtgateway.testing.redis import RedisServer, StartRedis, major_version
from rtgateway.testing.waiting import eventually, soon, the_reactor
from tests.store.clusters import cluster_of
from tests.store.conftest import MakeLink
from tests.store.links import port_of, settled

INCREASE = Script("increase", "return redis.call('INCR', KEYS[1])")
BOTH = Script("both", "return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}")
needs_7 = pytest.mark.skipif(
    major_version() < 7, reason="several nodes on one machine need Redis 7 for their ports"
)


def tells(link: Link, words: str) -> bool:
    """Whether it says so of why it is not up."""
    return words in repr(link._watch)


@needs_7
@pytest_twisted.ensureDeferred
async def test_the_node_that_has_the_keys(
    start_redis: StartRedis, make_link: MakeLink, logged: list[str]
) -> None:
    """It is found through any node, and another one when it dies."""
    cluster = await cluster_of(start_redis)
    owner, replica = cluster.owner, cluster.replica
    links = [make_link(node, timeout="2s") for node in (cluster.other, replica, owner)]
    heard: list[bytes] = []
    for link in links:
        link.subscribe(link.key("events"), heard.append)
    await eventually(lambda: all(map(settled, links)))
    for number, link in enumerate(links):
        assert await port_of(link) == owner.port
        assert await link.run(INCREASE, [link.key("n")], []) == number + 1
    assert len([line for line in logged if line.startswith("The keys of")]) == 2
    assert not [line for line in logged if line.startswith("No connection")]
    assert await links[0].ask("PUBLISH", links[0].key("events"), b"x") == 3
    await eventually(lambda: heard == [b"x"] * 3)
    await links[0].ask("WAIT", 1, 5000, timeout=6.0)
    owner.kill()
    await eventually(lambda: not any(link.up for link in links))
    replica.cli("CLUSTER", "FAILOVER", "TAKEOVER")
    through_others = links[:2]
    await eventually(lambda: all(map(settled, through_others)))
    for number, link in enumerate(through_others):
        assert await port_of(link) == replica.port
        assert await link.run(INCREASE, [link.key("n")], []) == number + 4
    assert await links[1].ask("PUBLISH", links[1].key("events"), b"y") == 2
    await eventually(lambda: heard[3:] == [b"y"] * 2)


@needs_7
@pytest_twisted.ensureDeferred
async def test_the_slot_moves(start_redis: StartRedis, make_link: MakeLink) -> None:
    """Meanwhile calls are refused one by one, and afterwards all go to the new owner."""
    cluster = await cluster_of(start_redis)
    slot, other, owner = cluster.slot, cluster.other, cluster.owner
    link = make_link(owner, timeout="2s")
    heard: list[bytes] = []
    link.subscribe(link.key("events"), heard.append)
    await eventually(lambda: settled(link))
    old, new = link.key("old"), link.key("new")
    assert await link.run(INCREASE, [old], []) == 1
    other.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.cli("CLUSTER", "MYID"))
    owner.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", other.cli("CLUSTER", "MYID"))
    for number in range(4):
        assert await link.run(INCREASE, [old], []) == number + 2
        for script, keys, word in ((INCREASE, [new], "ASK"), (BOTH, [old, new], "TRYAGAIN")):
            with pytest.raises(StoreError, match=word) as caught:
                await link.run(script, keys, [])
            assert caught.value.reason == "refused"
    assert link.up
    owner.cli("DEL", old)
    cluster.owned_by(other)
    with pytest.raises(StoreError, match="MOVED"):
        await link.run(INCREASE, [old], [])
    await eventually(lambda: settled(link))
    assert await port_of(link) == other.port
    assert await link.run(INCREASE, [old], []) == 1
    assert await link.ask("PUBLISH", link.key("events"), b"x") == 1
    await eventually(lambda: heard == [b"x"])


@needs_7
@pytest_twisted.ensureDeferred
async def test_the_cluster_is_down(
    start_redis: StartRedis, make_link: MakeLink, logged: list[str]
) -> None:
    """That is said once, and over when it is."""
    cluster = await cluster_of(start_redis)
    link = make_link(cluster.other, timeout="2s")
    # All of it: a connection that is just being made would be lost by itself.
    await eventually(lambda: len(link._ready) == 2)
    cluster.replica.kill()
    cluster.owner.kill()
    await eventually(lambda: "CLUSTERDOWN" in repr(link._watch))
    await soon(0.5)
    assert not link.up
    assert len([line for line in logged if "not asked any more" in line]) == 1
    assert len([line for line in logged if "CLUSTERDOWN" in line]) == 1
    cluster.owner.start()
    await eventually(lambda: link.up)
    assert await port_of(link) == cluster.owner.port


# -- nodes that don't agree -----------------------------------------------------------------------


class Node:
    """Answers like a node that has none of our keys.

    :ivar port: where it listens.
    :ivar says: where they are.
    :ivar asked: commands, by their first word.
    """

    def __init__(self) -> None:
        self.says = ""
        self.asked: Counter[bytes] = Counter()
        self._listening = the_reactor().listenTCP(0, _NodeFactory(self), interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    def answer(self, command: list[bytes]) -> bytes:
        self.asked[command[0]] += 1
        return {
            b"PING": b"+PONG\r\n",
            b"ROLE": b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
            b"CLIENT": b"+OK\r\n",
        }.get(command[0], b"-MOVED 3999 %b\r\n" % self.says.encode())

    def stop(self) -> Any:
        return self._listening.stopListening()


class _NodeFactory(Factory):
    noisy = False

    def __init__(self, node: Node) -> None:
        self.node = node

    def buildProtocol(self, addr: object) -> Protocol:
        return _NodeProtocol(self.node)


class _NodeProtocol(Protocol):
    def __init__(self, node: Node) -> None:
        self._node = node
        self._reader = Reader()

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            assert self.transport is not None
            self.transport.write(self._node.answer(command))


@pytest_twisted.async_yield_fixture
async def nodes() -> AsyncIterator[tuple[Node, Node]]:
    """Two of them."""
    both = Node(), Node()
    yield both
    for node in both:
        await node.stop()


@pytest_twisted.ensureDeferred
async def test_each_names_the_other(
    nodes: tuple[Node, Node], make_link: MakeLink, redis: RedisServer, logged: list[str]
) -> None:
    """They are not asked in circles; and when one is right at last, it is found."""
    one, two = nodes
    one.says, two.says = f"127.0.0.1:{two.port}", f"127.0.0.1:{one.port}"
    link = make_link(f"redis://127.0.0.1:{one.port}", connections=1)
    await eventually(lambda: "another one" in repr(link._watch))
    # By then it has been asked four times.
    assert one.asked[b"EXISTS"] == two.asked[b"EXISTS"] == 2
    await soon(0.5)
    assert 4 <= one.asked[b"EXISTS"] <= 14
    assert not link.up
    two.says = f"127.0.0.1:{redis.port}"
    await eventually(lambda: link.up)
    assert await port_of(link) == redis.port
    assert len([line for line in logged if line.startswith("No connection")]) == 1


@pytest_twisted.ensureDeferred
async def test_a_node_that_can_not_be_reached(
    nodes: tuple[Node, Node], make_link: MakeLink, redis: RedisServer, start_redis: StartRedis
) -> None:
    """The configured one is asked again."""
    dead = start_redis()
    dead.kill()
    one, _ = nodes
    one.says = f"127.0.0.1:{dead.port}"
    link = make_link(f"redis://127.0.0.1:{one.port}", connections=1)
    await eventually(lambda: one.asked[b"EXISTS"] > 2)
    assert f"{dead.port}: Connection refused" in repr(link._watch)
    # The host is left out: it is that of the node.
    one.says = f":{redis.port}"
    await eventually(lambda: link.up)
    assert await port_of(link) == redis.port


@pytest_twisted.ensureDeferred
async def test_no_words_that_could_be_followed(
    nodes: tuple[Node, Node], make_link: MakeLink
) -> None:
    """Its word is in the log, and nothing else happens."""
    one, _ = nodes
    itself = f"127.0.0.1:{one.port}"
    for says in ("?:6379", "127.0.0.1:0", "", "127.0.0.1:x", itself):
        one.says = says
        link = make_link(f"redis://127.0.0.1:{one.port}", connections=1)
        words = "another one" if says == itself else "MOVED"
        await eventually(partial(tells, link, words))
        assert not link.up
