"""Who is tried again alone after a worker died, and the workers that are there for it."""

from __future__ import annotations

from agentflow.distributed.placement import WorkerSpec, alone_prefix, alone_workers
from agentflow.distributed.suspects import FEW, REMEMBERED, Suspects
from agentflow.engine.workers import Attempt
from agentflow.plan.plan import PlanNode, Retry


def attempt(step: str, losses: int = 0) -> Attempt:
    node = PlanNode(
        index=0,
        id=step,
        type="llm",
        options={},
        rank=0,
        placement="io",
        effects="idempotent",
        retry=Retry(),
    )
    return Attempt(
        id=f"exec/{step}/0/{losses + 1}",
        tenant="default",
        execution_id="exec",
        step=step,
        attempt=losses + 1,
        generation=0,
        epoch=1,
        node=node,
        view={},
        fields=(),
        sources=(),
        losses=losses,
    )


def test_few_that_were_lost_together_are_tried_alone_once():
    suspects = Suspects()
    suspects.lost([attempt("a"), attempt("b")])
    assert suspects.alone(attempt("a", 1)) and suspects.alone(attempt("b", 1))
    assert not suspects.alone(attempt("a", 1)) and not suspects.alone(attempt("c"))


def test_many_that_were_lost_together_are_tried_together_once_more_and_then_alone():
    suspects = Suspects()
    lost = [attempt(f"s{number}") for number in range(FEW + 1)]
    suspects.lost(lost)
    assert not any(suspects.alone(attempt(each.step, 1)) for each in lost)
    assert all(suspects.alone(attempt(each.step, 2)) for each in lost)


def test_suspects_whose_next_attempt_never_comes_are_forgotten():
    suspects = Suspects()
    for number in range(REMEMBERED + 1):
        suspects.lost([attempt(f"s{number}")])
    assert not suspects.alone(attempt("s0", 1)) and suspects.alone(attempt("s1", 1))


def test_workers_for_single_attempts_are_named_after_their_pool_and_coordinator():
    io = WorkerSpec("af/io/10.0.0.1", {"num_cpus": 0}, 1000, "node")
    found = alone_workers(io, "af/coordinator/0")
    assert found[0] == WorkerSpec(
        "af/io/alone/coordinator/0/1", {"num_cpus": 0}, 1, None, alone=True
    )
    assert len({spec.name for spec in found}) == len(found) == 4
    assert all(spec.name.startswith(alone_prefix(io)) for spec in found)
    zoned = WorkerSpec("af/pool/zone=eu", {"label_selector": {"zone": "eu"}}, 1000)
    assert alone_workers(zoned, "c")[0].name == "af/pool/zone=eu/alone/c/1"
