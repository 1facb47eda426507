"""A coordinator in a process of its own, to be killed: python -m tests.crash.follower. It is told on its
input to begin, with the workflows it is to submit first, and goes on until it dies."""

from __future__ import annotations

import asyncio
import json
import sys

from agentflow.access.model import DEFAULT_TENANT
from agentflow.flow import open_local
from agentflow.settings import load


async def main(specs: list[dict]) -> None:
    flow = await open_local(load())
    for spec in specs:
        print(await flow.submit(DEFAULT_TENANT, spec, initial_state={}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.stdin.readline())))
