"""A fork of every example from every one of its nodes ends as the original did, and does again only what
is not reused."""

from __future__ import annotations

import json

import msgspec
import pytest

from agentflow.engine.forking import behind, reusable
from agentflow.engine.inspection import Folding
from agentflow.execution import events as ev
from agentflow.execution.journal import Submission
from agentflow.execution.state import ExecutionState
from agentflow.ids import new_id
from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan
from agentflow.testing import MemoryStore
from tests.crash.test_resume_from_every_prefix import (
    DIAMOND,
    EXAMPLES,
    FAILING,
    NAMES,
    ROUTED,
    answer,
    comparable,
    complete,
    example_answer,
    submission,
)


def fork_of(asked: Submission, events: list[ev.Event], from_node: str, **changes) -> Submission:
    """The fork that the recorded events of an execution allow."""
    plan = compile_plan(asked.spec)
    folding = Folding(ExecutionState(plan, asked.execution_id), lambda key: True)
    for event in events:
        folding.take(event)
    again = msgspec.structs.replace(
        asked, execution_id=new_id("exec"), forked_from=asked.execution_id, **changes
    )
    created = ev.ExecutionCreated(
        at=0.0,
        execution_id=again.execution_id,
        tenant=again.tenant,
        content_hash=again.content_hash,
        initial_state=again.initial_state,
    )
    copies = reusable(folding, events, compile_plan(again.spec), created, from_node)
    return msgspec.structs.replace(again, reused=copies)


def reused_in(asked: Submission) -> set[str]:
    return {event.step for event in asked.reused if isinstance(event, ev.StepCompleted)}


async def forks_end_alike(asked: Submission, reply) -> None:
    store = MemoryStore()
    await complete(store, asked, accept=True, reply=reply)
    events, expected = store.events[asked.execution_id], comparable(store, asked.execution_id)
    plan: Plan = compile_plan(asked.spec)
    for node in plan.nodes:
        fork = fork_of(asked, events, node.id)
        workers = await complete(store, fork, accept=True, reply=reply)
        status, state, _ = comparable(store, fork.execution_id)
        for billed in ("tokens_used", "cost"):
            state[billed] = expected[1][billed]
        assert [status, state] == expected[:2], f"fork from {node.id}"
        called = {attempt.step for attempt in workers.calls}
        assert not called & reused_in(fork)
        assert not {step.partition("@")[0] for step in reused_in(fork)} & behind(plan, node.id)


@pytest.mark.parametrize(
    "document", [DIAMOND, ROUTED, FAILING], ids=["diamond", "routed", "failing"]
)
async def test_fork_from_any_node_ends_as_the_original(document):
    await forks_end_alike(submission(document), answer)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "race"])
async def test_fork_of_an_example_from_any_node_ends_as_the_original(name):
    document = json.loads((EXAMPLES / f"{name}.json").read_text())
    asked = submission(document, json.loads((EXAMPLES / f"{name}.input.json").read_text()))
    await forks_end_alike(asked, example_answer)


async def test_fork_reuses_the_branch_that_is_not_behind_its_node_and_bills_nothing_for_it():
    asked, store = submission(DIAMOND), MemoryStore()
    await complete(store, asked, accept=True)
    fork = fork_of(asked, store.events[asked.execution_id], "left")
    assert reused_in(fork) == {"ask", "right"}
    workers = await complete(store, fork, accept=True)
    assert sorted(attempt.step for attempt in workers.calls) == ["deep", "left"]
    assert store.outcomes[fork.execution_id].tokens_used == 14
    created, _, *_ = store.events[fork.execution_id]
    assert created.forked_from == asked.execution_id


async def test_fork_with_a_changed_field_reuses_nothing_that_reads_it():
    asked, store = submission(DIAMOND), MemoryStore()
    await complete(store, asked, accept=True)
    changed = {"user_input": "another question"}
    fork = fork_of(asked, store.events[asked.execution_id], "join", initial_state=changed)
    assert reused_in(fork) <= {"ask"}
    workers = await complete(store, fork, accept=True)
    assert {attempt.step for attempt in workers.calls} == {"left", "right", "deep"}


async def test_fork_survives_the_loss_of_its_owner_at_any_commit():
    asked, store = submission(DIAMOND), MemoryStore()
    await complete(store, asked, accept=True)
    fork = fork_of(asked, store.events[asked.execution_id], "deep")
    await complete(store, fork, accept=True)
    whole, expected = store.events[fork.execution_id], comparable(store, fork.execution_id)
    for length in range(len(fork.reused) + 2, len(whole)):
        again = MemoryStore()
        again.submissions[fork.execution_id] = fork
        again.events[fork.execution_id] = list(whole[:length])
        workers = await complete(again, fork, accept=False)
        assert comparable(again, fork.execution_id) == expected
        assert {attempt.step for attempt in workers.calls} <= {"deep"}


def test_journals_from_before_forks_are_still_read():
    old = b'{"type":"step.completed","at":1.0,"step":"a","result":{"text":"x"}}'
    event = ev.decode(old)
    assert isinstance(event, ev.StepCompleted) and event.reused_from == ""
    assert ev.encode(event) == old
