"""What tests want to know of links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rtgateway.store.errors import StoreError
from rtgateway.testing.waiting import eventually

if TYPE_CHECKING:
    from rtgateway.store.redis.link import Link

__all__ = ["port_of", "settled", "why_not"]


async def port_of(link: Link) -> int:
    """The port of the server that answers."""
    said = await link.ask("INFO", "server", timeout=5.0)
    return int(said.partition(b"tcp_port:")[2].split()[0])


def settled(link: Link) -> bool:
    """Whether it is up, and hears what is said."""
    return link.up and "not yet" not in repr(link._subscriber)


async def why_not(link: Link) -> str:
    """Why a link does not come up."""
    await eventually(lambda: "not connected yet" not in repr(link._watch))
    with pytest.raises(StoreError) as caught:
        await link.ask("PING")
    assert caught.value.reason == "down"
    return caught.value.detail
