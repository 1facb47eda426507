"""LangGraph's runtime and our engine end in the same state, for workflows of random shape."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from hypothesis import HealthCheck, Phase, given, settings

from tests.oracle.happened import rare, table, used
from tests.oracle.runtimes import compiled, differences, on_langgraph, our_engine
from tests.oracle.workflows import Workflow, make, workflows
from tests.soak import cases

SHRINKING = (Phase.shrink,) if cases(1) > 1 else ()
"""Making a workflow smaller takes minutes: it is left to the soak."""


async def test_engine_agrees_with_langgraph_on_every_feature(capsys):
    count = cases(100)
    counts: Counter[str] = Counter()
    failed = 0
    async with our_engine() as engine:
        for seed in range(count):
            workflow = make(Random(seed))
            normalized, plan = compiled(workflow)
            theirs, steps = await on_langgraph(plan, workflow)
            ours = await engine.execute(normalized, workflow, Random(seed))
            assert differences(ours, theirs) == [], f"make(Random({seed}))"
            counts.update(used(plan, steps))
            failed += theirs.failed
    with capsys.disabled():
        print(f"\n{table(counts, count)}\n{'failed':<24} {failed:>5} of {count}")
    assert rare(counts, count) == []
    assert failed < count / 2, "what a failed execution did is compared in part only"


@settings(
    max_examples=cases(12),
    deadline=None,
    derandomize=True,
    phases=(Phase.generate, *SHRINKING),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(workflow=workflows())
def test_engine_agrees_with_langgraph_on_workflows_that_can_be_made_smaller(workflow: Workflow):
    assert asyncio.run(_compared(workflow)) == []


async def _compared(workflow: Workflow) -> list[str]:
    normalized, plan = compiled(workflow)
    theirs, _ = await on_langgraph(plan, workflow)
    async with our_engine() as engine:
        return differences(await engine.execute(normalized, workflow, Random(1)), theirs)
