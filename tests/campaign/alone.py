"""The system that is tried, without Ray: API, engine and workers in this one process.

For drills that need neither a second coordinator nor a worker process; it is up in seconds. Speaks with
its world as ``system`` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from typing import Any

import uvicorn

from agentflow.api.app import build_app
from agentflow.flow import open_local
from agentflow.settings import load


class Server(uvicorn.Server):
    """Tells when it is up."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


async def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    settings = load()
    server = Server(build_app(lambda: open_local(settings)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait((serving, up), return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            told = {"port": listening.getsockname()[1], "folder": "", "address": ""}
            print(json.dumps({**told, "environment": {}}), file=answers)
            while await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps({"coordinators": [], "nodes": []}), file=answers)
        up.cancel()
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(main())
