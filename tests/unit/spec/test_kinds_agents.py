"""Options of agent, langgraph and plugin nodes: what is valid, and each mistake at its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agentflow.plan.compile import compile_plan
from agentflow.spec.check import Checked, check
from tests.unit.spec.samples import TRIAGE, line

Json = Any

SOURCES: list[dict[str, Json]] = [
    *TRIAGE["sources"],
    {"id": "tickets", "kind": "db", "config": {"dsn_ref": "secret://tickets"}},
    {"id": "crm", "kind": "api", "config": {"base_url": "https://crm.example.com"}},
    {"id": "files", "kind": "mcp", "config": {"url": "https://mcp.example.com"}},
]
WRITER: dict[str, Json] = {
    "name": "writer",
    "source": "small",
    "model": "m",
    "system_prompt": "Write about {user_input}",
    "tools": ["find", "read"],
    "handoffs": ["editor"],
}
EDITOR: dict[str, Json] = {"name": "editor", "source": "small", "system_prompt": "Correct it"}
TOOLS: list[dict[str, Json]] = [
    {"name": "find", "type": "db", "ref": "tickets", "schema": {"type": "object"}, "approve": True},
    {"name": "read", "type": "mcp", "ref": "files", "description": "Reads a file", "fatal": True},
    {"name": "call", "type": "http", "ref": "crm"},
    {"name": "translate", "type": "workflow", "ref": "wf_1"},
    {"name": "redact", "type": "plugin", "ref": "redact@1.0"},
]
AGENT: dict[str, Json] = {
    "pattern": "handoff",
    "agents": [WRITER, EDITOR],
    "tools": TOOLS,
    "thread_id": "{user_input}",
    "prompt_template": "Please: {user_input}",
    "history_key": "history",
    "response_schema": {"type": "object"},
    "max_turns": 5,
    "max_tool_calls": 0,
    "budget": {"max_cost_usd": 0.5},
    "output_key": "article",
}
LANGGRAPH: dict[str, Json] = {
    "graph": "reviews.graphs:review",
    "input": {"question": "${user_input}", "n": 3},
    "output": {"final_output": "${result.answer}", "history": "${result['messages']}"},
    "config": {"configurable": {"user": "${user_input}"}},
    "checkpoint": False,
    "recursion_limit": 50,
}
PLUGIN: dict[str, Json] = {
    "plugin": "redact@1.2.0",
    "config": {"words": ["${user_input}"]},
    "source": "small",
    "output_key": "clean",
}
VALID = {"agent": AGENT, "langgraph": LANGGRAPH, "plugin": PLUGIN}


def node(node_type: str, **changes: Json) -> dict[str, Json]:
    """A valid node of this type with options replaced; None takes one away."""
    merged = {**copy.deepcopy(VALID[node_type]), **changes}
    metadata = {key: value for key, value in merged.items() if value is not None}
    return {"id": "n", "type": node_type, "metadata": metadata}


def checked(given: dict[str, Json]) -> Checked:
    state = {"history": {"type": "list", "merge": "concat"}}
    inputs = {"id": "in", "type": "input"}
    return check(line(inputs, given, sources=copy.deepcopy(SOURCES), state=state))


def errors(found: Checked) -> list[tuple[str, str]]:
    return [(p.code, p.field.removeprefix("nodes[1].metadata.")) for p in found.errors]


@pytest.mark.parametrize("node_type", VALID)
def test_check_accepts_every_option(node_type: str) -> None:
    found = checked(node(node_type))
    assert errors(found) == []
    plan = compile_plan(found.normalized or {})
    assert f"Node 'n': nodes of type {node_type!r} cannot be executed yet" in plan.unsupported


def test_plan_knows_every_source_of_an_agent() -> None:
    plan = compile_plan(checked(node("agent")).normalized or {})
    assert plan.node("n").sources == ("small", "tickets", "files", "crm")


@pytest.mark.parametrize("node_type", ["langgraph", "plugin"])
def test_plan_ships_the_whole_state_where_code_reads_it(node_type: str) -> None:
    plan = compile_plan(checked(node(node_type, input=None)).normalized or {})
    assert {"history", "user_input", "outputs"} <= {read.field for read in plan.node("n").reads}


def agents(*changes: dict[str, Json]) -> dict[str, Json]:
    team = [copy.deepcopy(WRITER), copy.deepcopy(EDITOR)]
    return {"agents": [{**agent, **change} for agent, change in zip(team, changes, strict=True)]}


def tools(**changes: Json) -> dict[str, Json]:
    return {"tools": [{**TOOLS[0], **changes}, *TOOLS[1:]]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pattern": "chaos"}, [("E024", "pattern")]),
        ({"pattern": "single"}, [("E024", "pattern")]),
        ({"pattern": "sequence"}, []),
        ({"agents": [EDITOR]}, [("E024", "agents")]),
        ({"agents": [EDITOR], "pattern": None}, []),
        ({"agents": None}, [("E024", "agents"), ("E014", "nodes[1].metadata")]),
        ({"agents": None, "pattern": None, "source": "small", "system_prompt": "Help"}, []),
        ({"system_prompt": "Help"}, [("E024", "system_prompt")]),
        ({"agents": "writer"}, [("E024", "agents")]),
        (agents({"source": None}, {}), [("E014", "nodes[1].metadata")]),
        ({**agents({"source": None}, {}), "source": "small"}, []),
        (agents({"source": "smal"}, {}), [("E008", "agents[0].source")]),
        (agents({"source": "crm"}, {}), [("E024", "agents[0].source")]),
        (agents({"name": "editor", "handoffs": []}, {}), [("E024", "agents[1].name")]),
        (agents({"name": "a b"}, {}), [("E024", "agents[0].name")]),
        (agents({"tools": ["find", "lose"]}, {}), [("E024", "agents[0].tools[1]")]),
        (agents({"handoffs": ["boss"]}, {}), [("E024", "agents[0].handoffs[0]")]),
        (agents({}, {"handoffs": ["editor"]}), [("E024", "agents[1].handoffs[0]")]),
        (agents({"system_prompt": "{outputs.nope}"}, {}), [("E020", "agents[0].system_prompt")]),
        (tools(name="a b"), [("E024", "tools[0].name")]),
        (tools(name="read"), [("E024", "agents[0].tools[0]"), ("E024", "tools[1].name")]),
        (tools(type="shell"), [("E024", "tools[0].type")]),
        (tools(ref=""), [("E008", "tools[0].ref"), ("E024", "tools[0].ref")]),
        (tools(ref="ticket"), [("E008", "tools[0].ref")]),
        (tools(ref="crm"), [("E024", "tools[0].ref")]),
        (tools(schema={"type": "no"}), [("E024", "tools[0].schema")]),
        (tools(approve="yes"), [("E024", "tools[0].approve")]),
        (tools(fatal=1), [("E024", "tools[0].fatal")]),
        ({"thread_id": "{outputs.nope}"}, [("E020", "thread_id")]),
        ({"prompt_template": "{outputs.nope}"}, [("E020", "prompt_template")]),
        ({"history_key": "outputs.nope"}, [("E020", "history_key")]),
        ({"response_schema": {"type": "no"}}, [("E024", "response_schema")]),
        ({"max_turns": 0}, [("E024", "max_turns")]),
        ({"max_tool_calls": -1}, [("E024", "max_tool_calls")]),
        ({"budget": {"max_tokens": 0}}, [("E024", "budget.max_tokens")]),
    ],
)
def test_check_reports_agent_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    assert errors(checked(node("agent", **changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"graph": None}, [("E024", "graph")]),
        ({"graph": "rm -rf"}, [("E024", "graph")]),
        ({"graph": "reviews"}, []),
        ({"input": ["a"]}, [("E024", "input")]),
        ({"input": {"a": "${nope}"}}, [("E020", "input.a")]),
        ({"input": {"a": "${result.x}"}}, [("E020", "input.a")]),
        ({"output": {"a": "${answer}"}}, [("E020", "output.a")]),
        ({"output": {"a": "${result.}"}}, [("E019", "output.a")]),
        ({"output": {"cost": "${result.cost}"}}, [("E024", "output.cost")]),
        ({"output": {"state": "${result.a}"}}, [("E024", "output.state")]),
        ({"config": {"a": ["${nope}"]}}, [("E020", "config.a[0]")]),
        ({"config": 3}, [("E024", "config")]),
        ({"checkpoint": "no"}, [("E024", "checkpoint")]),
        ({"recursion_limit": 0}, [("E024", "recursion_limit")]),
    ],
)
def test_check_reports_langgraph_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    assert errors(checked(node("langgraph", **changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"plugin": None}, [("E024", "plugin")]),
        ({"plugin": "redact"}, []),
        ({"plugin": "redact@"}, [("E024", "plugin")]),
        ({"plugin": "a b"}, [("E024", "plugin")]),
        ({"plugin": 3}, [("E024", "plugin")]),
        ({"config": []}, [("E024", "config")]),
        ({"config": {"a": "${nope}"}}, [("E020", "config.a")]),
        ({"source": "none"}, [("E008", "source")]),
        ({"source": None}, []),
    ],
)
def test_check_reports_plugin_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    assert errors(checked(node("plugin", **changes))) == expected


CALL: dict[str, Json] = {"workflow_id": "wf_1"}
WRITING: list[tuple[str, dict[str, Json]]] = [
    ("agent", {**AGENT, "history_key": "talk"}),
    ("langgraph", {**LANGGRAPH, "output": {"talk": "${result.answer}", "more": 1}}),
    ("subworkflow", {**CALL, "output": {"talk": "${result.output}"}}),
]


def writing(name: str, node_type: str, options: dict[str, Json]) -> dict[str, Json]:
    return {"id": name, "type": node_type, "metadata": {**options, "output_key": "whole"}}


@pytest.mark.parametrize(("node_type", "options"), WRITING)
def test_every_field_that_a_node_writes_is_known_behind_it(
    node_type: str, options: dict[str, Json]
) -> None:
    expression = {"strategy": "custom", "expression": "string(talk) + string(whole)"}
    reader = {"id": "r", "type": "aggregator", "metadata": expression}
    document = line({"id": "in", "type": "input"}, writing("a", node_type, options), reader)
    found = check({**document, "sources": copy.deepcopy(SOURCES)})
    assert found.errors == ()
    plan = compile_plan(found.normalized or {})
    writers = {read.field: read.writers for read in plan.node("r").reads}
    assert (writers["talk"], writers["whole"]) == ((1,), (1,))
    assert plan.node("a").output_key == "whole"


@pytest.mark.parametrize(("node_type", "options"), WRITING)
def test_unordered_writers_of_any_field_are_found(node_type: str, options: dict[str, Json]) -> None:
    nodes = [writing(name, node_type, options) for name in ("a", "b")]
    document = line({"id": "in", "type": "input"}, *nodes, sources=copy.deepcopy(SOURCES))
    document["edges"] = [{"from": "in", "to": ["a", "b"]}]
    told = " ".join(p.message for p in check(document).errors if p.code == "E022")
    assert "'talk'" in told and "'whole'" in told


@pytest.mark.parametrize("name", ["errors", "execution", "outputs"])
def test_history_of_an_agent_cannot_be_kept_in_a_field_of_the_engine(name: str) -> None:
    assert errors(checked(node("agent", history_key=name))) == [("E024", "history_key")]
