"""What servers do once, when they have just started, is no part of what a request costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.suite.contenders import wire
from benchmarks.suite.usage import cpu_seconds, tree

QUIET, LONGEST_S = 0.25, 30.0
"""Cores that a server uses at most when nobody asks it anything, and how long that is waited for."""
WARMING, AT_ONCE = 1000, 32
"""Requests before any is measured."""


async def settled(pids: Sequence[int], port: int, request: bytes) -> None:
    """Returns once everything below these processes has come to rest, and has served some requests."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LONGEST_S
    used = 1.0
    while used > QUIET and loop.time() < deadline:
        before, began = cpu_seconds(tree(pids)), loop.time()
        await asyncio.sleep(1.0)
        used = (cpu_seconds(tree(pids)) - before) / (loop.time() - began)
    await wire.many(port, request, WARMING, AT_ONCE)
