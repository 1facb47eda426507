"""A Ray of the contender's own, started as the product starts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from agentflow.distributed import cluster as clusters
from agentflow.settings import Settings

CPUS = 4
"""Logical ones: coordinators and workers that wait for the network reserve none."""


@contextlib.asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[clusters.Cluster]:
    """A cluster on this machine, without its dashboard; nothing of it is left afterwards."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    cluster = await asyncio.to_thread(clusters.start, settings, dashboard=False, num_cpus=CPUS)
    try:
        yield cluster
    finally:
        await asyncio.to_thread(cluster.shutdown)
