"""Recovery: a contender is killed in step 11 of 20, and the next step is waited for.

The steps write a line each to a file when they begin, so the file tells when work went on, whoever does it.
A contender that names a standby goes on by itself; any other is started anew at once. After the end each step
must have begun once, but for the one that was interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from benchmarks.peers import serving
from benchmarks.suite.contender import Command, ContenderFailed, started
from benchmarks.suite.usage import tree
from benchmarks.suite.workloads import is_void

if TYPE_CHECKING:
    from benchmarks.suite.rounds import Rows

Json = Any
NAME = "recovery"
KILLED_IN = 11
WITHIN_S = 180.0
PAUSE_S = 0.005


class Line(NamedTuple):
    """A step began."""

    at: float
    execution: str
    step: str


def lines(log: Path) -> list[Line]:
    """What the file holds; a line that is just being written is left out."""
    try:
        text = log.read_text()
    except FileNotFoundError:
        return []
    found = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        at, execution, step = line.split()
        found.append(Line(float(at), execution, step))
    return found


async def begun(log: Path, count: int) -> list[Line]:
    """The lines, once there are so many. Raises ContenderFailed."""
    end_at = time.monotonic() + WITHIN_S
    while len(found := lines(log)) < count:
        if time.monotonic() > end_at:
            raise ContenderFailed(f"Step {count} did not begin within {WITHIN_S:g} s")
        await asyncio.sleep(PAUSE_S)
    return found


async def once(command: Command, folder: Path, dsn: str, rows: Rows) -> None:
    """Kill once; note the seconds to the next step and how many finished steps were done again."""
    key = (command.name, NAME)
    try:
        async with contextlib.AsyncExitStack() as stack:
            figures = await _measured(stack, command, folder, dsn)
    except ContenderFailed as failure:
        rows.trouble[key] = str(failure)
    else:
        if isinstance(figures, str):
            rows.unsupported[key] = figures
            return
        rows.figures[key].append(figures)
        rows.samples.append({"contender": command.name, "workload": NAME, "answer": figures})


async def _measured(
    stack: contextlib.AsyncExitStack, command: Command, folder: Path, dsn: str
) -> dict[str, float] | str:
    log = folder / "steps.log"
    first = await stack.enter_async_context(started(command, folder, dsn))
    asked = asyncio.create_task(first.told(NAME, {"rounds": 1}))
    beginning = asyncio.create_task(begun(log, KILLED_IN))
    await asyncio.wait({asked, beginning}, return_when=asyncio.FIRST_COMPLETED)
    if asked.done():  # it cannot, or it has ended before it should
        beginning.cancel()
        answer = asked.result()
        if "unsupported" in answer:
            return str(answer["unsupported"])
        raise ContenderFailed(f"{command.name} answered {json.dumps(answer)} before it was killed")
    before = await beginning
    await asyncio.sleep(serving.RECOVERY_STEP_S / 2)
    stack.callback(_end, tree(first.pids))
    asked.cancel()
    killed_at = time.time()
    first.kill()
    if first.facts.get("standby"):
        await begun(log, len(before) + 1)
    second = await stack.enter_async_context(started(command, folder, dsn))
    going_on = asyncio.create_task(
        second.told("recover", {})
    )  # some go on only when they are told to
    stack.callback(going_on.cancel)
    after = await begun(log, len(before) + 1)
    answer = await going_on
    return _judged(answer, lines(log), before, after[len(before)].at - killed_at)


def _judged(answer: Json, all_: list[Line], before: list[Line], seconds: float) -> dict[str, float]:
    if "error" in answer or "unsupported" in answer:
        raise ContenderFailed(f"It did not go on: {answer}")
    if void := is_void(answer):
        raise ContenderFailed(void)
    times = Counter(line.step for line in all_)
    interrupted = before[-1].step
    repeated = sum(count - 1 for step, count in times.items() if step != interrupted)
    if len(times) < serving.RECOVERY_STEPS:
        raise ContenderFailed(f"void: {len(times)} of {serving.RECOVERY_STEPS} steps were done")
    return {"to_next_step_s": seconds, "finished_steps_repeated": float(repeated)}


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
