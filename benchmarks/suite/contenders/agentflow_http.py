"""AgentFlow as it is served by `agentflow serve`, to clients that wait for the result of inline steps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg

from agentflow.distributed.cluster import free_ports
from agentflow.ids import to_uuid
from benchmarks.peers import serving
from benchmarks.suite.contenders import engine, wire
from benchmarks.suite.contenders.settling import settled

Json = Any
READY_S, STOP_S = 170.0, 25.0
INLINE = {
    "name": "three inline steps",
    "nodes": [
        {"id": "a", "type": "input"},
        {"id": "b", "type": "aggregator"},
        {"id": "c", "type": "aggregator"},
    ],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}],
    "start_node": "a",
}
ORDER = {"workflow": INLINE, "initial_state": {"user_input": "go"}}


@contextlib.asynccontextmanager
async def start(arguments: serving.Arguments) -> AsyncIterator[serving.Contender]:
    key, (port,) = secrets.token_hex(16), free_ports(1)
    command = [str(Path(sys.executable).parent / "agentflow"), "serve", "--port", str(port)]
    environment = {
        "AGENTFLOW_DATA_DIR": str(arguments.folder / "data"),
        "DATABASE_URL": arguments.dsn,
        "API_KEY": key,
        "LOG_LEVEL": "WARNING",
    }
    body = json.dumps(ORDER).encode()
    request = wire.post(
        port, "/api/v1/workflows/execute", body, f"Authorization: Bearer {key}", "Prefer: wait=60"
    )
    connection = await asyncpg.connect(arguments.dsn)
    log = arguments.folder / "serve.log"
    async with served(command, log, environment) as server:
        await ready(port, server, log)
        await settled([server.pid], port, request)

        async def ask(asked: Json) -> Json:
            done = await wire.many(port, request, asked["requests"], asked["at_once"])
            ids = [json.loads(each)["execution_id"] for each in done.pop("bodies")]
            keys = [to_uuid(each, "exec") for each in ids]
            told = await connection.fetchrow(engine.COUNTED, keys)
            steps = len(INLINE["nodes"]) * asked["requests"]
            return {**done, "requests": asked["requests"], "steps": steps, **told}

        facts = {
            "system": "agentflow_http",
            "version": version("agentflow"),
            "setting": "agentflow serve; settings.durability strict; two coordinators",
            "page": "docs/guarantees.md",
            "persisted_before_next_step": engine.PERSISTED["strict"],
            "pids": [server.pid],
        }
        yield serving.Contender(facts, {"http": ask})
    await connection.close()


@contextlib.asynccontextmanager
async def served(
    command: list[str], log: Path, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The server, told to stop at the end, and ended where it does not in time."""
    with log.open("ab") as sink:
        server = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **environment},
        )
    try:
        yield server
    finally:
        with contextlib.suppress(TimeoutError, ProcessLookupError):
            server.terminate()
            await asyncio.wait_for(server.wait(), STOP_S)
        if server.returncode is None:
            server.kill()
            await server.wait()


async def ready(port: int, server: asyncio.subprocess.Process, log: Path) -> None:
    """Returns when requests are answered. Raises RuntimeError with what the server said last."""
    request = f"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_S):
            while server.returncode is None:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, wire.RequestFailed):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    try:
                        writer.write(request)
                        await wire.answered(reader)
                    finally:
                        writer.close()
                    return
                await asyncio.sleep(0.2)
    found = f"was not ready within {READY_S:g} s" if server.returncode is None else "ended"
    raise RuntimeError(f"`agentflow serve` {found}; it said last: {_last(log) or 'nothing'}")


def _last(log: Path) -> str:
    return " ".join(log.read_text(errors="replace")[-600:].split())


if __name__ == "__main__":
    serving.serve(start)
