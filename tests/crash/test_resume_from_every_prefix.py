"""The first crash test: cut the journal at every prefix, let another coordinator go on, compare."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agentflow.engine.engine import Engine
from agentflow.errors import SourceNotFound
from agentflow.execution import events as ev
from agentflow.execution.journal import Submission
from agentflow.execution.views import final_state
from agentflow.flow import open_nodes
from agentflow.ids import new_id
from agentflow.nodes.base import StepResult
from agentflow.plan.compile import compile_plan
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.testing import Answered, MemoryStore, ScriptedWorkers, memory_engine
from tests.oracle.script import without_times

SOURCE = {"id": "m", "kind": "llm", "config": {"provider": "local", "model": "smollm2"}}


def llm(node_id: str, prompt: str = "{user_input}", **more) -> dict:
    metadata = {"source": "m", "prompt": prompt, "output_key": f"{node_id}_text"}
    return {"id": node_id, "type": "llm", "metadata": metadata, **more}


DIAMOND = {
    "nodes": [
        {"id": "ask", "type": "input"},
        llm("left"),
        llm("right"),
        llm("deep", "{left_text}"),
        {
            "id": "join",
            "type": "aggregator",
            "metadata": {"source_keys": ["outputs.deep", "outputs.right"]},
        },
    ],
    "edges": [
        {"from": "ask", "to": ["left", "right"]},
        {"from": "left", "to": "deep"},
        {"from": "deep", "to": "join"},
        {"from": "right", "to": "join"},
    ],
    "sources": [SOURCE],
    "start_node": "ask",
}

ROUTED = {
    "nodes": [
        {
            "id": "route",
            "type": "router",
            "metadata": {
                "strategy": "keyword",
                "routes": [
                    {"intent": "billing", "keywords": ["invoice"]},
                    {"intent": "technical", "keywords": ["error"]},
                ],
            },
        },
        llm("billing"),
        llm("technical"),
        llm("other"),
        {"id": "join", "type": "aggregator", "metadata": {"strategy": "merge"}},
    ],
    "edges": [
        {"from": "route", "to": "billing", "condition": "intent == 'billing'"},
        {"from": "route", "to": "technical", "condition": "intent == 'technical'"},
        {"from": "route", "to": "other", "condition": "else"},
        {"from": "billing", "to": "join"},
        {"from": "technical", "to": "join"},
        {"from": "other", "to": "join"},
    ],
    "sources": [SOURCE],
    "start_node": "route",
}

FAILING = {**DIAMOND, "nodes": [*DIAMOND["nodes"]]}
FAILING["nodes"][1] = llm("left", on_error="continue")


EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(
    path.stem for path in EXAMPLES.glob("*.json") if not path.name.endswith(".input.json")
)
RIGHT = {"product": "desk lamps", "quantity": 45, "city": "Graz"}
SCRIPT = {
    "extract@1": {**RIGHT, "product": "an elephant"},
    "extract@2": {**RIGHT, "quantity": 0},
    "extract@3": RIGHT,
    "critic@1.1": {"advice": "shorter"},
    "critic@1.2": {"advice": "keep"},
    "critic@2.1": {"advice": "shorter"},
    "critic@2.2": {"advice": "simpler"},
    "critic@2.3": {"advice": "shorter"},
    "model": "advice",
    "mood": {"mood": "angry"},
    "kind": {"kind": "problem"},
    "billing": {"topic": "refund"},
    "shelf": {"shelf": "kitchen"},
}
"""What steps of the examples write where a text will not do. Both loops of report are used, the inner
one past its bound."""
ANSWERS = {"approve/0": {"approved": True}, "sent/0": {"id": "m-1"}}
"""What the waits of the examples are answered with."""
REACHED = {
    "approval": {"draft", "approve", "sent", "done"},
    "extract_order": {"extract@3", "booked"},
    "hello": {"answer"},
    "long_brief": {"brief"},
    "product_page": {"page"},
    "race": {"quick", "answer"},
    "report": {"write@1.2", "write@2.3", "keep@2", "report"},
    "rules_first": {"model", "advice", "answer"},
    "support_triage": {"billing", "ticket"},
    "when_it_fails": {"spare_answer", "reply"},
}
"""What must have been done, so that the script leads where it should."""
LOSES = "plan"
"""The step of race that never ends by itself."""


def answer(attempt) -> StepResult:
    """Deterministic work: the result depends on what the step sees and on nothing else."""
    text = f"{attempt.step}<{json.dumps(attempt.view, sort_keys=True)}>"
    text = text.replace(attempt.execution_id, "ID")
    return Answered(
        result={"text": text},
        delta={attempt.node.output_key: text},
        calls=(ev.ModelCall("m", "local", "smollm2", ev.Usage(3, 4)),),
    )


async def example_answer(attempt) -> StepResult:
    """As :func:`answer`, for the examples."""
    if attempt.node.options.get("source") == "large":
        raise SourceNotFound("There is no large model")
    if attempt.step == LOSES:
        await asyncio.Event().wait()
    scripted = SCRIPT.get(attempt.step)
    if scripted is None:
        return answer(attempt)
    return Answered(
        result={"data": scripted},
        delta={attempt.node.output_key: scripted},
        calls=(ev.ModelCall("m", "local", "smollm2", ev.Usage(5, 6)),),
    )


def submission(document: dict, initial_state: dict | None = None) -> Submission:
    checked = check(document)
    assert checked.valid, checked.errors
    return Submission(
        execution_id=new_id("exec"),
        tenant="ten_x",
        content_hash=content_hash(checked.normalized),
        spec=checked.normalized,
        initial_state=initial_state or {"user_input": "the invoice is wrong"},
    )


def comparable(store: MemoryStore, execution_id: str) -> dict:
    outcome = store.outcomes[execution_id]
    state = {key: value for key, value in outcome.final_state.items() if key != "execution_time"}
    state["errors"] = without_times(state["errors"])
    text = json.dumps([outcome.status, state | {"metadata": {}}, outcome.tokens_used], default=str)
    return json.loads(text.replace(execution_id, "ID"))


async def until_over(store: MemoryStore, engine: Engine, asked: Submission) -> None:
    """Wait for the end, and answer whatever it waits for on the way."""
    key = asked.execution_id
    while key not in store.outcomes:
        await store.until(lambda: key in store.outcomes or bool(store.open_waits()))
        for name in store.open_waits():
            store.answer(*name, ANSWERS[name[1]], at=0.0)
            engine.nudge(key)


async def complete(
    store: MemoryStore, asked: Submission, *, accept: bool, reply=answer
) -> ScriptedWorkers:
    workers = ScriptedWorkers(reply)
    engine = memory_engine(store, workers, open_nodes())
    await engine.start()
    try:
        if accept:
            await engine.accept(asked)
        await until_over(store, engine, asked)
    finally:
        await engine.close()
    return workers


async def resume_from_every_prefix(asked: Submission, reply) -> list[ev.Event]:
    """Check the outcome and the work done again for every cut; the whole journal."""
    whole = MemoryStore()
    await complete(whole, asked, accept=True, reply=reply)
    events = whole.events[asked.execution_id]
    expected = comparable(whole, asked.execution_id)
    assert expected[0] == "completed"
    for length in range(1, len(events) + 1):
        prefix = events[:length]
        store = MemoryStore()
        store.recall(asked, prefix)
        finished = {event.step for event in prefix if isinstance(event, ev.TERMINAL_STEP)}
        if isinstance(prefix[-1], ev.TERMINAL_EXECUTION):
            continue
        workers = await complete(store, asked, accept=False, reply=reply)
        assert comparable(store, asked.execution_id) == expected, f"prefix of {length}"
        assert not finished & {attempt.step for attempt in workers.calls}
    return events


@pytest.mark.parametrize(
    "document", [DIAMOND, ROUTED, FAILING], ids=["diamond", "routed", "failing"]
)
async def test_execution_resumes_to_the_same_end_from_every_prefix_of_its_journal(document):
    await resume_from_every_prefix(submission(document), answer)


@pytest.mark.parametrize("name", NAMES)
async def test_example_resumes_to_the_same_end_from_every_prefix_of_its_journal(name):
    document = json.loads((EXAMPLES / f"{name}.json").read_text())
    asked = submission(document, json.loads((EXAMPLES / f"{name}.input.json").read_text()))
    events = await resume_from_every_prefix(asked, example_answer)
    done = {event.step for event in events if isinstance(event, ev.StepCompleted)}
    assert done >= REACHED[name]


async def test_execution_goes_on_under_another_coordinator_when_its_owner_is_fenced_at_any_commit():
    asked = submission(DIAMOND)
    whole = MemoryStore()
    await complete(whole, asked, accept=True)
    expected = comparable(whole, asked.execution_id)
    accepted_with = 5  # created, started, the inline input step, and two released steps
    for limit in range(accepted_with, len(whole.events[asked.execution_id])):
        store = MemoryStore()
        first = ScriptedWorkers(answer)
        engine = memory_engine(store, first, open_nodes(), lose_owner_after=limit)
        await engine.start()
        await engine.accept(asked)
        async with asyncio.timeout(10):
            while engine.active:
                await asyncio.sleep(0)
        await engine.close()
        committed = store.events[asked.execution_id]
        done = {event.step for event in committed if isinstance(event, ev.StepCompleted)}
        second = await complete(store, asked, accept=False)
        assert comparable(store, asked.execution_id) == expected
        assert not done & {attempt.step for attempt in second.calls}


async def test_recorded_journal_folds_without_evaluating_anything():
    asked = submission(ROUTED)
    store = MemoryStore()
    await complete(store, asked, accept=True)
    from agentflow.execution.fold import fold
    from agentflow.execution.state import ExecutionState

    state = fold(
        ExecutionState(compile_plan(asked.spec), asked.execution_id),
        store.events[asked.execution_id],
    )
    assert json.loads(json.dumps(final_state(state))) == json.loads(
        json.dumps(store.outcomes[asked.execution_id].final_state)
    )
