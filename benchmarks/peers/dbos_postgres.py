"""DBOS: a step's output is a row of PostgreSQL, committed before the workflow's code goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import psycopg
from dbos import DBOS, DBOSConfig, SetWorkflowID

from benchmarks.peers import serving
from benchmarks.peers.driving import Driver, Gate
from benchmarks.peers.serving import Arguments, Contender, Json, serve

POOL = 20
SETTING = (
    f"async workflows and steps in one process, sys_db_pool_size={POOL}, LISTEN/NOTIFY; "
    "fan by asyncio.gather, branches of uneven as child workflows"
)
PAGE = "https://docs.dbos.dev/python/reference/configuration"
COUNT = """
    SELECT count(*) FROM dbos.operation_outputs
    WHERE starts_with(workflow_uuid, %s) AND starts_with(function_name, 'step_')
"""
FOLDER: list[Path] = []
GATE = Gate()


@DBOS.step(name="step_nothing")
async def nothing() -> str:
    return "done"


@DBOS.step(name="step_sleep")
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@DBOS.step(name="step_carry")
async def carry(text: str, number: int) -> str:
    return f"{number}{text[1:]}"


@DBOS.step(name="step_log")
async def log(execution: str, number: int) -> str:
    serving.log_step(FOLDER[0], execution, number)
    await asyncio.sleep(serving.RECOVERY_STEP_S)
    return "done"


@DBOS.step(name="step_wait")
async def wait(until: int) -> str:
    await GATE.wait(until)
    return "done"


@DBOS.workflow()
async def chain10(given: Json) -> None:
    for _ in range(serving.CHAIN_STEPS):
        await nothing()


@DBOS.workflow()
async def fan(given: Json) -> None:
    await nothing()
    seconds = given["step_s"]
    width = range(given["width"])
    await asyncio.gather(*(sleep(seconds) if seconds else nothing() for _ in width))
    await nothing()


@DBOS.workflow()
async def branch(name: str) -> None:
    for position in range(6):
        await sleep(serving.branch_seconds(name, position))


@DBOS.workflow()
async def uneven(given: Json) -> None:
    started = [await DBOS.start_workflow_async(branch, name) for name in serving.UNEVEN_SLOW_AT]
    await asyncio.gather(*(handle.get_result() for handle in started))
    await nothing()


@DBOS.workflow()
async def payload(text: str) -> None:
    for number in range(serving.PAYLOAD_STEPS):
        text = await carry(text, number)


@DBOS.workflow()
async def recovery(execution: str) -> None:
    for number in range(serving.RECOVERY_STEPS):
        await log(execution, number)


@DBOS.workflow()
async def gate(given: Json) -> None:
    await wait(given["until"])


class Library:
    """DBOS, launched in this process."""

    def __init__(self, arguments: Arguments) -> None:
        self._dsn = arguments.dsn

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        with SetWorkflowID(execution):
            if workflow == "payload":
                await payload(serving.payload_text())
            elif workflow == "recovery":
                await recovery(execution)
            else:
                known = {"chain10": chain10, "fan": fan, "uneven": uneven, "gate": gate}
                await known[workflow](given)

    async def resume(self, execution: str) -> None:
        """DBOS took it up when it was launched."""
        handle = await DBOS.retrieve_workflow_async(execution)
        await handle.get_result()

    async def persisted(self, run: str, expected: int) -> int:
        async with await psycopg.AsyncConnection.connect(self._dsn) as connection:
            row = await (await connection.execute(COUNT, (run,))).fetchone()
        assert row is not None
        return row[0]


@asynccontextmanager
async def start(arguments: Arguments) -> AsyncIterator[Contender]:
    config: DBOSConfig = {
        "name": "bench-peer",
        "system_database_url": arguments.dsn,
        "sys_db_pool_size": POOL,
        "log_level": "WARNING",
    }
    FOLDER.append(arguments.folder)
    DBOS(config=config)
    DBOS.launch()
    try:
        facts = {
            "system": "DBOS",
            "version": version("dbos"),
            "setting": SETTING,
            "page": PAGE,
            "persisted_before_next_step": "the step's output, a row of its own, committed in PostgreSQL",
            "pids": [],
        }
        yield Contender(facts, Driver(Library(arguments)).workloads())
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    serve(start)
