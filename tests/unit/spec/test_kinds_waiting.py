"""Options of human and wait nodes: what is valid, and each mistake at its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agentflow.plan.compile import compile_plan
from agentflow.spec.check import Checked, check
from agentflow.spec.kinds.human import FORM
from tests.unit.spec.samples import line

Json = Any

HUMAN: dict[str, Json] = {
    "prompt": "Publish {user_input}?",
    "form": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
    "assignees": ["ana", "editors"],
    "notify": ["whk_1"],
    "expires_s": 3600,
    "on_expire": "default",
    "default": {"ok": False},
    "output_key": "decision",
}
WAITS: list[dict[str, Json]] = [
    {"seconds": 0.5},
    {"until": "2027-01-01T09:00:00Z"},
    {"until": "2027-01-01T09:00:00.123456+02:00"},
    {"until": "${user_input}"},
    {"signal": "paid", "expires_s": 60, "output_key": "payment"},
]


def human(**changes: Json) -> dict[str, Json]:
    """A valid human node with options replaced; None takes one away."""
    merged = {**copy.deepcopy(HUMAN), **changes}
    metadata = {key: value for key, value in merged.items() if value is not None}
    return {"id": "n", "type": "human", "metadata": metadata}


def checked(given: dict[str, Json]) -> Checked:
    return check(line({"id": "in", "type": "input"}, given, sources=[]))


def errors(found: Checked) -> list[tuple[str, str]]:
    return [(p.code, p.field.removeprefix("nodes[1].metadata.")) for p in found.errors]


def test_check_accepts_every_option_of_human_nodes() -> None:
    found = checked(human())
    assert errors(found) == []
    plan = compile_plan(found.normalized or {})
    assert plan.unsupported == ("Node 'n': 'notify' cannot be executed yet",)
    assert plan.node("n").output_key == "decision"


def test_human_node_asks_yes_or_no_by_default() -> None:
    plan = compile_plan(checked({"id": "n", "type": "human"}).normalized or {})
    assert plan.node("n").options["form"] == FORM
    assert plan.node("n").options["on_expire"] == "fail"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prompt": "{outputs.nope}"}, [("E020", "prompt")]),
        ({"form": {"type": "no"}}, [("E024", "form")]),
        ({"form": []}, [("E024", "form")]),
        ({"assignees": "ana"}, [("E024", "assignees")]),
        ({"assignees": [""]}, [("E024", "assignees[0]")]),
        ({"notify": [3]}, [("E024", "notify[0]")]),
        ({"expires_s": 0}, [("E024", "expires_s")]),
        ({"expires_s": None}, [("E024", "on_expire")]),
        ({"on_expire": "ignore"}, [("E024", "on_expire")]),
        ({"on_expire": {"goto": 3}}, [("E024", "on_expire")]),
        ({"on_expire": {"goto": "nowhere"}}, [("E006", "on_expire.goto")]),
        ({"on_expire": {"goto": "in"}}, []),
        ({"on_expire": "fail", "default": None}, []),
        ({"default": None}, [("E024", "default")]),
        ({"default": {"ok": "no"}}, [("E024", "default")]),
        ({"output_key": "execution"}, [("E024", "output_key")]),
    ],
)
def test_check_reports_human_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    found = [problem for problem in errors(checked(human(**changes))) if problem[0] != "E012"]
    assert found == expected


@pytest.mark.parametrize("metadata", WAITS)
def test_check_accepts_every_way_to_wait(metadata: dict[str, Json]) -> None:
    found = checked({"id": "n", "type": "wait", "metadata": metadata})
    assert errors(found) == []
    plan = compile_plan(found.normalized or {})
    assert plan.unsupported == ()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, ("E024", "seconds")),
        ({"seconds": 1, "signal": "paid"}, ("E024", "signal")),
        ({"seconds": 0}, ("E024", "seconds")),
        ({"seconds": "1"}, ("E024", "seconds")),
        ({"until": "tomorrow"}, ("E024", "until")),
        ({"until": "2027-01-01T09:00:00"}, ("E024", "until")),
        ({"until": "2027-02-30T09:00:00Z"}, ("E024", "until")),
        ({"until": "${nope}"}, ("E020", "until")),
        ({"signal": ""}, ("E024", "signal")),
        ({"signal": "paid", "expires_s": -1}, ("E024", "expires_s")),
        ({"seconds": 1, "expires_s": 1}, ("E024", "expires_s")),
        ({"seconds": 1, "output_key": "late"}, ("E024", "output_key")),
        ({"seconds": 1e300}, ("E024", "seconds")),
    ],
)
def test_check_reports_wait_options(metadata: dict[str, Json], expected: tuple[str, str]) -> None:
    assert errors(checked({"id": "n", "type": "wait", "metadata": metadata})) == [expected]


@pytest.mark.parametrize("node_type", ["human", "wait"])
def test_waiting_nodes_take_no_resources(node_type: str) -> None:
    metadata = {"seconds": 1} if node_type == "wait" else {}
    given = {"id": "n", "type": node_type, "metadata": metadata, "resources": {"num_cpus": 1}}
    assert errors(checked(given)) == [("E025", "nodes[1].resources")]


def asked(*edges: tuple[str, str], **changes: Json) -> Checked:
    """in -> n (which asks, and goes to late when nobody answers) -> done."""
    nodes: list[Json] = [{"id": name, "type": "input"} for name in ("in", "done", "late")]
    nodes.insert(1, {**human(on_expire={"goto": "late"}), **changes})
    ways = [("in", "n"), ("n", "done"), *edges]
    given = [{"from": source, "to": target} for source, target in ways]
    return check(line(*nodes, sources=[], edges=given))


def test_expiry_that_goes_elsewhere_is_an_error_edge() -> None:
    found = asked()
    assert errors(found) == []
    plan = compile_plan(found.normalized or {})
    [edge] = [edge for edge in plan.edges if edge.kind == "error"]
    assert (plan.nodes[edge.source].id, plan.nodes[edge.target].id) == ("n", "late")
    assert (plan.node("n").on_error, plan.node("late").join) == ("goto", "any")


def test_expiry_that_goes_back_closes_a_loop_which_needs_an_exit() -> None:
    found = checked(human(on_expire={"goto": "in"}))
    assert [(p.code, p.field) for p in found.errors] == [
        ("E012", "nodes[1].metadata.on_expire.goto")
    ]


def test_target_of_an_expiry_comes_after_the_question() -> None:
    document = asked().normalized or {}
    document["nodes"][3] = {"id": "late", "type": "aggregator", "metadata": {
        "strategy": "template", "template": "{outputs.n.data} {outputs.done}"}}  # fmt: skip
    assert [(p.code, "'done'" in p.message) for p in check(document).errors] == [("E021", True)]


def test_target_of_an_expiry_is_not_reached_without_it() -> None:
    assert [p.code for p in asked(metadata={}).errors] == ["E013"]


def test_own_goto_decides_over_the_expiry_and_must_agree_with_it() -> None:
    same = asked(on_error={"goto": "late"})
    assert errors(same) == []
    other = asked(on_error={"goto": "done"})
    assert ("E024", "on_expire.goto") in errors(other)


def test_expiry_decides_over_the_default_of_the_settings() -> None:
    document = {**(asked().normalized or {}), "settings": {"on_error": {"goto": "done"}}}
    plan = compile_plan(check(document).normalized or {})
    ways = [
        (plan.nodes[e.source].id, plan.nodes[e.target].id) for e in plan.edges if e.kind == "error"
    ]
    assert ways == [("in", "done"), ("n", "late"), ("late", "done")]
