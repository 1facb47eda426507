"""Restate: its server keeps the journal, this process serves the handlers that it calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import restate
from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config

from benchmarks.peers import serving
from benchmarks.peers.driving import Driver, Gate
from benchmarks.peers.environments import HOME
from benchmarks.peers.servers import Server, free_ports, listening, server
from benchmarks.peers.serving import Arguments, Contender, Json, serve

BINARY = HOME / "restate/node_modules/@restatedev/restate-server-linux-x64/bin/restate-server"
CONFIGURATION = """
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = {node}
advertised-host = "127.0.0.1"
node-name = "bench"
base-dir = "{folder}"
disable-telemetry = true
log-filter = "warn"

[ingress]
bind-port = {ingress}

[admin]
bind-port = {admin}
disable-web-ui = true

[worker.invoker]
concurrent-invocations-limit = 10000

[default-retry-policy]
initial-interval = "50ms"
exponentiation-factor = 2.0
max-interval = "250ms"
"""
SETTING = (
    "one server with all roles, fsync of its log on (the default); handlers served by Hypercorn as "
    "recommended for production, bidirectional streaming; calls through the ingress; retries every 50 to "
    "250 ms"
)
PAGE = "https://docs.restate.dev/develop/python/serving"
COUNT = """
    SELECT count(*) AS steps FROM sys_journal
    WHERE entry_type = 'Notification: Run' AND {which}
"""
OF_RECOVERY = "id IN (SELECT id FROM sys_invocation WHERE idempotency_key = '{run}')"
FOLDER: list[Path] = []
GATE = Gate()
bench = restate.Service("Bench")


async def nothing() -> str:
    return "done"


async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def carry(text: str, number: int) -> str:
    return f"{number}{text[1:]}"


async def log(execution: str, number: int) -> str:
    serving.log_step(FOLDER[0], execution, number)
    await asyncio.sleep(serving.RECOVERY_STEP_S)
    return "done"


@bench.handler()
async def chain10(ctx: restate.Context, given: Json) -> None:
    for _ in range(serving.CHAIN_STEPS):
        await ctx.run_typed("nothing", nothing)


@bench.handler()
async def fan(ctx: restate.Context, given: Json) -> None:
    seconds = given["step_s"]
    await ctx.run_typed("go", nothing)
    await restate.gather(
        *(
            ctx.run_typed("sleep", sleep, seconds=seconds)
            if seconds
            else ctx.run_typed("nothing", nothing)
            for _ in range(given["width"])
        )
    )
    await ctx.run_typed("join", nothing)


@bench.handler()
async def branch(ctx: restate.Context, given: Json) -> None:
    name = given["branch"]
    for position in range(6):
        await ctx.run_typed("sleep", sleep, seconds=serving.branch_seconds(name, position))


@bench.handler()
async def uneven(ctx: restate.Context, given: Json) -> None:
    branches = (ctx.service_call(branch, {"branch": name}) for name in serving.UNEVEN_SLOW_AT)
    await restate.gather(*branches)
    await ctx.run_typed("join", nothing)


@bench.handler()
async def payload(ctx: restate.Context, given: Json) -> None:
    text = given["text"]
    for number in range(serving.PAYLOAD_STEPS):
        text = await ctx.run_typed("carry", carry, text=text, number=number)


@bench.handler()
async def recovery(ctx: restate.Context, given: Json) -> None:
    for number in range(serving.RECOVERY_STEPS):
        await ctx.run_typed("log", log, execution=given["execution"], number=number)


@bench.handler()
async def gate(ctx: restate.Context, given: Json) -> None:
    await ctx.run_typed("wait", GATE.wait, until=given["until"])


class OnServer:
    """Calls through the ingress."""

    def __init__(self, running: Server, session: aiohttp.ClientSession) -> None:
        self._ingress = f"http://127.0.0.1:{running.ports['ingress']}"
        self._admin = f"http://127.0.0.1:{running.ports['admin']}"
        self._session = session
        self._since: dict[str, float] = {}

    async def register(self, endpoint: str) -> None:
        body = {"uri": endpoint, "force": True}
        async with asyncio.timeout(60):
            while True:
                try:
                    await self._post(f"{self._admin}/deployments", body)
                    return
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(0.1)

    async def _post(self, address: str, body: Any, headers: Json | None = None) -> bytes:
        async with self._session.post(address, json=body, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise aiohttp.ClientPayloadError(f"{answer.status}: {text[:500]!r}")
            return text

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        headers = None
        if workflow == "recovery":
            given, headers = {"execution": execution}, {"idempotency-key": execution}
        else:
            self._since.setdefault(execution.rpartition("-")[0], time.time())
        if workflow == "payload":
            given = {"text": serving.payload_text()}
        await self._post(f"{self._ingress}/Bench/{workflow}", given, headers)

    async def resume(self, execution: str) -> None:
        """The server calls the handler again by itself; this attaches to what it is doing."""
        address = f"{self._ingress}/restate/invocation/Bench/recovery/{execution}/attach"
        async with self._session.get(address) as answer:
            if answer.status >= 300:
                raise RuntimeError(f"{answer.status}: {await answer.text()}")

    async def persisted(self, run: str, expected: int) -> int:
        """Steps of the run's invocations are those after its beginning: nothing else goes on then."""
        which = OF_RECOVERY.format(run=run)
        if since := self._since.get(run):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
            which = f"appended_at >= '{stamp}.{int(since % 1 * 1e3):03d}Z'"
        query = COUNT.format(which=which)
        headers = {"accept": "application/json"}
        found = json.loads(await self._post(f"{self._admin}/query", {"query": query}, headers))
        return found["rows"][0]["steps"]


def hypercorn(port: int) -> Config:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 2**31 - 1
    return config


@asynccontextmanager
async def endpoint(folder: Path) -> AsyncIterator[str]:
    """The address where this process serves the handlers; the same as the last time in this folder."""
    note = folder / "endpoint.port"
    if not note.exists():
        note.write_text(str(free_ports(1)[0]))
    port = int(note.read_text())
    stop = asyncio.Event()
    app = restate.app([bench], protocol="bidi")
    running = asyncio.create_task(serve_asgi(app, hypercorn(port), shutdown_trigger=stop.wait))
    try:
        await listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        await asyncio.wait([running], timeout=5)
        running.cancel()


@asynccontextmanager
async def start(arguments: Arguments) -> AsyncIterator[Contender]:
    folder = arguments.folder
    FOLDER.append(folder)

    def command(ports: Any) -> list[str]:
        configuration = folder / "restate.toml"
        configuration.write_text(CONFIGURATION.format(folder=folder / "restate", **ports))
        return [str(BINARY), "--no-logo", "--config-file", str(configuration)]

    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        endpoint(folder) as address,
        server("restate", folder, ("ingress", "admin", "node"), command) as running,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):
        await listening(running.ports["admin"])
        peer = OnServer(running, session)
        await peer.register(address)
        facts = {
            "system": "Restate",
            "version": f"server {node_version()}, SDK {version('restate-sdk')}",
            "setting": SETTING,
            "page": PAGE,
            "persisted_before_next_step": "the step's result, appended to the server's log and synced",
            "pids": [running.pid],
        }
        yield Contender(facts, Driver(peer).workloads())


def node_version() -> str:
    return json.loads((BINARY.parents[1] / "package.json").read_text())["version"]


if __name__ == "__main__":
    serve(start)
