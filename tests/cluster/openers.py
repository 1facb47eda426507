"""What the actors of these tests open by dotted name: a real performer over nodes made for tests."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from agentflow.engine.workers import Performer
from agentflow.errors import ConfigError, NotSupported
from agentflow.nodes.base import NodeSet, StepContext, StepResult
from agentflow.plan.plan import PlanSource
from agentflow.settings import Settings


class WhereNode:
    """Says where it ran."""

    async def run(self, context: StepContext) -> StepResult:
        import ray

        found = ray.get_runtime_context()
        return StepResult(
            result={
                "pid": os.getpid(),
                "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
                "labels": found.get_node_labels(),
                "resources": found.get_assigned_resources(),
            }
        )


class GateNode:
    """Goes to the test's gate, says who it is, and gives back what it is told there."""

    async def run(self, context: StepContext) -> StepResult:
        reader, writer = await asyncio.open_connection("127.0.0.1", context.options["port"])
        writer.write(f"{context.step}\n".encode())
        try:
            answer = (await reader.readline()).decode().strip()
        finally:
            writer.close()
        return StepResult(result=answer)


class TalkNode:
    """Says a hundred words, one piece each."""

    async def run(self, context: StepContext) -> StepResult:
        words = [f"w{number} " for number in range(100)]
        for word in words:
            context.emit(word)
            await asyncio.sleep(0)
        return StepResult(result="".join(words))


class BusyNode:
    """Computes without ever letting its loop go."""

    async def run(self, context: StepContext) -> StepResult:
        deadline = time.monotonic() + float(context.options["seconds"])
        while time.monotonic() < deadline:
            pass
        return StepResult(result="done")


class EchoNode:
    async def run(self, context: StepContext) -> StepResult:
        return StepResult(result=dict(context.view), delta={"seen": context.step})


async def _no_source(source: PlanSource, tenant: str) -> Any:
    raise NotSupported("These tests have no sources")


async def _nothing_to_close() -> None:
    return None


def open_performer(settings: Settings) -> Performer:
    nodes = {
        "where": WhereNode(),
        "gate": GateNode(),
        "talk": TalkNode(),
        "busy": BusyNode(),
        "echo": EchoNode(),
    }
    return Performer(NodeSet(nodes), _no_source, _nothing_to_close)


def refuse_to_open(settings: Settings) -> Performer:
    raise ConfigError("these tests want it to refuse")
