"""The key of a result: whatever decides a step's result changes it, and nothing else does."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.execution.caching import is_makeshift, result_key
from agentflow.execution.events import ExecutionCreated, ExecutionStarted
from agentflow.execution.fold import apply
from agentflow.execution.state import ExecutionState
from agentflow.execution.views import view
from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan
from agentflow.spec.check import check
from agentflow.spec.templates import render

Json = Any
PROMPT = "of {user_input} and {facts.first} for {outputs.search.text}"
SOURCE = {
    "id": "m",
    "kind": "llm",
    "config": {
        "provider": "openai-compatible",
        "model": "m",
        "base_url": "http://m.example/v1",
        "api_key_env": "OPENAI_API_KEY",
    },
}
VIEW = {
    "user_input": "bees",
    "facts": {"first": 1, "second": 2},
    "outputs": {"search": {"text": "found", "cost": 0.1}, "other": {"text": "x"}},
    "errors": [],
    "execution": {"id": "exec_1", "attempt": 1},
}
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def document(**metadata: Json) -> dict[str, Json]:
    options = {"source": "m", "prompt": PROMPT, **metadata}
    return {
        "nodes": [
            {"id": "search", "type": "llm", "metadata": {"source": "m"}},
            {"id": "ask", "type": "llm", "metadata": options, "cache": {"ttl_s": 60}},
        ],
        "edges": [{"from": "search", "to": "ask"}, {"from": "ask", "to": "end", "condition": "cost < 1"}],
        "sources": [copy.deepcopy(SOURCE)],
        "state": {"facts": {"type": "object"}},
        "start_node": "search",
    }  # fmt: skip


def compiled(spec: dict[str, Json]) -> Plan:
    found = check(spec)
    assert found.normalized is not None, found.errors
    return compile_plan(found.normalized)


def key(
    plan: Plan, seen: dict[str, Json] = VIEW, tenant: str = "ten_a", node: str = "ask"
) -> bytes:
    chosen = plan.node(node)
    sources = [plan.source(name) for name in chosen.sources]
    return result_key(tenant, chosen, sources, plan.fields, seen)


PLAN = compiled(document())


def changed(path: tuple[str, ...], value: Json) -> dict[str, Json]:
    """The view with another value at a path."""
    found = copy.deepcopy(VIEW)
    inside: Json = found
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    return found


@given(
    values, st.sampled_from([("user_input",), ("facts", "first"), ("outputs", "search", "text")])
)
def test_key_changes_with_every_value_that_is_read(value: Json, path: tuple[str, ...]) -> None:
    other = changed(path, value)
    same = msgspec.json.encode(other) == msgspec.json.encode(VIEW)
    assert (key(PLAN, other) == key(PLAN)) == same


@given(values, st.sampled_from([
    ("facts", "second"), ("outputs", "search", "cost"), ("outputs", "other"), ("errors",),
    ("execution",), ("cost",), ("unheard_of",),
]))  # fmt: skip
def test_key_does_not_change_with_what_is_not_read(value: Json, path: tuple[str, ...]) -> None:
    assert key(PLAN, changed(path, value)) == key(PLAN)


@given(st.dictionaries(st.sampled_from(["user_input", "facts", "outputs"]), values))
def test_views_that_a_template_can_tell_apart_never_share_a_key(seen: dict[str, Json]) -> None:
    if render(PROMPT, seen) != render(PROMPT, VIEW):
        assert key(PLAN, seen) != key(PLAN)


@given(values, values)
def test_a_path_that_leads_nowhere_is_told_from_every_value(in_the_way: Json, value: Json) -> None:
    absent = changed(("facts",), {} if isinstance(in_the_way, dict) else in_the_way)
    assert key(PLAN, absent) != key(PLAN, changed(("facts", "first"), value))


@pytest.mark.parametrize("option", [
    {"prompt": PROMPT + "!"}, {"temperature": 0.1}, {"model": "other"}, {"max_tokens": 9},
    {"response_schema": {"type": "object"}}, {"output_key": "elsewhere"}, {"system_prompt": "be brief"},
], ids=str)  # fmt: skip
def test_key_changes_with_every_option(option: dict[str, Json]) -> None:
    assert key(compiled(document(**option))) != key(PLAN)


@pytest.mark.parametrize("config", [
    {"model": "other"}, {"base_url": "http://n.example/v1"}, {"api_key_env": "ANTHROPIC_API_KEY"},
    {"temperature": 0.2}, {"provider": "openai"},
], ids=str)  # fmt: skip
def test_key_changes_with_the_content_of_a_source(config: dict[str, Json]) -> None:
    spec = document()
    spec["sources"][0]["config"].update(config)
    assert key(compiled(spec)) != key(PLAN)


def test_key_changes_with_the_tenant_and_with_the_type_of_a_field_that_is_read() -> None:
    spec = document()
    spec["state"]["facts"] = {"type": "any"}
    spec["state"]["unread"] = {"type": "int"}
    assert len({key(PLAN), key(PLAN, tenant="ten_b"), key(compiled(spec))}) == 3
    del spec["state"]["facts"]
    spec["state"]["facts"] = {"type": "object"}
    assert key(compiled(spec)) == key(PLAN)


@pytest.mark.parametrize("change", [
    {"id": "asked"}, {"retry": {"max_attempts": 7}}, {"timeout_s": 9}, {"on_error": "skip"},
    {"cache": {"ttl_s": 5}}, {"resources": {"num_cpus": 1}}, {"description": "for people"},
], ids=str)  # fmt: skip
def test_key_does_not_change_with_how_a_step_is_done(change: dict[str, Json]) -> None:
    spec = document()
    spec["nodes"][1].update(change)
    name = spec["nodes"][1]["id"]
    for edge in spec["edges"]:
        edge.update({end: name for end in ("from", "to") if edge[end] == "ask"})
    assert key(compiled(spec), node=name) == key(PLAN)


def test_key_does_not_change_with_edges_and_names_of_the_workflow() -> None:
    spec = document()
    spec["name"], spec["edges"][1]["condition"] = "another", "size(errors) == 0"
    assert key(compiled(spec)) == key(PLAN)


@pytest.mark.parametrize(
    ("option", "paths"),
    [
        ({"prompt": None}, {("user_input",)}),
        ({"prompt": "{state.facts.first}"}, {("state", "facts", "first")}),
        ({"messages": "${state.facts.list}"}, {("facts", "list")}),
        ({"messages": "${outputs['search'].turns}"}, {("outputs", "search", "turns")}),
        ({"messages": "${facts.list.filter(f, f.x > 1)}"}, {("facts", "list")}),
    ],
    ids=str,
)
def test_plan_says_which_paths_a_node_reads(option: Json, paths: set[tuple[str, ...]]) -> None:
    cache = compiled(document(**option)).node("ask").cache
    assert cache is not None and set(cache.paths) == paths and cache.ttl_s == 60


def test_plan_says_that_an_expression_over_the_whole_state_reads_every_field() -> None:
    plan = compiled(document(messages="${[state]}"))
    cache = plan.node("ask").cache
    assert cache is not None
    assert set(cache.paths) == {(field.name,) for field in plan.fields}


def test_what_the_coordinator_does_itself_is_not_reused() -> None:
    spec = document()
    aggregator = {"id": "all", "type": "aggregator", "cache": {"ttl_s": 60}}
    spec["nodes"].append(aggregator)
    spec["edges"][1]["to"] = "all"
    assert compiled(spec).node("all").cache is None


def test_key_of_a_step_is_that_of_its_view_in_any_execution() -> None:
    keys = set()
    for name in ("exec_1", "exec_2"):
        state = ExecutionState(PLAN, name)
        apply(state, ExecutionCreated(
            at=1.0, execution_id=name, tenant="ten_a", content_hash="", metadata={"by": name},
            initial_state={"user_input": "bees", "facts": {"first": 1}},
        ))  # fmt: skip
        apply(state, ExecutionStarted(at=2.0))
        keys.add(key(PLAN, view(state, PLAN.node("ask"))))
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("kind", "result", "makeshift"),
    [
        ("router", {"intent": "a", "matched": True, "strategy": "llm"}, False),
        ("router", {"intent": "a", "fallback": "default", "error": {"type": "CallTimeout"}}, True),
        ("http", {"status_code": 200, "data": {"error": "no"}}, False),
        ("http", {"status_code": 404, "success": False}, False),
        ("http", {"status_code": 429, "success": False}, True),
        ("http", {"status_code": 503, "success": False}, True),
        ("llm", {"text": "503", "error": "said the model"}, False),
        ("db", None, False),
    ],
)
def test_what_was_taken_because_nobody_answered_is_makeshift(
    kind: str, result: Json, makeshift: bool
) -> None:
    node = msgspec.structs.replace(PLAN.node("ask"), type=kind)
    assert is_makeshift(node, result) == makeshift
