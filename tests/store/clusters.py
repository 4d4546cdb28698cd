"""Redis Clusters of a few nodes."""

from __future__ import annotations

import socket
from typing import NamedTuple

from rtgateway.testing.redis import RedisServer, StartRedis
from rtgateway.testing.waiting import eventually

__all__ = ["Cluster", "cluster_of"]

SLOTS = 16384


class Cluster(NamedTuple):
    """Two nodes, and what replaces the second.

    :ivar slot: that of all keys of a gateway.
    :ivar other: has all other slots.
    :ivar owner: has this one.
    :ivar replica: of the owner.
    """

    slot: int
    other: RedisServer
    owner: RedisServer
    replica: RedisServer

    def owned_by(self, node: RedisServer) -> None:
        """Give the slot, which has to be empty, to a node."""
        name = node.cli("CLUSTER", "MYID")
        for each in (self.owner, self.other):
            each.cli("CLUSTER", "SETSLOT", self.slot, "NODE", name)


async def cluster_of(start_redis: StartRedis) -> Cluster:
    """A cluster that is up; that takes 2 s, as a node is not believed sooner."""
    nodes = [start_redis(options=_options()) for _ in range(3)]
    other, owner, replica = nodes
    slot = int(owner.cli("CLUSTER", "KEYSLOT", "{rtgateway}"))
    owner.cli("CLUSTER", "ADDSLOTS", slot)
    other.cli("CLUSTER", "ADDSLOTSRANGE", 0, slot - 1, slot + 1, SLOTS - 1)
    for node, epoch in zip(nodes, (1, 2, 3), strict=True):
        node.cli("CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for node in (owner, replica):
        other.cli("CLUSTER", "MEET", "127.0.0.1", node.port, _bus(node))
    await eventually(lambda: all("known_nodes:3" in _info(node) for node in nodes))
    await eventually(lambda: owner.cli("CLUSTER", "MYID") in replica.cli("CLUSTER", "NODES"))
    replica.cli("CLUSTER", "REPLICATE", owner.cli("CLUSTER", "MYID"))
    await eventually(lambda: all("cluster_state:ok" in _info(node) for node in nodes))
    await eventually(lambda: "state=online" in owner.cli("INFO", "replication"))
    await eventually(lambda: "slave" in other.cli("CLUSTER", "NODES"))
    return Cluster(slot, other, owner, replica)


def _options() -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The port of the bus can be chosen from Redis 7 on; else it is 10,000 above, and may be taken.
    return ["cluster-enabled yes", f"cluster-port {port}", "cluster-node-timeout 500"]


def _bus(node: RedisServer) -> str:
    (line,) = (each for each in node.options if each.startswith("cluster-port"))
    return line.split()[1]


def _info(node: RedisServer) -> str:
    return node.cli("CLUSTER", "INFO")
