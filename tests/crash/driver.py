"""A process of its own that executes a workflow, to be killed: python -m tests.crash.driver SPEC STATE."""

from __future__ import annotations

import asyncio
import json
import sys

from agentflow.access.model import DEFAULT_TENANT
from agentflow.flow import open_local
from agentflow.settings import load


async def main(spec: str, state: str) -> None:
    flow = await open_local(load())
    execution_id = await flow.submit(
        DEFAULT_TENANT, json.loads(spec), initial_state=json.loads(state)
    )
    print(execution_id, flush=True)
    await flow.wait(DEFAULT_TENANT, execution_id)
    await flow.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
