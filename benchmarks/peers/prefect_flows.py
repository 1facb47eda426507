"""The flows of the Prefect adapter, imported once its settings are in the environment."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

from benchmarks.peers import serving
from benchmarks.peers.driving import Gate

FOLDER = "BENCH_PREFECT_FOLDER"
KEPT: dict[str, Any] = {"persist_result": True, "cache_policy": INPUTS + TASK_SOURCE}
"""A task's result is in a file before the flow goes on, under a key of the task and its inputs."""
GATE = Gate()


@task(name="nothing", **KEPT)
async def nothing(execution: str, number: int) -> str:
    return "done"


@task(name="sleep", **KEPT)
async def sleep(execution: str, number: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@task(name="carry", **KEPT)
async def carry(execution: str, text: str, number: int) -> str:
    return f"{number}{text[1:]}"


@task(name="log", **KEPT)
async def log(execution: str, number: int) -> str:
    serving.log_step(Path(os.environ[FOLDER]), execution, number)
    await asyncio.sleep(serving.RECOVERY_STEP_S)
    return "done"


@task(name="wait", **KEPT)
async def wait(execution: str, until: int) -> str:
    await GATE.wait(until)
    return "done"


@flow(flow_run_name="{execution}", validate_parameters=False)
async def chain10(execution: str) -> None:
    for number in range(serving.CHAIN_STEPS):
        await nothing(execution, number)


@flow(flow_run_name="{execution}", validate_parameters=False)
async def fan(execution: str, width: int, step_s: float) -> None:
    await nothing(execution, 0)
    numbers = range(1, width + 1)
    if step_s:
        await asyncio.gather(*(sleep(execution, str(number), step_s) for number in numbers))
    else:
        await asyncio.gather(*(nothing(execution, number) for number in numbers))
    await nothing(execution, width + 1)


async def branch(execution: str, name: str) -> None:
    for position in range(6):
        await sleep(execution, f"{name}{position}", serving.branch_seconds(name, position))


@flow(flow_run_name="{execution}", validate_parameters=False)
async def uneven(execution: str) -> None:
    await asyncio.gather(*(branch(execution, name) for name in serving.UNEVEN_SLOW_AT))
    await nothing(execution, 0)


@flow(flow_run_name="{execution}", validate_parameters=False)
async def payload(execution: str) -> None:
    text = serving.payload_text()
    for number in range(serving.PAYLOAD_STEPS):
        text = await carry(execution, text, number)


@flow(flow_run_name="{execution}", validate_parameters=False)
async def recovery(execution: str) -> None:
    for number in range(serving.RECOVERY_STEPS):
        await log(execution, number)


@flow(flow_run_name="{execution}", validate_parameters=False)
async def gate(execution: str, until: int) -> None:
    await wait(execution, until)
