"""How long the first token of a streamed reply takes to its reader: ``python -m benchmarks.first_token``.

Starts the server, and a provider in a process of its own (benchmarks/provider.py). A worker that is the
product's, but for what it writes before the first piece of a reply, says when it had that piece; the provider
says when it sent it. Measured is the time from both to the client that reads the stream of the API: from the
worker through the coordinator, the API and HAProxy; from the provider also through its SDK in the worker. One
stream after the other, then so many at once, all of them open before the first token comes. Prints one JSON
document; seconds. Target: 10 ms from the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentflow.distributed.cluster import free_ports
from agentflow.store import embedded
from benchmarks.suite.contenders import agentflow_http, wire

if TYPE_CHECKING:
    from agentflow.settings import Settings

Json = Any
ALONE, AT_ONCE, ROUNDS, WARM = 30, 100, 3, 5
TARGET_S = 0.010
PATIENCE_S = 150.0
SOON, LATER = "wait-0.2-0.05", "wait-4-0.05"
"""Models: what is asked at once answers late enough that every stream is open by then."""
PATH = "/api/v1/workflows/execute/stream"


def order(base_url: str, model: str) -> bytes:
    config = {"provider": "openai-compatible", "model": model, "base_url": base_url}
    document = {
        "name": "first token",
        "nodes": [{"id": "ask", "type": "llm", "metadata": {"source": "m", "prompt": "go"}}],
        "edges": [{"from": "ask", "to": "end"}],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "ask",
    }
    return json.dumps({"workflow": document, "initial_state": {"user_input": "go"}}).encode()


class StampedWorker:
    """The product's performer; the first piece of a reply begins with the moment at which it was had."""

    def __init__(self, settings: Settings) -> None:
        from agentflow.flow.opening import open_performer

        self._performer = open_performer(settings)
        self.close = self._performer.close

    async def perform(
        self, attempt: Any, on_text: Callable[[str], None], pool: str = "", host: str = ""
    ) -> Any:
        heard = False

        def stamped(text: str) -> None:
            nonlocal heard
            on_text(text if heard else f"{time.monotonic_ns()} {text}")
            heard = True

        return await self._performer.perform(attempt, stamped, pool, host)


def serve(port: int) -> None:
    """What ``agentflow serve`` does, with that worker, until a signal ends it."""
    from agentflow.distributed import cluster
    from agentflow.settings import load

    settings = load()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    joined = cluster.start(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray takes it for itself
    names: list[str] = []
    try:
        from agentflow.distributed import coordinator
        from agentflow.distributed import serve as front

        names += coordinator.start_coordinators(
            settings.coordinators, performer="benchmarks.first_token:StampedWorker"
        )
        front.publish("serve_app:app", settings.host, port, joined.log_file)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        front.withdraw(names, ours=True, log_file=joined.log_file)
    finally:
        joined.shutdown()


async def first_token(port: int, request: bytes) -> tuple[float, float] | None:
    """Seconds to this reader from when the worker had the first piece, and from when the provider sent it;
    None where the stream told nothing of it. Reads the stream to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    found: tuple[float, float] | None = None
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise RuntimeError(f"The stream was refused: {head + await reader.read(500)!r}")
        while line := await reader.readline():
            if found is None and line.startswith(b"data:") and b'"message.delta"' in line:
                now = time.monotonic_ns()
                had, sent = json.loads(line[5:])["data"]["text"].split()[:2]
                found = (now - int(had)) / 1e9, (now - int(sent)) / 1e9
            if line.startswith((b"event: execution.completed", b"event: execution.failed")):
                break
    finally:
        writer.close()
    return found


def share(seconds: list[float]) -> Json:
    ordered = sorted(seconds)
    ninety_nine = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50": statistics.median(ordered), "p99": ninety_nine, "max": ordered[-1]}


def told(streams: list[tuple[float, float] | None]) -> Json:
    heard = [each for each in streams if each is not None]
    if not heard:
        return {"streams": len(streams), "without a token": len(streams)}
    return {
        "streams": len(streams),
        "without a token": len(streams) - len(heard),
        "from the worker": share([each[0] for each in heard]),
        "from the provider": share([each[1] for each in heard]),
    }


async def measured(port: int, base_url: str, key: str) -> Json:
    """All figures. Raises TimeoutError when a stream does not end."""

    def asked(model: str) -> bytes:
        return wire.post(port, PATH, order(base_url, model), f"Authorization: Bearer {key}")

    soon, later = asked(SOON), asked(LATER)
    alone: list[tuple[float, float] | None] = []
    together: list[tuple[float, float] | None] = []
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(WARM):
            await first_token(port, soon)
        for _ in range(ROUNDS):
            alone += [await first_token(port, soon) for _ in range(ALONE)]
            together += await asyncio.gather(*(first_token(port, later) for _ in range(AT_ONCE)))
    return {
        "load": os.getloadavg()[0],
        "target": TARGET_S,
        "one stream at a time": told(alone),
        f"{AT_ONCE} streams at once": told(together),
    }


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[str]:
    """The base URL of a provider in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.provider"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="af-token-") as name:
        folder = Path(name)
        os.chmod(name, 0o711)  # the embedded database's user must enter
        held = await asyncio.to_thread(embedded.join, folder / "database")
        try:
            key, (port,) = secrets.token_hex(16), free_ports(1)
            command = [sys.executable, "-m", "benchmarks.first_token", "--serve", str(port)]
            environment = {
                "AGENTFLOW_DATA_DIR": str(folder / "data"),
                "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
                "DATABASE_URL": held.dsn,
                "API_KEY": key,
                "LOG_LEVEL": "WARNING",
            }
            log = folder / "serve.log"
            async with (
                provider() as base_url,
                agentflow_http.served(command, log, environment) as server,
            ):
                await agentflow_http.ready(port, server, log)
                print(json.dumps(await measured(port, base_url, key), indent=2))
        finally:
            held.close()
            embedded.destroy(folder / "database")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]))
    else:
        asyncio.run(main())
