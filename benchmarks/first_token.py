"""How long the first token of a streamed reply takes to its reader: ``python -m benchmarks.first_token``.

Starts ``agentflow serve`` and a provider in a process of its own (benchmarks/provider.py) whose first piece
says when it was sent. Measured is the time from there to the client that reads the stream of the API: through
the worker, the coordinator, the API and HAProxy, so a little more than from the worker on. One stream after
the other, then so many at once. Prints one JSON document; seconds. Target: 10 ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agentflow.distributed.cluster import free_ports
from agentflow.store import embedded
from benchmarks.suite.contenders import agentflow_http, wire

Json = Any
ALONE, AT_ONCE, ROUNDS = 30, 100, 3
TARGET_S = 0.010
PATH = "/api/v1/workflows/execute/stream"


def order(base_url: str) -> bytes:
    config = {"provider": "openai-compatible", "model": "wait-0.2", "base_url": base_url}
    document = {
        "name": "first token",
        "nodes": [{"id": "ask", "type": "llm", "metadata": {"source": "m", "prompt": "go"}}],
        "edges": [{"from": "ask", "to": "end"}],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "ask",
    }
    return json.dumps({"workflow": document, "initial_state": {"user_input": "go"}}).encode()


async def first_token(port: int, request: bytes) -> float:
    """Seconds from the provider's first piece to this reader; the stream is read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    found: float | None = None
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise SystemExit(f"The stream was refused: {head + await reader.read(500)!r}")
        while line := await reader.readline():
            if found is None and line.startswith(b"data:") and b'"message.delta"' in line:
                text = json.loads(line[5:])["data"]["text"]
                found = (time.monotonic_ns() - int(text.split()[0])) / 1e9
            if line.startswith(b"event: execution."):
                kind = line.split()[1]
                if kind in (b"execution.completed", b"execution.failed"):
                    break
    finally:
        writer.close()
    if found is None:
        raise SystemExit("A stream ended without a token")
    return found


def share(seconds: list[float]) -> Json:
    ordered = sorted(seconds)
    ninety_nine = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50": statistics.median(ordered), "p99": ninety_nine, "max": ordered[-1]}


async def measured(port: int, request: bytes) -> Json:
    alone: list[float] = []
    together: list[float] = []
    for _ in range(5):
        await first_token(port, request)
    for _ in range(ROUNDS):
        alone += [await first_token(port, request) for _ in range(ALONE)]
        many = (first_token(port, request) for _ in range(AT_ONCE))
        together += await asyncio.gather(*many)
    return {
        "load": os.getloadavg()[0],
        "target": TARGET_S,
        "one stream at a time": share(alone),
        f"{AT_ONCE} streams at once": share(together),
    }


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="af-token-") as name:
        folder = Path(name)
        os.chmod(name, 0o711)  # the embedded database's user must enter
        held = await asyncio.to_thread(embedded.join, folder / "database")
        provider = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.provider"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert provider.stdout is not None
        try:
            base_url = (await provider.stdout.readline()).decode().strip()
            key, (port,) = secrets.token_hex(16), free_ports(1)
            command = [str(Path(sys.executable).parent / "agentflow"), "serve", "--port", str(port)]
            environment = {
                "AGENTFLOW_DATA_DIR": str(folder / "data"),
                "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
                "DATABASE_URL": held.dsn,
                "API_KEY": key,
                "LOG_LEVEL": "WARNING",
            }
            log = folder / "serve.log"
            request = wire.post(port, PATH, order(base_url), f"Authorization: Bearer {key}")
            async with agentflow_http.served(command, log, environment) as server:
                await agentflow_http.ready(port, server, log)
                print(json.dumps(await measured(port, request), indent=2))
        finally:
            await provider.communicate()
            held.close()
            embedded.destroy(folder / "database")


if __name__ == "__main__":
    asyncio.run(main())
