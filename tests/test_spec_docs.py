"""docs/spec.md is what the code does: every example is checked, and executed where it says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel

from agentflow.execution.journal import Outcome, Submission
from agentflow.flow import open_nodes
from agentflow.ids import new_id
from agentflow.spec import models
from agentflow.spec.check import check
from agentflow.spec.kinds import sources
from agentflow.spec.kinds.catalogue import NODE_TYPES, node_kind
from agentflow.spec.models import content_hash
from agentflow.spec.problems import MEANING, TYPE_OF
from agentflow.spec.schema import workflow_schema
from agentflow.testing import MemoryStore, ScriptedWorkers, memory_engine
from docs.generate_spec import PAGE, Example, build, checked, examples

Json = Any
EXAMPLES = list(examples(PAGE.read_text("utf-8")))


def of_kind(kind: str) -> Any:
    """The examples of this kind, as parameters named after their line."""
    chosen = [example for example in EXAMPLES if example.kind == kind]
    return pytest.mark.parametrize("example", chosen, ids=lambda e: f"line-{e.line}")


def test_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == build(), "run docs/generate_spec.py"


def test_every_block_is_an_example():
    fences = PAGE.read_text("utf-8").count("\n```json\n") + PAGE.read_text("utf-8").count(
        "\n```text\n"
    )
    assert len(EXAMPLES) == fences


def test_every_placeholder_is_filled():
    assert "<!-- table" not in PAGE.read_text("utf-8")


def test_every_code_has_its_meaning_and_its_example():
    assert list(MEANING) == sorted(TYPE_OF)
    shown = {example.note for example in EXAMPLES if example.kind == "problem"}
    assert shown == set(TYPE_OF)


@of_kind("valid")
def test_valid_example_has_no_errors(example: Example):
    assert checked(example).errors == ()


@of_kind("problem")
def test_problem_example_has_this_problem_only(example: Example):
    outcome = checked(example)
    found = outcome.errors if example.note.startswith("E") else outcome.warnings
    assert {problem.code for problem in found} == {example.note}
    assert outcome.valid != example.note.startswith("E")


@of_kind("executes")
async def test_executed_example_ends_as_it_says(example: Example):
    outcome = checked(example)
    assert outcome.errors == ()
    wanted = json.loads(example.note)
    ended = await _executed(outcome.normalized, wanted.get("input", {}))
    assert ended.status == wanted.get("status", "completed"), ended.error
    assert (ended.error or {}).get("type") == wanted.get("error")
    if "output" in wanted:
        assert ended.output == wanted["output"]
    found = {path: _at(ended.final_state, path) for path in wanted.get("state", {})}
    assert found == wanted.get("state", {})


@pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if e.kind != "problem"], ids=lambda e: f"line-{e.line}"
)
def test_valid_example_fits_the_schema_as_it_is_written(example: Example):
    schema = jsonschema_rs.Draft202012Validator(workflow_schema())
    document = json.loads(example.text)
    assert [(e.instance_path, e.message) for e in schema.iter_errors(document)] == []


def every_model() -> Iterator[type[BaseModel]]:
    """The models of documents, of configurations and of options, those inside them included."""
    todo: list[type[BaseModel]] = [models.WorkflowSpec, *sources.CONFIGS.values()]
    todo += [kind.options for name in NODE_TYPES if (kind := node_kind(name)) and kind.options]
    seen: set[type[BaseModel]] = set()
    while todo:
        model = todo.pop()
        if model in seen:
            continue
        seen.add(model)
        yield model
        for field in model.model_fields.values():
            todo += [each for each in _inside(field.annotation) if each not in seen]


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _inside(part)


@pytest.mark.parametrize("model", list(every_model()), ids=lambda model: model.__name__)
def test_every_field_of_a_model_is_described(model: type[BaseModel]):
    silent = [name for name, field in model.model_fields.items() if not field.description]
    assert silent == []


async def _executed(normalized: Json, initial_state: Json) -> Outcome:
    """How an execution of the workflow ends, with every step in this process."""
    store = MemoryStore()
    asked = Submission(
        execution_id=new_id("exec"),
        tenant="ten_docs",
        content_hash=content_hash(normalized),
        spec=normalized,
        initial_state=initial_state,
    )
    engine = memory_engine(store, ScriptedWorkers(_no_work), open_nodes())
    await engine.start()
    try:
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    finally:
        await engine.close()
    return store.outcomes[asked.execution_id]


def _no_work(attempt: Any) -> Any:
    raise AssertionError(f"{attempt.step} left the coordinator")


def _at(state: Json, path: str) -> Json:
    """The value at a dotted path; None where there is none."""
    value = state
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


@pytest.mark.parametrize(
    ("text", "taken"), [("a", ["left"]), ("b", ["right"]), ("ab", ["left", "right"])]
)
async def test_of_two_conditional_edges_from_one_router_only_true_ones_are_taken(
    text: str, taken: list[str]
):
    document = {
        "start_node": "route",
        "nodes": [
            {"id": "route", "type": "router"},
            {"id": "left", "type": "input"},
            {"id": "right", "type": "input"},
        ],
        "edges": [
            {"from": "route", "to": "left", "condition": "user_input.contains('a')"},
            {"from": "route", "to": "right", "condition": "user_input.contains('b')"},
        ],
    }
    outcome = check(document)
    assert outcome.valid
    ended = await _executed(outcome.normalized, {"user_input": text})
    assert ended.final_state["execution_path"] == ["route", *taken]
