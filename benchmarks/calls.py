"""What a call of a model costs beside the provider's bare SDK: ``python -m benchmarks.calls [CALLS]``.

A provider in a process of its own answers after a second (benchmarks/provider.py). So many calls are
made at once by one process: with the bare SDK, through our source, and through all of a worker; whole
answers and streams. Each caller is a new process, and they take turns. Prints a line of JSON for each
figure: the makespan, and the seconds of the processor that a call takes in the caller.

Targets: the makespan above the second that the provider takes, and the processor's seconds, at most 1.3
times those of the bare SDK in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

Json = Any
Call = Callable[[], Awaitable[None]]
CALLS, ROUNDS, WARM = 1000, 3, 20
ANSWER_S = 1.0
TARGET = 1.3
PATIENCE_S = 120.0
PROMPT = "Say ok, again and again. " * 8
CALLERS = ("bare", "source", "worker")


@contextlib.asynccontextmanager
async def bare(base_url: str, streamed: bool) -> AsyncIterator[Call]:
    """The SDK alone, with the limits of our sources."""
    import httpx2
    import openai

    limits = httpx2.Limits(
        max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30.0
    )
    http = openai.DefaultAsyncHttpxClient(limits=limits, timeout=PATIENCE_S, trust_env=False)
    client = openai.AsyncOpenAI(
        api_key="sk-of-nobody", base_url=base_url, max_retries=0, http_client=http
    )
    asked: Json = {
        "model": f"wait-{ANSWER_S}",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 4096,
        "temperature": 0.7,
        "top_p": 1.0,
    }

    async def whole() -> None:
        answer = await client.chat.completions.create(**asked)
        assert answer.choices[0].message.content and answer.usage

    async def stream() -> None:
        pieces, usage = [], None
        options: Json = {"include_usage": True}
        async for chunk in await client.chat.completions.create(
            **asked, stream=True, stream_options=options
        ):
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage
        assert "".join(pieces) and usage

    yield stream if streamed else whole
    await client.close()


def opened_by_us(folder: str) -> Json:
    from agentflow.settings import load

    return load({"AGENTFLOW_DATA_DIR": folder, "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8"})


def plan_of(base_url: str, streamed: bool) -> Json:
    from agentflow.plan.compile import compile_plan
    from agentflow.spec.check import check

    config = {"provider": "openai", "model": f"wait-{ANSWER_S}", "base_url": base_url}
    config["api_key_env"] = "OPENAI_API_KEY"
    node = {"source": "m", "prompt": PROMPT, "stream": streamed}
    checked = check(
        {
            "nodes": [{"id": "ask", "type": "llm", "metadata": node}],
            "sources": [{"id": "m", "kind": "llm", "config": config}],
            "start_node": "ask",
        }
    )
    assert checked.normalized is not None, checked.errors
    return compile_plan(checked.normalized)


@contextlib.asynccontextmanager
async def source(base_url: str, streamed: bool) -> AsyncIterator[Call]:
    """Our source, opened as a worker opens it."""
    from agentflow.flow.opening import open_connections
    from agentflow.sources.base import Message, ModelRequest

    with tempfile.TemporaryDirectory() as folder:
        connections = open_connections(opened_by_us(folder))
        model: Json = await connections.open(plan_of(base_url, streamed).source("m"), "t1")
        request = ModelRequest(messages=(Message("user", PROMPT),), idempotency_key="k")

        async def call() -> None:
            pieces: list[str] = []
            reply = await model.generate(request, pieces.append if streamed else None)
            assert reply.text and not reply.estimated

        yield call
        await connections.close()


@contextlib.asynccontextmanager
async def worker(base_url: str, streamed: bool) -> AsyncIterator[Call]:
    """A whole worker: a step from its attempt to its report."""
    from agentflow.engine.workers import Attempt, Done
    from agentflow.flow.opening import open_performer

    with tempfile.TemporaryDirectory() as folder:
        performer = open_performer(opened_by_us(folder))
        plan = plan_of(base_url, streamed)
        attempt = Attempt(
            id="a1",
            tenant="t1",
            execution_id="exec_1",
            step="ask",
            attempt=1,
            generation=0,
            epoch=1,
            node=plan.nodes[0],
            view={"user_input": "go", "outputs": {}, "execution": {"id": "exec_1"}},
            fields=(),
            sources=(plan.source("m"),),
        )

        async def call() -> None:
            pieces: list[str] = []
            told = await performer.perform(attempt, pieces.append)
            assert isinstance(told, Done), told

        yield call
        await performer.close()


async def burst(caller: str, streamed: bool, base_url: str, count: int) -> None:
    """All calls at once; prints seconds of the clock, and of the processor for each call."""
    opening = {"bare": bare, "source": source, "worker": worker}[caller]
    async with opening(base_url, streamed) as call:
        await asyncio.gather(*(call() for _ in range(WARM)))
        gc.collect()
        spent, began = time.process_time(), time.perf_counter()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(call() for _ in range(count)))
        makespan = time.perf_counter() - began
        print(json.dumps([makespan, (time.process_time() - spent) / count]))


@contextlib.contextmanager
def provider() -> Iterator[str]:
    """The base URL of a provider in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.provider"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            server.wait(30)


def measured(caller: str, streamed: bool, base_url: str, count: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.calls", caller, str(int(streamed)), base_url]
    environment = {**os.environ, "OPENAI_API_KEY": "sk-of-nobody"}
    done = subprocess.run(
        [*command, str(count)], check=True, stdout=subprocess.PIPE, env=environment, text=True
    )
    makespan, cost = json.loads(done.stdout)
    return makespan, cost


def say(name: str, value: float, bare_value: float, above: float = 0.0) -> None:
    """A figure beside the bare SDK's, of which ``above`` is not the caller's doing."""
    ratio = (value - above) / (bare_value - above)
    line = {"figure": name, "value": round(value, 6), "bare": round(bare_value, 6)}
    print(json.dumps(line | {"ratio": round(ratio, 3), "target_ratio": TARGET}), flush=True)


def compare(streamed: bool, base_url: str, count: int) -> None:
    taken: dict[str, list[tuple[float, float]]] = {caller: [] for caller in CALLERS}
    for _ in range(ROUNDS):
        for caller in CALLERS:
            taken[caller].append(measured(caller, streamed, base_url, count))
    medians = {
        caller: tuple(statistics.median(each) for each in zip(*figures, strict=True))
        for caller, figures in taken.items()
    }
    kind = "streams" if streamed else "whole answers"
    for caller in CALLERS[1:]:
        name = f"{count} {kind} at once through the {caller}"
        say(f"{name}: makespan, s", medians[caller][0], medians["bare"][0], ANSWER_S)
        say(f"{name}: processor for each call, s", medians[caller][1], medians["bare"][1])


def main() -> None:
    if len(sys.argv) == 5:
        caller, streamed, base_url, count = sys.argv[1:]
        asyncio.run(burst(caller, streamed == "1", base_url, int(count)))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    print(json.dumps({"load average": os.getloadavg()[0]}), flush=True)
    with provider() as base_url:
        for streamed in (False, True):
            compare(streamed, base_url, count)
    print(json.dumps({"load average": os.getloadavg()[0]}), flush=True)


if __name__ == "__main__":
    main()
