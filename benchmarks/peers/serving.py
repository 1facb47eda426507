"""The protocol between the runner and a peer's adapter, on lines of JSON; standard library, and uvloop.

An adapter is a script, run by the Python of its peer's own environment:

    ADAPTER --folder DIR --dsn postgresql://...

It prints one line when it is ready, ``{"ready": true, "system": ..., "version": ..., "setting": ...,
"page": ..., "persisted_before_next_step": ..., "pids": [...], "can": [...]}`` with the workloads that it
has and the event loop that it runs on (``loop``), then answers each line of standard input,
``{"id": n, "workload": name, ...parameters}``, with one line:

- ``{"id": n, "seconds": s, "latencies_s": [...], "steps": expected, "persisted": counted or null}``,
- ``{"id": n, "unsupported": why}`` where the peer cannot do it, or
- ``{"id": n, "error": text}`` where it should have.

``{"stop": true}``, the end of standard input and SIGTERM end it, and every server it started.
Standard output is the protocol's alone: whatever the peer prints itself goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

Json = dict[str, Any]
Workload = Callable[[Json], Awaitable[Json]]

CHAIN_STEPS = 10
FAN_WIDTH = 100
FAN_STEPS = FAN_WIDTH + 2
PAYLOAD_STEPS = 5
PAYLOAD_BYTES = 1_000_000
RECOVERY_STEPS = 20
RECOVERY_STEP_S = 0.2
UNEVEN_STEPS = 3 * 6 + 1
UNEVEN_SLOW_AT = {"a": 0, "b": 2, "c": 5}
UNEVEN_SLOW_S, UNEVEN_STEP_S = 0.4, 0.05


class Unsupported(Exception):
    """The peer cannot do this workload; the text says why."""


@dataclass
class Contender:
    """A peer, started: what it says of itself, and what it can do.

    ``facts``: system, version, setting (its documented setting, in words), page (where that is documented),
    persisted_before_next_step and pids, as in the ready line; ``kill``, where it is not the adapter's process
    alone that dies in the recovery workload.
    """

    facts: Json
    workloads: dict[str, Workload] = field(default_factory=dict)


@dataclass(frozen=True)
class Arguments:
    folder: Path
    dsn: str


Start = Callable[[Arguments], AbstractAsyncContextManager[Contender]]


def claim_stdout() -> TextIO:
    """A private copy of standard output; what anybody else prints goes to standard error from here on."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return private


async def requests() -> AsyncIterator[Json]:
    """What is asked on standard input, until it is asked to stop, or nobody is there to ask."""
    reader = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        request = json.loads(line)
        if request.get("stop"):
            return
        yield request


async def answer(contender: Contender, asked: Json) -> Json:
    """What one request is answered with; a failing workload is an answer, not the end of the adapter."""
    name = asked["workload"]
    workload = contender.workloads.get(name)
    if workload is None:
        return {"id": asked["id"], "unsupported": f"this adapter has no workload {name!r}"}
    parameters = {key: value for key, value in asked.items() if key not in ("id", "workload")}
    try:
        return {"id": asked["id"], **await workload(parameters)}
    except Unsupported as refused:
        return {"id": asked["id"], "unsupported": str(refused)}
    except Exception as failure:  # noqa: BLE001 - the runner prints it in the peer's row
        traceback.print_exc()
        return {"id": asked["id"], "error": f"{type(failure).__name__}: {failure}"[:2000]}


async def converse(start: Start, arguments: Arguments, out: TextIO) -> None:
    """One answer at a time; the end also ends the workload that goes on then."""

    def say(message: Json) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    async def reply(contender: Contender, request: Json) -> None:
        say(await answer(contender, request))

    async with start(arguments) as contender:
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        say({"ready": True, "loop": loop, "can": sorted(contender.workloads), **contender.facts})
        replying: asyncio.Task[None] | None = None
        async for request in requests():
            if replying is not None:
                await replying
            replying = asyncio.create_task(reply(contender, request))
        if replying is not None:
            replying.cancel()
            await asyncio.wait([replying])


def new_loop() -> asyncio.AbstractEventLoop:
    """The event loop of every contender: uvloop, which Ray gives its actors, where the environment has it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def serve(start: Start) -> None:
    """Run the adapter: ``start`` enters with the peer up and leaves with all it started stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="where it may keep files")
    parser.add_argument("--dsn", required=True, help="a PostgreSQL database of its own")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    out = claim_stdout()

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await converse(start, Arguments(given.folder, given.dsn), out)

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run())
    except asyncio.CancelledError:
        print("stopped by SIGTERM", file=sys.stderr)


async def in_flight(executions: int, at_once: int, execute: Callable[[], Awaitable[None]]) -> Json:
    """``executions`` executions by ``at_once`` clients: seconds altogether, and the latency of each."""
    waiting = iter(range(executions))
    latencies: list[float] = []

    async def client() -> None:
        for _ in waiting:
            began = time.perf_counter()
            await execute()
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(min(at_once, executions))))
    return {"seconds": time.perf_counter() - began, "latencies_s": latencies}


@functools.cache
def _random_text() -> str:
    return random.Random(1).randbytes(PAYLOAD_BYTES // 2).hex()


def payload_text() -> str:
    """The value of the payload workload: text that no database or disk can make smaller for free, another one
    each time, so that nobody who knows contents again is spared from keeping it."""
    mark = f"f{uuid4().hex}"
    return mark + _random_text()[len(mark) :]


def branch_seconds(branch: str, position: int) -> float:
    """How long a step of the uneven workload sleeps."""
    return UNEVEN_SLOW_S if UNEVEN_SLOW_AT[branch] == position else UNEVEN_STEP_S


def log_step(folder: Path, execution: str, step: int) -> None:
    """What a step of the recovery workload does first: one line, in the file before the step goes on."""
    with (folder / "steps.log").open("a") as log:
        log.write(f"{time.time():.6f} {execution} {step}\n")
