"""What the steps of the workloads do, as node code that a worker finds where it finds any other.

Steps are nodes of type ``llm``, whose effects are idempotent: the engine commits each one, retries it,
and gives it a key, as it does for a model's call. Only the call itself is replaced. The prompt says by what:
nothing, ``sleep S``, ``log N S`` (write to the file of the recovery workload, then sleep), ``gate N S`` (wait
until N of them wait, and S seconds more) or ``carry N`` (give on the text that was read, changed by one
character).
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from agentflow.engine.workers import Performer
from agentflow.nodes.base import NodeSet, StepContext, StepResult
from agentflow.plan.plan import PlanSource
from agentflow.settings import Settings
from agentflow.sources.base import Source
from benchmarks.peers import serving
from benchmarks.peers.driving import Gate

CARRIED = "carried"
"""The field that the steps of the payload workload read and write."""


@functools.lru_cache(16)
def words(prompt: str) -> tuple[str, tuple[str, ...]]:
    """What the prompt says, and by how much; read once, as it is for every execution the same."""
    what, *rest = prompt.split()
    return what, tuple(rest)


class Body:
    """The code of a step. ``folder``: where the recovery workload keeps its file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gate = Gate()

    async def run(self, context: StepContext) -> StepResult:
        what, rest = words(str(context.options["prompt"]))
        text = "done"
        if what == "sleep":
            await asyncio.sleep(float(rest[0]))
        elif what == "log":
            serving.log_step(self._folder, context.execution_id, int(rest[0]))
            await asyncio.sleep(float(rest[1]))
        elif what == "gate":
            await self._gate.wait(int(rest[0]), float(rest[1]))
        elif what == "carry":
            return StepResult(delta={CARRIED: rest[0] + context.view[CARRIED][1:]})
        return StepResult(result={"text": text}, delta={})


async def _no_source(source: PlanSource, tenant: str) -> Source:
    raise NotImplementedError("The steps of the workloads call nobody")


async def _nothing() -> None:
    return None


def open_performer(settings: Settings) -> Performer:
    """What a worker process needs to run the steps of the workloads."""
    return Performer(NodeSet({"llm": Body(settings.data_dir.parent)}), _no_source, _nothing)
