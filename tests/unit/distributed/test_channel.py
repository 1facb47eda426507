"""What a pool worker gathers for a coordinator, and what leaves at once."""

from __future__ import annotations

import asyncio

from agentflow.distributed.workers import Channel, unpack
from agentflow.engine.workers import Delta


async def told(channel: Channel) -> tuple[object, ...]:
    batch = await channel.next()
    assert batch is not None
    return unpack(batch[1])


async def test_first_piece_of_a_reply_waits_for_no_other() -> None:
    channel = Channel("incarnation")
    channel.add(Delta("attempt", 0, "first "))
    asyncio.get_running_loop().call_soon(channel.add, Delta("attempt", 6, "second"))
    assert await told(channel) == (Delta("attempt", 0, "first "),)


async def test_later_pieces_of_a_reply_are_gathered() -> None:
    channel = Channel("incarnation")
    channel.add(Delta("attempt", 6, "second "))
    asyncio.get_running_loop().call_soon(channel.add, Delta("attempt", 13, "third"))
    assert await told(channel) == (Delta("attempt", 6, "second third"),)
